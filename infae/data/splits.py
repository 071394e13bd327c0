"""`Split` (train, validation, test) and the protocols that make one from a log of clicks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from infae.data.ids import distinct
from infae.data.interactions import Interactions, check_columns, frame_ids
from infae.data.ops import random_place, row_of
from infae.runtime import checks

if TYPE_CHECKING:
    import pandas as pd

Part = Literal["validation", "test"]
Shares = tuple[float, float, float]


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

    def __post_init__(self) -> None:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        contexts = {"validation_context": self.validation_context, "test_context": self.test_context}
        parts |= {name: context for name, context in contexts.items() if context is not None}
        for what in ("name", "note"):
            checks.text(what, getattr(self, what))
        for part, clicks in parts.items():
            if not isinstance(clicks, Interactions):
                raise ValueError(f"{part} must be Interactions, got {checks.shown(clicks)}")
            _check_same(part, "items", clicks.item_ids, "train", self.train.item_ids)
        for part in ("validation", "test"):
            context = f"{part}_context" if f"{part}_context" in parts else "train"
            _check_same(part, "users", parts[part].user_ids, context, parts[context].user_ids)

    def targets(self, on: Part) -> Interactions:
        """The held-out clicks of a part."""
        return self.validation if checks.choice("on", on, ("validation", "test")) == "validation" else self.test

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
        return self._known

    @cached_property
    def _known(self) -> Interactions:
        return self.train.union(self.validation)

    def __repr__(self) -> str:
        parts = ", ".join(f"{p} {getattr(self, p).n_interactions:,}" for p in ("train", "validation", "test"))
        return f"Split({self.name or 'unnamed'}: {self.train.n_users:,} x {self.train.n_items:,}; clicks {parts})"


def random_split(
    log: Interactions, *, fractions: Shares = (0.8, 0.1, 0.1), min_interactions: int = 3, seed: int = 0, name: str = ""
) -> Split:
    """Each user's clicks at random into train, validation and test (paper, section 5 and B.3).

    Users with fewer than `min_interactions` clicks are dropped; `note` says how many. Of the
    others, with n clicks, round(n * fraction) go to validation and to test and the rest to train,
    but at least one to each: three clicks give one each. Items keep their columns, also those
    that train never sees.
    """
    _check_fractions(fractions)
    rng = checks.generator(seed)
    checks.whole("min_interactions", min_interactions, 3, remedy="each part gets one click")
    clicks = np.diff(_interactions(log).matrix.indptr)
    kept = log.select_users(np.flatnonzero(clicks >= min_interactions))
    if kept.n_users == 0:
        raise ValueError(f"no user has {min_interactions} or more clicks, got at most {clicks.max(initial=0)}")
    n = np.diff(kept.matrix.indptr)
    n_validation = np.clip(np.rint(n * fractions[1]).astype(int), 1, n - 2)
    n_test = np.clip(np.rint(n * fractions[2]).astype(int), 1, n - n_validation - 1)
    place, row = random_place(kept.matrix, rng), row_of(kept.matrix)
    part = np.where(place < n_validation[row], 1, np.where(place < (n_validation + n_test)[row], 2, 0))
    n_dropped = log.n_users - kept.n_users
    note = f"{n_dropped:,} users with fewer than {min_interactions} clicks dropped." if n_dropped else ""
    return _by_label(kept, part, name, f"random {'/'.join(f'{100 * f:g}' for f in fractions)}, seed {seed}", note)


def leave_one_out(log: pd.DataFrame | Interactions, *, seed: int = 0, name: str = "") -> Split:
    """The last click of each user to test, the one before to validation, the rest to train.

    `log` is a frame with `user_id`, `item_id` and `timestamp` (ties in time keep the log's
    order), or `Interactions`, which have no time: then two clicks are drawn at random by
    `seed`. Users with fewer than 3 clicks are kept whole in train. Rows are in ascending order of
    user id where `log` is a frame, which `time_split` describes further.
    """
    rng = checks.generator(seed)
    if isinstance(log, Interactions):
        place = random_place(log.matrix, rng)
    else:
        # A repeated click counts at its last time.
        log = _by_time(log).drop_duplicates(["user_id", "item_id"], keep="last")
        recency = log.groupby("user_id", sort=False).cumcount(ascending=False).to_numpy()
        log, place = _align(log, recency)
    n = np.diff(log.matrix.indptr)[row_of(log.matrix)]
    part = np.where(n < 3, 0, np.select([place == 0, place == 1], [2, 1], 0))
    return _by_label(log, part, name, "leave-one-out")


def time_split(
    log: pd.DataFrame,
    *,
    fractions: Shares = (0.8, 0.1, 0.1),
    boundaries: tuple[float, float] | None = None,
    name: str = "",
) -> Split:
    """Global time windows: train before, validation between, test from the second boundary on.

    `log` has `user_id`, `item_id`, `timestamp`: numbers, dates and times, or texts of either, in
    which dates are written year first. Without `boundaries`, of the same kind, they are the times
    that part all clicks by `fractions`. A click repeated by a user counts at its first time. Every
    user and item of the log keeps its row and column, in ascending order of id.
    """
    _check_fractions(fractions)
    log = _by_time(log).drop_duplicates(["user_id", "item_id"], keep="first")
    at = log["timestamp"].to_numpy()
    if boundaries is None:
        cuts = np.quantile(at, np.cumsum(fractions)[:2], method="higher")
    else:
        from infae.data.times import times

        cuts = times(checks.sequence("boundaries", boundaries, "time"), "boundaries")
        if cuts.shape != (2,) or not cuts[0] <= cuts[1]:
            raise ValueError(f"boundaries must be two times in ascending order, got {boundaries!r}")
    return _by_label(*_align(log, np.searchsorted(cuts, at, side="right")), name, "global time windows")


def user_split(
    log: Interactions,
    *,
    fractions: Shares = (0.8, 0.1, 0.1),
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
    rng = checks.generator(seed)
    checks.share("fold_in", fold_in)
    least = max(2, checks.whole("min_interactions", min_interactions, 0))
    eligible = np.flatnonzero(np.diff(_interactions(log).matrix.indptr) >= least)
    n_validation, n_test = (max(1, round(eligible.size * f)) for f in fractions[1:])
    if n_validation + n_test >= eligible.size:
        raise ValueError(f"{eligible.size} users with {min_interactions} or more clicks are too few to hold out")
    drawn = rng.permutation(eligible)
    validation, test = np.sort(drawn[:n_validation]), np.sort(drawn[n_validation : n_validation + n_test])
    train = np.setdiff1d(np.arange(log.n_users), np.concatenate([validation, test]))
    halves = (_fold_in(log.select_users(rows), fold_in, rng) for rows in (validation, test))
    (context, sought), (test_context, test_sought) = halves
    name = checks.text("name", name) or f"held-out users, seed {seed}"
    return Split(log.select_users(train), sought, test_sought, context, test_context, name)


def with_validation(split: Split, *, fraction: float = 0.1, seed: int = 0) -> Split:
    """A split whose validation part is drawn out of train, for sets published without one.

    round(n * fraction) of each user's n train clicks move to validation, never a user's last.
    """
    checks.share("fraction", fraction)
    rng = checks.generator(seed)
    if not isinstance(split, Split):
        raise ValueError(f"expected a Split, got {checks.shown(split)}; random_split makes one of clicks")
    if split.validation.n_interactions:
        raise ValueError(f"{split.name or 'this split'} already has a validation part")
    train = split.train
    n = np.diff(train.matrix.indptr)
    n_moved = np.minimum(np.rint(n * fraction).astype(int), np.maximum(n - 1, 0))
    moved = random_place(train.matrix, rng) < n_moved[row_of(train.matrix)]
    note = f"{split.note} {fraction:.0%} of train held out as validation, seed {seed}.".strip()
    return replace(
        split, train=train.masked(~moved), validation=train.masked(moved), validation_context=None, note=note
    )


def _by_label(log: Interactions, labels: np.ndarray, name: str, otherwise: str, note: str = "") -> Split:
    train, validation, test = (log.masked(labels == k) for k in range(3))
    return Split(train, validation, test, name=checks.text("name", name) or otherwise, note=note)


def _fold_in(log: Interactions, fold_in: float, rng: np.random.Generator) -> tuple[Interactions, Interactions]:
    n = np.diff(log.matrix.indptr)
    n_shown = np.clip(np.rint(n * fold_in).astype(int), 1, n - 1)
    shown_first = random_place(log.matrix, rng) < n_shown[row_of(log.matrix)]
    return log.masked(shown_first), log.masked(~shown_first)


def _by_time(log: pd.DataFrame) -> pd.DataFrame:
    """The log in order of time, its times as numbers."""
    check_columns(log, ("user_id", "item_id", "timestamp"))
    from infae.data.times import times  # With pandas, which is not to be imported sooner.

    if not len(log):
        raise ValueError("no interactions: expected a log with at least one row, got none")
    if n_missing := int(log["timestamp"].isna().sum()):
        raise ValueError(f"{n_missing:,} of {len(log):,} rows have no timestamp; fill them in, or split at random")
    return log.assign(timestamp=times(log["timestamp"], "timestamp")).sort_values("timestamp", kind="stable")


def _align(log: pd.DataFrame, values: np.ndarray) -> tuple[Interactions, np.ndarray]:
    """(clicks, `values` in the order of the matrix's entries); pairs are unique, ids ascend."""
    users, items = frame_ids(log)
    (user_ids, rows), (item_ids, cols) = distinct(users, "user ids"), distinct(items, "item ids")
    matrix = sp.csr_matrix((np.ones(rows.size, np.float32), (rows, cols)), shape=(user_ids.size, item_ids.size))
    return Interactions(matrix, user_ids, item_ids), values[np.lexsort((cols, rows))]


def _check_same(part: str, what: str, ids: np.ndarray, other: str, expected: np.ndarray) -> None:
    if ids is not expected and not np.array_equal(ids, expected):
        differ = "others" if ids.size == expected.size else f"{expected.size:,}"
        raise ValueError(
            f"{part} has {ids.size:,} {what} and {other} has {differ}: they must be the same ids in the same order; "
            "give both parts' user_ids and item_ids to Interactions.from_pairs or .from_frame"
        )


def _interactions(log: Any) -> Interactions:
    if not isinstance(log, Interactions):
        raise ValueError(
            f"expected Interactions, got {checks.shown(log)}; Interactions.from_frame and .from_matrix make them"
        )
    return log


def _check_fractions(fractions: Any) -> None:
    shares = [checks.share("each of fractions", part) for part in checks.sequence("fractions", fractions, "share")]
    if len(shares) != 3 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"fractions must be three positive shares that sum to 1, got {fractions!r}")
