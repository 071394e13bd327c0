"""What do click-through models learn from 2,000 rows made out of a model? Table 2 of the model-inversion paper.

    python -m experiments.inversion.ctr_table_2                    # made clicks, offline
    python -m experiments.inversion.ctr_table_2 --preset=quick     # Yahoo! R3 uniform, reduced
    python -m experiments.inversion.ctr_table_2 --preset=paper     # Yahoo! R3 and ML-1M, three splits

For each table and random split teachers are trained on all training rows. Rows are made out of each, or taken from the
training rows, and LR, FM and DeepFM are trained on them and tested; settings and epochs are chosen on validation
rows. Writes `record.json`, `table.md`, a picture of each table and `cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.ctr import tables
from experiments.inversion import published, wording
from experiments.inversion.sources import LEARNERS, SOURCES, Workshop
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, at, every
from experiments.study.flags import option
from experiments.study.runner import Study, each
from experiments.study.tables import metrics_table
from infae.runtime import checks

STUDENTS = ("LR", "FM", "DeepFM")
INVERTED = ("LRSD", "FMSD", "DeepFMSD", "DeepFMSD-BN", "FMSD (teacher's labels)")
NOTES = (
    "Random splits 8:1:1; a rating of 4 or 5 is a click. Figures in brackets are the paper's.",
    "Inverted rows are by Algorithm 1 in softmax space (loss threshold 0.3, Adam 0.1, half of the rows with a frozen "
    "user, half with a frozen item): the paper's step sizes leave the simplex.",
)


@dataclass(frozen=True)
class Config:
    preset: str = option("smoke", f"which defaults the other flags have: {', '.join(flags.PRESETS)}")
    tables: tuple[str, ...] = option(
        ("made",), f"some of {', '.join(tables.TABLES)}", quick=("yahoo-uniform",),
        paper=("yahoo-uniform", "yahoo-selected", "ml-1m"),
    )  # fmt: skip
    data_dir: str = option("", flags.DATA_DIR)
    seeds: tuple[int, ...] = option((0,), "of splits and of all that is drawn", axis=True, quick=(0,), paper=(0, 1, 2))
    sources: tuple[str, ...] = option(
        ("raw (all)", "raw (2K)", "LRSD", "designed FM"), f"some of {', '.join(SOURCES)}", axis=True,
        quick=("raw (all)", "raw (2K)", "LRSD", "FMSD", "designed LR", "designed FM"), paper=tuple(SOURCES),
    )  # fmt: skip
    learners: tuple[str, ...] = option(STUDENTS, f"some of {', '.join(LEARNERS)}", axis=True)
    n_rows: int = option(500, "of a synthetic set", quick=2000)
    n_epochs: int = option(20, "at most; 0 for as many as the settings say", quick=100, paper=0)
    out: str = option("out/ctr_table_2", "output folder")
    plot: bool = option(True, "draw pictures")


def run(config: Config) -> dict[str, Any]:
    for name, known in (("tables", tables.TABLES), ("sources", SOURCES), ("learners", LEARNERS)):
        for value in getattr(config, name):
            checks.choice(f"--{name}", value, known)
    checks.whole("--n_rows", config.n_rows)
    checks.whole("--n_epochs", config.n_epochs, 0)
    for seed in config.seeds:
        checks.seed("--seeds", seed)
    workshop = Workshop(config.data_dir, config.n_rows, config.n_epochs)
    study = Study(
        config, None, title="Rows out of a click-through model", shows="Table 2 of model inversion", version=1,
        uses={**workshop.uses, "clicks": workshop.fingerprint(config.tables)},
    )  # fmt: skip
    places = [
        {"source": source, "learner": learner, "table": table, "seed": seed}
        for table in config.tables
        for seed in config.seeds
        for source in config.sources
        for learner in config.learners
    ]
    frame = study.run(each(places, workshop.taught))
    shown = []
    for table, part in frame.groupby("table", sort=False):
        wide = beside_each_other(part)
        columns = [f"{metric} {learner}" for learner in config.learners for metric in ("AUC", "LogLoss")]
        theirs = published.beside("table_2", table)
        shown.append(metrics_table(wide, ("source",), columns, f"{table}, test", theirs))
        rows = {source: cells.to_dict("records") for source, cells in wide.groupby("source", sort=False)}
        aucs = [column for column in columns if column.startswith("AUC")]
        study.draw(f"{table}.png", plots.grouped, rows, aucs, theirs, f"test on {table}; marks: the paper's")
    claims = [*above_inverted(frame), *near_all(frame)]
    return study.write(shown, claims, NOTES, data=", ".join(config.tables))


def beside_each_other(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each source and seed, with AUC and LogLoss of each learner."""
    wide = cells.pivot(index=["source", "seed"], columns="learner", values=["AUC", "LogLoss"])
    wide.columns = [f"{metric} {learner}" for metric, learner in wide.columns]
    return wide.loc[list(dict.fromkeys(zip(cells["source"], cells["seed"], strict=True)))].reset_index()


def above_inverted(frame: pd.DataFrame) -> Iterator[Claim]:
    """On each table: designed rows above Algorithm 1's for every learner, the best of each kind by validation."""
    designed = [name for name in SOURCES if name.startswith("designed")]
    for table, part in frame.groupby("table", sort=False):
        verdicts, rows = [], []
        for learner, cells in part.groupby("learner", sort=False):
            kinds = [at(cells, source=[*names]) for names in (designed, INVERTED)]
            if all(len(kind) for kind in kinds):
                best = [kind.groupby("source")["validation"].mean().idxmax() for kind in kinds]
                ours, theirs = (at(kind, source=name)["AUC"] for kind, name in zip(kinds, best, strict=True))
                verdicts.append(ahead(ours, theirs))
                rows.append({"learner": learner, "ours": ours, "theirs": theirs})
        if rows:
            yield wording.ABOVE_INVERTED.claim(every(verdicts), rows, table=table)


def near_all(frame: pd.DataFrame) -> Iterator[Claim]:
    """On each table: an FM of designed rows within 1% of an FM of all rows."""
    for table, part in at(frame, learner="FM").groupby("table", sort=False):
        ours, everything = (at(part, source=name)["AUC"] for name in ("designed FM", "raw (all)"))
        if len(ours) and len(everything):
            share = ours.mean() / everything.mean()
            yield wording.NEAR_ALL.claim(bool(share >= 0.99), table=table, ours=ours, everything=everything)


if __name__ == "__main__":
    flags.main(Config, run)
