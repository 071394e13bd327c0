"""How many rows out of a model does a click-through model need? Figure 4 of the model-inversion paper.

    python -m experiments.inversion.ctr_size                    # made clicks, offline
    python -m experiments.inversion.ctr_size --preset=quick     # Yahoo! R3 uniform, reduced
    python -m experiments.inversion.ctr_size --preset=paper     # Yahoo! R3 uniform, the paper's sizes, three splits

For each number of rows they are made out of each teacher, or drawn from the training rows, and LR, FM and DeepFM are
trained on them, everything chosen on validation rows. Writes `record.json`, `table.md`, a picture of each table (test
AUC over rows) and `cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.inversion import wording
from experiments.inversion.sources import LEARNERS, SOURCES
from experiments.inversion.study import NOTES, STUDENTS, TablesConfig, begin, places
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, at, every
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table

RAW = "raw"


@dataclass(frozen=True)
class Config(TablesConfig):
    tables: tuple[str, ...] = option(("made",), "see ctr_table_2", quick=("yahoo-uniform",))
    sources: tuple[str, ...] = option(
        (RAW, "LRSD", "designed FM"), f"some of {', '.join(SOURCES)}", axis=True,
        paper=(RAW, "LRSD", "FMSD", "DeepFMSD", "DeepFMSD-BN", "designed LR", "designed FM", "designed DeepFM"),
    )  # fmt: skip
    learners: tuple[str, ...] = option(("FM",), f"some of {', '.join(LEARNERS)}", axis=True, paper=STUDENTS)
    n_rows: tuple[int, ...] = option(
        (50, 400), "numbers of rows", axis=True, quick=(100, 1000, 4000), paper=(100, 500, 1000, 2000, 4000, 6000)
    )
    out: str = option("out/ctr_size", "output folder")


def run(config: Config) -> dict[str, Any]:
    study, workshop = begin(
        config, title="How many rows out of a model are needed", shows="Figure 4 of model inversion", version=1
    )
    frame = study.run(
        each(places(config, source=config.sources, n_rows=config.n_rows, learner=config.learners), workshop.taught)
    )
    shown = []
    for table, part in frame.groupby("table", sort=False):
        shown.append(metrics_table(part, ("learner", "source", "n_rows"), ("AUC", "LogLoss"), f"{table}, test"))
        by_learner = part.groupby("learner", sort=False)
        panels = {name: plots.lines(cells, ["source"], "n_rows", "AUC") for name, cells in by_learner}
        study.draw(f"{table}.png", plots.curves, panels, "rows", f"test AUC on {table}, %", log=True)
    return study.write(shown, [*few_beat_many(frame)], NOTES, data=", ".join(config.tables))


def few_beat_many(frame: pd.DataFrame) -> Iterator[Claim]:
    """Section 5.5: of each source the fewest rows teach every learner more than the most real ones do."""
    few, many = frame["n_rows"].min(), frame["n_rows"].max()
    raw = at(frame, source=RAW, n_rows=many)
    for (table, source), part in at(frame, n_rows=few).groupby(["table", "source"], sort=False):
        theirs = dict(list(at(raw, table=table).groupby("learner")["AUC"]))
        rows = [
            {"learner": learner, "ours": cells["AUC"], "theirs": theirs[learner]}
            for learner, cells in part.groupby("learner", sort=False)
            if learner in theirs and source != RAW
        ]
        if rows:
            holds = every(ahead(row["ours"], row["theirs"]) for row in rows)
            yield wording.FEW_BEAT_MANY.claim(holds, rows, table=table, source=source, few=few, many=many)


if __name__ == "__main__":
    flags.main(Config, run)
