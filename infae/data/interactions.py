"""`Interactions`: who clicked what, as a CSR matrix with the caller's own ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Interactions:
    """A user x item matrix of clicks and the original ids of its rows and columns.

    Attributes:
      matrix: CSR of shape (n_users, n_items), float32, every stored value 1 (in the
        paper's own splits, how often the pair occurs; in a distilled summary's soft rows, the
        probability of the click), column indices sorted within a row, no duplicates.
      user_ids: (n_users,) ids of the rows, unique.
      item_ids: (n_items,) ids of the columns, unique.

    Build one with `Interactions.from_matrix`, `.from_pairs` or `.from_frame`; they check what
    the constructor takes on trust.
    """

    matrix: sp.csr_matrix
    user_ids: np.ndarray
    item_ids: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def n_users(self) -> int:
        return self.matrix.shape[0]

    @property
    def n_items(self) -> int:
        return self.matrix.shape[1]

    @property
    def n_interactions(self) -> int:
        return self.matrix.nnz

    def __repr__(self) -> str:
        cells = max(1, self.n_users * self.n_items)
        return (
            f"Interactions({self.n_users:,} users x {self.n_items:,} items, "
            f"{self.n_interactions:,} clicks, {100 * self.n_interactions / cells:.3g}% dense)"
        )

    @classmethod
    def from_matrix(
        cls,
        matrix: Any,
        user_ids: Sequence[Any] | np.ndarray | None = None,
        item_ids: Sequence[Any] | np.ndarray | None = None,
    ) -> Interactions:
        """From a SciPy sparse or dense (n_users, n_items) matrix; every non-zero is a click.

        Ids default to 0, 1, 2, ... Raises ValueError for an empty, non-numeric, non-finite or
        negative matrix, one that is not two-dimensional, or ids that do not fit it.
        """
        csr = _as_binary_csr(matrix)
        n_users, n_items = csr.shape
        return cls(csr, _as_ids(user_ids, n_users, "user_ids"), _as_ids(item_ids, n_items, "item_ids"))

    @classmethod
    def from_pairs(
        cls,
        users: Any,
        items: Any,
        *,
        user_ids: np.ndarray | None = None,
        item_ids: np.ndarray | None = None,
    ) -> Interactions:
        """From two equally long sequences of original ids, one entry a click.

        Rows and columns are the distinct ids in sorted order, or `user_ids` and `item_ids`
        where those are given; an id that is not among them raises ValueError. A pair that
        occurs twice is one click, and a UserWarning says how many were merged. Raises ValueError
        also where there is no pair, or where `user_ids` or `item_ids` repeat.
        """
        users, items = _id_array(users, "users"), _id_array(items, "items")
        if users.shape != items.shape:
            raise ValueError(f"users and items must be equally long, got {users.size} and {items.size}")
        if users.size == 0:
            raise ValueError("no interactions: expected at least one (user, item) pair, got none")
        user_ids, rows = _positions(users, _known_ids(user_ids, "user_ids"), "user")
        item_ids, cols = _positions(items, _known_ids(item_ids, "item_ids"), "item")
        shape = (user_ids.size, item_ids.size)
        csr = sp.csr_matrix((np.ones(rows.size, np.float32), (rows, cols)), shape=shape)
        csr.sum_duplicates()
        if repeated := rows.size - csr.nnz:
            warnings.warn(
                f"{repeated:,} of {rows.size:,} (user, item) pairs are repeats; each pair counts once",
                stacklevel=2,
            )
            csr.data[:] = 1.0
        return cls(csr, user_ids, item_ids)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        user_ids: np.ndarray | None = None,
        item_ids: np.ndarray | None = None,
    ) -> Interactions:
        """From a pandas frame with columns `user_id` and `item_id`, one row a click.

        Other columns are ignored: to count only high ratings as clicks, filter the frame first.
        Raises ValueError as `from_pairs` does, and where a column or an id is missing.
        """
        missing = [c for c in ("user_id", "item_id") if c not in frame.columns]
        if missing:
            raise ValueError(
                f"expected columns user_id and item_id, got {list(map(str, frame.columns))}; "
                f"rename the columns that hold {' and '.join(missing)}"
            )
        for column in ("user_id", "item_id"):
            if n_null := int(frame[column].isna().sum()):
                raise ValueError(f"{n_null:,} rows have no {column}; drop them or fill them in")
        users, items = frame["user_id"].to_numpy(), frame["item_id"].to_numpy()
        return cls.from_pairs(users, items, user_ids=user_ids, item_ids=item_ids)

    def to_frame(self) -> pd.DataFrame:
        """One row a click: columns `user_id`, `item_id`."""
        import pandas as pd

        coo = self.matrix.tocoo()
        return pd.DataFrame({"user_id": self.user_ids[coo.row], "item_id": self.item_ids[coo.col]})

    def select_users(self, rows: np.ndarray) -> Interactions:
        """The users at the given row positions (or under a boolean mask), over all items."""
        return Interactions(self.matrix[rows], self.user_ids[rows], self.item_ids)

    def with_matrix(self, matrix: sp.csr_matrix) -> Interactions:
        """The same users and items with other clicks; `matrix` is canonical and trusted."""
        return Interactions(matrix, self.user_ids, self.item_ids)

    def union(self, other: Interactions) -> Interactions:
        """Clicks of both, a click in both counting twice; over the same users and items."""
        if other.matrix.nnz == 0:
            return self
        both = sp.csr_matrix(self.matrix + other.matrix)
        both.sort_indices()
        return self.with_matrix(both)


def item_positions(items: Iterable[Any], item_ids: np.ndarray, name: str = "item") -> np.ndarray:
    """Column positions of original ids; ValueError names the ids that are not known."""
    return _positions(_id_array(items, f"{name}s"), item_ids, name)[1]


def _as_binary_csr(matrix: Any) -> sp.csr_matrix:
    if sp.issparse(matrix):
        # COO does not add duplicates up, which in a small integer type could wrap round to zero.
        coo = sp.coo_matrix(matrix)
    else:
        dense = np.asarray(matrix)
        if dense.dtype.kind not in "biuf":
            raise ValueError(f"expected a numeric matrix, got dtype {dense.dtype}; map ids to columns first")
        if dense.ndim != 2:
            raise ValueError(f"expected a 2-D (n_users, n_items) matrix, got {dense.ndim}-D {dense.shape}")
        coo = sp.coo_matrix(dense)
    if coo.dtype.kind not in "biuf":
        raise ValueError(f"expected a numeric matrix, got dtype {coo.dtype}")
    if 0 in coo.shape:
        raise ValueError(f"expected at least one user and one item, got shape {coo.shape}")
    if not np.isfinite(coo.data).all():
        bad = int((~np.isfinite(coo.data)).sum())
        raise ValueError(f"the matrix holds {bad:,} NaN or infinite values; a click is a finite non-zero")
    if coo.dtype.kind in "if" and coo.nnz and coo.data.min() < 0:
        raise ValueError("the matrix holds negative values; keep positive feedback only, non-zero means clicked")
    clicked = (coo.data != 0).astype(np.float32)
    csr = sp.csr_matrix((clicked, (coo.row, coo.col)), shape=coo.shape)
    csr.eliminate_zeros()
    csr.data[:] = 1.0
    return csr


def _as_ids(ids: Sequence[Any] | np.ndarray | None, n: int, name: str) -> np.ndarray:
    if ids is None:
        return np.arange(n)
    ids = _id_array(ids, name)
    if ids.shape != (n,):
        raise ValueError(f"{name} must have {n} entries, one for each row or column, got {ids.size}")
    if np.unique(ids).size != n:
        raise ValueError(f"{name} must be unique; {n - np.unique(ids).size} repeat")
    return ids


def _known_ids(ids: Sequence[Any] | np.ndarray | None, name: str) -> np.ndarray | None:
    if ids is None:
        return None
    if len(ids) == 0:
        raise ValueError(f"{name} must hold at least one id, got none")
    return _as_ids(ids, len(ids), name)


def _id_array(ids: Any, name: str) -> np.ndarray:
    """Ids as a 1-D integer or string array: what a pickle-free file can hold."""
    values = ids if hasattr(ids, "__array__") else list(ids)
    array = np.asarray(values)
    # NumPy makes strings of the numbers in a mixed list.
    if array.dtype.kind == "U" and isinstance(values, list) and not all(isinstance(x, str) for x in values):
        raise ValueError(f"{name} must be all integers or all strings, got a mixture")
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.floor(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iuU":
        if array.dtype.kind == "O" and all(isinstance(x, str) for x in array):
            return array.astype(str)
        if array.dtype.kind == "O" and all(isinstance(x, (int, np.integer)) for x in array):
            return array.astype(np.int64)
        if array.size == 0:
            return array.astype(np.int64)
        raise ValueError(f"{name} must be all integers or all strings, got dtype {array.dtype}")
    return array


def _positions(ids: np.ndarray, known: np.ndarray | None, what: str) -> tuple[np.ndarray, np.ndarray]:
    """(distinct or known ids, position of each id among them)."""
    if known is None:
        return np.unique(ids, return_inverse=True)
    known = np.asarray(known)
    if ids.size and ids.dtype.kind != known.dtype.kind and "U" in ids.dtype.kind + known.dtype.kind:
        raise ValueError(f"{what} ids are {known.dtype}, but got {ids.dtype} such as {ids[0]!r}")
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known, ids, sorter=order)
    found = order[np.minimum(place, known.size - 1)]
    wrong = known[found] != ids
    if wrong.any():
        distinct = np.unique(ids[wrong])
        shown = ", ".join(repr(x) for x in distinct[:5].tolist())
        raise ValueError(
            f"{distinct.size:,} unknown {what} id(s), such as {shown}; the model or matrix knows "
            f"{known.size:,} {what}s: drop the others, or fit again with them"
        )
    return known, found
