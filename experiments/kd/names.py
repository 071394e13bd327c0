"""Names of ways of distilling, as tables and flags have them, and the weights that are tried; needs no PyTorch."""

from collections.abc import Mapping

ALONE, FACTORISED = "alone", "truncated SVD"
"""A student without a teacher, and one without a training loop."""
WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "soft targets": (0.1, 1.0), "RD": (0.1, 1.0), "CD": (0.1, 1.0), "RRD": (0.001, 0.01), "IR-RRD": (0.001, 0.01),
    "softmax": (0.1, 1.0), "FitNet": (0.003, 0.03), "DE": (0.003, 0.03), "FTD": (0.003, 0.03), "HTD": (0.003, 0.03),
}  # fmt: skip
"""Of a method's loss, tried on validation."""
OF_VECTORS = ("FitNet", "DE", "FTD", "HTD")
"""Ways that compare vectors with the teacher's."""
EXPORTS = ("torch", "onnx")
"""What a student is exported for."""
