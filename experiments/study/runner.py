"""What every study shares: its cells, and the record, tables and findings it ends with.

A study is a Config, a list of cells (a place on each axis, and what works it out), and then tables,
claims and pictures of the finished ones:

    study = Study(config, split, title="...", shows="Figure 6")
    frame = study.run([({"depth": 1, "seed": 0}, lambda: {"HR@10": ...}), ...])
    study.write(tables=[...], claims=[...], pictures=[...])
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import infae
from experiments.study import flags, plots
from experiments.study.cells import Cells, Place
from experiments.study.record import header, output_folder, write_json, write_text
from infae.data.fingerprint import split_fingerprint
from infae.ranking.evaluate import metric_k
from infae.runtime.progress import bar

METRICS = ("AUC", "HR@10", "HR@100", "NDCG@10", "NDCG@100", "PSP@10")
"""Columns of the paper's table 1."""

_NOT_DECIDING = ("data_dir", "out", "plot", "shared")

Work = tuple[Place, Callable[[], Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells of text under a caption; the first `n_labels` columns name the rows."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_labels: int = 1

    def markdown(self) -> str:
        lines = [f"**{self.caption}**", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|---" * self.n_labels + "|---:" * (len(self.columns) - self.n_labels) + "|")
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in self.rows)])


@dataclasses.dataclass(frozen=True)
class Claim:
    """A thing that the paper argues from, and whether these figures bear it out.

    Attributes:
      says: the claim in a sentence.
      holds: whether it holds here; None where these figures cannot tell.
      found: our figures that decide it.
      why: where it does not hold, what we know of the cause.
    """

    says: str
    holds: bool | None
    found: str
    why: str = ""

    def markdown(self) -> str:
        verdict = {True: "Holds", False: "**Does not hold**", None: "Not decided"}[self.holds]
        return f"- {verdict}: {self.says} {self.found}" + (f" {self.why}" if self.why and not self.holds else "")


