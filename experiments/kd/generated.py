"""What studies of generated lists share: lists and teachers of a split, made once, and students of either."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import infae
from experiments.kd import data
from experiments.kd.distillation import Distilled
from experiments.kd.gdrec import GDREC, N_LISTED, N_NEGATIVE, ZERO_WEIGHT, AlsoLists
from experiments.kd.knowledge import Knowledge
from experiments.kd.protocol import by_position, figures, ranks
from experiments.kd.study import SetsConfig, begin
from experiments.kd.teachers import BPR, METRIC, Teacher, value_on
from experiments.kd.workshop import Workshop
from experiments.recommenders.mf import MF
from experiments.recommenders.neumf import NeuMF
from experiments.study.flags import option
from experiments.study.runner import Study
from experiments.training.trainer import n_parameters
from infae.runtime import checks
from infae.tuning.best import Best, Trial, best

MODELS: dict[str, Any] = {
    "BPR": partial(MF, n_epochs=300, check_every=20, **BPR),
    "NeuMF": partial(NeuMF, n_layers=2, n_epochs=300, check_every=20, **BPR),
}
TEACHERS = ("teacher KD", "teacher GD")
GD = "GD"
GD_WEIGHT, TEMPERATURES = 0.7, (1.0, 2.0, 5.0, 10.0)
BD_WEIGHTS = (0.1, 0.5)

Ways = Iterator[tuple[dict[str, float], infae.Interactions, Any]]
"""What is tried: parameters for the record, what a student is fitted to, and what it learns beside."""


SHARES = "of the teacher's parameters that students have"


@dataclass(frozen=True)
class ListsConfig(SetsConfig):
    """Flags that every study of generated lists has."""

    data: tuple[str, ...] = option(("made",), f"some of {', '.join(data.DATASETS)}", axis=True, quick=("ml-100k",),
        paper=("citeulike", "yelp", "foursquare"))  # fmt: skip
    models: tuple[str, ...] = option(("BPR",), f"some of {', '.join(MODELS)}", axis=True, paper=tuple(MODELS))
    dim: int = option(8, "of teachers", quick=50, paper=200)


@dataclass
class Made:
    """Lists and teachers of a split, made once."""

    workshop: Workshop
    dim: int
    kept: dict[Any, Any] = field(default_factory=dict)

    def lists(self, data: str, seed: int) -> infae.Interactions:
        """Of all training users; ValueError for one without clicks."""
        split, n_epochs = self.workshop.split(data, seed), self.workshop.n_epochs
        generator = GDREC(seed=seed)
        generator.n_epochs = n_epochs or generator.n_epochs
        lists = generator.fit(split.train, progress=True).lists(N_LISTED, seed)
        if lists.n_users != split.train.n_users:
            raise ValueError(f"{data}: {split.train.n_users - lists.n_users} users have no clicks to make lists of")
        return lists

    def teacher(self, model: str, method: str, data: str, seed: int) -> Teacher:
        train = self.workshop.split(data, seed).train
        beside = AlsoLists(self.once("lists", data, seed)) if method == TEACHERS[1] else None
        made = self.fitted(model, self.dim, train, data, seed, beside)
        return Teacher(made, train, n_parameters(made.module))

    def fitted(self, model: str, dim: int, clicks: Any, data: str, seed: int, beside: Any = None) -> Any:
        """A model of this size, of clicks, stopped by validation."""
        made = MODELS[model](n_factors=dim, seed=seed)
        made.n_epochs = self.workshop.n_epochs or made.n_epochs
        split = self.workshop.split(data, seed)
        return made.fit(clicks, value=value_on(split), beside=beside, progress=True)

    def of_lists(self, model: str, data: str, seed: int, weight: float, temperatures: Sequence[float]) -> Ways:
        """Students of generated lists and of a teacher's scores of them, by temperature; of lists alone at weight 0."""
        lists = self.once("lists", data, seed)
        if not weight:
            yield {}, lists, None
            return
        knowledge = Knowledge(self.once("teacher", model, TEACHERS[1], data, seed).score, lists)
        for temperature in temperatures:
            yield {"temperature": temperature}, lists, Distilled(GD, knowledge, weight, temperature)

    def once(self, what: str, *at: Any) -> Any:
        """`what` is the name of a method here."""
        if (what, *at) not in self.kept:
            self.kept = {key: made for key, made in self.kept.items() if key[-2:] == at[-2:]}
            self.kept[what, *at] = getattr(self, what)(*at)
        return self.kept[what, *at]


def fitted_best(made: Made, model: str, share: float, data: str, seed: int, tried: Ways) -> Best[tuple[float, Any]]:
    """The best student by validation, of a share of the teacher's dimensions, and its `METRIC`."""
    value, dim = value_on(made.workshop.split(data, seed)), max(1, round(share * made.dim))

    def trials() -> Iterator[Trial[tuple[float, Any]]]:
        for params, clicks, beside in tried:
            student = made.fitted(model, dim, clicks, data, seed, beside)
            yield Trial(params, (value(student), student))

    return best(trials(), lambda found: found[0], METRIC)


def best_student(made: Made, model: str, share: float, data: str, seed: int, tried: Ways) -> dict[str, Any]:
    """Test figures of `fitted_best`, and how it was chosen."""
    split = made.workshop.split(data, seed)
    found = fitted_best(made, model, share, data, seed, tried)
    student = found.candidate[1]
    tested = figures(ranks(by_position(student, split.train), split, "test"), (50,))
    return {**tested, **found.params, "parameters": n_parameters(student.module), "validation": found.value}


def begin_lists(
    config: Any, title: str, shows: str, choices: Mapping[str, Sequence[str]], more: Mapping[str, Any] | None = None
) -> tuple[Made, Study]:
    """What is made of the splits, and the study of a Config; ValueError for flags that are none, before any work."""
    for share in getattr(config, "shares", ()):
        checks.share("--shares", share)
    uses = {
        "models": {name: vars(made()) for name, made in MODELS.items()},
        "tried": [GD_WEIGHT, TEMPERATURES, BD_WEIGHTS, N_LISTED, N_NEGATIVE, ZERO_WEIGHT],
        **(more or {}),
    }
    all_choices = {"models": tuple(MODELS), **choices}
    study, workshop = begin(config, title=title, shows=shows, choices=all_choices, uses=uses)
    return Made(workshop, checks.whole("--dim", config.dim)), study
