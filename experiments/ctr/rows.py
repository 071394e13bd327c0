"""Rows of a click-through table: for each field ids, or soft vectors over its values; labels and weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp

from infae.data.ops import check_sparse
from infae.storage.atomic import replacing

if TYPE_CHECKING:
    from experiments.ctr.fields import Field, Fields

Values: TypeAlias = np.ndarray | sp.csr_matrix
"""Of a field: ids (n,) int64, or soft vectors (n, size) float32, dense or CSR."""

TOLERANCE = 1e-3
"""How far the sum of a soft vector may be from 1."""


@dataclass(frozen=True, eq=False)
class Rows:
    """n rows, checked.

    Attributes:
      fields: the fields, of which each has `values`.
      values: of each field.
      labels: (n,) float32 in [0, 1]; None where unknown.
      weights: (n,) float32, not negative; None for ones.

    Raises ValueError for values that are none of their field, soft vectors of another width or that do not sum to
    one, and labels and weights outside their bounds.
    """

    fields: "Fields"
    values: tuple[Values, ...]
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.values) != len(self.fields):
            raise ValueError(f"expected values of {len(self.fields)} fields, got {len(self.values)}")
        values = tuple(_checked(field, given) for field, given in zip(self.fields, self.values, strict=True))
        object.__setattr__(self, "values", values)
        for name, most in (("labels", 1.0), ("weights", np.inf)):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _bounded(name, given, most))
        lengths = {name: value.shape[0] for name, value in zip(self.fields.names, values, strict=True)}
        lengths |= {n: len(getattr(self, n)) for n in ("labels", "weights") if getattr(self, n) is not None}
        if len({*lengths.values()}) > 1:
            raise ValueError(f"expected as many of each, got {lengths}")

    def __len__(self) -> int:
        return self.values[0].shape[0]

    def __repr__(self) -> str:
        return f"Rows({len(self):,} of {', '.join(self.fields.names)})"

    def __getitem__(self, index: np.ndarray | slice) -> Self:
        """Some of the rows."""
        part = {n: given[index] for n in ("labels", "weights") if (given := getattr(self, n)) is not None}
        return replace(self, values=tuple(value[index] for value in self.values), **part)

    @cached_property
    def known_labels(self) -> np.ndarray:
        """The labels; ValueError where there are none."""
        if self.labels is None:
            raise ValueError("these rows have no labels; give the name of the label column")
        return self.labels

    @property
    def soft_labels(self) -> bool:
        """Whether there are other labels than 0 and 1."""
        return not np.isin(self.known_labels, (0, 1)).all()

    def soft(self) -> Self:
        """The same with a CSR of soft values for each field."""
        pairs = zip(self.fields, self.values, strict=True)
        return replace(self, values=tuple(_as_csr(field, value) for field, value in pairs))

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        """Rows of the same fields, one part after another."""
        first = parts[0]
        if any(part.fields != first.fields for part in parts):
            raise ValueError("rows of different fields cannot be joined; encode all by the same Fields")
        if not all(value.ndim == 1 for part in parts for value in part.values):
            parts = [part.soft() for part in parts]
        columns = zip(*(part.values for part in parts), strict=True)
        values = tuple(sp.vstack(c, "csr") if sp.issparse(c[0]) else np.concatenate(c) for c in columns)
        weights = None
        if any(part.weights is not None for part in parts):
            ones = (np.ones(len(part), np.float32) if part.weights is None else part.weights for part in parts)
            weights = np.concatenate([*ones])
        return cls(first.fields, values, np.concatenate([part.known_labels for part in parts]), weights)

    def to_frame(self) -> pd.DataFrame:
        """A column a field: ids as `field`, soft values as lists `field` of ids and `field_share` of their shares."""
        columns: dict[str, Any] = {}
        for field, value in zip(self.fields, self.values, strict=True):
            if value.ndim == 1:
                columns[field.name] = value
            else:
                matrix = sp.csr_matrix(value)
                columns[field.name], columns[f"{field.name}_share"] = (
                    np.split(part, matrix.indptr[1:-1]) for part in (matrix.indices, matrix.data)
                )
        columns |= {name: getattr(self, name) for name in ("labels", "weights") if getattr(self, name) is not None}
        return pd.DataFrame(columns)

    def save(self, path: str | Path) -> None:
        """As Parquet, of `to_frame`."""
        frame = self.to_frame()
        frame.attrs["fields"] = self.fields.fingerprint
        with replacing(Path(path)) as aside:
            frame.to_parquet(aside, index=False)

    @classmethod
    def load(cls, path: str | Path, fields: "Fields") -> "Rows":
        """What `save` wrote of rows of these very fields; ValueError for any other file."""
        try:
            frame = pd.read_parquet(path)
            if frame.attrs.get("fields") != fields.fingerprint:
                raise ValueError("its rows are of other fields, or of other values of them")
            values = tuple(_read(frame, field) for field in fields)
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise ValueError(
                f"{path} holds no rows of {', '.join(fields.names)} as Rows.save writes ({error})"
            ) from error
        return cls(fields, values, *(frame[n].to_numpy() if n in frame else None for n in ("labels", "weights")))


def _read(frame: pd.DataFrame, field: "Field") -> Values:
    if f"{field.name}_share" not in frame:
        return frame[field.name].to_numpy()
    ids, shares = frame[field.name], frame[f"{field.name}_share"]
    indptr = np.concatenate([[0], np.cumsum([len(each) for each in ids])])
    return sp.csr_matrix((np.concatenate([*shares]), np.concatenate([*ids]), indptr), shape=(len(frame), field.size))


def _as_csr(field: "Field", value: Values) -> sp.csr_matrix:
    if value.ndim == 2:
        return sp.csr_matrix(value)
    n = len(value)
    return sp.csr_matrix((np.ones(n, np.float32), value, np.arange(n + 1)), shape=(n, field.size))


def _checked(field: "Field", value: Any) -> Values:
    where = f"field {field.name!r}"
    if sp.issparse(value):
        check_sparse(value, where)
        value = sp.csr_matrix(value)
    else:
        value = np.asarray(value)
    if value.ndim == 1:
        if value.dtype.kind not in "iu" or (value.size and not (value.min() >= 0 and value.max() < field.size)):
            raise ValueError(
                f"{where} takes ids from 0 to {field.size - 1:,}, got {value.dtype} "
                + (f"from {value.min()} to {value.max()}" if value.size and value.dtype.kind in "iuf" else "")
            )
        return value.astype(np.int64)
    if value.ndim != 2 or value.shape[1] != field.size or value.dtype.kind not in "iufb":
        raise ValueError(f"{where} takes soft vectors of {field.size:,} numbers, got {value.dtype} {value.shape}")
    value = value.astype(np.float32, copy=False)
    stored = value.data if sp.issparse(value) else value
    if not np.isfinite(stored).all():
        raise ValueError(f"{where} holds NaN or infinity")
    if field.on_simplex:
        sums = np.asarray(value.sum(axis=1)).ravel()
        if sums.size and (stored.min(initial=0) < 0 or np.abs(sums - 1).max() > TOLERANCE):
            raise ValueError(
                f"soft vectors of {where} must be shares, zero or more, that sum to 1; got a smallest of "
                f"{stored.min(initial=0):.3g} and sums from {sums.min():.3g} to {sums.max():.3g}"
            )
    return value


def _bounded(name: str, given: Any, most: float) -> np.ndarray:
    values = np.asarray(given)
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        raise ValueError(f"{name} must be a column of numbers, got {values.dtype} {values.shape}")
    if values.size and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= most):
        bounds = f"from 0 to {most:g}" if np.isfinite(most) else "zero or more"
        raise ValueError(
            f"{name} must be {bounds}, got {np.nanmin(values):g} to {np.nanmax(values):g}"
            + (" and NaN" if np.isnan(values).any() else "")
        )
    return values.astype(np.float32)
