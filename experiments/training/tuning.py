"""How a PyTorch model's parameters are chosen on validation clicks: one after the other, or the paper's whole grid."""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from experiments.recommenders.registry import Search
from experiments.recommenders.trained import Trained
from experiments.study.record import plain
from infae import Interactions, Split
from infae.data.fingerprint import clicks_fingerprint, split_fingerprint
from infae.runtime.progress import bar

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

M = TypeVar("M")
Report = Callable[[int, float], None]
Train = Callable[..., tuple[M, dict[str, Any]]]
"""(parameters, report=None) -> a model, and what is told of it: its value of the metric, and what training settled."""


def grid(*names: str) -> Stages:
    """Those parameters of `TABLE_3` that a model has."""
    return {name: TABLE_3[name] for name in names}


def choose(
    make: type[Trained], stages: Mapping[str, Stages], whole_grid: Stages,
    clicks: Interactions, split: Split, search: Search, **fixed: Any,
) -> tuple[Trained, dict[str, Any]]:  # fmt: skip
    """The best model of a class found, and its parameters, with every training of the search under "tried".

    One parameter after the other takes each of its values in `stages[search.preset]`, the others as they are best so
    far. Under preset "paper", where clicks are `WHOLE_GRID_CLICKS` or fewer, every combination of `whole_grid`
    is tried, with more patience; with `search.n_trials` so many of them, by TPE. Searches have seed
    `SEARCH_SEED`; with the parameters found the model is trained by `search.seed`. It is one training,
    at the defaults, where `search.tune` is off, under preset "smoke" (of `SMOKE_EPOCHS`), and wherever
    clicks are fewer, or of fewer users, than the split's own, such as on summaries: these are many, and
    every one would have a search of its own. A row of "tried" has the names of `stages["paper"]`.
    """
    fixed["metric"] = search.metric
    if search.preset == "smoke":
        fixed["n_epochs"] = SMOKE_EPOCHS

    def train(params: dict[str, Any], report: Report | None = None) -> tuple[Trained, dict[str, Any]]:
        model = make(**{**fixed, "seed": SEARCH_SEED, **params})
        model.fit(clicks, split, progress=search.progress, report=report)
        return model, {"epoch": model.epoch_, search.metric: model.path_[model.epoch_ - 1][search.metric]}

    few = clicks.n_users < split.train.n_users or clicks.n_interactions < split.train.n_interactions
    if few or not (search.tune and stages[search.preset]):
        model, told = train({"seed": search.seed})
        row = {**{name: getattr(model, name) for name in stages["paper"]}, **told}
        return model, {**row, "tried": [row]}
    whole = search.n_trials or (search.preset == "paper" and clicks.n_interactions <= WHOLE_GRID_CLICKS)
    if whole:
        space, fixed["patience"] = whole_grid, WHOLE_GRID_PATIENCE
    else:
        default = make(**fixed)
        space = {name: (getattr(default, name), *stages[search.preset].get(name, ())) for name in stages["paper"]}
    trials = Trials(train, space, clicks, split, search, make.__name__, fixed)
    if search.n_trials:
        trials.sample(search.n_trials)
    elif whole:
        trials.over_grid()
    else:
        trials.by_stages()
    if search.seed == SEARCH_SEED:
        return trials.best_model(), {**trials.best, "tried": trials.rows}
    model, told = train({**trials.study.best_params, "seed": search.seed})
    return model, {**trials.study.best_params, **told, "tried": trials.rows}


def chooser(
    make: type[Trained], stages: Mapping[str, Stages], whole_grid: Stages, batch: Callable[[Interactions], int]
) -> Callable[[Interactions, Split, Search], tuple[Trained, dict[str, Any]]]:
    """`choose` of a model, (clicks, split, search), at the batch size of its data."""
    return lambda clicks, *others: choose(make, stages, whole_grid, clicks, *others, batch_size=batch(clicks))


