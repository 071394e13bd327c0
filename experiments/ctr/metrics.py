"""How well logits tell clicks: AUC, of all rows or within groups; LogLoss; calibration."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata


def _checked(labels: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, logits = np.asarray(labels, np.float64), np.asarray(logits, np.float64)
    if labels.shape != logits.shape or labels.ndim != 1 or not labels.size:
        raise ValueError(f"expected as many labels as logits, at least one, got {labels.shape} and {logits.shape}")
    if not (labels.min() >= 0 and labels.max() <= 1):
        raise ValueError(f"labels must be from 0 to 1, got {labels.min():g} to {labels.max():g}")
    if not np.isfinite(logits).all():
        raise ValueError(f"{(~np.isfinite(logits)).sum():,} of {logits.size:,} logits are NaN or infinite")
    return labels, logits


def auc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of (click, no click) pairs in the right order, ties a half; labels are 0 or 1, of both kinds.

    Raises ValueError for other labels, labels of one kind only, and logits that are not finite.
    """
    labels, logits = _checked(labels, logits)
    if {*np.unique(labels)} != {0, 1}:
        raise ValueError(f"AUC needs labels 0 and 1, both of them, got {np.unique(labels)[:5]}")
    n = labels.sum()
    return float((rankdata(logits)[labels == 1].sum() - n * (n + 1) / 2) / (n * (labels.size - n)))


def grouped_auc(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray) -> float:
    """Mean AUC within groups, such as a user's rows, weighted by rows; groups of one kind of label are left out.

    Raises ValueError as `auc`, and where no group has both kinds.
    """
    labels, logits = _checked(labels, logits)
    _, of_group = np.unique(groups, return_inverse=True)
    if of_group.shape != labels.shape:
        raise ValueError(f"expected a group for each of {labels.size:,} rows, got {of_group.shape}")
    order, starts = np.argsort(of_group, kind="stable"), np.cumsum(np.bincount(of_group))[:-1]
    parts = [part for part in np.split(order, starts) if 0 < labels[part].sum() < part.size]
    if not parts:
        raise ValueError("no group has both a click and none")
    values = [auc(labels[part], logits[part]) for part in parts]
    return float(np.average(values, weights=[part.size for part in parts]))


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean of -y log p - (1 - y) log(1 - p), p = sigmoid(logit), in nats; labels y from 0 to 1."""
    labels, logits = _checked(labels, logits)
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


class Calibration(NamedTuple):
    """Rows in groups of equal number, by predicted probability."""

    predicted: np.ndarray  # (n_bins,) mean probability
    observed: np.ndarray  # (n_bins,) share of clicks
    n: np.ndarray  # (n_bins,) rows

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |predicted - observed| over rows."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.n))


def calibration(labels: np.ndarray, logits: np.ndarray, n_bins: int = 20) -> Calibration:
    """How far predicted probabilities are from shares of clicks."""
    labels, logits = _checked(labels, logits)
    # Of rows that are predicted alike, which comes first is chance: each has their mean.
    _, alike = np.unique(logits, return_inverse=True)
    labels = (np.bincount(alike, labels) / np.bincount(alike))[alike]
    parts = [part for part in np.array_split(np.argsort(logits, kind="stable"), n_bins) if part.size]
    probability = expit(logits)
    predicted, observed = (np.array([x[part].mean() for part in parts]) for x in (probability, labels))
    return Calibration(predicted, observed, np.array([part.size for part in parts]))
