"""Which users serve as landmarks."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.blocks import Blocks
from infae.data.interactions import Interactions
from infae.inputs import InputMap, popularity
from infae.kernels.rows import Rows
from infae.kernels.tiles import Kernel, cross_gram, kernel_diagonal
from infae.memory import require_memory
from infae.tiles import precision

METHODS = ("uniform", "rpcholesky")
# Candidates of `rpcholesky` a landmark, and at least: the others would add little to the choice.
_CANDIDATES_PER_LANDMARK = 10
_LEAST_CANDIDATES = 8192
# Users proposed between two updates of the residual.
_BLOCK = 64


def choose_anchors(
    clicks: sp.csr_matrix, n_anchors: int, method: str, inputs: InputMap, kernel: Kernel, dtype: np.dtype, seed: int
) -> np.ndarray:
    """(n_anchors,) row positions, sorted, of users with pairwise different histories; fewer where there are no more.

    "uniform" draws users alike. "rpcholesky" is randomly pivoted Cholesky (Chen, Epperly, Tropp
    and Webber 2025): users are drawn in proportion to what of their kernel the landmarks so far
    leave unexplained; in blocks, thinned out by rejection so that the draw is that of one at a
    time (Epperly, Tropp and Webber 2024). Among at most 10 n_anchors users (8,192 where
    that is fewer), drawn alike, it takes 2 n_candidates n_anchors^2 operations and
    n_candidates n_anchors entries of memory.
    """
    rng = np.random.default_rng([seed, 5])
    order = rng.permutation(clicks.shape[0])
    if method == "uniform":
        return np.sort(distinct(clicks, order, n_anchors))
    # With their repetitions: how many users have a history says how much it matters.
    pool = order[: max(_LEAST_CANDIDATES, _CANDIDATES_PER_LANDMARK * n_anchors)]
    chosen, _ = pivoted_cholesky(kernel, inputs(clicks[pool], dtype), n_anchors, rng)
    return np.sort(distinct(clicks, pool[chosen], n_anchors))


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


def distinct(clicks: sp.csr_matrix, order: np.ndarray, n: int) -> np.ndarray:
    """The first n rows in this order that equal no earlier one."""
    found: dict[tuple[bytes, bytes], int] = {}
    for row in order:
        entries = slice(clicks.indptr[row], clicks.indptr[row + 1])
        found.setdefault((clicks.indices[entries].tobytes(), clicks.data[entries].tobytes()), row)
        if len(found) == n:
            break
    return np.array(list(found.values()), np.int64)


def pivoted_cholesky(
    kernel: Kernel, inputs: sp.csr_matrix, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, jax.Array]:
    """Positions of n rows, drawn in proportion to the kernel's residual diagonal, and F (rows, n) with K ~ F F'.

    On the chosen rows and columns F F' is K; there are fewer than n where those explain all of
    it. 2 rows n^2 operations; MemoryError before starting where twice F does not fit.
    """
    dtype = inputs.dtype
    rows = Rows(inputs, dtype)
    require_memory(2 * rows.n * n * dtype.itemsize, f"choosing {n:,} landmarks among {rows.n:,} users")
    residual = kernel_diagonal(kernel, rows).astype(np.float64)
    # What rounding leaves of a residual that is zero is no ground to draw by.
    least = residual.max() * 100 * np.finfo(dtype).eps
    chosen = np.empty(0, np.int64)
    with precision(dtype):
        factor = jnp.zeros((rows.n, n + _BLOCK), dtype)
        while chosen.size < n and (residual > least).any():
            weight = np.where(residual > least, residual, 0)
            drawn = rng.choice(rows.n, _BLOCK, p=weight / weight.sum())
            among = _columns(kernel, rows.like(inputs[drawn]), rows.like(inputs[drawn]))
            kept = _accepted(np.asarray(_rest(among, factor, drawn, drawn), np.float64), least, rng)
            block = drawn[kept][: n - chosen.size]
            padded = np.pad(block, (0, _BLOCK - block.size), mode="edge")
            columns = _columns(kernel, rows, rows.like(inputs[padded]))
            factor, explained = _add_pivots(columns, factor, padded, block.size, chosen.size)
            residual = np.maximum(residual - np.asarray(explained, np.float64), 0)
            residual[block] = 0
            chosen = np.concatenate([chosen, block])
        return chosen, factor[:, : chosen.size]


def _accepted(among: np.ndarray, least: float, rng: np.random.Generator) -> np.ndarray:
    """Which of the candidates, in their order, are drawn in proportion to what is unexplained when their turn comes.

    `among` is their residual kernel before the first. Each was proposed by its own entry on the
    diagonal; it is taken with the chance that is left of that after those taken before it.
    """
    proposed, kept = np.diagonal(among).copy(), []
    for i in range(len(among)):
        if among[i, i] > least and rng.random() * proposed[i] < among[i, i]:
            kept.append(i)
            among = among - np.outer(among[:, i], among[i]) / among[i, i]
    return np.array(kept, np.int64)


def _columns(kernel: Kernel, rows: Rows, others: Rows) -> jax.Array:
    """(rows, others) kernel, all at once."""
    parts = [part[: at.stop - at.start] for at, part in cross_gram(kernel, rows, others)]
    return jnp.concatenate(parts)[:, : others.n]


@jax.jit
def _rest(columns: jax.Array, factor: jax.Array, rows: jax.Array, block: jax.Array) -> jax.Array:
    """What the factor leaves unexplained of the kernel of some rows with some others."""
    return columns - factor[rows] @ factor[block].T


@partial(jax.jit, donate_argnums=1)
def _add_pivots(
    columns: jax.Array, factor: jax.Array, block: jax.Array, size: int, k: int
) -> tuple[jax.Array, jax.Array]:
    """One block of Cholesky: the factor with its columns from k on filled in, and what they explain of the diagonal.

    Of the block the first `size` count; the columns of the others are zeros, to be overwritten.
    """
    counts = jnp.arange(block.size) < size
    rest = (columns - factor @ factor[block].T) * counts
    own = jnp.where(counts[:, None] & counts[None, :], rest[block], jnp.eye(block.size, dtype=rest.dtype))
    jitter = 10 * jnp.finfo(own.dtype).eps * jnp.diag(jnp.diagonal(own))
    lower = jnp.linalg.cholesky((own + own.T) / 2 + jitter)
    new = jax.scipy.linalg.solve_triangular(lower, rest.T, lower=True).T
    return jax.lax.dynamic_update_slice(factor, new, (0, k)), jnp.sum(new * new, axis=1)
