"""How a click history becomes the network's input row."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp


def popularity(clicks: sp.csr_matrix) -> np.ndarray:
    """(n_items,) clicks of each item."""
    return np.bincount(clicks.indices, clicks.data, minlength=clicks.shape[1])


@dataclass(frozen=True, eq=False)
class InputMap:
    """x -> w x / |w x|^p: items weighted, then long histories shortened.

    Attributes:
      item_weights: (n_items,) w, or None for raw rows, as published.
      row_power: p, of the Euclidean length; 0 leaves rows raw, as published, 1 makes their length 1.
        An empty row stays empty.
    """

    item_weights: np.ndarray | None
    row_power: float

    @classmethod
    def from_popularity(cls, popularity: np.ndarray, popularity_power: float, row_power: float) -> InputMap:
        """Weights w_i = max(clicks of item i, 1) ** popularity_power; a power of 0 leaves rows raw."""
        if popularity_power == 0:
            return cls(None, row_power)
        return cls(np.maximum(popularity, 1.0) ** popularity_power, row_power)

    def __call__(self, clicks: sp.csr_matrix, dtype: np.dtype) -> sp.csr_matrix:
        """(n, n_items) input rows from (n, n_items) clicks."""
        values = clicks.data.astype(dtype)
        if self.item_weights is not None:
            values = values * self.item_weights[clicks.indices]
        if self.row_power != 0:
            row_of = np.repeat(np.arange(clicks.shape[0]), np.diff(clicks.indptr))
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
