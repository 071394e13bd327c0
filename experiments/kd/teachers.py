"""Large recommenders, by name: what a student is taught by, and how each is made."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import infae
from experiments.kd.knowledge import Knowledge
from experiments.kd.methods import vectors_of
from experiments.kd.protocol import Score, by_history, by_position, figures, ranks
from experiments.recommenders.ease import EASE, ease_gram
from experiments.recommenders.layers import Sparse
from experiments.recommenders.lightgcn import LightGCN
from experiments.recommenders.mf import MF
from experiments.recommenders.mvae import MVAE
from experiments.recommenders.neumf import NeuMF
from experiments.recommenders.ranking import Vectors
from experiments.training.trainer import n_parameters
from infae.tuning.best import Best, Trial, best

METRIC = "H@50"
"""What everything is chosen by, on the validation clicks."""
BPR: Mapping[str, Any] = {"dropout": 0.0, "learning_rate": 0.001, "weight_decay": 1e-6, "batch_size": 1024}
"""The public code's; its weight decay of 0.001 is of sums over 1,024 triples."""


@dataclass(frozen=True)
class Teacher:
    """A fitted recommender, and the clicks that it was fitted to."""

    model: Any
    clicks: infae.Interactions
    n_parameters: int

    @property
    def score(self) -> Score:
        """Of its own users, by their vectors where it has some."""
        return by_position(self.model, self.clicks)

    def knowledge(self) -> Knowledge:
        """What it says of its own users; not kept, for it is large."""
        if not isinstance(getattr(self.model, "module", None), Vectors):
            return Knowledge(self.score, self.clicks)
        users, items = vectors_of(self.model.module)
        return Knowledge(self.score, self.clicks, (users.detach(), items.detach()))

    def asked_of(self, clicks: infae.Interactions) -> Knowledge:
        """What it says of other histories, over the same items; vectors are those that an MF makes of them."""
        vectors = None
        if isinstance(self.model, MF):
            module = self.model.module
            with torch.no_grad():
                vectors = module.of_users(Sparse.of(clicks.matrix)), module.items.weight.detach()
        return Knowledge(by_history(self.model, clicks), clicks, vectors)


Way = Callable[[Any, infae.Interactions], Score]
"""How a model is asked of users: `by_position`, or `by_history`."""


def value_on(split: infae.Split, way: Way = by_position) -> Callable[[Any], float]:
    """`METRIC` on validation clicks of a model as it is."""
    return lambda model: figures(ranks(way(model, split.train), split, "validation"))[METRIC]


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
        return Teacher(model, split.train, min(n_users, n_items) * n_items)
    model = trained(title, split, seed, n_epochs, checkpoint)
    return Teacher(model, split.train, n_parameters(model.module))
