"""∞-AE as `infae.select` chooses it, as published, and EASE, each chosen on validation alone, on several splits.

    python -m experiments.infinite.compare --dataset=ml-1m --splits=0,1,2
    python -m experiments.infinite.compare --dataset=gowalla --k=20 --metric=NDCG@20 --models=select \
        --validation_fraction=0.1

Writes `record.json` (settings, all trials, all figures), `table.md` and `compare.png`. Split 0 is the data
set's own; others are random, 80/10/10 of each user's clicks, by that seed. A model named "+ validation"
is the same choice fitted on training and validation clicks together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import infae
from experiments.recommenders import EASE
from experiments.recommenders.ease import ease_gram
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.record import Stopwatch, header, output_folder, write_json, write_text
from infae.ranking.evaluate import Recommender
from infae.tuning.search import held_out_metrics

MODELS = ("select", "published", "ease")
PUBLISHED_REGS = (1.0, 5.0, 20.0, 50.0, 100.0)
EASE_LAMBDAS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
_REFIT = ", + validation"
_COLUMNS = ("HR", "NDCG", "Recall", "PSP")


@dataclass(frozen=True)
class Config:
    """Flags of the comparison."""

    dataset: str = option("tiny", "data set, as `infae.data.load` names it")
    data_dir: str = option("", "folder of the data files; else INFAE_DATA is looked up")
    splits: tuple[int, ...] = option((0,), "0 for the data set's own split, others for random ones by that seed")
    validation_fraction: float = option(0.0, "of train, to choose by, where the data set brings none")
    models: tuple[str, ...] = option(MODELS, "some of select, published, ease")
    metric: tuple[str, ...] = option(("NDCG@10", "HR@100"), "what is chosen by, on validation: the mean of these")
    refit: bool = option(True, "report each choice fitted on train and validation together, too")
    k: tuple[int, ...] = option((10, 100), "cut-offs of the metrics")
    seed: int = option(0, "of the validation draw and of select")
    out: str = option("out/compare", "output folder")
    plot: bool = option(True, "write compare.png")


def run(config: Config) -> dict[str, Any]:
    """Choose, fit and evaluate, and return the record that is written."""
    if unknown := sorted(set(config.models) - set(MODELS)):
        raise ValueError(f"unknown model {', '.join(unknown)}; expected some of {', '.join(MODELS)}")
    folder = output_folder(config.out)
    if config.plot:
        plots.figure()
    record: dict[str, Any] = {**header(config), "splits": {}}
    results: dict[str, list[Mapping[str, float]]] = {}
    for number in config.splits:
        clock = Stopwatch()
        split = _split(config, number)
        print(split, flush=True)
        row: dict[str, Any] = {"name": split.name, "note": split.note, "test": {}}
        for name, model, chosen in _models(config, split, clock):
            report = infae.evaluate(model, split, k=config.k, n_negatives=0, progress=True)
            row["test"][name] = dict(report)
            row.setdefault("chosen", {})[name] = chosen
            results.setdefault(name, []).append(report)
            print(f"  {name}", flush=True)
            # The next is fitted without this one beside it.
            del model
        record["splits"][number] = row | {"seconds": clock.seconds}
        # Hours of work are on disk after each split.
        write_json(folder / "record.json", record)
    columns = [f"{metric}@{k}" for k in config.k for metric in _COLUMNS] + ["AUC"]
    text = flags.spread_table(results, columns)
    write_text(folder / "table.md", text + "\n")
    print(f"\nTest, in percent (AUC as it is):\n\n{text}")
    rivals = {name: rows for name, rows in results.items() if not name.endswith(_REFIT)}
    if config.plot and len(rivals) > 1:
        plots.bars(folder / "compare.png", rivals, columns[:-1], f"test, {config.dataset}")
    return record


def _split(config: Config, number: int) -> infae.Split:
    split = infae.data.load(config.dataset, config.data_dir or None)
    if number:
        log = split.train.union(split.validation).union(split.test)
        split = infae.data.random_split(log, seed=number, name=f"{config.dataset}, 80/10/10 by seed {number}")
    if config.validation_fraction and not split.validation.n_interactions:
        split = infae.data.with_validation(split, fraction=config.validation_fraction, seed=config.seed)
    return split


def _models(config: Config, split: infae.Split, clock: Stopwatch) -> Iterator[tuple[str, Recommender, dict[str, Any]]]:
    everything = split.train.union(split.validation) if config.refit else split.train
    if "select" in config.models:
        with clock("select"):
            found = infae.select(split.train, split, metric=config.metric, seed=config.seed, progress=True)
        yield "∞-AE, selected", found.model, {"model": repr(found.model), "trials": found.trials}
        if config.refit:
            again = infae.InfiniteAE(**found.model.get_params())
            del found
            with clock("select, refit"):
                again.fit(everything)
            yield "∞-AE, selected" + _REFIT, again, {"model": repr(again)}
            del again
    if "published" in config.models:
        with clock("published"):
            reg, tried = _best(config, split, PUBLISHED_REGS, lambda reg: infae.fit(split.train, reg))
        yield "∞-AE, published", infae.fit(split.train, reg), {"reg": reg, "tried": tried}
        if config.refit:
            yield "∞-AE, published" + _REFIT, infae.fit(everything, reg), {"reg": reg}
    if "ease" in config.models:
        with clock("ease"):
            gram = ease_gram(split.train.matrix)
            reg, tried = _best(config, split, EASE_LAMBDAS, lambda reg: EASE(reg, gram=gram).fit(split.train))
        yield "EASE", EASE(reg, gram=gram).fit(split.train), {"lambda": reg, "tried": tried}
        if config.refit:
            yield "EASE" + _REFIT, EASE(reg).fit(everything), {"lambda": reg}


def _best(
    config: Config, split: infae.Split, regs: Sequence[float], fit: Callable[[float], Recommender]
) -> tuple[float, dict[float, float]]:
    """The reg that does best on validation, by the same measure as `infae.select`, and what each one did."""
    tried = {reg: held_out_metrics(fit(reg), split, config.metric)["value"] for reg in regs}
    return max(tried, key=lambda reg: tried[reg]), tried


if __name__ == "__main__":
    flags.main(Config, run)
