"""The one "best on validation": candidates come one after the other, the best is kept, and a row is written of each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from infae.errors import NoUsableSettingError
from infae.runtime.progress import bar

T = TypeVar("T")


class Trial(NamedTuple, Generic[T]):
    """What is tried."""

    params: Mapping[str, Any]  # the setting, for the record
    candidate: T | None  # a fitted model, or whatever `value` measures
    failure: str = ""  # why there is none


@dataclass(frozen=True)
class Best(Generic[T]):
    """What came out on top."""

    candidate: T
    params: Mapping[str, Any]
    value: float
    tried: list[dict[str, Any]]  # a row a trial, in their order: its `params`, and its value or figures, or `failure`


def best(
    trials: Iterable[Trial[T]],
    value: Callable[[T], float | Mapping[str, float]],
    metric: str,
    *,
    description: str = "",
    progress: bool = False,
    total: int | None = None,
) -> Best[T]:
    """The candidate of the highest finite value; of equal ones the first.

    No more than two candidates are alive at a time, if `trials` makes them as they are asked for.
    `value` measures one, higher is better, NaN is no value; or gives several figures by name.
    `metric` is what the value is called in `tried`, or which of the figures is compared.

    Raises NoUsableSettingError, a ValueError, where no trial has a finite value; it says what became of each.
    """
    tried: list[dict[str, Any]] = []
    found: tuple[float, Mapping[str, Any], T] | None = None
    with bar(description, progress, unit="trial", total=total) as shown:
        # Not held while the next is made, by a bar around `trials` neither: at scale each takes gigabytes.
        for params, candidate, failure in trials:
            shown.update()
            if candidate is None:
                tried.append({**params, "failure": failure})
                continue
            figures = value(candidate)
            tried.append({**params, **(figures if isinstance(figures, Mapping) else {metric: float(figures)})})
            reached = tried[-1][metric]
            if np.isfinite(reached) and (found is None or reached > found[0]):
                found = reached, params, candidate
            del candidate
    if found is None:
        told = "; ".join(row.get("failure") or f"{metric} is {row[metric]}" for row in tried)
        raise NoUsableSettingError(f"none of {len(tried)} settings has a finite {metric} on validation: {told}")
    return Best(found[2], found[1], found[0], tried)
