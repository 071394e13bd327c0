"""What models trained to rank clicks above non-clicks share (Rendle et al. 2009): the loss, and users folded in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import softplus

from distillcf.torch_data import Triples
from infae import Interactions

INIT_STD = 0.1
FOLD_IN_REG = 0.01


class Ranking:
    """Learns from triples of a user u, an item i clicked and an item j not clicked; a model gives the margin.

    Every click is used once an epoch, each time against another j drawn uniformly.
    """

    def __init__(self, clicks: Interactions, seed: int):
        self.clicks, self.triples = clicks, Triples(clicks, seed)
        self.n_examples = len(self.triples)

    def start(self, epoch: int) -> None:
        self.triples.set_epoch(epoch)
        columns = (self.triples.users, self.triples.positives, self.triples.negatives, self.triples.weights)
        self._columns = [torch.from_numpy(column) for column in columns]

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        users, positives, negatives, weights = (column[index] for column in self._columns)
        return bpr_loss(self.margin(users, positives, negatives), weights)

    def margin(self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        """(n,) score(u, i) - score(u, j)."""
        raise TypeError(f"{type(self).__name__} defines no margin")


def bpr_loss(margin: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over triples of weight * -log sigmoid(score(u, i) - score(u, j)) (Rendle et al. 2009, section 4.3.1)."""
    return (weights * softplus(-margin)).mean()


def vectors(n: int, n_factors: int, rng: torch.Generator) -> torch.Tensor:
    """(n, n_factors) initial values."""
    return (INIT_STD * torch.randn(n, n_factors, generator=rng)).requires_grad_()


@dataclass(frozen=True)
class FoldIn:
    """The regression that makes a user's vector of a history; all float32.

    p(history) = user_mean + (mean q_i over the history - history_mean) @ weights

    An empty history gets the mean vector.
    """

    items: np.ndarray  # (n_items, n_factors)
    weights: np.ndarray  # (n_factors, n_factors)
    history_mean: np.ndarray  # (n_factors,)
    user_mean: np.ndarray  # (n_factors,)

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, clicks: Interactions, trained: np.ndarray) -> FoldIn:
        """Ridge regression of the vectors of the users at `trained`, those with triples, on their histories.

        With M the centred (n_users, n_factors) history means and P the centred p_u:
        weights = (M'M + FOLD_IN_REG * trace(M'M)/n_factors * I)^-1 M'P.
        """
        histories = mean_vectors(clicks.matrix[trained], items).astype(np.float64)
        history_mean, user_mean = histories.mean(axis=0), users[trained].mean(axis=0)
        centred = histories - history_mean
        gram = centred.T @ centred
        gram += FOLD_IN_REG * np.trace(gram) / len(gram) * np.eye(len(gram))
        # Not `solve`: with a single user, or equal histories, there is nothing to regress on.
        weights = np.linalg.lstsq(gram, centred.T @ (users[trained] - user_mean), rcond=None)[0]
        return cls(items, weights.astype(np.float32), history_mean.astype(np.float32), user_mean)

    def __call__(self, histories: sp.csr_matrix) -> np.ndarray:
        """(n_users, n_factors) vectors of histories with the fitted items as columns."""
        known = np.diff(histories.indptr)[:, None] > 0
        means = np.where(known, mean_vectors(histories, self.items), self.history_mean)
        return self.user_mean + (means - self.history_mean) @ self.weights


def mean_vectors(histories: sp.csr_matrix, items: np.ndarray) -> np.ndarray:
    """(n_users, n_factors) mean vector of the items of each history, weighted by stored value; 0 for none."""
    total = np.asarray(histories.sum(axis=1))
    return (histories @ items) / np.where(total > 0, total, 1)
