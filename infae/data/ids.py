"""Ids of users and items: integers or texts, checked at the boundary, and their positions.

While there is one id a click, texts stay a list of Python strings: as a NumPy array each would
take four bytes for every character of the longest one. Only distinct ids become arrays.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import scipy.sparse as sp

from infae.runtime.checks import shown

Values = np.ndarray | list[str]
"""Ids in the order in which they came: an array of signed integers, or a list of strings."""

WIDE, WIDE_BYTES = 256, 2**28


def read_ids(ids: Any, name: str) -> Values:
    """The ids that a caller hands in, as `Values`.

    Raises ValueError for anything but a one-dimensional sequence of integers, whole numbers or
    strings, and for numbers that do not fit 64 bits or may have been rounded together.
    """
    if np.ma.isMaskedArray(ids):
        raise ValueError(f"{name} must not be a masked array; pass the ids that are not masked, ids.compressed()")
    unordered = isinstance(ids, (set, frozenset, Mapping)) or sp.issparse(ids)
    if unordered or isinstance(ids, (str, bytes)) or not (hasattr(ids, "__array__") or hasattr(ids, "__iter__")):
        raise ValueError(f"{name} must be a sequence of ids, got {shown(ids)}")
    values = ids if hasattr(ids, "__array__") else list(ids)
    if isinstance(values, list):
        if values and _all(values, str):
            return values
        values = _as_array(values, name)
        if values.dtype.kind == "U":
            raise ValueError(f"{name} must be all integers or all strings, got a mixture")
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.dtype.kind == "U":
        return array.tolist()
    if array.dtype.kind == "O" and array.size and _all(values := array.tolist(), str):
        return values
    return _integers(array, name)


def id_array(ids: Any, name: str) -> np.ndarray:
    """(n,) integers or fixed-width texts, as a pickle-free file can hold them; ValueError as `read_ids`."""
    return _stored(read_ids(ids, name), name)


def unique_ids(ids: Any, n: int, name: str) -> np.ndarray:
    """`id_array` of n ids, each once; they are 0, 1, 2, ... where None."""
    if ids is None:
        return np.arange(n)
    ids = id_array(ids, name)
    if ids.shape != (n,):
        raise ValueError(f"{name} must have {n} entries, one for each row or column, got {ids.size}")
    if repeated := n - np.unique(ids).size:
        raise ValueError(f"{name} must be unique; {repeated} repeat")
    return ids


def known_ids(ids: Sequence[Any] | np.ndarray, name: str) -> np.ndarray:
    """`unique_ids` of any number of ids, at least one."""
    ids = id_array(ids, name)
    if not ids.size:
        raise ValueError(f"{name} must hold at least one id, got none")
    return unique_ids(ids, ids.size, name)


def distinct(values: Values, name: str, *, first_seen: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(distinct ids, position of each value among them), ascending or in the order of first appearance."""
    if isinstance(values, list):
        texts = list(dict.fromkeys(values))
        found = _stored(texts if first_seen else sorted(texts), name)
        return found, _looked_up(values, texts if first_seen else sorted(texts))
    if not first_seen:
        return np.unique(values, return_inverse=True)
    found, first, at = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return found[order], np.argsort(order)[at]


def positions(values: Values, known: np.ndarray, what: str) -> np.ndarray:
    """Position of each value among known ids; ValueError names those that are not there."""
    if isinstance(values, list) != (known.dtype.kind == "U") and len(values):
        kinds = ("integers", "texts")
        raise ValueError(
            f"{what} ids are {kinds[known.dtype.kind == 'U']}, but got {kinds[isinstance(values, list)]} "
            f"such as {shown(values[0])}"
        )
    if isinstance(values, list):
        found = _looked_up(values, known.tolist())
        wrong = found < 0
    else:
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known, values, sorter=order)
        found = order[np.minimum(place, known.size - 1)]
        wrong = known[found] != values
    if wrong.any():
        unknown = sorted({values[k] for k in np.flatnonzero(wrong)})
        raise ValueError(
            f"{len(unknown):,} unknown {what} id(s), such as {', '.join(map(shown, unknown[:5]))}; the model or matrix "
            f"knows {known.size:,} {what}s: drop the others, or fit again with them"
        )
    return found


def _looked_up(values: list[str], known: list[str]) -> np.ndarray:
    """Position of each text among the known ones, -1 for others."""
    place = dict(zip(known, range(len(known)), strict=True))
    return np.fromiter(map(place.get, values, repeat(-1)), np.int64, len(values))


def _stored(values: Values, name: str) -> np.ndarray:
    if not isinstance(values, list):
        return values
    if ended := next((text for text in values if text.endswith("\0")), None):
        raise ValueError(f"{name} must not end in a NUL character, which NumPy drops, got {shown(ended)}")
    longest = max(map(len, values), default=0)
    if longest > WIDE and 4 * longest * len(values) > WIDE_BYTES:
        raise ValueError(
            f"the longest of {len(values):,} distinct {name} has {longest:,} characters; all would be stored at that "
            f"width, in {4 * longest * len(values) / 2**30:.1f} GiB: number them, or shorten the long ones"
        )
    return np.array(values, dtype=str)


def _as_array(values: list[Any], name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, OverflowError) as err:
        raise ValueError(f"{name} must be a one-dimensional sequence of integers or strings: {err}") from err


def _integers(array: np.ndarray, name: str) -> np.ndarray:
    kind = array.dtype.kind
    too_large = f"{name} must fit in 64 bits with a sign, below 2^63: give larger ones as strings"
    if kind == "i":
        return array
    if kind == "u":
        if array.size and array.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{too_large}, got {array.max()}")
        return array.astype(np.int64) if array.dtype.itemsize == 8 else array
    if kind == "f" and np.isfinite(array).all() and (array == np.floor(array)).all():
        digits = np.finfo(array.dtype).nmant + 1
        if (np.abs(array) >= 2.0**digits).any():
            raise ValueError(
                f"{name} beyond 2^{digits} that are floats, or that NumPy must make floats, may have been rounded to "
                f"each other, got {array[np.abs(array).argmax()]:.17g}; give integers below 2^63, or strings"
            )
        return array.astype(np.int64)
    if kind == "O" and _all(values := array.tolist(), (int, np.integer)):
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            raise ValueError(f"{too_large}, got {shown(max(values, key=abs))}") from None
    if array.size == 0 and kind in "fO":
        return array.astype(np.int64)
    raise ValueError(f"{name} must be all integers or all strings, got dtype {array.dtype}")


def _all(values: list[Any], types: type | tuple[type, ...]) -> bool:
    return all(issubclass(kind, types) and kind is not bool for kind in set(map(type, values)))
