"""Do a few hundred synthetic users of DISTILL-CF train history models as all users do?

    python -m experiments.inversion.ctr_summaries                    # made clicks, offline
    python -m experiments.inversion.ctr_summaries --preset=quick     # ML-1M, reduced
    python -m experiments.inversion.ctr_summaries --preset=paper     # ML-1M, three splits

A summary has no user whose id a test row holds. So users are their histories: FM and DeepFM pool the items of a
history, DIN attends to them. They learn from synthetic users, real ones or all, and are tested on held-out rows of all
real users, beside the histories in their training rows; epochs are chosen on validation rows. Two questions are asked;
see `experiments.inversion.summarised`. Writes `record.json`, `table.md`, a picture of each table
and `cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

import distillcf
from distillcf.inner import CANDIDATES, REGS
from experiments.ctr.histories import LENGTH, Users
from experiments.ctr.models import MODELS
from experiments.ctr.rows import Rows
from experiments.ctr.train import Training, evaluate, fit
from experiments.infinite.sources import DISTILLED, DISTILLED_BINARY, EVERYBODY, RANDOM_USERS, Sources, check
from experiments.inversion import wording
from experiments.inversion.sources import Workshop
from experiments.inversion.study import TablesConfig, begin, beside_each_other, places
from experiments.inversion.summarised import QUESTIONS, Question
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, at, every
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table
from infae.runtime import checks

LEARNERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "DIN": ("din", {"dropout": 0.5}),
    "FM": ("fm", {}),
    "DeepFM": ("deepfm", {"dropout": 0.5}),
}
"""Title -> name and parameters of a model."""
FORMS = {f"{DISTILLED} soft": "soft", DISTILLED_BINARY: "hard", f"{DISTILLED} free labels": "free"}
SOURCES = (EVERYBODY, *FORMS, *distillcf.CORESETS)
TRAINING = Training(0.01, 1e-6, 1000, 40)
"""On ML-1M, split 0, validation rows chose this weight decay over 1e-5 for FM and DeepFM.

