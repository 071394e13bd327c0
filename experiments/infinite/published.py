"""Figures that the paper prints, to stand beside ours."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

_FIGURES = pd.read_csv(Path(__file__).with_name("published.csv"), index_col="model")

TABLE_1: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    data: rows.drop(columns="data").to_dict("index") for data, rows in _FIGURES.groupby("data", sort=False)
}
"""Sachdeva et al. (2022), table 1: data set, model, metric; percent, but for AUC. 500 synthetic users in the last row.

Their code samples AUC, with all users in one pool. On Netflix their ∞-AE learns from 25,000 users
drawn at random, and LightGCN timed out.
"""
