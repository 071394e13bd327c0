"""Are users made to look real as good to learn from as users made to be learned from? EASE on both.

    python -m experiments.infinite.augmentation                  # an embedded synthetic set, offline, without AR-CF
    python -m experiments.infinite.augmentation --preset=paper   # ML-1M, figure 10 (needs --extra torch)

For each budget of users and each seed, EASE is trained on virtual users alone that AR-CF's user
generator made (`experiments.recommenders.arcf`, one training a seed), on the users that DISTILL-CF
made, and on random real users; its lambda is chosen on validation clicks, and it is tested on all
real users. Each finished cell is kept in `cells/`; a run that was stopped goes on there.
Writes `record.json`, `table.md` and `augmentation.png` beside it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pandas as pd

import infae
from experiments.infinite.sources import (
    DISTILLED,
    DISTILLED_BINARY,
    EVERYBODY,
    RANDOM_USERS,
    SOURCES,
    Sources,
    check_budgets,
    check_sources,
)
from experiments.recommenders.registry import MODEL_NAMES, MODELS, Search, check_models
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import METRICS, Claim, Study, Work, ahead, every, lines, load_split, metrics_table

AUGMENTED = "AR-CF"
IN_PAPER = (AUGMENTED, DISTILLED, DISTILLED_BINARY, RANDOM_USERS)


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    preset: str = flags.preset_option()
    dataset: str = flags.dataset_option()
    data_dir: str = flags.data_dir_option()
    budgets: tuple[int, ...] = option(
        (20, 60), "users made or drawn", axis=True, quick=(30, 90), paper=(50, 100, 200, 500)
    )
    seeds: tuple[int, ...] = flags.seeds_option()
    sources: tuple[str, ...] = option(
        IN_PAPER[1:], f"what is trained on: {AUGMENTED}, which needs PyTorch, and " + ", ".join(SOURCES),
        axis=True, quick=IN_PAPER,
    )  # fmt: skip
    model: str = option("ease", "one of " + MODEL_NAMES)
    full: bool = option(True, "also train it on all data", axis=True)
    epochs: int = option(5, "of AR-CF's networks", quick=50, paper=40)
    sharpness: float = option(0.003, "of the summaries, see distillcf.Config")
    steps: int = option(100, "outer steps of the summaries", quick=150, paper=400)
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    shared: str = flags.shared_option()
    out: str = option("out/augmentation", "output folder")
    plot: bool = option(True, "write augmentation.png")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    check_models((config.model,))
    _check(config)
    split = load_split(config)
    check_budgets(config.budgets, split)
    study = Study(config, split, title="Users made to look real and users made to learn from", shows="Figure 10")
    frame = study.run(_work(config, split))
    tables = [metrics_table(frame, ("source", "users"), METRICS, "Test, in percent (AUC as it is)")]
    if config.plot:
        panels = {MODELS[config.model].title: lines(frame, ("source",), "users", "HR@10")}
        plots.curves(study.folder / "augmentation.png", panels, "users", "test HR@10, %")
    pictures = ["augmentation.png"] if config.plot else []
    return study.write(tables, [*_claims(config, frame)], pictures, [*_notes(config)])


def _work(config: Config, split: infae.Split) -> list[Work]:
    users = Users(config, split)
    drawn = [(s, b, seed) for seed in config.seeds for s in config.sources for b in config.budgets]
    if config.full:
        drawn.append((EVERYBODY, split.train.n_users, config.seeds[0]))
    return [
        ({"source": source, "users": n, "seed": seed}, partial(users.result, source, n, seed))
        for source, n, seed in drawn
    ]


class Users:
    """Makes or draws users, and trains on them."""

    def __init__(self, config: Config, split: infae.Split):
        self.config, self.split = config, split
        self.sources = Sources(split, config.shared, config.metric, config.steps, config.sharpness)
        self.augmenter = lru_cache(maxsize=1)(self._augmenter)

    def result(self, source: str, n_users: int, seed: int) -> dict[str, float]:
        clicks = self.interactions(source, n_users, seed)
        search = Search(self.config.metric, self.config.preset, seed, shared=self.config.shared)
        model, _ = MODELS[self.config.model].choose(clicks, self.split, search)
        report = infae.evaluate(model, self.split, k=(10, 100), n_negatives=0)
        return {metric: report[metric] for metric in METRICS}

    def interactions(self, source: str, n_users: int, seed: int) -> infae.Interactions:
        if source == AUGMENTED:
            return self.augmenter(seed).generate(n_users, seed)
        return self.sources.interactions(source, n_users, seed)

    def _augmenter(self, seed: int) -> Any:
        from experiments.recommenders.arcf import ARCF

        return ARCF(n_epochs=self.config.epochs, seed=seed).fit(self.split.train, progress=True)


def _claims(config: Config, frame: pd.DataFrame) -> Iterator[Claim]:
    """By HR@10 over the seeds: at every budget, and the fewest of one source against the most of another."""
    found = {at: group["HR@10"].to_list() for at, group in frame.groupby(["source", "users"], sort=False)}
    there = [name for name in (AUGMENTED, RANDOM_USERS) if name in config.sources]
    if DISTILLED not in config.sources:
        return
    for other in there:
        shown = ", ".join(f"{_against(found[DISTILLED, b], found[other, b])} at {b:,}" for b in config.budgets)
        yield Claim(
            f"{MODELS[config.model].title} learns more from DISTILL-CF's users than from as many {_WHAT[other]}.",
            every(ahead(found[DISTILLED, b], found[other, b]) for b in config.budgets),
            f"HR@10: {shown} users.",
        )
    # What the paper calls impractical: realistic users do not become enough, however many.
    least, most = min(config.budgets), max(config.budgets)
    if AUGMENTED in there and least < most:
        distilled, made = found[DISTILLED, least], found[AUGMENTED, most]
        yield Claim(
            "Realistic users are impractical to train on: the fewest of DISTILL-CF's serve better than AR-CF's most.",
            ahead(distilled, made),
            f"HR@10 {_against(distilled, made)}, of {least:,} and of {most:,}.",
        )


def _against(ours: list[float], theirs: list[float]) -> str:
    return f"{flags.spread(ours, 'HR@10')} against {flags.spread(theirs, 'HR@10')}"


_WHAT = {AUGMENTED: "that AR-CF generates", RANDOM_USERS: "real ones drawn at random"}


def _notes(config: Config) -> Iterator[str]:
    if AUGMENTED not in config.sources:
        yield f"Without {AUGMENTED}, which is not among --sources."
        return
    yield (
        "AR-CF is our reading of its abstract, in PyTorch: a conditional GAN whose real examples are the nearest users "
        f"of the conditioning one; trained for {config.epochs} epochs, once a seed. All that the abstract leaves open "
        "was chosen by us, as experiments/baselines/arcf.py says."
    )


def _check(config: Config) -> None:
    if config.epochs < 1:
        raise ValueError(f"--epochs is at least 1, got {config.epochs}")
    check_sources([name for name in config.sources if name != AUGMENTED])
    if AUGMENTED in config.sources and importlib.util.find_spec("torch") is None:
        raise ImportError(f"{AUGMENTED} needs PyTorch: pip install 'infae[torch]', or leave it out of --sources")


if __name__ == "__main__":
    flags.main(Config, run)
