"""`Interactions`: who clicked what, as a CSR matrix with the caller's own ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from infae.data import ops
from infae.data.ids import Values, distinct, known_ids, positions, read_ids, unique_ids
from infae.runtime.checks import shown

if TYPE_CHECKING:
    import pandas as pd


Ids = Sequence[Any] | np.ndarray


@dataclass(frozen=True, eq=False)
class Interactions:
    """A user x item matrix of clicks and the original ids of its rows and columns.

    Attributes:
      matrix: CSR of shape (n_users, n_items), float32, every stored value 1 (in the
        paper's own splits, how often the pair occurs; in a distilled summary's soft rows, the
        probability of the click), column indices sorted within a row, no duplicates.
      user_ids: (n_users,) ids of the rows, unique.
      item_ids: (n_items,) ids of the columns, unique.

    `Interactions.from_matrix`, `.from_pairs` and `.from_frame` make every click 1. The
    constructor keeps the values, and raises ValueError for a damaged matrix, for values that are
    negative or no finite real numbers, and for ids that repeat or do not fit the matrix.
    """

    matrix: sp.csr_matrix
    user_ids: np.ndarray
    item_ids: np.ndarray

    def __post_init__(self) -> None:
        if not sp.issparse(self.matrix):
            raise ValueError(f"matrix must be a SciPy CSR, got {shown(self.matrix)}; see Interactions.from_matrix")
        ops.check_sparse(self.matrix)
        matrix = self.matrix
        if not isinstance(matrix, sp.csr_matrix) or matrix.dtype != np.float32:
            matrix = sp.csr_matrix(matrix, dtype=np.float32)
        _check_values(matrix.data)
        if not (matrix.has_canonical_format and matrix.data.all()):
            matrix = matrix.copy()
            matrix.sum_duplicates()
            matrix.eliminate_zeros()
        self._set(matrix, *_ids_of(matrix, self.user_ids, self.item_ids))

    @classmethod
    def trusted(cls, matrix: sp.csr_matrix, user_ids: np.ndarray, item_ids: np.ndarray) -> Interactions:
        """Without the checks, which take a pass over all clicks: for parts of what was checked."""
        clicks = object.__new__(cls)
        clicks._set(matrix, user_ids, item_ids)
        return clicks

    def _set(self, matrix: sp.csr_matrix, user_ids: np.ndarray, item_ids: np.ndarray) -> None:
        for name, value in (("matrix", matrix), ("user_ids", user_ids), ("item_ids", item_ids)):
            object.__setattr__(self, name, value)

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
    def from_matrix(cls, matrix: Any, user_ids: Ids | None = None, item_ids: Ids | None = None) -> Interactions:
        """From a SciPy sparse or dense (n_users, n_items) matrix; every non-zero is a click.

        Ids default to 0, 1, 2, ... Raises ValueError for an empty, non-numeric, non-finite or
        negative matrix, one that is not two-dimensional, or ids that do not fit it.
        """
        csr = _as_binary_csr(matrix)
        return cls.trusted(csr, *_ids_of(csr, user_ids, item_ids))

    @classmethod
    def from_pairs(
        cls, users: Any, items: Any, *, user_ids: Ids | None = None, item_ids: Ids | None = None
    ) -> Interactions:
        """From two equally long sequences of original ids, one entry a click.

        Rows are the distinct users in the order of their first appearance, columns the distinct
        items in ascending order; or they are `user_ids` and `item_ids` where those are given, and
        an id that is not among them raises ValueError. A pair that occurs twice is one click, and
        a UserWarning says how many were merged. Raises ValueError also where there is no pair, or
        where `user_ids` or `item_ids` repeat.
        """
        users, items = read_ids(users, "users"), read_ids(items, "items")
        if len(users) != len(items):
            raise ValueError(f"users and items must be equally long, got {len(users)} and {len(items)}")
        if not len(users):
            raise ValueError("no interactions: expected at least one (user, item) pair, got none")
        user_ids, rows = _placed(users, user_ids, "user")
        item_ids, cols = _placed(items, item_ids, "item")
        shape = (user_ids.size, item_ids.size)
        csr = sp.csr_matrix((np.ones(rows.size, np.float32), (rows, cols)), shape=shape)
        csr.sum_duplicates()
        if repeated := rows.size - csr.nnz:
            warnings.warn(
                f"{repeated:,} of {rows.size:,} (user, item) pairs are repeats; each pair counts once", stacklevel=2
            )
            csr.data[:] = 1.0
        return cls.trusted(csr, user_ids, item_ids)

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, user_ids: Ids | None = None, item_ids: Ids | None = None
    ) -> Interactions:
        """From a pandas frame with columns `user_id` and `item_id`, one row a click.

        Users are in the order of their first row and items in ascending order, as in `from_pairs`.
        Other columns are ignored: to count only high ratings as clicks, filter the frame first.
        Raises ValueError as `from_pairs` does, and where a column or an id is missing.
        """
        users, items = frame_ids(frame)
        return cls.from_pairs(users, items, user_ids=user_ids, item_ids=item_ids)

    def to_frame(self) -> pd.DataFrame:
        """One row a click: columns `user_id`, `item_id`."""
        import pandas as pd

        coo = self.matrix.tocoo()
        return pd.DataFrame({"user_id": self.user_ids[coo.row], "item_id": self.item_ids[coo.col]})

    def select_users(self, rows: np.ndarray) -> Interactions:
        """The users at the given row positions (or under a boolean mask), over all items."""
        try:
            at = np.asarray(rows)
        except ValueError:  # Lists of unequal length.
            at = np.empty((), object)
        if at.ndim == 1 and (at.size == 0 or at.dtype.kind in "iu"):
            at = at.astype(np.int64)
            fits = at.min(initial=0) >= 0 and at.max(initial=-1) < self.n_users
        else:
            fits = at.dtype.kind == "b" and at.shape == (self.n_users,)
        if not fits:
            raise ValueError(
                f"rows must be positions below {self.n_users:,}, or True or False for each user, got {shown(rows)}"
            )
        return self.trusted(self.matrix[at], self.user_ids[at], self.item_ids)

    def with_matrix(self, matrix: sp.csr_matrix) -> Interactions:
        """The same users and items with other clicks; `matrix` is canonical and trusted."""
        return self.trusted(matrix, self.user_ids, self.item_ids)

    def masked(self, keep: np.ndarray) -> Interactions:
        """The same users and items with only the stored clicks at `keep` (n_interactions,) boolean."""
        if getattr(keep, "dtype", np.dtype("O")).kind != "b" or keep.shape != (self.n_interactions,):
            raise ValueError(
                f"keep must be an array of {self.n_interactions:,} True or False, one a click, got {shown(keep)}"
            )
        return self.with_matrix(ops.masked(self.matrix, keep))

    def emptied(self) -> Interactions:
        """The same users and items without a click."""
        return self.with_matrix(ops.empty(self.shape))

    def union(self, other: Interactions) -> Interactions:
        """Clicks of both, a click in both counting twice; over the same users and items."""
        if other.matrix.nnz == 0:
            return self
        both = sp.csr_matrix(self.matrix + other.matrix)
        both.sort_indices()
        return self.with_matrix(both)


def check_columns(frame: Any, needed: Sequence[str]) -> None:
    """Raises ValueError unless it is a frame that has each of these columns once."""
    if not hasattr(frame, "columns"):
        raise ValueError(f"expected a frame with columns {' and '.join(needed)}, got {shown(frame)}")
    names = list(frame.columns)
    if wrong := [column for column in needed if names.count(column) != 1]:
        raise ValueError(
            f"expected columns {' and '.join(needed)}, each once, got {list(map(str, names))}; "
            f"rename the columns that hold {' and '.join(wrong)}"
        )


def frame_ids(frame: pd.DataFrame) -> tuple[Values, Values]:
    """The users and the items of a frame's rows; ValueError where a column or an id is missing."""
    columns = ("user_id", "item_id")
    check_columns(frame, columns)
    for column in columns:
        if n_null := int(frame[column].isna().sum()):
            raise ValueError(f"{n_null:,} rows have no {column}; drop them or fill them in")
    return read_ids(frame["user_id"].to_numpy(), "users"), read_ids(frame["item_id"].to_numpy(), "items")


