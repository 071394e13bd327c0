"""One function a file format.

A log reader returns a pandas frame in file order, one row an interaction: `user_id` and
`item_id` (int64, or strings where an id is not an integer) and, where the file has them,
`rating` (float64, may be NaN) and `timestamp` (seconds since 1970, int64 where all are whole
and known). Repeated pairs are kept: `Interactions.from_frame` merges them.

Every reader takes a plain, a `.gz` or a `.xz` file, and raises FileNotFoundError where there is
none and DataFormatError, with the line, where it does not hold what its format promises.
"""

import csv
import re
import warnings
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from infae.data._netflix import read_netflix
from infae.data._tables import COLUMNS, FilePath, first_line, ids, malformed, open_text, opened, place_in, read_table
from infae.data.arrays import read_paper, read_parquet, read_scipy_npz
from infae.runtime.checks import sequence

__all__ = [
    "read_amazon_ratings",
    "read_csv",
    "read_inter",
    "read_lightgcn",
    "read_log",
    "read_movielens",
    "read_netflix",
    "read_paper",
    "read_parquet",
    "read_prefix_targets",
    "read_scipy_npz",
    "read_sessions",
    "read_triples",
]

MOVIELENS_NAMES = {"userId": "user_id", "movieId": "item_id", "movie_id": "item_id"}


def read_movielens(path: FilePath) -> pd.DataFrame:
    """MovieLens ratings of any edition, told apart by the first line.

    `u.data` (tabs), `ratings.dat` (`::`) and `ratings.csv` (header `userId,movieId,rating,
    timestamp`). A header with `movie_id`, `ts_lo` and `ts_hi` is a rebuilt log, in which a
    timestamp may be known only to lie in an interval: it is then the interval's middle, or its
    one known end. Its `time_rank`, each rating's place in its user's time order, is kept where it has one.
    """
    first = first_line(path)
    for sep in ("::", "\t"):
        if first.count(sep) == 3:
            return read_table(path, COLUMNS, sep=sep, needed=("user_id", "item_id", "timestamp"))
    names = [MOVIELENS_NAMES.get(name, name) for name in first.split(",")]
    if "item_id" not in names:
        expected = "four fields parted by tabs or '::', or the header userId,movieId,rating,timestamp"
        raise malformed(f"{path}, line 1", expected, repr(first[:80]), "see read_log for other formats")
    interval = ("ts_lo", "ts_hi", "time_rank") if {"ts_lo", "ts_hi"} <= set(names) else ()
    frame = _read_with_header(path, names, sep=",", more=interval)
    return _middle_of_interval(frame, path) if interval else frame


def read_inter(path: FilePath) -> pd.DataFrame:
    """RecBole's atomic `.inter` file: tabs, and a header such as `user_id:token`, `rating:float`."""
    names = [field.split(":")[0] for field in first_line(path).split("\t")]
    return _read_with_header(path, names, sep="\t")


def read_csv(path: FilePath, columns: Sequence[str | None] | None = None) -> pd.DataFrame:
    """Comma-separated, with a header that has `user_id`, `item_id` and maybe `rating`, `timestamp`.

    Of a file without a header, `columns` names the fields of a line in order, None those to leave
    out. Raises ValueError where it has not `user_id` and `item_id`, or other names.
    """
    first = first_line(path)
    names = [name.strip() for name in next(csv.reader([first]))]
    if columns is None:
        return _read_with_header(path, names, sep=",")
    columns = sequence("columns", columns, "name")
    wanted = [name for name in columns if name is not None]
    texts = {name for name in wanted if isinstance(name, str)}
    if not set(COLUMNS[:2]) <= texts <= set(COLUMNS) or len(texts) < len(wanted):
        raise ValueError(
            f"columns must name user_id and item_id, and may name rating, timestamp and None, got {columns}"
        )
    if len(names) != len(columns) or set(names) & set(COLUMNS):
        expected = f"{len(columns)} fields, as columns says, and no header"
        raise malformed(f"{path}, line 1", expected, repr(first[:80]), "leave columns out if it has a header")
    return read_table(path, columns, sep=",")[[name for name in COLUMNS if name in wanted]]


