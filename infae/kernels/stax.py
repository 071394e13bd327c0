"""Kernels of any architecture that neural-tangents can express.

`neural_tangents` 0.6.5 cannot be imported under current JAX: its `__init__` loads a TensorFlow
bridge and names that JAX has removed. Its `stax` submodule needs neither, so it is loaded from
a bare parent module that has the package's path and none of its code. No other file of this
project names the package.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

import jax


def _load_stax() -> Any:
    if "neural_tangents" not in sys.modules:
        spec = importlib.util.find_spec("neural_tangents")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("neural-tangents is not installed; pip install neural-tangents")
        bare = types.ModuleType("neural_tangents")
        bare.__path__ = list(spec.submodule_search_locations)
        bare.__spec__ = spec
        sys.modules["neural_tangents"] = bare
    return importlib.import_module("neural_tangents.stax")


stax: Any = _load_stax()
"""neural-tangents' `stax`: `serial`, `Dense`, `Relu`, `Erf`, `LayerNorm`, ..."""


def ntk_kernel(kernel_fn: Callable[..., Any], get: str = "ntk") -> Callable[..., jax.Array]:
    """A kernel for `infae.fit(kernel=...)` from a `stax` kernel function.

    Args:
      kernel_fn: the third member of what `stax.serial(...)` and its kin return, for inputs of
        shape (n, d): as many rows as users, as many columns as items.
      get: "ntk" (a trained network) or "nngp" (a Gaussian process, only the last layer trained).

    Returns:
      `kernel(x1, x2=None) -> (n1, n2)`, compiled.
    """
    if get not in ("ntk", "nngp"):
        raise ValueError(f"get must be 'ntk' or 'nngp', got {get!r}")
    return jax.jit(lambda x1, x2=None: kernel_fn(x1, x2, get))


def fully_connected(depth: int = 1, w_std: float = 2**0.5, b_std: float = 0.1) -> Callable[..., jax.Array]:
    """The published architecture by neural-tangents: `depth` hidden ReLU layers and a linear read-out.

    `infae.kernels.relu_ntk` gives the same values faster.
    """
    # In an infinite network the stated widths have no effect.
    hidden = [stax.Dense(1, W_std=w_std, b_std=b_std), stax.Relu()]
    _, _, kernel_fn = stax.serial(*(hidden * depth), stax.Dense(1, W_std=w_std, b_std=b_std))
    return ntk_kernel(kernel_fn)
