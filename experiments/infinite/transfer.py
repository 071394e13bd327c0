"""Do other models learn from a summary too? EASE, ∞-AE and PyTorch models on summaries, coresets and all data.

    python -m experiments.infinite.transfer                    # an embedded synthetic set, offline
    python -m experiments.infinite.transfer --preset=paper     # ML-1M, figure 2 and beyond it

For each budget of users and each seed the data is distilled, and as many users are taken by each
coreset sampler (as many clicks as they have, for random interactions). Every model is trained on
each, its regularisation (for those in PyTorch the epoch to stop at, and on all the data the rest)
chosen on validation clicks, and tested on all real users. Each finished cell is kept in `cells/`;
a run that was stopped goes on there. Writes `record.json`, `table.md` and `transfer.png` beside it.
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
    RANDOM_INTERACTIONS,
    RANDOM_USERS,
    SOURCES,
    Sources,
    check_budgets,
    check_sources,
)
from experiments.recommenders.registry import CHOSEN_INFAE, MODEL_NAMES, MODELS, Search, check_models, title_with_inner
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import (
    METRICS,
    Claim,
    Study,
    Work,
    ahead,
    ahead_by_budget,
    every,
    lines,
    load_split,
    metrics_table,
)

NOTES = (
    f"{CHOSEN_INFAE}, has the network and item weights of DISTILL-CF's teacher, which validation prefers for all the "
    "data; reg is chosen for each source.",
    "Models in PyTorch are tuned over their preset's grid on all the data alone. On summaries and coresets they are "
    "trained once, at their defaults, and the epoch to stop at is chosen.",
)


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    preset: str = flags.preset_option()
    dataset: str = flags.dataset_option()
    data_dir: str = flags.data_dir_option()
    budgets: tuple[int, ...] = option(
        (20, 60), "users of the summary and of each coreset", axis=True, quick=(30, 90), paper=(50, 100, 200, 500)
    )
    seeds: tuple[int, ...] = flags.seeds_option()
    sources: tuple[str, ...] = option(SOURCES, "what is trained on", axis=True)
    models: tuple[str, ...] = option(
        ("ease", "infae"), "some of " + MODEL_NAMES, axis=True, paper=("ease", "infae", "mf", "lightgcn", "mvae")
    )
    full: bool = option(True, "also train each model on all data", axis=True)
    sharpness: float = option(0.003, "of the summaries, see distillcf.Config")
    steps: int = option(100, "outer steps of the summaries", quick=150, paper=400)
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    shared: str = flags.shared_option()
    out: str = option("out/transfer", "output folder")
    plot: bool = option(True, "write transfer.png")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    check_models(config.models)
    check_sources(config.sources)
    split = load_split(config)
    check_budgets(config.budgets, split)
    study = Study(config, split, title="Other models on summaries and coresets", shows="Figure 2")
    sources = Sources(split, config.shared, config.metric, config.steps, config.sharpness)
    frame = study.run(_work(config, split, sources))
    tables = [metrics_table(frame, ("model", "source", "users"), METRICS, "Test, in percent (AUC as it is)")]
    if config.plot:
        panels = {
            model: lines(cells, ["source"], "users", "NDCG@10") for model, cells in frame.groupby("model", sort=False)
        }
        plots.curves(study.folder / "transfer.png", panels, "users", "test NDCG@10, %", log=True)
    pictures = ["transfer.png"] if config.plot else []
    claims = [*_ahead_of_samplers(frame), *_interactions_scale_slower(frame)]
    return study.write(tables, claims, pictures, NOTES)


def _work(config: Config, split: infae.Split, sources: Sources) -> list[Work]:
    drawn = [(s, b, seed) for seed in config.seeds for b in config.budgets for s in config.sources]
    if config.full:
        drawn.append((EVERYBODY, split.train.n_users, config.seeds[0]))
    return [
        (
            {"model": title_with_inner(name), "source": source, "users": budget, "seed": seed},
            partial(_result, config, split, sources, name, source, budget, seed),
        )
        for source, budget, seed in drawn
        for name in config.models
    ]


def _result(
    config: Config, split: infae.Split, sources: Sources, name: str, source: str, budget: int, seed: int
) -> dict[str, float]:
    search = Search(config.metric, config.preset, seed, sources.teacher if name == "infae" else None, config.shared)
    model, _ = MODELS[name].choose(sources.interactions(source, budget, seed), split, search)
    report = infae.evaluate(model, split, k=(10, 100), n_negatives=0)
    return {metric: report[metric] for metric in METRICS}


def _ahead_of_samplers(frame: pd.DataFrame) -> list[Claim]:
    """For each model: DISTILL-CF above every coreset at every budget, by HR@10."""
    claims = []
    for model, cells in frame.groupby("model", sort=False):
        sampled = cells[cells["source"].isin(list(distillcf.CORESETS))]
        if compared := ahead_by_budget(cells[cells["source"] == DISTILLED], sampled, "HR@10"):
            verdict, found = compared
            says = f"{model} learns more from DISTILL-CF's users than from as many of any sampler."
            claims.append(Claim(says, verdict, f"HR@10 against the best sampler: {found}."))
    return claims


def _interactions_scale_slower(frame: pd.DataFrame) -> list[Claim]:
    """HR@10 on the most over that on the fewest: EASE's growth over ∞-AE's, of interactions and of users, by seed."""
    growth = {}
    for source in (RANDOM_INTERACTIONS, RANDOM_USERS):
        cells = frame[frame["source"] == source].pivot(index="seed", columns=["model", "users"], values="HR@10")
        if not {"EASE", CHOSEN_INFAE} <= set(cells.columns.get_level_values("model")):
            return []
        few, many = cells["EASE"].columns.min(), cells["EASE"].columns.max()
        if few == many or not cells.all(axis=None):
            return []
        growth[source] = {model: cells[model, many] / cells[model, few] for model in ("EASE", CHOSEN_INFAE)}
    slower = {source: of["EASE"] / of[CHOSEN_INFAE] for source, of in growth.items()}
    shown = " and ".join(
        f"{of['EASE'].mean():.2f} of EASE against {of[CHOSEN_INFAE].mean():.2f} of ∞-AE on {source}"
        for source, of in growth.items()
    )
    interactions, users = slower[RANDOM_INTERACTIONS], slower[RANDOM_USERS]
    fewest = frame[(frame["source"] == RANDOM_INTERACTIONS) & (frame["users"] == few)].groupby("model")["HR@10"].mean()
    why = ""
    if ahead(-interactions, [-1]) is False and fewest["EASE"] < fewest[CHOSEN_INFAE]:
        why = (
            f"EASE begins lower: with {few:,} users' {RANDOM_INTERACTIONS} it has HR@10 {100 * fewest['EASE']:.2f}, "
            f"∞-AE {100 * fewest[CHOSEN_INFAE]:.2f}."
        )
    return [
        Claim(
            "EASE gains more slowly than ∞-AE from more random interactions, and more so than from more random users.",
            every([ahead(-interactions, [-1]), ahead(users - interactions, [0])]),
            f"HR@10 with {many:,} users' clicks over that with {few:,} users', means: {shown}.",
            why,
        )
    ]


if __name__ == "__main__":
    flags.main(Config, run)
