"""What studies train on: DISTILL-CF's summaries, coresets of real clicks, and everybody."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import distillcf
import infae
from distillcf.config import Config as Settings
from distillcf.inner import CANDIDATES, REGS, choose_teacher
from experiments.recommenders.registry import MODELS, Search
from experiments.study.record import plain
from experiments.study.runner import tested
from infae.data.fingerprint import split_fingerprint

DISTILLED, DISTILLED_BINARY, EVERYBODY = "DISTILL-CF", "DISTILL-CF binary", "all users"
RANDOM_USERS, RANDOM_INTERACTIONS, HEAD_USERS = "random users", "random interactions", "head users"
SOURCES = (DISTILLED, DISTILLED_BINARY, *distillcf.CORESETS)


@dataclass(frozen=True)
class Sources:
    """Users to train on, by name, number and seed, out of a split's train part.

    Summaries are kept in `folder` under a name of all that they depend on; studies that share
    the folder share them.

    Args:
      split: what is sampled (train) and chosen by (validation).
      folder: of the summaries; made where it is missing.
      metric: what the summary and its teacher are chosen by.
      steps: outer steps of a summary.
      sharpness, labels: see `distillcf.Config`.
    """

    split: infae.Split
    folder: str
    metric: str = "HR@100"
    steps: int = 400
    sharpness: float = 0.003
    labels: str = "clicks"

    @classmethod
    def of(cls, config: Any, split: infae.Split) -> Sources:
        """As a `flags.SummaryConfig` says."""
        return cls(split, config.shared, config.metric, config.steps, config.sharpness)

    @property
    def uses(self) -> dict[str, Any]:
        """What decides a summary beside the flags, for `Study`: defaults, and what the teacher is chosen from."""
        return {"distillcf": Settings(), "teacher": [CANDIDATES, REGS]}

    @functools.cached_property
    def teacher(self) -> infae.InfiniteAE:
        """∞-AE of all the data, as `distillcf.distill` chooses it."""
        return choose_teacher(self.split.train, self.split, self.metric, progress=True)

    def interactions(self, name: str, n_users: int, seed: int) -> infae.Interactions:
        """One of `SOURCES`, of so many users (as many clicks as they have, for random interactions), or everybody."""
        if name == EVERYBODY:
            return self.split.train
        if name in (DISTILLED, DISTILLED_BINARY):
            return self.summary(n_users, seed).interactions("soft" if name == DISTILLED else "hard")
        return distillcf.CORESETS[name](self.split.train, n_users, seed)

    def summary(self, n_users: int, seed: int) -> distillcf.Summary:
        """The summary from its file, or distilled now."""
        names = ("steps", "sharpness", "metric", "labels")
        settings: dict[str, Any] = {name: getattr(self, name) for name in names}
        whole = Settings(n_users=n_users, seed=seed, **settings)
        # Defaults, and what the teacher is chosen from, decide what a summary is as well.
        depends_on = json.dumps(plain([whole, CANDIDATES, REGS]), sort_keys=True)
        named = hashlib.sha256(depends_on.encode()).hexdigest()[:12]
        path = Path(self.folder) / f"summary_{split_fingerprint(self.split)[:12]}_{n_users}_{seed}_{named}.npz"
        if path.exists():
            return distillcf.load(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        model = infae.InfiniteAE(**{**self.teacher.get_params(), "reg": self.teacher.reg_})
        summary = distillcf.distill(
            self.split.train, n_users, validation=self.split, seed=seed, model=model, progress=True, **settings
        )
        summary.save(path)
        return summary

    def learnt(self, config: Any, name: str, source: str, users: int, seed: int) -> dict[str, float]:
        """Test metrics of the model of this name, chosen on what a source gives it; ∞-AE has the teacher's network."""
        search = Search.of(config, seed, self.teacher if name == "infae" else None)
        model, _ = MODELS[name].choose(self.interactions(source, users, seed), self.split, search)
        return tested(model, self.split)


def drawn(config: Any, split: infae.Split, seeds: Sequence[int], *, full: bool = True) -> list[dict[str, Any]]:
    """Places: of each seed and budget all sources, and in `full` everybody, with the first seed."""
    drawn = [*product(seeds, config.budgets, config.sources), *[(seeds[0], split.train.n_users, EVERYBODY)] * full]
    return [{"source": source, "users": users, "seed": seed} for seed, users, source in drawn]


def check(split: infae.Split, budgets: Sequence[int], sources: Sequence[str] = ()) -> None:
    """ValueError for a name that is no source, or a number of users that cannot be drawn or distilled."""
    if unknown := [name for name in sources if name not in SOURCES]:
        raise ValueError(f"unknown source {', '.join(unknown)}; expected some of {', '.join(SOURCES)}")
    there_are = int((np.diff(split.train.matrix.indptr) > 0).sum())
    if bad := [n for n in budgets if not 1 <= n <= there_are]:
        raise ValueError(
            f"expected numbers of users from 1 to the {there_are:,} of {split.name} who have clicks, "
            f"got {', '.join(map(str, bad))}"
        )
