"""List softmax: students of vectors learn all items at once from their clicks and the teacher's first items.

    suited(MF(n_factors=20), LISTED, n_users).fit(clicks, beside=Distilled(LISTED, knowledge, weight=0.5))

A ranking loss compares a few drawn items at a step; this one compares all. On CiteULike a student of 20 dimensions
ranks better after 20 epochs than by any loss of pairs after 100, and as well as EASE, its teacher.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from experiments.kd.knowledge import Knowledge
from experiments.kd.losses.listwise import listwise
from experiments.kd.losses.rd import position_weights
from experiments.recommenders.ranking import Ranking
from experiments.training.trainer import Task
from infae.data.ops import row_of

N_FIRST, SPREAD = 100, 50.0
"""Of the teacher's items so many count, by exp(-rank / SPREAD)."""
SETTINGS: Mapping[str, Any] = {"learning_rate": 0.02, "weight_decay": 4e-6, "n_epochs": 60, "check_every": 5}
"""Of a model that learns so."""


class Listwise(Task):
    """Learns from a row of targets for each user; in place of the student's own task."""

    def __init__(self, own: Ranking, targets: sp.csr_matrix):
        self.module, self._own, self._targets = own.module, own, targets
        self._users = torch.from_numpy(np.flatnonzero(np.diff(targets.indptr)))

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        return [self._users]

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        (users,) = batch
        told = self._targets[users.numpy()]
        rows, items = (torch.from_numpy(part.astype(np.int64)) for part in (row_of(told), told.indices))
        yield listwise(self._own.module(users, rng=rng), rows, items, torch.from_numpy(told.data))

    def settle(self) -> None:
        self._own.settle()


def users_of_a_batch(n_users: int) -> int:
    """A tenth of them, but 512 at most: their logits of all items are in memory, and few users want steps too."""
    return int(np.clip(n_users // 10, 16, 512))


def targets(knowledge: Knowledge, share: float) -> sp.csr_matrix:
    """(n_users, n_items) rows of sum 1: `share` on the teacher's first items, the rest evenly on a user's clicks.

        q_i = share w_r  of the teacher's item of rank r,    q_i = (1 - share) x_i / sum_j x_j  of a click

    w_r is in proportion to exp(-r / SPREAD) for the first `N_FIRST`. A user without clicks has the teacher's alone.
    """
    clicks = knowledge.clicks
    n_first = min(N_FIRST, knowledge.n_unclicked[0])
    first = knowledge.first_items(n_first).numpy()
    weights = np.tile(position_weights(n_first, SPREAD).numpy(), len(first))
    lists = sp.csr_matrix((weights, first.ravel(), np.arange(0, first.size + 1, n_first)), shape=clicks.shape)
    totals = np.asarray(clicks.sum(axis=1)).ravel()
    of_lists = np.where(totals > 0, share, 1.0)
    of_clicks = (1 - of_lists) / np.where(totals > 0, totals, 1)
    told = sp.diags_array(of_lists) @ lists + sp.diags_array(of_clicks) @ clicks
    return sp.csr_matrix(told, dtype=np.float32)
