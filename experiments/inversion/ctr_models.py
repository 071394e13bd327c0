"""How accurate are our click-through models? Beside the public leaderboard of Frappe_x1, and beside deepctr-torch.

    python -m experiments.inversion.ctr_models                    # made clicks, offline
    python -m experiments.inversion.ctr_models --preset=quick     # Frappe_x1, reduced
    python -m experiments.inversion.ctr_models --preset=paper     # Frappe_x1, three seeds

Every model is trained on all training rows; settings and epochs are chosen on validation rows. `--peers` adds the
models of deepctr-torch, on the same rows, seeds and training. Writes `record.json`, `table.md`, a picture of each
table and `cells/`, from which a run that was stopped goes on.
"""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from experiments.ctr import metrics, peers
from experiments.ctr.models import MODELS
from experiments.ctr.train import Training, evaluate, fit, logits
from experiments.inversion import published
from experiments.inversion.sources import Workshop
from experiments.inversion.study import TablesConfig, begin, places
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table
from infae.tuning.best import Trial, best

LEARNERS = {
    "LR": "lr", "FM": "fm", "DeepFM": "deepfm", "DCN": "dcn", "PNN": "pnn", "xDeepFM": "xdeepfm", "AutoInt": "autoint",
}  # fmt: skip
ALL = 10**9
PEER = " (deepctr-torch)"
NETWORK: Mapping[str, Any] = {"n_factors": 32, "n_layers": 2, "width": 128, "dropout": 0.2}
TRIED: list[tuple[Training, Mapping[str, Any]]] = [
    (Training(0.01, 1e-5, 2048, 40), {}),
    (Training(0.005, 3e-5, 2048, 40), {}),
    (Training(0.005, 1e-5, 2048, 40), {"batch_norm": True}),
]
"""Trainings, and parameters beside `NETWORK`. Batch normalisation is of networks: not of LR, of FM, nor of
deepctr-torch's PNN.
"""
COLUMNS = ("AUC", "LogLoss", "AUC by user", "ECE")
NOTES = (
    "Figures in brackets are of the public leaderboard (BARS, Frappe_x1), whose training file differs: here every "
    "negative's app is drawn again.",
    "Networks of deepctr-torch have the same dropout, but none of their inputs, as our PNN; its PNN is not tried with "
    "batch normalisation, which it has not.",
    "AUC by user is the mean within the rows of a user, weighted by rows; ECE the expected calibration error.",
)


@dataclass(frozen=True)
class Config(TablesConfig):
    tables: tuple[str, ...] = option(("made",), "see ctr_table_2", quick=("frappe",))
    learners: tuple[str, ...] = option(("LR", "FM", "DeepFM"), f"some of {', '.join(LEARNERS)}", axis=True,
        quick=tuple(LEARNERS))  # fmt: skip
    peers: bool = option(False, "also the models of deepctr-torch; needs the peers extra", axis=True)
    n_rows: int = option(ALL, "training rows at most, drawn at random", quick=40_000, paper=ALL)
    n_epochs: int = option(5, "at most; 0 for as many as the settings say", quick=5, paper=0)
    out: str = option("out/ctr_models", "output folder")


def run(config: Config) -> dict[str, Any]:
    learners = [*config.learners]
    if config.peers:
        importlib.import_module("deepctr_torch")  # where it is missing, that is told before any work
        learners += [name + PEER for name in config.learners if LEARNERS.get(name) in peers.MODELS]
    study, workshop = begin(
        config, title="Click-through models on all rows", shows="", version=1,
        uses={"tried": TRIED, "network": NETWORK}, choices={"learners": LEARNERS},
    )  # fmt: skip
    frame = study.run(each(places(config, learner=learners), partial(trained, workshop, config.n_rows)))
    shown = []
    for table, part in frame.groupby("table", sort=False):
        theirs = published.beside("leaderboard", table)
        shown.append(metrics_table(part, ("learner",), COLUMNS, f"{table}, test", theirs))
        rows = {name: cells.to_dict("records") for name, cells in part.groupby("learner", sort=False)}
        study.draw(f"{table}.png", plots.grouped, rows, ["AUC"], theirs, f"test on {table}")
    return study.write(shown, [], NOTES, data=", ".join(config.tables))


def trained(workshop: Workshop, n_rows: int, learner: str, table: str, seed: int) -> dict[str, Any]:
    """Test figures of a model."""
    data = workshop.data(table, seed)
    rows = data.train
    if len(rows) > n_rows:
        rows = rows[np.random.default_rng(seed).permutation(len(rows))[:n_rows]]
    name = LEARNERS[learner.removesuffix(PEER)]

    def trials() -> Iterator[Trial[Any]]:
        for training, more in TRIED:
            network = {**NETWORK, **more}
            training = replace(training, seed=seed, n_epochs=workshop.n_epochs or training.n_epochs)
            if more and (name in ("lr", "fm") or learner == "PNN" + PEER):
                continue
            if learner.endswith(PEER):
                model: Any = peers.Peer(name, data.fields, seed=seed, **network)
            else:
                model = MODELS[name](data.fields, **network)
            done = fit(model, rows, data.validation, training)
            assert done.best is not None
            names = ("learning_rate", "weight_decay")
            params = {**{name: getattr(training, name) for name in names}, "epoch": done.best["epoch"], **more}
            yield Trial(params, (done.best["value"], model))

    found = best(trials(), lambda each: each[0], "AUC")
    model = found.candidate[1]
    # The first field is the user in every table.
    by_user = metrics.grouped_auc(data.test.known_labels, logits(model, data.test), data.test.values[0])
    return {**evaluate(model, data.test), "AUC by user": by_user, **found.params, "validation": found.value}


if __name__ == "__main__":
    flags.main(Config, run)
