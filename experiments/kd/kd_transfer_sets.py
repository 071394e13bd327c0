"""On whose histories does a student learn best from a teacher: real users', or synthetic ones, of any kind?

    python -m experiments.kd.kd_transfer_sets                    # made clicks, offline
    python -m experiments.kd.kd_transfer_sets --preset=quick     # MovieLens-100K, reduced
    python -m experiments.kd.kd_transfer_sets --preset=paper     # CiteULike and MovieLens-100K, three seeds

A student of `--dim` dimensions learns from what a teacher says of the users of a source, and of nobody else; then it
ranks real users' test clicks by their histories. Weights and epochs are chosen on validation clicks. Losses that
compare vectors have a BPR teacher, the others ∞-AE. Writes `record.json`, `table.md`, a picture of each set and
`cells/`, from which a run that was stopped goes on; summaries and trained teachers are kept in `--shared`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from experiments.infinite.sources import DISTILLED, DISTILLED_BINARY, EVERYBODY, RANDOM_USERS, Sources
from experiments.kd import data, wording
from experiments.kd.distillation import suited, tried
from experiments.kd.names import ALONE, FACTORISED, LISTED, OF_VECTORS, WEIGHTS
from experiments.kd.protocol import by_history, figures, ranks
from experiments.kd.students import factorisations
from experiments.kd.study import SetsConfig, begin, places
from experiments.kd.teachers import METRIC, value_on
from experiments.kd.transfer import FRESH, GENERATED, POPULAR, SETS, USES, VIRTUAL, TransferSets
from experiments.kd.workshop import REGS, STUDENT, Workshop
from experiments.study import flags, plots
from experiments.study.claims import Claim, at, every
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table
from experiments.training.tuning import batch_of
from infae.tuning.best import Trial, best

LOSSES = (FACTORISED, ALONE, *WEIGHTS)
OF_REAL = f"share of {EVERYBODY}'s"
NOTES = (
    "H@50: a real user's one test click among all items not clicked, of a student who is shown the training clicks.",
    "Losses that compare vectors have a BPR teacher of 200 dimensions, the others ∞-AE; alone is a student of the "
    "source's clicks without a teacher.",
    "Lists of GD-REC are of real users, and hold many of the items that they clicked.",
)


@dataclass(frozen=True)
class Config(SetsConfig):
    data: tuple[str, ...] = option(("made",), f"some of {', '.join(data.DATASETS)}", axis=True, quick=("ml-100k",),
        paper=("ml-100k", "citeulike"))  # fmt: skip
    sources: tuple[str, ...] = option((EVERYBODY, DISTILLED_BINARY, GENERATED, POPULAR),
        f"some of {', '.join(SETS)}", axis=True, quick=(EVERYBODY, DISTILLED_BINARY, RANDOM_USERS, POPULAR),
        paper=(EVERYBODY, DISTILLED, DISTILLED_BINARY, FRESH, GENERATED, VIRTUAL, POPULAR, RANDOM_USERS, "head users"),
    )  # fmt: skip
    losses: tuple[str, ...] = option((FACTORISED, LISTED, "RRD"), f"some of {', '.join(LOSSES)}", axis=True,
        paper=(FACTORISED, LISTED, ALONE, "RD", "CD", "RRD", "DE", "FTD"))  # fmt: skip
    n_users: int = option(60, "of a synthetic set", quick=200, paper=500)
    dim: int = option(4, "of students", quick=20)
    steps: int = option(10, "outer steps of the summaries", quick=50, paper=400)
    shared: str = option("out/shared", "folder of summaries and trained teachers")
    out: str = option("out/kd_transfer_sets", "output folder")


def run(config: Config) -> dict[str, Any]:
    choices = {"sources": SETS, "losses": LOSSES}
    uses = {"sets": USES, "teachers": Workshop().of_teachers, "regs": REGS}
    study, workshop = begin(config, title="Transfer sets of knowledge distillation", choices=choices, uses=uses)
    cells = places(config, loss=config.losses, source=config.sources)
    frame = study.run(each(cells, partial(cell, workshop, config, {})))
    shown = []
    for name, part in frame.groupby("data", sort=False):
        part = beside_real(part)
        shown.append(metrics_table(part, ("loss", "source", "users"), (METRIC, "N@50", OF_REAL), f"{name}, test"))
        for loss, cells in part.groupby("loss", sort=False):
            rows = {source: group.to_dict("records") for source, group in cells.groupby("source", sort=False)}
            study.draw(
                f"{name}_{loss}.png".replace(" ", "_"), plots.grouped, rows, [METRIC, "N@50"], {}, f"{name}, {loss}"
            )
    return study.write(shown, [*no_data_needed(frame)], NOTES, data=", ".join(config.data))


def no_data_needed(frame: pd.DataFrame) -> Iterator[Claim]:
    """Of each loss the best kind of DISTILL-CF's users by validation, against all real users."""
    for name, part in frame.groupby("data", sort=False):
        ours = at(beside_real(part), source=[DISTILLED, DISTILLED_BINARY, FRESH])
        rows = []
        for loss, cells in ours.groupby("loss", sort=False):
            source = cells.groupby("source", sort=False)["validation"].mean().idxmax()
            rows.append({"loss": loss, "source": source, "ours": at(cells, source=source)[OF_REAL]})
        if rows and all(row["ours"].notna().all() for row in rows):
            holds = every(bool(row["ours"].min() >= 0.9) for row in rows)
            yield wording.NO_DATA_NEEDED.claim(holds, rows, data=name)


def beside_real(part: pd.DataFrame) -> pd.DataFrame:
    """With each student's share of the H@50 that the same student has on real users, of the same seed."""
    real = part[part["source"] == EVERYBODY].set_index(["loss", "seed"])[METRIC]
    shares = [row[METRIC] / real.get((row["loss"], row["seed"]), float("nan")) for row in part.to_dict("records")]
    return part.assign(**{OF_REAL: shares})


def cell(
    workshop: Workshop, config: Config, sets: dict[Any, TransferSets], loss: str, source: str, data: str, seed: int
) -> dict[str, Any]:
    """Test figures of the best student by validation."""
    split = workshop.split(data, seed)
    if (data, seed) not in sets:
        sets.clear()
        sets[data, seed] = TransferSets(Sources(split, config.shared, steps=config.steps), config.n_epochs)
    clicks = sets[data, seed].clicks(source, config.n_users, seed)
    teacher = workshop.teacher("BPR" if loss in OF_VECTORS else "∞-AE", data, seed)
    value = value_on(split, by_history)

    def trials() -> Any:
        if loss == FACTORISED:
            made = factorisations(by_history(teacher.model, clicks), clicks, config.dim, REGS)
            for reg, student in zip(REGS, made, strict=True):
                yield Trial({"reg": reg}, (value(student), student))
            return
        for params, beside in tried(loss, lambda: teacher.asked_of(clicks)):
            n_epochs, batch_size = workshop.n_epochs or STUDENT.n_epochs, batch_of(clicks.n_interactions, 256, 1024)
            model = replace(STUDENT, n_factors=config.dim, seed=seed, n_epochs=n_epochs, batch_size=batch_size)
            model = suited(model, loss, clicks.shape).fit(clicks, value=value, beside=beside)
            yield Trial({**params, "epoch": model.epoch_}, (value(model), model))

    found = best(trials(), lambda found: found[0], METRIC)
    tested = figures(ranks(by_history(found.candidate[1], split.train), split, "test"))
    return {**tested, **found.params, "users": clicks.n_users, "validation": found.value}


if __name__ == "__main__":
    flags.main(Config, run)
