"""Click-through tables: a label and fields, from public data sets or a file, and how they are split."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.ctr.fields import KINDS, Fields, kind_of
from experiments.ctr.rows import Rows
from infae.data.datasets import located
from infae.data.interactions import check_columns
from infae.data.readers import read_movielens
from infae.runtime import checks

LABEL, TIME = "label", "time"
CLICK = 4.0
"""A rating of so much or more is a click."""

DataDir = str | PathLike[str] | None


@dataclass(frozen=True, eq=False)
class Table:
    """A frame with a column `label` (0 or 1), `kinds` of its fields, and maybe `time` (seconds).

    `parts` (n,) is a split of its own: 0 for training rows, 1 for validation, 2 for test.
    """

    name: str
    frame: pd.DataFrame
    kinds: Mapping[str, str]
    parts: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_columns(self.frame, [LABEL, *self.kinds])
        for name, kind in self.kinds.items():
            kind_of(name, kind, self.kinds)
        if LABEL in self.kinds:
            raise ValueError(f"{self.name}: the label must not be a field too")
        labels = self.frame[LABEL].unique()
        if {*labels} != {0, 1}:
            raise ValueError(f"{self.name}: labels must be 0 and 1, both of them, got {checks.shown(list(labels[:5]))}")


@dataclass(frozen=True, eq=False)
class Data:
    """Rows of three parts, by the fields that training rows tell."""

    name: str
    train: Rows
    validation: Rows
    test: Rows

    @property
    def fields(self) -> Fields:
        return self.train.fields


def parted(table: Table, parts: Sequence[np.ndarray], name: str, fields: Fields | None = None) -> Data:
    """The table's rows at these places as train, validation and test, encoded by given fields, if any."""
    fields = fields or Fields.of(table.frame.iloc[parts[0]], table.kinds)
    return Data(f"{table.name}, {name}", *(fields.rows(table.frame.iloc[part], LABEL) for part in parts))


def random_parts(table: Table, seed: int = 0, fields: Fields | None = None) -> Data:
    """A random split, 8:1:1 as in the paper; the table's own where it has one."""
    if table.parts is not None:
        return parted(table, [np.flatnonzero(table.parts == k) for k in range(3)], "its own split", fields)
    n = len(table.frame)
    order = checks.generator(seed).permutation(n)
    parts = np.split(order, [round(0.8 * n), round(0.9 * n)])
    return parted(table, [np.sort(part) for part in parts], f"random split {seed}", fields)


def windows(table: Table, n: int = 3, *, by_user: bool = False) -> list[pd.DataFrame]:
    """The table in n windows of time with as many rows each, the oldest first; ValueError where a row has no time.

    With `by_user` the rows of each user, the first field, are cut so, each window to within one row.
    """
    if TIME not in table.frame or table.frame[TIME].isna().any():
        raise ValueError(f"{table.name} has no times to part it by, or not of every row")
    n = checks.whole("n", n)
    if not by_user:
        order = np.argsort(table.frame[TIME].to_numpy(), kind="stable")
        return [table.frame.iloc[np.sort(part)] for part in np.array_split(order, n)]
    shares = share_of_time(table.frame, table.frame[next(iter(table.kinds))])
    return [table.frame[(shares > k / n) & (shares <= (k + 1) / n)] for k in range(n)]


def share_of_time(frame: pd.DataFrame, groups: pd.Series | None = None) -> pd.Series:
    """(n,) of each row the share of rows, of its group where groups are given, that are not later than it."""
    times = frame[TIME] if groups is None else frame[TIME].groupby(groups, dropna=False)
    return times.rank(method="first", pct=True)


