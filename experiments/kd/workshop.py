"""Splits, teachers and students of the studies of knowledge distillation, each made once."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import infae
from experiments.kd import data, listwise
from experiments.kd.distillation import suited, tried
from experiments.kd.methods import MOST_COMPARED
from experiments.kd.names import FACTORISED, LISTED, OF_VECTORS, WEIGHTS
from experiments.kd.protocol import Score, by_position, candidates, figures, ranks
from experiments.kd.several import learned_weights, several
from experiments.kd.students import factorisations
from experiments.kd.teachers import BPR, CLOSED, METRIC, TEACHERS, TRAINED, Teacher, teacher, value_on
from experiments.recommenders.mf import MF
from experiments.training.trainer import n_parameters
from infae.data.fingerprint import split_fingerprint
from infae.runtime import checks
from infae.tuning.best import Best, Trial, best

REGS = (0.01, 0.1, 1.0)
"""Of a factorised student's regression."""
STUDENT = MF(n_epochs=400, check_every=20, patience=3, **{**BPR, "learning_rate": 0.003})
"""Three times the public code's rate, in place of its 1,000 epochs."""
AMONG = " of 499"
"""At the end of the names of figures among 499 candidates."""
AND, LEARNED = " + ", " (learned)"
"""Between the names of several teachers, and behind them where their weights are learned."""
ITSELF = "itself"
"""A teacher of the student's own size, which learned alone."""


def check_teacher(name: str, title: str) -> None:
    """ValueError unless all that `AND` joins are of `TEACHERS`, and none comes twice."""
    titles = title.removesuffix(LEARNED).split(AND) if AND in title else [title]
    for each in titles:
        checks.choice(name, each, TEACHERS)
    if len(set(titles)) < len(titles):
        raise ValueError(f"{name} has a teacher twice: {title}")


@dataclass
class Workshop:
    """What studies make of splits; the teachers that are trained are kept in `shared`.

    Args:
      data_dir: folder of the sets.
      n_epochs: most epochs of a training; 0 for as many as models say.
      shared: folder of trained teachers.
    """

    data_dir: str = ""
    n_epochs: int = 0
    shared: str = ""
    _made: dict[Any, Any] = field(default_factory=dict)

    @property
    def uses(self) -> dict[str, Any]:
        """What decides every cell beside flags, for `Study`."""
        return {"student": vars(STUDENT), "metric": METRIC}

    @property
    def grids(self) -> dict[str, Any]:
        """What decides the cells of a method, by its title, for `Study`."""
        step = listwise.LEAST_USERS, listwise.MOST_USERS, listwise.MOST_PAIRS
        of_lists = [WEIGHTS[LISTED], listwise.SETTINGS, listwise.N_FIRST, listwise.SPREAD, step]
        compared = {method: [WEIGHTS[method], MOST_COMPARED] for method in (*OF_VECTORS, "IR-RRD")}
        return {**WEIGHTS, **compared, FACTORISED: REGS, LISTED: of_lists}

    @property
    def of_teachers(self) -> dict[str, Any]:
        """What teachers are made with, by title."""
        return {**{title: vars(made()) for title, made in TRAINED.items()}, **CLOSED}

    def split(self, name: str, seed: int) -> infae.Split:
        return self._once("split", name, seed, lambda: data.split(name, seed, self.data_dir or None))

    def candidates(self, name: str, seed: int) -> np.ndarray:
        """Of the test clicks, drawn by the seed."""
        return self._once("candidates", name, seed, lambda: candidates(self.split(name, seed), "test", seed))

    def teacher(self, title: str, name: str, seed: int) -> Teacher:
        """One of `TEACHERS`, or several joined by `AND`: their mean, or weights learned on validation clicks."""
        check_teacher("teacher", title)
        return self._once(("teacher", title), name, seed, lambda: self._teacher(title, name, seed))

    def _teacher(self, title: str, name: str, seed: int) -> Teacher:
        split, checkpoint = self.split(name, seed), None
        if AND in title:
            members = [self.teacher(each, name, seed) for each in title.removesuffix(LEARNED).split(AND)]
            return several(members, learned_weights(members, split) if title.endswith(LEARNED) else None)
        if self.shared and title in TRAINED:
            about = repr((title, vars(TRAINED[title]()), split_fingerprint(split), seed, self.n_epochs))
            folder = Path(self.shared)
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint = folder / f"teacher_{sha256(about.encode()).hexdigest()[:16]}.npz"
        return teacher(title, split, seed, self.n_epochs, checkpoint)

    def _of(self, title: str, n_factors: int, name: str, seed: int) -> Teacher:
        """A student's teacher; of `ITSELF` a student that learned alone."""
        if title != ITSELF:
            return self.teacher(title, name, seed)

        def alone() -> Teacher:
            split = self.split(name, seed)
            model = self._model(n_factors, seed).fit(split.train, value=value_on(split))
            return Teacher(model, split.train, n_parameters(model.module))

        return self._once(("teacher", title, n_factors), name, seed, alone)

    def _model(self, n_factors: int, seed: int) -> MF:
        return replace(STUDENT, n_factors=n_factors, seed=seed, n_epochs=self.n_epochs or STUDENT.n_epochs)

    def student(self, method: str, title: str, n_factors: int, name: str, seed: int) -> Best[tuple[float, Score]]:
        """The best student of a teacher by validation: of several weights, or regs."""
        split = self.split(name, seed)
        value = value_on(split)

        def trials() -> Iterator[Trial[tuple[float, Score]]]:
            if method == FACTORISED:
                score = self._of(title, n_factors, name, seed).score
                for reg, made in zip(REGS, factorisations(score, split.train, n_factors, REGS), strict=True):
                    yield Trial({"reg": reg}, (value(made), by_position(made, split.train)))
                return
            for params, beside in tried(method, lambda: self._of(title, n_factors, name, seed).knowledge()):
                model = suited(self._model(n_factors, seed), method, split.train.shape)
                model.fit(split.train, value=value, beside=beside, progress=True)
                yield Trial({**params, "epoch": model.epoch_}, (value(model), by_position(model, split.train)))

        return best(trials(), lambda found: found[0], METRIC)

    def tested(self, score: Score, name: str, seed: int) -> dict[str, float]:
        """Test figures by both protocols; those among 499 candidates have `AMONG` in their names."""
        split = self.split(name, seed)
        among = figures(ranks(score, split, "test", self.candidates(name, seed)), (5, 10, 20))
        return {**figures(ranks(score, split, "test")), **{key + AMONG: value for key, value in among.items()}}

    def taught(self, method: str, teacher: str, n_factors: int, data: str, seed: int) -> dict[str, Any]:
        """Test figures of a student, and how it was chosen."""
        found = self.student(method, teacher, n_factors, data, seed)
        return {**self.tested(found.candidate[1], data, seed), **found.params, "validation": found.value}

    def _once(self, what: Any, name: str, seed: int, make: Any) -> Any:
        if (what, name, seed) not in self._made:
            # Of one split at a time: scores of all pairs take hundreds of megabytes.
            self._made = {key: made for key, made in self._made.items() if key[1:] == (name, seed)}
            self._made[what, name, seed] = make()
        return self._made[what, name, seed]
