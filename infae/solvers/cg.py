"""Kernel ridge regression by conjugate gradients: the exact system, without its inverse.

The kernel's tiles are kept where they fit, and computed anew at each product elsewhere: n^2/2 kernel
entries, shared by all columns that are solved at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from infae.errors import SingularKernelError
from infae.kernels.grams import RecomputedGram, symmetric_gram
from infae.landmarks import pivoted_cholesky
from infae.linalg.conjugate import N_ARRAYS, conjugate_gradients, width
from infae.linalg.tiles import Tiled, precision, tile_size
from infae.runtime import memory
from infae.runtime.progress import bar, onto
from infae.solvers import base
from infae.solvers.base import Cost, Fitted, Job, Labels, Problem, Progress, Solver, Users
from infae.solvers.full import FullFit, FullProblem, FullSolution, gram_operations, row_bytes
from infae.tuning.best import Trial

# Of each target's length: rankings are those of the exact solve, and float32 reaches it at any reg of use.
TOLERANCE = 1e-4
MAX_ITERATIONS = 200
# Where rounding leaves a column at so many times the tolerance, nothing is said while all together are within it.
_LEEWAY = 10
# Operations of an entry of an iteration beside its products; iterations: 7 on ML-1M at reg 5, 13 at 1, 31 at 0.1.
_ENTRY, _ITERATIONS = 1500, 12


@dataclass(frozen=True, eq=False)
class CGSolution(FullSolution):
    """By conjugate gradients; the residual, of all columns, is computed from the coefficients themselves."""

    iterations: int  # products with K that the slowest column took, the last of them to check it
    n_landmarks: int  # columns of the preconditioner


def n_landmarks(n: int) -> int:
    """Columns of the preconditioner that serve n users well: a sixteenth, at most 1,000."""
    return min(1000, -(-n // 16))


def required_bytes(n: int, m: int, itemsize: int = 4, *, keep: bool, several_regs: bool = False) -> int:
    """Peak memory of a solve with n users and m items.

    K's lower triangle if it is kept; the coefficients, with several regs also those before and
    the best; the columns being solved; F and E.
    """
    triangle = n * (n + tile_size(n)) // 2 if keep else 0
    work = N_ARRAYS * n * width(n, m, itemsize) + 3 * n * n_landmarks(n)
    return itemsize * (triangle + (3 if several_regs else 1) * n * m + work)


def solve_conjugate(
    gram: Tiled,
    factor: jax.Array,
    targets: Labels,
    reg: float,
    *,
    start: jax.Array | None = None,
    strict: bool = False,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    progress: Progress = None,
) -> CGSolution:
    """Coef with (K + reg * trace(K)/n * I) coef = targets, each column to `tolerance` of its length.

    Args:
      gram: K, (n, n), symmetric and positive semi-definite.
      factor: (n, k) F with K ~ F F', as `infae.landmarks.pivoted_cholesky` gives it; k may be 0.
      targets: (n, m), sparse or dense.
      reg: relative regularisation.
      start: (n, m) coefficients to begin with, such as those of another reg.
      strict: raise SingularKernelError instead of a warning.
      tolerance: relative to each column's length.
      max_iterations: products with K for a column.
      progress: called with (columns solved, columns in all).

    Raises:
      SingularKernelError: the residual is not finite or above 0.1; names reg, dtype, residual.
      ValueError: a bad `reg`, or targets or a factor of other users.
      MemoryError: the (n, m) coefficients do not fit.

    Warns:
      IllConditionedWarning: the residual did not reach the tolerance, or a column's not ten times
        that; or more than a tenth of what sets the scores apart from the targets is error, as
        with reg = 0.
    """
    reg, dtype, (n, m) = base.check_reg(reg), gram.dtype, targets.shape
    if not n == gram.n == factor.shape[0]:
        raise ValueError(f"targets have {n:,} rows, the factor {factor.shape[0]:,} and the kernel matrix {gram.n:,}")
    memory.require_memory(n * m * dtype.itemsize, f"dual coefficients of {n:,} users x {m:,} items")
    mean = base.mean_diagonal(gram)
    ridge = reg * mean
    coef, left, lengths, iterations = conjugate_gradients(
        gram, factor, targets, ridge, mean, start, tolerance, max_iterations, progress
    )
    error = float(np.linalg.norm(left * lengths))
    residual = error / (float(np.linalg.norm(lengths)) or 1.0)
    moved = ridge * _length(coef)
    noise = error / moved if moved > 0 else np.inf
    n_left = int((~(left <= tolerance)).sum())
    unsolved = f"{n_left:,} of {left.size:,} targets did not come within {tolerance:g} in {iterations} iterations"
    told = f"{base.where(reg, dtype, residual)}; {unsolved}: {base.remedy(dtype)}"
    if not residual <= base.RESIDUAL_LIMIT:
        raise SingularKernelError(f"conjugate gradients failed at {told}")
    if residual > tolerance or left.max() > _LEEWAY * tolerance:
        base.object_to(f"unfinished solve at {told}", strict)
    elif noise > base.NOISE_LIMIT:
        base.object_to(base.noisy(reg, dtype, residual, noise), strict)
    # No copy: the array was laid out for it, and nothing else refers to it.
    with precision(dtype):
        given = jax.device_put(coef, may_alias=True)
    return CGSolution(given, residual, reg, ridge, noise, iterations, factor.shape[1])


class ConjugateSystem:
    """(K + ridge I) coef = targets, by conjugate gradients; each reg begins with the solution before it."""

    def __init__(self, gram: Tiled, factor: jax.Array, targets: Labels):
        self._gram, self._factor, self._targets = gram, factor, targets
        self._start: jax.Array | None = None

    def solve(self, reg: float, *, strict: bool, progress: Progress = None) -> CGSolution:
        """In strictness nothing is iterated at reg = 0, where scores are the targets."""
        if strict and reg == 0:
            raise SingularKernelError(base.interpolates(self._gram.dtype))
        solved = partial(solve_conjugate, self._gram, self._factor, self._targets, reg)
        solution = solved(start=self._start, strict=strict, tolerance=TOLERANCE, progress=progress)
        self._start = solution.coef
        return solution


def _length(coef: np.ndarray) -> float:
    parts = (coef[start : start + 512] for start in range(0, len(coef), 512))
    return float(np.sqrt(sum(np.einsum("ij,ij->", part, part, dtype=np.float64) for part in parts)))


@dataclass(frozen=True, eq=False)
class CGFit(FullFit):
    """By conjugate gradients: own scores are off by what the solve left of the targets, 1e-4 of them."""

    solver = "cg"
    solution_class = CGSolution
    left_over = 10.0
    solution: CGSolution


@dataclass(frozen=True)
class CG(Solver):
    """All users are anchors, by conjugate gradients to 1e-4 of each item's column.

    Some 10 to 30 times 2 n^2 n_items operations, and where memory is short without any n x n matrix.
    """

    name = "cg"
    fitted_class = CGFit
    takes_mesh = False

    def fits(self, job: Job, users: Users, labels: Labels | None) -> Iterator[Trial[Fitted]]:
        everybody = FullProblem.of(job, users, labels)
        rng = np.random.default_rng([job.seed, 7])
        _, pivots = pivoted_cholesky(job.kernel, everybody.mapped, n_landmarks(everybody.rows.n), rng)
        n, m = everybody.users.shape
        needed = partial(required_bytes, n, m, job.dtype.itemsize, several_regs=job.several)
        memory.require_memory(needed(keep=False), f"conjugate gradients for {n:,} users x {m:,} items")
        gram: Tiled = RecomputedGram(job.kernel, everybody.rows)
        if memory.fits(memory.with_margin(needed(keep=True))):
            with precision(job.dtype), bar("kernel", job.progress, unit="block") as shown:
                gram = symmetric_gram(job.kernel, everybody.rows, progress=onto(shown))
        with bar("solve", job.progress, unit="item") as shown:
            system = ConjugateSystem(gram, pivots, everybody.labels)
            yield from job.fits(system, everybody.fitted(job, self.fitted_class), onto(shown))

    def cost(self, problem: Problem) -> Cost:
        n, m, size = problem.n_users, problem.popularity.size, problem.itemsize
        k = n_landmarks(n)
        iteration = n * m * (2 * n + 4 * k + _ENTRY)
        needed = partial(required_bytes, n, m, size, several_regs=problem.n_regs > 1)
        n_bytes, n_grams = needed(keep=True) + row_bytes(problem), 1
        if not memory.fits(memory.with_margin(n_bytes)):
            n_bytes = needed(keep=False) + row_bytes(problem)
            n_grams = problem.n_regs * _ITERATIONS * -(-m // width(n, m, size))
        operations = n_grams * gram_operations(problem) + 2 * n * k**2 + problem.n_regs * _ITERATIONS * iteration
        return Cost(n_bytes, operations)
