"""Conjugate gradients on many right-hand sides at once, each with step sizes of its own.

All columns share their products with the matrix, tile by tile. A column that is solved leaves its
place to one that waits, so that no product is spent on it.

The preconditioner is Nyström's (Frangella, Tropp and Udell 2023), from F with K ~ F F':

    (F F' + shift I)^-1 = (I - E E') / shift,    E E' = F (F'F + shift I)^-1 F'

where shift is the ridge and what F leaves unexplained of K's mean diagonal. An iteration of a column
takes 2 n^2 + 4 n k operations for k columns of F.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data import ops
from infae.linalg.tiles import Tiled, precision, product

# Of the columns that are solved at once, in the arrays that an iteration holds.
_WORK_BYTES = 1 << 31
N_ARRAYS = 8
_LEAST_WIDTH = 64
# Columns that have come to an end are checked and replaced when they are this share of all.
_TURN = 1 / 16
# What a slot holds: nothing; a column that moves, waits for its residual to be checked, or to leave.
_FREE, _MOVING, _ENDED, _CHECKED = range(4)


class Solved(NamedTuple):
    """Columns as they were left."""

    coef: np.ndarray  # (n, m) solutions
    left: np.ndarray  # (m,) relative residual of each column, computed anew from its solution
    lengths: np.ndarray  # (m,) of the right-hand sides
    iterations: int  # products with the matrix that the slowest column took, the last to check it


def width(n: int, m: int, itemsize: int) -> int:
    """Columns solved at once: as many as 2 GiB hold, at least 64."""
    return min(m, max(_LEAST_WIDTH, _WORK_BYTES // (N_ARRAYS * n * itemsize)))


def conjugate_gradients(
    gram: Tiled,
    factor: jax.Array,
    targets: sp.csr_matrix | np.ndarray,
    ridge: float,
    mean: float,
    start: jax.Array | None,
    tolerance: float,
    max_iterations: int,
    progress: Callable[[int, int], None] | None,
) -> Solved:
    """(K + ridge I) coef = targets, each column to `tolerance` of its length.

    `mean` is K's mean diagonal; the rest as in `infae.solvers.solve_conjugate`.
    """
    with precision(gram.dtype):
        coef, left, most = _aligned_zeros(targets.shape, gram.dtype), np.zeros(targets.shape[1]), 0
        targets = sp.csc_matrix(targets) if sp.issparse(targets) else np.asarray(targets)
        lengths = np.sqrt(_column_squares(targets))
        todo, n_begun = np.flatnonzero(lengths), 0
        slots = _Slots(gram, ridge, half(factor, ridge, mean), targets, start, lengths)
        while True:
            if slots.stale(todo.size - n_begun):
                leaving = slots.state == _CHECKED
                gone = slots.column[leaving]
                coef[:, gone] = np.asarray(slots.x)[:, leaving] * lengths[gone]
                left[gone], most = np.sqrt(slots.square[leaving]), max(most, slots.taken[leaving].max(initial=0))
                slots.state[leaving] = _FREE
                n_begun += slots.begin(todo[n_begun:])
                slots.check()
                if progress is not None:
                    progress(n_begun - slots.n_used, todo.size)
                if not slots.n_used:
                    return Solved(coef, left, lengths, int(most))
                slots.narrow()
            slots.move(tolerance, max_iterations)


class _Slots:
    """Columns that are solved together, of (K + ridge I) with the preconditioner I - E E', E being `half`.

    A column that has come to an end restarts from its own solution, which computes its residual
    anew, and leaves if that passes, or if nothing is to be gained any more.
    """

    def __init__(
        self, gram: Tiled, ridge: float, half: jax.Array, targets: Any, start: jax.Array | None, lengths: np.ndarray
    ):
        self._gram, self._ridge, self._half, self._lengths = gram, ridge, half, lengths
        self._targets, self._start = targets, None if start is None else np.asarray(start)
        size = width(gram.n, max(1, int(np.count_nonzero(lengths))), gram.dtype.itemsize)
        # Solutions, residuals, directions.
        self.x, self.r, self.p = (jnp.zeros((gram.n, size), gram.dtype) for _ in range(3))
        # What each slot holds, as above; of which column; how many iterations that has had.
        self.state, self.column, self.taken = (np.zeros(size, int) for _ in range(3))
        self.square = np.full(size, np.inf)  # its squared residual when that was last computed anew
        # Its direction is a solution, to which the next one is not conjugate; and that is its own.
        self.restarted, self.checking = np.zeros(size, bool), np.zeros(size, bool)

    @property
    def n_used(self) -> int:
        return int((self.state != _FREE).sum())

    def stale(self, n_waiting: int) -> bool:
        """Whether enough slots stand still for columns to be moved."""
        n_free = self.state.size - self.n_used
        n_ended = self.n_used - int((self.state == _MOVING).sum())
        return n_ended == self.n_used or n_ended + min(n_free, n_waiting) > _TURN * self.state.size

    def begin(self, waiting: np.ndarray) -> int:
        """Give the free slots to columns that wait, and say how many there were."""
        free = self.state == _FREE
        new = free & (np.cumsum(free) <= waiting.size)
        if n_new := int(new.sum()):
            self.column[new], self.state[new], self.taken[new], self.square[new] = waiting[:n_new], _MOVING, 0, np.inf
            right, start = (self._columns_of(source, new) for source in (self._targets, self._start))
            self.restarted[new] = start is not None
            self.x, self.r, self.p = _begin(self.x, self.r, self.p, self._half, right, start, new)
        return n_new

    def check(self) -> None:
        """Restart the columns that have ended from their solutions."""
        ended = self.state == _ENDED
        if ended.any():
            self.x, self.r, self.p = _restart(self.x, self.r, self.p, self._columns_of(self._targets, ended), ended)
            self.state[ended] = _MOVING
            self.restarted |= ended
            self.checking |= ended

    def _columns_of(self, source: Any, mask: np.ndarray) -> np.ndarray | None:
        """(n, width) the slots' columns of the targets or the start, for targets of length 1; 0 off the mask."""
        if source is None:
            return None
        taken, spread = source[:, self.column[mask]], np.zeros(self.x.shape, self.x.dtype)
        spread[:, mask] = (taken.toarray() if sp.issparse(taken) else taken) / self._lengths[self.column[mask]]
        return spread

    def narrow(self) -> None:
        """Halve the width as long as half of the slots are free."""
        while self.n_used <= self.state.size // 2 and self.state.size > _LEAST_WIDTH:
            kept = np.argsort(self.state == _FREE, kind="stable")[: -(-self.state.size // 2)]
            self.x, self.r, self.p = (_take_columns(a, kept) for a in (self.x, self.r, self.p))
            for name in ("state", "column", "taken", "square", "restarted", "checking"):
                setattr(self, name, getattr(self, name)[kept])

    def move(self, tolerance: float, max_iterations: int) -> None:
        """One iteration of the columns that move."""
        moving = self.state == _MOVING
        k_p = product(self._gram, self.p)
        self.x, self.r, self.p, square, curved = _step(
            self.x, self.r, self.p, k_p, self._half, self._ridge, moving, self.restarted
        )
        sq_residual = np.asarray(square, np.float64)
        self.taken[moving] += 1
        # Of no use: more iterations than allowed, NaN, a matrix that is not positive definite ...
        lost = (self.taken >= max_iterations) | ~np.isfinite(sq_residual) | ~(np.asarray(curved) | self.restarted)
        # ... or a residual that has hardly fallen since it was last computed anew: rounding is all that is left.
        lost |= self.checking & (sq_residual > self.square / 4)
        over = moving & ((sq_residual <= tolerance**2) | lost)
        self.state[over] = np.where(self.checking[over], _CHECKED, _ENDED)
        self.square[self.checking] = sq_residual[self.checking]
        self.restarted[:], self.checking[:] = False, False


def half(factor: jax.Array, ridge: float, mean: float) -> jax.Array:
    """E (n, k), from F and K's mean diagonal."""
    n, k = factor.shape
    if not k:
        return factor
    dtype = factor.dtype
    # In float64 but for the result: the normal equations square the condition number.
    with precision(np.float64):
        blocks = [jnp.asarray(factor[start : start + 4096], np.float64) for start in range(0, n, 4096)]
        square = sum(block.T @ block for block in blocks)
        shift = ridge + max(0.0, mean - float(jnp.trace(square)) / n)
        lower = jnp.linalg.cholesky(square + shift * jnp.eye(k))
        # A little less than all of E, so that rounding leaves I - E E' positive.
        right = (1 - 10 * jnp.finfo(dtype).eps) * jax.scipy.linalg.solve_triangular(lower, jnp.eye(k), lower=True).T
        return jnp.concatenate([(block @ right).astype(dtype) for block in blocks])


def _aligned_zeros(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Zeros that JAX on a CPU takes as they are, which it does at multiples of 64 bytes only."""
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    raw = np.zeros(n_bytes + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + n_bytes].view(dtype).reshape(shape)


def _column_squares(targets: Any) -> np.ndarray:
    """(m,) in float64, where small labels' squares are not 0."""
    if not sp.issparse(targets):
        return np.einsum("ij,ij->j", targets, targets, dtype=np.float64)
    return np.bincount(ops.row_of(targets), targets.data.astype(np.float64) ** 2, targets.shape[1])


@partial(jax.jit, donate_argnums=(0, 1, 2))
def _begin(
    x: jax.Array, r: jax.Array, p: jax.Array, half: jax.Array, right: jax.Array, start: jax.Array | None, new: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    direction = right - half @ (half.T @ right) if start is None else start
    return jnp.where(new, 0, x), jnp.where(new, right, r), jnp.where(new, direction, p)


@partial(jax.jit, donate_argnums=(0, 1, 2))
def _restart(
    x: jax.Array, r: jax.Array, p: jax.Array, right: jax.Array, ended: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return jnp.where(ended, 0, x), jnp.where(ended, right, r), jnp.where(ended, x, p)


@partial(jax.jit, donate_argnums=(0, 1, 2))
def _step(
    x: jax.Array,
    r: jax.Array,
    p: jax.Array,
    k_p: jax.Array,
    half: jax.Array,
    ridge: jax.Array,
    moving: jax.Array,
    restarted: jax.Array,
) -> tuple[jax.Array, ...]:
    """(x, r, p, squared residuals, whether p'Ap > 0), of the columns that move."""
    a_p = k_p + ridge * p
    curvature = jnp.sum(p * a_p, axis=0)
    curved = curvature > 0
    sure = jnp.where(curved, curvature, 1)
    step = jnp.where(moving & curved, jnp.sum(p * r, axis=0) / sure, 0)
    x, r = x + step * p, r - step * a_p
    z = r - half @ (half.T @ r)
    # By what makes it conjugate to the last direction, which rounding disturbs less than the ratio of residuals.
    kept = jnp.where(curved & ~restarted, -jnp.sum(z * a_p, axis=0) / sure, 0)
    return x, r, jnp.where(moving, z + kept * p, p), jnp.sum(r * r, axis=0), curved


_take_columns = jax.jit(lambda a, columns: jnp.take(a, columns, axis=1))
