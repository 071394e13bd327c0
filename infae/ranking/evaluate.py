"""`evaluate`: a recommender and a split in, a table of ranking metrics out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions, item_positions
from infae.data.splits import Part, Split
from infae.machine import batches
from infae.ranking import metrics
from infae.runtime import checks
from infae.runtime.progress import bar

AT_K: dict[str, Callable[..., np.ndarray]] = {
    "HR": metrics.hit_rate,
    "Recall": metrics.recall,
    "NDCG": metrics.ndcg,
    "PSP": metrics.psp,
    "PSP-printed": metrics.psp_printed,
}
"""By name: (ranks, k) -> (n_users,), and those of PSP take the inverse propensities too."""


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
    ks = tuple(checks.whole("k", value, 1, metrics.LARGEST_K) for value in checks.sequence("k", k, "whole number"))
    checks.whole("n_negatives", n_negatives, 0, 1_000_000)
    checks.flag("progress", progress)
    rng = np.random.default_rng(checks.seed("seed", seed))
    names = [*(f"{name}@{k}" for k in ks for name in AT_K), "AUC"]
    return _report(model, split, on, names, n_negatives, rng, progress)


def evaluate_by(model: Recommender, split: Split, names: Sequence[str], *, progress: bool = False) -> Report:
    """`evaluate` on validation by these metrics alone."""
    for name in names:
        metric_k(name)
    n_negatives, rng = 50 if "AUC-sampled" in names else 0, np.random.default_rng(0)
    per_user = [name for name in names if name != "AUC-sampled"]
    return _report(model, split, "validation", per_user, n_negatives, rng, progress)


def _report(
    model: Recommender,
    split: Split,
    on: Part,
    names: Sequence[str],
    n_negatives: int,
    rng: np.random.Generator,
    progress: bool,
) -> Report:
    if not isinstance(split, Split):
        raise ValueError(f"split must be an infae.Split, such as infae.data.load gives, got {checks.shown(split)}")
    if not callable(getattr(model, "predict", None)):
        raise ValueError(f"model must have a method predict(histories), got {checks.shown(model)}")
    context, targets = split.context(on), split.targets(on).matrix
    users = np.flatnonzero(np.diff(targets.indptr))
    if users.size == 0:
        raise ValueError(f"{split.name or 'the split'} has no {on} clicks to find; see infae.data.with_validation")
    with_weights = any(name.startswith("PSP") for name in names)
    weights = metrics.inverse_propensity(split.train.matrix) if with_weights else np.zeros(0)
    tables: list[dict[str, np.ndarray]] = []
    pools: list[tuple[np.ndarray, np.ndarray]] = []
    for at in bar(f"evaluating {on}", progress, [*batches(users.size, context.n_items)], "batch"):
        rows = users[at]
        shown, wanted = context.select_users(rows), targets[rows]
        scores = _scores(model, shown)
        tables.append(_per_user(metrics.held_out_ranks(scores, shown.matrix, wanted), names, weights))
        if n_negatives:
            pools.append(_pool(scores, shown.matrix, wanted, n_negatives, rng))
    per_user = {name: np.concatenate([t[name] for t in tables]) for name in names}
    means = {name: _mean(values) for name, values in per_user.items()}
    if n_negatives:
        means["AUC-sampled"] = metrics.pooled_auc(*(np.concatenate(side) for side in zip(*pools, strict=True)))
    return Report(means, per_user, users, context.n_users - users.size)


def metric_k(metric: str) -> tuple[int, ...]:
    """The cut-off in a metric's name ("HR@100" -> (100,)); ValueError for a name that `evaluate` lacks."""
    name, _, k = metric.partition("@") if isinstance(metric, str) else ("", "", "")
    if isinstance(metric, str) and metric in ("AUC", "AUC-sampled"):
        return (1,)
    if name in AT_K and k.isdecimal() and 0 < int(k) <= metrics.LARGEST_K:
        return (int(k),)
    names = ", ".join(f"{name}@k" for name in AT_K)
    raise ValueError(
        f"unknown metric {checks.shown(metric)}; expected AUC, AUC-sampled, or {names} for a whole k, such as 'HR@100'"
    )


def _scores(model: Recommender, histories: Interactions) -> np.ndarray:
    scores = np.asarray(model.predict(histories))
    columns = getattr(model, "item_ids_", histories.item_ids)
    if not np.array_equal(columns, histories.item_ids) and scores.shape == (histories.n_users, columns.size):
        scores = scores[:, item_positions(histories.item_ids, columns)]
    if scores.shape != histories.shape:
        raise ValueError(f"predict returned shape {scores.shape} for histories of shape {histories.shape}")
    return scores if scores.dtype.kind == "f" else scores.astype(np.float64)


def _per_user(ranks: metrics.Ranks, names: Sequence[str], weights: np.ndarray) -> dict[str, np.ndarray]:
    def values(name: str) -> np.ndarray:
        metric, _, k = name.partition("@")
        if metric == "AUC":
            return metrics.auc(ranks)
        return AT_K[metric](ranks, int(k), *((weights,) if metric.startswith("PSP") else ()))

    return {name: values(name) for name in names}


def _pool(scores: Any, shown: sp.csr_matrix, wanted: sp.csr_matrix, n: int, rng: np.random.Generator) -> Any:
    coo = wanted.tocoo()
    return scores[coo.row, coo.col], scores[metrics.sample_negatives(shown, wanted, n, rng)]


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
