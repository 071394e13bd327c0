"""Noise as the paper adds it: a share of all items is flipped for each user (section 5 and appendix B.6)."""

import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.data.ops import row_of
from infae.runtime import checks

CELLS = 4_000_000
"""Random keys held at one time, as float32."""


def flip(clicks: Interactions, share: float, rng: np.random.Generator) -> Interactions:
    """For each user round(share * n_items) distinct random items: clicked becomes not clicked, and the other way round.

    A user may end with no click. Values of clicks that stay are kept; new ones are 1.

    Raises ValueError where `share` is not in [0, 1].
    """
    checks.share("share", share, least=0, most=1)
    n_users, n_items = clicks.shape
    matrix = clicks.matrix
    own = row_of(matrix) * n_items + matrix.indices
    drawn = _cells(n_users, n_items, round(share * n_items), rng)
    stays = ~np.isin(own, drawn)
    new = np.setdiff1d(drawn, own, assume_unique=True)
    cells = np.concatenate([own[stays], new])
    values = np.concatenate([matrix.data[stays], np.ones(new.size, matrix.dtype)])
    flipped = sp.csr_matrix((values, np.divmod(cells, n_items)), shape=clicks.shape)
    flipped.sort_indices()
    return clicks.with_matrix(flipped)


def _cells(n_users: int, n_items: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Row * n_items + column of n random columns in every row."""
    step = max(1, CELLS // n_items)
    drawn = [np.zeros((0, n), np.int64)]
    for start in range(0, n_users if n else 0, step):
        keys = rng.random((min(step, n_users - start), n_items), dtype=np.float32)
        columns = np.argpartition(keys, n - 1, axis=1)[:, :n]
        drawn.append(columns + np.arange(start, start + len(keys))[:, None] * n_items)
    return np.concatenate(drawn).ravel()
