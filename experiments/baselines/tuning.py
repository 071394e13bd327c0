"""How a PyTorch model's parameters are chosen on validation clicks: one after the other, or the paper's whole grid."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillcf.fingerprint import split_fingerprint
from experiments.baselines.training import Trained
from experiments.record import plain, write_json
from infae import Interactions, Split
from infae.progress import bar

if TYPE_CHECKING:
    from experiments.models import Search

SMOKE_EPOCHS = 10
SEARCH_SEED = 0
WHOLE_GRID_CLICKS = 20_000
"""Data of at most so many clicks get the whole of table 3, where a training takes seconds."""
WHOLE_GRID_PATIENCE = 10
"""Looks at validation there, see `Trained`: on few clicks it rises, falls back to popularity's and rises again."""
TABLE_3: Mapping[str, Sequence[Any]] = {
    "learning_rate": (0.001, 0.006, 0.01),
    "n_factors": (4, 8, 16, 32, 50, 64, 128),
    "n_layers": (1, 2, 3),
    "dropout": (0.0, 0.3, 0.5),
}
"""The paper's grid for Magazine and ML-1M."""

Stages = Mapping[str, Sequence[Any]]
"""Parameter name -> values to try, in this order; the model's default is tried before any."""


def grid(*names: str) -> Stages:
    """Those parameters of `TABLE_3` that a model has."""
    return {name: TABLE_3[name] for name in names}


def choose(
    make: Callable[..., Trained],
    stages: Mapping[str, Stages],
    whole_grid: Stages,
    clicks: Interactions,
    split: Split,
    search: Search,
    **fixed: Any,
) -> tuple[Trained, dict[str, Any]]:
    """The best model found, and its parameters, with every training of the search under "tried".

    One parameter after the other takes each of its values, the others as they are best so far; under
    preset "paper", where clicks are `WHOLE_GRID_CLICKS` or fewer, every combination of the whole grid
    is tried. Searches have seed `SEARCH_SEED`; with the parameters found the model is trained by
    `search.seed`. It is one training, at the defaults, where `search.tune` is off, under preset
    "smoke" (of `SMOKE_EPOCHS`), and wherever clicks are fewer, or of fewer users, than the split's own,
    such as on summaries: these are many, and every one would have a search of its own.

    Args:
      make: the class.
      stages: preset -> what is tried; "smoke" tries nothing.
      whole_grid: all combinations of which are tried on small data.
      clicks: to train on.
      split: to choose by.
      search: preset, metric, seed, and the folder that keeps what was found.
      fixed: other parameters.
    """
    fixed = {**fixed, "metric": search.metric}
    if search.preset == "smoke":
        fixed["n_epochs"] = SMOKE_EPOCHS
    everything = clicks.n_users >= split.train.n_users and clicks.n_interactions >= split.train.n_interactions
    train = partial(_trained, make, clicks, split, search.progress)
    if not (everything and search.tune and stages[search.preset]):
        names = tuple(stages["paper"])
        model = train({**fixed, "seed": search.seed})
        return model, {**_row(model, names), "tried": [_row(model, names)]}
    if search.preset == "paper" and clicks.n_interactions <= WHOLE_GRID_CLICKS:
        names, fixed = tuple(whole_grid), {**fixed, "patience": WHOLE_GRID_PATIENCE}
        settings = {"grid": whole_grid, "fixed": fixed}
        searched = partial(_over_grid, train, whole_grid, fixed, make.__name__, search.progress)
    else:
        names = tuple(stages["paper"])
        settings = {"stages": stages[search.preset], "fixed": fixed}
        searched = partial(_by_stages, train, stages[search.preset], names, fixed, search.progress)
    memory = _Memory(search, split, make.__name__, plain(settings))
    tried = memory.read()
    if tried is None:
        best, tried = searched()
        memory.write(tried)
        if search.seed == SEARCH_SEED:
            return best, {**_row(best, names), "tried": tried}
    found = max(tried, key=lambda row: row[search.metric])
    model = train({**fixed, "seed": search.seed, **{name: found[name] for name in names}})
    return model, {**_row(model, names), "tried": tried}


def _by_stages(
    train: Callable[[dict[str, Any]], Trained],
    stages: Stages,
    names: Sequence[str],
    fixed: dict[str, Any],
    progress: bool,
) -> tuple[Trained, list[dict[str, Any]]]:
    fixed = {**fixed, "seed": SEARCH_SEED}
    best = train(fixed)
    tried = [_row(best, names)]
    for name, values in stages.items():
        chosen = {other: getattr(best, other) for other in names}
        others = [value for value in values if value != chosen[name]]
        for value in bar(f"{best.title}, {name}", progress, others):
            model = train({**fixed, **chosen, name: value})
            tried.append(_row(model, names))
            if reached(model) > reached(best):
                best = model
    return best, tried


def _over_grid(
    train: Callable[[dict[str, Any]], Trained], whole_grid: Stages, fixed: dict[str, Any], title: str, progress: bool
) -> tuple[Trained, list[dict[str, Any]]]:
    names, best, tried = tuple(whole_grid), None, []
    for values in bar(title, progress, [*itertools.product(*whole_grid.values())]):
        model = train({**fixed, "seed": SEARCH_SEED, **dict(zip(names, values, strict=True))})
        tried.append(_row(model, names))
        if best is None or reached(model) > reached(best):
            best = model
    assert best is not None
    return best, tried


class _Memory:
    """What a search tried, in a file of the shared folder; only for the same data, model, stages and settings."""

    def __init__(self, search: Search, split: Split, model: str, settings: dict[str, Any]):
        self._path: Path | None = None
        self._settings = settings
        if search.shared:
            name = f"{split_fingerprint(split)[:12]}_{model}_{search.preset}_{search.metric.replace('@', '')}.json"
            self._path = Path(search.shared) / name

    def read(self) -> list[dict[str, Any]] | None:
        if self._path is None or not self._path.exists():
            return None
        stored = json.loads(self._path.read_text(encoding="utf-8"))
        return stored["tried"] if stored["settings"] == self._settings else None

    def write(self, tried: list[dict[str, Any]]) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"settings": self._settings, "tried": tried})


def _trained(
    make: Callable[..., Trained], clicks: Interactions, split: Split, progress: bool, params: dict[str, Any]
) -> Trained:
    return make(**params).fit(clicks, split, progress=progress)


def _row(model: Trained, names: Iterable[str]) -> dict[str, Any]:
    chosen = {name: getattr(model, name) for name in names}
    return {**chosen, "epoch": model.epoch_, model.metric: reached(model)}


def reached(model: Trained) -> float:
    """The metric, on validation, of the state kept."""
    return model.path_[model.epoch_ - 1][model.metric]


def batch_of(n_examples: int, least: int, most: int) -> int:
    """A twentieth of the examples, where those are few: a summary has too few steps an epoch otherwise."""
    return int(np.clip(n_examples // 20, least, most))