class Study:
    """The cells of one study, in the folder `config.out`.

    Args:
      config: a Config with `out` and `plot`. Its fields decide what a cell holds, except the
        axes and the folders: a folder with cells of other settings is refused. Runs that differ in
        their axes may share a folder, at the same time too; the last one writes the record, of its own axes.
      split: the data; other clicks are other settings too.
      title: of the study, for its page.
      shows: what of the paper it regenerates, such as "Figure 6".

    Raises as `output_folder`, `Cells` and `plots.figure`, before any work. So does `run` of a damaged cell.
    """

    def __init__(self, config: Any, split: infae.Split, *, title: str, shows: str):
        self.config, self.split, self.title, self.shows = config, split, title, shows
        self.folder = output_folder(config.out)
        if config.plot:
            plots.figure()
        fields = [f for f in dataclasses.fields(config) if not f.metadata["axis"] and f.name not in _NOT_DECIDING]
        settings = {field.name: getattr(config, field.name) for field in fields} | {"data": split_fingerprint(split)}
        self._cells = Cells(self.folder / "cells", settings)
        self.frame = pd.DataFrame()

    def run(self, work: Sequence[Work]) -> pd.DataFrame:
        """Work out the cells that are not there yet, under a progress bar.

        Returns a row for each cell of `work`, in its order: its place, its result, its `seconds`.
        """
        todo = []
        for at, make in work:
            if at not in self._cells:
                todo.append((at, make))
            else:
                # Damage is told now, not after hours of work.
                self._cells[at]
        for at, make in bar(self.title, True, todo, "cell"):
            if at in self._cells:  # meanwhile, by another process
                continue
            started = time.perf_counter()
            result = make()
            self._cells.add(at, {**result, "seconds": time.perf_counter() - started})
        self.frame = pd.DataFrame([{**at, **self._cells[at]} for at, _ in work])
        return self.frame

    def result(self, at: Place) -> dict[str, Any]:
        """What a finished cell found, for one that goes on from it."""
        return self._cells[at]

    def write(
        self, tables: Sequence[Table], claims: Sequence[Claim], pictures: Sequence[str] = (), notes: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Write `record.json` and `table.md`, print them, and return the record.

        `pictures` are names of files in the folder; `notes` are sentences on the protocol, such as what was cut.
        """
        record = {
            "title": self.title,
            "shows": self.shows,
            **header(self.config),
            "seconds": float(self.frame["seconds"].sum()),
            "split": {"name": self.split.name, "shape": self.split.train.shape},
            "tables": tables,
            "claims": claims,
            "pictures": pictures,
            "notes": notes,
            "cells": self.frame.to_dict("records"),
        }
        write_json(self.folder / "record.json", record)
        parts = [table.markdown() for table in tables]
        parts += ["\n".join(claim.markdown() for claim in claims)] if claims else []
        parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
        text = "\n\n".join(parts)
        write_text(self.folder / "table.md", text + "\n")
        print(f"\n{self.title}, {self.split.name}:\n\n{text}\n")
        return record


def load_split(config: Any) -> infae.Split:
    """The data set that a Config names, with a validation part, which everything is chosen by.

    Raises ValueError where it has none, or `config.metric` is no metric.
    """
    split = infae.data.load(config.dataset, config.data_dir or None)
    metric_k(config.metric)
    if not split.validation.n_interactions:
        raise ValueError(f"{config.dataset} has no validation part, which everything here is chosen by")
    print(split)
    return split


def metrics_table(
    frame: pd.DataFrame,
    by: Sequence[str],
    columns: Sequence[str],
    caption: str,
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> Table:
    """A row for each combination of values on the axes `by`: mean ± standard deviation over the rest, in percent.

    `published` is label on the first axis -> column -> figure in percent (AUC as it is), shown in brackets.
    """
    rows = []
    for values, group in frame.groupby(list(by), sort=False):
        labels = [_label(value) for value in values]
        beside = (published or {}).get(labels[0], {})
        ours = {column: flags.spread(group[column].to_list(), column) for column in columns}
        rows.append([*labels, *(_beside(ours[column], beside.get(column), column) for column in columns)])
    return Table(caption, [*by, *columns], rows, len(by))


def ahead(ours: Iterable[float], theirs: Iterable[float]) -> bool | None:
    """Whether ours are larger, over seeds: True where the worst of ours is above the best of theirs.

    False where not even the mean is, or all are equal; None, not decided, where the mean is but seeds overlap.
    """
    ours, theirs = np.asarray([*ours], float), np.asarray([*theirs], float)
    if ours.min() > theirs.max():
        return True
    return None if ours.mean() > theirs.mean() else False


def ahead_of_each(
    ours: pd.Series, theirs: Mapping[Any, pd.Series], metric: str, *, named: bool = False
) -> tuple[bool | None, str]:
    """Whether ours are `ahead` of each of theirs, and "ours against the best of theirs", with its name or not."""
    best = max(theirs, key=lambda name: theirs[name].mean())
    found = f"{flags.spread(ours.to_list(), metric)} against {flags.spread(theirs[best].to_list(), metric)}"
    return every(ahead(ours, values) for values in theirs.values()), f"{found} ({best})" if named else found


def ahead_by_budget(
    ours: pd.DataFrame, theirs: pd.DataFrame, metric: str, *, named: bool = False
) -> tuple[bool | None, str] | None:
    """Verdict and figures of `ahead_of_each` source of theirs at every number of users both have; None without any."""
    verdicts, found = [], []
    for users, cells in ours.groupby("users")[metric]:
        if rivals := dict(list(theirs[theirs["users"] == users].groupby("source")[metric])):
            verdict, shown = ahead_of_each(cells, rivals, metric, named=named)
            verdicts.append(verdict)
            found.append(f"{shown} at {users:,}")
    return (every(verdicts), f"{', '.join(found)} users") if verdicts else None


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """Whether all hold: False where one does not, None where one is not decided, or there is none."""
    verdicts = [*verdicts]
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True


def lines(frame: pd.DataFrame, line: Sequence[str], x: str, metric: str) -> dict[str, dict[float, tuple[float, float]]]:
    """A panel of `plots.curves`: for each combination on the axes `line` a metric, in percent, over axis `x`."""
    found: dict[str, dict[float, tuple[float, float]]] = {}
    for (*names, place), group in frame.groupby([*line, x], sort=False):
        found.setdefault(", ".join(map(_label, names)), {})[place] = mean_and_spread(100 * group[metric])
    return found


def mean_and_spread(values: pd.Series) -> tuple[float, float]:
    """Mean and standard deviation (0 of a single value), for `plots.curves`."""
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _beside(ours: str, theirs: float | None, column: str) -> str:
    if theirs is None:
        return ours
    return f"{ours} ({theirs:.4f})" if column.startswith("AUC") else f"{ours} ({theirs:.2f})"


def _label(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return str(value)
