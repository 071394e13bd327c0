"""List softmax: students of vectors learn all items at once from their clicks and the teacher's first items.

    suited(MF(n_factors=20), LISTED, clicks.shape).fit(clicks, beside=Distilled(LISTED, knowledge, weight=0.5))

A ranking loss compares a few drawn items at a step; this one compares all. On CiteULike a student of 20 dimensions
finds as many test clicks among its first 50 as EASE, its teacher, which puts them higher there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from experiments.kd.knowledge import Knowledge
from experiments.kd.losses.listwise import listwise
from experiments.recommenders.ranking import Ranking
from experiments.training.trainer import Task
from infae.data.ops import row_of

N_FIRST, SPREAD = 100, 50.0
"""The teacher's first `N_FIRST` items count, that of rank r = 0, 1, ... by exp(-r / SPREAD)."""
SETTINGS: Mapping[str, Any] = {"learning_rate": 0.02, "weight_decay": 4e-6, "n_epochs": 60, "check_every": 5}
"""Of a student that learns by list softmax."""
LEAST_USERS, MOST_USERS, MOST_PAIRS = 16, 512, 2**26
"""Of a step: few users are to give several steps, and the scores of a step's users are in memory."""


class Listwise(Task):
    """Learns from a row of targets for each user; in place of the student's own task."""

    def __init__(self, own: Ranking, targets: sp.csr_matrix):
        self.module, self._own, self._targets = own.module, own, targets
        self._users = torch.arange(targets.shape[0])

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        return [self._users]

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        (users,) = batch
        told = self._targets[users.numpy()]
        rows, items = (torch.from_numpy(part.astype(np.int64)) for part in (row_of(told), told.indices))
        yield listwise(self._own.module(users, rng=rng), rows, items, torch.from_numpy(told.data))

    def settle(self) -> None:
        self._own.settle()


def users_of_a_step(n_users: int, n_items: int) -> int:
    """A tenth of them, within `LEAST_USERS` and `MOST_USERS`, and fewer of a catalogue of more than 131,072 items."""
    return min(int(np.clip(n_users // 10, LEAST_USERS, MOST_USERS)), max(1, MOST_PAIRS // n_items))


def targets(knowledge: Knowledge, share: float) -> sp.csr_matrix:
    """(n_users, n_items) rows of sum 1: `share` on the teacher's first items, the rest evenly on a user's clicks.

        q_i = share w_r  of the teacher's item of rank r,    q_i = (1 - share) x_i / sum_j x_j  of a click

    w_r is in proportion to exp(-r / SPREAD) for the first `N_FIRST` of the items not clicked, or for as many as there
    are. A user without clicks has the teacher's items alone, and one who clicked all items has these clicks alone.
    """
    clicks = knowledge.clicks
    n_first = min(N_FIRST, clicks.shape[1])
    parts = [part.topk(n_first, dim=1) for part in knowledge.unclicked.split(1024)]
    items, listed = (torch.cat(found).numpy() for found in (
        [part.indices for part in parts], [part.values.isfinite() for part in parts]
    ))  # fmt: skip
    rows, ranks = listed.nonzero()
    weights = np.exp(-ranks / SPREAD), (rows, items[listed])
    lists = sp.csr_matrix(weights, shape=clicks.shape)
    of_lists, of_clicks = (np.asarray(part.sum(axis=1)).ravel() for part in (lists, clicks))
    shares = np.where(of_lists > 0, np.where(of_clicks > 0, share, 1.0), 0.0)
    told = [
        sp.diags_array(part / np.where(total > 0, total, 1)) @ matrix
        for part, total, matrix in ((shares, of_lists, lists), (1 - shares, of_clicks, clicks))
    ]
    return sp.csr_matrix(told[0] + told[1], dtype=np.float32)
