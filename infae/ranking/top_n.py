"""The n best items of each user, in the caller's ids, without holding all users x items."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.interactions import item_positions
from infae.linalg.tiles import precision
from infae.ranking import metrics
from infae.ranking.evaluate import batch_size


def recommend(
    score: Callable[[sp.csr_matrix], np.ndarray],
    histories: sp.csr_matrix,
    item_ids: np.ndarray,
    *,
    n: int,
    exclude_seen: bool,
    items: Iterable[Any] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`InfiniteAE.recommend` for any scoring function; see there."""
    columns = np.arange(item_ids.size)
    if items is not None:
        columns = np.unique(item_positions(items, item_ids))
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= columns.size:
        raise ValueError(f"n must be a whole number from 1 to the {columns.size:,} items to choose from, got {n!r}")
    n_users = histories.shape[0]
    best = np.empty((n_users, n), np.int64)
    best_scores: np.ndarray | None = None
    step = batch_size(item_ids.size)
    for start in range(0, n_users, step):
        shown = histories[start : start + step]
        scores = score(shown)
        with precision(scores.dtype):
            kept = metrics.mask(scores, shown) if exclude_seen else jnp.asarray(scores)
            values, places = _top(kept[:, columns] if items is not None else kept, n)
        if best_scores is None:
            best_scores = np.empty((n_users, n), scores.dtype)
        best_scores[start : start + step] = values
        best[start : start + step] = places
    if best_scores is None:
        return np.empty((0, n), item_ids.dtype), np.empty((0, n), np.float32)
    chosen = item_ids[columns[best]]
    if chosen.dtype.kind == "u":
        chosen = chosen.astype(np.int64)  # which can hold the -1 of no item
    nothing_left = np.isneginf(best_scores)
    chosen[nothing_left] = "" if chosen.dtype.kind == "U" else -1
    return chosen, best_scores


@partial(jax.jit, static_argnums=1)
def _top(scores: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    # Of equal scores top_k puts the lower position first, but 0 before -0.
    values, places = jax.lax.top_k(jnp.where(scores == 0, 0, scores), n)
    return values, places
