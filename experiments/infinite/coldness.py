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
from experiments.infinite.bins import coldness_bins, held_out_ranks, items_served, users_served
from experiments.infinite.sources import Sources
from experiments.recommenders.registry import CHOSEN_INFAE, MODEL_NAMES, MODELS, PUBLISHED_INFAE, Search, check_models
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Claim, Study, Table, Work, ahead, every, lines, load_split

_SERVED = {"users": users_served, "items": items_served}


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    preset: str = flags.preset_option()
    dataset: str = flags.dataset_option()
    data_dir: str = flags.data_dir_option()
    models: tuple[str, ...] = option(
        ("popularity", "ease", "infae"), "some of " + MODEL_NAMES, axis=True,
        paper=("popularity", "ease", "infae", "mf", "lightgcn", "mvae"),
    )  # fmt: skip
    chosen: bool = option(
        True, "beside the published ∞-AE also one with the teacher's network and item weights", axis=True
    )
    bins: int = option(5, "of users, and of items")
    k: int = option(100, "of HR@k")
    seeds: tuple[int, ...] = flags.seeds_option()
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    shared: str = flags.shared_option()
    out: str = option("out/coldness", "output folder")
    plot: bool = option(True, "write coldness.png")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    check_models(config.models)
    if config.k < 1 or config.bins < 1:
        raise ValueError(f"--k and --bins are at least 1, got {config.k} and {config.bins}")
    split = load_split(config)
    study = Study(config, split, title="Cold and popular users and items", shows="Figure 7")
    bins = {side: coldness_bins(counts, config.bins) for side, counts in _train_clicks(split).items()}
    frame = study.run(_work(config, split, bins))
    tables = [_bins_table(split, bins), *(_table(config, frame, side) for side in _SERVED)]
    if config.plot:
        panels = {f"{side}, coldest first": _lines(config, frame, side) for side in _SERVED}
        plots.curves(study.folder / "coldness.png", panels, "bin by train clicks", f"test HR@{config.k}, %")
    pictures = ["coldness.png"] if config.plot else []
    return study.write(tables, [*_claims(config, frame)], pictures, [*_notes(config)])


def _train_clicks(split: infae.Split) -> dict[str, np.ndarray]:
    matrix = split.train.matrix
    return {"users": np.diff(matrix.indptr), "items": np.bincount(matrix.indices, minlength=split.train.n_items)}


def _work(config: Config, split: infae.Split, bins: dict[str, np.ndarray]) -> list[Work]:
    sources = Sources(split, config.shared, config.metric)
    drawn = [(MODELS[name].title, name, seed) for name in config.models for seed in _seeds(config, name)]
    if config.chosen:
        drawn.append((CHOSEN_INFAE, "infae", config.seeds[0]))
    return [
        ({"model": title, "seed": seed}, partial(_result, config, split, sources, bins, title, name, seed))
        for title, name, seed in drawn
    ]


def _seeds(config: Config, name: str) -> tuple[int, ...]:
    return config.seeds if MODELS[name].needs_torch else config.seeds[:1]


def _result(
    config: Config,
    split: infae.Split,
    sources: Sources,
    bins: dict[str, np.ndarray],
    title: str,
    name: str,
    seed: int,
) -> dict[str, Any]:
    inner = sources.teacher if title == CHOSEN_INFAE else None
    search = Search(config.metric, config.preset, seed, inner, config.shared)
    model, parameters = MODELS[name].choose(split.train, split, search)
    ranks = held_out_ranks(model, split)
    served = {side: of(ranks, bins[side], config.k) for side, of in _SERVED.items()}
    return {f"{side} {b}": value for side in _SERVED for b, value in enumerate(served[side])} | {"chosen": parameters}


def _places(config: Config, frame: pd.DataFrame, side: str) -> dict[int, str]:
    """Bins with anything held out, and their columns."""
    columns = {b: f"{side} {b}" for b in range(config.bins + 1)}
    return {b: column for b, column in columns.items() if column in frame and frame[column].notna().any()}


def _table(config: Config, frame: pd.DataFrame, side: str) -> Table:
    places = _places(config, frame, side)
    rows = [
        [model, *(flags.spread(group[column].to_list(), "") for column in places.values())]
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


def _lines(config: Config, frame: pd.DataFrame, side: str) -> dict[str, dict[float, tuple[float, float]]]:
    places = _places(config, frame, side)
    long = frame.rename(columns={column: b for b, column in places.items()})
    return lines(long.melt("model", list(places), "bin", "served"), ("model",), "bin", "served")


def _claims(config: Config, frame: pd.DataFrame) -> Iterator[Claim]:
    """For ∞-AE as published and as chosen: ahead of all other models in each bin that the paper names.

    Bins with nothing held out are left aside.
    """
    both, torso = (PUBLISHED_INFAE, CHOSEN_INFAE), range(2, config.bins)
    rivals = frame[~frame["model"].isin(both)]
    if rivals.empty or config.bins < 3:
        return
    for name in (name for name in both if name in frame["model"].to_numpy()):
        ours = frame[frame["model"] == name]
        for says, side, numbers in (
            ("tail and head users", "users", (1, config.bins)),
            ("torso and head items", "items", (*torso, config.bins)),
        ):
            places = {b: column for b, column in _places(config, frame, side).items() if b in numbers}
            verdicts = {b: _ahead_of_all(ours[column], rivals, column) for b, column in places.items()}
            found = "; ".join(f"bin {b} {_against(ours[column], rivals, column)}" for b, column in places.items())
            shared = "Bins of items share a list's places: what is won in one may be lost in others."
            why = _close(ours, rivals, places) if side == "users" else shared if True in verdicts.values() else ""
            says = f"{name} is ahead on {says}."
            yield Claim(says, every(verdicts.values()), f"{found or 'Nothing is held out there'}.", why)


def _close(ours: pd.DataFrame, rivals: pd.DataFrame, places: dict[int, str]) -> str:
    """By how little the best competitor is ahead in a bin, where it nowhere is by as much as half a point."""
    means = rivals.groupby("model")[list(places.values())].mean().max()
    gap = 100 * (means - ours[list(places.values())].mean()).max()
    if not 0 <= gap < 0.5:
        return ""
    return f"The models are level: no competitor is ahead by more than {gap:.2f} points."


def _ahead_of_all(ours: pd.Series, rivals: pd.DataFrame, column: str) -> bool | None:
    return every(ahead(ours, theirs) for _, theirs in rivals.groupby("model")[column])


def _against(ours: pd.Series, rivals: pd.DataFrame, column: str) -> str:
    best = rivals.groupby("model", sort=False)[column].mean().idxmax()
    theirs = rivals.loc[rivals["model"] == best, column]
    return f"{flags.spread(ours.to_list(), '')} against {flags.spread(theirs.to_list(), '')} of {best}"


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
            "experiments.models.fit_infae, and may differ from the teacher's."
        )


if __name__ == "__main__":
    flags.main(Config, run)
