"""What is done to the stored entries of a CSR matrix of clicks, each thing once; and the check of one handed in."""

from typing import Any

import numpy as np
import scipy.sparse as sp


def row_of(matrix: sp.csr_matrix) -> np.ndarray:
    """(nnz,) the row of each stored entry; of a CSC matrix its column."""
    return np.repeat(np.arange(matrix.indptr.size - 1), np.diff(matrix.indptr))


def random_place(matrix: sp.csr_matrix, rng: np.random.Generator) -> np.ndarray:
    """(nnz,) of each stored entry its place (0, 1, ...) in a random order of its row."""
    order = np.lexsort((rng.random(matrix.nnz), row_of(matrix)))
    place = np.empty(matrix.nnz, np.int64)
    place[order] = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))
    return place


def masked(matrix: sp.csr_matrix, keep: np.ndarray) -> sp.csr_matrix:
    """The same shape with only the stored entries at `keep` (nnz,) boolean; a CSC stays one."""
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return type(matrix)((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)


def empty(shape: tuple[int, int]) -> sp.csr_matrix:
    """A float32 CSR matrix without a click."""
    return sp.csr_matrix(shape, dtype=np.float32)


def unclicked(matrix: sp.csr_matrix, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The column at each place (0, 1, ...) among those that the row does not store, for sorted indices.

    It is the place itself plus the stored columns that come before it: those with at most
    `place` columns not stored to their left.
    """
    stored_rows, width = row_of(matrix), np.int64(matrix.shape[1] + 1)
    n_free_before = matrix.indices - (np.arange(matrix.nnz) - matrix.indptr[stored_rows])
    ordered = stored_rows * width + n_free_before
    return places + np.searchsorted(ordered, rows * width + places, side="right") - matrix.indptr[rows]


def check_sparse(matrix: Any, name: str = "the matrix") -> None:
    """Raises ValueError unless a SciPy sparse matrix is 2-D, of real numbers, and whole.

    SciPy itself trusts indices and row ends: compiled code then reads and writes wherever they point.
    """
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be 2-D (n_users, n_items), got {matrix.ndim}-D of shape {matrix.shape}")
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be a numeric matrix of real numbers, got dtype {matrix.dtype}")
    try:
        if matrix.format in ("csr", "csc", "bsr"):
            if matrix.indices.dtype.kind != "i" or matrix.indptr.dtype.kind != "i":
                raise ValueError("indices or row ends are no integers")
            # Also of a matrix whose last end is 0, which SciPy's own check passes as empty.
            if (matrix.indptr[1:] < matrix.indptr[:-1]).any():
                raise ValueError("indptr does not ascend")
            matrix.check_format(full_check=True)
        else:
            coo = matrix.tocoo()
            for places, n in zip(coo.coords, coo.shape, strict=True):
                if places.size != coo.data.size or places.min(initial=0) < 0 or places.max(initial=-1) >= n:
                    raise ValueError("indices do not fit its shape and values")
    except (ValueError, TypeError, IndexError, AttributeError) as err:
        raise ValueError(f"{name} is damaged: {err}; make it again") from err
