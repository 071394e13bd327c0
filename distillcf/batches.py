"""Batches of real users, whom synthetic ones are to serve."""

from functools import cached_property

import numpy as np
import scipy.sparse as sp

from distillcf.config import Config
from distillcf.inner import Batch, Scores
from infae.data.coerce import RowIndex


class Batches:
    """Batches of real users, each a pure function of (seed, step): nothing to store for a resumed run.

    An epoch deals out a random order of all users; what is left of it when less than a batch is
    dealt is left out. Targets are the `scores`, or the clicks themselves where these are None.
    """

    def __init__(self, clicks: sp.csr_matrix, config: Config, scores: Scores | None):
        self._clicks, self._config, self.scores = clicks, config, scores
        self.n_users = clicks.shape[0]
        self.size = min(config.batch_size, self.n_users)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __call__(self, step: int) -> Batch:
        """The batch of an outer step."""
        epoch, place = divmod(step, self.n_users // self.size)
        if epoch != self._epoch:
            rng = np.random.default_rng([self._config.seed, 1, epoch])
            self._epoch, self._order = epoch, rng.permutation(self.n_users)
        rows = self._order[place * self.size : (place + 1) * self.size]
        return self.of(rows, np.random.default_rng([self._config.seed, 2, step]))

    def of(self, rows: np.ndarray, rng: np.random.Generator | None = None) -> Batch:
        """The batch of given users; without `rng` nothing is held out."""
        clicks = self._clicks[rows]
        shown = clicks
        if self._config.held_out and rng is not None:
            shown = clicks.copy()
            shown.data = shown.data * (rng.random(shown.nnz) >= self._config.held_out)
        history = shown.toarray()
        if self.scores is None:
            whole = self._config.held_out == 0
            weights = np.ones_like(history) if whole else (history == 0).astype(history.dtype)
            return Batch(history, clicks.toarray(), weights)
        targets = self.scores(rows)
        # Whatever a model says of clicks that are never recommended again is not worth matching.
        counts = np.ones_like(history) if self._config.labels == "free" else (clicks.toarray() == 0)
        return Batch(history, targets, counts.astype(history.dtype))

    @cached_property
    def index(self) -> RowIndex:
        """Finds who has a given history."""
        return RowIndex(sp.csr_matrix(self._clicks.sign()))

    def blocks(self, size: int) -> list[np.ndarray]:
        """All users, `size` at a time."""
        return [np.arange(start, min(start + size, self.n_users)) for start in range(0, self.n_users, size)]

    def mean_square(self) -> float:
        """Mean over users of the weighted sum of squared targets; estimated from up to 4,096 users."""
        rng = np.random.default_rng([self._config.seed, 3])
        rows = rng.permutation(self.n_users)[:4096]
        total = 0.0
        for part in np.array_split(rows, -(-rows.size // 512)):
            batch = self.of(part, rng)
            total += float(np.sum(batch.weights * np.asarray(batch.targets) ** 2, dtype=np.float64))
        return total / rows.size
