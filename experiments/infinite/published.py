"""Figures that the paper prints, to stand beside ours."""

from __future__ import annotations

from collections.abc import Mapping

_COLUMNS = ("AUC-sampled", "HR@10", "HR@100", "NDCG@10", "NDCG@100", "PSP@10")
_TABLE_1: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "magazine": {
        "PopRec": (0.8436, 14.35, 59.5, 8.42, 19.38, 6.85),
        "Bias only": (0.8445, 14.36, 59.35, 8.33, 19.31, 6.73),
        "MF": (0.8475, 18.36, 58.94, 13.1, 21.76, 9.24),
        "NeuMF": (0.8525, 18.35, 59.3, 13.6, 21.13, 9.0),
        "LightGCN": (0.8141, 27.12, 58.0, 22.57, 29.92, 13.2),
        "EASE": (0.6673, 26.31, 48.36, 22.84, 28.27, 12.96),
        "MVAE": (0.8507, 17.94, 57.3, 12.18, 19.46, 8.81),
        "∞-AE": (0.8539, 27.09, 60.86, 23.06, 30.75, 13.22),
        "DISTILL-CF + ∞-AE": (0.8584, 28.27, 61.78, 23.81, 31.75, 13.76),
    },
    "ml-1m": {
        "PopRec": (0.8332, 13.07, 30.38, 13.84, 19.49, 1.1),
        "Bias only": (0.833, 12.93, 29.63, 13.74, 19.13, 1.07),
        "MF": (0.9065, 24.63, 53.26, 25.65, 35.62, 2.41),
        "NeuMF": (0.9045, 23.25, 51.42, 24.44, 33.93, 2.26),
        "LightGCN": (0.9289, 27.43, 55.61, 28.85, 38.29, 2.72),
        "EASE": (0.9069, 28.54, 57.28, 29.88, 40.16, 3.06),
        "MVAE": (0.8832, 21.7, 52.29, 22.14, 33.82, 2.42),
        "∞-AE": (0.9457, 31.51, 60.05, 32.82, 42.53, 3.22),
        "DISTILL-CF + ∞-AE": (0.9415, 31.16, 58.28, 32.52, 41.29, 3.15),
    },
    "douban": {
        "PopRec": (0.8945, 11.06, 17.07, 11.63, 12.63, 0.52),
        "Bias only": (0.8932, 10.71, 16.63, 11.24, 12.27, 0.5),
        "MF": (0.9288, 12.69, 20.29, 13.21, 14.96, 0.63),
        "NeuMF": (0.9258, 12.79, 19.69, 13.33, 14.39, 0.63),
        "LightGCN": (0.9391, 15.98, 22.38, 16.68, 17.2, 0.86),
        "EASE": (0.857, 17.93, 25.41, 19.48, 19.55, 1.06),
        "MVAE": (0.9129, 15.36, 22.82, 16.17, 17.32, 0.87),
        "∞-AE": (0.9523, 23.56, 28.37, 24.94, 23.26, 1.28),
        "DISTILL-CF + ∞-AE": (0.951, 22.98, 27.2, 24.2, 22.21, 1.24),
    },
    "netflix": {
        "PopRec": (0.9249, 12.14, 28.47, 12.34, 17.79, 1.45),
        "Bias only": (0.9234, 11.49, 27.66, 11.72, 16.95, 1.28),
        "MF": (0.9234, 11.69, 27.72, 12.04, 17.17, 1.31),
        "NeuMF": (0.9244, 11.06, 26.76, 11.48, 16.4, 1.21),
        "EASE": (0.9418, 26.03, 50.35, 26.83, 35.09, 3.59),
        "MVAE": (0.9495, 20.6, 44.53, 20.85, 29.22, 2.77),
        "∞-AE": (0.9663, 29.69, 50.88, 30.59, 36.59, 3.75),
        "DISTILL-CF + ∞-AE": (0.9728, 29.57, 49.24, 30.54, 35.58, 3.62),
    },
}

TABLE_1: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    dataset: {model: dict(zip(_COLUMNS, figures, strict=True)) for model, figures in rows.items()}
    for dataset, rows in _TABLE_1.items()
}
"""Sachdeva et al. (2022), table 1: data set, model, metric; percent, but for AUC. 500 synthetic users in the last row.

Their code samples AUC, with all users in one pool. On Netflix their ∞-AE learns from 25,000 users
drawn at random, and LightGCN timed out.
"""
