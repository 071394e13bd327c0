"""`evaluate`: a recommender and a split in, a table of ranking metrics out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions, item_positions
from infae.data.splits import Part, Split
from infae.ranking import metrics
from infae.runtime.progress import bar


class Recommender(Protocol):
    """What `evaluate` asks of a model: scores for histories, higher is better."""

    def predict(self, histories: Interactions, /) -> np.ndarray:
        """(n_users, n_items) finite scores from the clicks of n_users.

        The columns are the items of the histories, or those of the model's `item_ids_` if it has one.
        """
        ...


class Report(Mapping[str, float]):
    """Means over users, by name, such as `report["HR@10"]`: in [0, 1], or NaN where defined for nobody.

    Attributes:
      per_user: name -> (n_users,) values; NaN where a metric is not defined for a user.
      users: (n_users,) row positions, in the split's part, of the users evaluated.
      n_skipped: users of the part who have nothing held out and are in no mean.
    """

    def __init__(self, means: dict[str, float], per_user: dict[str, np.ndarray], users: np.ndarray, n_skipped: int):
        self._means, self.per_user, self.users, self.n_skipped = means, per_user, users, n_skipped

    def __getitem__(self, name: str) -> float:
        return self._means[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._means)

    def __len__(self) -> int:
        return len(self._means)

    def __repr__(self) -> str:
        lines = [f"{name:<16}{value:8.4f}" for name, value in self.items()]
        return "\n".join([f"{len(self.users):,} users ({self.n_skipped:,} without held-out items)", *lines])


def evaluate(
    model: Recommender,
    split: Split,
    on: Part = "test",
    k: Sequence[int] = (10, 100),
    *,
    n_negatives: int = 50,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Rank each user's held-out items among all items the user has not clicked.

    The histories scored are `split.context(on)`: train rows for validation, train and
    validation rows for test. Equal scores rank by item position.

    Names in the report, for each k, means over the users with something held out:
      HR@k: hits / min(k, held-out), as in the papers' code.
      Recall@k: hits / held-out, the HR@k that the paper prints.
      NDCG@k: discounted gain over the best possible.
      PSP@k: propensity-scored precision over the best possible, normalised as in the papers' code.
      PSP-printed@k: as appendix B.5 prints it, at most 1/k.
      AUC: exact, over all items neither clicked nor held out, the mean over users.
      AUC-sampled: all users' held-out items against `n_negatives` sampled a user, in one pool,
        pooled as in the papers' code; drawn by `seed` among items neither clicked nor held out,
        and left out where `n_negatives` is 0.

    Raises:
      ValueError: a bad `on` or `k`, nothing held out, or scores of the wrong shape or not finite.
    """
    ks = _check_k(k)
    context, targets = split.context(on), split.targets(on).matrix
    users = np.flatnonzero(np.diff(targets.indptr))
    if users.size == 0:
        raise ValueError(f"{split.name or 'the split'} has no {on} clicks to find; see infae.data.with_validation")
    weights = metrics.inverse_propensity(split.train.matrix)
    rng = np.random.default_rng(seed)
    tables: list[dict[str, np.ndarray]] = []
    pools: list[tuple[np.ndarray, np.ndarray]] = []
    batch = batch_size(context.n_items)
    for start in bar(f"evaluating {on}", progress, range(0, users.size, batch), "batch"):
        rows = users[start : start + batch]
        shown, wanted = context.select_users(rows), targets[rows]
        scores = _scores(model, shown)
        tables.append(_per_user(metrics.held_out_ranks(scores, shown.matrix, wanted), ks, weights))
        pools.append(_pool(scores, shown.matrix, wanted, n_negatives, rng))
    per_user = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    means = {name: _mean(values) for name, values in per_user.items()}
    if n_negatives:
        means["AUC-sampled"] = metrics.pooled_auc(*(np.concatenate(side) for side in zip(*pools, strict=True)))
    return Report(means, per_user, users, context.n_users - users.size)


def batch_size(n_items: int) -> int:
    """Users to score at once: a power of two, at most 512 and at most 256 MiB of float32 scores."""
    return max(8, min(512, 1 << ((1 << 26) // n_items).bit_length() - 1)) if n_items < 1 << 26 else 8


def metric_k(metric: str) -> tuple[int, ...]:
    """The cut-off in a metric's name ("HR@100" -> (100,)); ValueError for a name that `evaluate` lacks."""
    name, _, k = str(metric).partition("@")
    if metric in ("AUC", "AUC-sampled"):
        return (1,)
    if name in ("HR", "Recall", "NDCG", "PSP", "PSP-printed") and k.isdigit() and int(k) > 0:
        return (int(k),)
    raise ValueError(
        f"unknown metric {metric!r}; expected AUC, AUC-sampled, or HR@k, Recall@k, NDCG@k, PSP@k, PSP-printed@k "
        "for a whole k, such as 'HR@100'"
    )


def _check_k(k: Sequence[int]) -> tuple[int, ...]:
    if np.ndim(k) != 1 or len(k) == 0 or not all(isinstance(x, (int, np.integer)) and x >= 1 for x in k):
        raise ValueError(f"k must be a sequence of whole numbers of at least 1, such as (10, 100), got {k!r}")
    return tuple(k)


def _scores(model: Recommender, histories: Interactions) -> np.ndarray:
    scores = np.asarray(model.predict(histories))
    columns = getattr(model, "item_ids_", histories.item_ids)
    if not np.array_equal(columns, histories.item_ids) and scores.shape == (histories.n_users, columns.size):
        scores = scores[:, item_positions(histories.item_ids, columns)]
    if scores.shape != histories.shape:
        raise ValueError(f"predict returned shape {scores.shape} for histories of shape {histories.shape}")
    return scores if scores.dtype.kind == "f" else scores.astype(np.float64)


def _per_user(ranks: metrics.Ranks, ks: tuple[int, ...], weights: np.ndarray) -> dict[str, np.ndarray]:
    table: dict[str, np.ndarray] = {}
    for k in ks:
        table[f"HR@{k}"] = metrics.hit_rate(ranks, k)
        table[f"Recall@{k}"] = metrics.recall(ranks, k)
        table[f"NDCG@{k}"] = metrics.ndcg(ranks, k)
        table[f"PSP@{k}"] = metrics.psp(ranks, k, weights)
        table[f"PSP-printed@{k}"] = metrics.psp_printed(ranks, k, weights)
    table["AUC"] = metrics.auc(ranks)
    return table


def _pool(scores: Any, shown: sp.csr_matrix, wanted: sp.csr_matrix, n: int, rng: np.random.Generator) -> Any:
    coo = wanted.tocoo()
    return scores[coo.row, coo.col], scores[metrics.sample_negatives(shown, wanted, n, rng)]


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
