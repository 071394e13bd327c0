"""Kernel ridge regression from one Gram matrix: factor once, solve for many right-hand sides."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infae.data.interactions import Interactions
from infae.errors import IllConditionedWarning, SingularKernelError
from infae.kernels.grams import sharded_gram, symmetric_gram
from infae.linalg.head_tail import HeadTail
from infae.linalg.sharded import ShardedMatrix
from infae.linalg.sweep import inverse
from infae.linalg.tiles import SymmetricTiles, precision, put_rows, tile_size
from infae.runtime.memory import require_memory
from infae.runtime.progress import bar, onto
from infae.solvers import base, full
from infae.solvers.base import Cost, Fitted, Job, Labels, Problem, Progress, Solver, Users
from infae.tuning.best import Trial

# The sweep reaches some 0.75 of a product's rate.
_SWEEP = 1.3


@dataclass(frozen=True, eq=False)
class Factor:
    """K + ridge * I, inverted; (n, n) symmetric, in tiles or in rows over a mesh."""

    gram: SymmetricTiles | ShardedMatrix  # K
    inverse: SymmetricTiles | ShardedMatrix  # (K + ridge * I)^-1
    reg: float  # relative
    ridge: float  # reg * trace(K) / n


@dataclass(frozen=True, eq=False)
class ExactSolution(full.FullSolution):
    """By the system's inverse."""

    inverse_diagonal: np.ndarray  # (n,) of (K + ridge I)^-1, which leave-one-out scores need


def factor(gram: SymmetricTiles | ShardedMatrix, reg: float, *, progress: Progress = None) -> Factor:
    """Invert K + reg * trace(K)/n * I: n^3 operations, as much memory again as K.

    Raises MemoryError before starting where that does not fit, ValueError for a bad `reg`.
    """
    reg = base.check_reg(reg)
    ridge = reg * base.mean_diagonal(gram)
    if isinstance(gram, ShardedMatrix):
        return Factor(gram, gram.inverse(ridge, progress=progress), reg, ridge)
    require_memory(gram.nbytes, f"inverting a kernel matrix of {gram.n:,} users")
    return Factor(gram, inverse(gram, ridge, progress=progress), reg, ridge)


def solve(factored: Factor, targets: Labels, *, strict: bool = False, progress: Progress = None) -> ExactSolution:
    """Coef with (K + ridge * I) coef = targets, for (n, m) targets, sparse or dense.

    Sparse targets cost 2 n nnz operations instead of 2 n^2 m, less what the popular columns,
    taken densely, save. `progress` is called with (blocks done, blocks in all).

    Raises:
      SingularKernelError: the residual is not finite or above 0.1; names reg, dtype, residual. With
        `strict`, also instead of the warning, and before the coefficients are computed.
      MemoryError: the (n, m) coefficients do not fit.

    Warns:
      IllConditionedWarning: more than a tenth of what sets the scores apart from the targets is
        rounding error, as with reg = 0, where the fit interpolates.
    """
    residual, noise = _residual(factored, targets)
    if noise > base.NOISE_LIMIT:
        base.object_to(base.noisy(factored.reg, factored.gram.dtype, residual, noise), strict)
    coef = _coefficients(factored, targets, progress)
    return ExactSolution(coef, residual, factored.reg, factored.ridge, noise, factored.inverse.diagonal())


@dataclass(frozen=True, eq=False)
class InverseSystem:
    """(K + ridge I) coef = targets, by an inverse at each reg."""

    gram: SymmetricTiles | ShardedMatrix
    targets: Labels

    def solve(self, reg: float, *, strict: bool, progress: Progress = None) -> ExactSolution:
        """In strictness no inverse is computed at reg = 0, where scores are the targets."""
        if strict and reg == 0:
            raise SingularKernelError(base.interpolates(self.gram.dtype))
        return solve(factor(self.gram, reg, progress=progress), self.targets, strict=strict, progress=progress)


def _coefficients(factored: Factor, targets: Labels, progress: Progress) -> jax.Array:
    n, m = targets.shape
    dtype = factored.gram.dtype
    if isinstance(factored.inverse, SymmetricTiles):
        # A sharded matrix has asked already: a process that stopped here alone would leave the others waiting.
        require_memory(n * m * dtype.itemsize, f"dual coefficients of {n:,} users x {m:,} items")
    n_blocks = factored.inverse.n_tiles
    with precision(dtype):
        split = HeadTail(targets, dtype)
        coef = jnp.zeros((n, m), dtype)
        for block in range(n_blocks):
            rows = factored.inverse.rows_of(block)
            coef = put_rows(coef, split.transposed(factored.inverse.column(block)), rows.start)
            if progress is not None:
                progress(block + 1, n_blocks)
        return coef


