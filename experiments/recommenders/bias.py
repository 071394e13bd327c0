"""Bias only: how much each user and each item is clicked, by least squares (paper, appendix B.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, cg

from experiments.recommenders.base import Baseline
from infae.data.ops import row_of
from infae.runtime import checks

TOLERANCE = 1e-10


@dataclass(eq=False, repr=False)
class BiasOnly(Baseline):
    """score(u, i) = alpha + beta_u + beta_i, of which beta_i alone decides the ranking.

        min sum_ui w_ui (y_ui - alpha - beta_u - beta_i)^2 + ridge (|beta_users|^2 + |beta_items|^2)

    over all n_users x n_items cells, with y_ui = 1 for a click, weighing w_ui = its value, and y_ui = 0
    for each of the others, with a w_u that makes them weigh as much in all as the user's clicks: what
    one item not clicked a click, drawn uniformly, comes to in expectation. (The paper says neither
    what it regresses on beside clicks nor how it is weighed.)

    The normal equations are solved by conjugate gradients in float64, with a cell's w_ui = w_u never
    stored. beta_u of a history is its least-squares value given alpha and beta_i; for a training user's
    that is the fitted one, and for an empty history 0.

    Raises (fit):
      ValueError: a bad ridge.
      FloatingPointError: the equations were not solved to a relative residual of 1e-10.
    """

    ridge: float = 1.0  # positive, absolute: in clicks

    def _fit(self, clicks: sp.csr_matrix) -> None:
        checks.number("ridge", self.ridge, above=0)
        n_users, n_items = clicks.shape
        weights = Weights.of(clicks)
        of_users, of_items = weights @ np.ones(n_items), weights.T_dot(np.ones(n_users))
        diagonal = np.concatenate([[of_users.sum()], of_users + self.ridge, of_items + self.ridge])
        diagonal[0] = diagonal[0] or 1.0

        def normal(x: np.ndarray) -> np.ndarray:
            alpha, users, items = x[0], x[1 : 1 + n_users], x[1 + n_users :]
            of_alpha = alpha * of_users.sum() + of_users @ users + of_items @ items
            of_beta_users = of_users * alpha + diagonal[1 : 1 + n_users] * users + weights @ items
            of_beta_items = of_items * alpha + weights.T_dot(users) + diagonal[1 + n_users :] * items
            return np.concatenate([[of_alpha], of_beta_users, of_beta_items])

        sums = [np.asarray(clicks.sum(axis=axis), np.float64).ravel() for axis in (1, 0)]
        right = np.concatenate([[sums[0].sum()], *sums])
        operator = partial(LinearOperator, (right.size, right.size), dtype=np.float64)
        solution, _ = cg(operator(normal), right, rtol=TOLERANCE, M=operator(lambda x: x / diagonal))
        residual = np.linalg.norm(normal(solution) - right)
        if not residual <= 2 * TOLERANCE * np.linalg.norm(right):
            raise FloatingPointError(
                f"bias only: residual {residual:.1e} with ridge = {self.ridge:g}; use a larger one"
            )
        self._alpha, self._items = solution[0], solution[1 + n_users :]

    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        weights, others = Weights.of(histories), self._alpha + self._items
        of_users = weights @ np.ones(others.size)
        users = (np.asarray(histories.sum(axis=1)).ravel() - weights @ others) / (of_users + self.ridge)
        return users[:, None] + others


class Weights(NamedTuple):
    """(n_users, n_items) w = each user's weight of an item not clicked, everywhere, + what clicks have beyond it."""

    others: np.ndarray  # (n_users,)
    beyond: sp.csr_matrix

    @classmethod
    def of(cls, clicks: sp.csr_matrix) -> Weights:
        n_clicks = np.diff(clicks.indptr)
        # Who has clicked every item has no others to weigh.
        others = np.asarray(clicks.sum(axis=1), np.float64).ravel() / np.maximum(clicks.shape[1] - n_clicks, 1)
        others[n_clicks == clicks.shape[1]] = 0
        beyond = clicks.astype(np.float64)
        beyond.data -= others[row_of(clicks)]
        return cls(others, beyond)

    def __matmul__(self, items: np.ndarray) -> np.ndarray:
        return self.others * items.sum() + self.beyond @ items

    def T_dot(self, users: np.ndarray) -> np.ndarray:
        """Its transpose, times."""
        return self.others @ users + self.beyond.T @ users
