"""Clicks: reading, splitting and making them.

Only `Interactions` and `Split` load at once; the rest brings in pandas and loads on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from infae.data.blocks import Blocks
from infae.data.interactions import Interactions
from infae.data.splits import Split, leave_one_out, random_split, time_split, user_split, with_validation

if TYPE_CHECKING:
    from infae.data import datasets, readers, synthetic
    from infae.data.datasets import load

__all__ = [
    "Blocks",
    "Interactions",
    "Split",
    "datasets",
    "leave_one_out",
    "load",
    "random_split",
    "readers",
    "synthetic",
    "time_split",
    "user_split",
    "with_validation",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("infae.data.datasets").load
    if name in ("datasets", "readers", "synthetic"):
        return importlib.import_module(f"infae.data.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
