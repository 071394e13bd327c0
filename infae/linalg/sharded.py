"""Kernel matrices whose rows are shared out to the devices of a mesh, and their inverse.

Unlike `SymmetricTiles` they are held in full: every device has its own users' rows, and a step of
the elimination needs of the others no more than one block of rows, which all devices are sent.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from infae.linalg.sweep import invert_dense
from infae.linalg.tiles import precision
from infae.runtime.mesh import AXIS

# Rows that are eliminated at once.
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class ShardedMatrix:
    """A symmetric (n, n) matrix, padded by a diagonal until each device of a mesh has as many whole blocks of rows.

    What its users see of it is what they see of `SymmetricTiles`.
    """

    n: int
    size: int  # rows of a block
    rows: jax.Array  # (n_padded, n_padded) global array, the rows sharded

    @property
    def n_tiles(self) -> int:
        return -(-self.n // self.size)

    @property
    def dtype(self) -> np.dtype:
        return self.rows.dtype

    def rows_of(self, block: int) -> slice:
        """The rows of the matrix that a block holds, padding left out."""
        return slice(block * self.size, min(self.n, (block + 1) * self.size))

    def column(self, block: int) -> jax.Array:
        """(n, rows of the block): a block of rows transposed, by symmetry a block column, on every process."""
        rows = self.rows_of(block)
        whole = _block_of(self._mesh, self.size, self.rows, block).addressable_data(0)
        return whole[: rows.stop - rows.start, : self.n].T

    def diagonal(self) -> np.ndarray:
        """(n,) the diagonal."""
        return np.asarray(_diagonal(self._mesh, self.rows))[: self.n]

    def __matmul__(self, rhs: np.ndarray | jax.Array) -> np.ndarray:
        """Product with an (n, k) array of few columns, the same on every process."""
        with precision(self.dtype):
            padded = np.zeros((self.rows.shape[1], rhs.shape[1]), self.dtype)
            padded[: self.n] = rhs
            return np.asarray(_product(self._mesh, self.rows, padded))[: self.n]

    def inverse(self, shift: float = 0.0, *, progress: Callable[[int, int], None] | None = None) -> Self:
        """(matrix + shift * identity)^-1 for a positive definite sum, by block Gauss-Jordan elimination.

        2 n^3 operations, shared out evenly. For each block k with pivot P = A_kk^-1, A_ij becomes
        A_ij - A_ik P A_kj, A_ik becomes -A_ik P, A_kj becomes P A_kj, and A_kk becomes P. A pivot
        that is not positive makes the result NaN, for the caller to find by its residual.
        `progress` is called with (blocks done, blocks in all).
        """
        with precision(self.dtype):
            rows, n_blocks = _shifted(self._mesh, self.rows, shift), self.rows.shape[0] // self.size
            for k in range(n_blocks):
                # Waited for, or a CPU's few threads could all be held by devices that wait for the others.
                rows = jax.block_until_ready(_eliminate(self._mesh, self.size, rows, k))
                if progress is not None:
                    progress(k + 1, n_blocks)
            return replace(self, rows=rows)

    @property
    def _mesh(self) -> Mesh:
        assert isinstance(self.rows.sharding, NamedSharding)
        mesh = self.rows.sharding.mesh
        assert isinstance(mesh, Mesh)
        return mesh


def heights(n: int, n_devices: int) -> tuple[int, int]:
    """Rows of a block, a multiple of 8, and of a device, whole blocks."""
    n_blocks = max(1, -(-n // (_BLOCK * n_devices)))
    size = 8 * -(-n // (8 * n_devices * n_blocks))
    return size, size * n_blocks


@partial(jax.jit, static_argnums=0)
def _shifted(mesh: Mesh, rows: jax.Array, shift: float) -> jax.Array:
    def shifted(own: jax.Array) -> jax.Array:
        at = jnp.arange(own.shape[0])
        return own.at[at, _first(own) + at].add(shift)

    return jax.shard_map(shifted, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS))(rows)


@partial(jax.jit, static_argnums=0)
def _diagonal(mesh: Mesh, rows: jax.Array) -> jax.Array:
    def diagonal(own: jax.Array) -> jax.Array:
        at = jnp.arange(own.shape[0])
        return own[at, _first(own) + at]

    return _on_all(mesh, jax.shard_map(diagonal, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS))(rows))


@partial(jax.jit, static_argnums=0)
def _product(mesh: Mesh, rows: jax.Array, rhs: jax.Array) -> jax.Array:
    multiply = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(P(AXIS), P()), out_specs=P(AXIS))
    return _on_all(mesh, multiply(rows, rhs))


@partial(jax.jit, static_argnums=(0, 1))
def _block_of(mesh: Mesh, size: int, rows: jax.Array, k: int) -> jax.Array:
    take = jax.shard_map(lambda own, k: _shared(own, size, k)[0], mesh=mesh, in_specs=(P(AXIS), P()), out_specs=P())
    return take(rows, k)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _eliminate(mesh: Mesh, size: int, rows: jax.Array, k: int) -> jax.Array:
    """One step of Gauss-Jordan elimination, by block k."""

    def eliminate(own: jax.Array, k: int) -> jax.Array:
        block, mine, start = _shared(own, size, k)
        at = k * size
        pivot = invert_dense(jax.lax.dynamic_slice_in_dim(block, at, size, axis=1))
        # With identity in the pivot's place, both updates come out of one product.
        block = pivot @ jax.lax.dynamic_update_slice(block, jnp.eye(size, dtype=block.dtype), (0, at))
        column = jax.lax.dynamic_slice_in_dim(own, at, size, axis=1)
        own = jax.lax.dynamic_update_slice(own, jnp.zeros_like(column), (0, at)) - column @ block
        kept = jax.lax.dynamic_slice_in_dim(own, start, size)
        return jax.lax.dynamic_update_slice(own, jnp.where(mine, block, kept), (start, 0))

    return jax.shard_map(eliminate, mesh=mesh, in_specs=(P(AXIS), P()), out_specs=P(AXIS))(rows, k)


def _shared(own: jax.Array, size: int, k: int) -> tuple[jax.Array, jax.Array, int]:
    """Block k of the rows, sent to all devices; whether it is this device's; and where it starts there."""
    n_blocks = own.shape[0] // size
    mine, start = jax.lax.axis_index(AXIS) == k // n_blocks, k % n_blocks * size
    block = jax.lax.dynamic_slice_in_dim(own, start, size)
    return jax.lax.psum(jnp.where(mine, block, 0), AXIS), mine, start


def _first(own: jax.Array) -> jax.Array:
    """Place of the device's first row in the whole matrix."""
    return jax.lax.axis_index(AXIS) * own.shape[0]


def _on_all(mesh: Mesh, array: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, P()))
