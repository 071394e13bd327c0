"""`Split` (train, validation, test) and the protocols that make one from a log of clicks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions

if TYPE_CHECKING:
    import pandas as pd

Part = Literal["validation", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """Clicks to learn from and clicks to be found.

    Attributes:
      train: what a model is fitted on.
      validation, test: the held-out clicks. Where the contexts below are None they have the
        rows of `train`, user by user.
      validation_context, test_context: for users who are not in `train` (strong
        generalisation): the part of their history that a model is shown, row by row with
        `validation` or `test`.
      name: data set and protocol, for records.
      note: what a reader should know about this split, such as that it is not the published one.
    """

    train: Interactions
    validation: Interactions
    test: Interactions
    validation_context: Interactions | None = None
    test_context: Interactions | None = None
    name: str = ""
    note: str = ""
    _cache: dict[str, Interactions] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for part, context in (("validation", self.validation_context), ("test", self.test_context)):
            held_out: Interactions = getattr(self, part)
            if held_out.n_items != self.train.n_items:
                raise ValueError(
                    f"{part} has {held_out.n_items:,} items and train has {self.train.n_items:,}; "
                    "every part of a split is over the same items"
                )
            rows = self.train.n_users if context is None else context.n_users
            if held_out.n_users != rows:
                raise ValueError(f"{part} has {held_out.n_users:,} users, expected {rows:,} as in its context")

    def targets(self, on: Part) -> Interactions:
        """The held-out clicks of a part."""
        if on not in ("validation", "test"):
            raise ValueError(f"on must be 'validation' or 'test', got {on!r}")
        return self.validation if on == "validation" else self.test

    def context(self, on: Part) -> Interactions:
        """The histories that scores for a part are made from, and that are never recommended.

        Train rows for `validation`, train and validation rows together for `test`, unless the
        split brings contexts of its own.
        """
        self.targets(on)
        own = self.validation_context if on == "validation" else self.test_context
        if own is not None:
            return own
        if on == "validation" or self.validation_context is not None:
            return self.train
        if on not in self._cache:
            self._cache[on] = self.train.union(self.validation)
        return self._cache[on]

    def __repr__(self) -> str:
        parts = ", ".join(f"{p} {getattr(self, p).n_interactions:,}" for p in ("train", "validation", "test"))
        return f"Split({self.name or 'unnamed'}: {self.train.n_users:,} x {self.train.n_items:,}; clicks {parts})"


def random_split(
    log: Interactions,
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    min_interactions: int = 3,
    seed: int = 0,
    name: str = "",
) -> Split:
    """Each user's clicks at random into train, validation and test (paper, section 5 and B.3).

    Users with fewer than `min_interactions` clicks are dropped. Of the others, with n clicks,
    round(n * fraction) go to validation and to test and the rest to train, but at least one to
    each: three clicks give one each. Items keep their columns, also those that train never sees.
    """
    _check_fractions(fractions)
    if min_interactions < 3:
        raise ValueError(f"min_interactions must be at least 3, one click a part, got {min_interactions}")
    clicks = np.diff(log.matrix.indptr)
    kept = log.select_users(np.flatnonzero(clicks >= min_interactions))
    if kept.n_users == 0:
        raise ValueError(f"no user has {min_interactions} or more clicks, got at most {clicks.max(initial=0)}")
    n = np.diff(kept.matrix.indptr)
    n_validation = np.clip(np.rint(n * fractions[1]).astype(int), 1, n - 2)
    n_test = np.clip(np.rint(n * fractions[2]).astype(int), 1, n - n_validation - 1)
    place = _random_place(kept.matrix, np.random.default_rng(seed))
    row_of = np.repeat(np.arange(kept.n_users), n)
    part = np.where(place < n_validation[row_of], 1, np.where(place < (n_validation + n_test)[row_of], 2, 0))
    return _by_label(kept, part, name or f"random {'/'.join(f'{100 * f:g}' for f in fractions)}, seed {seed}")


def leave_one_out(log: pd.DataFrame | Interactions, *, seed: int = 0, name: str = "") -> Split:
    """The last click of each user to test, the one before to validation, the rest to train.

    `log` is a frame with `user_id`, `item_id` and `timestamp` (ties in time keep the log's
    order), or `Interactions`, which have no time: then two clicks are drawn at random by
    `seed`. Users with fewer than 3 clicks are kept whole in train.
    """
    if isinstance(log, Interactions):
        matrix, place = log.matrix, _random_place(log.matrix, np.random.default_rng(seed))
    else:
        log = _timed(log)
        # A repeated click counts at its last time.
        log = log.drop_duplicates(["user_id", "item_id"], keep="last")
        recency = log.groupby("user_id", sort=False).cumcount(ascending=False).to_numpy()
        log, matrix, place = _align(log, recency)
    n = np.diff(matrix.indptr)
    row_of = np.repeat(np.arange(n.size), n)
    part = np.where(n[row_of] < 3, 0, np.select([place == 0, place == 1], [2, 1], 0))
    return _by_label(log, part, name or "leave-one-out")


def time_split(
    log: pd.DataFrame,
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    boundaries: tuple[float, float] | None = None,
    name: str = "",
) -> Split:
    """Global time windows: train before, validation between, test from the second boundary on.

    `log` has `user_id`, `item_id`, `timestamp`. Without `boundaries` they are the times that
    part all clicks by `fractions`. A click repeated by a user counts at its first time. Every
    user and item of the log keeps its row and column.
    """
    _check_fractions(fractions)
    log = _timed(log).drop_duplicates(["user_id", "item_id"], keep="first")
    times = log["timestamp"].to_numpy()
    if boundaries is None:
        cuts = np.quantile(times, np.cumsum(fractions)[:2], method="higher")
    else:
        cuts = np.asarray(boundaries)
        if cuts.shape != (2,) or not cuts[0] <= cuts[1]:
            raise ValueError(f"boundaries must be two times in ascending order, got {boundaries!r}")
    clicks, _, label = _align(log, np.searchsorted(cuts, times, side="right"))
    return _by_label(clicks, label, name or "global time windows")


def user_split(
    log: Interactions,
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    fold_in: float = 0.8,
    min_interactions: int = 3,
    seed: int = 0,
    name: str = "",
) -> Split:
    """Held-out users (strong generalisation): validation and test users are not in train.

    A random share `fold_in` of each held-out user's clicks (at least one, and not all) is the
    context a model is shown; the rest is to be found. Users with fewer than `min_interactions`
    clicks, and items that no train user clicked, stay as they are: the latter as columns.
    """
    _check_fractions(fractions)
    if not 0 < fold_in < 1:
        raise ValueError(f"fold_in must be between 0 and 1, got {fold_in}")
    rng = np.random.default_rng(seed)
    eligible = np.flatnonzero(np.diff(log.matrix.indptr) >= max(2, min_interactions))
    n_validation, n_test = (max(1, round(eligible.size * f)) for f in fractions[1:])
    if n_validation + n_test >= eligible.size:
        raise ValueError(f"{eligible.size} users with {min_interactions} or more clicks are too few to hold out")
    drawn = rng.permutation(eligible)
    validation, test = np.sort(drawn[:n_validation]), np.sort(drawn[n_validation : n_validation + n_test])
    train = np.setdiff1d(np.arange(log.n_users), np.concatenate([validation, test]))
    parts = [_fold_in(log.select_users(rows), fold_in, rng) for rows in (validation, test)]
    return Split(
        train=log.select_users(train),
        validation=parts[0][1],
        test=parts[1][1],
        validation_context=parts[0][0],
        test_context=parts[1][0],
        name=name or f"held-out users, seed {seed}",
    )


def with_validation(split: Split, *, fraction: float = 0.1, seed: int = 0) -> Split:
    """A split whose validation part is drawn out of train, for sets published without one.

    round(n * fraction) of each user's n train clicks move to validation, never a user's last.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    if split.validation.n_interactions:
        raise ValueError(f"{split.name or 'this split'} already has a validation part")
    train = split.train
    n = np.diff(train.matrix.indptr)
    row_of = np.repeat(np.arange(train.n_users), n)
    n_moved = np.minimum(np.rint(n * fraction).astype(int), np.maximum(n - 1, 0))
    moved = _random_place(train.matrix, np.random.default_rng(seed)) < n_moved[row_of]
    return Split(
        train=_masked(train, ~moved),
        validation=_masked(train, moved),
        test=split.test,
        test_context=split.test_context,
        name=split.name,
        note=f"{split.note} {fraction:.0%} of train held out as validation, seed {seed}.".strip(),
    )