def _residual(factored: Factor, targets: Labels) -> tuple[float, float]:
    """(relative residual, noise); SingularKernelError where that is no solution."""
    if targets.shape[0] != factored.gram.n:
        raise ValueError(f"targets have {targets.shape[0]:,} rows and the kernel matrix {factored.gram.n:,}")
    dtype = factored.gram.dtype
    probes = targets @ base.signs(targets.shape[1]).astype(dtype)
    coef = factored.inverse @ probes
    fitted = factored.gram @ coef + dtype.type(factored.ridge) * coef
    error = float(np.linalg.norm(fitted - probes))
    residual = error / (float(np.linalg.norm(probes)) or 1.0)
    if not residual <= base.RESIDUAL_LIMIT:
        at = base.where(factored.reg, dtype, residual)
        raise SingularKernelError(f"the kernel matrix could not be inverted at {at}; {base.remedy(dtype)}")
    moved = factored.ridge * float(np.linalg.norm(coef))
    return residual, error / moved if moved > 0 else np.inf


@dataclass(frozen=True, eq=False)
class ExactFit(full.FullFit):
    """By the system's inverse."""

    solver = "exact"
    solution_class = ExactSolution
    solution: ExactSolution

    def leave_one_out(self, rows: np.ndarray) -> np.ndarray:
        """(rows, n_items) scores of anchors by the model that all *other* anchors fit; see `InfiniteAE`."""
        reg, dtype = self.solution.reg, np.dtype(self.solution.coef.dtype)
        if reg > full.LARGE_REG[dtype]:
            lost = f"lose up to {reg * float(np.finfo(dtype).eps):.0e} of their size to rounding"
            message = f"leave-one-out scores at reg = {reg:g} in {dtype} {lost}"
            warnings.warn(message, IllConditionedWarning, stacklevel=3)
        with precision(dtype):
            taken = np.asarray(full.take(self.solution.coef, rows))
        return full.dense(self.targets[rows]) - taken / self.solution.inverse_diagonal[rows, None]

    @classmethod
    def _own_parts(cls, clicks: Interactions, arrays: Any, about: Any) -> dict[str, Any]:
        if (found := arrays["inverse_diagonal"].shape) != (clicks.n_users,):
            raise ValueError(f"inverse_diagonal {found} does not fit the clicks {clicks.shape}")
        return super()._own_parts(clicks, arrays, about)


@dataclass(frozen=True)
class Exact(Solver):
    """All users are anchors, by the inverse: n^3 operations, and two triangles of n x n numbers."""

    name = "exact"
    fitted_class = ExactFit

    def fits(self, job: Job, users: Users, labels: Labels | None) -> Iterator[Trial[Fitted]]:
        everybody = full.FullProblem.of(job, users, labels)
        system = InverseSystem(self._gram(job, everybody), everybody.labels)
        with bar("solve", job.progress, unit="block") as shown:
            yield from job.fits(system, everybody.fitted(job, self.fitted_class), onto(shown))

    def cost(self, problem: Problem) -> Cost:
        n, m, size = problem.n_users, problem.popularity.size, problem.itemsize
        solves = problem.n_regs * (_SWEEP * n**3 + n * full.click_operations(problem))
        n_coef = 2 if problem.n_regs > 1 else 1
        n_bytes = size * (n * (n + tile_size(n)) + n_coef * n * m) + full.row_bytes(problem)
        return Cost(n_bytes, full.gram_operations(problem) + solves)

    def _gram(self, job: Job, everybody: full.FullProblem) -> SymmetricTiles | ShardedMatrix:
        rows, n = everybody.rows, everybody.rows.n
        if job.mesh.mesh is not None:
            return sharded_gram(job.mesh, job.kernel, rows, everybody.mapped)
        # Before it is begun, room for the matrix and for its inverse.
        require_memory(n * (n + 1024) * job.dtype.itemsize, f"the kernel matrix of {n:,} users and its inverse")
        with precision(job.dtype), bar("kernel", job.progress, unit="block") as shown:
            return symmetric_gram(job.kernel, rows, progress=onto(shown))
