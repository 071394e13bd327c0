"""A search over students' architectures: how wide and how deep, of a number of parameters at most, by Optuna's TPE.

    search = Search(metric="H@50", n_trials=20, shared="out/shared")
    model, row = searched(NeuMF(), split, knowledge, "FTD", most=300_000, search=search)

Widths are parts of the widest that fits, so that every trial does.
"""

import bisect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

import infae
from experiments.kd.distillation import Distilled
from experiments.kd.knowledge import Knowledge
from experiments.kd.methods import METHODS, MOST_COMPARED
from experiments.kd.names import WEIGHTS
from experiments.kd.teachers import METRIC, value_on
from experiments.recommenders.mf import MF, Factors
from experiments.recommenders.neumf import Network, NeuMF
from experiments.recommenders.registry import Search
from experiments.recommenders.trained import Trained
from experiments.training.trainer import n_parameters
from experiments.training.tuning import Trials
from infae.runtime import checks

LAYERS, SHARES = (0, 1, 2, 3, 4), (0.25, 0.5, 1.0)
"""Layers of the network, an inner product where there are none; and parts of the widest width that fits."""


def space(method: str) -> Mapping[str, tuple[Any, ...]]:
    """What is tried: of the loss its usual weights."""
    return {"n_layers": LAYERS, "share": SHARES, "weight": WEIGHTS[method]}


def searched(
    network: NeuMF, split: infae.Split, knowledge: Knowledge, method: str, most: int, search: Search
) -> tuple[Trained, dict[str, Any]]:
    """The best student on validation of those with `most` parameters or fewer, and how it was made.

    Each has the training of `network`, of which it is a narrower or wider, shallower or deeper form, and learns from
    the teacher by `method`. `search` has the number of trials, and the folder from which one that was stopped goes on.

    Raises ValueError for an unknown method, another metric than `METRIC`, and where not even an inner product of width
    1 fits.
    """
    checks.choice("method", method, METHODS)
    checks.choice("metric", search.metric, (METRIC,))
    # As it is before a fit.
    network = replace(network)
    shape, value = split.train.shape, value_on(split)
    widths = {n_layers: widest(n_layers, shape, most) for n_layers in LAYERS}
    tried = {**space(method), "n_layers": [n_layers for n_layers, width in widths.items() if width]}
    if not tried["n_layers"]:
        raise ValueError(
            f"a student of {shape[0]:,} users and {shape[1]:,} items has more than {most:,} parameters at a width of "
            "1; allow more"
        )

    def train(params: dict[str, Any], report: Any = None) -> tuple[Trained, dict[str, Any]]:
        width = max(1, int(params["share"] * widths[params["n_layers"]]))
        model = narrowed(network, params["n_layers"], width)
        model.fit(split.train, value=value, beside=Distilled(method, knowledge, params["weight"]), report=report)
        return model, {"epoch": model.epoch_, "n_factors": width, METRIC: value(model)}

    uses = {
        "network": vars(network), "most": most, "knowledge": knowledge.fingerprint, "method": method,
        "compared": MOST_COMPARED,
    }  # fmt: skip
    trials = Trials(train, tried, split.train, split, search, "architecture", uses)
    trials.sample(checks.whole("n_trials", search.n_trials))
    return trials.best_model(), trials.best


def narrowed(network: NeuMF, n_layers: int, n_factors: int) -> Trained:
    """`network` with so many layers and of this width; an `MF` with its training where there are none."""
    if n_layers:
        return replace(network, n_layers=n_layers, n_factors=n_factors)
    shared = {name: value for name, value in vars(network).items() if name != "n_layers"}
    return MF(**{**shared, "n_factors": n_factors})


def widest(n_layers: int, shape: tuple[int, int], most: int) -> int:
    """The largest width of `most` parameters or fewer; 0 where a width of 1 has more."""

    def fits(width: int) -> bool:
        with torch.device("meta"):
            return n_parameters(Network(*shape, width, n_layers) if n_layers else Factors(*shape, width)) <= most

    # Every user and item has as many as the width.
    widths = range(1, most // sum(shape) + 2)
    return bisect.bisect_left(widths, True, key=lambda width: not fits(width))
