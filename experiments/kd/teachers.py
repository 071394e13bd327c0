"""Large recommenders, by name: what a student is taught by, and how each is made."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import infae
import torch
from experiments.kd.methods import vectors_of
from experiments.kd.protocol import Score, by_position, figures, ranks
from experiments.recommenders.ease import EASE, ease_gram
from experiments.recommenders.lightgcn import LightGCN
from experiments.recommenders.mf import MF
from experiments.recommenders.mvae import MVAE
from experiments.recommenders.neumf import NeuMF
from experiments.recommenders.ranking import Vectors
from infae.tuning.best import Best, Trial, best

METRIC = "H@50"
"""What everything is chosen by, on the validation clicks."""
BPR: Mapping[str, Any] = {"dropout": 0.0, "learning_rate": 0.001, "weight_decay": 1e-6, "batch_size": 1024}
"""The public code's; its weight decay of 0.001 is of sums over 1,024 triples."""


class Teacher(NamedTuple):
    """What a student is taught by."""

    score: Score
    vectors: tuple[torch.Tensor, torch.Tensor] | None  # of users and of items
    n_parameters: int


def value_on(split: infae.Split) -> Callable[[Any], float]:
    """`METRIC` on validation clicks of a model as it is, by its users' vectors."""
    return lambda model: figures(ranks(by_position(model, split.train), split, "validation"))[METRIC]


TRAINED: Mapping[str, Callable[..., Any]] = {
    "BPR": partial(MF, n_factors=200, n_epochs=300, check_every=10, **BPR),
    "LightGCN": partial(LightGCN, n_factors=200, n_layers=2, batch_size=4096, n_epochs=200, check_every=10),
    "NeuMF": partial(NeuMF, n_factors=250, n_layers=2, n_epochs=200, check_every=10, **BPR),
    "MVAE": partial(MVAE, n_factors=200, n_epochs=200, check_every=10),
}
CLOSED: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "EASE": {"reg": (30.0, 100.0, 300.0)},
    "∞-AE": {"reg": (0.1, 0.3, 1.0, 3.0)},
}
"""What is tried."""
TEACHERS = (*TRAINED, *CLOSED)


def trained(title: str, split: infae.Split, seed: int, n_epochs: int, checkpoint: Path | None = None) -> Any:
    """A fitted model of `TRAINED`, stopped by validation; at most so many epochs, if not 0."""
    model = TRAINED[title](seed=seed)
    model.n_epochs = n_epochs or model.n_epochs
    return model.fit(split.train, value=value_on(split), checkpoint=checkpoint, progress=True)


def closed(title: str, split: infae.Split) -> Best[tuple[float, Any]]:
    """The best model of `CLOSED` on validation."""
    value = value_on(split)
    gram = ease_gram(split.train.matrix) if title == "EASE" else None

    def trials() -> Iterator[Trial[tuple[float, Any]]]:
        for reg in CLOSED[title]["reg"]:
            made = EASE(reg, gram=gram) if title == "EASE" else infae.InfiniteAE(reg=reg)
            model = made.fit(split.train)
            yield Trial({"reg": reg}, (value(model), model))

    return best(trials(), lambda found: found[0], METRIC)


def teacher(title: str, split: infae.Split, seed: int, n_epochs: int = 0, checkpoint: Path | None = None) -> Teacher:
    """A teacher of `TEACHERS`; closed-form ones draw nothing."""
    if title in CLOSED:
        model = closed(title, split).candidate[1]
        n_users, n_items = split.train.shape
        return Teacher(by_position(model, split.train), None, min(n_users, n_items) * n_items)
    model = trained(title, split, seed, n_epochs, checkpoint)
    vectors = None
    if isinstance(model.module, Vectors):
        users, items = vectors_of(model.module)
        vectors = users.detach(), items.detach()
    n_parameters = sum(part.numel() for part in model.module.parameters())
    return Teacher(by_position(model, split.train), vectors, n_parameters)
