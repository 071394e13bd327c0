"""GD-REC's table 2: a student of generated lists and its teacher's scores alone, beside CD, RD and BD.

    python -m experiments.kd.kd_table_2                    # made clicks, offline
    python -m experiments.kd.kd_table_2 --preset=quick     # MovieLens-100K, reduced
    python -m experiments.kd.kd_table_2 --preset=paper     # the paper's three sets, three seeds

For BPR and NeuMF: the teacher, of clicks alone (KD) and with generated lists too (GD, Eq. 4), and students of a share
of its parameters: alone, by CD, RD and BD from the first teacher, and GD (Eq. 5 and 6, weight 0.7) from the second, who
learns from lists alone. Temperatures, weights and epochs are chosen on validation clicks. Writes `record.json`,
`table.md`, a picture of each set and model, and `cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from experiments.kd import published, wording
from experiments.kd.distillation import tried
from experiments.kd.generated import (
    BD_WEIGHTS,
    GD,
    GD_WEIGHT,
    SHARES,
    TEACHERS,
    TEMPERATURES,
    ListsConfig,
    Made,
    Ways,
    begin_lists,
    best_student,
)  # fmt: skip
from experiments.kd.mutual import Bidirectional
from experiments.kd.names import ALONE
from experiments.kd.protocol import figures, ranks
from experiments.kd.teachers import value_on
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, ahead_of_each, at, every
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table

METHODS = (*TEACHERS, ALONE, "CD", "RD", "BD", GD)
NOTES = (
    "H@50 and N@50: a user's one test click among all items not clicked.",
    "Figures in brackets are the paper's: students of half of the teacher's parameters, and teachers of its table 4. "
    "Its CiteULike has each user's number of items as an item; for its Yelp ccd-yelp's base block stands in.",
    "A list has a user's 50 items of highest generated score; those that the user clicked are among them.",
)


@dataclass(frozen=True)
class Config(ListsConfig):
    methods: tuple[str, ...] = option(METHODS, f"some of {', '.join(METHODS)}", axis=True)
    shares: tuple[float, ...] = option((0.5,), SHARES, axis=True, paper=(0.5, 0.3, 0.1))
    out: str = option("out/kd_table_2", "output folder")


def run(config: Config) -> dict[str, Any]:
    made, study = begin_lists(config, "Students of generated lists", "Table 2 of GD-REC", {"methods": METHODS})
    frame = study.run(each([*places(config)], partial(cell, made)))
    shown = []
    for (name, model), part in frame.groupby(["data", "model"], sort=False):
        theirs = published.beside("table_2", f"{name} {model}")
        columns = ("H@50", "N@50")
        shown.append(metrics_table(part, ("method", "share"), columns, f"{name}, {model}, test", theirs))
        labels = part["method"] + part["share"].map(lambda share: "" if share == 1 else f" {share:.0%}")
        rows = {label: cells.to_dict("records") for label, cells in part.groupby(labels, sort=False)}
        study.draw(f"{name}_{model}.png", plots.grouped, rows, columns, {}, f"{name}, {model}")
    return study.write(shown, [*gd_ahead(frame)], NOTES, data=", ".join(config.data))


def gd_ahead(frame: pd.DataFrame) -> Iterator[Claim]:
    """The orderings that the paper argues from."""
    for (name, model), part in frame.groupby(["data", "model"], sort=False):
        rows, verdicts = [], []
        for share, cells in at(part, method=["CD", "RD", "BD", GD]).groupby("share", sort=False):
            by_method = dict(list(cells.groupby("method")["H@50"]))
            ours = by_method.pop(GD, None)
            if ours is None or not by_method:
                continue
            verdict, row = ahead_of_each(ours, by_method)
            verdicts.append(verdict)
            rows.append({**row, "share": share})
        if rows:
            yield wording.GD_ABOVE.claim(every(verdicts), rows, data=name, model=model)
        theirs, ours = (at(part, method=method)["H@50"] for method in TEACHERS)
        if len(theirs) and len(ours):
            yield wording.LISTS_HELP_TEACHERS.claim(
                ahead(ours, theirs), data=name, model=model, ours=ours, theirs=theirs
            )


def places(config: Config) -> Iterator[dict[str, Any]]:
    """Where the cells are; a teacher has all of its own parameters."""
    for name in config.data:
        for seed in config.seeds:
            for model in config.models:
                for method in config.methods:
                    for share in (1.0,) if method in TEACHERS else config.shares:
                        yield {"model": model, "method": method, "share": share, "data": name, "seed": seed}


def cell(made: Made, model: str, method: str, share: float, data: str, seed: int) -> dict[str, Any]:
    """Test figures of a teacher, or of the best student of a method by validation."""
    if method in TEACHERS:
        split = made.workshop.split(data, seed)
        teacher = made.once("teacher", model, method, data, seed)
        tested = figures(ranks(teacher.score, split, "test"), (50,))
        return {**tested, "parameters": teacher.n_parameters, "validation": value_on(split)(teacher.model)}
    return best_student(made, model, share, data, seed, ways(made, model, method, data, seed))


def ways(made: Made, model: str, method: str, data: str, seed: int) -> Ways:
    """What a method is tried with."""
    train = made.workshop.split(data, seed).train
    if method == GD:
        yield from made.of_lists(model, data, seed, GD_WEIGHT, TEMPERATURES)
    elif method == "BD":
        teacher = made.once("teacher", model, TEACHERS[0], data, seed)
        for weight in BD_WEIGHTS:
            yield {"weight": weight}, train, Bidirectional(teacher.model, weight)
    else:
        told = tried(method, lambda: made.once("teacher", model, TEACHERS[0], data, seed).knowledge())
        for params, beside in told:
            yield params, train, beside


if __name__ == "__main__":
    flags.main(Config, run)
