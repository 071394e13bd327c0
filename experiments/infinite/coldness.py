"""Which users and items is each model good for, the cold or the popular ones? Figure 7.

    python -m experiments.infinite.coldness                    # an embedded synthetic set, offline
    python -m experiments.infinite.coldness --preset=paper     # ML-1M; --dataset=magazine for the other

Users and items are put into bins of one size by their train clicks, coldest first. Of a bin of users
it shows their mean HR@100; of a bin of items the share of held-out clicks on them that are among
their user's 100 best (the paper does not say how it measures items). Items that train never saw
are a bin of their own, 0. Models are chosen on validation and tested. Beside the published ∞-AE there is
"∞-AE, chosen", with the network and item weights of DISTILL-CF's teacher, and a reg from the grid of
`experiments.recommenders.registry.fit_infae`, which has more of them than the teacher's: it may be another reg.

Finished cells are kept in `cells/`. Writes `record.json`, `table.md` and `coldness.png`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

import infae
from experiments.infinite import wording
from experiments.infinite.bins import coldness_bins, held_out_ranks, items_served, users_served
from experiments.infinite.sources import Sources
from experiments.recommenders import registry
from experiments.recommenders.registry import CHOSEN_INFAE, MODELS, PUBLISHED_INFAE, Search
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead_of_each, at, every
from experiments.study.flags import option
from experiments.study.runner import Study, Work, load_split
from experiments.study.tables import Table, spread
from infae.runtime import checks

_SERVED = {"users": users_served, "items": items_served}


@dataclass(frozen=True)
class Config(flags.SeededConfig):
    """Flags of the study."""

    models: tuple[str, ...] = option(
        ("popularity", "ease", "infae"), "some of " + registry.MODEL_NAMES, axis=True,
        paper=("popularity", "ease", "infae", "mf", "lightgcn", "mvae"),
    )  # fmt: skip
    chosen: bool = option(
        True, "beside the published ∞-AE also one with the teacher's network and item weights", axis=True
    )
    bins: int = option(5, "of users, and of items")
    k: int = option(100, "of HR@k")
    out: str = option("out/coldness", "output folder")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    registry.check_models(config.models)
    checks.whole("--k", config.k)
    checks.whole("--bins", config.bins)
    split = load_split(config)
    sources = Sources(split, config.shared, config.metric)
    study = Study(
        config, split, title="Cold and popular users and items", shows="Figure 7", version=1, uses=sources.uses,
        grids=registry.grids({*config.models, "infae"}),
    )  # fmt: skip
    bins = {side: coldness_bins(counts, config.bins) for side, counts in _train_clicks(split).items()}
    frame = study.run(_work(config, sources, bins))
    tables = [_bins_table(split, bins), *(_table(config, frame, side) for side in _SERVED)]
    panels = {f"{side}, coldest first": _lines(config, frame, side) for side in _SERVED}
    study.draw("coldness.png", plots.curves, panels, "bin by train clicks", f"test HR@{config.k}, %")
    return study.write(tables, [*claims(config, frame)], [*_notes(config)])


def _train_clicks(split: infae.Split) -> dict[str, np.ndarray]:
    matrix = split.train.matrix
    return {"users": np.diff(matrix.indptr), "items": np.bincount(matrix.indices, minlength=split.train.n_items)}


def _work(config: Config, sources: Sources, bins: dict[str, np.ndarray]) -> list[Work]:
    drawn = [
        (MODELS[name].title, name, seed)
        for name in config.models
        for seed in (config.seeds if MODELS[name].needs_torch else config.seeds[:1])
    ]
    if config.chosen:
        drawn.append((CHOSEN_INFAE, "infae", config.seeds[0]))
    return [
        ({"model": title, "seed": seed}, partial(_result, config, sources, bins, title, name, seed))
        for title, name, seed in drawn
    ]


def _result(
    config: Config, sources: Sources, bins: dict[str, np.ndarray], title: str, name: str, seed: int
) -> dict[str, Any]:
    search = Search.of(config, seed, sources.teacher if title == CHOSEN_INFAE else None)
    model, parameters = MODELS[name].choose(sources.split.train, sources.split, search)
    ranks = held_out_ranks(model, sources.split)
    served = {side: of(ranks, bins[side], config.k) for side, of in _SERVED.items()}
    return {f"{side} {b}": value for side in _SERVED for b, value in enumerate(served[side])} | {"chosen": parameters}


def _places(config: Config, frame: pd.DataFrame, side: str) -> dict[int, str]:
    """Bins with anything held out, and their columns."""
    columns = {b: f"{side} {b}" for b in range(config.bins + 1)}
    return {b: column for b, column in columns.items() if column in frame and frame[column].notna().any()}


def _table(config: Config, frame: pd.DataFrame, side: str) -> Table:
    places = _places(config, frame, side)
    rows = [
        [model, *(spread(group[column].to_list(), "") for column in places.values())]
        for model, group in frame.groupby("model", sort=False)
    ]
    return Table(f"Test HR@{config.k} of {side} by bin, %", ["", *map(_bin_name, places)], rows)


def _bin_name(number: int) -> str:
    return f"bin {number}" if number else "never in train"


def _bins_table(split: infae.Split, bins: dict[str, np.ndarray]) -> Table:
    test = split.test.matrix
    held_out = {"users": np.diff(test.indptr), "items": np.bincount(test.indices, minlength=split.test.n_items)}
    rows = []
    for side, counts in _train_clicks(split).items():
        for b in np.unique(bins[side]):
            within = bins[side] == b
            clicks = f"{counts[within].min():,} to {counts[within].max():,}"
            rows.append([f"{side}, {_bin_name(b)}", f"{within.sum():,}", clicks, f"{held_out[side][within].sum():,}"])
    return Table("The bins", ["", "size", "train clicks of each", "held-out clicks together"], rows)


def _lines(config: Config, frame: pd.DataFrame, side: str) -> plots.Panel:
    places = _places(config, frame, side)
    long = frame.rename(columns={column: b for b, column in places.items()})
    return plots.lines(long.melt("model", list(places), "bin", "served"), ["model"], "bin", "served")


def claims(config: Config, frame: pd.DataFrame) -> Iterator[Claim]:
    """For ∞-AE as published and as chosen: ahead of all other models in each bin that the paper names.

    Bins with nothing held out are left aside.
    """
    both, torso = (PUBLISHED_INFAE, CHOSEN_INFAE), range(2, config.bins)
    rivals = frame[~frame["model"].isin(both)]
    if rivals.empty or config.bins < 3:
        return
    for name in (name for name in both if name in frame["model"].to_numpy()):
        ours = at(frame, model=name)
        for what, side, numbers in (
            ("tail and head users", "users", (1, config.bins)),
            ("torso and head items", "items", (*torso, config.bins)),
        ):
            places = {b: column for b, column in _places(config, frame, side).items() if b in numbers}
            if not places:
                yield wording.AHEAD_ON_NOTHING.claim(None, name=name, what=what)
                continue
            rows, verdicts = [], []
            for b, column in places.items():
                holds, figures = ahead_of_each(ours[column], dict(list(rivals.groupby("model", sort=False)[column])))
                verdicts.append(holds)
                rows.append({"bin": b, "best": figures["name"], "ours": figures["ours"], "theirs": figures["theirs"]})
            shared = wording.SHARED_PLACES if True in verdicts else ""
            why = _level(rows) if side == "users" else shared
            yield wording.AHEAD_ON.claim(every(verdicts), rows, why=why, name=name, what=what)


def _level(rows: list[dict[str, Any]]) -> str:
    """By how little the best competitor is ahead in a bin, where it nowhere is by as much as half a point."""
    gap = 100 * max(row["theirs"].mean() - row["ours"].mean() for row in rows)
    return wording.LEVEL(gap=gap) if 0 <= gap < 0.5 else ""


def _notes(config: Config) -> Iterator[str]:
    yield (
        f"Fixed by us, where the paper is silent: a bin of items is served as far as held-out clicks on them are among "
        f"their user's {config.k} best; a bin of users by their mean HR@{config.k}. Users or items with equally many "
        "train clicks are parted by position. Items that train never saw are bin 0."
    )
    yield (
        f"The tail is bin 1, the head bin {config.bins}, the torso the bins between."
        if config.bins >= 3
        else "Fewer than three bins are no tail, torso and head: nothing is claimed of them."
    )
    if config.chosen:
        yield (
            f"{CHOSEN_INFAE}: network and item weights are those of DISTILL-CF's teacher; reg is from the grid of "
            "experiments.recommenders.registry.fit_infae, and may differ from the teacher's."
        )


if __name__ == "__main__":
    flags.main(Config, run)
