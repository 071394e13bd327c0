"""The Netflix Prize's rating files: a hundred million lines, so column by column and chunk by chunk."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from infae.data._tables import FilePath, Place, first_line, malformed, numbers, open_text, parsing, place_in
from infae.data.times import seconds
from infae.runtime.checks import sequence
from infae.storage.paths import as_path

CHUNK = 2_000_000
"""Lines held as text at one time."""


def read_netflix(paths: FilePath | Sequence[FilePath]) -> pd.DataFrame:
    """`combined_data_*.txt`: a `MovieID:` line, then its `CustomerID,Rating,Date` lines, and so on.

    Args:
      paths: one file or several, in order.

    Returns:
      `user_id`, `item_id` (int32), `rating` (float32), `timestamp` (int64, the day's start in
      UTC): 20 bytes a rating. DataFormatError names the line that fits neither form.
    """
    files = sequence("paths", paths, "path") if isinstance(paths, (list, tuple)) else [as_path("path", paths)]
    if not files:
        raise ValueError("expected at least one combined_data file, got none")
    return pd.concat([part for path in files for part in _read_parts(path)], ignore_index=True)


def _read_parts(path: FilePath) -> Iterator[pd.DataFrame]:
    first_line(path)  # Says so where the file is empty.
    place, movie = place_in(path), np.nan
    with open_text(path) as file, parsing(path):
        chunks = pd.read_csv(
            file,
            header=None,
            names=["user_id", "rating", "date"],
            index_col=False,
            dtype={"user_id": str, "date": "category"},
            chunksize=CHUNK,
            low_memory=False,
        )
        for chunk in chunks:
            part, movie = _parse(chunk, movie, place)
            yield part


def _parse(chunk: pd.DataFrame, movie: float, place: Place) -> tuple[pd.DataFrame, float]:
    """(the chunk's ratings, the movie it ends in); `movie` is the one it starts in, NaN for none."""
    heads = chunk["user_id"].str.endswith(":", na=False).astype(bool)
    movies = pd.Series(np.nan, chunk.index, name="MovieID")
    movies[heads] = numbers(chunk.loc[heads, "user_id"].str[:-1].rename("MovieID"), place)
    movies = movies.ffill().fillna(movie)
    rows = chunk[~heads]
    ratings = pd.DataFrame(
        {
            "user_id": _whole(rows["user_id"].rename("CustomerID"), place, np.int32),
            "item_id": _whole(movies[~heads], place, np.int32),
            "rating": numbers(rows["rating"], place).astype(np.float32),
            "timestamp": _whole(_seconds(rows["date"]), place, np.int64),
        }
    )
    return ratings, float(movies.iloc[-1])


def _whole(column: pd.Series, place: Place, dtype: type[np.signedinteger]) -> pd.Series:
    number = numbers(column, place)
    limits = np.iinfo(dtype)
    wrong = ~((number >= limits.min) & (number <= limits.max) & (number % 1 == 0)).to_numpy()
    if wrong.any():
        line = int(column.index[wrong.argmax()])
        expected = "'MovieID:', and below it 'CustomerID,Rating,YYYY-MM-DD' lines"
        raise malformed(place(line), expected, f"no valid {column.name}")
    return number.astype(dtype)


def _seconds(dates: pd.Series) -> pd.Series:
    """Seconds since 1970 of a categorical column of days; each distinct day is parsed once."""
    days = pd.to_datetime(pd.Series(dates.cat.categories, dtype=str), format="%Y-%m-%d", errors="coerce")
    since = seconds(days).to_numpy(float)
    return pd.Series(np.append(since, np.nan)[dates.cat.codes], dates.index, name="date")
