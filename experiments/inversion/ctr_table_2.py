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
from functools import partial
from typing import Any

import pandas as pd

from experiments.inversion import wording
from experiments.inversion.sources import LEARNERS, SOURCES, Workshop
from experiments.inversion.study import NOTES, STUDENTS, TablesConfig, begin, beside_published, places
from experiments.study import flags
from experiments.study.claims import Claim, ahead, at, every
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import Table, metrics_table

WITH_TERM, WITHOUT_TERM = "DeepFMSD-BN", "DeepFMSD-BN (no term)"
INVERTED = ("LRSD", "FMSD", "DeepFMSD", WITH_TERM, WITHOUT_TERM, "FMSD (teacher's labels)")
ATTACKED = (
    "Membership is told by the loss of the model that learned from the rows, or by how the rows themselves label a "
    "pair; see experiments.inversion.membership. 0.5 is nothing."
)


@dataclass(frozen=True)
class Config(TablesConfig):
    sources: tuple[str, ...] = option(
        ("raw (all)", "raw (2K)", "LRSD", "designed FM"), f"some of {', '.join(SOURCES)}", axis=True,
        quick=("raw (all)", "raw (2K)", "LRSD", "FMSD", "designed LR", "designed FM"),
        paper=tuple(name for name in SOURCES if name != "raw"),
    )  # fmt: skip
    learners: tuple[str, ...] = option(STUDENTS, f"some of {', '.join(LEARNERS)}", axis=True)
    n_rows: int = option(500, "of a synthetic set", quick=2000)
    out: str = option("out/ctr_table_2", "output folder")


def run(config: Config) -> dict[str, Any]:
    study, workshop = begin(
        config, title="Rows out of a click-through model", shows="Table 2 of model inversion", version=2
    )
    work = places(config, source=config.sources, learner=config.learners)
    frame = study.run(each(work, partial(taught_and_told, workshop)))
    shown = [*beside_published(study, config, frame, "table_2"), *attacks(frame)]
    claims = [*above_inverted(frame), *near_all(frame), *term_helps(frame), *tell_less(frame)]
    return study.write(shown, claims, [*NOTES, ATTACKED], data=", ".join(config.tables))


def taught_and_told(workshop: Workshop, source: str, learner: str, table: str, seed: int) -> dict[str, Any]:
    """Test figures of a learner on a source's rows, and what these tell of training rows."""
    found = workshop.taught(source, learner, table, seed)
    return {**found, **workshop.told(source, table, seed)}


def attacks(frame: pd.DataFrame) -> Iterator[Table]:
    """Of each table of clicks: how well rows, and models that learned from them, tell training rows from test rows."""
    for table, part in frame.groupby("table", sort=False):
        wide = part.pivot(index=["source", "seed"], columns="learner", values="attack")
        wide = wide[[*part["learner"].unique()]].add_prefix("AUC, loss of ")
        if part.get("attack on rows", pd.Series()).notna().all():
            wide["AUC, rows"] = part.groupby(["source", "seed"])["attack on rows"].first()
        wide = wide.loc[list(dict.fromkeys(zip(part["source"], part["seed"], strict=True)))].reset_index()
        yield metrics_table(wide, ("source",), [*wide.columns[2:]], f"{table}, telling training rows from test rows")


def tell_less(frame: pd.DataFrame) -> Iterator[Claim]:
    """On each table: what was made out of an FM, and an FM of it, tell less of training rows than that FM itself."""
    for table, part in at(frame, learner="FM").groupby("table", sort=False):
        ours, teacher = at(part, source="designed FM"), at(part, source="raw (all)")["attack"]
        if len(ours) and len(teacher):
            kinds = ("attack", "attack on rows")
            if not all(name in ours and ours[name].notna().all() for name in kinds):
                continue  # a table of more than two fields
            rows = [{"name": name, "auc": ours[name]} for name in kinds]
            yield wording.TELL_LESS.claim(
                every(ahead(teacher, ours[name]) for name in kinds), rows, table=table, teacher=teacher
            )


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


def term_helps(frame: pd.DataFrame) -> Iterator[Claim]:
    """Section 4.3, on each table: the batch-normalisation term makes rows of which every learner learns more."""
    for table, part in frame.groupby("table", sort=False):
        rows = []
        for learner, cells in part.groupby("learner", sort=False):
            ours, theirs = (at(cells, source=name)["AUC"] for name in (WITH_TERM, WITHOUT_TERM))
            if len(ours) and len(theirs):
                rows.append({"learner": learner, "ours": ours, "theirs": theirs})
        if rows:
            holds = every(ahead(row["ours"], row["theirs"]) for row in rows)
            yield wording.NORM_TERM.claim(holds, rows, table=table)


if __name__ == "__main__":
    flags.main(Config, run)
