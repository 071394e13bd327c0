"""Data summaries that keep real clicks: the sampling heuristics DISTILL-CF is compared with.

Sachdeva et al. (2022), appendix B.2. Every sampler is `(X, budget, seed) -> Interactions`, over
all items of X and with the ids of X. A click that X holds twice is one interaction, drawn or
left as a whole. Users without clicks are never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from infae.data.interactions import Interactions
from infae.histories import as_clicks

UNITS = ("users", "interactions", "share")


@dataclass(frozen=True)
class Budget:
    """How much to keep: `Budget.users(500)`, `Budget.interactions(80_000)` or `Budget.share(0.1)`.

    Attributes:
      size: a whole number of users or interactions; for unit "share" a number in (0, 1].
      unit: "users", "interactions" or "share" (of all interactions, the paper's p / 100).

    Raises ValueError for any other size or unit.
    """

    size: float
    unit: str = "users"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(map(repr, UNITS))}, got {self.unit!r}")
        if self.unit == "share":
            _check_share(self.size)
        else:
            _check_whole(self.size, f"a budget of {self.unit}", " (for a part of all clicks use Budget.share)")

    @classmethod
    def users(cls, size: int) -> Budget:
        return cls(size, "users")

    @classmethod
    def interactions(cls, size: int) -> Budget:
        return cls(size, "interactions")

    @classmethod
    def share(cls, size: float) -> Budget:
        return cls(size, "share")

    def n_interactions(self, clicks: Interactions) -> int:
        """The budget in interactions: a user is worth the mean over users with clicks, rounded.

        A share is rounded too, to at least one interaction.
        """
        if self.unit == "users":
            return round(self.size * clicks.n_interactions / _active(clicks).size)
        return max(1, round(self.size * clicks.n_interactions)) if self.unit == "share" else int(self.size)


def random_interactions(X: Any, budget: Budget | int, seed: int = 0) -> Interactions:
    """Interaction-RNS: exactly so many clicks, every set of them equally likely (B.2).

    A budget in users is worth as many clicks as that many average users have. Users who are left
    with no click are left out.

    Args:
      X: clicks, as `infae.fit` takes them.
      budget: a `Budget`, or a number of users.
      seed: of `np.random.default_rng`; the same seed gives the same clicks.

    Raises:
      ValueError: X is no clicks or has none, or the budget is none or larger than X.
    """
    clicks, budget = _checked(X, budget)
    drawn = np.random.default_rng(seed).choice(
        clicks.n_interactions, budget.n_interactions(clicks), replace=False, shuffle=False
    )
    kept = _entries_at(clicks, np.sort(drawn))
    return kept.select_users(_active(kept))


def random_users(X: Any, budget: Budget | int, seed: int = 0) -> Interactions:
    """User-RNS: users in a random order, with all their clicks, up to the budget (B.2).

    A budget in interactions is never passed but by a single user: users are taken while their
    clicks together are at most the budget, the first one who would pass it ends the sample
    (nobody further down is tried in their place), and the very first is taken in any case. The
    other samplers of users do the same. The result has the users in the order of X.

    Arguments and errors are those of `random_interactions`.
    """
    clicks, budget = _checked(X, budget)
    return _first_users(clicks, np.zeros(clicks.n_users), budget, np.random.default_rng(seed))


def head_users(X: Any, budget: Budget | int, seed: int = 0) -> Interactions:
    """Head users: those with the most clicks first (B.2); `seed` draws the order among equals.

    Budgets are met as in `random_users`; arguments and errors are those of `random_interactions`.
    """
    clicks, budget = _checked(X, budget)
    return _first_users(clicks, np.diff(clicks.matrix.indptr), budget, np.random.default_rng(seed))


def svp_cf_users(
    X: Any,
    budget: Budget | int,
    seed: int = 0,
    *,
    epochs: int = 10,
    batches: int = 100,
    learning_rate: float = 0.02,
) -> Interactions:
    """SVP-CF user: the users whom a bias-only proxy ranks worst while it learns, worst first (B.2).

    The order is that of `forgetting_counts`, which takes the keywords; `seed` seeds the proxy and
    draws the order among equals. Budgets are met as in `random_users`; the other arguments and
    errors are those of `random_interactions`.
    """
    clicks, budget = _checked(X, budget)
    rng = np.random.default_rng(seed)
    counts = forgetting_counts(clicks, rng, epochs=epochs, batches=batches, learning_rate=learning_rate)
    return _first_users(clicks, counts, budget, rng)


CORESETS: dict[str, Callable[..., Interactions]] = {
    "random interactions": random_interactions,
    "random users": random_users,
    "head users": head_users,
    "SVP-CF users": svp_cf_users,
}
"""Samplers by name; each takes (X, budget, seed)."""


# --- SVP-CF -----------------------------------------------------------------------------------------


def forgetting_counts(
    X: Any,
    seed: int | np.random.Generator = 0,
    *,
    epochs: int = 10,
    batches: int = 100,
    learning_rate: float = 0.02,
) -> np.ndarray:
    """(n_users,) mean over epochs of 1 - AUC(user), measured at the end of each epoch.

    The proxy scores b_u + b_i and learns, by Adam, the BPR loss -log sigmoid(b_i - b_j) of each
    click (u, i) against a non-click (u, j) that is drawn anew every epoch. b_u cancels in the loss
    and in every user's ranking, and is left out. Model, loss, optimiser, one negative a click and
    worst users first are those of SVP-CF's public code. That code counts the pairs in the wrong
    order while it trains; this is the share it estimates, 1 - AUC over all pairs, ties a half.
    The paper gives no numbers for the proxy. Here an epoch is `batches` steps on data of any size
    (one a click where those are fewer). Where items have many clicks the order of users hardly
    depends on it, or on the seed; where users have one or two clicks it does.

    0 for a user who clicked nothing or everything, who has no pair to get wrong.

    Raises ValueError where X is no clicks, `epochs` or `batches` is no whole number of at least 1,
    or `learning_rate` is not positive and finite.
    """
    _check_whole(epochs, "epochs")
    _check_whole(batches, "batches")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}")
    matrix, rng = as_clicks(X).matrix, np.random.default_rng(seed)
    total = np.zeros(matrix.shape[0])
    proxy = _untrained(matrix.shape[1])
    for _ in range(epochs):
        proxy = _epoch(proxy, *_pairs(matrix, rng), batches, learning_rate)
        total += inverse_auc(matrix, proxy.bias)
    return total / epochs


def inverse_auc(clicks: sp.csr_matrix, item_scores: np.ndarray) -> np.ndarray:
    """(n_users,) exact 1 - AUC of each user's clicks against all other items, where all users share scores.

    Equal scores count a half; 0 for a user with no pair of a click and a non-click. Time is in
    proportion to the clicks, and to sorting the items once.

    Args:
      clicks: (n_users, n_items) CSR, no stored zeros.
      item_scores: (n_items,) higher is better, not NaN.
    """
    # Let w(i, j) be 1 where i scores higher than j, 1/2 where they tie. The ascending mid-rank of
    # item i is 1/2 + the sum of w(i, j) over all items j, itself among them. Summed over a user's
    # n clicks i, those j that are clicks too add n^2 / 2, for w(i, j) + w(j, i) = 1; so the sum of
    # the ranks less n (n + 1) / 2 is the w of clicks over non-clicks: Mann and Whitney's U.
    _, level, n_level = np.unique(item_scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(n_level) - (n_level - 1) / 2)[level]
    n = np.diff(clicks.indptr)
    won = np.bincount(_rows(clicks), rank[clicks.indices], minlength=n.size) - n * (n + 1) / 2
    n_pairs = n * (item_scores.size - n.astype(np.float64))
    return np.where(n_pairs > 0, 1 - won / np.maximum(n_pairs, 1), 0.0)


class _Proxy(NamedTuple):
    bias: np.ndarray  # (n_items,)
    mean: np.ndarray  # (n_items,) Adam's running mean of gradients
    square: np.ndarray  # (n_items,) and of their squares
    n_steps: int


def _untrained(n_items: int) -> _Proxy:
    zero = np.zeros(n_items)
    return _Proxy(zero, zero, zero, 0)


def _epoch(proxy: _Proxy, liked: np.ndarray, passed: np.ndarray, batches: int, learning_rate: float) -> _Proxy:
    n_batches = max(1, min(batches, liked.size))
    for pairs in zip(np.array_split(liked, n_batches), np.array_split(passed, n_batches), strict=True):
        proxy = _step(proxy, *pairs, learning_rate)
    return proxy


def _step(proxy: _Proxy, liked: np.ndarray, passed: np.ndarray, learning_rate: float) -> _Proxy:
    """One step of Adam (beta 0.9 and 0.98, as SVP-CF's code has them) on the summed loss of the pairs."""
    miss = expit(proxy.bias[passed] - proxy.bias[liked])
    n_items = proxy.bias.size
    gradient = np.bincount(passed, miss, minlength=n_items) - np.bincount(liked, miss, minlength=n_items)
    n_steps = proxy.n_steps + 1
    mean = 0.9 * proxy.mean + 0.1 * gradient
    square = 0.98 * proxy.square + 0.02 * gradient**2
    move = mean / (1 - 0.9**n_steps) / (np.sqrt(square / (1 - 0.98**n_steps)) + 1e-8)
    return _Proxy(proxy.bias - learning_rate * move, mean, square, n_steps)


def _pairs(clicks: sp.csr_matrix, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(clicked, not clicked) items of one user each, for every click, in random order.

    The second is uniform over the user's non-clicks; clicks of users who have none are left out.
    """
    row, n_items = _rows(clicks), clicks.shape[1]
    # Of the items before a user's k-th click (from 0), `column - k` are no clicks. So the r-th
    # non-click is at r + (the clicks with at most r non-clicks before them): found without rejection.
    before = clicks.indices - (np.arange(row.size) - clicks.indptr[row])
    key = row * n_items + before
    n_free = n_items - np.diff(clicks.indptr)
    entry = np.flatnonzero(n_free[row])
    user = row[entry]
    r = rng.integers(0, n_free[user])
    n_before = np.searchsorted(key, user * n_items + r, side="right") - clicks.indptr[user]
    order = rng.permutation(entry.size)
    return clicks.indices[entry][order], (r + n_before)[order]


# --- users and clicks up to a budget ----------------------------------------------------------------


def _first_users(clicks: Interactions, priority: np.ndarray, budget: Budget, rng: np.random.Generator) -> Interactions:
    """Users of highest priority, equal ones in random order, up to the budget; in the order of `clicks`."""
    users = rng.permutation(_active(clicks))
    order = users[np.argsort(-priority[users], kind="stable")]
    if budget.unit == "users":
        n = int(budget.size)
    else:
        used = np.cumsum(np.diff(clicks.matrix.indptr)[order])
        n = max(1, int(np.searchsorted(used, budget.n_interactions(clicks), side="right")))
    return clicks.select_users(np.sort(order[:n]))


def _entries_at(clicks: Interactions, kept: np.ndarray) -> Interactions:
    """Only the stored entries at the given positions, which ascend."""
    matrix = clicks.matrix
    indptr = np.searchsorted(kept, matrix.indptr)
    return clicks.with_matrix(sp.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape))


def _active(clicks: Interactions) -> np.ndarray:
    return np.flatnonzero(np.diff(clicks.matrix.indptr))


def _rows(matrix: sp.csr_matrix) -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


# --- what comes in ----------------------------------------------------------------------------------


def _checked(X: Any, budget: Budget | int) -> tuple[Interactions, Budget]:
    clicks = as_clicks(X)
    budget = budget if isinstance(budget, Budget) else Budget.users(budget)
    there_are = {"users": _active(clicks).size, "interactions": clicks.n_interactions}
    if not clicks.n_interactions:
        raise ValueError(f"no clicks to draw from: all {clicks.n_users:,} users have empty rows; pass X with clicks")
    if budget.unit != "share" and budget.size > there_are[budget.unit]:
        raise ValueError(
            f"expected a budget of at most the {there_are[budget.unit]:,} {budget.unit} there are (users without "
            f"clicks do not count), got {budget.size:,}; ask for fewer, or use X itself"
        )
    return clicks, budget


def _check_whole(size: Any, name: str, remedy: str = "") -> None:
    if isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(f"expected {name} to be a whole number of at least 1, got {size!r}{remedy}")


def _check_share(size: Any) -> None:
    number = isinstance(size, (int, float, np.integer, np.floating)) and not isinstance(size, bool)
    if not number or not 0 < size <= 1:
        raise ValueError(f"expected a share of all interactions above 0 and at most 1, got {size!r}; 0.1 is a tenth")
