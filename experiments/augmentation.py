"""Are users made to look real as good to learn from as users made to be learned from? EASE on both.

    python -m experiments.augmentation                  # an embedded synthetic set, offline, without AR-CF
    python -m experiments.augmentation --preset=paper   # ML-1M, figure 10 (needs --extra torch)

For each budget of users and each seed, EASE is trained on virtual users alone that AR-CF's user
generator made (`experiments.baselines.arcf`, one training a seed), on the users that DISTILL-CF
made, and on random real users; its lambda is chosen on validation clicks, and it is tested on all
real users. Each finished cell is kept in `cells.json`; a run that was stopped goes on there.
Writes `record.json`, `table.md` and `augmentation.png` beside it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pandas as pd

import infae
from experiments import common, plots
from experiments.common import option
from experiments.models import MODELS, Search, check_models
from experiments.sources import DISTILLED, DISTILLED_BINARY, EVERYBODY, SOURCES, Sources, check_sources
from experiments.study import METRICS, Claim, Study, Work, load_split, mean_and_spread, metrics_table

AUGMENTED, RANDOM = "AR-CF", "random users"
IN_PAPER = (AUGMENTED, DISTILLED, DISTILLED_BINARY, RANDOM)


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    preset: str = common.preset_option()
    dataset: str = common.dataset_option()
    data_dir: str = common.data_dir_option()
    budgets: tuple[int, ...] = option(
        (20, 60), "users made or drawn", axis=True, quick=(30, 90), paper=(50, 100, 200, 500)
    )
    seeds: tuple[int, ...] = common.seeds_option()
    sources: tuple[str, ...] = option(
        IN_PAPER[1:], f"what is trained on: {AUGMENTED}, which needs PyTorch, and " + ", ".join(SOURCES),
        axis=True, quick=IN_PAPER,
    )  # fmt: skip
    model: str = option("ease", "one of " + ", ".join(MODELS))
    full: bool = option(True, "also train it on all data", axis=True)
    epochs: int = option(5, "of AR-CF's networks", quick=50, paper=40)
    sharpness: float = option(0.003, "of the summaries, see distillcf.Config")
    steps: int = option(100, "outer steps of the summaries", quick=150, paper=400)
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    shared: str = common.shared_option()
    out: str = option("out/augmentation", "output folder")
    plot: bool = option(True, "write augmentation.png")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    check_models((config.model,))
    _check_sources(config)
    split = load_split(config)
    study = Study(config, split, title="Users made to look real and users made to learn from", shows="Figure 10")
    frame = study.run(_work(config, split))
    tables = [metrics_table(frame, ("source", "users"), METRICS, "Test, in percent (AUC as it is)")]
    if config.plot:
        plots.curves(study.folder / "augmentation.png", _panels(config, frame), "users", "test HR@10, %")
    pictures = ["augmentation.png"] if config.plot else []
    return study.write(tables, [*_claims(config, frame)], pictures, _notes(config))


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
        search = Search(self.config.metric, self.config.preset, seed)
        model, _ = MODELS[self.config.model].choose(clicks, self.split, search)
        report = infae.evaluate(model, self.split, k=(10, 100), n_negatives=0)
        return {metric: report[metric] for metric in METRICS}

    def interactions(self, source: str, n_users: int, seed: int) -> infae.Interactions:
        if source == AUGMENTED:
            return self.augmenter(seed).generate(n_users, seed)
        return self.sources.interactions(source, n_users, seed)

    def _augmenter(self, seed: int) -> Any:
        from experiments.baselines.arcf import ARCF

        return ARCF(n_epochs=self.config.epochs, seed=seed).fit(self.split.train, progress=True)


def _claims(config: Config, frame: pd.DataFrame) -> list[Claim]:
    means = frame.groupby(["source", "users"])["HR@10"].mean()
    if DISTILLED not in means:
        return []
    claims = []
    for other in (AUGMENTED, RANDOM):
        if other not in means:
            continue
        pairs = {b: (100 * means[DISTILLED, b], 100 * means[other, b]) for b in config.budgets}
        found = ", ".join(f"{ours:.2f} against {theirs:.2f} at {b:,}" for b, (ours, theirs) in pairs.items())
        claims.append(
            Claim(
                f"{MODELS[config.model].title} learns more from DISTILL-CF's users than from as many {_WHAT[other]}.",
                all(bool(ours > theirs) for ours, theirs in pairs.values()),
                f"HR@10: {found} users.",
            )
        )
    if AUGMENTED in means:
        claims.append(_impractical(config, means))
    return claims


def _impractical(config: Config, means: pd.Series) -> Claim:
    """What the paper calls so: realistic users do not become enough, however many."""
    least, most = min(config.budgets), max(config.budgets)
    made, distilled = means[AUGMENTED, most], means[DISTILLED, least]
    return Claim(
        "Realistic users are impractical to train on: the most of AR-CF's serve worse than the fewest of DISTILL-CF's.",
        bool(made < distilled),
        f"HR@10 {100 * made:.2f} of {most:,} against {100 * distilled:.2f} of {least:,}.",
    )


_WHAT = {AUGMENTED: "that AR-CF generates", RANDOM: "real ones drawn at random"}


def _notes(config: Config) -> list[str]:
    if AUGMENTED not in config.sources:
        return [f"Without {AUGMENTED}, which is not among --sources."]
    return [
        "AR-CF is our reading of its abstract: a conditional GAN whose real examples are the nearest users of the "
        f"conditioning one; trained for {config.epochs} epochs, once a seed."
    ]


def _panels(config: Config, frame: pd.DataFrame) -> dict[str, dict[str, dict[float, tuple[float, float]]]]:
    lines: dict[str, dict[float, tuple[float, float]]] = {}
    for (source, users), group in frame.groupby(["source", "users"], sort=False):
        lines.setdefault(source, {})[users] = mean_and_spread(100 * group["HR@10"])
    return {MODELS[config.model].title: lines}


def _check_sources(config: Config) -> None:
    check_sources([name for name in config.sources if name != AUGMENTED])
    if AUGMENTED in config.sources and importlib.util.find_spec("torch") is None:
        raise ImportError(f"{AUGMENTED} needs PyTorch: pip install 'infae[torch]', or leave it out of --sources")


if __name__ == "__main__":
    common.main(Config, run)
