"""What a teacher says of the users of a training set."""

from functools import cached_property

import numpy as np
import torch

import infae
from experiments.kd.protocol import Score
from infae.data.fingerprint import fingerprint
from infae.data.ops import row_of
from infae.machine import batches
from infae.runtime import checks
from infae.runtime.memory import require_memory


class Knowledge:
    """Scores of all pairs, and the first of each user's and of each item's list.

    Args:
      score: the teacher's, of users by position; see `protocol.Score`.
      clicks: training clicks, which are in no list.
      vectors: the teacher's vectors of users (n_users, D) and of items (n_items, D), for losses that need them.

    Raises:
      ValueError: scores of another shape, or not finite; vectors of other numbers of users or items.
      MemoryError: 8 bytes a pair do not fit.
    """

    def __init__(
        self, score: Score, clicks: infae.Interactions, vectors: tuple[torch.Tensor, torch.Tensor] | None = None
    ):
        n_users, n_items = clicks.shape
        require_memory(8 * n_users * n_items, f"a teacher's scores of {n_users:,} users and {n_items:,} items")
        scores = np.empty((n_users, n_items), np.float32)
        for at in batches(n_users, n_items):
            found = score(np.arange(n_users)[at])
            if found.shape != scores[at].shape or not np.isfinite(found).all():
                raise ValueError(
                    f"a teacher must give finite scores {scores[at].shape} of these users and items, got "
                    f"{'NaN or infinity' if found.shape == scores[at].shape else found.shape}"
                )
            scores[at] = found
        if vectors is not None and (len(vectors[0]), len(vectors[1])) != (n_users, n_items):
            raise ValueError(
                f"expected vectors of {n_users:,} users and {n_items:,} items, got {len(vectors[0])}, {len(vectors[1])}"
            )
        self.clicks, self.scores, self.vectors = clicks.matrix, torch.from_numpy(scores), vectors

    @cached_property
    def fingerprint(self) -> str:
        """Of all that it says: a hash."""
        clicks = self.clicks.indptr, self.clicks.indices, self.clicks.data
        return fingerprint([self.scores.numpy(), *clicks, *(part.numpy() for part in self.vectors or ())])

    @cached_property
    def unclicked(self) -> torch.Tensor:
        """(n_users, n_items) scores, -inf of what a user has clicked."""
        scores = self.scores.clone()
        scores[row_of(self.clicks), self.clicks.indices.astype(np.int64)] = -torch.inf
        return scores

    def first_items(self, n: int) -> torch.Tensor:
        """(n_users, n) items, the best first, of those that a user has not clicked."""
        return _first(self.unclicked, n, self.n_unclicked[0], "items")

    def first_users(self, n: int) -> torch.Tensor:
        """(n_items, n) users, the best first, of those who have not clicked an item."""
        return _first(self.unclicked.T, n, self.n_unclicked[1], "users")

    @property
    def n_unclicked(self) -> tuple[int, int]:
        """The fewest items that a user has not clicked, and the fewest users who have not clicked an item."""
        n_users, n_items = self.clicks.shape
        most = np.diff(self.clicks.indptr).max(), np.bincount(self.clicks.indices, minlength=n_items).max()
        return int(n_items - most[0]), int(n_users - most[1])


def _first(scores: torch.Tensor, n: int, least: int, what: str) -> torch.Tensor:
    if checks.whole("n", n) > least:
        raise ValueError(f"the first {n:,} {what} are asked for, and a list has {least:,}")
    return torch.cat([part.topk(n, dim=1).indices for part in scores.split(1024)])
