"""Data summaries that keep real clicks: the sampling heuristics DISTILL-CF is compared with.

Sachdeva et al. (2022), appendix B.2. Every sampler is `(X, budget, seed) -> Interactions`, over
all items of X and with the ids of X. A click that X holds twice is one interaction, drawn or
left as a whole. Users without clicks are never drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from distillcf.coresets.forgetting import forgetting_counts
from infae.data.coerce import as_clicks
from infae.data.interactions import Interactions
from infae.data.ops import masked
from infae.runtime import checks

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
        if checks.choice("unit", self.unit, UNITS) == "share":
            checks.share("a share of all interactions", self.size, most=1)
        else:
            checks.whole(f"a budget of {self.unit}", self.size, remedy="for a part of all clicks use Budget.share")

    @classmethod
    def users(cls, size: int) -> Self:
        return cls(size, "users")

    @classmethod
    def interactions(cls, size: int) -> Self:
        return cls(size, "interactions")

    @classmethod
    def share(cls, size: float) -> Self:
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
    kept = np.zeros(clicks.n_interactions, bool)
    kept[checks.generator(seed).choice(kept.size, budget.n_interactions(clicks), replace=False, shuffle=False)] = True
    drawn = clicks.with_matrix(masked(clicks.matrix, kept))
    return drawn.select_users(_active(drawn))


def random_users(X: Any, budget: Budget | int, seed: int = 0) -> Interactions:
    """User-RNS: users in a random order, with all their clicks, up to the budget (B.2).

    A budget in interactions is never passed but by a single user: users are taken while their
    clicks together are at most the budget, the first one who would pass it ends the sample
    (nobody further down is tried in their place), and the very first is taken in any case. The
    other samplers of users do the same. The result has the users in the order of X.

    Arguments and errors are those of `random_interactions`.
    """
    clicks, budget = _checked(X, budget)
    return _first_users(clicks, np.zeros(clicks.n_users), budget, checks.generator(seed))


def head_users(X: Any, budget: Budget | int, seed: int = 0) -> Interactions:
    """Head users: those with the most clicks first (B.2); `seed` draws the order among equals.

    Budgets are met as in `random_users`; arguments and errors are those of `random_interactions`.
    """
    clicks, budget = _checked(X, budget)
    return _first_users(clicks, np.diff(clicks.matrix.indptr), budget, checks.generator(seed))


def svp_cf_users(
    X: Any, budget: Budget | int, seed: int = 0, *, epochs: int = 10, batches: int = 100, learning_rate: float = 0.02
) -> Interactions:
    """SVP-CF user: the users whom a bias-only proxy ranks worst while it learns, worst first (B.2).

    The order is that of `forgetting_counts`, which takes the keywords; `seed` seeds the proxy and
    draws the order among equals. Budgets are met as in `random_users`; the other arguments and
    errors are those of `random_interactions`.
    """
    clicks, budget = _checked(X, budget)
    rng = checks.generator(seed)
    counts = forgetting_counts(clicks, rng, epochs=epochs, batches=batches, learning_rate=learning_rate)
    return _first_users(clicks, counts, budget, rng)


CORESETS: dict[str, Callable[..., Interactions]] = {
    "random interactions": random_interactions,
    "random users": random_users,
    "head users": head_users,
    "SVP-CF users": svp_cf_users,
}
"""Samplers by name; each takes (X, budget, seed)."""


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


def _active(clicks: Interactions) -> np.ndarray:
    return np.flatnonzero(np.diff(clicks.matrix.indptr))


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
