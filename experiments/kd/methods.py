"""Ways of distilling: which items and users a student is asked of at a step, and by which loss.

    knowledge = Knowledge(score, clicks, vectors)
    MF(n_factors=20).fit(clicks, beside=Distilled("RRD", knowledge, weight=0.1))

Where a paper and its public code differ, the paper is followed. Losses are means, over users or over pairs, and not the
sums of public code, so that their weight does not depend on the size of a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from experiments.kd.knowledge import Knowledge
from experiments.kd.losses import cd, hint, rd, rrd, soft_targets, softmax, topology
from experiments.recommenders.lightgcn import Graph
from experiments.recommenders.ranking import Ranking, Vectors
from experiments.training.trainer import Task
from infae.runtime import checks

N_EXPERTS, N_GROUPS = 30, 30
COLD, COLD_EPOCHS = 1e-10, 1000
"""The temperature of DE's choice falls from 1 to `COLD` over so many epochs."""


class Method(nn.Module):
    """A loss of a student and what it has to know of its teacher; its own parameters, if any, learn with it."""

    needs_vectors = False

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__()
        self.knowledge = knowledge
        if self.needs_vectors and knowledge.vectors is None:
            others = ", ".join(name for name, made in METHODS.items() if not made.needs_vectors)
            raise ValueError(
                f"{type(self).__name__} compares vectors, and this teacher has none; without them there are {others}"
            )

    def initialise(self, rng: torch.Generator) -> None:
        """Draw initial values of parameters."""

    def begin(self, epoch: int, rng: torch.Generator) -> None:
        """Draw what stays for an epoch, from 0."""

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """The loss on the users and the items of a batch, each once."""
        raise NotImplementedError


