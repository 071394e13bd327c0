"""Validation without a held-out set: leave-one-user-out scores of histories with some clicks hidden."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.fitted import ExactFit
from infae.kernels.grams import cross_gram
from infae.linalg.tiles import SymmetricTiles, precision

# Users whose clicks are partly hidden, and the share that is: what a validation set usually holds.
_N_USERS = 2048
_SHARE = 0.2


def hide(users: Interactions, rng: np.random.Generator) -> Split:
    """A split whose validation part is a fifth of the clicks, at least one, of up to 2,048 users with two or more.

    Raises ValueError where nobody has two clicks.
    """
    able = np.flatnonzero(np.diff(users.matrix.indptr) >= 2)
    if not able.size:
        raise ValueError("no user has two clicks, of which one could be hidden; pass validation")
    some = users.select_users(np.sort(rng.permutation(able)[:_N_USERS]))
    matrix = some.matrix
    n = np.diff(matrix.indptr)
    row_of = np.repeat(np.arange(n.size), n)
    # Each user's clicks in random order: by row, and by a random key within it.
    order = np.lexsort((rng.random(row_of.size), row_of))
    place = np.empty(row_of.size, int)
    place[order] = np.arange(row_of.size) - matrix.indptr[:-1][row_of]
    hidden = place < np.maximum(1, np.rint(_SHARE * n))[row_of]

    def part(kept: np.ndarray) -> Interactions:
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row_of[kept], minlength=n.size))])
        return some.with_matrix(sp.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), matrix.shape))

    nothing = some.with_matrix(sp.csr_matrix(matrix.shape, dtype=np.float32))
    shown = part(~hidden)
    return Split(users, part(hidden), nothing, shown, shown)


@dataclass(frozen=True)
class HiddenClicks:
    r"""Scores histories of training users by the model that all *other* users fit, without a second fit.

    With A = K + ridge I, the coefficients without user u are coef - A^-1 e_u coef_u / (A^-1)_uu,
    so for any history x of u's

        scores(x) = k(x) coef - (k(x) A^-1)_u coef_u / (A^-1)_uu,    k(x) = kernel(x, anchors)

    With u's whole history it is `InfiniteAE.leave_one_out`, which echoes the clicks in its input.

    Attributes:
      fitted: to all users.
      inverse: A^-1.
    """

    fitted: ExactFit
    inverse: SymmetricTiles

    def predict(self, histories: Interactions, /) -> np.ndarray:
        """(n, n_items) scores of one history each of some of the fitted users, found by their ids."""
        coef, known = self.fitted.solution.coef, self.fitted.clicks.user_ids
        order = np.argsort(known)
        users = order[np.searchsorted(known, histories.user_ids, sorter=order)]
        with precision(coef.dtype):
            own = np.asarray(_own(coef, users, self.fitted.solution.inverse_diagonal[users]))
            columns = self._inverse_columns(users)
            rows = self.fitted.anchors.like(self.fitted.inputs(histories.matrix, coef.dtype))
            scores = np.empty(histories.shape, coef.dtype)
            for at, kernel in cross_gram(self.fitted.kernel, rows, self.fitted.anchors):
                given, weight = _scored(kernel, coef, columns[at])
                n = at.stop - at.start
                scores[at] = np.asarray(given)[:n] - np.asarray(weight)[:, None] * own[at]
        return scores

    def _inverse_columns(self, users: np.ndarray) -> np.ndarray:
        """(users, n) rows of the inverse, which is symmetric."""
        columns = np.empty((users.size, self.inverse.n), self.inverse.dtype)
        for block in range(self.inverse.n_tiles):
            at = self.inverse.rows_of(block)
            inside = np.flatnonzero((users >= at.start) & (users < at.stop))
            if inside.size:
                columns[inside] = np.asarray(self.inverse.column(block))[:, users[inside] - at.start].T
        return columns


_own = jax.jit(lambda coef, users, diagonal: jnp.take(coef, users, axis=0) / diagonal[:, None])


@jax.jit
def _scored(kernel: jax.Array, coef: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    kernel = kernel[:, : coef.shape[0]]
    return kernel @ coef, jnp.sum(kernel[: columns.shape[0]] * columns, axis=1)
