"""Validation without a held-out set: leave-one-user-out scores of histories with some clicks hidden."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from infae.data import ops
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.linalg.tiles import SymmetricTiles, precision
from infae.solvers.exact import ExactFit

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
    n_hidden = np.maximum(1, np.rint(_SHARE * np.diff(some.matrix.indptr)))
    hidden = ops.random_place(some.matrix, rng) < n_hidden[ops.row_of(some.matrix)]
    shown, sought = (some.with_matrix(ops.masked(some.matrix, kept)) for kept in (~hidden, hidden))
    return Split(users, sought, some.with_matrix(ops.empty(some.shape)), shown, shown)


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
            scores = np.empty(histories.shape, coef.dtype)
            inputs = self.fitted.inputs(histories.matrix, coef.dtype)
            for at, kernel, given in self.fitted.machine.blocks(inputs):
                weight = np.asarray(_row_products(kernel, columns[at]))
                scores[at] = np.asarray(given)[: at.stop - at.start] - weight[:, None] * own[at]
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


_row_products = jax.jit(lambda kernel, columns: jnp.sum(kernel[: columns.shape[0]] * columns, axis=1))
