"""Kernel ridge regression from one Gram matrix: factor once, solve for many right-hand sides.

`reg` is relative everywhere in this project, as in the papers' reference code: what is added to
the Gram matrix's diagonal is `ridge = reg * trace(K) / n`, its mean diagonal times `reg`.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.errors import IllConditionedWarning, SingularKernelError
from infae.linalg.sharded import ShardedMatrix
from infae.linalg.sweep import inverse
from infae.linalg.tiles import SymmetricTiles, precision
from infae.runtime.memory import require_memory
from infae.runtime.parallel import in_parallel

# Of the solution's departure from plain interpolation, how much may be rounding error.
NOISE_LIMIT = 0.1
# A relative residual above this is no solution.
RESIDUAL_LIMIT = 0.1
_N_PROBES = 16
# A column that a share s of n rows holds costs s n^2 scattered multiply-adds, or n^2 dense ones
# at some 20 times the rate.
_HEAD_SHARE = 1 / 20


@dataclass(frozen=True, eq=False)
class Factor:
    """K + ridge * I, inverted.

    Attributes:
      gram: K, (n, n) symmetric, in tiles or in rows over a mesh.
      inverse: (K + ridge * I)^-1.
      reg: relative regularisation.
      ridge: reg * trace(K) / n, what was added to the diagonal.
    """

    gram: SymmetricTiles | ShardedMatrix
    inverse: SymmetricTiles | ShardedMatrix
    reg: float
    ridge: float


@dataclass(frozen=True, eq=False)
class Solution:
    """Dual coefficients and how far they are from solving their system.

    Attributes:
      coef: (n, m) with (K + ridge * I) coef = targets; on landmarks, of their normal equations.
      residual: |system coef - right side| / |right side| (Frobenius), estimated from 16 random
        sign combinations of the columns, whose mean squared error is exact on average.
      reg: relative regularisation.
      ridge: what was added to K's diagonal.
    """

    coef: jax.Array
    residual: float
    reg: float
    ridge: float


@dataclass(frozen=True, eq=False)
class FullSolution(Solution):
    """Of a system whose anchors are the users that are fitted.

    Attributes:
      noise: the residual relative to |ridge * coef|, the part of the fitted scores that is not
        the targets themselves. Near 1 a ranking of unclicked items is rounding error.
    """

    noise: float


@dataclass(frozen=True, eq=False)
class ExactSolution(FullSolution):
    """By the system's inverse.

    Attributes:
      inverse_diagonal: (n,) of (K + ridge I)^-1, which leave-one-out scores need.
    """

    inverse_diagonal: np.ndarray


def check_reg(reg: float) -> float:
    """`reg` as a float; ValueError unless it is a finite number, zero or more."""
    if isinstance(reg, bool) or not isinstance(reg, (int, float, np.integer, np.floating)):
        raise ValueError(f"reg must be a number (relative to the kernel's mean diagonal), got {reg!r}")
    if not np.isfinite(reg) or reg < 0:
        raise ValueError(f"reg must be zero or positive, and finite, got {reg!r}")
    return float(reg)


def factor(
    gram: SymmetricTiles | ShardedMatrix, reg: float, *, progress: Callable[[int, int], None] | None = None
) -> Factor:
    """Invert K + reg * trace(K)/n * I: n^3 operations, as much memory again as K.

    Raises MemoryError before starting where that does not fit, ValueError for a bad `reg`.
    """
    reg = check_reg(reg)
    ridge = reg * float(np.mean(gram.diagonal(), dtype=np.float64))
    if isinstance(gram, ShardedMatrix):
        return Factor(gram, gram.inverse(ridge, progress=progress), reg, ridge)
    require_memory(gram.nbytes, f"inverting a kernel matrix of {gram.n:,} users")
    return Factor(gram, inverse(gram, ridge, progress=progress), reg, ridge)


def solve(
    factored: Factor, targets: sp.csr_matrix | np.ndarray, *, progress: Callable[[int, int], None] | None = None
) -> ExactSolution:
    """Coef with (K + ridge * I) coef = targets, for (n, m) targets, sparse or dense.

    Sparse targets cost 2 n nnz operations instead of 2 n^2 m, less what the popular columns,
    taken densely, save. `progress` is called with (blocks done, blocks in all).

    Raises:
      SingularKernelError: the residual is not finite or above 0.1; names reg, dtype, residual.
      MemoryError: the (n, m) coefficients do not fit.

    Warns:
      IllConditionedWarning: more than a tenth of what sets the scores apart from the targets is
        rounding error, as with reg = 0, where the fit interpolates.
    """
    residual, noise = _checked_residual(factored, targets)
    if noise > NOISE_LIMIT:
        message = noisy(factored.reg, factored.gram.dtype, residual, noise)
        warnings.warn(message, IllConditionedWarning, stacklevel=2)
    return _solution(factored, targets, residual, noise, progress)


class PathStep(NamedTuple):
    """One reg of a path.

    Attributes:
      reg: relative regularisation.
      solution: None where the solve is singular or rounding error outweighs it.
      failure: why there is none, with reg, dtype and residual; "" where there is one.
    """

    reg: float
    solution: FullSolution | None
    failure: str


def path(
    gram: SymmetricTiles | ShardedMatrix,
    targets: sp.csr_matrix | np.ndarray,
    regs: Iterable[float],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[PathStep]:
    """A step for each reg in turn, all from one Gram matrix; `progress` is as for `factor` and `solve`.

    One inverse and one solution are in memory at a time, if the caller keeps none. Nothing is
    computed that is known to be of no use: no inverse at reg = 0, where fitted scores are the
    targets themselves, and no coefficients where the residual is all there is to them.
    """
    for reg in regs:
        if check_reg(reg) == 0:
            yield PathStep(0.0, None, interpolates(gram.dtype))
            continue
        factored = factor(gram, reg, progress=progress)
        try:
            residual, noise = _checked_residual(factored, targets)
        except SingularKernelError as error:
            yield PathStep(factored.reg, None, str(error))
            continue
        if noise > NOISE_LIMIT:
            yield PathStep(factored.reg, None, noisy(reg, gram.dtype, residual, noise))
            continue
        solution = _solution(factored, targets, residual, noise, progress)
        del factored
        yield PathStep(reg, solution, "")
        del solution


def _solution(
    factored: Factor,
    targets: sp.csr_matrix | np.ndarray,
    residual: float,
    noise: float,
    progress: Callable[[int, int], None] | None,
) -> ExactSolution:
    coef = _coefficients(factored, targets, progress)
    return ExactSolution(coef, residual, factored.reg, factored.ridge, noise, factored.inverse.diagonal())


def _coefficients(
    factored: Factor, targets: sp.csr_matrix | np.ndarray, progress: Callable[[int, int], None] | None = None
) -> jax.Array:
    n, m = targets.shape
    dtype = factored.gram.dtype
    if isinstance(factored.inverse, SymmetricTiles):
        # A sharded matrix has asked already: a process that stopped here alone would leave the others waiting.
        require_memory(n * m * dtype.itemsize, f"dual coefficients of {n:,} users x {m:,} items")
    n_blocks = factored.inverse.n_tiles
    with precision(dtype):
        product = _TargetProduct(targets, dtype)
        coef = jnp.zeros((n, m), dtype)
        for block in range(n_blocks):
            rows = factored.inverse.rows_of(block)
            coef = _put_rows(coef, product(factored.inverse.column(block)), rows.start)
            if progress is not None:
                progress(block + 1, n_blocks)
        return coef


def _checked_residual(factored: Factor, targets: sp.csr_matrix | np.ndarray) -> tuple[float, float]:
    if targets.shape[0] != factored.gram.n:
        raise ValueError(f"targets have {targets.shape[0]:,} rows and the kernel matrix {factored.gram.n:,}")
    residual, noise = _residual(factored, targets)
    if not residual <= RESIDUAL_LIMIT:
        reg, dtype = factored.reg, factored.gram.dtype
        raise SingularKernelError(
            f"the kernel matrix could not be inverted at {where(reg, dtype, residual)}; {remedy(dtype)}"
        )
    return residual, noise


def where(reg: float, dtype: np.dtype, residual: float) -> str:
    """A solve in a message."""
    return f"reg = {reg:g} in {dtype}: relative residual {residual:.2g}"


def interpolates(dtype: np.dtype) -> str:
    """Why a path passes over reg = 0."""
    return (
        f"reg = 0 in {dtype}: relative residual not computed, since the fit interpolates whatever it is "
        "and rounding error alone ranks the unclicked items of training users"
    )


def noisy(reg: float, dtype: np.dtype, residual: float, noise: float) -> str:
    """What an `IllConditionedWarning` says of a noise above the limit."""
    share = "all" if noise >= 1 else f"{noise:.0%}"
    return (
        f"ill-conditioned solve at {where(reg, dtype, residual)}; {share} of the difference between fitted scores "
        f"and targets, which ranks unclicked items, is rounding error: {remedy(dtype)}"
    )


def remedy(dtype: np.dtype) -> str:
    """What to change after such a solve."""
    return "use a larger reg" + (", or float64" if dtype == np.float32 else "")


def _residual(factored: Factor, targets: sp.csr_matrix | np.ndarray) -> tuple[float, float]:
    # For random signs v, E|R v|^2 is |R|_F^2: n^2 operations a probe instead of n^2 m.
    dtype = factored.gram.dtype
    rng = np.random.default_rng(0)
    probes = targets @ rng.choice([-1.0, 1.0], (targets.shape[1], _N_PROBES)).astype(dtype)
    coef = factored.inverse @ probes
    fitted = factored.gram @ coef + dtype.type(factored.ridge) * coef
    error = float(np.linalg.norm(fitted - probes))
    scale = float(np.linalg.norm(probes)) or 1.0
    moved = factored.ridge * float(np.linalg.norm(coef))
    return error / scale, error / moved if moved > 0 else np.inf


class _TargetProduct:
    """D @ targets for many dense D, given transposed: popular columns densely, the others sparsely."""

    def __init__(self, targets: sp.csr_matrix | np.ndarray, dtype: np.dtype):
        if not sp.issparse(targets):
            self.head, self.tail = jnp.asarray(targets, dtype), []
            self.inverse_order = jnp.arange(targets.shape[1])
            return
        csc = sp.csc_matrix(targets, dtype=dtype)
        popular = np.diff(csc.indptr) > _HEAD_SHARE * csc.shape[0]
        self.head = jnp.asarray(csc[:, popular].toarray())
        self.inverse_order = jnp.asarray(np.argsort(np.concatenate([*np.nonzero(popular), *np.nonzero(~popular)])))
        # The transpose of a CSC is a CSR of items, which are shared out to threads by clicks.
        items = csc[:, ~popular].T
        cuts = [0, *np.searchsorted(items.indptr, np.linspace(0, items.nnz, 9)[1:-1]), items.shape[0]]
        self.tail = [items[a:b] for a, b in pairwise(cuts) if b > a]

    def __call__(self, d_transposed: jax.Array) -> jax.Array:
        """(k, m) from (n, k)."""
        right = np.asarray(d_transposed)
        parts = in_parallel([partial(operator.matmul, part, right) for part in self.tail])
        tail = np.concatenate([np.zeros((0, right.shape[1]), right.dtype), *parts])
        return _assemble(d_transposed, self.head, tail, self.inverse_order)


@jax.jit
def _assemble(d_transposed: jax.Array, head: jax.Array, tail: jax.Array, inverse_order: jax.Array) -> jax.Array:
    both = jnp.concatenate([d_transposed.T @ head, tail.T], axis=1)
    return jnp.take(both, inverse_order, axis=1)


@partial(jax.jit, donate_argnums=0)
def _put_rows(coef: jax.Array, block: jax.Array, start: int) -> jax.Array:
    return jax.lax.dynamic_update_slice(coef, block, (start, 0))
