"""Which users serve as landmarks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.blocks import Blocks
from infae.data.coerce import as_history_interactions, drop_empty_users
from infae.data.interactions import Interactions
from infae.data.ops import empty
from infae.errors import SingularKernelError
from infae.inputs import InputMap, popularity
from infae.kernels.base import Kernel
from infae.kernels.grams import cross_gram, kernel_diagonal
from infae.kernels.linear import Linear
from infae.kernels.rows import Rows
from infae.linalg.tiles import precision
from infae.runtime.memory import require_memory
from infae.runtime.mesh import UserMesh

METHODS = ("uniform", "rpcholesky", "kmeans")
# Candidates of "rpcholesky" and "kmeans" a landmark, and at least: the others would add little to the choice.
_CANDIDATES_PER_LANDMARK = 10
_LEAST_CANDIDATES = 8192
_KMEANS_STEPS = 10
# Users proposed between two updates of the residual.
_BLOCK = 64


def choose_landmarks(
    users: Interactions,
    n: int,
    anchors: str | Interactions,
    inputs: InputMap,
    kernel: Kernel,
    dtype: np.dtype,
    seed: int,
) -> Interactions:
    """The landmarks: n users by one of `METHODS`, or those given, without empty ones and repeats."""
    if isinstance(anchors, Interactions):
        given = drop_empty_users(as_history_interactions(anchors, users.item_ids))
        # Landmarks that equal each other make the system singular.
        return given.select_users(distinct(given.matrix, np.arange(given.n_users), given.n_users))
    if anchors == "kmeans":
        return centroids(users, n, inputs, dtype, seed)
    return users.select_users(choose_anchors(users.matrix, n, anchors, inputs, kernel, dtype, seed))


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
    pool = order[: _n_candidates(n_anchors)]
    chosen, _ = pivoted_cholesky(kernel, inputs(clicks[pool], dtype), n_anchors, rng)
    return np.sort(distinct(clicks, pool[chosen], n_anchors))


def centroids(users: Interactions, n: int, inputs: InputMap, dtype: np.dtype, seed: int) -> Interactions:
    """The "kmeans" landmarks: users who are nobody, each the mean history of a group of alike ones.

    Lloyd's k-means of the candidates' input rows at length 1, from distinct users; a group's mean,
    shorter the less alike they are, is multiplied by its users' mean length, and divided by the
    item weights into clicks between 0 and 1. As landmarks, means of groups represent more of a
    kernel than users do (Zhang, Tsang and Kwok 2008). Each of at most 10 steps takes
    n_candidates n products of rows.
    """
    order = np.random.default_rng([seed, 5]).permutation(users.n_users)
    first = distinct(users.matrix, order, n)
    pool = order[: _n_candidates(n)]
    if first.size < n or pool.size <= n:
        return users.select_users(np.sort(first))
    weighted = InputMap(inputs.item_weights, 0.0)
    raw = weighted(users.matrix[pool], dtype)
    lengths = np.sqrt(np.asarray(raw.multiply(raw).sum(axis=1)).ravel())
    unit = sp.csr_matrix(sp.diags(1 / lengths, dtype=dtype) @ raw)
    means, group = InputMap(inputs.item_weights, 1.0)(users.matrix[first], dtype), np.full(len(lengths), -1)
    for _ in range(_KMEANS_STEPS):
        nearest, distance = _nearest(unit, means)
        if np.array_equal(nearest, group):
            break
        group = nearest
        if (empty := np.setdiff1d(np.arange(n), group)).size:
            # A group that nobody is in takes one of those who are farthest from theirs.
            group[np.argsort(distance)[-empty.size :]] = empty
        members = sp.csr_matrix((np.ones(group.size, dtype), (group, np.arange(group.size))), (n, group.size))
        sizes = np.maximum(np.bincount(group, minlength=n), 1)
        means = sp.csr_matrix(sp.diags(1 / sizes, dtype=dtype) @ members @ unit)
    stretched = sp.csr_matrix(sp.diags(np.bincount(group, lengths, n) / sizes, dtype=dtype) @ means)
    if inputs.item_weights is not None:
        stretched.data /= inputs.item_weights[stretched.indices]
    # Where all of a group clicked an item, the short histories among them weigh a little more than 1.
    np.minimum(stretched.data, 1, out=stretched.data)
    stretched.sort_indices()
    kept = sp.csr_matrix(stretched[distinct(stretched, np.arange(n), n)], dtype=np.float32)
    return Interactions.trusted(kept, np.arange(kept.shape[0]), users.item_ids)


def _nearest(rows: sp.csr_matrix, means: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """(which of the means is nearest to each row, its squared distance less the row's own)."""
    anchors = Rows(means, rows.dtype)
    popular = anchors.head.shape[1]
    require_memory(2 * rows.shape[0] * popular * rows.dtype.itemsize, f"{rows.shape[0]:,} users x {popular:,} items")
    sq_lengths = np.full(anchors.n + 1024, np.inf, rows.dtype)
    sq_lengths[: anchors.n] = anchors.sq_norms
    place, distance = np.empty(rows.shape[0], np.int64), np.empty(rows.shape[0])
    with precision(rows.dtype):
        for at, products in cross_gram(Linear(), anchors.like(rows), anchors):
            found = _least(products, sq_lengths[: products.shape[1]])
            place[at], distance[at] = (np.asarray(part)[: at.stop - at.start] for part in found)
    return place, distance


@jax.jit
def _least(products: jax.Array, sq_lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    distances = sq_lengths[None, :] - 2 * products
    return jnp.argmin(distances, axis=1), jnp.min(distances, axis=1)


def shortlist(users: Interactions, n_anchors: int, seed: int, mesh: UserMesh) -> tuple[np.ndarray, Interactions]:
    """The items' popularity, and the users of all processes, with those rows filled that `choose_anchors` may look at.

    What it chooses is what it would choose from all rows: the first candidates of its order, and
    each process's first n_anchors different histories, are all that it reaches.
    """
    counts = popularity(users.matrix)
    if mesh.n_processes == 1:
        return counts, users
    ends = np.cumsum([n for (n,) in mesh.exchange(np.array(users.n_users))])
    first = ends[mesh.rank] - users.n_users
    order = np.random.default_rng([seed, 5]).permutation(ends[-1]) - first
    candidates, own = (
        part[(part >= 0) & (part < users.n_users)] for part in (order[: _n_candidates(n_anchors)], order)
    )
    rows = np.union1d(candidates, distinct(users.matrix, own, n_anchors))
    listed, at = mesh.all_users(users.select_users(rows)), mesh.all_rows(first + rows)
    ids = np.zeros(ends[-1], listed.user_ids.dtype)
    ids[at] = listed.user_ids
    lengths = np.zeros(ends[-1], np.int64)
    lengths[at] = np.diff(listed.matrix.indptr)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    whole = sp.csr_matrix((listed.matrix.data, listed.matrix.indices, indptr), (ends[-1], users.n_items))
    return np.sum([part for (part,) in mesh.exchange(counts)], axis=0), Interactions.trusted(whole, ids, users.item_ids)


def survey(blocks: Blocks, n_anchors: int, seed: int, mesh: UserMesh | None = None) -> tuple[np.ndarray, Interactions]:
    """One pass over the blocks: the items' popularity, and users drawn alike to choose anchors from.

    Over several processes both are of all their blocks. The draw then depends on who has which,
    unless all users are candidates.
    """
    mesh = mesh or UserMesh(None)
    n, counts = _n_candidates(n_anchors), np.zeros(blocks.item_ids.size)
    nobody = empty((0, blocks.item_ids.size))
    kept, keys = Interactions.trusted(nobody, np.empty(0, np.int64), blocks.item_ids), np.empty(0)
    with mesh.together():
        # One process draws as it would without a mesh.
        rng = np.random.default_rng([seed, 6, mesh.rank] if mesh.rank else [seed, 6])
        for block in blocks:
            counts += popularity(block.matrix)
            keys = np.concatenate([keys, rng.random(block.n_users)])
            keys, kept = _smallest(n, keys, _stacked(kept, block) if kept.n_users else block)
    counts = np.sum([part for (part,) in mesh.exchange(counts)], axis=0)
    keys, kept = _smallest(n, mesh.all_rows(keys), mesh.all_users(kept))
    if not kept.n_users:
        raise ValueError("the blocks hold no user with clicks")
    return counts, kept


def _smallest(n: int, keys: np.ndarray, users: Interactions) -> tuple[np.ndarray, Interactions]:
    """The users with the n smallest of independent keys: a uniform draw, whatever the blocks they came in."""
    if keys.size <= n:
        return keys, users
    smallest = np.sort(np.argpartition(keys, n)[:n])
    return keys[smallest], users.select_users(smallest)


def _n_candidates(n_anchors: int) -> int:
    return max(_LEAST_CANDIDATES, _CANDIDATES_PER_LANDMARK * n_anchors)


def _stacked(first: Interactions, second: Interactions) -> Interactions:
    matrix = sp.csr_matrix(sp.vstack([first.matrix, second.matrix]))
    return Interactions.trusted(matrix, np.concatenate([first.user_ids, second.user_ids]), first.item_ids)


def distinct(clicks: sp.csr_matrix, order: np.ndarray, n: int) -> np.ndarray:
    """The first n rows in this order that equal no earlier one; rows without clicks are passed over."""
    found: dict[tuple[bytes, bytes], int] = {}
    for row in order:
        entries = slice(clicks.indptr[row], clicks.indptr[row + 1])
        if entries.start < entries.stop:
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
            rest = np.asarray(_rest(among, factor, drawn, drawn), np.float64)
            kept = _accepted(rest, least, rng)
            # What is left of these as just computed, where the running difference keeps rounding error.
            residual[drawn] = np.maximum(np.diagonal(rest), 0)
            if not kept.size:
                continue
            block = drawn[kept][: n - chosen.size]
            padded = np.pad(block, (0, _BLOCK - block.size), mode="edge")
            columns = _columns(kernel, rows, rows.like(inputs[padded]))
            factor, explained = _add_pivots(columns, factor, padded, block.size, chosen.size)
            if not np.isfinite(explained).all():
                raise SingularKernelError("the users' kernel is not positive definite; is the kernel a kernel?")
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
