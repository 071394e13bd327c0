"""Clicks in periods by time, and the task of each: learn from what came until then, predict the next one.

A user's clicks within a period are that user's *row* of the period, as a session is. The periods
have equally many clicks. Of each row a random part is held out as validation in the period that
it is learned from, and the last part is what is to be found when it is the next period.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

import infae
from infae.data.splits import Split
from infae.data.synthetic import synthetic
from infae.runtime import checks


@dataclass(frozen=True, eq=False)
class Periods:
    """A log in time order, every click with its period and its part in it.

    Attributes:
      users, items: (n,) positions of each click's user and item, in time order.
      period: (n,) its period, from 0.
      validation: (n,) held out of training while its period is the current one.
      found: (n,) to be found while its period is the next one: the user's last clicks in it.
      user_ids, item_ids: original ids.
      name: for records.
    """

    users: np.ndarray
    items: np.ndarray
    period: np.ndarray
    validation: np.ndarray
    found: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    name: str = ""

    @property
    def n_periods(self) -> int:
        return int(self.period[-1]) + 1

    def clicks(self, keep: np.ndarray) -> infae.Interactions:
        """The clicks under a mask, over all users and items."""
        return self._clicks(keep, self.users, self.user_ids)

    def current(self, at: int) -> infae.Interactions:
        """What is learned from in period `at`: the rows of those who clicked in it, without validation."""
        return active(self.clicks((self.period == at) & ~self.validation))

    def so_far(self, at: int) -> infae.Interactions:
        """Everything up to period `at`, a row for each user, without that period's validation clicks."""
        return active(self._history(at))

    def task(self, at: int) -> Split:
        """What models of period `at` are chosen by (its validation clicks) and tested on (the next period's).

        `train`, which validation is scored from, is `so_far`, and test is scored from all
        clicks up to the period and the first ones of the next. All parts have a row for every user of the log.
        """
        if not 0 <= at < self.n_periods - 1:
            raise ValueError(f"expected a period from 0 to {self.n_periods - 2}, which has a next one, got {at}")
        following = self.period == at + 1
        return Split(
            train=self._history(at),
            validation=self.clicks((self.period == at) & self.validation),
            test=self.clicks(following & self.found),
            test_context=self.clicks((self.period <= at) | (following & ~self.found)),
            name=f"{self.name}, period {at + 1}",
        )

    def own(self, at: int) -> Split:
        """Period `at` alone: its rows and their validation clicks, which a summary of it is chosen by."""
        train = self.current(at)
        rows = np.searchsorted(self.user_ids, train.user_ids)
        validation = self.clicks((self.period == at) & self.validation).select_users(rows)
        return Split(train, validation, train.emptied(), name=f"{self.name}, period {at + 1} alone")

    def sessions(self) -> Split:
        """All rows of all periods, for the record: what is found as test, validation, and the rest."""
        row = np.unique(self.period * self.user_ids.size + self.users, return_inverse=True)[1]
        ids = np.arange(int(row.max()) + 1)
        labels = np.where(self.found, 2, np.where(self.validation, 1, 0))
        train, validation, test = (self._clicks(labels == label, row, ids) for label in range(3))
        return Split(train, validation, test, name=self.name)

    def _clicks(self, keep: np.ndarray, rows: np.ndarray, row_ids: np.ndarray) -> infae.Interactions:
        ones, shape = np.ones(int(keep.sum()), np.float32), (row_ids.size, self.item_ids.size)
        matrix = sp.csr_matrix((ones, (rows[keep], self.items[keep])), shape=shape)
        matrix.sort_indices()
        return infae.Interactions(matrix, row_ids, self.item_ids)

    def _history(self, at: int) -> infae.Interactions:
        return self.clicks((self.period < at) | ((self.period == at) & ~self.validation))


