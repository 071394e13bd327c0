"""Ranking metrics per user, exact and vectorised, from the ranks of the held-out items.

Every metric here is a function of where each held-out item stands among the items that may be
recommended (all items but those in the user's context), so ranks are counted once, by comparing,
and no list is ever sorted. Equal scores are ranked by item position, as `recommend` lists them.

Where the paper (Sachdeva et al. 2022, appendix B.5) and its public code differ, both are here.
"""

from contextlib import suppress
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data import ops
from infae.errors import NonFiniteScoresError
from infae.runtime import checks
from infae.runtime.parallel import in_parallel

_CHUNK = 64
_N_REDRAWS = 30
_NEVER = np.iinfo(np.int64).max
LARGEST_K = 10**7
"""No list of recommendations is longer."""


class Ranks(NamedTuple):
    """Where held-out items stand; the arrays have one entry a held-out click, users in order.

    Attributes:
      user: row position of the user.
      item: column position of the item.
      rank: 0-based place in the recommended list; beyond any list where the item is in the
        user's context, so that it can never be recommended but counts as one to be found.
      beaten: share of the user's negatives (items neither in the context nor held out) that
        score lower, equal scores counting a half; NaN where the item is in the context or
        there is no negative.
      n_users: rows of the score matrix.
    """

    user: np.ndarray
    item: np.ndarray
    rank: np.ndarray
    beaten: np.ndarray
    n_users: int

    @property
    def n_held_out(self) -> np.ndarray:
        """(n_users,) held-out clicks of each user."""
        return np.bincount(self.user, minlength=self.n_users)


def held_out_ranks(scores: jax.Array | np.ndarray, context: sp.csr_matrix, targets: sp.csr_matrix) -> Ranks:
    """Ranks of each user's held-out items among the items not in the user's context.

    Args:
      scores: (n_users, n_items), higher is better.
      context: (n_users, n_items) CSR; its non-zeros are never recommended.
      targets: (n_users, n_items) CSR of the held-out clicks; both as `Interactions.matrix` is:
        sorted indices, no duplicates, no stored zeros.

    Raises:
      ValueError: shapes differ, or a score is NaN or infinite.
    """
    _check_clicks(context=context, targets=targets)
    scores = _check_scores(scores, context)
    n_users, n_items = scores.shape
    user, item = _entries(targets)
    seen = _contains(context, user, item)
    above, tied, tied_before = _counts(_masked(scores, context), targets.indptr, item)
    n_candidates = n_items - np.diff(context.indptr)
    ahead, level = _among_positives(scores[user, item], user, seen)
    n_positives = np.bincount(user[~seen], minlength=n_users)
    n_negatives = (n_candidates - n_positives)[user]
    n_above, n_level = above - ahead, tied - level
    with np.errstate(invalid="ignore", divide="ignore"):
        beaten = (n_negatives - n_above - n_level / 2) / n_negatives
    beaten[seen | (n_negatives == 0)] = np.nan
    return Ranks(user, item, np.where(seen, _NEVER, above + tied_before), beaten, n_users)


def mask(scores: jax.Array | np.ndarray, context: sp.csr_matrix) -> jax.Array:
    """Scores with minus infinity where the context has a click.

    Raises ValueError for scores that are no finite numbers, masked ones among them, and for other shapes.
    """
    _check_clicks(context=context)
    return jnp.asarray(_masked(_check_scores(scores, context), context))


def hit_rate(ranks: Ranks, k: int) -> np.ndarray:
    """HR@k as in the papers' code: hits in the top k / min(k, held-out items), per user."""
    k = _cut_off(ranks, k)
    return _per_user_sum(ranks, ranks.rank < k) / _at_least_one(np.minimum(k, ranks.n_held_out))


def recall(ranks: Ranks, k: int) -> np.ndarray:
    """Recall@k, the paper's printed HR@k: hits in the top k / held-out items, per user."""
    k = _cut_off(ranks, k)
    return _per_user_sum(ranks, ranks.rank < k) / _at_least_one(ranks.n_held_out)


def ndcg(ranks: Ranks, k: int) -> np.ndarray:
    """nDCG@k: sum over hits of 1 / log2(place + 1), over the same for the best list of k, per user."""
    k = _cut_off(ranks, k)
    gain = np.where(ranks.rank < k, 1 / np.log2(np.minimum(ranks.rank, k) + 2), 0)
    ideal = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    best = ideal[np.minimum(k, ranks.n_held_out)]
    return _per_user_sum(ranks, gain) / np.where(best > 0, best, 1)


