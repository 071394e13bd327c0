"""Rows of history models: a user is what they did with other items, and not an id.

    fields = item_fields(n_items)
    rows = Users(past, clicked, labels).drawn(fields, n_rows=100_000, seed=0)    # what `train.fit` takes

A row has the field `history`, a bag of at most `LENGTH` of the items in the user's past, its own item left out, and
`item`. Users may be synthetic: past, shares and labels are real-valued.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from experiments.ctr.fields import Field, Fields, scaled_bags
from experiments.ctr.rows import Rows
from infae.data.ops import row_of
from infae.runtime import checks

LENGTH = 50
"""Of a history; of longer ones a random part is read."""


def item_fields(n_items: int) -> Fields:
    """`history` and `item`, of the items 0, 1, ..., n_items - 1."""
    values = tuple(range(n_items))
    return Fields((Field("history", "bag", values), Field("item", "category", values)))


@dataclass(frozen=True, eq=False)
class Users:
    """What users did, each (n_users, n_items) CSR.

    Attributes:
      past: what a history says of an item, such as 1 for a click, or -1 for what was disliked.
      asked: how often an item is asked for, relative to all others of all users.
      labels: of what is asked for, at the places of `asked`, in [0, 1].
      negatives: whether as many items, drawn uniformly, are asked for with label 0; one of them weighs 1 less what
        `asked` says of it.
    """

    past: sp.csr_matrix
    asked: sp.csr_matrix
    labels: np.ndarray
    negatives: bool = False

    def drawn(self, fields: Fields, n_rows: int, seed: int) -> Callable[[int], Rows]:
        """Of an epoch so many rows, drawn with replacement.

        Raises ValueError where nothing is asked for, or for fewer rows than 1, or 2 with `negatives`.
        """
        checks.whole("n_rows", n_rows, 1 + self.negatives)
        ends = np.cumsum(self.asked.data, dtype=np.float64)
        if not (ends.size and ends[-1] > 0):
            raise ValueError("these users are asked for no item")
        user_of = row_of(self.asked)

        def draw(epoch: int) -> Rows:
            rng = np.random.default_rng([checks.seed("seed", seed), 2, epoch])
            n = n_rows - n_rows // 2 * self.negatives
            at = np.minimum(np.searchsorted(ends, rng.random(n) * ends[-1], side="right"), ends.size - 1)
            users, items, labels = user_of[at], self.asked.indices[at], self.labels[at]
            weights = np.ones(n, np.float32)
            if self.negatives:
                of = users[: n_rows - n]
                others = rng.integers(0, self.asked.shape[1], n_rows - n)
                clicked = np.asarray(self.asked[of, others]).ravel()
                users, items = np.concatenate([users, of]), np.concatenate([items, others])
                labels = np.concatenate([labels, np.zeros(n_rows - n)])
                weights = np.concatenate([weights, 1 - np.clip(clicked, 0, 1)])
            return history_rows(fields, self.past, users, items, labels, rng, weights)

        return draw


def history_rows(
    fields: Fields, past: sp.csr_matrix, users: np.ndarray, items: np.ndarray, labels: np.ndarray,
    rng: np.random.Generator, weights: np.ndarray | None = None,
) -> Rows:  # fmt: skip
    """(n,) rows of a user's past, less the item that the row asks for, and the item; `rng` draws what is read."""
    n_items = past.shape[1]
    order = np.lexsort((rng.random(past.nnz), row_of(past)))
    columns, values = past.indices[order], past.data[order]
    counts = np.diff(past.indptr)[users][:, None]
    first = (rng.random((len(users), 1)) * counts).astype(np.int32)
    # One more than are read, for the item itself may be among them. 100,000 histories are 5 million places: few passes.
    places = np.arange(min(LENGTH + 1, int(counts.max(initial=0))), dtype=np.int32)
    inside = places < counts
    at = first + places
    at -= np.where(at < counts, 0, counts)
    at += past.indptr[users][:, None]
    at[~inside] = 0
    read = columns[at] if past.nnz else at
    keep = inside & (read != items[:, None])
    if len(places) > LENGTH:
        keep[:, LENGTH] &= ~keep[:, :LENGTH].all(axis=1)
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    bags = sp.csr_matrix((values[at[keep]], read[keep] + 1, indptr), shape=(len(users), n_items + 1))
    return Rows(fields, (scaled_bags(bags), items + 1), labels, weights)
