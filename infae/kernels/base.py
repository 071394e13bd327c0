"""What a kernel is."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

Kernel = Callable[..., jax.Array]
"""`kernel(x1, x2) -> (n1, n2)` on dense rows, with x2 None for x1 itself."""


@runtime_checkable
class DotProductKernel(Protocol):
    """A kernel that needs no more of two rows than their inner product and their lengths.

    Such a kernel is computed from sparse products; any other callable is given dense rows.
    Instances must be hashable, since the kernel is a static argument of compiled code. It is
    called, as other kernels are, on dense rows.
    """

    def __call__(self, x1: Any, x2: Any = None) -> jax.Array: ...

    def from_products(
        self, products: jax.Array, sq1: jax.Array, sq2: jax.Array, n_inputs: int, *, diagonal: bool = False
    ) -> jax.Array: ...
