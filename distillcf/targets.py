"""What synthetic users are trained for: real histories, and what should be said of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from distillcf.config import Config
from distillcf.objective import Batch
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.model import InfiniteAE

# Full-data models to choose from by validation: dense data prefers the first, sparse data the second.
CANDIDATES: tuple[dict[str, Any], ...] = (
    {"popularity_power": -0.25},
    {"unit_rows": True, "b_std": 0.0},
    {"popularity_power": -0.25, "unit_rows": True, "b_std": 0.0},
)
REGS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


class Scores(Protocol):
    """Scores to be matched: (n,) rows of the clicks -> (n, n_items)."""

    def __call__(self, rows: np.ndarray) -> np.ndarray: ...


def choose_teacher(
    clicks: Interactions, split: Split | None, metric: str, *, depth: int = 1, progress: bool = False
) -> InfiniteAE:
    """∞-AE of all the data, inputs and reg chosen from `CANDIDATES` and `REGS` by `metric` on validation.

    Without a validation part it is the first candidate at reg 1.
    """
    if split is None:
        return InfiniteAE(1.0, depth=depth, **CANDIDATES[0]).fit(clicks, progress=progress)
    best: tuple[float, InfiniteAE] | None = None
    for inputs in CANDIDATES:
        model = InfiniteAE(REGS, depth=depth, metric=metric, **inputs).fit(clicks, split, progress=progress)
        value = max(row[metric] for row in model.path_ if row["reg"] == model.reg_)
        if best is None or value > best[0]:
            best = value, model
    assert best is not None
    return best[1]


def teacher_scores(teacher: InfiniteAE) -> Scores:
    """A fitted model's leave-one-out scores of its own users: what it says without their own clicks' echo."""
    return teacher.leave_one_out


def given_scores(scores: Any, shape: tuple[int, int]) -> Scores:
    """Scores handed in, checked: (n_users, n_items) finite numbers, row by row with the clicks."""
    array = np.asarray(scores)
    if array.shape != shape or array.dtype.kind not in "biuf":
        raise ValueError(f"scores must be numbers of X's shape {shape}, got {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("scores hold NaN or infinity; every cell needs a finite score")
    return lambda rows: array[rows].astype(np.float32)


class Batches:
    """Batches of real users, each a pure function of (seed, step): nothing to store for a resumed run.

    An epoch deals out a random order of all users; what is left of it when less than a batch is
    dealt is left out.

    Args:
      clicks: (n_users, n_items) of real users.
      config: batch_size, held_out, objective, labels and seed are used.
      scores: to be matched, None for the clicks themselves.
    """

    def __init__(self, clicks: sp.csr_matrix, config: Config, scores: Scores | None):
        self._clicks, self._config, self._scores = clicks, config, scores
        self.size = min(config.batch_size, clicks.shape[0])
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __call__(self, step: int) -> Batch:
        """The batch of an outer step."""
        epoch, place = divmod(step, self._clicks.shape[0] // self.size)
        if epoch != self._epoch:
            rng = np.random.default_rng([self._config.seed, 1, epoch])
            self._epoch, self._order = epoch, rng.permutation(self._clicks.shape[0])
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
        if self._scores is None:
            whole = self._config.held_out == 0
            weights = np.ones_like(history) if whole else (history == 0).astype(history.dtype)
            return Batch(history, clicks.toarray(), weights)
        targets = self._scores(rows)
        # Whatever a model says of clicks that are never recommended again is not worth matching.
        counts = np.ones_like(history) if self._config.labels == "free" else (clicks.toarray() == 0)
        return Batch(history, targets, counts.astype(history.dtype))

    def blocks(self, size: int) -> list[np.ndarray]:
        """All users, `size` at a time."""
        n = self._clicks.shape[0]
        return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]

    def mean_square(self) -> float:
        """Mean over users of the weighted sum of squared targets; estimated from up to 4,096 users."""
        rows = np.random.default_rng([self._config.seed, 3]).permutation(self._clicks.shape[0])[:4096]
        total = 0.0
        for part in np.array_split(rows, -(-rows.size // 512)):
            batch = self.of(part)
            total += float(np.sum(batch.weights * np.asarray(batch.targets) ** 2, dtype=np.float64))
        return total / rows.size


def fingerprint(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 of arrays, their types and shapes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def clicks_fingerprint(clicks: Interactions) -> str:
    """Of the clicks and the item ids; who the users are does not enter."""
    matrix = clicks.matrix
    return fingerprint([matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data, clicks.item_ids])
