"""Rows by queries: data-free model extraction (Yue et al., RecSys 2021), as it carries over to click-through models.

Theirs grows sequences: the next item is drawn from what the victim ranks highest, so that synthetic users look like the
victim's. A click-through model has no sequences. Decided here: a row is a random user with the item that is drawn, by
the victim's softmax over `n_candidates` random items (what it would recommend), or, for every other row, a random item
(what it would not); its label is the victim's probability. All other fields are drawn uniformly.
"""

import numpy as np

from experiments.ctr.models import Model
from experiments.ctr.rows import Rows
from experiments.ctr.train import labelled, logits
from experiments.inversion import drawn
from infae.runtime import checks
from infae.runtime.memory import require_memory


def synthesise(model: Model, n_rows: int, seed: int = 0, *, item: str = "item", n_candidates: int = 20) -> Rows:
    """Rows of known values, one a field, with the model's probabilities as labels.

    Args:
      model: a trained model of category fields; it is put into evaluation mode.
      n_rows: how many.
      seed: of what is drawn.
      item: the field that is chosen by the model.
      n_candidates: values among which it chooses.

    Raises as `drawn.synthesise`; ValueError also for a field that there is none of.
    """
    n_rows, n_candidates = checks.whole("n_rows", n_rows), checks.whole("n_candidates", n_candidates, 2)
    at = model.fields.position(item)
    require_memory(24 * n_rows * n_candidates * len(model.sizes), f"{n_rows:,} queried rows")
    rows = drawn.synthesise(model, n_rows, seed)
    rng = np.random.default_rng([checks.seed("seed", seed), 1])
    candidates = rng.integers(1, model.sizes[at], (n_rows, n_candidates))
    asked = [np.repeat(value, n_candidates) for value in rows.values]
    asked[at] = candidates.ravel()
    scores = logits(model, Rows(model.fields, tuple(asked))).reshape(n_rows, n_candidates)
    # The largest of scores with Gumbel noise is a draw by their softmax.
    drawn_by_model = candidates[np.arange(n_rows), (scores + rng.gumbel(size=scores.shape)).argmax(1)]
    values = list(rows.values)
    values[at] = np.where(np.arange(n_rows) % 2 == 0, drawn_by_model, values[at])
    return labelled(model, Rows(model.fields, tuple(values)))