def psp(ranks: Ranks, k: int, inverse_propensity: np.ndarray) -> np.ndarray:
    """PSP@k as in the papers' code, per user.

    Sum over hits of 1 / propensity, divided by min(k, held-out), over the same sum, not
    divided, for the min(k, held-out) least likely held-out items: at most 1 / min(k, held-out).
    """
    k, weight = _cut_off(ranks, k), _weights(inverse_propensity, ranks)[ranks.item]
    order = np.lexsort((-weight, ranks.user))
    place = np.arange(order.size) - np.repeat(np.cumsum(ranks.n_held_out) - ranks.n_held_out, ranks.n_held_out)
    best = np.bincount(ranks.user, np.where(place < k, weight[order], 0), minlength=ranks.n_users)
    found = _per_user_sum(ranks, np.where(ranks.rank < k, weight, 0))
    return found / np.where(best > 0, best, 1) / _at_least_one(np.minimum(k, ranks.n_held_out))


def psp_printed(ranks: Ranks, k: int, inverse_propensity: np.ndarray) -> np.ndarray:
    """PSP@k as printed in appendix B.5, per user.

    (1/k) times the sum over hits of 1 / propensity, over the sum over all held-out items: at
    most 1/k.
    """
    k, weight = _cut_off(ranks, k), _weights(inverse_propensity, ranks)[ranks.item]
    total = _per_user_sum(ranks, weight)
    return _per_user_sum(ranks, np.where(ranks.rank < k, weight, 0)) / (k * np.where(total > 0, total, 1))


def _cut_off(ranks: Ranks, k: int) -> int:
    _check_ranks(ranks)
    return checks.whole("k", k, 1, LARGEST_K)


def _check_ranks(ranks: Ranks) -> None:
    if not isinstance(ranks, Ranks):
        raise ValueError(f"ranks must be what held_out_ranks gives, got {checks.shown(ranks)}")


def _weights(inverse_propensity: np.ndarray, ranks: Ranks) -> np.ndarray:
    weights = _numbers("inverse_propensity", inverse_propensity)
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"inverse_propensity must be finite numbers of at least 0, got {checks.shown(weights)}")
    if ranks.item.max(initial=-1) >= weights.size:
        raise ValueError(f"inverse_propensity must have a number an item, got {weights.size:,} numbers")
    return weights


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    """A one-dimensional array of real numbers that a caller hands in."""
    found = None
    if isinstance(values, (np.ndarray, list, tuple)) and not np.ma.isMaskedArray(values):
        with suppress(ValueError, TypeError):
            found = np.asarray(values)
    if found is None or found.ndim != 1 or found.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a 1-D array of numbers, got {checks.shown(values)}")
    return found


def _check_clicks(**parts: sp.csr_matrix) -> None:
    for name, clicks in parts.items():
        if not isinstance(clicks, sp.csr_matrix):
            raise ValueError(f"{name} must be a CSR matrix such as Interactions.matrix, got {checks.shown(clicks)}")
        ops.check_sparse(clicks, name)
    if len({clicks.shape for clicks in parts.values()}) > 1:
        raise ValueError(f"shapes differ: {', '.join(f'{name} {clicks.shape}' for name, clicks in parts.items())}")


def _check_scores(scores: jax.Array | np.ndarray, context: sp.csr_matrix) -> np.ndarray:
    is_dense = isinstance(scores, (np.ndarray, jax.Array)) and not np.ma.isMaskedArray(scores)
    if not is_dense or scores.dtype.kind not in "iuf":
        raise ValueError(f"scores must be an array of numbers, got {checks.shown(scores)}")
    if scores.shape != context.shape:
        raise ValueError(f"shapes differ: scores {scores.shape}, context {context.shape}")
    if not np.isfinite(scores).all():
        raise NonFiniteScoresError("scores hold NaN or infinity, which cannot be ranked")
    return np.asarray(scores)


def auc(ranks: Ranks) -> np.ndarray:
    """Exact AUC per user over all items neither in the context nor held out; NaN where undefined."""
    _check_ranks(ranks)
    known = ~np.isnan(ranks.beaten)
    n = np.bincount(ranks.user[known], minlength=ranks.n_users)
    total = np.bincount(ranks.user[known], ranks.beaten[known], minlength=ranks.n_users)
    return np.where(n > 0, total / _at_least_one(n), np.nan)


def pooled_auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """AUC of positive scores against negative ones, all users in one pool; ties count a half.

    Pooled as in the papers' code, where the negatives are 50 sampled items a user.
    """
    positives, negatives = _numbers("positives", positives), _numbers("negatives", negatives)
    for name, scores in (("positives", positives), ("negatives", negatives)):
        if not np.isfinite(scores).all():
            raise NonFiniteScoresError(f"{name} hold NaN or infinity, which cannot be ranked")
    if positives.size == 0 or negatives.size == 0:
        return float("nan")
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left") + np.searchsorted(ordered, positives, side="right")
    return float(below.mean() / 2 / negatives.size)


