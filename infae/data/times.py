"""Times as numbers: what a log's timestamps may be, and in which order they come."""

from typing import Any

import numpy as np
import pandas as pd

from infae.runtime.checks import shown


def seconds(dates: pd.Series) -> pd.Series:
    """Seconds since 1970 of dates and times; those without a time zone are in UTC."""
    return (pd.to_datetime(dates, utc=True) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)


def times(values: Any, name: str) -> np.ndarray:
    """Numbers as they are, dates as `seconds`, and texts as whichever of the two all of them are.

    Raises ValueError for anything else: as texts "10" would come before "9".
    """
    column = pd.Series(values).reset_index(drop=True)
    if column.dtype.kind not in "iufM":
        texts = column.astype(str)
        column = pd.to_numeric(texts, errors="coerce")
        if column.isna().any():
            column = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True)
        if (wrong := column.isna()).any():
            raise ValueError(
                f"{name} must be numbers, or dates written year first such as 2005-09-06 12:00, got "
                f"{shown(texts[int(wrong.argmax())])}; convert them with pandas.to_datetime"
            )
    if column.dtype.kind == "M":
        column = seconds(column)
    if not (finite := np.isfinite(column)).all():
        raise ValueError(f"{name} must be finite, got {column[~finite].iloc[0]}")
    return column.to_numpy()
