"""How does noise in the clicks hurt? EASE and ∞-AE on all the data, on DISTILL-CF's users, on samplers' users.

    python -m experiments.noise                    # an embedded synthetic set, offline
    python -m experiments.noise --preset=paper     # ML-1M, figures 3, 4, 13 and 14

Of every user, x% of all items are flipped in train: clicked becomes not clicked, and the other way
round. The noisy train part is distilled or sampled, models are fitted to it with their regularisation
chosen on validation, and tested on clean test clicks with clean histories. Writes `record.json`,
`table.md`, `drop.png` (figures 3 and 13), `budgets.png` (4 and 14) and `cells.json`, from which a run
that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

import infae
from experiments import common, plots
from experiments.common import option
from experiments.flips import flip
from experiments.models import MODELS, Search, check_models
from experiments.sources import DISTILLED, EVERYBODY, SOURCES, Sources, check_sources
from experiments.study import METRICS, Claim, Study, Work, load_split, mean_and_spread, metrics_table


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    preset: str = common.preset_option()
    dataset: str = common.dataset_option()
    data_dir: str = common.data_dir_option()
    noise: tuple[float, ...] = option(
        (0.0, 5.0), "percent of all items that are flipped, of each user", axis=True, paper=(0.0, 1.0, 5.0)
    )
    budgets: tuple[int, ...] = option((20, 60), "users", axis=True, quick=(30, 90), paper=(50, 100, 500))
    seeds: tuple[int, ...] = common.seeds_option()
    sources: tuple[str, ...] = option(SOURCES, "what models are fitted to", axis=True)
    models: tuple[str, ...] = option(("ease", "infae"), "some of " + ", ".join(MODELS), axis=True)
    steps: int = option(100, "outer steps of the summaries", quick=150, paper=400)
    sharpness: float = option(0.003, "of the summaries, see distillcf.Config")
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    shared: str = common.shared_option()
    out: str = option("out/noise", "output folder")
    plot: bool = option(True, "write the pictures")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    check_models(config.models)
    check_sources(config.sources)
    split = load_split(config)
    study = Study(config, split, title="Noise in the clicks", shows="Figures 3, 4, 13 and 14")
    frame = study.run(_work(config, split))
    pictures = ["drop.png", "budgets.png"] if config.plot else []
    if config.plot:
        plots.curves(study.folder / "drop.png", _drops(frame), "items flipped, %", "change of HR@10, %")
        plots.curves(study.folder / "budgets.png", _budgets(frame), "users", "test HR@10, %", log=True)
    axes = ("model", "noise", "source", "users")
    table = metrics_table(
        frame,
        axes,
        METRICS,
        "Test on clean clicks, in percent (AUC as it is); noise is the percentage of items flipped",
    )
    notes = [
        "Noise is in train alone: validation and test clicks, and the histories that test users are scored by, "
        "are clean. Summaries are made of noisy clicks with clean validation.",
        "The paper's figures have no numbers to compare with.",
    ]
    return study.write([table], _claims(frame), pictures, notes)


def _work(config: Config, split: infae.Split) -> list[Work]:
    # The data of one noise and seed serve many cells, one after the other.
    noisy = lru_cache(maxsize=1)(partial(_noisy, config, split))
    places = [
        (percent, seed, source, n_users)
        for seed in config.seeds
        for percent in config.noise
        for source, n_users in [
            *((source, n) for n in config.budgets for source in config.sources),
            (EVERYBODY, split.train.n_users),
        ]
    ]
    return [
        (
            {"model": MODELS[name].title, "noise": percent, "source": source, "users": n_users, "seed": seed},
            partial(_result, config, split, noisy, name, percent, seed, source, n_users),
        )
        for percent, seed, source, n_users in places
        for name in config.models
    ]


def _noisy(config: Config, split: infae.Split, percent: float, seed: int) -> Sources:
    """Sources of a split whose train part is noisy; the rest is clean."""
    rng = np.random.default_rng([seed, round(1000 * percent)])
    train = flip(split.train, percent / 100, rng) if percent else split.train
    # Contexts stay clean: what is measured is the model, not its input.
    noisy = dataclasses.replace(
        split, train=train, validation_context=split.context("validation"), test_context=split.context("test")
    )
    return Sources(noisy, config.shared, config.metric, config.steps, config.sharpness)


def _result(
    config: Config,
    split: infae.Split,
    noisy: Any,
    name: str,
    percent: float,
    seed: int,
    source: str,
    n_users: int,
) -> dict[str, float]:
    sources: Sources = noisy(percent, seed)
    search = Search(config.metric, config.preset, seed, sources.teacher if name == "infae" else None, config.shared)
    model, _ = MODELS[name].choose(sources.interactions(source, n_users, seed), sources.split, search)
    report = infae.evaluate(model, split, k=(10, 100), n_negatives=0)
    return {metric: report[metric] for metric in METRICS}


def _at(frame: pd.DataFrame, **at: Any) -> pd.DataFrame:
    for name, value in at.items():
        frame = frame[frame[name] == value]
    return frame


def _claims(frame: pd.DataFrame) -> list[Claim]:
    most, titles = frame["noise"].max(), frame["model"].unique()
    if most == 0:
        return []
    claims = []
    if "EASE" in titles:
        claims += _distilled_beats_all(frame, most)
    if {"EASE", "∞-AE"} <= set(titles):
        claims.append(_gap_grows(frame, most))
    return claims + _least_hurt(frame, most)


def _distilled_beats_all(frame: pd.DataFrame, most: float) -> list[Claim]:
    ours = _at(frame, model="EASE", noise=most, source=DISTILLED)
    if ours.empty:
        return []
    everybody = _at(frame, model="EASE", noise=most, source=EVERYBODY)["HR@10"]
    by_budget = ours.groupby("users")["HR@10"].agg(["mean", "min"])
    shown = ", ".join(f"{100 * mean:.2f} with {n:,}" for n, mean in by_budget["mean"].items())
    best = by_budget["mean"].idxmax()
    return [
        Claim(
            f"At {most:g}% noise EASE on a summary is better than EASE on all the noisy data.",
            bool(by_budget["min"][best] > everybody.max()),
            f"HR@10 {shown} synthetic users, {100 * everybody.mean():.2f} on all the data.",
        ),
        Claim(
            f"At {most:g}% noise EASE does best on the smallest summary.",
            bool(best == by_budget.index.min()),
            f"HR@10 {shown} synthetic users.",
        ),
    ]


def _gap_grows(frame: pd.DataFrame, most: float) -> Claim:
    """∞-AE over EASE on all data, without noise and with the most."""
    everybody = _at(frame, source=EVERYBODY).groupby(["model", "noise"])["HR@10"].mean()
    gaps = {x: 100 * (everybody["∞-AE", x] - everybody["EASE", x]) for x in (frame["noise"].min(), most)}
    (least, before), (_, after) = gaps.items()
    return Claim(
        "On all the data ∞-AE's lead over EASE grows with noise.",
        bool(after > before),
        f"HR@10, ∞-AE less EASE: {before:+.2f} at {least:g}%, {after:+.2f} at {most:g}% noise.",
    )


def _least_hurt(frame: pd.DataFrame, most: float) -> list[Claim]:
    claims = []
    for (model, n_users), group in _at(frame, noise=most).groupby(["model", "users"], sort=False):
        means = group.groupby("source")["HR@10"].mean()
        rivals = means[[source for source in means.index if not source.startswith(DISTILLED)]]
        if DISTILLED not in means.index or rivals.empty:
            continue
        claims.append(
            Claim(
                f"At {most:g}% noise {model} does better on {n_users:,} users of DISTILL-CF than of any sampler.",
                bool(means[DISTILLED] > rivals.max()),
                f"HR@10 {100 * means[DISTILLED]:.2f} against {100 * rivals.max():.2f} ({rivals.idxmax()}).",
            )
        )
    return claims


Panels = dict[str, dict[str, dict[float, tuple[float, float]]]]


def _drops(frame: pd.DataFrame) -> Panels:
    """Of each model and budget: HR@10 relative to the model on all the clean data, over noise."""
    panels: Panels = {}
    for model, rows in frame.groupby("model", sort=False):
        clean = _at(rows, source=EVERYBODY, noise=rows["noise"].min())["HR@10"].mean()
        everybody = _at(rows, source=EVERYBODY)
        for n_users in sorted(set(rows["users"]) - set(everybody["users"])):
            lines = panels.setdefault(f"{model}, {n_users:,} users", {})
            shown = pd.concat([rows[rows["users"] == n_users], everybody])
            for (source, percent), group in shown.groupby(["source", "noise"], sort=False):
                lines.setdefault(source, {})[percent] = mean_and_spread(100 * (group["HR@10"] / clean - 1))
    return panels


def _budgets(frame: pd.DataFrame) -> Panels:
    """Of each noise: HR@10 over budgets, of DISTILL-CF and random users."""
    panels: Panels = {}
    for (percent, model, source, n_users), group in frame.groupby(["noise", "model", "source", "users"], sort=False):
        if source in (DISTILLED, "random users", EVERYBODY):
            lines = panels.setdefault(f"{percent:g}% noise", {})
            lines.setdefault(f"{model}, {source}", {})[n_users] = mean_and_spread(100 * group["HR@10"])
    return panels


if __name__ == "__main__":
    common.main(Config, run)
