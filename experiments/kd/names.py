"""Names of ways of distilling, as tables and flags have them, and the weights that are tried; needs no PyTorch."""

from collections.abc import Mapping

ALONE, FACTORISED, LISTED = "alone", "truncated SVD", "list softmax"
"""A student without a teacher, one without a training loop, and one that learns all items at once from lists."""
WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "soft targets": (0.1, 1.0), "RD": (0.1, 1.0), "CD": (0.1, 1.0), "RRD": (0.001, 0.01), "IR-RRD": (0.001, 0.01),
    "softmax": (0.1, 1.0), "FitNet": (0.003, 0.03), "DE": (0.003, 0.03), "FTD": (0.01, 0.1), "HTD": (0.01, 0.1),
    LISTED: (0.5, 0.8),
}  # fmt: skip
"""Of a method's loss beside a student's own, tried on validation; of lists their share, below 1, beside clicks."""
OF_VECTORS = ("FitNet", "DE", "FTD", "HTD")
"""Ways that compare vectors with the teacher's."""
EXPORTS = ("torch", "onnx")
"""What a student is exported for."""
