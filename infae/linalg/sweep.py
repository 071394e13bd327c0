"""Inverse of a symmetric positive definite matrix by the sweep operator, tile by tile.

n^3 multiply-adds counted as two operations each, half on each side of the diagonal: what
Cholesky, triangular inverse and product take together, in one loop of large products. No LAPACK:
its float32 Cholesky crashes near 30,000 rows in NumPy and SciPy, its index type ends at 46,340,
and its threads keep spinning on the cores for a tenth of a second after each call, which halves
the speed of everything after it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from infae.linalg.tiles import SymmetricTiles, precision

# Below this edge a tile is inverted column by column; above it, by halves.
_LEAF = 64


def inverse(
    matrix: SymmetricTiles, shift: float = 0.0, *, progress: Callable[[int, int], None] | None = None
) -> SymmetricTiles:
    """(matrix + shift * identity)^-1 for a symmetric positive definite sum.

    For each block k with pivot P = A_kk^-1, the sweep replaces A_ij by A_ij - A_ik P A_kj,
    A_ik by A_ik P and A_kk by -P; after all blocks A is minus its inverse (Goodnight 1979).
    A pivot that is not positive makes the result NaN, for the caller to find by its residual.
    `progress` is called with (blocks done, blocks in all).
    """
    with precision(matrix.dtype):
        tiles = dict(matrix.tiles)
        blocks = range(matrix.n_tiles)
        for k in blocks:
            tiles[k, k] = _add_diagonal(tiles[k, k], shift)
        for k in blocks:
            _sweep(tiles, k, matrix.n_tiles, update=_update_into if k else _update)
            if progress is not None:
                progress(k + 1, matrix.n_tiles)
                jax.block_until_ready(tiles[0, 0])
        return SymmetricTiles(matrix.n, matrix.size, {ij: _negate_into(tile) for ij, tile in tiles.items()})


def _sweep(tiles: dict[tuple[int, int], jax.Array], k: int, n_tiles: int, update: Callable[..., jax.Array]) -> None:
    others = [i for i in range(n_tiles) if i != k]
    pivot = _invert(tiles[k, k])
    column = {i: tiles[i, k] if i > k else _transpose(tiles[k, i]) for i in others}
    scaled = {i: _product(column[i], pivot) for i in others}
    for i in others:
        for j in others:
            if j <= i:
                tiles[i, j] = update(tiles[i, j], scaled[i], column[j])
    for i in others:
        if i > k:
            tiles[i, k] = scaled[i]
        else:
            tiles[k, i] = _transpose(scaled[i])
    tiles[k, k] = _negative(pivot)


def invert_dense(a: jax.Array) -> jax.Array:
    """Inverse of one dense symmetric positive definite (n, n) array; NaN where a pivot is not positive."""
    n = a.shape[0]
    if n <= _LEAF:
        return _invert_by_columns(a)
    h = n // 2
    p = invert_dense(a[:h, :h])
    w = a[h:, :h] @ p
    q = invert_dense(a[h:, h:] - w @ a[h:, :h].T)
    m = -q @ w
    return jnp.block([[p - w.T @ m, m.T], [m, q]])


def _invert_by_columns(a: jax.Array) -> jax.Array:
    index = jnp.arange(a.shape[0])

    def sweep_column(k: jax.Array, a: jax.Array) -> jax.Array:
        here = index == k
        column = a[:, k]
        pivot = jnp.where(column[k] > 0, column[k], jnp.nan)
        others = jnp.where(here, 0, column)
        scaled = others / pivot
        a = a - scaled[:, None] * others[None, :]
        a = jnp.where(here[:, None], scaled[None, :], jnp.where(here[None, :], scaled[:, None], a))
        return jnp.where(here[:, None] & here[None, :], -1 / pivot, a)

    return -jax.lax.fori_loop(0, a.shape[0], sweep_column, a)


_invert = jax.jit(invert_dense)
_product = jax.jit(lambda a, b: a @ b)
_transpose = jax.jit(jnp.transpose)
_negative = jax.jit(jnp.negative)
_negate_into = jax.jit(jnp.negative, donate_argnums=0)
_add_diagonal = jax.jit(lambda a, shift: a + shift * jnp.eye(a.shape[0], dtype=a.dtype))
_update = jax.jit(lambda c, a, b: c - a @ b.T)
# In place: the first sweep has already copied the caller's tiles.
_update_into = jax.jit(lambda c, a, b: c - a @ b.T, donate_argnums=0)