class Trials(Generic[M]):
    """The trainings of a search in an Optuna study: a search that was stopped goes on at its next one.

    The study is kept in `search.shared`, if any, under a name made of data, model, preset, metric, and a hash of
    `space` and `uses`, all else that the trainings depend on: of another grid it is another study. Settings are
    tried by name, not by Optuna's `GridSampler`, for which one that failed, such as by Ctrl-C, is done.
    """

    def __init__(
        self, train: Train[M], space: Stages, clicks: Interactions, split: Split, search: Search, name: str, uses: Any
    ):
        self._train, self._search = train, search
        self._space = {name: list(dict.fromkeys(values)) for name, values in space.items()}
        self._made: dict[int, M] = {}
        about = json.dumps(plain([self._space, uses, search.prune, clicks_fingerprint(clicks)]), sort_keys=True)
        known_by = hashlib.sha256(about.encode()).hexdigest()[:12]
        storage = None
        if search.shared:
            Path(search.shared).mkdir(parents=True, exist_ok=True)
            storage = JournalStorage(JournalFileBackend(str(Path(search.shared) / "trials.journal")))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=storage,
            study_name=f"{split_fingerprint(split)[:12]} {name} {search.preset} {search.metric} {known_by}",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner() if search.prune else optuna.pruners.NopPruner(),
        )

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row of each training, in the order of the search: its parameters, its value, and what it settled."""
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return [{**each.params, **each.user_attrs} for each in self.study.get_trials(deepcopy=False, states=states)]

    @property
    def best(self) -> dict[str, Any]:
        """The row of the largest value, of equal ones the first; of those that were not pruned."""
        return {**self.study.best_params, **self.study.best_trial.user_attrs}

    def best_model(self) -> M:
        """Trained again where it was not made in this run."""
        best = self.study.best_trial
        if best.number not in self._made:
            self._made = {best.number: self._train(best.params)[0]}
        return self._made[best.number]

    def by_stages(self) -> None:
        """One parameter after the other takes each of its values, all others their first or best."""
        best = {name: values[0] for name, values in self._space.items()}
        for name, values in self._space.items():
            for value in bar(name, self._search.progress, values):
                self._one({**best, name: value})
            best = self.study.best_params

    def over_grid(self) -> None:
        """Every combination of values."""
        for values in bar("grid", self._search.progress, [*itertools.product(*self._space.values())]):
            self._one(dict(zip(self._space, values, strict=True)))

    def sample(self, n_trials: int) -> None:
        """So many combinations by TPE, those of an earlier run among them."""
        done = len(self.rows)
        self.study.sampler = optuna.samplers.TPESampler(seed=SEARCH_SEED + done)
        for _ in bar("TPE", self._search.progress, range(done, n_trials)):
            self.study.optimize(self._objective, n_trials=1)

    def _one(self, params: dict[str, Any]) -> None:
        # More than once where an earlier run was killed between asking for a setting and starting it.
        while not any(params.items() <= row.items() for row in self.rows):
            self.study.enqueue_trial(params)
            self.study.optimize(self._objective, n_trials=1)

    def _objective(self, trial: optuna.Trial) -> float:
        params = {name: trial.suggest_categorical(name, values) for name, values in self._space.items()}
        metric = self._search.metric

        def tell(**told: Any) -> None:
            for name, value in told.items():
                trial.set_user_attr(name, value)

        def report(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if trial.should_prune():
                tell(epoch=epoch, **{metric: value}, pruned=True)
                raise optuna.TrialPruned

        model, told = self._train(params, report)
        if not np.isfinite(told[metric]):
            raise ValueError(f"{metric} is not defined on this validation part; choose another metric")
        if all(told[metric] > row[metric] for row in self.rows if "pruned" not in row):
            self._made = {trial.number: model}
        tell(**told)
        return told[metric]


def batch_of(n_examples: int, least: int, most: int) -> int:
    """A twentieth of the examples, where those are few: a summary has too few steps an epoch otherwise."""
    return int(np.clip(n_examples // 20, least, most))
