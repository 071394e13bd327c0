"""Are users made to look real as good to learn from as users made to be learned from? EASE on both.

    python -m experiments.infinite.augmentation                  # an embedded synthetic set, offline, without AR-CF
    python -m experiments.infinite.augmentation --preset=paper   # ML-1M, figure 10 (needs --extra torch)

For each budget of users and each seed, EASE is trained on virtual users alone that AR-CF's user
generator made (`experiments.recommenders.arcf`, one training a seed), on the users that DISTILL-CF
made, and on random real users; its lambda is chosen on validation clicks, and it is tested on all real users.
Writes `record.json`, `table.md`, `augmentation.png` and `cells/`, from which a run that was stopped goes on.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any

import pandas as pd

import infae
from experiments.infinite import wording
from experiments.infinite.sources import DISTILLED, DISTILLED_BINARY, EVERYBODY, RANDOM_USERS, SOURCES, Sources, check
from experiments.recommenders.registry import MODEL_NAMES, MODELS, Search, check_models
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, ahead_by_budget, at, every
from experiments.study.flags import option
from experiments.study.runner import METRICS, Study, Work, each, load_split, tested
from experiments.study.tables import IN_PERCENT, metrics_table
from infae.runtime import checks

AUGMENTED = "AR-CF"
IN_PAPER = (AUGMENTED, DISTILLED, DISTILLED_BINARY, RANDOM_USERS)


@dataclass(frozen=True)
class Config(flags.SummaryConfig):
    budgets: tuple[int, ...] = option(
        (20, 60), "users made or drawn", axis=True, quick=(30, 90), paper=(50, 100, 200, 500)
    )
    sources: tuple[str, ...] = option(
        IN_PAPER[1:], f"what is trained on: {AUGMENTED}, which needs PyTorch, and " + ", ".join(SOURCES),
        axis=True, quick=IN_PAPER,
    )  # fmt: skip
    model: str = option("ease", "one of " + MODEL_NAMES)
    epochs: int = option(5, "of AR-CF's networks", quick=50, paper=40)
    full: bool = option(True, "also train it on all data", axis=True)
    out: str = option("out/augmentation", "output folder")


def run(config: Config) -> dict[str, Any]:
    check_models((config.model,))
    checks.whole("--epochs", config.epochs)
    if AUGMENTED in config.sources and importlib.util.find_spec("torch") is None:
        raise ImportError(f"{AUGMENTED} needs PyTorch: pip install 'infae[torch]', or leave it out of --sources")
    split = load_split(config)
    check(split, config.budgets, [name for name in config.sources if name != AUGMENTED])
    sources, model = Sources.of(config, split), MODELS[config.model]
    study = Study(
        config, split, title="Users made to look real and users made to learn from", shows="Figure 10", version=1,
        uses={**sources.uses, "grid": model.grid()},
    )  # fmt: skip
    frame = study.run(_work(config, split, sources))
    tables = [metrics_table(frame, ("source", "users"), METRICS, f"Test, {IN_PERCENT}")]
    panels = {model.title: plots.lines(frame, ["source"], "users", "HR@10")}
    study.draw("augmentation.png", plots.curves, panels, "users", "test HR@10, %")
    note = (
        "AR-CF is our reading of its abstract, in PyTorch: a conditional GAN whose real examples are the nearest users "
        f"of the conditioning one; trained for {config.epochs} epochs, once a seed. All that the abstract leaves open "
        "was chosen by us, as experiments/recommenders/arcf.py says."
    )
    if AUGMENTED not in config.sources:
        note = f"Without {AUGMENTED}, which is not among --sources."
    return study.write(tables, [*claims(config, frame)], [note])


def _work(config: Config, split: infae.Split, sources: Sources) -> list[Work]:
    @lru_cache(maxsize=1)
    def augmenter(seed: int) -> Any:
        from experiments.recommenders.arcf import ARCF

        return ARCF(n_epochs=config.epochs, seed=seed).fit(split.train, progress=True)

    def result(source: str, users: int, seed: int) -> dict[str, float]:
        generate = augmenter(seed).generate if source == AUGMENTED else partial(sources.interactions, source)
        model, _ = MODELS[config.model].choose(generate(users, seed), split, Search.of(config, seed))
        return tested(model, split)

    drawn = [*product(config.seeds, config.sources, config.budgets)]
    if config.full:
        drawn.append((config.seeds[0], EVERYBODY, split.train.n_users))
    return each(({"source": source, "users": n, "seed": seed} for seed, source, n in drawn), result)


def claims(config: Config, frame: pd.DataFrame) -> Iterator[Claim]:
    """By HR@10 over the seeds: at every budget, and the fewest of one source against the most of another."""
    if DISTILLED not in config.sources:
        return
    distilled = at(frame, source=DISTILLED)
    for other, what in _WHAT.items():
        verdicts, rows = ahead_by_budget(distilled, at(frame, source=other), "HR@10")
        if rows:
            yield wording.MADE_FOR_IT.claim(every(verdicts), rows, model=MODELS[config.model].title, what=what)
    # What the paper calls impractical: realistic users do not become enough, however many.
    least, most = min(config.budgets), max(config.budgets)
    if AUGMENTED in config.sources and least < most:
        ours, theirs = at(distilled, users=least)["HR@10"], at(frame, source=AUGMENTED, users=most)["HR@10"]
        yield wording.IMPRACTICAL.claim(ahead(ours, theirs), ours=ours, theirs=theirs, least=least, most=most)


_WHAT = {AUGMENTED: "that AR-CF generates", RANDOM_USERS: "real ones drawn at random"}


if __name__ == "__main__":
    flags.main(Config, run)
