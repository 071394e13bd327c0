"""Neural tangent kernels: a fused closed form for ReLU networks, and neural-tangents for the rest.

`infae.kernels.stax` (any architecture) loads neural-tangents and is imported on its own.
"""

from infae.kernels.gram import DotProductKernel, Kernel, gram
from infae.kernels.relu import ReluNTK, relu_ntk

__all__ = ["DotProductKernel", "Kernel", "ReluNTK", "gram", "relu_ntk"]
