"""Users shared out to the devices of a JAX mesh, of one process or of several that JAX's runtime has joined."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from infae.data.interactions import Interactions

AXIS = "users"
# Of a host array that is added up over processes on their devices, at a time.
_STRIP_BYTES = 1 << 26


class UserMesh:
    """The devices that users are shared out to, and what their processes tell each other.

    Every process calls the same methods in the same order; each waits for the others. Raises ValueError
    for anything but a mesh of one axis, with a device of this process, or None, JAX's default device alone.
    """

    def __init__(self, mesh: Mesh | None):
        self.mesh: Mesh | None = None  # the same devices with the axis "users"
        self.devices: list[jax.Device | None] = [None]  # of this process; None stands for the default device
        self.n_processes, self.rank = 1, 0  # that the devices belong to, and this one's place among them
        if mesh is None:
            return
        if not isinstance(mesh, Mesh) or mesh.devices.ndim != 1:
            got = f"axes {mesh.axis_names}" if isinstance(mesh, Mesh) else type(mesh).__name__
            raise ValueError(
                f"mesh must be a jax.sharding.Mesh with one axis, over which users are shared out, got {got}; "
                "make one by jax.make_mesh((jax.device_count(),), ('users',))"
            )
        # Anew, since an axis of type Explicit would want every array's sharding spelt out.
        self.mesh = Mesh(mesh.devices, (AXIS,))
        self.devices = list(self.mesh.local_devices)
        if not self.devices:
            raise ValueError(f"the mesh has no device of this process ({jax.process_index()})")
        leaders = {device.process_index: device for device in reversed(self.mesh.devices.tolist())}
        self.n_processes, self.rank = len(leaders), sorted(leaders).index(jax.process_index())
        self._leaders = Mesh(np.array([leaders[i] for i in sorted(leaders)]), (AXIS,))

    def exchange(self, *arrays: np.ndarray) -> list[list[np.ndarray]]:
        """The arrays of each process, in the order of the processes; shapes may differ between them."""
        if self.n_processes == 1:
            return [list(arrays)]
        file = io.BytesIO()
        np.savez(file, *arrays)
        message = np.frombuffer(file.getbuffer(), np.uint8)
        sizes = self._gathered(np.array([message.size])).ravel()
        messages = self._gathered(np.pad(message, (0, sizes.max() - message.size)))
        received = [np.load(io.BytesIO(m[:size].tobytes())) for m, size in zip(messages, sizes, strict=True)]
        return [[fields[name] for name in fields.files] for fields in received]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A step that all processes finish, or none: where one raises, the others raise RuntimeError with its message.

        The step itself exchanges nothing, or those still in it would wait for one that has left.
        """
        error = None
        try:
            yield
        except Exception as raised:
            error = raised
        said = "" if error is None else f"{type(error).__name__}: {error}"
        failures = [str(message) for ((message,),) in zip(self.exchange(np.array(said)), strict=True)]
        if error is not None:
            raise error
        for rank, failure in enumerate(failures):
            if failure:
                raise RuntimeError(f"process {rank} failed: {failure}")

    def require_same(self, what: str, array: np.ndarray) -> None:
        """ValueError, on every process, where they hold different arrays."""
        (first,), *others = self.exchange(array)
        for rank, (other,) in enumerate(others, 1):
            if not np.array_equal(first, other):
                raise ValueError(f"processes 0 and {rank} were given different {what}; all processes need the same")

    def all_users(self, users: Interactions) -> Interactions:
        """The users of all processes, in the order of the processes."""
        return Interactions.trusted(self.all_rows(users.matrix), self.all_rows(users.user_ids), users.item_ids)

    def all_rows(self, rows: Any) -> Any:
        """The rows of all processes, stacked in their order: an array or a CSR matrix, as `rows` is."""
        if self.n_processes == 1:
            return rows
        if not sp.issparse(rows):
            return np.concatenate([part for (part,) in self.exchange(rows)])
        parts = self.exchange(rows.data, rows.indices, rows.indptr)
        return sp.csr_matrix(sp.vstack([sp.csr_matrix(tuple(csr), (csr[2].size - 1, rows.shape[1])) for csr in parts]))

    def total(self, parts: Sequence[jax.Array]) -> jax.Array:
        """Sum over the devices of all processes; `parts` are one array for each of `devices`."""
        return parts[0] if self.mesh is None else _total(self.mesh, parts)

    def total_of_processes(self, array: np.ndarray) -> np.ndarray:
        """Sum over the processes of an array in host memory, in whose place it is written."""
        if self.n_processes > 1:
            height = max(1, _STRIP_BYTES * len(array) // max(1, array.nbytes))
            for start in range(0, len(array), height):
                strip = array[start : start + height]
                strip[:] = _total(self._leaders, [strip])
        return array

    def _gathered(self, row: np.ndarray) -> np.ndarray:
        """(n_processes, k) from each one's (k,)."""
        with jax.enable_x64(True):
            return np.asarray(_replicated(self._leaders, _sharded(self._leaders, [row])))


def on(device: jax.Device | None) -> contextlib.AbstractContextManager[None]:
    """A context in which JAX makes arrays on this device; None leaves its default as it is."""
    return contextlib.nullcontext() if device is None else jax.default_device(device)


def _sharded(mesh: Mesh, parts: Sequence[jax.Array | np.ndarray]) -> jax.Array:
    """One array for each local device, stacked along a new first axis that is sharded."""
    shards = [jax.device_put(part, device)[None] for part, device in zip(parts, mesh.local_devices, strict=True)]
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.make_array_from_single_device_arrays((mesh.size, *parts[0].shape), sharding, shards)


def _total(mesh: Mesh, parts: Sequence[jax.Array | np.ndarray]) -> jax.Array:
    return _summed(mesh, _sharded(mesh, parts)).addressable_data(0)


@partial(jax.jit, static_argnums=0)
def _summed(mesh: Mesh, stacked: jax.Array) -> jax.Array:
    add = jax.shard_map(lambda part: jax.lax.psum(part[0], AXIS), mesh=mesh, in_specs=P(AXIS), out_specs=P())
    return add(stacked)


@partial(jax.jit, static_argnums=0)
def _replicated(mesh: Mesh, stacked: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(stacked, NamedSharding(mesh, P()))
