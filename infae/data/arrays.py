"""Readers of array files: the paper's own splits, SciPy matrices and Parquet tables."""

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from infae.data._tables import COLUMNS, FilePath, malformed, numbers, seekable
from infae.data.ids import id_array, read_ids
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.data.times import seconds
from infae.storage import npz


def read_paper(hdf5_path: FilePath, npz_path: FilePath, *, name: str = "") -> Split:
    """The split files of "Infinite Recommendation Networks" (2022).

    Args:
      hdf5_path: `total_data.hdf5` with data sets `user` and `item`, one entry an interaction.
      npz_path: `index.npz` whose `data` labels each: 0 train, 1 validation, 2 test, -1 dropped.
      name: for `Split.name`.

    Returns:
      A split over the users and items that occur in a row that was not dropped, in ascending
      order of id. A pair that is repeated within a part has its count as its value, as in the
      papers' code; one that is in several parts stays in each; `note` tells how many.
      DataFormatError where the files do not fit.
    """
    users, items = _read_columns(hdf5_path, ("user", "item"))
    labels = _read_labels(npz_path)
    if labels.size != users.size:
        remedy = "the two files are not of one data set and version"
        raise malformed(npz_path, f"{users.size:,} labels, one for each row of {hdf5_path}", f"{labels.size:,}", remedy)
    kept = labels >= 0
    user_ids, rows = np.unique(users[kept], return_inverse=True)
    item_ids, cols = np.unique(items[kept], return_inverse=True)
    labels, shape = labels[kept], (user_ids.size, item_ids.size)
    # The papers' code adds repeats up, and its published figures come from such inputs and targets.
    placed = [(rows[labels == k], cols[labels == k]) for k in range(3)]
    matrices = [sp.csr_matrix((np.ones(at[0].size, np.float32), at), shape=shape) for at in placed]
    train, validation, test = (Interactions(matrix, user_ids, item_ids) for matrix in matrices)
    return Split(train, validation, test, name=name or "the paper's own split", note=_repeats(matrices, labels.size))


def read_scipy_npz(path: FilePath) -> Interactions:
    """A matrix saved by `scipy.sparse.save_npz`, users in rows; ids are positions. Never unpickles."""
    file = seekable(path)
    try:
        npz.check_archive(file)
        return Interactions.from_matrix(sp.load_npz(file))
    except npz.UNREADABLE as err:
        raise malformed(path, "a matrix of clicks saved by scipy.sparse.save_npz", str(err)) from err


def read_parquet(path: FilePath) -> pd.DataFrame:
    """A Parquet log with `user_id`, `item_id` and maybe `rating`, `timestamp`; strings stay strings.

    A timestamp may be a date and time. Raises ImportError where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as err:
        raise ImportError("reading Parquet needs pyarrow: pip install 'infae[parquet]'") from err
    file = seekable(path)
    try:
        names = pq.read_schema(file).names
        frame = pq.read_table(file, columns=[c for c in COLUMNS if c in names]).to_pandas()
    except (pa.ArrowInvalid, OSError) as err:
        raise malformed(path, "a Parquet file", str(err)) from err
    if missing := [c for c in COLUMNS[:2] if c not in names]:
        raise malformed(path, f"columns {' and '.join(missing)}", f"{names}", "rename the columns")
    return pd.DataFrame({n: _typed(frame[n], path) for n in COLUMNS if n in names})


def _read_columns(path: FilePath, names: tuple[str, ...]) -> list[np.ndarray]:
    file = seekable(path)
    try:
        with h5py.File(file, "r") as sets:
            if missing := [n for n in names if not isinstance(sets.get(n), h5py.Dataset)]:
                raise malformed(path, f"data sets {' and '.join(names)}", f"no {' and no '.join(missing)}")
            columns = [_integers(sets[n][()], f"{path}, data set {n!r}") for n in names]
    except OSError as err:
        raise malformed(path, "an HDF5 file", str(err), "fetch it again") from err
    if len({c.size for c in columns}) > 1:
        raise malformed(path, f"{' and '.join(names)} of one length", f"{[c.size for c in columns]}")
    return columns


def _read_labels(path: FilePath) -> np.ndarray:
    file = seekable(path)
    try:
        npz.check_archive(file)
        with np.load(file, allow_pickle=False) as arrays:
            labels = arrays["data"]
    except npz.UNREADABLE as err:
        raise malformed(path, "an .npz file with the key 'data'", str(err), "fetch it again") from err
    labels = _integers(labels, f"{path}, key 'data'")
    if (wrong := (labels < -1) | (labels > 2)).any():
        row = int(wrong.argmax())
        raise malformed(f"{path}, row {row}", "a label -1, 0, 1 or 2", str(labels[row]))
    if not (labels == 0).any():
        raise malformed(path, "rows with label 0 (train)", "none")
    return labels


def _integers(array: np.ndarray, where: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise malformed(where, "one-dimensional integers", f"{array.dtype} of shape {array.shape}")
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.floor(array))).all():
        raise malformed(where, "whole numbers", "NaN or fractions")
    try:
        return id_array(array, "the numbers")
    except ValueError as err:
        raise malformed(where, "whole numbers that fit", str(err)) from err


def _repeats(matrices: list[sp.csr_matrix], n_rows: int) -> str:
    within = n_rows - sum(m.nnz for m in matrices)
    across = int((sum((m.sign() for m in matrices[1:]), start=matrices[0].sign()).data > 1).sum())
    added_up = f"{within:,} repeats of a pair within a part are added up, as the papers' code does." if within else ""
    shared = f"{across:,} pairs are in more than one part and stay in each." if across else ""
    return f"{added_up} {shared}".strip()


def _typed(column: pd.Series, path: FilePath) -> pd.Series:
    """A Parquet column brought to a log's types."""
    if column.name in COLUMNS[:2]:
        return _typed_ids(column, path)
    if pd.api.types.is_datetime64_any_dtype(column):
        column = seconds(column)
    column = numbers(column, lambda row: f"{path}, row {row}")
    return column.astype(np.float64) if column.name == "rating" else column


def _typed_ids(column: pd.Series, path: FilePath) -> pd.Series:
    where = f"{path}, column {column.name}"
    if n_missing := int(column.isna().sum()):
        raise malformed(where, "an id in every row", f"{n_missing:,} rows without", "drop them or fill them in")
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    try:
        return pd.Series(read_ids(column.to_numpy(), str(column.name)), column.index)
    except ValueError as err:
        raise malformed(where, "all integers below 2^63 or all strings", f"{column.dtype} ({err})") from err
