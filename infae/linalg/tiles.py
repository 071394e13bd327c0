"""Symmetric matrices kept as square tiles of their lower triangle.

Half the memory of a full matrix, no index beyond 32 bits however large the matrix, and every
operation is a product of tiles: the one thing all of JAX's backends do at full speed.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np


@contextlib.contextmanager
def precision(dtype: np.dtype | type | str) -> Iterator[None]:
    """A context in which JAX computes in `dtype` (float32 or float64), whatever its configuration.

    Products take the full precision of the type: a GPU's default of 10 mantissa bits is not
    enough to factor a kernel matrix.
    """
    with jax.enable_x64(np.dtype(dtype) == np.float64), jax.default_matmul_precision("highest"):
        yield


def tile_size(n: int) -> int:
    """Edge of a tile for an n x n matrix: a multiple of 8 that divides n nearly evenly.

    About 512 keeps the triangular waste of a small matrix low (a diagonal tile is stored and
    updated in full); past 12,000 rows 1,024 keeps the number of dispatched products low.
    """
    target = 512 if n <= 12_000 else 1024
    n_tiles = max(1, -(-n // target))
    return 8 * -(-n // (8 * n_tiles))


class Tiled(Protocol):
    """A symmetric (n, n) matrix that hands out its lower tiles, (size, size) each, kept or computed anew."""

    @property
    def n(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def dtype(self) -> np.dtype: ...

    def items(self) -> Iterable[tuple[tuple[int, int], jax.Array]]:
        """((i, j), tile) for all j <= i, in any order; entries past row or column n may hold anything."""

    def diagonal(self) -> np.ndarray:
        """(n,) the diagonal."""


def product(matrix: Tiled, rhs: jax.Array) -> jax.Array:
    """(n, k) product with (n, k) columns, in the matrix's `precision`; each tile is gone through once."""
    parts = _split(rhs, matrix.size)
    out = [jnp.zeros_like(part) for part in parts]
    for (i, j), tile in matrix.items():
        if i == j:
            out[i] = _add_product(out[i], tile, parts[i])
        else:
            out[i], out[j] = _add_both_products(out[i], out[j], tile, parts[i], parts[j])
    return _stack(out, matrix.n, rhs.shape[1])


def to_dense(matrix: Tiled) -> np.ndarray:
    """The full (n, n) matrix, written tile by tile."""
    full, size = np.empty((matrix.n, matrix.n), matrix.dtype), matrix.size
    for (i, j), tile in matrix.items():
        block = full[i * size : (i + 1) * size, j * size : (j + 1) * size]
        block[:] = np.asarray(tile)[: block.shape[0], : block.shape[1]]
        full[j * size : (j + 1) * size, i * size : (i + 1) * size] = block.T
    return full


