"""Do other models learn from a summary too? EASE, ∞-AE and BPR-MF on the summary, on coresets, on all data.

    python -m experiments.transfer                    # an embedded synthetic set, offline
    python -m experiments.transfer --dataset=ml-1m    # the paper's own split

For each budget of users and each seed the data is distilled, and as many users are taken by each
coreset sampler (as many clicks as they have, for random interactions). Every model is trained on
each, its regularisation (BPR-MF: the epoch to stop at) chosen on validation clicks, and tested on
all real users. Each finished cell is kept in `cells.json`; a run that was stopped goes on there.
Writes `record.json`, `table.md` and `transfer.png` beside it. BPR-MF needs the `torch` extra.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import distillcf
import infae
from distillcf.fingerprint import clicks_fingerprint
from distillcf.teacher import REGS, choose_teacher
from experiments import common, plots
from experiments.baselines import EASE
from experiments.baselines.ease import ease_gram
from experiments.common import option
from experiments.record import output_folder, surroundings, write_json, write_text
from experiments.run_distillcf import SMALL_REGS
from infae.evaluate import Recommender, metric_k
from infae.progress import bar

# The flags that a cell's result depends on beside its own name.
_DECIDING = ("dataset", "sharpness", "steps", "metric")
METRICS = ("HR@10", "NDCG@10", "HR@100", "NDCG@100")
EASE_LAMBDAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    dataset: str = option("synthetic", "name of the data set; infae.data.datasets.names() lists them")
    data_dir: str = option("", "folder that holds the data sets; INFAE_DATA where empty")
    budgets: tuple[int, ...] = option((20, 60), "users of the summary and of each coreset")
    seeds: tuple[int, ...] = option((0,), "of summaries, coresets and BPR-MF")
    models: tuple[str, ...] = option(("ease", "infae", "bpr"), "ease, infae, bpr")
    full: bool = option(True, "also train each model on all data")
    sharpness: float = option(0.003, "of the summaries, see distillcf.Config")
    steps: int = option(400, "outer steps of the summaries")
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    out: str = option("out/transfer", "output folder")
    plot: bool = option(True, "write transfer.png")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    folder = output_folder(config.out)
    _check_flags(config)
    split = infae.data.load(config.dataset, config.data_dir or None)
    print(split)
    if not split.validation.n_interactions:
        raise ValueError(f"{config.dataset} has no validation part, which everything here is chosen by")
    teacher = choose_teacher(split.train, split, config.metric, progress=True)
    cells = Cells(folder / "cells.json", {name: getattr(config, name) for name in _DECIDING})
    work = list(_work(config, split, teacher, folder))
    for budget, seed, source, make in bar("transfer", True, work, "source"):
        for name in config.models:
            if (key := f"{name}/{source}/{budget}/{seed}") not in cells:
                users = make()
                started = time.perf_counter()
                model = _TRAIN[name](users, split, teacher, config.metric, seed)
                report = infae.evaluate(model, split, k=(10, 100), n_negatives=0)
                cells[key] = {**{m: report[m] for m in METRICS}, "seconds": time.perf_counter() - started}
    asked = {f"{name}/{source}/{budget}/{seed}" for budget, seed, source, _ in work for name in config.models}
    cells.found = {key: cell for key, cell in cells.found.items() if key in asked}
    record = {"config": config, **surroundings(), "split": split.name, "cells": cells.found}
    write_json(folder / "record.json", record)
    text = _table(config, cells)
    write_text(folder / "table.md", text + "\n")
    print(f"\nTest, in percent:\n\n{text}\n")
    if config.plot:
        plots.curves(folder / "transfer.png", _panels(config, cells), "users", "test NDCG@10, %")
    return record


class Cells:
    """Finished results by name, on disk after each; those of other settings are refused."""

    def __init__(self, path: Path, settings: dict[str, Any]):
        self._path = path
        self._settings = json.loads(json.dumps(settings))
        self.found: dict[str, dict[str, float]] = {}
        if path.exists():
            stored = json.loads(path.read_text())
            if stored["settings"] != self._settings:
                raise ValueError(f"{path} holds results of other settings; give another --out, or remove it")
            self.found = stored["cells"]

    def __contains__(self, key: str) -> bool:
        return key in self.found

    def __setitem__(self, key: str, value: dict[str, float]) -> None:
        self.found[key] = value
        write_json(self._path, {"settings": self._settings, "cells": self.found})


def _work(
    config: Config, split: infae.Split, teacher: infae.InfiniteAE, folder: Path
) -> Iterator[tuple[int, int, str, Callable[[], infae.Interactions]]]:
    """(budget, seed, name of the source, maker of its interactions)."""
    for seed in config.seeds:
        for budget in config.budgets:
            for form in ("soft", "hard"):
                name = "DISTILL-CF" if form == "soft" else "DISTILL-CF, binary"
                yield (
                    budget,
                    seed,
                    name,
                    lambda b=budget, s=seed, f=form: (  # type: ignore[misc]
                        _summary(config, split, teacher, folder, b, s).interactions(f)
                    ),
                )
            for name, draw in distillcf.CORESETS.items():
                yield budget, seed, name, lambda d=draw, b=budget, s=seed: d(split.train, b, s)  # type: ignore[misc]
    if config.full:
        yield split.train.n_users, config.seeds[0], "all users", lambda: split.train


def _summary(
    config: Config, split: infae.Split, teacher: infae.InfiniteAE, folder: Path, budget: int, seed: int
) -> distillcf.Summary:
    path = folder / f"summary_{budget}_{seed}.npz"
    if path.exists():
        found = distillcf.load(path)
        made_with = (found.n_users, found.config["seed"], found.config["sharpness"], found.config["steps"])
        if made_with != (budget, seed, config.sharpness, config.steps) or found.fingerprint != clicks_fingerprint(
            split.train
        ):
            raise ValueError(f"{path} is a summary of other data or settings; remove it, or give another --out")
        return found
    params = {**teacher.get_params(), "reg": teacher.reg_}
    summary = distillcf.distill(
        split.train,
        budget,
        validation=split,
        seed=seed,
        model=infae.InfiniteAE(**params),
        progress=True,
        sharpness=config.sharpness,
        steps=config.steps,
        metric=config.metric,
    )
    summary.save(path)
    return summary


def _train_ease(
    users: infae.Interactions, split: infae.Split, teacher: infae.InfiniteAE, metric: str, seed: int
) -> Recommender:
    gram = ease_gram(users.matrix)
    models = (EASE(reg, gram=gram).fit(users) for reg in EASE_LAMBDAS)
    return max(models, key=lambda model: _validation(model, split, metric))


def _train_infae(
    users: infae.Interactions, split: infae.Split, teacher: infae.InfiniteAE, metric: str, seed: int
) -> Recommender:
    params = {name: getattr(teacher, name) for name in ("kernel", "depth", "w_std", "b_std", "row_power")}
    return infae.fit(
        users,
        sorted({*SMALL_REGS, *REGS}),
        validation=split,
        metric=metric,
        item_weights=teacher.inputs_.item_weights,
        **params,
    )


def _train_bpr(
    users: infae.Interactions, split: infae.Split, teacher: infae.InfiniteAE, metric: str, seed: int
) -> Recommender:
    from experiments.baselines.bpr import BPRMF

    batch_size = int(np.clip(users.n_interactions // 20, 256, 16384))
    return BPRMF(batch_size=batch_size, metric=metric, seed=seed).fit(users, split)


_TRAIN: dict[str, Callable[..., Recommender]] = {"ease": _train_ease, "infae": _train_infae, "bpr": _train_bpr}
_TITLES = {"ease": "EASE", "infae": "∞-AE", "bpr": "BPR-MF"}


def _validation(model: Recommender, split: infae.Split, metric: str) -> float:
    return infae.evaluate(model, split, on="validation", k=metric_k(metric), n_negatives=0)[metric]


def _results(config: Config, cells: Cells, model: str) -> dict[tuple[str, int], list[dict[str, float]]]:
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for key, cell in cells.found.items():
        name, source, budget, _ = key.split("/")
        if name == model:
            found.setdefault((source, int(budget)), []).append(cell)
    return found


def _table(config: Config, cells: Cells) -> str:
    rows = {
        f"{_TITLES[model]} on {source}, {budget:,}": results
        for model in config.models
        for (source, budget), results in sorted(_results(config, cells, model).items(), key=lambda x: x[0][1])
    }
    return common.spread_table(rows, METRICS)


def _panels(config: Config, cells: Cells) -> dict[str, dict[str, dict[float, tuple[float, float]]]]:
    panels: dict[str, dict[str, dict[float, tuple[float, float]]]] = {}
    for model in config.models:
        lines = panels.setdefault(_TITLES[model], {})
        for (source, budget), results in _results(config, cells, model).items():
            values = [100 * cell["NDCG@10"] for cell in results]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            lines.setdefault(source, {})[budget] = (float(np.mean(values)), spread)
    return panels


def _check_flags(config: Config) -> None:
    if unknown := set(config.models) - set(_TRAIN):
        raise ValueError(f"--models knows {', '.join(_TRAIN)}, got {', '.join(sorted(unknown))}")
    if "bpr" in config.models and importlib.util.find_spec("torch") is None:
        raise ImportError("BPR-MF needs PyTorch: pip install 'infae[torch]', or pass --models=ease,infae")
    if config.plot:
        plots.figure()


if __name__ == "__main__":
    common.main(Config, run)
