"""How distilled recommenders are tested: each user's held-out item among all items, or among a few that are drawn.

Two protocols are in use, and their figures are not to be compared: among all items that a user has not clicked
(GD-REC, topology distillation), and among 499 of them (DE-RRD, HyperKDMA).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

import infae
from infae.data.ops import row_of, unclicked
from infae.data.splits import Part
from infae.machine import batches
from infae.runtime import checks

Score = Callable[[np.ndarray], np.ndarray]
"""Positions of users (n,) -> scores (n, n_items), the higher the better."""

N_CANDIDATES = 499


def held_out(split: infae.Split, part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Users (n,) with a click held out, and it (n,), by position; ValueError for a user of several, or for none."""
    clicks = getattr(split, checks.choice("part", part, ("validation", "test"))).matrix
    counts = np.diff(clicks.indptr)
    if counts.max(initial=0) != 1:
        raise ValueError(f"{split.name}: expected one {part} click of a user, got up to {counts.max(initial=0)}")
    return row_of(clicks), clicks.indices.astype(np.int64)


def candidates(split: infae.Split, part: Part, seed: int = 0) -> np.ndarray:
    """(n, 499) items for each user of `held_out`, uniformly among those not clicked in any part, each once.

    ValueError where a user has clicked too many.
    """
    users, _ = held_out(split, part)
    clicked = sp.csr_matrix(split.train.matrix + split.validation.matrix + split.test.matrix)
    clicked.sort_indices()
    free = clicked.shape[1] - np.diff(clicked.indptr)[users]
    if free.min() < N_CANDIDATES:
        raise ValueError(
            f"{split.name}: {N_CANDIDATES} candidates are asked for, and a user has {free.min()} items left"
        )
    rng = np.random.default_rng([checks.seed("seed", seed), part == "test"])
    places = np.stack([rng.choice(n, N_CANDIDATES, replace=False) for n in free])
    return unclicked(clicked, np.repeat(users, N_CANDIDATES), places.ravel()).reshape(places.shape)


def ranks(score: Score, split: infae.Split, part: Part, among: np.ndarray | None = None) -> np.ndarray:
    """(n,) places, from 0, of what is held out: among `candidates`, or among all items that a user has not clicked.

    What a user has clicked is in training rows, and in validation rows for the test. An item of an equal score comes
    first, so that a model that says the same of all items finds none.

    Raises ValueError for scores of another shape, or that are not finite.
    """
    users, items = held_out(split, part)
    seen = split.train.matrix + (split.validation.matrix if part == "test" else 0)
    found = np.empty(len(users), np.int64)
    for at in batches(len(users), split.train.n_items):
        scores = np.array(score(users[at]), np.float32)
        n = len(users[at])
        if scores.shape != (n, split.train.n_items):
            raise ValueError(f"expected scores {(n, split.train.n_items)}, got {scores.shape}")
        if not np.isfinite(scores).all():
            raise ValueError("scores are NaN or infinite; the model has diverged")
        own = scores[np.arange(n), items[at]]
        if among is None:
            clicked = seen[users[at]]
            scores[row_of(clicked), clicked.indices] = -np.inf
            # The held-out item itself is among them.
            found[at] = (scores >= own[:, None]).sum(1) - 1
        else:
            found[at] = (np.take_along_axis(scores, among[at], 1) >= own[:, None]).sum(1)
    return found


def by_position(model: Any, clicks: infae.Interactions) -> Score:
    """A fitted model's scores of its training users: as it says itself (`score_users`), or by their own vectors.

    Models that have learned none score their histories.
    """
    if hasattr(model, "score_users"):
        return model.score_users
    vectors = getattr(getattr(model, "module", None), "users", None)
    if vectors is None:
        return lambda users: model.predict(clicks.matrix[users])
    import torch

    def score(users: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.module(torch.from_numpy(users)).numpy()

    return score


def by_history(model: Any, clicks: infae.Interactions) -> Score:
    """A fitted model's scores of histories, those of its training users too."""
    return lambda users: model.predict(clicks.matrix[users])


def figures(places: np.ndarray, ks: Sequence[int] = (5, 10, 20, 50)) -> dict[str, float]:
    """Means over users of H@k, which is Recall@k of one item, N@k (NDCG) and M@k (reciprocal rank), of `ranks`."""
    found = {}
    for k in ks:
        inside = places < checks.whole("k", k)
        found[f"H@{k}"] = float(inside.mean())
        found[f"N@{k}"] = float((inside / np.log2(places + 2)).mean())
        found[f"M@{k}"] = float((inside / (places + 1)).mean())
    return found