def made(data_dir: DataDir = None, *, n_users: int = 300, n_items: int = 200, n_rows: int = 30_000) -> Table:
    """Made clicks, always the same: users and items have main effects and three directions of taste. For trials."""
    rng = np.random.default_rng(0)
    effects = rng.normal(0, 0.7, n_users), rng.normal(0, 0.7, n_items)
    tastes = rng.normal(0, 0.9, (n_users, 3)), rng.normal(0, 0.9, (n_items, 3))
    user, item = rng.integers(n_users, size=n_rows), rng.integers(n_items, size=n_rows)
    logits = effects[0][user] + effects[1][item] + (tastes[0][user] * tastes[1][item]).sum(1)
    label = (rng.random(n_rows) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    frame = pd.DataFrame({"user": user, "item": item, LABEL: label, TIME: np.arange(n_rows)})
    return Table("made", frame, {"user": "category", "item": "category"})


def yahoo(part: str, data_dir: DataDir = None) -> Table:
    """Yahoo! R3, ratings of songs: "uniform", of songs drawn at random, or "selected", of songs that users chose."""
    file = {"uniform": "random.txt", "selected": "user.txt"}[checks.choice("part", part, ("uniform", "selected"))]
    (path,) = located("yahoo-r3", f"yahoo-r3/{file}", data_dir=data_dir)
    frame = pd.read_csv(path, header=None, names=["user", "item", "rating"])
    return _rated(f"yahoo-r3 {part}", frame, {"user": "category", "item": "category"})


def ml_1m(data_dir: DataDir = None, *, side: bool = False) -> Table:
    """MovieLens-1M: user and movie; with `side` also gender, age, occupation, first digit of zip code, genres, year."""
    paths = located("ml-1m", "ml-1m/ratings*", "ml-1m/users.dat", "ml-1m/movies.dat", data_dir=data_dir)
    ratings, users, movies = paths
    frame = read_movielens(ratings)[["user_id", "item_id", "rating", "timestamp"]]
    frame.columns = ["user", "item", "rating", TIME]
    kinds = {"user": "category", "item": "category"}
    if side:
        names = ["user", "gender", "age", "occupation", "zip"]
        about_users = _split_by_colons(users, names).assign(region=lambda each: each["zip"].str[:1]).drop(columns="zip")
        about_items = _split_by_colons(movies, ["item", "title", "genres"])
        about_items["year"] = about_items.pop("title").str.extract(r"\((\d{4})\)\s*$")[0].astype(float)
        frame = frame.merge(about_users, on="user", how="left").merge(about_items, on="item", how="left")
        kinds |= dict.fromkeys(("gender", "age", "occupation", "region"), "category")
        kinds |= {"genres": "several", "year": "bins"}
    return _rated("ml-1m with fields" if side else "ml-1m", frame, kinds)


def frappe(data_dir: DataDir = None) -> Table:
    """Frappe_x1, use of apps: ten fields, a public split of its own, two rows without use for each with one."""
    files = ("frappe-x1/train*.csv", "frappe-x1/valid.csv", "frappe-x1/test.csv")
    paths = located("frappe-x1", *files, data_dir=data_dir)
    frames = [pd.read_csv(path) for path in paths]
    frame = pd.concat(frames, ignore_index=True)
    kinds = dict.fromkeys(frame.columns.difference([LABEL], sort=False), "category")
    return Table("frappe-x1", frame, kinds, np.repeat(np.arange(3), [len(each) for each in frames]))


def read(path: str | Path, kinds: Mapping[str, str], label: str = LABEL) -> Table:
    """A CSV or Parquet file with a column of labels and one for each field; ValueError where it lacks one."""
    path = Path(path)
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no table: expected a CSV or Parquet file with a header ({error})") from error
    check_columns(frame, [label, *kinds])
    if label in kinds:
        raise ValueError(f"{path}: {label!r} is the label, and must not be a field too")
    others = [name for name in frame.columns if name in kinds or (name == TIME and name != label)]
    return Table(path.stem, frame[others].assign(**{LABEL: frame[label]}), kinds)


def _rated(name: str, frame: pd.DataFrame, kinds: Mapping[str, str]) -> Table:
    return Table(name, frame.assign(**{LABEL: (frame.pop("rating") >= CLICK).astype(np.int8)}), kinds)


def _split_by_colons(path: Path, names: Sequence[str]) -> pd.DataFrame:
    lines = path.read_text(encoding="latin-1").splitlines()
    frame = pd.DataFrame([re.split("::", line) for line in lines], columns=list(names))
    return frame.assign(**{names[0]: frame[names[0]].astype(np.int64)})


TABLES: Mapping[str, Callable[[DataDir], Table]] = {
    "made": made,
    "yahoo-uniform": partial(yahoo, "uniform"),
    "yahoo-selected": partial(yahoo, "selected"),
    "ml-1m": ml_1m,
    "ml-1m-side": partial(ml_1m, side=True),
    "frappe": frappe,
}
"""By the names that flags take."""


def table(name: str, data_dir: DataDir = None, kinds: Sequence[str] = (), label: str = LABEL) -> Table:
    """A table by its name, or a file of your own, whose fields `kinds` tells as field:kind.

    ValueError for an unknown name, and for kinds that are not told so.
    """
    if name in TABLES:
        return TABLES[name](data_dir)
    if not Path(name).is_file():
        raise ValueError(f"unknown table {name!r}, expected one of {', '.join(TABLES)}, or the path of a file")
    pairs = [each.partition(":")[::2] for each in kinds]
    if not pairs or any(kind.partition(" of ")[0] not in KINDS for _, kind in pairs) or len(dict(pairs)) < len(pairs):
        known = ", ".join(KINDS)
        raise ValueError(f"a file's fields are told as field:kind, each once, such as user:category; kinds are {known}")
    return read(name, dict(pairs), label)
