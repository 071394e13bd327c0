"""Several teachers as one: the mean of what they say, or a weighting that is learned on validation clicks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

import infae
from experiments.kd.protocol import held_out
from experiments.kd.teachers import Teacher
from infae.runtime import checks

N_LEARNED = 1000
"""Users on whose validation clicks weights are learned, at most."""


@dataclass(frozen=True)
class Mixture:
    """score(u) = sum_k w_k z_k(u), with z_k(u) the k-th teacher's scores of a user, of mean 0 and variance 1."""

    members: Sequence[Teacher]
    weights: Sequence[float]

    def score_users(self, users: np.ndarray) -> np.ndarray:
        """(n, n_items) scores of training users by position."""
        found = (weight * standard(member.score(users)) for member, weight in self._parts())
        return sum(found, np.zeros((), np.float32))

    def _parts(self) -> list[tuple[Teacher, float]]:
        return [(member, weight) for member, weight in zip(self.members, self.weights, strict=True) if weight]


def several(members: Sequence[Teacher], weights: Sequence[float] | None = None) -> Teacher:
    """A teacher of members of the same clicks; the mean where no weights are given.

    It has no vectors: those of its members are of spaces of their own.

    Raises ValueError for no members, other clicks, and weights of another number, below 0, or all 0.
    """
    if not members:
        raise ValueError("expected at least one teacher, got none")
    weights = [1 / len(members)] * len(members) if weights is None else [*weights]
    for weight in weights:
        checks.number("weights", weight, least=0)
    if len(weights) != len(members) or not sum(weights):
        raise ValueError(f"expected {len(members)} weights, not all of them 0, got {weights}")
    clicks = members[0].clicks
    if any(member.clicks.shape != clicks.shape or (member.clicks.matrix != clicks.matrix).nnz for member in members):
        raise ValueError("teachers must be fitted to the same clicks")
    return Teacher(Mixture(members, weights), clicks, sum(member.n_parameters for member in members))


def learned_weights(members: Sequence[Teacher], split: infae.Split) -> list[float]:
    """W >= 0 by which sum_k w_k z_k tells validation clicks best.

        max_w of the mean over users u of log softmax(sum_k w_k z_k(u))_i,   i the validation click

    over the items that u has not clicked, by L-BFGS-B on the first `N_LEARNED` users; the problem is concave.
    """
    users, items = (part[:N_LEARNED] for part in held_out(split, "validation"))
    clicked = split.train.matrix[users].nonzero()
    z = np.stack([standard(member.score(users)) for member in members])
    shut = np.zeros(z.shape[1:], np.float32)
    shut[clicked] = -np.inf
    rows = np.arange(len(users))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.tensordot(weights.astype(np.float32), z, 1) + shut
        told = log_softmax(scores, axis=1)[rows, items].mean()
        shares = softmax(scores, axis=1)
        slope = [(part[rows, items] - (shares * part).sum(1)).mean() for part in z]
        return -float(told), -np.asarray(slope, float)

    begin = np.full(len(members), 1 / len(members))
    return minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(members)).x.tolist()


def standard(scores: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and variance 1; a constant row is zeros."""
    centred = np.asarray(scores, np.float32) - np.mean(scores, axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    return centred / np.where(spread > 0, spread, 1)
