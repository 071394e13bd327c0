"""Kernel ridge regression of any number of users on m landmark users (Nyström): its running sums over users.

With K_mm the landmarks' kernel, and K_nm that of all n users with them, the function of the
landmarks of least penalised squared error has the coefficients

    coef = (K_nm' K_nm + ridge * K_mm)^-1 K_nm' X

(Rudi, Carratino and Rosasco 2017, Eq. 8). Here it is ridge regression on the m features
phi = K_nm W with W W' = K_mm^-1, whose equations have the kernel's own condition number instead
of its square, and are definite however the products are rounded:

    coef = W (phi' phi + ridge * I)^-1 phi' X

Both products are sums over users, to which blocks of users are added one after another: nothing
of n_users x n_users or n_users x n_items is ever held. The sums are kept in float64, block
products made in the model's dtype.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.errors import SingularKernelError
from infae.inputs import InputMap
from infae.kernels.base import Kernel
from infae.kernels.grams import cross_gram, kernel_diagonal, symmetric_gram
from infae.kernels.rows import Rows
from infae.linalg.head_tail import HeadTail, popular
from infae.linalg.tiles import SymmetricTiles, precision, tile_size
from infae.runtime.memory import require_memory
from infae.runtime.mesh import UserMesh, on

# Of K_mm's mean diagonal, added to it. W enlarges the rounding errors of a user's kernel by up to
# the root of its inverse: to 1e-4 of the kernel's own scale in float32, 1e-9 in float64.
_JITTER = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-13}
# Of the (users, landmarks) kernel of one block of users.
_BLOCK_BYTES = 1 << 28


Pair = tuple[sp.csr_matrix, sp.csr_matrix]
"""(clicks, targets) of some users."""


@dataclass(frozen=True, eq=False)
class LandmarkSums:
    """What kernel ridge regression on landmarks needs to know of any number of users; sums of two are added."""

    square: SymmetricTiles  # (m, m) phi' phi, in float64
    right: np.ndarray  # (n_items, m) X' phi, in float64
    n_users: int
    diagonal: float  # sum over users of kernel(x, x)

    def __add__(self, other: Self) -> Self:
        with precision(np.float64):
            tiles = {ij: tile + other.square.tiles[ij] for ij, tile in self.square.tiles.items()}
        n_users, diagonal = self.n_users + other.n_users, self.diagonal + other.diagonal
        return type(self)(replace(self.square, tiles=tiles), self.right + other.right, n_users, diagonal)


def block_users(n_landmarks: int) -> int:
    """Users to add at a time: a multiple of 512, with a kernel of at most 256 MiB in float32."""
    return 512 * int(np.clip(_BLOCK_BYTES // (4 * 512 * n_landmarks), 1, 32))


def required_bytes(n_landmarks: int, n_items: int, itemsize: int = 4, n_devices: int = 1) -> int:
    """Peak memory of the sums and of a solve: what `accumulate` and `solve_landmarks` hold at once.

    The sums and their solution over items in float64 with the model's own copy, six (m, m)
    matrices in float64, and a block's kernel and features twice; for each further device its sums,
    its map to features and a block more.
    """
    m = n_landmarks
    block, square = 4 * itemsize * block_users(m) * m, 8 * m * m
    share = square // 2 + itemsize * m * m + block
    return (16 + itemsize) * m * n_items + 6 * square + block + (n_devices - 1) * share


@dataclass(frozen=True, eq=False)
class Whitening:
    """K_mm + jitter I = root root', and W, the transposed inverse of root; both (m, m) in float64.

    The jitter keeps W bounded where landmarks nearly equal each other.
    """

    root: jax.Array
    inverse_root: jax.Array


def whitening(kernel: Kernel, landmarks: sp.csr_matrix, dtype: np.dtype) -> Whitening:
    """Of the landmarks' input rows, given in float64, for features that are computed in `dtype`.

    2 m^3 operations. Raises SingularKernelError where the kernel is not positive definite.
    """
    with precision(np.float64):
        gram = jnp.asarray(symmetric_gram(kernel, Rows(landmarks, np.float64)).to_dense())
        root = jnp.linalg.cholesky(gram + _JITTER[np.dtype(dtype)] * jnp.mean(jnp.diagonal(gram)) * jnp.eye(len(gram)))
        if not jnp.isfinite(root).all():
            raise SingularKernelError("the landmarks' kernel is not positive definite; is the kernel a kernel?")
        eye = jnp.eye(len(gram), dtype=root.dtype)
        return Whitening(root, jax.scipy.linalg.solve_triangular(root, eye, lower=True).T)


def accumulate(
    kernel: Kernel,
    landmarks: Rows,
    white: Whitening,
    inputs: InputMap,
    blocks: Iterable[Pair],
    n_items: int,
    *,
    mesh: UserMesh | None = None,
    progress: Callable[[int], None] | None = None,
) -> LandmarkSums:
    """The sums over all users of all blocks, those of all the mesh's processes.

    A user costs 3 m^2 + 2 m h + 2 m c operations beside the kernel's own, for h popular items,
    which are multiplied densely, and c clicks on others. Each block, of any number of users, is
    shared out to the mesh's devices. Each keeps its own phi' phi, each process its X' phi; they
    are added up once, at the end. `progress` is called with the number of users added.

    Raises MemoryError before starting where the sums do not fit.
    """
    mesh = mesh or UserMesh(None)
    m, dtype, n_devices = landmarks.n, landmarks.head.dtype, len(mesh.devices)
    right, head = np.zeros((n_items, m)), None
    n_users, diagonal = 0, 0.0
    with mesh.together():
        needed = required_bytes(m, n_items, dtype.itemsize, n_devices)
        require_memory(needed, f"sums over {m:,} landmarks x {n_items:,} items")
        height = block_users(m)
        shares = [_Share(kernel, landmarks, white, device) for device in mesh.devices]
        for clicks, targets in _even(blocks, height * n_devices):
            if not n_users:
                # Fewer users than that are all in the first block.
                height = min(height, 512 * -(-clicks.shape[0] // (512 * n_devices)))
            # The head is chosen once, so that one compilation serves all blocks.
            head = popular(sp.csc_matrix(targets)) if head is None else head
            cuts = np.linspace(0, clicks.shape[0], n_devices + 1).astype(int)
            parts = [(share, slice(*cut)) for share, cut in zip(shares, pairwise(cuts), strict=True) if cut[0] < cut[1]]
            # Work on all devices is begun before any result is waited for.
            features = [share.add(landmarks.like(inputs(clicks[own], dtype)), height) for share, own in parts]
            for (share, own), phi in zip(parts, features, strict=True):
                with on(share.device), precision(dtype):
                    HeadTail(targets[own], dtype, head=head, height=height).add_to(right, phi, m)
            n_users += clicks.shape[0]
            if progress is not None:
                jax.block_until_ready([share.tiles for share in shares])
                progress(clicks.shape[0])
        diagonal = sum(share.diagonal for share in shares)
    counts = np.sum([own for (own,) in mesh.exchange(np.array([n_users, diagonal]))], axis=0)
    n_users, diagonal = int(counts[0]), float(counts[1])
    if not n_users:
        raise ValueError("no users: there is nothing to fit")
    with precision(np.float64):
        tiles = {ij: mesh.total([share.tiles[ij] for share in shares]) for ij in shares[0].tiles}
        square = SymmetricTiles.build(m, tile_size(m), tiles.items())
        return LandmarkSums(square, mesh.total_of_processes(right), n_users, diagonal)


class _Share:
    """What one device adds up over its users: phi' phi, and kernel(x, x)."""

    def __init__(self, kernel: Kernel, landmarks: Rows, white: Whitening, device: jax.Device | None):
        self.device, self.diagonal = device, 0.0
        self._kernel, self._landmarks = kernel, landmarks if device is None else landmarks.copy()
        self._size = tile_size(landmarks.n)
        shape, n_tiles = (self._size, self._size), -(-landmarks.n // self._size)
        with on(device), precision(np.float64):
            self.tiles = {(i, j): jnp.zeros(shape, jnp.float64) for i in range(n_tiles) for j in range(i + 1)}
        with on(device), precision(landmarks.head.dtype):
            self._to_features = _padded_square(white.inverse_root, n_tiles * self._size, landmarks.head.dtype)

    def add(self, rows: Rows, height: int) -> jax.Array:
        """Their (height, padded m) features; the device is still at work on them and on the sums."""
        size = self._size
        with on(self.device):
            self.diagonal += float(np.sum(kernel_diagonal(self._kernel, rows), dtype=np.float64))
            with precision(rows.head.dtype):
                parts = [block for _, block in cross_gram(self._kernel, rows, self._landmarks)]
                features = _product(_masked(parts, rows.n, self._landmarks.n, height), self._to_features)
                columns = [features[:, i * size : (i + 1) * size] for i in range(features.shape[1] // size)]
            with precision(np.float64):
                for i, j in self.tiles:
                    self.tiles[i, j] = _add_square(self.tiles[i, j], columns[i], columns[j])
        return features


def _even(blocks: Iterable[Pair], height: int) -> Iterator[Pair]:
    """The same users in blocks of `height`, the last of fewer."""
    waiting, n_waiting = list[Pair](), 0
    for clicks, targets in blocks:
        for start in range(0, clicks.shape[0], height):
            waiting.append((clicks[start : start + height], targets[start : start + height]))
            n_waiting += waiting[-1][0].shape[0]
            if n_waiting >= height:
                both = _stacked(waiting)
                yield both[0][:height], both[1][:height]
                waiting, n_waiting = [(both[0][height:], both[1][height:])], n_waiting - height
    if n_waiting:
        yield _stacked(waiting)


def _stacked(parts: list[Pair]) -> Pair:
    if len(parts) == 1:
        return parts[0]
    clicks, targets = (sp.csr_matrix(sp.vstack(side)) for side in zip(*parts, strict=True))
    return clicks, targets


@partial(jax.jit, static_argnums=(2, 3))
def _masked(parts: list[jax.Array], n_rows: jax.Array, n_columns: int, height: int) -> jax.Array:
    """(height, padded m) kernel of a block of users with the landmarks; 0 in the padding of either side."""
    whole = jnp.concatenate(parts)
    whole = jnp.pad(whole, [(0, max(0, height - whole.shape[0])), (0, 0)])[:height]
    inside = (jnp.arange(height)[:, None] < n_rows) & (jnp.arange(whole.shape[1])[None, :] < n_columns)
    return jnp.where(inside, whole, 0)


_add_square = jax.jit(lambda total, a, b: total + (a.T @ b).astype(total.dtype), donate_argnums=0)
_product = jax.jit(jnp.matmul)


@partial(jax.jit, static_argnums=(1, 2))
def _padded_square(matrix: jax.Array, n: int, dtype: np.dtype) -> jax.Array:
    return jnp.pad(matrix, [(0, n - matrix.shape[0])] * 2).astype(dtype)
