"""Gram matrices block by block: symmetric ones as tiles or over a mesh, others as blocks of rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from infae.data.interactions import dense_matrix
from infae.data.ops import check_sparse
from infae.kernels.base import DotProductKernel, Kernel
from infae.kernels.rows import RowBlock, Rows
from infae.linalg.sharded import ShardedMatrix, heights
from infae.linalg.tiles import SymmetricTiles, precision, put_rows, tile_size, to_dense
from infae.runtime.checks import shown
from infae.runtime.memory import require_memory
from infae.runtime.mesh import AXIS, UserMesh, on
from infae.runtime.parallel import in_parallel


def symmetric_gram(kernel: Kernel, rows: Rows, *, progress: Callable[[int, int], None] | None = None) -> SymmetricTiles:
    """The (n, n) Gram matrix of the rows with themselves; only its lower triangle is computed.

    Beyond the result and the rows, a handful of tiles are in memory at once. `progress` is
    called with (blocks done, blocks in all).
    """
    return SymmetricTiles.build(rows.n, tile_size(rows.n), _lower_tiles(kernel, rows, progress))


def _lower_tiles(
    kernel: Kernel, rows: Rows, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[tuple[int, int], jax.Array]]:
    blocks = rows.blocks(tile_size(rows.n))
    pairs = [(i, j) for i in range(len(blocks)) for j in range(i + 1)]
    tiles = _block_tiles(kernel, rows, [(blocks[i], blocks[j], i == j) for i, j in pairs])
    for (i, j), tile in zip(pairs, tiles, strict=True):
        yield (i, j), tile
        if progress is not None and i == j:
            progress(i + 1, len(blocks))


@dataclass(frozen=True, eq=False)
class RecomputedGram:
    """The (n, n) Gram matrix of the rows with themselves, computed anew whenever its tiles are gone through.

    A handful of tiles are in memory at once, whatever n.
    """

    kernel: Kernel
    rows: Rows

    @property
    def n(self) -> int:
        return self.rows.n

    @property
    def size(self) -> int:
        return tile_size(self.n)

    @property
    def dtype(self) -> np.dtype:
        return self.rows.head.dtype

    def items(self) -> Iterator[tuple[tuple[int, int], jax.Array]]:
        """((i, j), tile) for all j <= i, one after another."""
        return _lower_tiles(self.kernel, self.rows)

    def diagonal(self) -> np.ndarray:
        """(n,) the diagonal."""
        # Of the same tiles, to the same bits as that of the matrix that is kept.
        with precision(self.dtype):
            blocks = self.rows.blocks(self.size)
            tiles = _block_tiles(self.kernel, self.rows, [(block, block, True) for block in blocks])
            return np.concatenate([np.diagonal(tile) for tile in tiles])[: self.n]


def cross_gram(kernel: Kernel, rows: Rows, anchors: Rows) -> Iterator[tuple[slice, jax.Array]]:
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


def kernel_diagonal(kernel: Kernel, rows: Rows) -> np.ndarray:
    """(n,) kernel(x, x) of each row."""
    with precision(rows.head.dtype):
        if isinstance(kernel, DotProductKernel):
            return np.asarray(_own_products(kernel, jnp.asarray(rows.sq_norms), rows.n_columns))
        # All pairs of a few rows: what a kernel on dense rows computes fastest.
        blocks = (rows.block(start, 64).dense() for start in range(0, rows.n, 64))
        tiles = (_checked(kernel(block), (len(block), len(block)), rows.head.dtype) for block in blocks)
        return np.concatenate([np.diagonal(tile) for tile in tiles])[: rows.n]


def gram(kernel: Kernel, x1: Any, x2: Any = None) -> jax.Array:
    """The full (n1, n2) kernel between SciPy sparse or dense rows, written block by block into the result.

    Beyond the result and a copy of the rows, 8 tiles of at most 1,024 x 1,024 are in memory at
    once. Raises ValueError for rows of unequal length, or none.
    """
    if not callable(kernel) or isinstance(kernel, type):
        raise ValueError(f"kernel must be callable as kernel(x1, x2), got {shown(kernel)}")
    x1 = checked_rows("x1", x1)
    x2_rows = x1 if x2 is None else checked_rows("x2", x2)
    if x1.shape[1] != x2_rows.shape[1] or 0 in (*x1.shape, *x2_rows.shape):
        raise ValueError(f"expected rows of one length, at least one, got shapes {x1.shape} and {x2_rows.shape}")
    dtype = np.dtype(jnp.result_type(x1.dtype, x2_rows.dtype, jnp.float32))
    with precision(dtype):
        anchors = Rows(x2_rows if sp.issparse(x2_rows) or not sp.issparse(x1) else sp.csr_matrix(x2_rows), dtype)
        if x2 is None:
            return finite(jnp.asarray(to_dense(RecomputedGram(kernel, anchors))))
        full = np.empty((x1.shape[0], anchors.n), dtype)
        for rows, kernel_rows in cross_gram(kernel, anchors.like(x1), anchors):
            full[rows] = kernel_rows[: rows.stop - rows.start, : anchors.n]
        return finite(jnp.asarray(full))


def finite(kernel: jax.Array) -> jax.Array:
    """The kernel itself; ValueError where entries of the rows were so large that it overflowed.

    A tracer passes: it has no values yet.
    """
    if not isinstance(kernel, jax.core.Tracer) and not bool(jnp.isfinite(kernel).all()):
        raise ValueError(f"the kernel of these rows is beyond {kernel.dtype}: scale the rows down, or use float64")
    return kernel


def _block_tiles(kernel: Kernel, rows: Rows, pairs: list[tuple[RowBlock, RowBlock, bool]]) -> Iterator[jax.Array]:
    if isinstance(kernel, DotProductKernel):
        tails = in_parallel([partial(a.tail_products, b) for a, b, _ in pairs])
        for (a, b, same), tail in zip(pairs, tails, strict=True):
            yield _tile(kernel, tail, a.head, b.head, a.sq_norms, b.sq_norms, rows.n_columns, same)
    else:
        for a, b, same in pairs:
            tile = kernel(a.dense(), None if same else b.dense())
            yield _checked(tile, (len(a.sq_norms), len(b.sq_norms)), a.head.dtype)


def checked_rows(name: str, rows: Any) -> Any:
    """Sparse or dense rows that a caller hands in: ValueError unless they are finite numbers, as far as is known."""
    if isinstance(rows, jax.core.Tracer):
        return rows
    if sp.issparse(rows):
        check_sparse(rows, name)
    elif not isinstance(rows, jax.Array) or rows.ndim != 2 or not jnp.isrealobj(rows):
        rows = dense_matrix(rows, name)
    if not np.isfinite(rows.tocsr().data if sp.issparse(rows) else rows).all():
        raise ValueError(f"{name} holds NaN or infinity; every entry must be a finite number")
    return rows


def _checked(tile: Any, shape: tuple[int, int], dtype: np.dtype) -> jax.Array:
    """What a kernel of the caller's own gave: ValueError unless it is a finite matrix of this shape."""
    try:
        found = jnp.asarray(np.nan if tile is None else tile)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"kernel(x1, x2) must give a number for each pair of rows, got {shown(tile)}") from error
    if found.shape != shape or found.dtype.kind not in "iuf":
        raise ValueError(
            "kernel(x1, x2) must give a number for each pair of rows, an array of shape "
            f"{shape} for {shape[0]} and {shape[1]} rows, got {found.dtype} {found.shape}"
        )
    if not jnp.isfinite(found).all():
        raise ValueError("kernel(x1, x2) gave NaN or infinity; every pair of rows needs a finite number")
    return found.astype(dtype)


