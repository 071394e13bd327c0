"""What of old clicks is worth keeping when a model is trained again? Table 4 of the model-inversion paper.

    python -m experiments.inversion.ctr_retraining                    # made clicks, offline
    python -m experiments.inversion.ctr_retraining --preset=quick     # ML-1M, reduced
    python -m experiments.inversion.ctr_retraining --preset=paper     # ML-1M, three seeds

The table is cut into three windows of time with as many rows each: of each user's own time, or with `--nouser_time` of
the calendar. Models train on the second, T2, and on what is left of the first, T1: all of it, a sample, rows out of a
model of T1, or its parameters, with which training goes on; "+ Fine-tune" is both. They are tested on the third. All
is chosen on the newest tenth of T2 (of T1 for its models; of each user's rows), which nothing trains on. Writes
`record.json`, `table.md`, a picture of each table and `cells/`, from which a run that was stopped goes on.

The paper does not say whose time it cuts. On ML-1M by the calendar two thirds of T3's rows are of users whom neither T1
nor T2 knows, and figures are .04 below the paper's; by users' own time they are as the paper's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from experiments.ctr import tables
from experiments.ctr.fields import Fields
from experiments.ctr.rows import Rows
from experiments.ctr.tables import LABEL, Data
from experiments.ctr.train import Training, logits
from experiments.inversion import wording
from experiments.inversion.sources import LEARNERS, SOURCES, Workshop, on_tables
from experiments.inversion.study import STUDENTS, TablesConfig, begin, beside_published, places
from experiments.study import flags
from experiments.study.claims import Claim, ahead_of_each, at, every
from experiments.study.flags import option
from experiments.study.runner import each

NEWEST, EVERYTHING, RANDOM, FINE_TUNE, SPMF = "T2 alone", "T1 and T2", "Random", "Fine-tune", "SPMF"
KEPT = (NEWEST, EVERYTHING, RANDOM, FINE_TUNE, SPMF)
RESERVOIR = 10_000
"""Rows of T1 that Random and SPMF keep, as in the paper."""
WEIGHTS = (10.0, 30.0, 150.0)
"""Of a row out of a model beside the real ones: what is tried. At 150, 2,000 count as much as T1 of ML-1M did."""
TUNED = " + Fine-tune"
"""After what is kept: beside T1's model, which training goes on with."""
ON_WINDOWS = Training(0.003, 1e-5, n_epochs=40)
NOTES = (
    "SPMF keeps 10,000 rows of T1, drawn with probability exp(place / n) by the loss that a model of T1 has on them, "
    "the largest last (Wang et al. 2018 draw so from their reservoir).",
    "With Fine-tune, training goes on with the model of T1: on T2 alone, or on T2 and what is kept. A row out of a "
    "model weighs as 10, 30 or 150 real ones do, by validation.",
)


@dataclass(frozen=True)
class Config(TablesConfig):
    tables: tuple[str, ...] = option(("made",), "tables with times", quick=("ml-1m",))
    keep: tuple[str, ...] = option(
        (*KEPT, "designed FM"),
        f"what is kept of T1: some of {', '.join(KEPT)}, or sources that have a teacher, maybe with {TUNED!r}",
        axis=True, quick=(NEWEST, RANDOM, SPMF, "LRSD", "designed LR"),
        paper=(
            *KEPT, "Random + Fine-tune", "LRSD", "FMSD", "DeepFMSD", "DeepFMSD-BN", "designed LR", "designed FM",
            "designed DeepFM", "designed LR + Fine-tune", "designed FM + Fine-tune", "designed DeepFM + Fine-tune",
        ),
    )  # fmt: skip
    user_time: bool = option(True, "windows of each user's own time")
    learners: tuple[str, ...] = option(
        ("LR", "FM"), f"some of {', '.join(LEARNERS)}", axis=True, quick=("LR",), paper=STUDENTS
    )
    n_rows: int = option(300, "of a synthetic set", quick=2000)
    n_epochs: int = option(10, "at most; 0 for as many as the settings say", quick=10, paper=0)
    out: str = option("out/ctr_retraining", "output folder")


