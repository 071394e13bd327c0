"""What every run ends with, a record, tables and pictures; and the cells that a study is made of.

A study is a Config, a list of cells (a place on each axis, and what works it out), and then tables,
claims and pictures of the finished ones:

    study = Study(config, split, title="...", shows="Figure 6", version=1)
    frame = study.run([({"depth": 1, "seed": 0}, lambda: {"HR@10": ...}), ...])
    study.draw("depth.png", plots.curves, ...)
    study.write(tables=[...], claims=[...], notes=[...])
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

import infae
from experiments.study import flags, plots
from experiments.study.cells import Cells, Place
from experiments.study.claims import Claim
from experiments.study.record import Stopwatch, header, output_folder, write_json, write_text
from experiments.study.tables import Table
from infae.data.fingerprint import split_fingerprint
from infae.ranking.evaluate import Recommender, metric_k
from infae.runtime.progress import bar

METRICS = ("AUC", "HR@10", "HR@100", "NDCG@10", "NDCG@100", "PSP@10")
"""Columns of the paper's table 1."""

_NOT_DECIDING = ("data_dir", "out", "plot", "shared")

Work = tuple[Place, Callable[[], Mapping[str, Any]]]


class Run:
    """A run's folder, clock and pictures, and the record that it ends with.

    `config` has `out` and `plot`; `shows` is what of the paper it regenerates, such as "Figure 6", if anything.

    Raises as `output_folder` and `plots.figure`, before any work.
    """

    def __init__(self, config: Any, *, title: str, shows: str = ""):
        self.config, self.title, self.shows = config, title, shows
        self.folder = output_folder(config.out)
        if config.plot:
            plots.figure()
        self.clock = Stopwatch()
        self._pictures: dict[str, Callable[[], None]] = {}

    def draw(self, name: str, drawing: Callable[..., None], *args: Any, **arguments: Any) -> None:
        """Have `write` make a picture, `drawing(path, *args, **arguments)`, unless pictures are not asked for."""
        if self.config.plot:
            self._pictures[name] = partial(drawing, self.folder / name, *args, **arguments)

    def write(
        self, tables: Sequence[Table], claims: Sequence[Claim] = (), notes: Sequence[str] = (), *, data: str = "",
        **found: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Write `record.json`, `table.md` and the pictures, print the tables, and return the record.

        Notes are sentences on the protocol, such as what was cut; `data` is what was worked on; `found` is whatever
        else the record keeps.
        """
        record = {
            "title": self.title,
            "shows": self.shows,
            **header(self.config),
            "seconds": sum(self.clock.seconds.values()),
            "steps": self.clock.seconds,
            "data": data,
            "tables": tables,
            "claims": claims,
            "pictures": [*self._pictures],
            "notes": notes,
            **found,
        }
        write_json(self.folder / "record.json", record)
        lists = ["\n".join(claim.markdown() for claim in claims), "\n".join(f"- {note}" for note in notes)]
        text = "\n\n".join([*(table.markdown() for table in tables), *filter(None, lists)])
        write_text(self.folder / "table.md", text + "\n")
        print(f"\n{self.title}{data and ', ' + data}:\n\n{text}\n")
        # Last: by now all that was worked out is on disk.
        for picture in self._pictures.values():
            picture()
        return record


class Study(Run):
    """A run in cells, kept in `config.out`/cells: one that was stopped goes on there.

    A folder with cells of other settings is refused. Runs that differ in their axes alone may share a
    folder, at the same time too; the last one writes the record, of its own axes.

    Args:
      config: its fields decide what a cell holds, except the axes and the folders.
      split: the data; other clicks are other settings too. None where `uses` tells of other data.
      version: of the study's code, one of the settings. Whoever changes what a cell holds counts it up.
      uses: grids and other constants that all cells depend on, by name: settings as well.
      grids: what each model is chosen from, by title; see `Cells`.
      **about: title and shows of `Run`.

    Raises as `Run` and `Cells`, before any work. So does `run` of a damaged cell.
    """

    def __init__(
        self, config: Any, split: infae.Split | None, *, version: int, uses: Mapping[str, Any] | None = None,
        grids: Mapping[str, Any] | None = None, **about: str,
    ):  # fmt: skip
        super().__init__(config, **about)
        self.split = split
        fields = [f for f in dataclasses.fields(config) if not f.metadata["axis"] and f.name not in _NOT_DECIDING]
        settings = {field.name: getattr(config, field.name) for field in fields}
        settings |= {"version": version, **(uses or {}), "data": split and split_fingerprint(split)}
        self.cells = Cells(self.folder / "cells", settings, grids)
        self.frame = pd.DataFrame()

    def run(self, work: Sequence[Work]) -> pd.DataFrame:
        """Work out the cells that are not there yet, under a progress bar.

        Returns a row for each cell of `work`, in its order: its place, its result, its `seconds`.
        """
        # Finished ones are read: damage is told now, not after hours of work.
        todo = [(at, make) for at, make in work if at not in self.cells or not self.cells[at]]
        for at, make in bar(self.title, True, todo, "cell"):
            if at in self.cells:  # meanwhile, by another process
                continue
            started = time.perf_counter()
            result = make()
            self.cells.add(at, {**result, "seconds": time.perf_counter() - started})
        self.frame = pd.DataFrame([{**at, **self.cells[at]} for at, _ in work])
        return self.frame

    def write(
        self, tables: Sequence[Table], claims: Sequence[Claim] = (), notes: Sequence[str] = (), **found: Any
    ) -> dict[str, Any]:
        """As `Run.write`, with the cells."""
        self.clock.seconds = {"cells": float(self.frame["seconds"].sum())}
        cells = self.frame.to_dict("records")
        return super().write(
            tables, claims, notes, **{"data": self.split and described(self.split), **found, "cells": cells}
        )


def load_any(config: flags.LoadConfig, seed: int = 0) -> infae.Split:
    """The data set that a Config names, with a validation part where the Config asks for one."""
    split = infae.data.load(config.dataset, config.data_dir or None, seed=seed, download=config.download)
    if config.validation_fraction:
        split = infae.data.with_validation(split, fraction=config.validation_fraction, seed=seed)
    print(split, split.note, sep="\n" if split.note else "")
    return split


def load_split(config: Any) -> infae.Split:
    """The data set that a Config names, with a validation part, which everything is chosen by.

    Raises ValueError where it has none, or `config.metric` is no metric.
    """
    metric_k(config.metric)
    split = infae.data.load(config.dataset, config.data_dir or None)
    if not split.validation.n_interactions:
        raise ValueError(f"{config.dataset} has no validation part, which everything here is chosen by")
    print(split)
    return split


def tested(model: Recommender, split: infae.Split) -> dict[str, float]:
    """`METRICS` of a model on the test part."""
    report = infae.evaluate(model, split, k=(10, 100), n_negatives=0)
    return {metric: report[metric] for metric in METRICS}


def each(places: Iterable[Place], result: Callable[..., Mapping[str, Any]]) -> list[Work]:
    """A cell at each place, of what `result(**place)` finds."""
    return [(at, partial(result, **at)) for at in places]


def described(split: infae.Split) -> str:
    """Name and size of a data set."""
    return f"{split.name}: {split.train.n_users:,} users × {split.train.n_items:,} items"