@partial(jax.jit, static_argnums=(0, 2))
def _own_products(kernel: DotProductKernel, sq_norms: jax.Array, n_columns: int) -> jax.Array:
    def own(sq: jax.Array) -> jax.Array:
        return kernel.from_products(sq[None, None], sq[None], sq[None], n_columns, diagonal=True)[0, 0]

    return jax.vmap(own)(sq_norms)


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


def sharded_gram(mesh: UserMesh, kernel: Kernel, rows: Rows, matrix: sp.csr_matrix) -> ShardedMatrix:
    """Kernel of `rows`, those of `matrix`, the same on every process; each device computes its own users' part.

    Raises MemoryError, on every process, where one has no room for its rows and their inverse.
    """
    assert mesh.mesh is not None
    n, dtype, (size, height) = rows.n, rows.head.dtype, heights(rows.n, mesh.mesh.size)
    n_padded = height * mesh.mesh.size
    places = {device: place for place, device in enumerate(mesh.mesh.devices.tolist())}
    with mesh.together(), precision(dtype):
        # The third is the update in a step of the elimination.
        needed = (3 * len(mesh.devices) * height * n_padded + n * rows.n_columns) * dtype.itemsize
        what = f"this process's rows of the kernel matrix of {n:,} users and of its inverse, and all coefficients,"
        require_memory(needed, what)
        diagonal = kernel_diagonal(kernel, rows)
        # The matrix's own scale in the padding, so that it does not worsen the conditioning.
        diagonal = np.pad(diagonal, (0, n_padded - n), constant_values=diagonal.mean())
        shards = []
        for device in mesh.devices:
            own = slice(places[device] * height, (places[device] + 1) * height)
            with on(device):
                columns = _own_rows(kernel, rows.copy(), rows.like(matrix[own]), (height, n_padded))
                shard = _with_diagonal(columns, diagonal[own], own.start)
            shards.append(jax.device_put(shard, device))
    sharding = NamedSharding(mesh.mesh, P(AXIS))
    return ShardedMatrix(n, size, jax.make_array_from_single_device_arrays((n_padded, n_padded), sharding, shards))


def _own_rows(kernel: Kernel, rows: Rows, own: Rows, shape: tuple[int, int]) -> jax.Array:
    """The kernel of a device's own rows with all, in a `shape` of zeros."""
    whole = jnp.zeros(shape, rows.head.dtype)
    for at, part in cross_gram(kernel, own, rows):
        whole = put_rows(whole, part[: at.stop - at.start, : rows.n], at.start)
    return whole


@partial(jax.jit, donate_argnums=0)
def _with_diagonal(own: jax.Array, diagonal: jax.Array, first: int) -> jax.Array:
    at = jnp.arange(own.shape[0])
    return own.at[at, first + at].set(diagonal)
