"""Students that learned from no real user: how well do they rank, and do they tell who clicked what? GD-REC's table 3.

    python -m experiments.kd.kd_privacy                    # made clicks, offline
    python -m experiments.kd.kd_privacy --preset=quick     # MovieLens-100K, reduced
    python -m experiments.kd.kd_privacy --preset=paper     # MovieLens-100K, three seeds

A BPR teacher and student of all clicks; the student of GD-REC's lists; and closed-form students of ∞-AE, learned on all
users, on DISTILL-CF's, and on histories drawn by popularity. The attack asks whether a model scores a user's training
clicks above the held-out ones: AUC within a user, .5 where it does not tell. Everything is chosen on validation clicks.
Writes `record.json`, `table.md`, a picture of each set and `cells/`, from which a run that was stopped goes on.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import infae
from experiments.infinite.sources import DISTILLED_BINARY, EVERYBODY, Sources
from experiments.kd import published
from experiments.kd.generated import GD, SHARES, TEACHERS, ListsConfig, Made, begin_lists, fitted_best
from experiments.kd.kd_table_2 import ways
from experiments.kd.names import ALONE
from experiments.kd.protocol import Score, by_history, by_position
from experiments.kd.students import factorisations
from experiments.kd.study import places
from experiments.kd.teachers import CLOSED, METRIC, value_on
from experiments.kd.transfer import POPULAR, USES, TransferSets
from experiments.kd.workshop import AMONG, REGS
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table
from infae.machine import batches
from infae.tuning.best import Trial, best

ON = (EVERYBODY, DISTILLED_BINARY, POPULAR)
MODELS = (TEACHERS[0], ALONE, GD, *ON)
NOTES = (
    "H@k: a user's one test click among all items not clicked; of 499: among 499 of them, drawn. The paper does not "
    "say among which items its figure, in brackets, is.",
    "Attack: share of pairs of a training click and a held-out click of a user of which the first scores higher. That "
    "is above .5 without any leak where held-out clicks are the later ones.",
    "GD learns from generated lists, in which many of a user's own clicks are.",
    "∞-AE and its students score a history that they are shown, which is the training clicks here: they hold no user.",
)


@dataclass(frozen=True)
class Config(ListsConfig):
    data: tuple[str, ...] = option(("made",), "see kd_table_2", quick=("ml-100k",), axis=True)
    models: tuple[str, ...] = option(("BPR",), "see kd_table_2", axis=True)
    methods: tuple[str, ...] = option(MODELS, f"some of {', '.join(MODELS)}", axis=True)
    shares: tuple[float, ...] = option((0.5,), SHARES, axis=True, quick=(0.5,))
    n_users: int = option(60, "of DISTILL-CF", quick=200, paper=500)
    rank: int = option(4, "of closed-form students", quick=20)
    steps: int = option(10, "outer steps of the summaries", quick=50, paper=400)
    shared: str = option("out/shared", "folder of summaries")
    out: str = option("out/kd_privacy", "output folder")


def run(config: Config) -> dict[str, Any]:
    made, study = begin_lists(
        config,
        "Students that learned from no real user",
        "Table 3 of GD-REC",
        {"methods": MODELS},
        {"sets": USES, "∞-AE": [CLOSED["∞-AE"], REGS]},
    )
    by_clicks = [method for method in config.methods if method not in ON]
    cells = [
        *places(config, model=config.models, share=config.shares, method=by_clicks),
        *places(config, model=("",), share=(1.0,), method=[method for method in ON if method in config.methods]),
    ]
    frame = study.run(each(cells, Private(made, config).cell))
    shown = []
    for name, part in frame.groupby("data", sort=False):
        columns = [*(f"H@{k}{among}" for among in ("", AMONG) for k in (5, 10, 20)), "AUC of the attack"]
        theirs = published.beside("table_3", name)
        shown.append(metrics_table(part, ("method", "model", "share"), columns, f"{name}, test", theirs))
        labels = [" ".join(filter(None, at)) for at in zip(part["method"], part["model"], strict=True)]
        rows = {label: group.to_dict("records") for label, group in part.groupby(labels, sort=False)}
        study.draw(f"{name}.png", plots.grouped, rows, ["H@10" + AMONG, "AUC of the attack"], {}, name)
    return study.write(shown, [], NOTES, data=", ".join(config.data))


@dataclass
class Private:
    """Models of a split, and how they are tested."""

    made: Made
    config: Config
    kept: dict[Any, TransferSets] = field(default_factory=dict)

    def cell(self, model: str, share: float, method: str, data: str, seed: int) -> dict[str, float]:
        """Test figures by both protocols, and of the attack."""
        workshop = self.made.workshop
        split = workshop.split(data, seed)
        if method == TEACHERS[0]:
            score = self.made.once("teacher", model, method, data, seed).score
        elif method in ON:
            score = self.closed(method, data, seed)
        else:
            tried = ways(self.made, model, method, data, seed)
            student = fitted_best(self.made, model, share, data, seed, tried).candidate[1]
            score = by_position(student, split.train)
        return {**workshop.tested(score, data, seed), **attack(score, split)}

    def closed(self, source: str, data: str, seed: int) -> Score:
        """Of ∞-AE, asked of the users of a source."""
        split = self.made.workshop.split(data, seed)
        if (data, seed) not in self.kept:
            self.kept = {(data, seed): TransferSets(Sources(split, self.config.shared, steps=self.config.steps))}
        clicks = self.kept[data, seed].clicks(source, self.config.n_users, seed)
        score = by_history(self.made.workshop.teacher("∞-AE", data, seed).model, clicks)
        value = value_on(split, by_history)
        made = zip(REGS, factorisations(score, clicks, self.config.rank, REGS), strict=True)
        trials = (Trial({"reg": reg}, (value(student), student)) for reg, student in made)
        found = best(trials, lambda found: found[0], METRIC)
        return by_history(found.candidate[1], split.train)


def attack(score: Score, split: infae.Split) -> dict[str, float]:
    """AUC within a user of telling training clicks from held-out ones by score, mean over users who have both."""
    clicked, held = split.train.matrix, split.validation.matrix + split.test.matrix
    told = []
    for at in batches(*clicked.shape):
        users = np.arange(clicked.shape[0])[at]
        scores = np.asarray(score(users))
        for row, user in enumerate(users):
            members, others = (scores[row, matrix[user].indices] for matrix in (clicked, held))
            if members.size and others.size:
                gaps = members[:, None] - others
                told.append((gaps > 0).mean() + (gaps == 0).mean() / 2)
    return {"AUC of the attack": float(np.mean(told))}


if __name__ == "__main__":
    flags.main(Config, run)
