"""Which way of distilling makes the best small student? Every loss, from several teachers, by two protocols.

    python -m experiments.kd.kd_methods                    # made clicks, offline
    python -m experiments.kd.kd_methods --preset=quick     # CiteULike, reduced
    python -m experiments.kd.kd_methods --preset=paper     # CiteULike and Foursquare, three seeds

A student of `--dim` dimensions learns alone, from a teacher in each way, or is the truncated SVD of the teacher's
scores. Weights and epochs are chosen on validation clicks. Each user's test click is ranked among all items (H@50) and
among 499 (H@5). Writes `record.json`, `table.md`, a picture of each set and `cells/`, from which a run that was stopped
goes on; trained teachers are kept in `--shared`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from experiments.kd import data, published, wording
from experiments.kd.names import ALONE, FACTORISED, LISTED, OF_VECTORS, WEIGHTS
from experiments.kd.study import SetsConfig, begin
from experiments.kd.teachers import CLOSED, TEACHERS
from experiments.kd.workshop import AMONG, AND, ITSELF, Workshop, check_teacher
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, at, every
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table

TEACHER, PUBLISHED = "teacher", 20
METHODS = (*WEIGHTS, FACTORISED)
COLUMNS = ("H@50", "N@50", *(f"{metric}{AMONG}" for metric in ("H@5", "H@10", "N@10")))
NOTES = (
    "H@k and N@k (NDCG): a user's one test click among all items not clicked; of 499: among 499 of them, drawn.",
    "Figures in brackets are published: H@50 of topology distillation after 100 epochs, of one run; of 499 by DE-RRD "
    "on CiteULike, with HyperKDMA's teacher, and by HyperKDMA on Foursquare. Their candidates are others.",
    "Losses that compare vectors have no student of a teacher without any.",
)


@dataclass(frozen=True)
class Config(SetsConfig):
    data: tuple[str, ...] = option(("made",), f"some of {', '.join(data.DATASETS)}", axis=True, quick=("citeulike",),
        paper=("citeulike", "foursquare"))  # fmt: skip
    teachers: tuple[str, ...] = option(
        ("BPR", "EASE"), f"some of {', '.join((*TEACHERS, ITSELF))}; or several as one: 'BPR + EASE', with weights "
        "learned on validation clicks 'BPR + EASE (learned)'", axis=True, quick=("EASE",),
        paper=("BPR", "EASE", "∞-AE"),
    )  # fmt: skip
    methods: tuple[str, ...] = option(("RRD", "FTD", LISTED, FACTORISED), f"some of {', '.join(METHODS)}", axis=True,
        quick=("RRD", LISTED, FACTORISED), paper=METHODS)  # fmt: skip
    dim: tuple[int, ...] = option((4,), "of students", axis=True, quick=(20,), paper=(20,))
    shared: str = option("out/shared", "folder of trained teachers")
    out: str = option("out/kd_methods", "output folder")


def run(config: Config) -> dict[str, Any]:
    for title in config.teachers:
        if title != ITSELF:
            check_teacher("--teachers", title)
    study, workshop = begin(
        config, title="Ways of distilling", choices={"methods": METHODS}, uses={"teachers": Workshop().of_teachers}
    )
    frame = study.run(each([*places(config)], partial(cell, workshop)))
    shown = []
    frame["model"] = [*map(called, frame["learner"], frame["teacher"])]
    for name, part in frame.groupby("data", sort=False):
        theirs = published.beside("methods", name)
        # Published students have 20 dimensions.
        beside = theirs if {*part["dim"]} <= {0, PUBLISHED} else None
        shown.append(metrics_table(part, ("model", "dim"), COLUMNS, f"{name}, test", beside))
        for dim in config.dim:
            cells = part[part["dim"].isin([0, dim])].groupby("model", sort=False)
            rows = {model: group.to_dict("records") for model, group in cells}
            columns = ["H@50", "H@5" + AMONG]
            study.draw(
                f"{name}_{dim}.png",
                plots.grouped,
                rows,
                columns,
                theirs if dim == PUBLISHED else {},
                f"{name}, students of {dim}",
            )
    return study.write(shown, [*learns_more(frame)], NOTES, data=", ".join(config.data))


def learns_more(frame: pd.DataFrame) -> Iterator[Claim]:
    """Each teacher's students against one that learns alone."""
    students = frame[frame["dim"] > 0]
    for (name, dim), part in students.groupby(["data", "dim"], sort=False):
        alone = at(part, learner=ALONE)["H@50"]
        for teacher, taught in part[part["teacher"] != ""].groupby("teacher", sort=False):
            rows = [
                {"learner": learner, "ours": cells["H@50"]} for learner, cells in taught.groupby("learner", sort=False)
            ]
            holds = every(ahead(row["ours"], alone) for row in rows)
            yield wording.LEARNS_MORE.claim(holds, rows, data=name, dim=dim, teacher=teacher, alone=alone)


def places(config: Config) -> Iterator[dict[str, Any]]:
    """Where the cells are: each teacher, a student alone, and each student of each teacher that it can have."""
    for name in config.data:
        for seed in config.seeds:
            at = {"data": name, "seed": seed}
            for title in config.teachers:
                if title != ITSELF:
                    yield {"learner": TEACHER, "teacher": title, "dim": 0, **at}
            for dim in config.dim:
                yield {"learner": ALONE, "teacher": "", "dim": dim, **at}
                for title in config.teachers:
                    for method in config.methods:
                        if has_vectors(title) or method not in OF_VECTORS:
                            yield {"learner": method, "teacher": title, "dim": dim, **at}


def has_vectors(teacher: str) -> bool:
    """MVAE, closed-form teachers and several as one have none of users and items."""
    return teacher not in (*CLOSED, "MVAE") and AND not in teacher


def called(learner: str, teacher: str) -> str:
    """A row of the table."""
    if learner == TEACHER:
        return f"{teacher}, the teacher"
    return f"{learner} of {teacher}" if teacher else learner


def cell(workshop: Workshop, learner: str, teacher: str, dim: int, data: str, seed: int) -> dict[str, Any]:
    """Test figures of a teacher or a student."""
    if learner == TEACHER:
        return workshop.tested(workshop.teacher(teacher, data, seed).score, data, seed)
    return workshop.taught(learner, teacher, dim, data, seed)


if __name__ == "__main__":
    flags.main(Config, run)
