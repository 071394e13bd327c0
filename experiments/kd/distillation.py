"""Students that learn from a teacher beside their own clicks.

    knowledge = Knowledge(score, clicks, vectors)
    MF(n_factors=20).fit(clicks, beside=Distilled("RRD", knowledge, weight=0.1))

`METHODS` has the names. `LISTED` is another; its students are made with `suited`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from experiments.kd.knowledge import Knowledge
from experiments.kd.listwise import SETTINGS, Listwise, targets, users_of_a_step
from experiments.kd.methods import METHODS, Method
from experiments.kd.names import ALONE, LISTED, WEIGHTS
from experiments.recommenders.mf import MF
from experiments.recommenders.ranking import Ranking
from experiments.training.trainer import Task
from infae.runtime import checks


class Distillation(Task):
    """A student's own task, with a method's loss beside its own."""

    def __init__(self, own: Ranking, method: Method, weight: float, seed: int):
        self.module = nn.ModuleList([own.module, method])
        self._own, self._method, self._weight, self._seed = own, method, weight, seed

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        # By seed and epoch, so that a training that goes on draws what it would have.
        self._method.begin(epoch, torch.Generator().manual_seed(self._seed + epoch))
        return self._own.examples(epoch)

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        (own,) = self._own.losses(rng, *batch)
        users, positives, negatives = batch[:3]
        items = torch.cat([positives, negatives]).unique()
        yield own + self._weight * self._method(self._own.module, users.unique(), items, rng)

    def settle(self) -> None:
        self._own.settle()


@dataclass(frozen=True)
class Distilled:
    """What `Trained.fit` takes as `beside`: a method by its name, and its weight beside the student's own loss.

    `temperature` is of the methods that have one; theirs where it is 0. The weight of `LISTED` is below 1: the share of
    the teacher's lists, beside clicks.

    Raises ValueError for an unknown name, a weight that is not above 0 and a temperature of another method; and, when
    it is called, for a student that learns no vectors, one of other clicks than the teacher's lists leave out, one that
    is not on the CPU, and a method that needs vectors of a teacher without any.
    """

    method: str
    knowledge: Knowledge = field(repr=False)
    weight: float = 1.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        checks.choice("method", self.method, (*METHODS, LISTED))
        checks.number("weight", self.weight, above=0)
        if self.method == LISTED and self.weight >= 1:
            raise ValueError(f"weight is the share of lists, and must be below 1, got {self.weight}")
        checks.number("temperature", self.temperature, least=0)
        if self.temperature and not hasattr(METHODS.get(self.method), "temperature"):
            tempered = ", ".join(name for name, method in METHODS.items() if hasattr(method, "temperature"))
            raise ValueError(f"{self.method} has no temperature; those that have one are {tempered}")

    def __repr__(self) -> str:
        tempered = f", {self.temperature}" if self.temperature else ""
        return f"Distilled({self.method}, {self.weight}{tempered}, {self.knowledge.fingerprint})"

    def __call__(self, own: Task, rng: torch.Generator) -> Task:
        if not isinstance(own, Ranking):
            raise ValueError(f"a student must rank by vectors of users and items, as MF does, got {type(own).__name__}")
        if rng.device.type != "cpu":
            raise ValueError(f"students are distilled on the CPU, where the teacher's scores are, got {rng.device}")
        theirs, clicks = self.knowledge.clicks, own.clicks
        if theirs.shape != clicks.shape or (theirs != clicks).nnz:
            raise ValueError(
                f"the teacher's lists leave out other clicks than the student learns from: {theirs.nnz:,} of "
                f"{theirs.shape}, and {clicks.nnz:,} of {clicks.shape}"
            )
        if self.method == LISTED:
            return Listwise(own, targets(self.knowledge, self.weight))
        method = METHODS[self.method](self.knowledge, own.module)
        method.initialise(rng)
        if self.temperature:
            setattr(method, "temperature", self.temperature)  # noqa: B010
        return Distillation(own, method, self.weight, int(torch.randint(2**62, (), generator=rng)))


def suited(model: MF, method: str, shape: tuple[int, int]) -> MF:
    """A model that is not fitted, with what the method asks for on clicks of this shape.

    `LISTED` learns by users, at a rate of its own, for as many epochs as the model has and `SETTINGS` at most.
    """
    if method != LISTED:
        return model
    n_epochs = min(model.n_epochs, SETTINGS["n_epochs"])
    return replace(model, **{**SETTINGS, "n_epochs": n_epochs, "batch_size": users_of_a_step(*shape)})


def tried(method: str, knowledge: Callable[[], Knowledge]) -> Iterator[tuple[dict[str, float], Distilled | None]]:
    """The weights that studies try of a method, for the record, and what a student learns beside; `ALONE` nothing.

    The knowledge is made once, and not for a student alone. KeyError for a method without weights.
    """
    if method == ALONE:
        yield {}, None
        return
    weights, told = WEIGHTS[method], knowledge()
    for weight in weights:
        yield {"weight": weight}, Distilled(method, told, weight)