def inverse_propensity(train: sp.csr_matrix, a: float = 0.55, b: float = 1.5) -> np.ndarray:
    """1 / propensity of each item: 1 + C (n_i + b)^-a with C = (log N - 1) (b + 1)^a (appendix B.5).

    n_i are the item's train clicks and N all of them; a and b are the paper's.
    """
    _check_clicks(train=train)
    checks.number("a", a, least=0, most=100)
    checks.number("b", b, least=0, most=1e9)
    if not (np.isfinite(train.data) & (train.data >= 0)).all():
        raise ValueError("train holds NaN, infinite or negative values; pass the matrix of Interactions")
    n_i = np.bincount(train.indices, train.data, minlength=train.shape[1])
    # At least 0, where a train set of one or two clicks would make propensities negative.
    c = max(np.log(max(n_i.sum(), 1)) - 1, 0) * (b + 1) ** a
    return 1 + c * (n_i + b) ** -a


def sample_negatives(
    context: sp.csr_matrix, targets: sp.csr_matrix, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, items) of up to n items a user, drawn without clicks in context or targets, with repeats.

    ValueError for matrices that are damaged or of two shapes, and for an `rng` that is none.
    """
    _check_clicks(context=context, targets=targets)
    checks.whole("n", n, 0, 1_000_000)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator, such as default_rng(0), got {checks.shown(rng)}")
    n_items = context.shape[1]
    clicked = sp.csr_matrix(context + targets)
    clicked.sort_indices()
    n_free = n_items - np.diff(clicked.indptr)
    rows = np.repeat(np.flatnonzero(n_free), n)
    items = rng.integers(0, n_items, rows.size)
    redo = np.flatnonzero(_contains(clicked, rows, items))
    for _ in range(_N_REDRAWS):
        items[redo] = rng.integers(0, n_items, redo.size)
        redo = redo[_contains(clicked, rows[redo], items[redo])]
        if not redo.size:
            return rows, items
    # Who has clicked nearly everything: one of the few items left over, without rejection.
    items[redo] = ops.unclicked(clicked, rows[redo], rng.integers(0, n_free[rows[redo]]))
    return rows, items


def _entries(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    return ops.row_of(matrix), matrix.indices


def _contains(matrix: sp.csr_matrix, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Whether each (row, column) is stored in a CSR with sorted indices."""
    n_cols = matrix.shape[1]
    stored_rows, stored_cols = _entries(matrix)
    stored = stored_rows * np.int64(n_cols) + stored_cols
    wanted = rows * np.int64(n_cols) + cols
    if stored.size == 0:
        return np.zeros(wanted.size, bool)
    return stored[np.minimum(np.searchsorted(stored, wanted), stored.size - 1)] == wanted


def _masked(scores: jax.Array | np.ndarray, context: sp.csr_matrix) -> np.ndarray:
    masked = np.array(scores)
    masked[_entries(context)] = -np.inf
    return masked


def _counts(scores: np.ndarray, indptr: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each held-out item, items of the user that score higher; as much, itself among them; as much and come before.

    `indptr` says which of `item` are whose. Each row is sorted once, and its items looked up.
    """
    user = np.repeat(np.arange(len(scores)), np.diff(indptr))
    own = scores[user, item]
    lower, upper = np.empty((2, item.size), np.int64)

    def look_up(first: int) -> None:
        for row, ordered in enumerate(np.sort(scores[first : first + _CHUNK], axis=1), first):
            at = slice(indptr[row], indptr[row + 1])
            lower[at], upper[at] = ordered.searchsorted(own[at], "left"), ordered.searchsorted(own[at], "right")

    list(in_parallel([partial(look_up, first) for first in range(0, len(scores), _CHUNK)]))
    tied, before = upper - lower, np.zeros(item.size, np.int64)
    # What is in the context has the others there for company, and no rank.
    several = np.flatnonzero((tied > 1) & np.isfinite(own))
    for some in np.array_split(several, -(-several.size // _CHUNK)) if several.size else ():
        level = scores[user[some]] == own[some, None]
        before[some] = np.sum(level & (np.arange(scores.shape[1]) < item[some, None]), axis=1)
    return scores.shape[1] - upper, tied, before


def _among_positives(own: np.ndarray, user: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each held-out item, held-out items of the user (not seen) that score higher, and as much."""
    ahead, level = np.zeros(own.size, np.int64), np.zeros(own.size, np.int64)
    kept = np.flatnonzero(~seen)
    order = kept[np.lexsort((-own[kept], user[kept]))]
    if order.size == 0:
        return ahead, level
    new_user = np.diff(user[order], prepend=-1) != 0
    new_group = new_user | (np.diff(own[order], prepend=np.nan) != 0)
    group = np.cumsum(new_group) - 1
    starts = np.flatnonzero(new_group)
    user_start = np.maximum.accumulate(np.where(new_user, np.arange(order.size), 0))
    ahead[order] = starts[group] - user_start
    level[order] = np.bincount(group)[group]
    return ahead, level


def _per_user_sum(ranks: Ranks, values: np.ndarray) -> np.ndarray:
    return np.bincount(ranks.user, values, minlength=ranks.n_users)


def _at_least_one(counts: np.ndarray) -> np.ndarray:
    return np.maximum(counts, 1)
