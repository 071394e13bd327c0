"""Published figures of distilled recommenders, by table, data, model and metric."""

from pathlib import Path

import pandas as pd

_FIGURES = pd.read_csv(Path(__file__).with_suffix(".csv"))


def beside(shown: str, data: str) -> dict[str, dict[str, float]]:
    """Model -> metric -> figure in percent."""
    rows = _FIGURES[(_FIGURES["shown"] == shown) & (_FIGURES["data"] == data)]
    return {
        model: {metric: 100 * value for metric, value in zip(part["metric"], part["value"], strict=True)}
        for model, part in rows.groupby("model", sort=False)
    }