class Windows(Workshop):
    """Teachers and rows of T1, and what is trained on T2."""

    user_time = True

    def data(self, table: str, seed: int) -> Data:
        """T1 but for its newest tenth, that tenth, and T3."""
        return self._windows(table, seed)[0]

    @property
    def grids(self) -> dict[str, Any]:
        """As `Workshop`, and of sources with `TUNED`."""
        return super().grids | {name + TUNED: grid for name, grid in super().grids.items() if name in SOURCES}

    def recent(self, table: str, seed: int) -> Data:
        """T2 likewise."""
        return self._windows(table, seed)[1]

    def _windows(self, table: str, seed: int) -> tuple[Data, Data]:
        return self._once("windows", table, seed, lambda: _cut(self._table(table), self.user_time))

    def retrained(self, keep: str, learner: str, table: str, seed: int) -> dict[str, Any]:
        """Test figures of a learner of T2 and of what is kept of T1."""
        old, new = self.data(table, seed), self.recent(table, seed)
        kept, going_on = keep.removesuffix(TUNED), keep == FINE_TUNE or keep.endswith(TUNED)
        if kept in (NEWEST, FINE_TUNE):
            sets = [new.train]
        elif kept in KEPT:
            sets = [Rows.joined([new.train, old.train[self._kept(kept, learner, table, seed)]])]
        else:
            rows = self.rows(kept, table, seed)
            weighed = (replace(rows, weights=np.full(len(rows), weight)) for weight in WEIGHTS)
            sets = [Rows.joined([new.train, heavy]) for heavy in weighed]
        trainings = on_tables(learner) if kept in KEPT and not going_on else [ON_WINDOWS]
        start = self.teacher(learner, table, seed) if going_on else None
        tried = [(training, rows) for training in trainings for rows in sets]
        return self.student(learner, tried, new, seed, start)

    def _kept(self, keep: str, learner: str, table: str, seed: int) -> np.ndarray:
        """Places of the rows of T1 that are kept."""
        rows, rng = self.data(table, seed).train, np.random.default_rng(seed)
        n = len(rows)
        if keep == EVERYTHING:
            return np.arange(n)
        shares = None
        if keep == SPMF:
            found = logits(self.teacher(learner, table, seed), rows)
            losses = np.logaddexp(0, found) - rows.known_labels * found
            shares = np.exp(np.argsort(np.argsort(losses)) / n)
            shares /= shares.sum()
        return rng.choice(n, min(RESERVOIR, n), replace=False, p=shares)


def _cut(table: tables.Table, by_user: bool) -> tuple[Data, Data]:
    first, second, third = tables.windows(table, by_user=by_user)
    fields = Fields.of(pd.concat([first, second]), table.kinds)
    test = fields.rows(third, LABEL)

    def parted(window: pd.DataFrame, name: str) -> Data:
        groups = window[next(iter(table.kinds))] if by_user else None
        newest = tables.share_of_time(window, groups).to_numpy() > 0.9
        return Data(name, fields.rows(window[~newest], LABEL), fields.rows(window[newest], LABEL), test)

    return parted(first, f"{table.name}, T1"), parted(second, f"{table.name}, T2")


def run(config: Config) -> dict[str, Any]:
    known = [*KEPT, *(name for name, source in SOURCES.items() if source.teacher)]
    not_tuned = [name + TUNED for name in (NEWEST, FINE_TUNE)]  # which are Fine-tune
    if other := [name for name in config.keep if name.removesuffix(TUNED) not in known or name in not_tuned]:
        known_names = ", ".join(known)
        raise ValueError(f"--keep must be some of {known_names}, maybe with {TUNED!r}, got {', '.join(other)}")
    study, workshop = begin(
        config, title="Training again on new clicks", shows="Table 4 of model inversion", version=2, workshop=Windows,
        uses={"reservoir": RESERVOIR, "weights": WEIGHTS, "on windows": ON_WINDOWS},
    )  # fmt: skip
    assert isinstance(workshop, Windows)
    workshop.user_time = config.user_time
    frame = study.run(each(places(config, keep=config.keep, learner=config.learners), workshop.retrained))
    shown = beside_published(study, config, frame, "table_4", "keep", "test on T3")
    whose = "of each user's own time" if config.user_time else "of the calendar"
    about = f"Three windows {whose}, T1 to T3; a rating of 4 or 5 is a click. Figures in brackets are the paper's."
    return study.write(shown, [*better_than_samples(frame)], [about, *NOTES], data=", ".join(config.tables))


def better_than_samples(frame: pd.DataFrame) -> Iterator[Claim]:
    """Section 5.4, for each source: rows out of a model above Random, Fine-tune and SPMF for every learner.

    With Fine-tune, above Random with it, too.
    """
    for (table, keep), part in frame.groupby(["table", "keep"], sort=False):
        rivals = at(frame, table=table, keep=[RANDOM, FINE_TUNE, SPMF, *([RANDOM + TUNED] if TUNED in keep else [])])
        verdicts, rows = [], []
        for learner, cells in part.groupby("learner", sort=False):
            theirs = dict(list(at(rivals, learner=learner).groupby("keep")["AUC"]))
            if theirs and keep.removesuffix(TUNED) not in KEPT:
                verdict, row = ahead_of_each(cells["AUC"], theirs)
                verdicts.append(verdict)
                rows.append({"learner": learner, **row})
        if rows:
            others = ", ".join(rivals["keep"].unique())
            yield wording.BETTER_THAN_SAMPLES.claim(every(verdicts), rows, table=table, keep=keep, others=others)


if __name__ == "__main__":
    flags.main(Config, run)