def _by_label(log: Interactions, labels: np.ndarray, name: str, note: str = "") -> Split:
    train, validation, test = (_masked(log, labels == k) for k in range(3))
    return Split(train, validation, test, name=name, note=note)


def _masked(log: Interactions, keep: np.ndarray) -> Interactions:
    matrix = log.matrix
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    part = sp.csr_matrix((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)
    return log.with_matrix(part)


def _fold_in(log: Interactions, share: float, rng: np.random.Generator) -> tuple[Interactions, Interactions]:
    n = np.diff(log.matrix.indptr)
    row_of = np.repeat(np.arange(log.n_users), n)
    n_shown = np.clip(np.rint(n * share).astype(int), 1, n - 1)
    shown = _random_place(log.matrix, rng) < n_shown[row_of]
    return _masked(log, shown), _masked(log, ~shown)


def _random_place(matrix: sp.csr_matrix, rng: np.random.Generator) -> np.ndarray:
    """For every stored entry, its place (0, 1, ...) in a random order of its row."""
    n = np.diff(matrix.indptr)
    row_of = np.repeat(np.arange(n.size), n)
    order = np.lexsort((rng.random(matrix.nnz), row_of))
    place = np.empty(matrix.nnz, dtype=np.int64)
    place[order] = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], n)
    return place


def _timed(log: pd.DataFrame) -> pd.DataFrame:
    needed = ("user_id", "item_id", "timestamp")
    if isinstance(log, Interactions) or not set(needed) <= set(log.columns):
        raise ValueError(f"expected a frame with columns {', '.join(needed)}: this split goes by time")
    if n_missing := int(log["timestamp"].isna().sum()):
        raise ValueError(f"{n_missing:,} of {len(log):,} rows have no timestamp; fill them in, or split at random")
    return log.sort_values("timestamp", kind="stable")


def _align(log: pd.DataFrame, values: np.ndarray) -> tuple[Interactions, sp.csr_matrix, np.ndarray]:
    """(clicks, their matrix, `values` in the order of the matrix's entries); pairs are unique."""
    clicks = Interactions.from_frame(log)
    rows = np.searchsorted(clicks.user_ids, log["user_id"].to_numpy())
    cols = np.searchsorted(clicks.item_ids, log["item_id"].to_numpy())
    return clicks, clicks.matrix, np.asarray(values)[np.lexsort((cols, rows))]


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be three positive shares that sum to 1, got {fractions!r}")
