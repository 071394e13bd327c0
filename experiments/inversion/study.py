"""What the studies of click-through rows share: flags, their checks, and how cells of several learners are shown."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.ctr import tables
from experiments.inversion import published
from experiments.inversion.sources import LEARNERS, SOURCES, Workshop
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Study
from experiments.study.tables import Table, metrics_table
from infae.runtime import checks

STUDENTS = ("LR", "FM", "DeepFM")
NOTES = (
    "Random splits 8:1:1; a rating of 4 or 5 is a click. Figures in brackets are the paper's.",
    "Inverted rows are by Algorithm 1 in softmax space (threshold 0.3, Adam 0.1, half of the rows with a frozen user, "
    "half with a frozen item): the paper's step sizes leave the simplex.",
    "Half of the labels of inverted rows are 1; on Yahoo uniform, where 9% are clicks, a tenth, and the threshold is "
    "0.25.",
)


@dataclass(frozen=True)
class TablesConfig:
    """Flags that every such study has."""

    preset: str = option("smoke", f"which defaults the other flags have: {', '.join(flags.PRESETS)}")
    tables: tuple[str, ...] = option(
        ("made",), f"some of {', '.join(tables.TABLES)}", quick=("yahoo-uniform",),
        paper=("yahoo-uniform", "yahoo-selected", "ml-1m"),
    )  # fmt: skip
    data_dir: str = option("", flags.DATA_DIR)
    seeds: tuple[int, ...] = option((0,), "of splits and of all that is drawn", axis=True, quick=(0,), paper=(0, 1, 2))
    n_epochs: int = option(20, "at most; 0 for as many as the settings say", quick=100, paper=0)
    out: str = option("out/inversion", "output folder")
    plot: bool = option(True, "draw pictures")


def begin(
    config: Any, *, title: str, shows: str, version: int, workshop: type[Workshop] = Workshop,
    uses: Mapping[str, Any] | None = None, choices: Mapping[str, Any] | None = None,
) -> tuple[Study, Workshop]:  # fmt: skip
    """The study and the workshop of a Config; ValueError for flags that are none, before any work.

    `choices` are those of flags that list names, where they are other than of sources and learners.
    """
    known: dict[str, Any] = {"tables": tables.TABLES, "sources": SOURCES, "learners": LEARNERS, **(choices or {})}
    for name in known:
        for value in getattr(config, name, ()):
            checks.choice(f"--{name}", value, known[name])
    for name in ("n_rows", "n_epochs"):
        for value in [*_several(getattr(config, name))]:
            checks.whole(f"--{name}", value, int(name == "n_rows"))
    for seed in config.seeds:
        checks.seed("--seeds", seed)
    n_rows = max(_several(config.n_rows))
    made = workshop(config.data_dir, n_rows, config.n_epochs)
    uses = {**made.uses, **(uses or {}), "clicks": made.fingerprint(config.tables)}
    return Study(config, None, title=title, shows=shows, version=version, uses=uses, grids=made.grids), made


def _several(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def beside_each_other(cells: pd.DataFrame, axis: str = "source") -> pd.DataFrame:
    """A row for each value on the axis and seed, with AUC and LogLoss of each learner."""
    wide = cells.pivot(index=[axis, "seed"], columns="learner", values=["AUC", "LogLoss"])
    wide.columns = [f"{metric} {learner}" for metric, learner in wide.columns]
    return wide.loc[list(dict.fromkeys(zip(cells[axis], cells["seed"], strict=True)))].reset_index()


def places(config: Any, **axes: Sequence[Any]) -> list[dict[str, Any]]:
    """Where the cells are: every combination of values on the axes, for each table and seed."""
    combined = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [{**at, "table": table, "seed": seed} for table in config.tables for seed in config.seeds for at in combined]


def beside_published(
    study: Study, config: Any, frame: pd.DataFrame, shown: str, axis: str = "source", where: str = "test"
) -> list[Table]:
    """For each table of clicks a table, ours beside the paper's, and a picture; a row is a value on the axis."""
    found = []
    for table, part in frame.groupby("table", sort=False):
        wide, theirs = beside_each_other(part, axis), published.beside(shown, table)
        columns = [f"{metric} {learner}" for learner in config.learners for metric in ("AUC", "LogLoss")]
        found.append(metrics_table(wide, (axis,), columns, f"{table}, {where}", theirs))
        rows = {name: cells.to_dict("records") for name, cells in wide.groupby(axis, sort=False)}
        study.draw(f"{table}.png", plots.grouped, rows, columns[::2], theirs, f"{table}, {where}; marks: the paper's")
    return found
