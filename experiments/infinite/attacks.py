"""Two ways to learn the rest of a known person's clicks: find the person in the data, or predict what is missing."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.data.ops import masked, random_place, row_of
from infae.machine import batches
from infae.ranking.evaluate import Recommender
from infae.runtime import checks


class Matches(NamedTuple):
    """Of each user of D', in order, the user of D that is most alike.

    Attributes:
      row: position in D; the first of equal ones.
      accepted: the match is clear of the next by the eccentricity threshold.
    """

    row: np.ndarray
    accepted: np.ndarray


class Completion(NamedTuple):
    """Of each user with something missing: how much is missing, and how much of it is among as many predictions.

    Attributes:
      n_missing: clicks that are not revealed, 1 or more.
      n_found: of them, those among the `n_missing` best items that are not revealed.
    """

    n_missing: np.ndarray
    n_found: np.ndarray

    def exact(self, at_least: int = 1) -> float:
        """Share of users whose whole missing set is predicted, among those with so many missing; NaN of nobody."""
        counted = self.n_missing >= at_least
        return float((self.n_found == self.n_missing)[counted].mean()) if counted.any() else float("nan")


def revealed_of(n: np.ndarray, share: float) -> np.ndarray:
    """How many of n clicks a share reveals: at least one of any."""
    return np.minimum(np.maximum(np.rint(share * n), 1), n).astype(np.int64)


def reveal(clicks: Interactions, share: float, rng: np.random.Generator) -> Interactions:
    """round(share * n) random ones of each user's n clicks, at least one of any.

    Raises ValueError where `share` is not above 0 and at most 1.
    """
    checks.share("share", share, most=1)
    matrix = clicks.matrix
    n_revealed = revealed_of(np.diff(matrix.indptr), share)
    return clicks.with_matrix(masked(matrix, random_place(matrix, rng) < n_revealed[row_of(matrix)]))


def match(known: Interactions, clicks: Interactions, eccentricity: float = 1.5) -> Matches:
    """Narayanan and Shmatikov's algorithm (2008, section 5) on 0/1 data: users of D' `known` in D `clicks`.

        score(user, candidate) = sum over items that both clicked of 1 / log(clicks of the item in D)

    The candidate that scores highest is the match, and is accepted where (highest - second) / sigma
    is at least `eccentricity`, with sigma the standard deviation of the scores of all candidates.
    Items with a single click, whose weight would be infinite, weigh as those with two. Both are
    over the same items; how often a click is repeated does not count.
    """
    held = (clicks.matrix != 0).astype(np.float64)
    support = np.bincount(held.indices, minlength=clicks.n_items)
    weights = sp.diags(1 / np.log(np.maximum(support, 2)))
    weighted, candidates = (known.matrix != 0).astype(np.float64) @ weights, held.T.tocsr()
    row, accepted = np.zeros(known.n_users, np.int64), np.zeros(known.n_users, bool)
    for rows in batches(known.n_users, clicks.n_users):
        scores = (weighted[rows] @ candidates).toarray()
        each = np.arange(len(scores))
        best = scores.argmax(axis=1)
        highest, sigma = scores[each, best], scores.std(axis=1)
        scores[each, best] = -np.inf
        second = scores.max(axis=1)
        row[rows] = best
        accepted[rows] = (sigma > 0) & (highest - second >= eccentricity * sigma)
    return Matches(row, accepted)


def complete(model: Recommender, known: Interactions, clicks: Interactions) -> Completion:
    """Predict what D' `known` lacks of D `clicks`, user by user, told how many items these are.

    The prediction is the model's best items that are not in D', as many as are missing; equal
    scores rank by item position. Users with nothing missing are left out. `model` scores the
    columns of `known`.
    """
    n_missing, n_found = [], []
    for rows in batches(*clicks.shape):
        shown = known.matrix[rows].toarray() != 0
        missing = (clicks.matrix[rows].toarray() != 0) & ~shown
        n = missing.sum(axis=1)
        scores = model.predict(known.select_users(np.arange(rows.start, rows.stop)))
        order = np.argsort(np.where(shown, np.inf, -scores), axis=1, kind="stable")
        hits = np.take_along_axis(missing, order, axis=1) & (np.arange(clicks.n_items) < n[:, None])
        n_missing.append(n[n > 0])
        n_found.append(hits.sum(axis=1)[n > 0])
    return Completion(np.concatenate(n_missing), np.concatenate(n_found))
