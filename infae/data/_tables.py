"""What the readers share: opening plain or compressed files, parsing tables, checking columns."""

import csv
import gzip
import io
import lzma
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import IO, TextIO, cast

import numpy as np
import pandas as pd

from infae.errors import DataFormatError
from infae.storage.paths import as_path

FilePath = str | PathLike[str]
Place = Callable[[int], str]
"""Names the place in a file (`path, line 12`) of a table's row."""

COLUMNS = ("user_id", "item_id", "rating", "timestamp")
NUMBER_BLANKS = ["", "NaN", "nan", "NA"]
# Without a leading zero or a plus sign, so that distinct texts stay distinct ids.
INTEGER = r"0|-?[1-9][0-9]{0,17}"


def malformed(where: object, expected: str, got: str, remedy: str = "") -> DataFormatError:
    """The one form of a reader's complaint: where, what was expected, what came, what to do."""
    return DataFormatError(f"{where}: expected {expected}, got {got}" + (f"; {remedy}" if remedy else ""))


def open_binary(path: FilePath) -> IO[bytes]:
    """A file's bytes, unpacked where it is gzip or xz, by its first bytes or by its name."""
    path = as_path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b") or path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if head == b"\xfd7zXZ\x00" or path.suffix == ".xz":
        return cast(IO[bytes], lzma.open(path, "rb"))
    return path.open("rb")


@contextmanager
def opened(path: FilePath) -> Iterator[IO[bytes]]:
    """`open_binary` as a context in which a damaged archive is a DataFormatError."""
    with open_binary(path) as file:
        try:
            yield file
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as err:
            raise malformed(path, "a whole .gz or .xz archive", f"a damaged one ({err})", "fetch it again") from err


@contextmanager
def open_text(path: FilePath) -> Iterator[TextIO]:
    """A UTF-8 text file, plain or compressed; DataFormatError where it is not that."""
    with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        try:
            yield text
        except UnicodeDecodeError as err:
            raise malformed(path, "UTF-8 text", f"a file that is not ({err.reason})", "convert it to UTF-8") from err


def seekable(path: FilePath) -> Path | io.BytesIO:
    """What a library that jumps about in a file can open: its path, or its bytes where it is packed."""
    with opened(path) as file:
        return io.BytesIO(file.read()) if isinstance(file, (gzip.GzipFile, lzma.LZMAFile)) else Path(path)


def first_line(path: FilePath) -> str:
    """The first line that is not blank, without its end; DataFormatError where there is none."""
    with open_text(path) as file:
        for line in file:
            if line.strip():
                return line.rstrip("\r\n")
    raise malformed(path, "at least one line", "an empty file")


def place_in(path: FilePath, header: int = 0) -> Place:
    """Maps a table's row to `path, line n`; it reads the file again, so call it only to complain."""

    def place(row: int) -> str:
        with open_text(path) as file:
            filled = (n for n, line in enumerate(file, 1) if line.strip("\r\n "))
            return f"{path}, line {next(islice(filled, row + header, None), row + header + 1)}"

    return place


@contextmanager
def parsing(path: FilePath) -> Iterator[None]:
    """A context in which lines that pandas cannot cut into the named columns are a DataFormatError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            yield
        except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as err:
            raise malformed(path, "the same columns in every line", str(err).strip()) from err


def read_table(
    path: FilePath,
    columns: Sequence[str | None],
    *,
    sep: str,
    header: bool = False,
    needed: Sequence[str] = ("user_id", "item_id"),
) -> pd.DataFrame:
    """A delimited file as a checked frame of the named columns, in file order.

    Args:
      path: the file.
      columns: what each field of a line is called, in order; None leaves the field out.
      sep: what separates fields. With a comma, fields may be quoted.
      header: whether the first line that is not blank holds names, to be skipped.
      needed: columns in which no value may be missing.

    Returns:
      `user_id` and `item_id` as int64 where all are integers and else as strings; every other
      column as numbers. DataFormatError where a line does not fit.
    """
    names = [name or f"unused {k}" for k, name in enumerate(columns)]
    texts = [n for n in names if n in COLUMNS[:2] or n.startswith("unused")]
    with open_text(path) as text, parsing(path):
        file: TextIO = text
        if header:
            next(line for line in text if line.strip())
        if len(sep) > 1:
            # pandas is ten times slower with a separator of two characters.
            file, sep = io.StringIO(text.read().replace(sep, "\t")), "\t"
        frame = pd.read_csv(
            file,
            sep=sep,
            header=None,
            names=names,
            index_col=False,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values={n: [""] if n in texts else NUMBER_BLANKS for n in names},
            quoting=csv.QUOTE_MINIMAL if sep == "," else csv.QUOTE_NONE,
            low_memory=False,
        )
    if frame.empty:
        raise malformed(path, "at least one row of data", "none")
    return _checked(frame[[c for c in columns if c]], place_in(path, int(header)), needed)


def _checked(frame: pd.DataFrame, place: Place, needed: Sequence[str]) -> pd.DataFrame:
    for column in needed:
        if (missing := frame[column].isna().to_numpy()).any():
            raise malformed(place(int(missing.argmax())), f"a value of {column}", "none")
    checked = {n: ids(c) if n in COLUMNS[:2] else numbers(c, place) for n, c in frame.items()}
    if "rating" in checked:
        checked["rating"] = checked["rating"].astype(np.float64)
    return pd.DataFrame(checked)


def ids(column: pd.Series) -> pd.Series:
    """A column of texts, none missing, as int64 where each is a plain integer and else as it is."""
    codes, distinct = pd.factorize(column)
    kinds = pd.Series(distinct)
    if kinds.str.fullmatch(INTEGER).all():
        kinds = kinds.astype(np.int64)
    return kinds.take(codes).set_axis(column.index)


def numbers(column: pd.Series, place: Place) -> pd.Series:
    """A column of finite or missing numbers; int64 where all are whole. Else DataFormatError."""
    if column.dtype.kind not in "iuf":
        text = column.astype(str)
        number = pd.to_numeric(text, errors="coerce")
        wrong = (number.isna() & column.notna()).to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            raise malformed(place(int(column.index[row])), f"a number as {column.name}", repr(text.iloc[row]))
        column = number
    values = column.to_numpy()
    if (infinite := np.isinf(values)).any():
        raise malformed(place(int(column.index[infinite.argmax()])), f"a finite {column.name}", "infinity")
    whole = column.dtype.kind == "f" and (np.abs(values) < 2**53).all() and (values == np.floor(values)).all()
    return column.astype(np.int64) if whole else column
