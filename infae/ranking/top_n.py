"""The n best items of each user, in the caller's ids, without holding all users x items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions, item_positions
from infae.linalg.tiles import precision
from infae.machine import batches
from infae.ranking import metrics
from infae.runtime import checks

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Recommendations:
    """The n best items of each user, best first; unpacks into `items, scores`.

    Attributes:
      items: (n_users, n) item ids.
      scores: (n_users, n) their scores.
      user_ids: (n_users,) whose row it is: the ids in the histories, in the order in which each first
        appears there; 0, 1, 2, ... for a matrix.
    """

    items: np.ndarray
    scores: np.ndarray
    user_ids: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.items, self.scores))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, part: int) -> np.ndarray:
        return (self.items, self.scores)[part]

    def to_frame(self) -> pd.DataFrame:
        """One row a recommendation: `user_id`, `rank` (from 1), `item_id`, `score`; places left over are left out."""
        import pandas as pd

        n_users, n = self.items.shape
        frame = pd.DataFrame(
            {
                "user_id": np.repeat(self.user_ids, n),
                "rank": np.tile(np.arange(1, n + 1), n_users),
                "item_id": self.items.ravel(),
                "score": self.scores.ravel(),
            }
        )
        return frame[~np.isneginf(self.scores.ravel())].reset_index(drop=True)


def recommend(
    score: Callable[[sp.csr_matrix], np.ndarray],
    histories: Interactions,
    *,
    n: int,
    exclude_seen: bool,
    items: Iterable[Any] | None,
) -> Recommendations:
    """`InfiniteAE.recommend` for any scoring function; see there."""
    item_ids, matrix = histories.item_ids, histories.matrix
    columns = np.arange(item_ids.size) if items is None else np.unique(item_positions(items, item_ids))
    n = checks.whole("n", n, 1, columns.size, "these are the items to choose from")
    exclude_seen = checks.flag("exclude_seen", exclude_seen)
    best = np.empty((histories.n_users, n), np.int64)
    best_scores = np.empty((histories.n_users, n), np.float32)
    for at in batches(*matrix.shape):
        scores = score(matrix[at])
        with precision(scores.dtype):
            kept = metrics.mask(scores, matrix[at]) if exclude_seen else jnp.asarray(scores)
            values, places = _top(kept if items is None else kept[:, columns], n)
        if best_scores.dtype != values.dtype:
            best_scores = best_scores.astype(values.dtype)
        best_scores[at], best[at] = values, places
    chosen = item_ids[columns[best]]
    nothing_left = np.isneginf(best_scores)
    if chosen.dtype.kind == "u":
        chosen = chosen.astype(np.int64)  # which can hold the -1 of no item
    chosen[nothing_left] = "" if chosen.dtype.kind == "U" else -1
    return Recommendations(chosen, best_scores, histories.user_ids)


@partial(jax.jit, static_argnums=1)
def _top(scores: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    # Of equal scores top_k puts the lower position first, but 0 before -0.
    values, places = jax.lax.top_k(jnp.where(scores == 0, 0, scores), n)
    return values, places
