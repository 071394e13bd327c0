"""Ways of distilling: which items and users a student is asked of at a step, and by which loss.

Where a paper and its public code differ, the paper is followed. Losses are means over users, or over users and items,
and not the sums of public code. FTD and HTD sum over the others of a batch for each, as published: their weight depends
on how many users and items a batch has.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from experiments.kd.knowledge import Knowledge
from experiments.kd.lists import Lists
from experiments.kd.losses import cd, hint, rd, rrd, soft_targets, softmax, topology
from experiments.recommenders.lightgcn import Graph
from experiments.recommenders.ranking import Vectors

N_EXPERTS = 30
COLD, COLD_EPOCHS = 1e-10, 1000
"""The temperature of DE's choice falls from 1 to `COLD` over so many epochs."""
MOST_COMPARED, MOST_PAIRS = 500, 2**26
"""Users and items whose vectors are compared at a step, and items whose lists of users are; pairs of a full softmax.
Of more, so many are drawn.

On CiteULike a batch has 900 users and 1,900 items: with all, a step of DE takes 171 ms, HTD 310, FTD 62, IR-RRD 70.
"""


class Method(nn.Module):
    """A loss of a student and what it has to know of its teacher; its own parameters, if any, learn with it."""

    needs_vectors = False

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__()
        self.knowledge = knowledge
        if self.needs_vectors and knowledge.vectors is None:
            others = ", ".join(name for name, made in METHODS.items() if not made.needs_vectors)
            own = next(name for name, made in METHODS.items() if made is type(self))
            raise ValueError(f"{own} compares vectors, and this teacher has none; without them there are {others}")

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


class ListTargets(Method):
    """GD: soft targets of the items of a user's own list, which are what the knowledge has for clicks (GD-REC, Eq. 6).

    As many are drawn of each list at a step, with replacement; a user without a list counts for nothing.
    """

    n_items, temperature = 50, 1.0

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__(knowledge, student)
        lists = knowledge.clicks
        parts = (lists.indptr[:-1], np.diff(lists.indptr), lists.indices)
        self._starts, self._lengths, self._listed = (torch.from_numpy(part.astype(np.int64)) for part in parts)

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        users = users[self._lengths[users] > 0]
        places = (torch.rand(len(users), self.n_items, generator=rng) * self._lengths[users, None]).long()
        drawn = self._listed[self._starts[users, None] + places]
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
    """RRD: 40 of the teacher's first 500 items, in order, above 40 others; see `Lists`."""

    n_first = 500

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__(knowledge, student)
        least = knowledge.n_unclicked[0]
        self._of_users = Lists(knowledge.unclicked, knowledge.first_items(Lists.length(self.n_first, least)))

    def begin(self, epoch: int, rng: torch.Generator) -> None:
        self._of_users.draw(rng)

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        interesting, others = self._of_users.of(users)
        found = asked(student, users, torch.cat([interesting, others], 1))
        return rrd.rrd(*found.split([interesting.shape[1], others.shape[1]], 1))


class BothRelaxedRankings(RelaxedRanking):
    """IR-RRD: RRD, and the same of an item's users: 40 of the first 500 for it above 40 others."""

    def __init__(self, knowledge: Knowledge, student: Vectors):
        super().__init__(knowledge, student)
        least = knowledge.n_unclicked[1]
        if least < 2:
            n_users = len(knowledge.scores)
            raise ValueError(
                f"IR-RRD ranks users for every item, and all but {least} of {n_users:,} clicked one: take RRD"
            )
        self._of_items = Lists(knowledge.unclicked.T, knowledge.first_users(Lists.length(self.n_first, least)))

    def begin(self, epoch: int, rng: torch.Generator) -> None:
        super().begin(epoch, rng)
        self._of_items.draw(rng)

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        told, items = super().forward(student, users, items, rng), _some(items, MOST_COMPARED, rng)
        interesting, others = self._of_items.of(items)
        asked_of = torch.cat([interesting, others], 1)
        found = student(asked_of.flatten(), items.repeat_interleave(asked_of.shape[1])).view(asked_of.shape)
        return told + rrd.rrd(*found.split([interesting.shape[1], others.shape[1]], 1))


class FullSoftmax(Method):
    """The teacher's distribution over all items that a user has not clicked."""

    temperature = 1.0

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        users = _some(users, max(1, MOST_PAIRS // self.knowledge.scores.shape[1]), rng)
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
        self.temperature = COLD ** min(epoch / COLD_EPOCHS, 1)

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        assert self.knowledge.vectors is not None
        loss = torch.zeros(())
        both = self.of_users, self.of_items
        sides = zip(both, vectors_of(student), self.knowledge.vectors, (users, items), strict=True)
        for experts, own, teacher, at in sides:
            at = _some(at, MOST_COMPARED, rng)
            shares = experts.shares(teacher[at], self.temperature, rng)
            loss = loss + hint.hint(experts(own[at], shares), teacher[at])
        return loss


class FitNet(DistillationExperts):
    """A hint: one map of students' vectors to their teacher's, of users and of items."""

    n_experts = 1


class FullTopology(Method):
    """FTD: all cosines within the users and items of a batch."""

    needs_vectors = True

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        assert self.knowledge.vectors is not None
        at = _some(users, MOST_COMPARED, rng), _some(items, MOST_COMPARED, rng)
        own, teacher = (
            torch.cat([part[place] for part, place in zip(vectors, at, strict=True)])
            for vectors in (vectors_of(student), self.knowledge.vectors)
        )
        return topology.ftd(own, teacher)


class HierarchicalTopology(DistillationExperts):
    """HTD: cosines within groups of users or of items, and with the means of all groups; half of the loss is DE's.

    A group is of one expert, the likeliest.
    """

    def forward(self, student: Vectors, users: torch.Tensor, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        assert self.knowledge.vectors is not None
        told = super().forward(student, users, items, rng)
        own, teacher, groups = [], [], []
        both = self.of_users, self.of_items
        sides = zip(both, vectors_of(student), self.knowledge.vectors, (users, items), strict=True)
        for side, (experts, vectors, theirs, at) in enumerate(sides):
            at = _some(at, MOST_COMPARED, rng)
            own.append(vectors[at])
            teacher.append(theirs[at])
            groups.append(experts.shares(theirs[at], 1.0).argmax(1) + side * self.n_experts)
        within = topology.htd(torch.cat(own), torch.cat(teacher), torch.cat(groups), 2 * self.n_experts)
        return (within + told) / 2


METHODS: Mapping[str, type[Method]] = {
    "soft targets": SoftTargets,
    "GD": ListTargets,
    "RD": RankingDistillation,
    "CD": CollaborativeDistillation,
    "RRD": RelaxedRanking,
    "IR-RRD": BothRelaxedRankings,
    "softmax": FullSoftmax,
    "FitNet": FitNet,
    "DE": DistillationExperts,
    "FTD": FullTopology,
    "HTD": HierarchicalTopology,
}
"""By the names of tables."""


def _first_items(knowledge: Knowledge, n: int) -> torch.Tensor:
    """So many, or as many as every user has."""
    return knowledge.first_items(min(n, knowledge.n_unclicked[0]))


def _some(positions: torch.Tensor, n: int, rng: torch.Generator) -> torch.Tensor:
    """All of them, or n that are drawn."""
    return positions if len(positions) <= n else positions[torch.randperm(len(positions), generator=rng)[:n]]
