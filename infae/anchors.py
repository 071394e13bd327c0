"""Which users serve as landmarks."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.blocks import Blocks
from infae.data.interactions import Interactions
from infae.histories import RowIndex
from infae.inputs import InputMap, popularity
from infae.kernels.rows import Rows
from infae.kernels.tiles import Kernel, cross_gram, kernel_diagonal
from infae.memory import require_memory
from infae.tiles import precision

METHODS = ("uniform", "rpcholesky")
# Candidates of `rpcholesky` a landmark, and at least: the others would add little to the choice.
_CANDIDATES_PER_LANDMARK = 10
_LEAST_CANDIDATES = 8192
# Landmarks chosen between two updates of the residual.
_BLOCK = 64


def choose_anchors(
    clicks: sp.csr_matrix, n_anchors: int, method: str, inputs: InputMap, kernel: Kernel, dtype: np.dtype, seed: int
) -> np.ndarray:
    """(n_anchors,) row positions, sorted, of users with pairwise different histories; fewer where there are no more.

    "uniform" draws users alike. "rpcholesky" is randomly pivoted Cholesky (Chen, Epperly, Tropp
    and Webber 2025, algorithm 2, in blocks): users are drawn in proportion to what of their
    kernel the landmarks so far leave unexplained. Among at most 10 n_anchors users (8,192 where
    that is fewer), drawn alike, it takes 2 n_candidates n_anchors^2 operations and
    n_candidates n_anchors entries of memory.
    """
    rng = np.random.default_rng([seed, 5])
    order = rng.permutation(clicks.shape[0])
    if method == "uniform":
        return np.sort(_distinct(clicks, order, n_anchors))
    pool = _distinct(clicks, order, max(_LEAST_CANDIDATES, _CANDIDATES_PER_LANDMARK * n_anchors))
    if pool.size <= n_anchors:
        return np.sort(pool)
    chosen = _pivots(kernel, inputs(clicks[pool], dtype), n_anchors, rng)
    return np.sort(pool[chosen])


def survey(blocks: Blocks, n_anchors: int, seed: int) -> tuple[np.ndarray, Interactions]:
    """One pass over the blocks: the items' popularity, and users drawn alike to choose anchors from."""
    rng = np.random.default_rng([seed, 6])
    n = max(_LEAST_CANDIDATES, _CANDIDATES_PER_LANDMARK * n_anchors)
    counts, kept, keys = np.zeros(blocks.item_ids.size), None, np.empty(0)
    for block in blocks:
        counts += popularity(block.matrix)
        # Those with the n smallest of independent keys are a uniform draw, whatever the blocks.
        keys = np.concatenate([keys, rng.random(block.n_users)])
        kept = block if kept is None else _stacked(kept, block)
        if keys.size > n:
            smallest = np.sort(np.argpartition(keys, n)[:n])
            keys, kept = keys[smallest], kept.select_users(smallest)
    if kept is None or not kept.n_users:
        raise ValueError("the blocks hold no user with clicks")
    return counts, kept


def _stacked(first: Interactions, second: Interactions) -> Interactions:
    matrix = sp.csr_matrix(sp.vstack([first.matrix, second.matrix]))
    return Interactions(matrix, np.concatenate([first.user_ids, second.user_ids]), first.item_ids)


def _distinct(clicks: sp.csr_matrix, order: np.ndarray, n: int) -> np.ndarray:
    """The first n rows in this order that equal no earlier one."""
    start, size, found = 0, 2 * n, np.empty(0, np.int64)
    while found.size < n and start < order.size:
        rows = np.concatenate([found, order[start : start + size]])
        first = RowIndex(clicks[rows]).find(clicks[rows])
        found = rows[np.unique(first, return_index=True)[1]][:n]
        start += size
    return found


def _pivots(kernel: Kernel, inputs: sp.csr_matrix, n: int, rng: np.random.Generator) -> np.ndarray:
    """n positions of rows, each block of them drawn in proportion to the kernel's residual diagonal."""
    dtype = inputs.dtype
    rows = Rows(inputs, dtype)
    require_memory(2 * rows.n * n * dtype.itemsize, f"choosing {n:,} landmarks among {rows.n:,} users")
    residual = kernel_diagonal(kernel, rows).astype(np.float64)
    # What rounding leaves of a residual that is zero is no ground to draw by.
    least = residual.max() * np.finfo(dtype).eps
    chosen = np.empty(0, np.int64)
    with precision(dtype):
        factor = jnp.zeros((rows.n, n), dtype)
        while chosen.size < n and (drawable := np.flatnonzero(residual > least)).size:
            width = min(_BLOCK, n - chosen.size, drawable.size)
            share = residual[drawable] / residual[drawable].sum()
            block = rng.choice(drawable, width, replace=False, p=share)
            factor, explained = _add_pivots(
                _columns(kernel, rows, rows.like(inputs[block])), factor, block, chosen.size
            )
            residual = np.maximum(residual - np.asarray(explained, np.float64), 0)
            residual[block] = 0
            chosen = np.concatenate([chosen, block])
    return chosen


def _columns(kernel: Kernel, rows: Rows, others: Rows) -> jax.Array:
    """(rows, others) kernel, all at once."""
    parts = [part[: at.stop - at.start] for at, part in cross_gram(kernel, rows, others)]
    return jnp.concatenate(parts)[:, : others.n]


@partial(jax.jit, donate_argnums=1)
def _add_pivots(columns: jax.Array, factor: jax.Array, block: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """One block of Cholesky: the factor with its columns from k on filled in, and what they explain of the diagonal."""
    rest = columns - factor @ factor[block].T
    own = rest[block]
    # Candidates of one block may be nearly dependent, given the earlier ones.
    jitter = 1e-5 * jnp.trace(own) / own.shape[0]
    lower = jnp.linalg.cholesky((own + own.T) / 2 + jitter * jnp.eye(own.shape[0], dtype=own.dtype))
    new = jax.scipy.linalg.solve_triangular(lower, rest.T, lower=True).T
    return jax.lax.dynamic_update_slice(factor, new, (0, k)), jnp.sum(new * new, axis=1)
