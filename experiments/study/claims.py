"""Verdicts over seeds, and the one place where a verdict becomes sentences.

A study works out whether a claim holds and the figures that decide it; `Words` has its sentences:

    DEEPER = Words("{model}: deeper is worse.", "HR@10 {shallow:HR@10} against {deep:HR@10}.")
    DEEPER.claim(ahead(shallow, deep), model="∞-AE", shallow=shallow, deep=deep)
"""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments.study.tables import spread

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Claim:
    """A thing that the paper argues from, and whether these figures bear it out."""

    says: str
    holds: bool | None  # None where these figures cannot tell
    found: str  # our figures that decide it
    why: str = ""  # where it does not hold, what we know of the cause

    def markdown(self) -> str:
        verdict = {True: "Holds", False: "**Does not hold**", None: "Not decided"}[self.holds]
        return f"- {verdict}: {self.says} {self.found}" + (f" {self.why}" if self.why and not self.holds else "")


class _Formatter(string.Formatter):
    """Figures of several seeds are shown as mean ± standard deviation, in percent: `{ours:HR@10}`; AUC as it is."""

    def format_field(self, value: Any, spec: str) -> Any:
        if isinstance(value, (list, tuple, np.ndarray, pd.Series)):
            return spread([*value], spec)
        return super().format_field(value, spec)


@dataclass(frozen=True)
class Sentence:
    """Words with places for figures, as `str.format` fills them in."""

    text: str  # where figures are several rows, it has them at {rows}
    each: str = ""  # the words of a row
    between: str = ", "

    def __call__(self, rows: Rows = (), **figures: Any) -> str:
        filled = _Formatter().vformat
        shown = self.between.join(filled(self.each, (), {**figures, **row}) for row in rows)
        return filled(self.text, (), {**figures, "rows": shown})


class Words:
    """The sentences of a claim: `says`, and `found` with `each` and `between` as a `Sentence` has them."""

    def __init__(self, says: str, found: str, each: str = "", between: str = ", "):
        self.says, self.found = Sentence(says), Sentence(found, each, between)

    def claim(self, holds: bool | None, rows: Rows = (), *, why: str = "", **figures: Any) -> Claim:
        """The claim of a verdict and its figures."""
        return Claim(self.says(**figures), holds, self.found(rows, **figures), why)


def ahead(ours: Iterable[float], theirs: Iterable[float]) -> bool | None:
    """Whether ours are larger, over seeds: True where the worst of ours is above the best of theirs.

    False where not even the mean is, or all are equal; None, not decided, where the mean is but seeds overlap.
    """
    ours, theirs = np.asarray([*ours], float), np.asarray([*theirs], float)
    if ours.min() > theirs.max():
        return True
    return None if ours.mean() > theirs.mean() else False


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """Whether all hold: False where one does not, None where one is not decided, or there is none."""
    found = set(verdicts)
    if False in found:
        return False
    return True if found == {True} else None


def ahead_of_each(ours: pd.Series, theirs: Mapping[Any, pd.Series]) -> tuple[bool | None, dict[str, Any]]:
    """Whether ours are `ahead` of each of theirs; and `ours`, `theirs` (the best of them by the mean), its `name`."""
    best = max(theirs, key=lambda name: theirs[name].mean())
    verdict = every(ahead(ours, values) for values in theirs.values())
    return verdict, {"ours": ours, "theirs": theirs[best], "name": best}


def ahead_by_budget(
    ours: pd.DataFrame, theirs: pd.DataFrame, metric: str
) -> tuple[list[bool | None], list[dict[str, Any]]]:
    """At every number of users that both have: `ahead_of_each` source of theirs; verdicts, and rows with `users`."""
    verdicts, rows = [], []
    for users, cells in ours.groupby("users")[metric]:
        if rivals := dict(list(at(theirs, users=users).groupby("source")[metric])):
            verdict, row = ahead_of_each(cells, rivals)
            verdicts.append(verdict)
            rows.append({**row, "users": users})
    return verdicts, rows


def at(frame: pd.DataFrame, **place: Any) -> pd.DataFrame:
    """The rows with these values on these axes; a list of values is any of them."""
    for name, value in place.items():
        frame = frame[frame[name].isin(value if isinstance(value, (list, tuple)) else [value])]
    return frame
