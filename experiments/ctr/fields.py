"""What the columns of a click-through table mean, and how their values become numbers.

    fields = Fields.of(train, kinds={"user": "category", "genres": "several", "age": "bins", "price": "standard"})
    rows = fields.rows(test, label="click")

A value that training rows do not hold is value 0 of its field. So is a missing one, but for a category of which
training rows miss some too: there it is a value of its own. Where half of a table's values are unknown, or more, a
warning says so.

The kind "several of item" is several whose values are those of the field `item`, as the history of a user is.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp

from experiments.ctr.rows import Rows, Values
from experiments.study.record import write_json
from infae.data.interactions import check_columns
from infae.runtime import checks

KINDS = ("category", "several", "bag", "bins", "standard")
N_BINS = 20
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")


@dataclass(frozen=True)
class Field:
    """A column.

    category: one of `values`. several: some of them, as a list or as text between bars; a row is the mean of theirs.
    bag: some of them with a number each, negative ones too, as a dict; a row has the numbers over the sum of their
    sizes.
    bins: a number, by the quantiles of training rows (`edges`). standard: a number less `mean`, in units of `scale`,
    which multiplies the field's one vector.
    """

    name: str
    kind: str = "category"
    values: tuple[Any, ...] = ()  # value k + 1 is values[k]
    edges: tuple[float, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @property
    def size(self) -> int:
        """Rows of its table: of value 0, and of the others; standard: of the number, and of a missing one."""
        return {"bins": len(self.edges) + 2, "standard": 2}.get(self.kind, len(self.values) + 1)

    @property
    def on_simplex(self) -> bool:
        """Whether a soft value is a probability vector."""
        return self.kind not in ("bag", "standard")

    @classmethod
    def of(cls, column: pd.Series, kind: str = "category", n_bins: int = N_BINS) -> Self:
        """As the values of training rows tell. ValueError for a column that cannot be of this kind."""
        name = str(column.name)
        checks.choice(f"kind of {name!r}", kind, KINDS)
        if kind == "category":
            return cls(name, kind, _sorted(_plain(column).unique()))
        if kind in ("several", "bag"):
            lists = _lists(column) if kind == "several" else [_bag(name, value)[0] for value in column]
            return cls(name, kind, _sorted({value for values in lists for value in values}))
        numbers = _numbers(column)
        known = numbers[np.isfinite(numbers)]
        if not known.size:
            raise ValueError(f"field {name!r} has no number in the training rows")
        if kind == "standard":
            return cls(name, kind, mean=float(known.mean()), scale=float(known.std()) if np.ptp(known) else 1.0)
        edges = np.unique(np.quantile(known, np.arange(1, n_bins) / n_bins))
        return cls(name, kind, edges=tuple(map(float, edges)))

    def encode(self, column: pd.Series) -> Values:
        """(n,) ids, or (n, size) soft values of a column."""
        if self.kind == "category":
            return self._ids(_plain(column))
        if self.kind == "several":
            lists = _lists(column)
            n_values = np.array([max(len(values), 1) for values in lists])
            flat = pd.Series([value for values in lists for value in (values or [None])], dtype=object)
            indptr = np.concatenate([[0], np.cumsum(n_values)])
            shares = np.repeat(1 / n_values, n_values).astype(np.float32)
            matrix = sp.csr_matrix((shares, self._ids(flat), indptr), shape=(len(lists), self.size))
            matrix.sum_duplicates()
            return matrix
        if self.kind == "bag":
            bags = [_bag(self.name, value) for value in column]
            ids = self._ids(pd.Series([value for values, _ in bags for value in values], dtype=object))
            indptr = np.concatenate([[0], np.cumsum([len(values) for values, _ in bags])])
            numbers = np.concatenate([np.empty(0), *(given for _, given in bags)])
            scaled = scaled_bags(sp.csr_matrix((numbers, ids, indptr), shape=(len(bags), self.size)))
            scaled.sum_duplicates()
            return scaled
        numbers = _numbers(column)
        known = np.isfinite(numbers)
        if self.kind == "bins":
            return np.where(known, 1 + np.searchsorted(self.edges, numbers, side="right"), 0)
        scaled = np.where(known, (numbers - self.mean) / self.scale, 0)
        return np.stack([scaled, ~known], axis=1).astype(np.float32)

    def _ids(self, column: pd.Series) -> np.ndarray:
        """ValueError for numbers where texts are known, or texts for numbers."""
        ids = pd.Index(self.values, dtype=object).get_indexer(pd.Index(column, dtype=object)) + 1
        unknown = column[(ids == 0) & column.notna().to_numpy()]
        if 2 * len(unknown) >= len(column) > 0 and len(unknown):
            given, known = ({isinstance(v, str) for v in values if v is not None} for values in (column, self.values))
            kinds = {True: "text", False: "numbers"}
            if not given & known and known:
                raise ValueError(
                    f"field {self.name!r} holds {' and '.join(kinds[k] for k in given)}, such as "
                    f"{checks.shown(unknown.iloc[0])}; its known values are {' and '.join(kinds[k] for k in known)}"
                )
            warnings.warn(
                f"field {self.name!r}: {len(unknown):,} of {len(column):,} values are unknown, such as "
                f"{checks.shown(unknown.iloc[0])}; a model knows nothing of them",
                stacklevel=4,
            )
        return ids


@dataclass(frozen=True)
class Fields:
    """The fields of a table, in the order in which models take them."""

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names or len({*names}) < len(names):
            raise ValueError(f"expected at least one field, each of a name of its own, got {names}")
        if taken := {*names} & {"labels", "weights", *(f"{name}_share" for name in names)}:
            raise ValueError(f"{', '.join(taken)} cannot be the name of a field: rows have a column of this name")

    @classmethod
    def of(cls, train: pd.DataFrame, kinds: Mapping[str, str]) -> Self:
        """The fields named in `kinds`, as training rows tell."""
        check_columns(train, [*kinds])
        found = {name: Field.of(train[name], kind_of(name, kind, kinds)[0]) for name, kind in kinds.items()}
        for name, kind in kinds.items():
            if other := kind_of(name, kind, kinds)[1]:
                values = _sorted({*found[name].values, *found[other].values})
                found |= {each: replace(found[each], values=values) for each in (name, other)}
        return cls(tuple(found.values()))

    @classmethod
    def numbered(cls, **sizes: int) -> Self:
        """Category fields of the ids 0, 1, ..., size - 1, all known."""
        return cls(tuple(Field(name, values=tuple(range(size))) for name, size in sizes.items()))

    def rows(self, frame: pd.DataFrame, label: str | None = None) -> Rows:
        """The rows of a table. ValueError where it lacks a field, and for labels outside [0, 1]."""
        check_columns(frame, [*self.names, *([] if label is None else [label])])
        labels = None if label is None else _numbers(frame[label])
        return Rows(self, tuple(field.encode(frame[field.name]) for field in self.fields), labels)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    @cached_property
    def fingerprint(self) -> str:
        """Of all that they are: a hash."""
        return hashlib.sha256(repr(self.fields).encode()).hexdigest()[:16]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def position(self, name: str) -> int:
        """Which field has this name."""
        checks.choice("field", name, self.names)
        return self.names.index(name)

    def save(self, path: str | Path) -> None:
        """As JSON."""
        write_json(Path(path), {"fields": [asdict(field) for field in self.fields]})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote; ValueError for any other file."""
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))["fields"]
            return cls(tuple(_field(**field) for field in stored))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} holds no fields as Fields.save writes them ({error})") from error


