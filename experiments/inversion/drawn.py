"""Rows drawn at random and labelled by the model: what a synthesis has to beat."""

import numpy as np

from experiments.ctr.models import Model
from experiments.ctr.rows import Rows, Values
from experiments.ctr.train import labelled
from infae.runtime import checks
from infae.runtime.memory import require_memory

KINDS = ("one-hot", "mixture")


def synthesise(model: Model, n_rows: int, seed: int = 0, *, kind: str = "one-hot") -> Rows:
    """Rows with the model's probabilities as labels.

    Args:
      model: a trained model; it is put into evaluation mode.
      n_rows: how many.
      seed: of what is drawn.
      kind: "one-hot": of each field one known value, all as likely; "mixture": shares of known values, drawn
        uniformly from the simplex (a flat Dirichlet distribution), which is where Algorithm 1 begins, up to a softmax.

    Raises:
      ValueError: bad arguments, or a field of numbers that are no shares.
      FloatingPointError: the model's logits are NaN or infinite.
      MemoryError: so many rows do not fit.
    """
    n_rows, rng = checks.whole("n_rows", n_rows), checks.generator(seed)
    mixed = checks.choice("kind", kind, KINDS) == "mixture"
    if other := [field.name for field in model.fields if not field.on_simplex]:
        raise ValueError(f"rows are drawn of shares of values, which a number is not, got {', '.join(other)}")
    require_memory(12 * n_rows * (sum(model.sizes) if mixed else len(model.sizes)), f"{n_rows:,} drawn rows")
    values: tuple[Values, ...] = tuple(
        _flat(n_rows, size - 1, rng) if mixed else rng.integers(1, size, n_rows) for size in model.sizes
    )
    return labelled(model, Rows(model.fields, values))


def _flat(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    weights = rng.standard_exponential((n, size), np.float32)
    return np.pad(weights / weights.sum(1, keepdims=True), ((0, 0), (1, 0)))
