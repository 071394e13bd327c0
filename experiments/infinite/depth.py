"""How deep should ∞-AE be? Figure 6.

    python -m experiments.infinite.depth                    # an embedded synthetic set, offline
    python -m experiments.infinite.depth --preset=paper     # three splits of ML-1M; or --dataset=magazine

At each number of hidden layers (0 is a linear network, which the paper does not have) reg is
chosen on validation and the model tested: with the published kernel, with the same but the reg that
one hidden layer chose, and with inputs times popularity^-0.25. Nothing in a fit is random, so that
the spread is over splits: 0 is the data set's own, others are drawn again from all its clicks,
80/10/10 by that seed. Writes `record.json`, `table.md`, `depth.png` and `cells/`, from which a stopped run goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise, product
from typing import Any

import pandas as pd

import infae
from experiments.infinite import wording
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, at, every
from experiments.study.flags import option
from experiments.study.runner import METRICS, Study, Work, each, load_split, tested
from experiments.study.tables import IN_PERCENT, Table, label, metrics_table, spread

PUBLISHED, SAME_REG, WEIGHTED = "published", "published at one layer's reg", "popularity^-0.25"
POWERS = {PUBLISHED: 0.0, SAME_REG: 0.0, WEIGHTED: -0.25}
"""popularity_power by model."""
ALIKE = 3.0
"""Depths are called alike where the worst is less than so many percent below the best."""


@dataclass(frozen=True)
class Config(flags.StudyConfig):
    depths: tuple[int, ...] = option(
        (0, 1, 2, 3), "hidden layers", axis=True, quick=(0, 1, 2, 3, 4), paper=(0, 1, 2, 3, 4, 5, 6)
    )
    splits: tuple[int, ...] = option((0,), "0 for the data set's own, others by seed", axis=True, paper=(0, 1, 2))
    regs: tuple[float, ...] = option(
        (0.5, 2.0, 5.0, 20.0), "to choose from at each depth: finely, since each depth has a reg of its own",
        quick=(0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0),
    )  # fmt: skip
    out: str = option("out/depth", "output folder")


def run(config: Config) -> dict[str, Any]:
    split = load_split(config)
    study = Study(config, split, title="Depth of ∞-AE", shows="Figure 6", version=1, uses={"powers": POWERS})
    frame = study.run(_work(config, split))
    relative = relative_to_best(frame)
    rows = [
        [f"{model}, {depth}", *(spread(group[metric].to_list(), "") for metric in METRICS)]
        for (model, depth), group in relative.groupby(["model", "depth"], sort=False)
    ]
    tables = [
        metrics_table(frame, ("model", "depth"), METRICS, f"Test, {IN_PERCENT}, by hidden layers"),
        Table("In percent of the best depth, linear ones aside", ["", *METRICS], rows),
    ]
    long = relative.melt(["model", "depth", "split"], list(METRICS), "metric", "share")
    panels = {m: plots.lines(part, ["metric"], "depth", "share") for m, part in long.groupby("model", sort=False)}
    study.draw("depth.png", plots.curves, panels, "hidden layers", "% of the best depth's")
    return study.write(tables, [*claims(relative)], [*_notes(config, frame)])


def resplit(split: infae.Split, number: int) -> infae.Split:
    """The split itself for 0; else its clicks, validation's and test's among them, drawn again by that seed."""
    if number == 0:
        return split
    log = split.train.union(split.validation).union(split.test)
    return infae.data.random_split(log, seed=number, name=f"{split.name}, drawn again by seed {number}")


def relative_to_best(frame: pd.DataFrame) -> pd.DataFrame:
    """Each metric over that of the depth of at least 1 that is best on the mean of splits, split by split."""
    parts = []
    for _, part in frame.groupby("model", sort=False):
        hidden = part[part["depth"] > 0] if (part["depth"] > 0).any() else part
        best = hidden.groupby("depth")[list(METRICS)].mean().idxmax()
        base = {metric: at(part, depth=best[metric]).set_index("split")[metric] for metric in METRICS}
        parts.append(part.assign(**{metric: part[metric] / part["split"].map(base[metric]) for metric in METRICS}))
    return pd.concat(parts)


def _work(config: Config, whole: infae.Split) -> list[Work]:
    numbered = cache(partial(resplit, whole))

    def fit(split: infae.Split, regs: Sequence[float], depth: int, power: float) -> infae.InfiniteAE:
        params: dict[str, Any] = {"metric": config.metric, "depth": depth, "popularity_power": power}
        return infae.fit(split.train, regs, validation=split, **params)

    reg_of_one_layer = cache(lambda number: fit(numbered(number), config.regs, 1, 0.0).reg_)

    def result(model: str, depth: int, split: int) -> dict[str, float]:
        regs = (reg_of_one_layer(split),) if model == SAME_REG else config.regs
        fitted = fit(numbered(split), regs, depth, POWERS[model])
        return {**tested(fitted, numbered(split)), "reg": fitted.reg_}

    places = product(config.splits, POWERS, config.depths)
    return each(({"model": model, "depth": depth, "split": split} for split, model, depth in places), result)


def claims(relative: pd.DataFrame) -> Iterator[Claim]:
    """Over splits, linear networks aside; only where there are three depths or more."""
    for model, part in relative[relative["depth"] > 0].groupby("model", sort=False):
        if part["depth"].nunique() < 3:
            continue
        part = part.assign(overall=part[list(METRICS)].mean(axis=1))
        shares = part.pivot(index="split", columns="depth", values=[*METRICS, "overall"])
        overall = shares["overall"]
        means = 100 * overall.mean()
        gap, own = means.max() - means.min(), "" if model == SAME_REG else ", each with a reg of its own"
        why = wording.ALIKE(own=own, gap=gap) if gap < ALIKE else ""
        if overall.columns.isin((1, 2)).any():
            yield _shallow_best(str(model), shares, why)
        later = overall.loc[:, overall.columns >= 2]
        # Split by split: they are the same for every depth.
        holds = every(ahead(later[a] - later[b], [0]) for a, b in pairwise(later))
        rows = [{"values": overall[depth], "depth": depth} for depth in overall]
        yield wording.DEEPER_WORSE.claim(holds, rows, why=why, model=model)


def _shallow_best(model: str, shares: pd.DataFrame, why: str) -> Claim:
    """By every metric the better of depths 1 and 2 is ahead of each deeper one; columns are (metric, depth)."""
    rows, verdicts, against = [], [], []
    for metric in METRICS:
        by_depth, means = shares[metric], shares[metric].mean()
        shallow, deep = means[means.index <= 2].idxmax(), means[means.index > 2].idxmax()
        ours, theirs = by_depth[shallow], by_depth[deep]
        rows.append({"metric": metric, "ours": ours, "shallow": shallow, "theirs": theirs, "deep": deep})
        verdicts += [ahead(ours - by_depth[d], [0]) for d in by_depth if d > 2]
        if means[deep] > means[shallow]:
            against.append({"metric": metric, "gap": 100 * (means[deep] - means[shallow])})
    if not why and 0 < len(against) <= len(METRICS) / 2:
        why = wording.DEEPER_BY(against)
    return wording.SHALLOW_BEST.claim(every(verdicts), rows, why=why, model=model)


def _notes(config: Config, frame: pd.DataFrame) -> Iterator[str]:
    least, largest = min(config.regs), max(config.regs)
    free = frame[frame["model"] != SAME_REG]
    edges = free["reg"].isin((least, largest))
    yield f"{edges.sum()} of {len(free)} models chose the least or the largest of regs {least:g} to {largest:g}."
    for model, group in frame.groupby("model", sort=False):
        regs = group.groupby("depth")["reg"].unique()
        listed = [f"{', '.join(map(label, row))} at {depth}" for depth, row in regs.items()]
        yield f"reg, {model}: {'; '.join(listed)}."


if __name__ == "__main__":
    flags.main(Config, run)
