"""Neural tangent kernels: a fused closed form for ReLU networks, and neural-tangents for the rest."""

import importlib
from typing import Any

from infae.kernels.base import DotProductKernel, Kernel
from infae.kernels.grams import gram
from infae.kernels.linear import Linear
from infae.kernels.relu import ReluNTK, relu_ntk

__all__ = ["DotProductKernel", "Kernel", "Linear", "ReluNTK", "gram", "relu_ntk", "stax"]


def __getattr__(name: str) -> Any:
    if name == "stax":  # loads neural-tangents, which most callers never need
        return importlib.import_module("infae.kernels.stax")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
