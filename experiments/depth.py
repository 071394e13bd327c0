"""How deep should ∞-AE be? Figure 6.

    python -m experiments.depth                    # an embedded synthetic set, offline
    python -m experiments.depth --preset=paper     # ML-1M, three splits; --dataset=magazine for the other

At each number of hidden layers (0 is a linear network, which the paper does not have) reg is
chosen on validation and the model tested: with the published kernel, and with inputs times
popularity^-0.25 beside it. Nothing in a fit is random, so that the spread is over splits: 0 is the
data set's own, others are drawn again from all its clicks, 80/10/10 by that seed. Finished cells are
kept in `cells.json`. Writes `record.json`, `table.md` and `depth.png`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pandas as pd

import infae
from experiments import common, plots
from experiments.common import option
from experiments.study import METRICS, Claim, Study, Table, Work, load_split, mean_and_spread, metrics_table

INPUTS = {"published inputs": 0.0, "popularity^-0.25": -0.25}


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    preset: str = common.preset_option()
    dataset: str = option("synthetic", "name of the data set", quick="ml-100k", paper="ml-1m")
    data_dir: str = option("", "folder that holds the data sets; INFAE_DATA where empty")
    depths: tuple[int, ...] = option(
        (0, 1, 2, 3), "hidden layers", axis=True, quick=(0, 1, 2, 3, 4), paper=(0, 1, 2, 3, 4, 5, 6)
    )
    splits: tuple[int, ...] = option((0,), "0 for the data set's own, others by seed", axis=True, paper=(0, 1, 2))
    regs: tuple[float, ...] = option(
        (0.5, 2.0, 5.0, 20.0), "to choose from at each depth: finely, since each depth has a reg of its own",
        quick=(0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0),
    )  # fmt: skip
    metric: str = option("HR@100", "what reg is chosen by, on validation")
    out: str = option("out/depth", "output folder")
    plot: bool = option(True, "write depth.png")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    split = load_split(config)
    study = Study(config, split, title="Depth of ∞-AE", shows="Figure 6")
    frame = study.run(_work(config, split))
    relative = relative_to_best(frame)
    tables = [
        metrics_table(frame, ("inputs", "depth"), METRICS, "Test, in percent (AUC as it is), by hidden layers"),
        _relative_table(relative),
    ]
    if config.plot:
        panels = {inputs: _lines(part) for inputs, part in relative.groupby("inputs", sort=False)}
        plots.curves(study.folder / "depth.png", panels, "hidden layers", "% of the best depth's")
    pictures = ["depth.png"] if config.plot else []
    return study.write(tables, [*_claims(relative)], pictures, [*_notes(config, frame)])


def resplit(split: infae.Split, number: int) -> infae.Split:
    """The split itself for 0; else its clicks, validation's and test's among them, drawn again by that seed."""
    if number == 0:
        return split
    log = split.train.union(split.validation).union(split.test)
    return infae.data.random_split(log, seed=number, name=f"{split.name}, drawn again by seed {number}")


def relative_to_best(frame: pd.DataFrame) -> pd.DataFrame:
    """Each metric over that of the depth of at least 1 that is best on the mean of splits, split by split."""
    parts = []
    for _, group in frame.groupby("inputs", sort=False):
        hidden = group[group["depth"] > 0] if (group["depth"] > 0).any() else group
        best = hidden.groupby("depth")[list(METRICS)].mean().idxmax()
        part = group.copy()
        for metric in METRICS:
            base = group[group["depth"] == best[metric]].set_index("split")[metric]
            part[metric] = group[metric] / group["split"].map(base)
        parts.append(part)
    return pd.concat(parts)


def _work(config: Config, split: infae.Split) -> list[Work]:
    drawn = functools.cache(partial(resplit, split))
    return [
        ({"inputs": inputs, "depth": depth, "split": number}, partial(_result, config, drawn, power, depth, number))
        for number in config.splits
        for inputs, power in INPUTS.items()
        for depth in config.depths
    ]


def _result(
    config: Config, drawn: Callable[[int], infae.Split], power: float, depth: int, number: int
) -> dict[str, float]:
    split = drawn(number)
    model = infae.fit(
        split.train, config.regs, validation=split, metric=config.metric, depth=depth, popularity_power=power
    )
    report = infae.evaluate(model, split, k=(10, 100), n_negatives=0)
    return {**{metric: report[metric] for metric in METRICS}, "reg": model.reg_}


def _relative_table(relative: pd.DataFrame) -> Table:
    rows = [
        [f"{inputs}, {depth}", *(common.spread(group[metric].to_list(), "") for metric in METRICS)]
        for (inputs, depth), group in relative.groupby(["inputs", "depth"], sort=False)
    ]
    return Table("In percent of the best depth, linear ones aside", ["", *METRICS], rows)


def _lines(relative: pd.DataFrame) -> dict[str, dict[float, tuple[float, float]]]:
    by_depth = list(relative.groupby("depth"))
    return {metric: {depth: mean_and_spread(100 * group[metric]) for depth, group in by_depth} for metric in METRICS}


def _claims(relative: pd.DataFrame) -> Iterator[Claim]:
    """By the mean over splits, linear networks aside; only where there are three depths or more."""
    for inputs, part in relative[relative["depth"] > 0].groupby("inputs", sort=False):
        means = part.groupby("depth")[list(METRICS)].mean()
        if len(means) < 3:
            continue
        best, overall = means.idxmax(), 100 * means.mean(axis=1)
        why = f"All depths are within {100 - overall.min():.2f}% of the best: with a reg of its own for each, depth "
        why += "matters little."
        yield Claim(
            f"With {inputs}, 1 or 2 hidden layers are best.",
            bool(best.isin((1, 2)).all()),
            "Best: " + ", ".join(f"{depth} by {metric}" for metric, depth in best.items()) + ".",
            why,
        )
        later = overall[overall.index >= 2]
        yield Claim(
            f"With {inputs}, models get worse as they get deeper.",
            all(b < a for a, b in pairwise(later)),
            "Mean over metrics, % of the best: " + ", ".join(f"{v:.2f} at {d}" for d, v in overall.items()) + ".",
            why,
        )


def _notes(config: Config, frame: pd.DataFrame) -> Iterator[str]:
    least, largest = min(config.regs), max(config.regs)
    edges = frame["reg"].isin((least, largest))
    yield f"{edges.sum()} of {len(frame)} models chose the least or the largest of regs {least:g} to {largest:g}."


if __name__ == "__main__":
    common.main(Config, run)
