"""ADER's choice of exemplars: herding within item classes, allotted by frequency (Mi, Lin and Faltings 2020).

ADER replays sessions, each of which has one label, its last item: an item's exemplars are the
sessions with that label whose representations, of length 1, herd to their mean, and the number of
them is proportional to the item's frequency. What had to be adapted to user rows:

- A row of an autoencoder has no label: it is trained to say all of its clicks. An item's class is
  therefore all rows that have the item, and a row chosen for one item is not chosen again for another.
- ADER keeps tens of thousands of sessions and rounds an item's number down; of a few dozen rows
  that leaves none for any item. Here the budget is met exactly: seat k of n goes to the item where
  the clicks, items in order of frequency, pass the share (k + 1/2) / n, so each item has its
  proportional number of seats, rounded up or down.
- The representation is the model's own of the row: its hidden code where it has one (`encode`),
  and else its scores.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp

import infae


def representation(model: Any, clicks: infae.Interactions) -> np.ndarray:
    """(n_users, size) the model's own of each row: `model.encode(clicks)`, or its scores."""
    return np.asarray(model.encode(clicks) if hasattr(model, "encode") else model.predict(clicks), np.float64)


def choose_exemplars(clicks: sp.csr_matrix, vectors: np.ndarray, n: int) -> np.ndarray:
    """Rows of `clicks`, n of them and all different, chosen as the module says; vectors are (n_rows, size)."""
    if not 0 <= n <= clicks.shape[0]:
        raise ValueError(f"expected at most the {clicks.shape[0]:,} rows there are as exemplars, got {n:,}")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1)
    free, columns = np.ones(clicks.shape[0], bool), sp.csc_matrix(clicks)
    chosen: list[int] = []
    for item, seats in zip(*np.unique(seated_items(clicks, n), return_counts=True), strict=True):
        members = columns.indices[columns.indptr[item] : columns.indptr[item + 1]]
        found = members[herd(unit[members], int(seats), free[members])]
        free[found] = False
        chosen += found.tolist()
    # Seats of items whose rows were all taken.
    chosen += herd(unit, n - len(chosen), free).tolist()
    return np.array(chosen, np.int64)


def seated_items(clicks: sp.csr_matrix, n: int) -> np.ndarray:
    """(n,) the item of each seat: proportional to clicks, rounded up or down."""
    frequency = np.asarray(clicks.sum(axis=0)).ravel()
    order = np.argsort(-frequency, kind="stable")
    passed = np.cumsum(frequency[order]) / frequency.sum()
    return order[np.minimum(np.searchsorted(passed, (np.arange(n) + 0.5) / n), order.size - 1)]


def herd(unit: np.ndarray, n: int, free: np.ndarray) -> np.ndarray:
    """Rows of unit vectors, at most n of those that are free, each bringing the mean of those chosen closest to all's.

    argmin over x of |mu - (x + sum of the k chosen) / (k + 1)|, which for vectors of length 1 is
    argmax of x . ((k + 1) mu - sum of the chosen) (Welling 2009; ADER, algorithm 1).
    """
    mean, free = unit.mean(axis=0), free.copy()
    towards, chosen = mean.copy(), []
    for _ in range(min(n, int(free.sum()))):
        best = int(np.argmax(np.where(free, unit @ towards, -np.inf)))
        free[best] = False
        towards += mean - unit[best]
        chosen.append(best)
    return np.array(chosen, np.int64)
