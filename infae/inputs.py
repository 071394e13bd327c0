"""How a click history becomes the network's input row."""

from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data import ops


def popularity(clicks: sp.csr_matrix) -> np.ndarray:
    """(n_items,) clicks of each item."""
    return np.bincount(clicks.indices, clicks.data, minlength=clicks.shape[1])


@dataclass(frozen=True, eq=False)
class InputMap:
    """x -> w x / |w x|^p, |.| Euclidean: items weighted, then long histories shortened. An empty row stays empty."""

    item_weights: np.ndarray | None  # (n_items,) w, or None for raw rows, as published
    row_power: float  # p: 0 leaves rows raw, as published, 1 makes their length 1

    @classmethod
    def from_popularity(cls, popularity: np.ndarray, popularity_power: float, row_power: float) -> Self:
        """Weights w_i = max(clicks of item i, 1) ** popularity_power; a power of 0 leaves rows raw."""
        if popularity_power == 0:
            return cls(None, row_power)
        weights = np.maximum(popularity, 1.0) ** popularity_power
        if not (np.isfinite(weights) & (weights > 0)).all():
            raise ValueError(
                f"popularity_power = {popularity_power:g} makes item weights of {weights.min():g} to "
                f"{weights.max():g}; use one nearer 0: -0.25 to -0.5 serve most sets"
            )
        return cls(weights, row_power)

    @classmethod
    def from_weights(cls, weights: Any, n_items: int, row_power: float) -> Self:
        """Of given weights, checked: ValueError unless they are positive finite numbers, one an item."""
        try:
            array = np.asarray(weights)
        except ValueError:  # Lists of unequal length.
            array = np.empty((), object)
        if array.shape != (n_items,) or array.dtype.kind not in "iuf" or not (np.isfinite(array) & (array > 0)).all():
            raise ValueError(
                f"item_weights must be {n_items:,} positive finite numbers, one an item, got {array.dtype} of shape "
                f"{array.shape}"
            )
        return cls(array.astype(float), row_power)

    def __call__(self, clicks: sp.csr_matrix, dtype: np.dtype) -> sp.csr_matrix:
        """(n, n_items) input rows from (n, n_items) clicks."""
        values = clicks.data.astype(dtype)
        if self.item_weights is not None:
            values = values * self.item_weights[clicks.indices]
        if self.row_power != 0:
            row_of = ops.row_of(clicks)
            length = np.sqrt(np.bincount(row_of, values**2, minlength=clicks.shape[0]))
            values = values / length[row_of] ** self.row_power
        return sp.csr_matrix((values.astype(dtype), clicks.indices, clicks.indptr), shape=clicks.shape)

    def dense(self, clicks: jax.Array) -> jax.Array:
        """The same for a dense array of clicks, traced or not."""
        rows = clicks if self.item_weights is None else clicks * jnp.asarray(self.item_weights, clicks.dtype)
        if self.row_power == 0:
            return rows
        sq_length = jnp.sum(rows * rows, axis=1, keepdims=True)
        # An empty row stays empty, and its derivative finite.
        return rows * jnp.where(sq_length > 0, sq_length, 1) ** (-self.row_power / 2)