So it was of all users, of soft rows and of random users.
"""
EPOCH_ROWS, VALIDATED = 100_000, 30_000
NOTES = (
    f"An epoch is as many rows, drawn anew, whatever the source: of a row at most {LENGTH} items of its user's history "
    f"are read. Models are stopped by {VALIDATED:,} validation rows.",
    "implicit: items with a rating of 4 or 5 against as many uniformly drawn others. explicit: ratings of 4 or 5 "
    "against lower ones.",
)


@dataclass(frozen=True)
class Config(TablesConfig):
    tables: tuple[str, ...] = option(("made",), "see ctr_table_2", quick=("ml-1m",))
    questions: tuple[str, ...] = option(QUESTIONS, f"some of {', '.join(QUESTIONS)}", axis=True)
    sources: tuple[str, ...] = option(
        (EVERYBODY, "DISTILL-CF soft", RANDOM_USERS), f"some of {', '.join(SOURCES)}", axis=True,
        paper=SOURCES,
    )  # fmt: skip
    learners: tuple[str, ...] = option(("FM",), f"some of {', '.join(LEARNERS)}", axis=True, paper=tuple(LEARNERS))
    n_users: int = option(50, "synthetic, or drawn", quick=200, paper=500)
    n_rows: int = option(5000, "of an epoch", quick=20_000, paper=EPOCH_ROWS)
    n_epochs: int = option(10, "at most; 0 for as many as the settings say", quick=10, paper=0)
    steps: int = option(50, "outer steps of the summaries", quick=50, paper=200)
    shared: str = option("out/shared", "folder of the summaries")
    out: str = option("out/ctr_summaries", "output folder")


class Summaries(Workshop):
    """Questions, summaries and learners."""

    config: Config

    @property
    def grids(self) -> dict[str, Any]:
        """What decides the cells of a learner, by its title, for `Study`."""
        return {**LEARNERS}

    def question(self, name: str, table: str, seed: int) -> Question:
        return self._once(("question", name), table, seed, lambda: Question(name, self.data(table, seed), seed))

    def _held_out(self, name: str, part: str, table: str, seed: int) -> Rows:
        return self._once(
            ("held out", name, part), table, seed, lambda: self.question(name, table, seed).held_out(part)
        )

    def users(self, name: str, source: str, table: str, seed: int) -> Users:
        """What a source has for a question."""
        question, n_users = self.question(name, table, seed), self.config.n_users
        if source not in FORMS:
            return question.users(self._sources(question).interactions(source, n_users, seed))
        labels = {"labels": "free", "sharpness": 0.0} if FORMS[source] == "free" else {}
        return question.users(self._sources(question, **labels).summary(n_users, seed), FORMS[source])

    def _sources(self, question: Question, **settings: Any) -> Sources:
        check(question.split, [self.config.n_users])
        return Sources(question.split, self.config.shared, steps=self.config.steps, **settings)

    def answered(self, question: str, source: str, learner: str, table: str, seed: int) -> dict[str, Any]:
        """Test figures of a learner on what a source has, its epoch chosen on validation rows."""
        asked, users = self.question(question, table, seed), self.users(question, source, table, seed)
        draw = users.drawn(asked.fields, self.config.n_rows, seed)
        validation = self._held_out(question, "validation", table, seed)
        some = np.random.default_rng(seed).permutation(len(validation))[:VALIDATED]

        name, network = LEARNERS[learner]
        model = MODELS[name](asked.fields, **network)
        training = replace(TRAINING, seed=seed, n_epochs=self.n_epochs or TRAINING.n_epochs)
        done = fit(model, draw, validation[some], training).best
        assert done is not None
        test = self._held_out(question, "test", table, seed)
        return {**evaluate(model, test), "epoch": done["epoch"], "validation": done["value"]}


def run(config: Config) -> dict[str, Any]:
    for name in ("n_users", "steps"):
        checks.whole(f"--{name}", getattr(config, name))
    study, workshop = begin(
        config, title="Synthetic users for history models", shows="", version=2, workshop=Summaries,
        uses={"training": TRAINING, "length": LENGTH, "distillcf": distillcf.Config(), "teacher": [CANDIDATES, REGS]},
        choices={"questions": QUESTIONS, "sources": SOURCES, "learners": LEARNERS},
    )  # fmt: skip
    assert isinstance(workshop, Summaries)
    workshop.config = config
    axes = {"question": config.questions, "source": config.sources, "learner": config.learners}
    frame = study.run(each(places(config, **axes), workshop.answered))
    shown = []
    for (table, question), part in frame.groupby(["table", "question"], sort=False):
        wide = beside_each_other(part)
        columns = [f"{metric} {learner}" for learner in config.learners for metric in ("AUC", "LogLoss")]
        shown.append(metrics_table(wide, ("source",), columns, f"{table}, {question}, test"))
        rows = {name: cells.to_dict("records") for name, cells in wide.groupby("source", sort=False)}
        study.draw(f"{table}_{question}.png", plots.grouped, rows, columns[::2], {}, f"{table}, {question}, test")
    claims = [*above_random(frame), *near_everybody(frame)]
    return study.write(shown, claims, NOTES, data=", ".join(config.tables))


def _best_form(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the kind of summary that is best on validation."""
    ours = at(cells, source=[*FORMS])
    return at(ours, source=ours.groupby("source")["validation"].mean().idxmax()) if len(ours) else ours


def _beside(frame: pd.DataFrame, source: str) -> Iterator[tuple[dict[str, str], list[dict[str, Any]]]]:
    """For each question its place, and of every learner AUC on `ours`, the best form, and on `theirs`, a source."""
    for (table, question), part in frame.groupby(["table", "question"], sort=False):
        rows = []
        for learner, cells in part.groupby("learner", sort=False):
            ours, theirs = _best_form(cells), at(cells, source=source)
            if len(ours) and len(theirs):
                rows.append({"learner": learner, "ours": ours["AUC"], "theirs": theirs["AUC"]})
        if rows:
            yield {"table": table, "question": question}, rows


def above_random(frame: pd.DataFrame) -> Iterator[Claim]:
    """For each question: synthetic users above as many random ones for every learner."""
    for place, rows in _beside(frame, RANDOM_USERS):
        yield wording.ABOVE_RANDOM.claim(every(ahead(row["ours"], row["theirs"]) for row in rows), rows, **place)


def near_everybody(frame: pd.DataFrame) -> Iterator[Claim]:
    """For each question: within 1.5% of what all users teach every learner."""
    for place, rows in _beside(frame, EVERYBODY):
        holds = all(row["ours"].mean() >= 0.985 * row["theirs"].mean() for row in rows)
        yield wording.NEAR_EVERYBODY.claim(holds, rows, **place)


if __name__ == "__main__":
    flags.main(Config, run)