def read_amazon_ratings(path: FilePath) -> pd.DataFrame:
    """Amazon's ratings-only files of 2018: `item,user,rating,timestamp` lines and no header.

    The editions before it have the user first: `read_csv(path, columns=("user_id", "item_id",
    "rating", "timestamp"))` reads those.
    """
    columns = ("item_id", "user_id", "rating", "timestamp")
    return read_table(path, columns, sep=",", needed=columns)[list(COLUMNS)]


def read_triples(path: FilePath) -> pd.DataFrame:
    """`user<TAB>item<TAB>count` lines and no header, such as LightGCN's lastfm; count is `rating`."""
    return read_table(path, COLUMNS[:3], sep="\t", needed=COLUMNS[:3])


def read_lightgcn(path: FilePath) -> pd.DataFrame:
    """`user item item ...` lines of integers; a user may have no item, and one item makes a pair file."""
    return _users_and_items(path, _read_words(path))


def read_sessions(path: FilePath) -> pd.DataFrame:
    """One session a line, items parted by spaces; `user_id` is the line's number, from 1."""
    return _one_user_a_line(_read_words(path))


def read_prefix_targets(path: FilePath) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`prefix<TAB>target` lines, items parted by spaces: (prefixes, targets).

    In both frames `user_id` is the line's number, from 1.
    """
    with open_text(path) as file:
        lines = [line.split("\t") for line in file]
    wrong = next((k for k, fields in enumerate(lines, 1) if len(fields) != 2 and "".join(fields).strip()), None)
    if wrong:
        raise malformed(f"{path}, line {wrong}", "prefix<TAB>target", f"{len(lines[wrong - 1])} fields")
    if not any("".join(fields).strip() for fields in lines):
        raise malformed(path, "at least one line", "an empty file")
    lines = [fields if len(fields) == 2 else ["", ""] for fields in lines]
    # Both halves at once: an id must not be an integer in one and a string in the other.
    both = _one_user_a_line([fields[half].split() for half in (0, 1) for fields in lines])
    is_target = both["user_id"].to_numpy() > len(lines)
    targets = both[is_target].reset_index(drop=True)
    targets["user_id"] -= len(lines)
    return both[~is_target], targets


def read_log(path: FilePath) -> pd.DataFrame:
    """Any one log, by its content; a UserWarning says what was assumed where that alone is not enough.

    Lines of integers parted by spaces are sessions where `session` is in the file's own name, and
    else `user item item ...` with users in ascending order. Raises DataFormatError that lists the
    formats for any other file, and for one without a header that does not show which field is
    the user: `read_csv(path, columns=...)` and `read_amazon_ratings` read such files.
    """
    with opened(path) as file:
        head = file.read(4)
    if head == b"PAR1":
        return read_parquet(path)
    if head in (b"PK\x03\x04", b"\x89HDF"):
        raise malformed(path, "a log", "a file of arrays", "read it with read_scipy_npz or read_paper")
    first = first_line(path)
    for pattern, reader in LOG_FORMATS:
        if re.search(pattern, first):
            return reader(path)
    if re.fullmatch(r"[0-9 ]+", first.strip()):
        return _lines_of_integers(path)
    remedy = "rename its columns; without a header, read it by read_csv(path, columns=...) or read_amazon_ratings"
    raise malformed(path, f"one of these formats: {FORMATS}", f"a first line {first[:80]!r}", remedy)


def _lines_of_integers(path: FilePath) -> pd.DataFrame:
    lines = _read_words(path)
    if "session" in Path(path).name.lower():
        _assume(path, "sessions, one a line, by the file's name", "read_lightgcn for `user item item ...`")
        return _one_user_a_line(lines)
    log = _users_and_items(path, lines)
    users = [int(line[0]) for line in lines if line]
    if users != sorted(users) and {len(line) for line in lines if line} != {2}:
        got = "lines that do not begin with an ascending user"
        raise malformed(path, FORMATS, got, "call read_sessions, or read_lightgcn if each line begins with its user")
    _assume(path, "`user item item ...` lines", "read_sessions for sessions")
    return log


def _amazon(path: FilePath) -> pd.DataFrame:
    _assume(path, "Amazon's item,user,rating,timestamp, by its ids", "read_csv(path, columns=...) for another order")
    return read_amazon_ratings(path)


def _old_amazon(path: FilePath) -> pd.DataFrame:
    _assume(path, "Amazon's user,item,rating,timestamp, by its ids", "read_amazon_ratings for the other order")
    return read_csv(path, columns=COLUMNS)


def _assume(path: FilePath, what: str, otherwise: str) -> None:
    warnings.warn(f"{path} has no header and was read as {what}; call {otherwise}", stacklevel=5)


# Amazon's ids show which is which: items are ASINs of ten characters, and users begin with an A.
ASIN, REVIEWER = "[B0-9][0-9A-Z]{9}", "A[0-9A-Z]{9,20}"
LOG_FORMATS = (
    (r"\b(user|item)_id:\w", read_inter),
    (r"\bmovieId\b|\bmovie_id\b|^[^:]+::", read_movielens),
    (r"\b(user|item)_id\b", read_csv),
    (r"^\d+:\s*$", read_netflix),
    (r"^[^\t]+\t[^\t]+\t[^\t]*\t[^\t]+$", read_movielens),
    (r"^[^\t ]+\t[^\t ]+\t[^\t ]+$", read_triples),
    (rf"^{ASIN},{REVIEWER},[0-9.]+,[0-9]+$", _amazon),
    (rf"^{REVIEWER},{ASIN},[0-9.]+,[0-9]+$", _old_amazon),
)
FORMATS = (
    "MovieLens (u.data, ratings.dat, ratings.csv), RecBole .inter, csv or parquet with user_id and item_id, "
    "LightGCN lines, sessions, user-item-count triples, Netflix combined_data, Amazon ratings"
)


def _read_with_header(path: FilePath, names: Sequence[str], *, sep: str, more: Sequence[str] = ()) -> pd.DataFrame:
    """The columns of COLUMNS, and `more`, of a file whose first line has these names."""
    if missing := [c for c in COLUMNS[:2] if names.count(c) != 1]:
        remedy = "rename them, or pass columns= to read_csv if there is no header"
        raise malformed(f"{path}, line 1", f"one column {' and one '.join(missing)}", f"{list(names)}", remedy)
    wanted = [c for c in (*COLUMNS, *more) if c in names]
    return read_table(path, [n if n in wanted else None for n in names], sep=sep, header=True)[wanted]


def _middle_of_interval(frame: pd.DataFrame, path: FilePath) -> pd.DataFrame:
    low, high = frame["ts_lo"], frame["ts_hi"]
    time = frame["timestamp"].fillna((low.fillna(high) + high.fillna(low)) // 2)
    if (missing := time.isna().to_numpy()).any():
        raise malformed(place_in(path, 1)(int(missing.argmax())), "a timestamp, ts_lo or ts_hi", "none")
    frame = frame.assign(timestamp=time.astype(np.int64))
    return frame[[c for c in (*COLUMNS, "time_rank") if c in frame]]


def _read_words(path: FilePath) -> list[list[str]]:
    """Every line's words; DataFormatError where there is none at all."""
    with open_text(path) as file:
        rows = [line.split() for line in file]
    if not any(rows):
        raise malformed(path, "at least one line", "an empty file")
    return rows


def _one_user_a_line(rows: list[list[str]]) -> pd.DataFrame:
    users = np.repeat(np.arange(1, len(rows) + 1), [len(row) for row in rows])
    items = pd.Series(list(chain.from_iterable(rows)), dtype=str)
    return pd.DataFrame({"user_id": users, "item_id": ids(items)})


def _users_and_items(path: FilePath, lines: list[list[str]]) -> pd.DataFrame:
    rows = [row for row in lines if row]
    counts = [len(row) - 1 for row in rows]
    try:
        users = np.array([row[0] for row in rows], dtype=np.int64)
        items = np.array(list(chain.from_iterable(row[1:] for row in rows)), dtype=np.int64)
    except (ValueError, OverflowError) as err:
        at, word = next((k, w) for k, row in enumerate(rows) for w in row if not re.fullmatch(r"[+-]?[0-9]{1,18}", w))
        raise malformed(place_in(path)(at), "integer ids parted by spaces", repr(word)) from err
    return pd.DataFrame({"user_id": np.repeat(users, counts), "item_id": items})
