"""Figures of the model-inversion paper, by table, data, source and learner."""

from pathlib import Path

import pandas as pd

_FIGURES = pd.read_csv(Path(__file__).with_suffix(".csv"), keep_default_na=False)


def beside(shown: str, table: str) -> dict[str, dict[str, float]]:
    """Source -> column such as "AUC LR", or "AUC" where there is one learner only -> figure."""
    rows = _FIGURES[(_FIGURES["shown"] == shown) & (_FIGURES["table"] == table)]
    return {
        source: {f"{m} {row['learner']}".strip(): row[m] for _, row in part.iterrows() for m in ("AUC", "LogLoss")}
        for source, part in rows.groupby("source", sort=False)
    }