def kind_of(name: str, kind: str, kinds: Mapping[str, str]) -> tuple[str, str]:
    """A kind, and whose values the field has, if any; ValueError for what is no kind."""
    own, _, other = kind.partition(" of ")
    checks.choice(f"kind of {name!r}", own, KINDS)
    if other and not (own in ("several", "bag") and kinds.get(other) == "category"):
        raise ValueError(f"{name!r}: {kind!r} must be several or bag of the values of a category field")
    return own, other


def scaled_bags(bags: sp.csr_matrix) -> sp.csr_matrix:
    """Each row over the sum of the sizes of its numbers; rows without any stay empty."""
    sizes = sp.csr_matrix((np.abs(bags.data), bags.indices, bags.indptr), shape=bags.shape)
    sums = sizes @ np.ones(bags.shape[1])
    shares = (bags.data * np.repeat(1 / np.where(sums > 0, sums, 1), np.diff(bags.indptr))).astype(np.float32)
    return sp.csr_matrix((shares, bags.indices, bags.indptr), shape=bags.shape)


def _field(**stored: Any) -> Field:
    parts: dict[str, Any] = {name: tuple(part) if isinstance(part, list) else part for name, part in stored.items()}
    return Field(**parts)


def _sorted(values: Sequence[Any] | set[Any] | np.ndarray) -> tuple[Any, ...]:
    """Texts after numbers, a missing value last."""
    order = {value: (value is None, isinstance(value, str), 0 if value is None else value) for value in values}
    return tuple(sorted(order, key=order.__getitem__))


def _plain(column: pd.Series) -> pd.Series:
    """Whole numbers as integers, also those that are text; other values as text, missing ones as None."""
    if pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans:
        return pd.Series(column.astype(np.int64).tolist(), dtype=object)
    return pd.Series([_one(value) for value in column.astype(object)], dtype=object)


def _one(value: Any) -> Any:
    if isinstance(value, str):
        # numpy's texts print otherwise, and fingerprints are of what is printed.
        return int(value) if _WHOLE.fullmatch(value) else str(value)
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    return int(value) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def _lists(column: pd.Series) -> list[list[Any]]:
    return [_list(value) for value in column]


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [_one(part) for part in value.split("|") if part]
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_one(each) for each in value]
    one = _one(value)
    return [] if one is None else [one]


def _bag(name: str, value: Any) -> tuple[list[Any], np.ndarray]:
    """Values and their numbers."""
    if not isinstance(value, Mapping):
        if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
            return [], np.empty(0)
        raise ValueError(f"{name!r} must hold dicts of values and their numbers, got {checks.shown(value)}")
    value = {name: number for name, number in value.items() if number is not None}  # Parquet fills dicts up
    numbers = _numbers(pd.Series([*value.values()], name=name, dtype=object))
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name!r} must hold finite numbers, got {checks.shown(value)}")
    return [_one(each) for each in value], numbers


def _numbers(column: pd.Series) -> np.ndarray:
    try:
        return pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{column.name!r} must hold numbers: {error}") from error
