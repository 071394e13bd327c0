"""BD: teacher and student learn from each other while they learn from the clicks (Kweon et al. 2021)."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from experiments.kd.losses.bd import drawn, rank_gaps, rank_gaps_of_teacher, ranks
from experiments.kd.losses.soft_targets import soft_targets
from experiments.kd.methods import asked
from experiments.recommenders.ranking import Ranking
from experiments.training.trainer import Task
from infae import Interactions
from infae.data.fingerprint import fingerprint
from infae.runtime import checks

EVERY, N_DRAWN = 10, 10
"""Epochs from one look at the ranks to the next, and items of each user at a step; drawn anew every epoch."""
SHARPNESS_OF_STUDENT, SHARPNESS_OF_TEACHER, TEMPERATURE = 1e-2, 1e-4, 5.0
"""The public code's."""


@dataclass(frozen=True)
class Bidirectional:
    """What `Trained.fit` takes as `beside`: a fitted teacher, a copy of which learns too.

        L_S = L_CF(S) + weight * L_BD(S; T),    L_T = L_CF(T) + weight * L_BD(T; S)    (Eq. 2 and 3)

    Where paper and public code differ in whom the student is taught, the paper is followed: items that it ranks below
    its teacher (Eq. 8).

    Attributes (after it was called):
      teacher: the copy's module, which is trained.

    A training that goes on from a checkpoint looks at the ranks anew.

    Raises ValueError for a weight that is not above 0; and, when it is called, for a student that learns no vectors, or
    a teacher of other users or items.
    """

    fitted: Any
    weight: float = 0.5
    made: list[nn.Module] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        checks.number("weight", self.weight, above=0)

    def __repr__(self) -> str:
        state = self.fitted.module.state_dict().values()
        return f"Bidirectional({self.weight}, {fingerprint([tensor.numpy() for tensor in state])})"

    @property
    def teacher(self) -> nn.Module:
        return self.made[-1]

    def __call__(self, own: Task, rng: torch.Generator) -> "Both":
        if not isinstance(own, Ranking):
            raise ValueError(f"a student must rank by vectors of users and items, as MF does, got {type(own).__name__}")
        shape = tuple(len(part.weight) for part in (self.fitted.module.users, self.fitted.module.items))
        if shape != own.clicks.shape:
            raise ValueError(f"expected a teacher of {own.clicks.shape} users and items, got one of {shape}")
        seed = int(torch.randint(2**31, (), generator=rng))
        clicks = Interactions.from_matrix(own.clicks)
        teacher = Ranking(copy.deepcopy(self.fitted.module), clicks, seed, own.device)
        self.made.append(teacher.module)
        return Both(own, teacher, self.weight, seed)


class Both(Task):
    """A student's own task and its teacher's, each with soft targets of the other."""

    def __init__(self, student: Ranking, teacher: Ranking, weight: float, seed: int):
        self.module = nn.ModuleList([student.module, teacher.module])
        self._student, self._teacher, self._weight, self._seed = student, teacher, weight, seed
        self._drawn: tuple[torch.Tensor, torch.Tensor] | None = None

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        if epoch % EVERY == 0 or self._drawn is None:
            self._drawn = self._draw(epoch // EVERY)
        self._of_epoch = [part[:, epoch % EVERY] for part in self._drawn]
        return [*self._student.examples(epoch), self._teacher.examples(epoch)[2]]

    @torch.no_grad()
    def _draw(self, look: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(n_users, EVERY, N_DRAWN) items each, by which the student and the teacher are taught."""
        rng = torch.Generator().manual_seed(self._seed + look)
        n_users, parts = len(self._student.module.users.weight), []
        for users in torch.arange(n_users).split(512):
            of_student, of_teacher = (ranks(task.module(users)) for task in (self._student, self._teacher))
            parts.append([
                drawn(weights, EVERY * N_DRAWN, rng).unflatten(1, (EVERY, N_DRAWN))
                for weights in (
                    rank_gaps(of_student, of_teacher, SHARPNESS_OF_STUDENT),
                    rank_gaps_of_teacher(of_teacher, of_student, SHARPNESS_OF_TEACHER),
                )
            ])  # fmt: skip
        for_student, for_teacher = (torch.cat(each) for each in zip(*parts, strict=True))
        return for_student, for_teacher

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        users, positives, negatives, weights, of_teacher = batch
        (own,) = self._student.losses(rng, users, positives, negatives, weights)
        (theirs,) = self._teacher.losses(rng, users, positives, of_teacher, weights)
        asked_users = users.unique()
        student, teacher = self._student.module, self._teacher.module
        taught = [
            soft_targets(
                asked(one, asked_users, items[asked_users]), asked(other, asked_users, items[asked_users]), TEMPERATURE
            )
            for one, other, items in ((student, teacher, self._of_epoch[0]), (teacher, student, self._of_epoch[1]))
        ]
        yield own + theirs + self._weight * (taught[0] + taught[1])

    def settle(self) -> None:
        self._student.settle()
        self._teacher.settle()
