"""∞-AE as `infae.select` chooses it, as published, and EASE, each chosen on validation alone, on several splits.

    python -m experiments.infinite.compare --dataset=ml-1m --splits=0,1,2
    python -m experiments.infinite.compare --dataset=gowalla --k=20 --metric=NDCG@20 --models=select \
        --validation_fraction=0.1

Split 0 is the data set's own; others are random, 80/10/10 of each user's clicks, by that seed. A model named
"+ validation" is the same choice fitted on training and validation clicks together. Finished cells are kept in
`cells/`. Writes `record.json` (settings, all trials, all figures), `table.md` and `compare.png`.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import pandas as pd

import infae
from experiments.infinite.depth import resplit
from experiments.recommenders import EASE, select_ease
from experiments.recommenders.registry import PUBLISHED_REGS
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Study, each, load_any
from experiments.study.tables import IN_PERCENT, results_table
from infae.ranking.evaluate import Recommender
from infae.runtime import checks
from infae.tuning.best import Trial, best
from infae.tuning.search import held_out_metrics

EASE_LAMBDAS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
REFIT = ", + validation"
_COLUMNS = ("HR", "NDCG", "Recall", "PSP")


@dataclass(frozen=True)
class Config(flags.LoadConfig):
    dataset: str = option("tiny", flags.DATASET)
    splits: tuple[int, ...] = option(
        (0,), "0 for the data set's own split, others for random ones by that seed", axis=True
    )
    models: tuple[str, ...] = option(("select", "published", "ease"), "which to choose", axis=True)
    metric: tuple[str, ...] = option(("NDCG@10", "HR@100"), "what is chosen by, on validation: the mean of these")
    refit: bool = option(True, "report each choice fitted on train and validation together, too")
    k: tuple[int, ...] = option((10, 100), "cut-offs of the metrics")
    seed: int = option(0, "of the validation draw and of select")
    out: str = option("out/compare", "output folder")
    plot: bool = option(True, "write compare.png")


def run(config: Config) -> dict[str, Any]:
    for name in config.models:
        checks.choice("--models", name, MODELS)
    split = load_any(config, config.seed)
    study = Study(
        config, split, title="∞-AE selected, ∞-AE published, and EASE", shows="", version=1,
        uses={"regs": PUBLISHED_REGS, "lambdas": EASE_LAMBDAS},
    )  # fmt: skip
    places = ({"model": name, "split": number} for number, name in product(config.splits, config.models))
    frame = study.run(each(places, partial(_result, config, split)))
    results = {title: found.dropna().to_list() for title, found in pd.DataFrame([*frame["test"]]).items()}
    columns = [f"{metric}@{k}" for k in config.k for metric in _COLUMNS]
    rivals = {title: rows for title, rows in results.items() if not title.endswith(REFIT)}
    if len(rivals) > 1:
        study.draw("compare.png", plots.bars, rivals, columns, f"test, {config.dataset}")
    return study.write([results_table(f"Test, {IN_PERCENT}", results, [*columns, "AUC"])])


def _result(config: Config, whole: infae.Split, model: str, split: int) -> dict[str, Any]:
    part = resplit(whole, split)
    title, choose = MODELS[model]
    fitted, chosen, again = choose(config, part)
    tested = {title: _tested(config, fitted, part)}
    # What is fitted again has no other model beside it.
    del fitted
    if config.refit:
        tested[title + REFIT] = _tested(config, again.fit(part.train.union(part.validation)), part)
    return {"test": tested, "chosen": chosen}


def _tested(config: Config, model: Recommender, split: infae.Split) -> dict[str, float]:
    return dict(infae.evaluate(model, split, k=config.k, n_negatives=0, progress=True))


Chosen = tuple[Recommender, dict[str, Any], Any]
"""The model that validation prefers, how it was chosen, and one not fitted yet with the same parameters."""


def _selected(config: Config, split: infae.Split) -> Chosen:
    found = infae.select(split.train, split, metric=config.metric, seed=config.seed, progress=True)
    told = {"model": repr(found.model), "tried": found.trials}
    return found.model, told, infae.InfiniteAE(**found.model.get_params())


def _published(config: Config, split: infae.Split) -> Chosen:
    trials = (Trial({"reg": reg}, infae.fit(split.train, reg)) for reg in PUBLISHED_REGS)
    found = best(trials, lambda model: held_out_metrics(model, split, config.metric)["value"], "value")
    return found.candidate, {**found.params, "tried": found.tried}, infae.InfiniteAE(found.params["reg"])


def _ease(config: Config, split: infae.Split) -> Chosen:
    found = select_ease(split, EASE_LAMBDAS, metric=config.metric)
    return found.candidate, {**found.params, "tried": found.tried}, EASE(found.params["lambda"])


MODELS = {
    "select": ("∞-AE, selected", _selected),
    "published": ("∞-AE, published", _published),
    "ease": ("EASE", _ease),
}


if __name__ == "__main__":
    flags.main(Config, run)
