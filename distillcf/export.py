"""Clicks in the formats of other tools; any `Interactions`, so a coreset too."""

from __future__ import annotations

import csv
import os
import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from infae.data.interactions import Interactions
from infae.runtime import checks
from infae.storage.atomic import replacing
from infae.storage.paths import writable

if TYPE_CHECKING:
    import pandas as pd


def to_frame(clicks: Interactions) -> pd.DataFrame:
    """One row a click: `user_id`, `item_id` and `rating`, the stored value."""
    return clicks.to_frame().assign(rating=clicks.matrix.tocoo().data)


def to_csv(clicks: Interactions, path: str | os.PathLike[str]) -> None:
    """`to_frame` as CSV."""
    _write(to_frame(clicks), "to_csv", path, index=False)


def to_parquet(clicks: Interactions, path: str | os.PathLike[str]) -> None:
    """`to_frame` as Parquet; needs the `parquet` extra."""
    _write(to_frame(clicks), "to_parquet", path, index=False)


def to_recbole(clicks: Interactions, path: str | os.PathLike[str]) -> None:
    """RecBole's atomic interaction file; ValueError for a path without the ending `.inter`, or ids it cannot hold."""
    file = writable("path", path)
    if file.suffix != ".inter":
        raise ValueError(f"RecBole finds its interactions by the ending .inter, got {file.name!r}")
    for id_ in chain(clicks.user_ids.tolist(), clicks.item_ids.tolist()):
        # Readers differ in what they make of quotes: a file without any is the same to all.
        if re.search(r'^$|^"|[\t\r\n\0]', str(id_)):
            raise ValueError(
                f"RecBole's format has no tab, line break, leading quote or empty id, got {checks.shown(str(id_))}; "
                "rename it, or use to_csv"
            )
    types = {"user_id": "user_id:token", "item_id": "item_id:token", "rating": "rating:float"}
    frame = to_frame(clicks).rename(columns=types)
    _write(frame, "to_csv", file, sep="\t", index=False, quoting=csv.QUOTE_NONE)


def _write(frame: pd.DataFrame, method: str, path: str | os.PathLike[str], **options: Any) -> None:
    with replacing(writable("path", path)) as aside:
        getattr(frame, method)(aside, **options)