def in_periods(
    log: pd.DataFrame, n_periods: int, *, shown: float = 0.8, held_out: float = 0.1, name: str = ""
) -> Periods:
    """Part a log into periods of equally many clicks.

    A click repeated by a user counts at its first time. Equal times are ordered by `time_rank`
    where the log has it (a place in the user's own order), and then as they are in the log.

    Args:
      log: a frame with `user_id`, `item_id` and `timestamp`, as `infae.data.datasets.load_log` returns.
      n_periods: at least 2.
      shown: share of a user's clicks in the next period, the first ones, that the prediction is
        made from, besides everything earlier. At least one is to be found. Users without a
        past are shown at least one, and those who then have none left are not tested; at 0
        nobody without a past is.
      held_out: share of a row's clicks that are its validation, drawn at random, never all of them.
      name: for records.

    Raises ValueError for other shares, too few clicks, missing columns or times.
    """
    _check(log, n_periods, shown, held_out)
    by = ["timestamp", *(["time_rank"] if "time_rank" in log else [])]
    log = log.sort_values(by, kind="stable").drop_duplicates(["user_id", "item_id"], keep="first")
    user_ids, users = np.unique(log["user_id"].to_numpy(), return_inverse=True)
    item_ids, items = np.unique(log["item_id"].to_numpy(), return_inverse=True)
    n = len(log)
    if n < n_periods:
        raise ValueError(f"{n:,} clicks are too few for {n_periods} periods")
    period = np.arange(n) * n_periods // n
    row = period * user_ids.size + users
    size, place = _places(row, np.arange(n))
    first = pd.Series(period).groupby(users).transform("min")
    newcomer = (first == period).to_numpy(int)
    n_shown = np.clip(np.rint(shown * size).astype(int), newcomer, np.maximum(size - 1, newcomer))
    if shown == 0:
        n_shown = np.where(newcomer, size, n_shown)
    drawn = _places(row, np.random.default_rng(0).permutation(n))[1]
    validation = drawn < np.minimum(np.rint(held_out * size), size - 1)
    return Periods(users, items, period, validation, place >= n_shown, user_ids, item_ids, name)


def stacked(first: infae.Interactions, second: infae.Interactions) -> infae.Interactions:
    """The rows of both, as other users each; the items are the same."""
    if not np.array_equal(first.item_ids, second.item_ids):
        raise ValueError(f"rows over other items cannot be stacked: {first.n_items:,} and {second.n_items:,}")
    matrix = sp.csr_matrix(sp.vstack([first.matrix, second.matrix]))
    return infae.Interactions(matrix, np.arange(matrix.shape[0]), first.item_ids)


def drifting_log(n_users: int = 400, n_items: int = 160, *, mean_clicks: float = 20) -> pd.DataFrame:
    """A made log: the users of `infae.data.synthetic`, whose taste groups come into fashion one after another.

    The whole is one turn of a wheel: a user of group g of 8 comes at time g / 8 + uniform(0, 1/2),
    modulo 1, so that at any time users of half the groups come, and makes the first half of the
    clicks. The others come after uniform(0, 1/2) more, where that is before the end; those who
    would not come back make all of them at once. Times are in seconds, of which a turn has 1e7, a click taking one.
    """
    made = synthetic(n_users, n_items, n_groups=8, mean_clicks=mean_clicks, seed=0)
    rng = np.random.default_rng(1)
    arrival = (made.user_group / 8 + rng.random(n_users) / 2) % 1
    again = arrival + rng.random(n_users) / 2
    coo = made.interactions.matrix.tocoo()
    size, place = _places(coo.row, rng.permutation(coo.nnz))
    late = (place >= size / 2) & (again < 1)[coo.row]
    time = (1e7 * np.where(late, again[coo.row], arrival[coo.row])).astype(np.int64) + place
    return pd.DataFrame({"user_id": coo.row.astype(np.int64), "item_id": coo.col.astype(np.int64), "timestamp": time})


def _places(row: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every entry the number of entries of its row, and its place (0, 1, ...) among them by `order`."""
    rows = pd.Series(order).groupby(row)
    return rows.transform("size").to_numpy(), rows.rank().to_numpy(np.int64) - 1


def active(clicks: infae.Interactions) -> infae.Interactions:
    """Without users who have no click."""
    return clicks.select_users(np.diff(clicks.matrix.indptr) > 0)


def _check(log: pd.DataFrame, n_periods: int, shown: float, held_out: float) -> None:
    if missing := [c for c in ("user_id", "item_id", "timestamp") if c not in log]:
        raise ValueError(f"periods go by time: the log has no column {', '.join(missing)}")
    if n_missing := int(log["timestamp"].isna().sum()):
        raise ValueError(f"{n_missing:,} of {len(log):,} rows have no timestamp; fill them in, never drop them")
    checks.whole("n_periods", n_periods, 2, remedy="one to learn from and one to predict")
    checks.share("shown", shown, least=0)
    checks.share("held_out", held_out)
