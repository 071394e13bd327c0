"""How a PyTorch model's parameters are chosen on validation clicks: one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.baselines.training import Trained
from infae import Interactions, Split
from infae.progress import bar

if TYPE_CHECKING:
    from experiments.models import Search

SMOKE_EPOCHS = 10

Stages = Mapping[str, Sequence[Any]]
"""Parameter name -> values to try, in this order; the model's default is tried before any."""


def choose_by_stages(
    make: Callable[..., Trained],
    stages: Mapping[str, Stages],
    clicks: Interactions,
    split: Split,
    search: Search,
    **fixed: Any,
) -> tuple[Trained, dict[str, Any]]:
    """The best model found, and its parameters, with every training under "tried".

    One parameter after the other takes each of its values, the others as they are best so far. It
    is one training, at the defaults, under preset "smoke" (of `SMOKE_EPOCHS`), and wherever clicks
    are fewer, or of fewer users, than the split's own, such as on summaries: these are many, and
    every one would have a search of its own.

    Args:
      make: the class.
      stages: preset -> what is tried; "smoke" tries nothing. Those of "paper" are what is told of a training.
      clicks: to train on.
      split: to choose by.
      search: preset, metric and seed.
      fixed: other parameters.
    """
    fixed = {**fixed, "metric": search.metric, "seed": search.seed}
    if search.preset == "smoke":
        fixed["n_epochs"] = SMOKE_EPOCHS
    whole = clicks.n_users >= split.train.n_users and clicks.n_interactions >= split.train.n_interactions
    best = _trained(make, {}, fixed, clicks, split, search)
    names = tuple(stages["paper"])
    tried = [_row(best, names)]
    for name, values in stages[search.preset].items() if whole else ():
        chosen = {other: getattr(best, other) for other in names}
        others = [value for value in values if value != chosen[name]]
        for value in bar(f"{best.title}, {name}", search.progress, others):
            model = _trained(make, {**chosen, name: value}, fixed, clicks, split, search)
            tried.append(_row(model, names))
            if reached(model) > reached(best):
                best = model
    return best, {**_row(best, names), "tried": tried}


def _trained(
    make: Callable[..., Trained],
    chosen: Mapping[str, Any],
    fixed: Mapping[str, Any],
    clicks: Interactions,
    split: Split,
    search: Search,
) -> Trained:
    return make(**{**fixed, **chosen}).fit(clicks, split, progress=search.progress)


def _row(model: Trained, names: Sequence[str]) -> dict[str, Any]:
    chosen = {name: getattr(model, name) for name in names}
    return {**chosen, "epoch": model.epoch_, model.metric: reached(model)}


def reached(model: Trained) -> float:
    """The metric, on validation, of the state kept."""
    return model.path_[model.epoch_ - 1][model.metric]


def batch_of(n_examples: int, least: int, most: int) -> int:
    """A twentieth of the examples, where those are few: a summary has too few steps an epoch otherwise."""
    return int(np.clip(n_examples // 20, least, most))