def asked(student: Vectors, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """(n, k) a student's scores of users (n,) and k items of each."""
    return student(users, items.T).T


def vectors_of(module: Vectors) -> tuple[torch.Tensor, torch.Tensor]:
    """A model's vectors of users and items; LightGCN's as they are propagated."""
    if isinstance(module, Graph):
        users, items = module.layers()
        return users.mean(0), items.mean(0)
    return module.users.weight, module.items.weight


class SoftTargets(Method):
    """Soft targets of items drawn uniformly."""

    n_items, temperature = 50, 1.0

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        drawn = torch.randint(self.knowledge.scores.shape[1], (len(users), self.n_items), generator=rng)
        teacher = self.knowledge.scores[users[:, None], drawn]
        return soft_targets.soft_targets(asked(student, users, drawn), teacher, self.temperature)


class RankingDistillation(Method):
    """RD: the teacher's first 10; how far the student is behind counts from epoch 10 on."""

    n_first, spread, sharpness, n_others, warm_up = 10, 1.0, 0.1, 100, 10

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__(knowledge, student)
        self._first, self._warm = knowledge.first_items(self.n_first), False

    def begin(self, epoch: int, rng: torch.Generator) -> None:
        self._warm = epoch >= self.warm_up

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        found, weights = asked(student, users, self._first[users]), rd.position_weights(self.n_first, self.spread)
        if self._warm:
            n_items = self.knowledge.scores.shape[1]
            others = torch.randint(n_items, (len(users), self.n_others), generator=rng)
            with torch.no_grad():
                behind = rd.discrepancy_weights(found, asked(student, users, others), n_items, self.sharpness)
            weights = weights * behind
        return rd.rd(found, weights)


class CollaborativeDistillation(Method):
    """CD: soft targets of 50 items, drawn anew every epoch by the teacher's ranks, from its first 3,000."""

    n_items, n_first, spread = 50, 3000, 60_000.0

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__(knowledge, student)
        self._first = _first_items(knowledge, self.n_first)
        self._drawn = self._first[:, : self.n_items]

    def begin(self, epoch: int, rng: torch.Generator) -> None:
        places = cd.by_rank(len(self._first), self.n_items, self._first.shape[1], self.spread, rng)
        self._drawn = self._first.gather(1, places)

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        drawn = self._drawn[users]
        return cd.cd(asked(student, users, drawn), self.knowledge.scores[users[:, None], drawn])


class RelaxedRanking(Method):
    """RRD: 40 of the teacher's first 500 items, in order, above 40 others; all drawn anew every epoch."""

    n_drawn, n_first, spread = 40, 500, 10.0

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__(knowledge, student)
        self._first = _first_items(knowledge, self.n_first)

    def begin(self, epoch: int, rng: torch.Generator) -> None:
        self._interesting, self._others = self._draw(self._first, self.knowledge.unclicked, rng)

    def _draw(
        self, first: torch.Tensor, scores: torch.Tensor, rng: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 40) of each list, and (n, 40) that are neither in it nor clicked."""
        places = cd.by_rank(len(first), min(self.n_drawn, first.shape[1]), first.shape[1], self.spread, rng)
        last = scores.gather(1, first[:, -1:])
        # What is drawn is below the list, or drawn again; equal scores below its end are taken for it.
        others = torch.randint(scores.shape[1], (len(first), 4 * self.n_drawn), generator=rng)
        found = scores.gather(1, others)
        fit = (found < last) & found.isfinite()
        order = fit.float().argsort(dim=1, descending=True, stable=True)[:, : self.n_drawn]
        return first.gather(1, places), others.gather(1, order)

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        interesting, others = self._interesting[users], self._others[users]
        found = asked(student, users, torch.cat([interesting, others], 1))
        return rrd.rrd(*found.split([interesting.shape[1], others.shape[1]], 1))


class FullSoftmax(Method):
    """The teacher's distribution over all items that a user has not clicked."""

    temperature = 1.0

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return softmax.full_softmax(student(users), self.knowledge.unclicked[users], self.temperature)


class DistillationExperts(Method):
    """DE: students' vectors tell their teacher's, of users and of items, by 30 experts each."""

    needs_vectors, n_experts = True, N_EXPERTS

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__(knowledge, student)
        assert knowledge.vectors is not None
        widths = student.users.weight.shape[1], knowledge.vectors[0].shape[1]
        self.of_users, self.of_items = (hint.Experts(*widths, self.n_experts) for _ in range(2))
        self.temperature = 1.0

    def initialise(self, rng: torch.Generator) -> None:
        for experts in (self.of_users, self.of_items):
            experts.initialise(rng)

    def begin(self, epoch: int, rng: torch.Generator) -> None:
        self.temperature = COLD ** (epoch / COLD_EPOCHS)

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return self.shown(student, users, items, rng)[0]

    def shown(
        self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The loss, and which experts users and items have, (n_users, n_experts) and (n_items, n_experts)."""
        assert self.knowledge.vectors is not None
        losses, shares = [], []
        both = self.of_users, self.of_items
        sides = zip(both, vectors_of(student), self.knowledge.vectors, (users, items), strict=True)
        for experts, own, teacher, at in sides:
            shares.append(experts.shares(teacher[at], self.temperature, rng))
            losses.append(hint.hint(experts(own[at], shares[-1]), teacher[at]))
        return sum(losses, start=torch.zeros(())), shares


class FitNet(DistillationExperts):
    """A hint: one map of students' vectors to their teacher's, of users and of items."""

    n_experts = 1


class FullTopology(Method):
    """FTD: all cosines within the users and items of a batch."""

    needs_vectors = True

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        assert self.knowledge.vectors is not None
        at = users, items
        own, teacher = (
            torch.cat([part[place] for part, place in zip(vectors, at, strict=True)])
            for vectors in (vectors_of(student), self.knowledge.vectors)
        )
        return topology.ftd(own, teacher)


class HierarchicalTopology(DistillationExperts):
    """HTD: cosines within groups and to their means, of users and items apart; half of the loss is DE's, which groups.

    The other half is of cosines.
    """

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        assert self.knowledge.vectors is not None
        told, shares = self.shown(student, users, items, rng)
        sides = zip(vectors_of(student), self.knowledge.vectors, (users, items), shares, strict=True)
        within = [topology.htd(own[at], teacher[at], each.argmax(1), N_GROUPS) for own, teacher, at, each in sides]
        return (sum(within, start=torch.zeros(())) + told) / 2


METHODS: Mapping[str, type[Method]] = {
    "soft targets": SoftTargets,
    "RD": RankingDistillation,
    "CD": CollaborativeDistillation,
    "RRD": RelaxedRanking,
    "softmax": FullSoftmax,
    "FitNet": FitNet,
    "DE": DistillationExperts,
    "FTD": FullTopology,
    "HTD": HierarchicalTopology,
}
"""By the names of tables."""


def _first_items(knowledge: Knowledge, n: int) -> torch.Tensor:
    """So many, or as many as every user has."""
    return knowledge.first_items(min(n, int(knowledge.unclicked.isfinite().sum(1).min())))


class Distillation(Task):
    """A student's own task, with a method's loss beside its own."""

    def __init__(self, own: Ranking, method: Method, weight: float, seed: int):
        self.module = nn.ModuleList([own.module, method])
        self._own, self._method, self._weight, self._seed = own, method, weight, seed

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        # By seed and epoch, so that a training that goes on draws what it would have.
        self._method.begin(epoch, torch.Generator().manual_seed(1_000_003 * self._seed + epoch))
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

    Raises ValueError for an unknown name, a weight that is not above 0, a student that learns no vectors, and, when it
    is called, a method that needs vectors of a teacher without any.
    """

    method: str
    knowledge: Knowledge = field(repr=False)
    weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks.choice("method", self.method, METHODS)
        checks.number("weight", self.weight, above=0)
        checks.seed("seed", self.seed)

    def __repr__(self) -> str:
        return f"Distilled({self.method}, {self.weight}, {self.seed}, {self.knowledge.fingerprint})"

    def __call__(self, own: Task, rng: torch.Generator) -> Distillation:
        if not isinstance(own, Ranking):
            raise ValueError(f"a student must rank by vectors of users and items, as MF does, got {type(own).__name__}")
        method = METHODS[self.method](self.knowledge, own.module)
        method.initialise(rng)
        return Distillation(own, method, self.weight, self.seed)
