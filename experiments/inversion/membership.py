"""Membership inference: does a model, or do rows, tell which rows were trained on?

Both attacks give every row (user, item, label) a score; found is the AUC of members, which are training rows, against
others that never were: 0.5 where nothing is told.
"""

import numpy as np
import scipy.sparse as sp

from experiments.ctr.metrics import auc
from experiments.ctr.models import Model
from experiments.ctr.rows import Rows
from experiments.ctr.train import logits

MOST = 100_000
"""Members, and others, that are scored; a random part of more."""


def by_loss(model: Model, members: Rows, others: Rows, seed: int = 0) -> float:
    """By the model's loss on a row, the lower the likelier (Yeom et al. 2018, adversary 1).

    Raises as `train.logits`; ValueError where there are no rows of either kind.
    """

    def score(rows: Rows) -> np.ndarray:
        found = logits(model, rows).astype(np.float64)
        return rows.known_labels * found - np.logaddexp(0, found)

    return _told(*(score(each) for each in _some(members, others, seed)))


def by_rows(rows: Rows, members: Rows, others: Rows, seed: int = 0) -> float:
    """By how rows made from a model, or taken from data, label a pair of values, weighted by its share of each.

        score(i, j, y) = sum_r p_ri q_rj c_r / sum_r p_ri q_rj,    c_r = y label_r + (1 - y) (1 - label_r)

    0.5 where no row has the pair. ValueError for other than two fields, or where there are no rows.
    """
    if len(rows.fields) != 2:
        raise ValueError(f"rows of two fields are attacked, got {', '.join(rows.fields.names)}")
    soft = any(value.ndim == 2 for value in rows.values)
    # Soft rows have nearly all pairs, of which a dense product is the quicker.
    first, second = (sp.csr_matrix(value).toarray() if soft else value for value in rows.soft().values)
    labels = rows.known_labels

    def score(asked: Rows) -> np.ndarray:
        totals = []
        for shares in (np.ones(len(rows), np.float32), labels):
            weighed = first.T @ (sp.diags(shares) @ second)
            totals.append(np.asarray(weighed[tuple(asked.values)]).ravel())
        mass, clicked = totals
        share = np.divide(clicked, mass, out=np.full(len(mass), 0.5, np.float32), where=mass > 0)
        return asked.known_labels * share + (1 - asked.known_labels) * (1 - share)

    return _told(*(score(each) for each in _some(members, others, seed)))


def _some(members: Rows, others: Rows, seed: int) -> tuple[Rows, Rows]:
    rng = np.random.default_rng(seed)
    return tuple(  # type: ignore[return-value]
        each if len(each) <= MOST else each[rng.permutation(len(each))[:MOST]] for each in (members, others)
    )


def _told(members: np.ndarray, others: np.ndarray) -> float:
    if not (members.size and others.size):
        raise ValueError("there must be both members and others")
    return auc(np.repeat([1, 0], [members.size, others.size]), np.concatenate([members, others]))
