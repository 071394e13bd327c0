"""Gram matrices block by block: symmetric ones as tiles, others as blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.kernels.rows import RowBlock, Rows
from infae.parallel import in_parallel
from infae.tiles import SymmetricTiles, precision, tile_size

Kernel = Callable[..., jax.Array]
"""`kernel(x1, x2) -> (n1, n2)` on dense rows, with x2 None for x1 itself."""


@runtime_checkable
class DotProductKernel(Protocol):
    """A kernel that needs no more of two rows than their inner product and their lengths.

    Such a kernel is computed from sparse products; any other callable is given dense rows.
    Instances must be hashable, since the kernel is a static argument of compiled code.
    """

    def from_products(
        self, products: jax.Array, sq1: jax.Array, sq2: jax.Array, n_inputs: int, *, diagonal: bool = False
    ) -> jax.Array: ...


def symmetric_gram(
    kernel: Kernel | DotProductKernel, rows: Rows, *, progress: Callable[[int, int], None] | None = None
) -> SymmetricTiles:
    """The (n, n) Gram matrix of the rows with themselves; only its lower triangle is computed.

    Beyond the tiles themselves, a handful of tiles are in memory at once. `progress` is called
    with (blocks done, blocks in all).
    """
    size = tile_size(rows.n)
    blocks = rows.blocks(size)
    pairs = [(i, j) for i in range(len(blocks)) for j in range(i + 1)]
    block_tiles = _block_tiles(kernel, rows, [(blocks[i], blocks[j], i == j) for i, j in pairs])

    def next_tile(i: int, j: int) -> jax.Array:
        if progress is not None and j == 0:
            progress(i + 1, len(blocks))
        return next(block_tiles)

    return SymmetricTiles.build(rows.n, size, next_tile)


def cross_gram(kernel: Kernel | DotProductKernel, rows: Rows, anchors: Rows) -> Iterator[tuple[slice, jax.Array]]:
    """The (n, n_anchors) kernel between rows and anchors, block of rows by block of rows.

    `rows` is `anchors.like(...)`. Yields (rows of the block, kernel); the kernel's rows and
    columns are padded to whole tiles, whose few sizes (powers of two) keep compilation rare.
    """
    height = min(512, 1 << max(3, rows.n - 1).bit_length())
    width = tile_size(anchors.n)
    right = anchors.blocks(width)
    for start in range(0, rows.n, height):
        left = rows.block(start, height)
        tiles = _block_tiles(kernel, anchors, [(left, block, False) for block in right])
        yield slice(start, min(start + height, rows.n)), jnp.concatenate(list(tiles), axis=1)


def gram(kernel: Kernel, x1: Any, x2: Any = None) -> jax.Array:
    """The full (n1, n2) kernel between SciPy sparse or dense rows, computed block by block.

    Raises ValueError for rows of unequal length.
    """
    if x2 is not None and x1.shape[1] != x2.shape[1]:
        raise ValueError(f"rows must be equally long, got shapes {x1.shape} and {x2.shape}")
    dtype = jnp.result_type(*(x.dtype for x in (x1, x2) if x is not None), jnp.float32)
    with precision(dtype):
        if x2 is None:
            return jnp.asarray(symmetric_gram(kernel, Rows(x1, dtype)).to_dense())
        anchors = Rows(x2 if sp.issparse(x2) or not sp.issparse(x1) else sp.csr_matrix(x2), dtype)
        full = [block for _, block in cross_gram(kernel, anchors.like(x1), anchors)]
        return jnp.concatenate(full)[: x1.shape[0], : x2.shape[0]]


def _block_tiles(
    kernel: Kernel | DotProductKernel, rows: Rows, pairs: list[tuple[RowBlock, RowBlock, bool]]
) -> Iterator[jax.Array]:
    if isinstance(kernel, DotProductKernel):
        tails = in_parallel([partial(a.tail_products, b) for a, b, _ in pairs])
        for (a, b, same), tail in zip(pairs, tails, strict=True):
            yield _tile(kernel, tail, a.head, b.head, a.sq_norms, b.sq_norms, rows.n_columns, same)
    else:
        for a, b, same in pairs:
            left = a.dense(rows)
            yield jnp.asarray(kernel(left, None if same else b.dense(rows)), a.head.dtype)


@partial(jax.jit, static_argnums=(0, 6, 7))
def _tile(
    kernel: DotProductKernel,
    tail: np.ndarray | float,
    head1: jax.Array,
    head2: jax.Array,
    sq1: jax.Array,
    sq2: jax.Array,
    n_columns: int,
    same: bool,
) -> jax.Array:
    products = head1 @ head2.T + tail
    return kernel.from_products(products, sq1, sq2, n_columns, diagonal=same)
