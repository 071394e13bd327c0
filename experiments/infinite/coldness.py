"""Which users and items is each model good for, the cold or the popular ones? Figure 7.

    python -m experiments.infinite.coldness                    # an embedded synthetic set, offline
    python -m experiments.infinite.coldness --preset=paper     # ML-1M; --dataset=magazine for the other

Users and items are put into bins of one size by their train clicks, coldest first. Of a bin of users
it shows their mean HR@100; of a bin of items the share of held-out clicks on them that are among
their user's 100 best (the paper does not say how it measures items). Items that train never saw
are a bin of their own, 0. Models are chosen on validation and tested. Beside the published ∞-AE there is
"∞-AE, chosen", with the network and item weights of DISTILL-CF's teacher, and a reg from the grid of
`experiments.recommenders.registry.fit_infae`, which has more of them than the teacher's: it may be another reg.
Writes `record.json`, `table.md`, `coldness.png` and `cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
from experiments.study.claims import Claim, ahead_of_each, every
from experiments.study.flags import option
from experiments.study.runner import Study, Work, each, load_split
from experiments.study.tables import Table, results_table
from infae.runtime import checks

_SERVED = {"users": users_served, "items": items_served}


@dataclass(frozen=True)
class Config(flags.SeededConfig):
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
    registry.check_models(config.models)
    checks.whole("--k", config.k)
    checks.whole("--bins", config.bins)
    split = load_split(config)
    sources = Sources(split, config.shared, config.metric)
    study = Study(
        config, split, title="Cold and popular users and items", shows="Figure 7", version=1, uses=sources.uses,
        grids=registry.grids({*config.models, "infae"}),
    )  # fmt: skip
    bins = {side: coldness_bins(counts, config.bins) for side, counts in _counts(split.train).items()}
    frame = study.run(_work(config, sources, bins))
    tables, panels = [_bins_table(split, bins)], {}
    for side in _SERVED:
        served = _served(frame, side)
        named = served.rename(columns=_bin_name)
        rows = {str(model): group.to_dict("records") for model, group in named.groupby("model", sort=False)}
        tables.append(results_table(f"Test HR@{config.k} of {side} by bin, %", rows, [*named]))
        long = served.reset_index().melt("model", var_name="bin", value_name="served")
        panels[f"{side}, coldest first"] = plots.lines(long, ["model"], "bin", "served")
    study.draw("coldness.png", plots.curves, panels, "bin by train clicks", f"test HR@{config.k}, %")
    return study.write(tables, [*claims(config, frame)], [*_notes(config)])


def _counts(clicks: infae.Interactions) -> dict[str, np.ndarray]:
    matrix = clicks.matrix
    return {"users": np.diff(matrix.indptr), "items": np.bincount(matrix.indices, minlength=clicks.n_items)}


def _work(config: Config, sources: Sources, bins: dict[str, np.ndarray]) -> list[Work]:
    named = {MODELS[name].title: name for name in config.models} | ({CHOSEN_INFAE: "infae"} if config.chosen else {})

    def result(model: str, seed: int) -> dict[str, Any]:
        search = Search.of(config, seed, sources.teacher if model == CHOSEN_INFAE else None)
        fitted, parameters = MODELS[named[model]].choose(sources.split.train, sources.split, search)
        ranks = held_out_ranks(fitted, sources.split)
        served = {side: of(ranks, bins[side], config.k) for side, of in _SERVED.items()}
        return {f"{s} {b}": value for s in served for b, value in enumerate(served[s])} | {"chosen": parameters}

    seeds = {title: config.seeds if MODELS[name].needs_torch else config.seeds[:1] for title, name in named.items()}
    return each(({"model": title, "seed": seed} for title in named for seed in seeds[title]), result)


def _served(frame: pd.DataFrame, side: str) -> pd.DataFrame:
    """A row a cell, by its model, and a column a bin with anything held out."""
    served = frame.set_index("model").filter(regex=f"^{side} ").dropna(axis=1, how="all")
    return served.rename(columns=lambda name: int(name.removeprefix(f"{side} ")))


def _bin_name(number: int) -> str:
    return f"bin {number}" if number else "never in train"


def _bins_table(split: infae.Split, bins: dict[str, np.ndarray]) -> Table:
    held_out, rows = _counts(split.test), []
    for side, counts in _counts(split.train).items():
        for b in np.unique(bins[side]):
            within = bins[side] == b
            clicks = f"{counts[within].min():,} to {counts[within].max():,}"
            rows.append([f"{side}, {_bin_name(b)}", f"{within.sum():,}", clicks, f"{held_out[side][within].sum():,}"])
    return Table("The bins", ["", "size", "train clicks of each", "held-out clicks together"], rows)


def claims(config: Config, frame: pd.DataFrame) -> Iterator[Claim]:
    """For ∞-AE as published and as chosen: ahead of all other models in each bin that the paper names.

    Bins with nothing held out are left aside.
    """
    both = [PUBLISHED_INFAE, CHOSEN_INFAE]
    if frame["model"].isin(both).all() or config.bins < 3:
        return
    for name in (name for name in both if name in frame["model"].to_numpy()):
        for what, side, numbers in (
            ("tail and head users", "users", (1, config.bins)),
            ("torso and head items", "items", range(2, config.bins + 1)),
        ):
            served = _served(frame, side)
            rivals = served.drop(index=both, errors="ignore").groupby("model", sort=False)
            rows, verdicts = [], []
            for b in served.columns.intersection(numbers):
                holds, figures = ahead_of_each(served.loc[[name], b], dict(list(rivals[b])))
                verdicts.append(holds)
                rows.append({"bin": b, "best": figures["name"], "ours": figures["ours"], "theirs": figures["theirs"]})
            if not rows:
                yield wording.AHEAD_ON_NOTHING.claim(None, name=name, what=what)
                continue
            why = wording.SHARED_PLACES() if True in verdicts else ""
            if side == "users":
                # By how little the best competitor is ahead, where it nowhere is by as much as half a point.
                gap = 100 * max(row["theirs"].mean() - row["ours"].mean() for row in rows)
                why = wording.LEVEL(gap=gap) if 0 <= gap < 0.5 else ""
            yield wording.AHEAD_ON.claim(every(verdicts), rows, why=why, name=name, what=what)


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
