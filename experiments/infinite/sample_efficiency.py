"""How many users does ∞-AE need? On DISTILL-CF's users and on as many of every coreset sampler.

    python -m experiments.infinite.sample_efficiency                    # an embedded synthetic set, offline
    python -m experiments.infinite.sample_efficiency --preset=paper     # ML-1M, figures 1 and 12

For each budget of users and each seed the data is distilled, and as many users are taken by each
coreset sampler. ∞-AE is fitted to each, reg chosen on validation, and tested on all real users.
Writes `record.json`, `table.md`, `sample_efficiency.png` (every metric over budgets) and `cells/`,
from which a run that was stopped goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

import distillcf
import infae
from experiments.infinite.sources import (
    DISTILLED,
    EVERYBODY,
    RANDOM_USERS,
    SOURCES,
    Sources,
    check_budgets,
    check_sources,
)
from experiments.recommenders.registry import Search, fit_infae
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import METRICS, Claim, Study, Work, ahead_by_budget, lines, load_split, metrics_table

PAPER_BUDGET = 500


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    preset: str = flags.preset_option()
    dataset: str = flags.dataset_option()
    data_dir: str = flags.data_dir_option()
    budgets: tuple[int, ...] = option(
        (10, 30, 60), "users", axis=True, quick=(10, 30, 90), paper=(10, 50, 100, 200, 500, 1000, 2000)
    )
    distilled: int = option(
        1000, "most users that are distilled; the samplers go on above", quick=90, paper=1000, axis=True
    )
    seeds: tuple[int, ...] = flags.seeds_option()
    sources: tuple[str, ...] = option(SOURCES, "what ∞-AE is fitted to", axis=True)
    steps: int = option(100, "outer steps of the summaries", quick=150, paper=400)
    sharpness: float = option(0.003, "of the summaries, see distillcf.Config")
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    shared: str = flags.shared_option()
    out: str = option("out/sample_efficiency", "output folder")
    plot: bool = option(True, "write sample_efficiency.png")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    check_sources(config.sources)
    split = load_split(config)
    check_budgets(config.budgets, split)
    study = Study(config, split, title="Sample efficiency of ∞-AE", shows="Figures 1 and 12")
    sources = Sources(split, config.shared, config.metric, config.steps, config.sharpness)
    frame = study.run(_work(config, split, sources))
    pictures = []
    if config.plot:
        panels = {metric: lines(frame, ["source"], "users", metric) for metric in METRICS}
        plots.curves(study.folder / "sample_efficiency.png", panels, "users", "test, %", log=True)
        pictures = ["sample_efficiency.png"]
    table = metrics_table(frame, ("source", "users"), METRICS, "∞-AE, test, in percent (AUC as it is)")
    notes = [
        f"Network and item weights are those that validation prefers for all the data: {_everybody(frame)['model']}.",
        "reg is chosen on validation for each source, of 12 from 0.01 to 20.",
        "The paper's figures have no numbers to compare with; its table 1 has those of 500 users. Ours of table 1 are "
        "of summaries without the penalty that serves binary rows.",
    ]
    return study.write([table], _claims(frame, split.train.n_users), pictures, notes)


def _work(config: Config, split: infae.Split, sources: Sources) -> list[Work]:
    places = [
        (source, n_users, seed)
        for seed in config.seeds
        for n_users in config.budgets
        for source in config.sources
        if not (source.startswith(DISTILLED) and n_users > config.distilled)
    ]
    places.append((EVERYBODY, split.train.n_users, config.seeds[0]))
    return [
        ({"source": source, "users": n_users, "seed": seed}, partial(_result, config, sources, source, n_users, seed))
        for source, n_users, seed in places
    ]


def _result(config: Config, sources: Sources, source: str, n_users: int, seed: int) -> dict[str, Any]:
    if source == EVERYBODY:
        model = sources.teacher
    else:
        search = Search(config.metric, config.preset, seed, sources.teacher)
        model = fit_infae(sources.interactions(source, n_users, seed), sources.split, search)
    report = infae.evaluate(model, sources.split, k=(10, 100), n_negatives=0)
    chosen = infae.InfiniteAE(**{**model.get_params(), "reg": model.reg_, "item_weights": None})
    return {metric: report[metric] for metric in METRICS} | {"model": repr(chosen)}


def _everybody(frame: pd.DataFrame) -> pd.Series:
    return frame[frame["source"] == EVERYBODY].iloc[0]


def _claims(frame: pd.DataFrame, n_users: int) -> list[Claim]:
    return [*_ahead_of_samplers(frame, n_users), *_saturation(frame), *_random_users_best(frame)]


def _ahead_of_samplers(frame: pd.DataFrame, n_users: int) -> list[Claim]:
    """At a tenth of the users and below: DISTILL-CF's worst seed above every sampler's best."""
    few = frame[frame["users"] <= n_users / 10]
    ours, sampled = few[few["source"] == DISTILLED], few[few["source"].isin(list(distillcf.CORESETS))]
    claims = []
    for metric in ("HR@10", "PSP@10"):
        if compared := ahead_by_budget(ours, sampled, metric):
            verdict, found = compared
            says = (
                "At a tenth of the users and below, ∞-AE learns more from DISTILL-CF's users than from any sampler's, "
                f"by {metric}."
            )
            claims.append(Claim(says, verdict, f"Against the best sampler: {found}."))
    return claims


def _saturation(frame: pd.DataFrame) -> list[Claim]:
    """Table 1 and figure 1: 500 synthetic users reach 96% to 105% of all the data."""
    ours = frame[(frame["source"] == DISTILLED) & (frame["users"] == PAPER_BUDGET)]
    if ours.empty:
        return []
    shares = {metric: ours[metric].mean() / _everybody(frame)[metric] for metric in METRICS}
    found = ", ".join(f"{metric} {100 * share:.1f}%" for metric, share in shares.items())
    return [
        Claim(
            "∞-AE on 500 synthetic users reaches at least 96% of all the data.",
            min(shares.values()) >= 0.96,
            f"{found}.",
        )
    ]


def _random_users_best(frame: pd.DataFrame) -> list[Claim]:
    """Random users against each other sampler, at every budget."""
    sampled = frame[frame["source"].isin(list(distillcf.CORESETS))]
    is_random = sampled["source"] == RANDOM_USERS
    claims = []
    for metric in ("HR@10", "PSP@10"):
        if compared := ahead_by_budget(sampled[is_random], sampled[~is_random], metric, named=True):
            verdict, found = compared
            says = f"Of the samplers, random users serve ∞-AE best, by {metric}."
            why = _only_of_most(sampled, metric)
            claims.append(Claim(says, verdict, f"Against the best other one: {found}.", why))
    return claims


def _only_of_most(sampled: pd.DataFrame, metric: str) -> str:
    """That another sampler is ahead of random users where the most users are drawn alone; where that is so."""
    behind = {}
    for users, cells in sampled.groupby("users"):
        is_random = cells["source"] == RANDOM_USERS
        if compared := ahead_by_budget(cells[is_random], cells[~is_random], metric):
            behind[users] = compared[0] is False
    if len(behind) < 2 or [users for users, is_behind in behind.items() if is_behind] != [max(behind)]:
        return ""
    return "Of these numbers of users it is the largest alone at which another sampler is ahead."


if __name__ == "__main__":
    flags.main(Config, run)
