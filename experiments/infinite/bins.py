"""Users and items from the coldest to the hottest, in bins of one size, and how well each bin is served."""

import numpy as np

from infae.data.splits import Part, Split
from infae.machine import batches
from infae.ranking import metrics
from infae.ranking.evaluate import Recommender


def coldness_bins(counts: np.ndarray, n_bins: int) -> np.ndarray:
    """The bin of each user or item by its train clicks: 0 where it has none, else 1 (coldest) to `n_bins`.

    Bins 1 to `n_bins` are of one size, give or take one; those with equal counts are parted by position.

    Raises ValueError where fewer than `n_bins` have clicks.
    """
    bins = np.zeros(counts.size, np.int64)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    if not 1 <= n_bins <= order.size:
        raise ValueError(f"expected 1 to {order.size:,} bins, as many as users or items with clicks, got {n_bins}")
    bins[order] = 1 + np.arange(order.size) * n_bins // order.size
    return bins


def held_out_ranks(model: Recommender, split: Split, on: Part = "test") -> metrics.Ranks:
    """Where all users' held-out clicks stand, as `infae.evaluate` ranks them; the model scores train's columns."""
    context, targets = split.context(on), split.targets(on).matrix
    parts = []
    for rows in batches(*context.shape):
        shown = context.select_users(np.arange(rows.start, rows.stop))
        ranks = metrics.held_out_ranks(model.predict(shown), shown.matrix, targets[rows])
        parts.append(ranks._replace(user=ranks.user + rows.start))
    user, item, rank, beaten = (np.concatenate(columns) for columns in zip(*(part[:4] for part in parts), strict=True))
    return metrics.Ranks(user, item, rank, beaten, context.n_users)


def users_served(ranks: metrics.Ranks, bins: np.ndarray, k: int) -> np.ndarray:
    """For each bin (0, 1, ...) the mean HR@k of its users with something held out; NaN of none."""
    known = ranks.n_held_out > 0
    return _means(metrics.hit_rate(ranks, k)[known], bins[known], bins.max() + 1)


def items_served(ranks: metrics.Ranks, bins: np.ndarray, k: int) -> np.ndarray:
    """For each bin (0, 1, ...) the share of held-out clicks on its items in their user's k best; NaN of none."""
    return _means((ranks.rank < k).astype(np.float64), bins[ranks.item], bins.max() + 1)


def _means(values: np.ndarray, bins: np.ndarray, n: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.bincount(bins, values, minlength=n) / np.bincount(bins, minlength=n)
