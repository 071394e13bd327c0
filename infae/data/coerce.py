"""What a caller may hand in as clicks, checked once at the boundary; and rows found again."""

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp

from infae.data.blocks import Blocks
from infae.data.interactions import Interactions, dense_matrix, item_positions
from infae.data.ops import empty
from infae.data.splits import Split


def as_clicks(clicks: Any) -> Interactions:
    """`Interactions` from themselves, a frame with user_id and item_id, or a sparse or dense matrix.

    A frame's users are in the order of their first row. Raises ValueError for anything else, and as
    `Interactions.from_frame` and `.from_matrix` do.
    """
    if isinstance(clicks, Interactions):
        return clicks
    if _is_frame(clicks):
        return Interactions.from_frame(clicks)
    _refuse_oddities(clicks)
    return Interactions.from_matrix(clicks)


def as_histories(histories: Any, item_ids: np.ndarray) -> sp.csr_matrix:
    """(n, n_items) clicks over the fitted items; the matrix of `as_history_interactions`."""
    return as_history_interactions(histories, item_ids).matrix


def as_history_interactions(histories: Any, item_ids: np.ndarray) -> Interactions:
    """What `as_clicks` takes, over the fitted items: by item id where the caller gives ids, else column by column.

    Rows are a frame's users in the order of their first row, the users of `Interactions`, and the
    rows 0, 1, 2, ... of a matrix, which may have none. Raises ValueError as `as_clicks`, and for
    items that are not fitted.
    """
    if _is_frame(histories):
        return Interactions.from_frame(histories, item_ids=item_ids)
    if isinstance(histories, Interactions):
        if np.array_equal(histories.item_ids, item_ids):
            return histories
        columns = item_positions(histories.item_ids, item_ids)
        coo = histories.matrix.tocoo()
        moved = sp.csr_matrix((coo.data, (coo.row, columns[coo.col])), shape=(coo.shape[0], item_ids.size))
        moved.sort_indices()
        return Interactions.trusted(moved, histories.user_ids, item_ids)
    _refuse_oddities(histories)
    matrix = histories if sp.issparse(histories) else dense_matrix(histories)
    if matrix.ndim == 2 and matrix.shape[1] != item_ids.size:
        turned = "; it looks transposed: users are rows" if matrix.shape[0] == item_ids.size else ""
        raise ValueError(
            f"expected one column for each of the {item_ids.size:,} fitted items, got {matrix.shape}{turned}"
        )
    if matrix.ndim == 2 and matrix.shape[0] == 0:
        return Interactions.trusted(empty(matrix.shape), np.arange(0), item_ids)
    return Interactions.from_matrix(matrix, item_ids=item_ids)


def as_split(clicks: Interactions | Blocks, validation: Any) -> Split:
    """A split to choose by on its validation part, checked against the clicks to be fitted.

    `validation` is a `Split`, or `Interactions` held out from the users of `clicks`, row by row.
    Raises ValueError for anything else, other items, other users, or no clicks to rank: none at all, or
    only ones that the histories hold too.
    """
    if isinstance(validation, Interactions):
        if isinstance(clicks, Blocks):
            raise ValueError("blocks of users are chosen by on a Split, with its own users, not on clicks row by row")
        if validation.shape != clicks.shape or not np.array_equal(validation.user_ids, clicks.user_ids):
            raise ValueError(
                f"validation clicks {validation.shape} must be of the users of X {clicks.shape}, row by row; "
                "for other users pass a Split with a validation_context"
            )
        validation = Split(clicks, as_history_interactions(validation, clicks.item_ids), clicks.emptied())
    if not isinstance(validation, Split):
        raise ValueError(f"validation must be a Split or Interactions, got {type(validation).__name__}")
    if not validation.validation.n_interactions:
        raise ValueError("the validation part has no clicks to rank; see infae.data.with_validation")
    if not set(validation.train.item_ids.tolist()) == set(clicks.item_ids.tolist()):
        raise ValueError("the validation split is over other items than X; make both from one data set")
    held_out = validation.validation.matrix
    if validation.context("validation").matrix.multiply(held_out).nnz == held_out.nnz:
        raise ValueError("every validation click is in the history too, so that none can be recommended: hold some out")
    return validation


def drop_empty_users(clicks: Interactions) -> Interactions:
    """The users with at least one click; a warning says how many others were left out."""
    n = np.diff(clicks.matrix.indptr)
    if n.all():
        return clicks
    if not n.any():
        raise ValueError(f"no clicks: all {n.size:,} users have empty rows")
    warnings.warn(
        f"{int((n == 0).sum()):,} of {n.size:,} users have no clicks and are left out of the fit", stacklevel=3
    )
    return clicks.select_users(np.flatnonzero(n))


class RowIndex:
    """Finds the rows of a binary CSR again, by a 64-bit hash and then by comparison."""

    def __init__(self, matrix: sp.csr_matrix):
        self._matrix = matrix
        # Any fixed seed serves: the hash only narrows down what is then compared entry by entry.
        self._item_hash = np.random.default_rng(0).integers(0, 2**64, matrix.shape[1], np.uint64)
        hashes = self._hashes(matrix)
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def find(self, rows: sp.csr_matrix) -> np.ndarray:
        """(n,) position of an equal row of the matrix, or -1."""
        hashes = self._hashes(rows)
        place = np.minimum(np.searchsorted(self._sorted, hashes), self._sorted.size - 1)
        found = np.where(self._sorted[place] == hashes, self._order[place], -1)
        hits = np.flatnonzero(found >= 0)
        differing = sp.csr_matrix(rows[hits] - self._matrix[found[hits]])
        differing.eliminate_zeros()
        found[hits[np.diff(differing.indptr) > 0]] = -1
        return found

    def _hashes(self, matrix: sp.csr_matrix) -> np.ndarray:
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(self._item_hash[matrix.indices], dtype=np.uint64)])
        return np.diff(running[matrix.indptr])


def _is_frame(x: Any) -> bool:
    # Without importing pandas, which takes most of a second.
    return hasattr(x, "columns") and hasattr(x, "iloc")


def _refuse_oddities(x: Any) -> None:
    if sp.issparse(x) or isinstance(x, (np.ndarray, list, tuple)) or hasattr(x, "__array__"):
        return
    raise ValueError(
        "expected Interactions, a SciPy sparse or dense (n_users, n_items) matrix, or a frame with columns "
        f"user_id and item_id, got {type(x).__name__}"
    )
