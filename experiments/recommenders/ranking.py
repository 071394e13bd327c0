"""What models trained to rank clicks above non-clicks share (Rendle et al. 2009): examples, loss, users folded in."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from distillcf.torch_data import Triples
from experiments.recommenders.layers import FoldIn, Sparse, look_up
from experiments.training.losses import bpr_loss
from experiments.training.trainer import Task
from infae import Interactions


class Vectors(nn.Module):
    """A vector a user and an item, and users' made of histories; a model adds how they score.

        forward(users, items=None, rng=None) -> scores

    `users` are ids (n,), soft ids (n, n_users), or histories (`Sparse`). `items` are ids of a shape that broadcasts
    to theirs, such as (2, n), or soft ones with a last axis of n_items; scores have that shape. Of all items,
    (n, n_items), where none are given. `rng` draws what is dropped out in training; nothing is without.
    """

    def __init__(self, n_users: int, n_items: int, n_factors: int):
        super().__init__()
        self.users = nn.Embedding(n_users, n_factors)
        self.items = nn.Embedding(n_items, n_factors)
        self.fold_in = FoldIn(n_factors)

    def of_users(self, users: torch.Tensor | Sparse) -> torch.Tensor:
        """(n, n_factors) p_u, or p(history)."""
        if isinstance(users, Sparse):
            return self.fold_in(users, self.items.weight)
        return look_up(self.users.weight, users)

    def settle(self, users: torch.Tensor, histories: Sparse) -> None:
        """Fit the regression of p_u on histories, to users (n,) and theirs."""
        self.fold_in.settle(self.users.weight[users], self.items.weight, histories)


class Ranking(Task):
    """Learns from triples of a user u, an item i clicked and an item j not clicked.

    Every click is used once an epoch, each time against another j drawn uniformly.
    """

    module: Vectors

    def __init__(self, module: Vectors, clicks: Interactions, seed: int, device: str):
        self.module, self.triples, self.clicks, self.device = module, Triples(clicks, seed), clicks.matrix, device
        trained = np.unique(self.triples.users)
        self._users = torch.from_numpy(trained).to(device)
        self._histories = Sparse.of(clicks.matrix[trained], device)

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        self.triples.set_epoch(epoch)
        columns = (self.triples.users, self.triples.positives, self.triples.negatives, self.triples.weights)
        return [torch.from_numpy(column).to(self.device) for column in columns]

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        users, positives, negatives, weights = batch
        above, below = self.module(users, torch.stack([positives, negatives]), rng)
        yield bpr_loss(above - below, weights)

    def settle(self) -> None:
        self.module.settle(self._users, self._histories)