def item_positions(items: Iterable[Any], item_ids: np.ndarray, name: str = "item") -> np.ndarray:
    """Column positions of original ids; ValueError names the ids that are not known."""
    return positions(read_ids(items, f"{name}s"), item_ids, name)


def _ids_of(matrix: sp.csr_matrix, user_ids: Any, item_ids: Any) -> tuple[np.ndarray, np.ndarray]:
    n_users, n_items = matrix.shape
    return unique_ids(user_ids, n_users, "user_ids"), unique_ids(item_ids, n_items, "item_ids")


def _as_binary_csr(matrix: Any) -> sp.csr_matrix:
    if sp.issparse(matrix):
        ops.check_sparse(matrix)
    else:
        matrix = dense_matrix(matrix)
    # COO does not add duplicates up, which in a small integer type could wrap round to zero.
    coo = sp.coo_matrix(matrix)
    if 0 in coo.shape:
        raise ValueError(f"expected at least one user and one item, got shape {coo.shape}")
    _check_values(coo.data)
    clicked = (coo.data != 0).astype(np.float32)
    csr = sp.csr_matrix((clicked, (coo.row, coo.col)), shape=coo.shape)
    csr.eliminate_zeros()
    csr.data[:] = 1.0
    return csr


def dense_matrix(matrix: Any, name: str = "the matrix") -> np.ndarray:
    """A dense matrix of real numbers that a caller hands in; ValueError for anything else."""
    if np.ma.isMaskedArray(matrix):
        raise ValueError(f"{name}: expected plain numbers, got a masked array; fill it in, say with matrix.filled(0)")
    try:
        dense = np.asarray(matrix)
    except (ValueError, TypeError) as err:
        raise ValueError(f"{name}: expected a 2-D (n_users, n_items) matrix: {err}") from err
    if dense.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected a numeric matrix, got dtype {dense.dtype}; map ids to columns first")
    if dense.ndim != 2:
        raise ValueError(f"{name}: expected a 2-D (n_users, n_items) matrix, got {dense.ndim}-D {dense.shape}")
    return dense


def _check_values(values: np.ndarray) -> None:
    if bad := values.size - int(np.isfinite(values).sum()):
        raise ValueError(f"the matrix holds {bad:,} NaN or infinite values; a click is a finite non-zero")
    if values.dtype.kind in "if" and values.min(initial=0) < 0:
        raise ValueError("the matrix holds negative values; keep positive feedback only, non-zero means clicked")


def _placed(values: Values, ids: Ids | None, what: str) -> tuple[np.ndarray, np.ndarray]:
    """(ids, position of each value among them): the given ones, or those that occur."""
    if ids is None:
        return distinct(values, f"{what} ids", first_seen=what == "user")
    known = known_ids(ids, f"{what}_ids")
    return known, positions(values, known, what)
