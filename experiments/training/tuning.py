"""How a PyTorch model's parameters are chosen on validation clicks: one after the other, or the paper's whole grid."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.study.record import plain, write_json
from experiments.training.trainer import Trained
from infae import Interactions, Split
from infae.data.fingerprint import split_fingerprint
from infae.runtime.progress import bar

if TYPE_CHECKING:
    from experiments.recommenders.registry import Search

SMOKE_EPOCHS = 10
SEARCH_SEED = 0
WHOLE_GRID_CLICKS = 20_000
"""Data of at most so many clicks get a model's whole grid, where a training takes seconds."""
WHOLE_GRID_PATIENCE = 10
"""Looks at validation there, see `Trained`: on few clicks it rises, falls back to popularity's and rises again."""
TABLE_3: Mapping[str, Sequence[Any]] = {
    "learning_rate": (0.001, 0.006, 0.01),
    "n_factors": (4, 8, 16, 32, 50, 64, 128),
    "n_layers": (1, 2, 3),
    "dropout": (0.0, 0.3, 0.5),
}
"""The paper's grid, its learning rates those of Magazine and ML-1M."""

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
    is tried, with more patience. Searches have seed `SEARCH_SEED`; with the parameters found the model
    is trained by `search.seed`. It is one training, at the defaults, where `search.tune` is off, under
    preset "smoke" (of `SMOKE_EPOCHS`), and wherever clicks are fewer, or of fewer users, than the
    split's own, such as on summaries: these are many, and every one would have a search of its own.

    A search that was stopped goes on at its next training, where there is a shared folder.

    Args:
      make: the class.
      stages: preset -> what is tried; "smoke" tries nothing. The names of "paper" are told of a training.
      whole_grid: all combinations of which are tried on small data.
      clicks: to train on.
      split: to choose by.
      search: preset, metric, seed, and the folder that keeps what was found.
      fixed: other parameters.
    """
    fixed = {**fixed, "metric": search.metric}
    if search.preset == "smoke":
        fixed["n_epochs"] = SMOKE_EPOCHS
    train = partial(_trained, make, clicks, split, search.progress)
    all_clicks = clicks.n_users >= split.train.n_users and clicks.n_interactions >= split.train.n_interactions
    if not (all_clicks and search.tune and stages[search.preset]):
        model = train({**fixed, "seed": search.seed})
        row = _row(model, stages["paper"])
        return model, {**row, "tried": [row]}
    if search.preset == "paper" and clicks.n_interactions <= WHOLE_GRID_CLICKS:
        names, fixed = tuple(whole_grid), {**fixed, "patience": WHOLE_GRID_PATIENCE}
        settings, searched = {"grid": whole_grid}, partial(_over_grid, whole_grid)
    else:
        names = tuple(stages["paper"])
        settings, searched = {"stages": stages[search.preset]}, partial(_by_stages, stages[search.preset])
    memory = _Memory(search, split, make.__name__, plain({**settings, "fixed": fixed}))
    tried = _Tried(lambda params: train({**fixed, **params, "seed": SEARCH_SEED}), names, search.metric, memory)
    searched(tried, search.progress)
    best = tried.best_model
    if best is None or search.seed != SEARCH_SEED:
        best = train({**fixed, **{name: tried.best[name] for name in names}, "seed": search.seed})
    return best, {**_row(best, names), "tried": tried.rows}


def _by_stages(stages: Stages, tried: _Tried, progress: bool) -> None:
    tried({})
    for name, values in stages.items():
        chosen = {other: tried.best[other] for other in tried.names}
        others = [value for value in values if value != chosen[name]]
        for value in bar(name, progress, others):
            tried({**chosen, name: value})


def _over_grid(whole_grid: Stages, tried: _Tried, progress: bool) -> None:
    for values in bar("table 3", progress, [*itertools.product(*whole_grid.values())]):
        tried(dict(zip(whole_grid, values, strict=True)))


class _Tried:
    """The trainings of a search in their order; those that memory has are not made again.

    Attributes:
      rows: of each its parameters by `names`, its epoch and its value of the metric.
      best: the row of the largest value.
      best_model: it, where it was not taken from memory.
    """

    def __init__(self, train: Callable[[dict[str, Any]], Trained], names: Sequence[str], metric: str, memory: _Memory):
        self.names = names
        self.rows: list[dict[str, Any]] = []
        self.best_model: Trained | None = None
        self._train, self._metric, self._memory, self._known = train, metric, memory, memory.read()

    @property
    def best(self) -> dict[str, Any]:
        return max(self.rows, key=lambda row: row[self._metric])

    def __call__(self, params: dict[str, Any]) -> None:
        # A search takes the same way each time, so that what memory has is how it began.
        if len(self.rows) < len(self._known):
            self.rows.append(self._known[len(self.rows)])
            return
        model = self._train(params)
        self.rows.append(_row(model, self.names))
        self._memory.write(self.rows)
        if self.best is self.rows[-1]:
            self.best_model = model


class _Memory:
    """What a search tried so far, in a file of the shared folder; only for the same data, model, grid and settings."""

    def __init__(self, search: Search, split: Split, model: str, settings: dict[str, Any]):
        self._path: Path | None = None
        self._settings = settings
        if search.shared:
            name = f"{split_fingerprint(split)[:12]}_{model}_{search.preset}_{search.metric.replace('@', '')}.json"
            self._path = Path(search.shared) / name

    def read(self) -> list[dict[str, Any]]:
        if self._path is None or not self._path.exists():
            return []
        stored = json.loads(self._path.read_text(encoding="utf-8"))
        return stored["tried"] if stored["settings"] == self._settings else []

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