@dataclass(frozen=True, eq=False)
class SymmetricTiles:
    """A symmetric (n, n) matrix, padded to whole tiles, (size, size) each.

    The padding is block diagonal to the matrix, so its inverse's leading (n, n) part is the
    inverse of the matrix itself.
    """

    n: int
    size: int
    tiles: dict[tuple[int, int], jax.Array]  # at (i, j) for j <= i

    @classmethod
    def build(cls, n: int, size: int, tiles: Iterable[tuple[tuple[int, int], jax.Array]]) -> Self:
        """From ((i, j), tile) for all j <= i; entries past row or column n are replaced by the padding."""
        padded, last = dict(tiles), -(-n // size) - 1
        if (kept := n - last * size) < size:
            for j in range(last):
                padded[last, j] = _pad_rows(padded[last, j], kept)
            padded[last, last] = _pad_corner(padded[last, last], kept)
        return cls(n, size, padded)

    @classmethod
    def from_dense(cls, matrix: np.ndarray | jax.Array, size: int | None = None) -> Self:
        """From a full matrix, of which the lower triangle is read."""
        n = matrix.shape[0]
        if matrix.ndim != 2 or matrix.shape[1] != n:
            raise ValueError(f"expected a square matrix, got shape {matrix.shape}")
        size = size or tile_size(n)

        def tile(i: int, j: int) -> jax.Array:
            block = jnp.asarray(matrix[i * size : (i + 1) * size, j * size : (j + 1) * size])
            return jnp.pad(block, [(0, size - block.shape[0]), (0, size - block.shape[1])])

        with precision(matrix.dtype):
            n_tiles = -(-n // size)
            return cls.build(n, size, (((i, j), tile(i, j)) for i in range(n_tiles) for j in range(i + 1)))

    @property
    def n_tiles(self) -> int:
        return -(-self.n // self.size)

    @property
    def dtype(self) -> np.dtype:
        return self.tiles[0, 0].dtype

    @property
    def nbytes(self) -> int:
        return sum(tile.nbytes for tile in self.tiles.values())

    def items(self) -> Iterable[tuple[tuple[int, int], jax.Array]]:
        """((i, j), tile) for all j <= i."""
        return self.tiles.items()

    def rows_of(self, block: int) -> slice:
        """The rows of the matrix that a block of tiles holds, padding left out."""
        return slice(block * self.size, min(self.n, (block + 1) * self.size))

    def column(self, block: int) -> jax.Array:
        """(n, rows of the block): a block column, by symmetry a block of rows transposed."""
        parts = [self.tiles[i, block] if i >= block else _transpose(self.tiles[block, i]) for i in range(self.n_tiles)]
        rows = self.rows_of(block)
        return _stack(parts, self.n, rows.stop - rows.start)

    def diagonal(self) -> np.ndarray:
        """(n,) the diagonal."""
        return np.concatenate([np.diagonal(self.tiles[i, i]) for i in range(self.n_tiles)])[: self.n]

    def __matmul__(self, rhs: np.ndarray | jax.Array) -> np.ndarray:
        """Product with an (n, k) array of few columns; each tile is read once."""
        with precision(self.dtype):
            return np.asarray(product(self, jnp.asarray(rhs, self.dtype)))

    def to_dense(self) -> np.ndarray:
        """The full (n, n) matrix."""
        return to_dense(self)


@jax.jit
def _pad_rows(tile: jax.Array, kept: int) -> jax.Array:
    return jnp.where(jnp.arange(tile.shape[0])[:, None] < kept, tile, 0)


@jax.jit
def _pad_corner(tile: jax.Array, kept: int) -> jax.Array:
    inside = jnp.arange(tile.shape[0]) < kept
    diagonal = jnp.diagonal(tile)
    # The matrix's own scale, so that the padding does not worsen the conditioning.
    scale = jnp.sum(jnp.where(inside, diagonal, 0)) / kept
    return jnp.where(inside[:, None] & inside[None, :], tile, jnp.diag(jnp.where(inside, 0, scale)))


@partial(jax.jit, static_argnums=(1, 2))
def _stack(parts: list[jax.Array], n: int, width: int) -> jax.Array:
    return jnp.concatenate(parts)[:n, :width]


@partial(jax.jit, static_argnums=1)
def _split(rhs: jax.Array, size: int) -> list[jax.Array]:
    padded = jnp.pad(rhs, [(0, -rhs.shape[0] % size), (0, 0)])
    return [padded[start : start + size] for start in range(0, padded.shape[0], size)]


@partial(jax.jit, donate_argnums=(0, 1))
def _add_both_products(
    out_i: jax.Array, out_j: jax.Array, tile: jax.Array, part_i: jax.Array, part_j: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return out_i + tile @ part_j, out_j + tile.T @ part_i


_transpose = jax.jit(jnp.transpose)
put_rows = jax.jit(lambda whole, rows, start: jax.lax.dynamic_update_slice(whole, rows, (start, 0)), donate_argnums=0)
_add_product = jax.jit(lambda out, a, b: out + a @ b, donate_argnums=0)
