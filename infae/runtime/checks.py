"""The one way in which parameters are checked: what was expected, what came, what to do.

Every function takes the parameter's name and value, returns the value as a plain Python one, and raises
ValueError for anything else. NumPy's scalars count as numbers; booleans and texts do not.
"""

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

# Seeds are hashed into 32-bit words by NumPy, and into a signed 64-bit integer by JAX and PyTorch.
_LARGEST_SEED = 2**63 - 1


def whole(name: str, value: Any, least: int = 1, most: int | None = None, remedy: str = "") -> int:
    """A whole number from `least` to `most`."""
    if not _is_bool(value):
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is not None and least <= number and (most is None or number <= most):
            return number
    bounds = f"of at least {least}" if most is None else f"from {least:,} to {most:,}"
    raise ValueError(f"{name} must be a whole number {bounds}, got {shown(value)}{_and(remedy)}")


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    remedy: str = "",
) -> float:
    """A finite number within bounds: `above` and `below` are exclusive, `least` and `most` inclusive."""
    ends = ("above", above, operator.gt), ("at least", least, operator.ge)
    limits = *ends, ("below", below, operator.lt), ("at most", most, operator.le)
    if not _is_bool(value) and isinstance(value, (int, float, np.integer, np.floating)):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found) and all(bound is None or holds(found, bound) for _, bound, holds in limits):
            return found
    bounds = " and ".join(f"{word} {bound:g}" for word, bound, _ in limits if bound is not None)
    raise ValueError(f"{name} must be a finite number{bounds and ' ' + bounds}, got {shown(value)}{_and(remedy)}")


def share(name: str, value: Any, *, least: float | None = None, most: float | None = None) -> float:
    """A share: above 0 and below 1, unless 0 (`least=0`) or 1 (`most=1`) is allowed too."""
    above, below = 0 if least is None else None, 1 if most is None else None
    return number(name, value, above=above, least=least, below=below, most=most, remedy="0.1 is a tenth")


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of several names."""
    names = list(choices)
    if isinstance(value, str) and value in names:
        return value
    raise ValueError(f"{name} must be one of {', '.join(map(repr, names))}, got {shown(value)}")


def text(name: str, value: Any) -> str:
    """A text, maybe empty."""
    if isinstance(value, str):
        return value
    raise ValueError(f"{name} must be a text, got {shown(value)}")


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if _is_bool(value):
        return bool(value)
    raise ValueError(f"{name} must be True or False, got {shown(value)}")


def seed(name: str, value: Any) -> int:
    """A seed: a whole number, zero or more, of at most 63 bits."""
    return whole(name, value, 0, _LARGEST_SEED)


def generator(value: Any) -> np.random.Generator:
    """What a parameter `seed` seeds."""
    return np.random.default_rng(seed("seed", value))


def sequence(name: str, value: Any, what: str = "value") -> tuple[Any, ...]:
    """The elements of a list, tuple, range or 1-D array, at least one."""
    if isinstance(value, (list, tuple, range)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        if len(value):
            return tuple(value)
        raise ValueError(f"{name} is an empty sequence; give at least one {what}")
    raise ValueError(f"{name} must be a sequence of {what}s, got {shown(value)}")


def shown(value: Any) -> str:
    """A value in a message: its type too where that is not to be seen, and never more than a line."""
    if isinstance(value, np.generic):
        value = value.item()
    try:
        text = repr(value)
    except Exception:  # such as of a damaged sparse matrix
        text = "\n"
    if len(text) > 80 or "\n" in text:
        shape = f" of shape {value.shape}" if hasattr(value, "shape") else ""
        return f"a {type(value).__name__}{shape}"
    return text


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _and(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""
