"""BPR-MF: matrix factorisation trained to rank clicks above non-clicks (Rendle et al. 2009), in PyTorch.

Not imported by `experiments.baselines`, which works without PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding, softplus

from experiments.baselines.base import Baseline
from experiments.torch_data import Triples, check_whole
from infae import Interactions, Split, evaluate
from infae.evaluate import metric_k
from infae.histories import as_clicks, as_histories, as_split
from infae.progress import bar

if TYPE_CHECKING:
    from experiments.models import Search

PAPER_GRID = {
    "n_factors": (4, 8, 16, 32, 50, 64, 128),
    "learning_rate": (0.001, 0.006, 0.01),
    "dropout": (0.0, 0.3, 0.5),
}
"""What Sachdeva et al. (2022), table 3, choose from: 63 trainings of a minute or two each on ML-1M."""

INIT_STD = 0.1
FOLD_IN_REG = 0.01


class BPRMF(Baseline):
    """score(u, i) = p_u . q_i + b_i, trained to rank an item i clicked above an item j not clicked.

        min over p, q, b of the mean over (u, i, j) of -x_ui * log sigmoid(score(u, i) - score(u, j))

    with x_ui the click's value, 1 or below on a soft support (Rendle et al. 2009, section 4.3.1;
    dropout, as in the paper's table 3, in place of their L2 penalty). Every click is used once an
    epoch, each time against another j drawn uniformly.

    Histories are scored by their items alone, those of training users too, with p_u folded in
    by ridge regression of the trained p_u on the mean q_i of the items of u's history; an empty
    history gets the mean p_u. On ML-1M's validation clicks this ranks better than the trained p_u.

    Args:
      n_factors: latent size.
      learning_rate: of Adam.
      dropout: share of the coordinates of p_u set to zero in a triple, the others scaled up.
      n_epochs: passes over the clicks, at most, where `fit` is given validation clicks.
      batch_size: triples a step; smaller on summaries of a few thousand clicks.
      metric: what `fit` stops by, a name of `infae.evaluate`'s report.
      check_every: epochs from one look at validation to the next.
      patience: looks without a better value before training stops.
      seed: of initial values, order, negatives and dropout; no global generator is used.

    Attributes (after fit):
      epoch_: epochs trained for, of the state kept.
      path_: one dict an epoch: `epoch`, mean `loss`, and the value of `metric` where it was looked at.
      item_ids_: ids of the items.
    """

    def __init__(
        self,
        n_factors: int = 64,
        *,
        learning_rate: float = 0.006,
        dropout: float = 0.5,
        n_epochs: int = 100,
        batch_size: int = 16384,
        metric: str = "HR@100",
        check_every: int = 5,
        patience: int = 3,
        seed: int = 0,
    ):
        self.n_factors = n_factors
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.metric = metric
        self.check_every = check_every
        self.patience = patience
        self.seed = seed

    def fit(self, X: Any, validation: Split | Interactions | None = None, *, progress: bool = False) -> BPRMF:
        """Train for `n_epochs`, or as long as it helps on `validation`, and keep the best state.

        Args:
          X: clicks as in `InfiniteAE.fit`; stored values weigh the loss.
          validation: as in `InfiniteAE.fit`.
          progress: show progress bars on standard error.

        Raises:
          ValueError: bad parameters or data, or `metric` undefined on `validation`.
          FloatingPointError: training diverged. After either an earlier fit stays in place.
        """
        self._check()
        clicks = as_clicks(X)
        split = None if validation is None else as_split(clicks, validation)
        triples = Triples(clicks, self.seed)
        path: list[dict[str, float]] = []
        best: tuple[float, int, Factors] | None = None
        steps = self._epochs(clicks, triples)
        with one_thread(), bar("BPR-MF", progress, steps, "epoch", self.n_epochs) as epochs:
            for epoch, (tables, loss) in enumerate(epochs, start=1):
                path.append({"epoch": epoch, "loss": loss})
                if split is None or (epoch % self.check_every and epoch != self.n_epochs):
                    continue
                factors = Factors.of(tables, clicks, triples)
                value = path[-1][self.metric] = self._value(factors, split)
                epochs.set_postfix({self.metric: value})
                if np.isfinite(value) and (best is None or value > best[0]):
                    best = value, epoch, factors
                if best is not None and epoch - best[1] >= self.patience * self.check_every:
                    break
        if split is None:
            best = np.nan, self.n_epochs, Factors.of(tables, clicks, triples)
        if best is None:
            raise ValueError(f"{self.metric} is not defined on this validation part; choose another metric")
        _, self.epoch_, self._factors = best
        self.path_, self.item_ids_ = path, clicks.item_ids
        return self

    def _epochs(self, clicks: Interactions, triples: Triples) -> Iterator[tuple[Tables, float]]:
        """After every epoch the tables, which the next one changes, and the mean loss, dropout included."""
        rng = torch.Generator().manual_seed(self.seed)
        tables = Tables.random(clicks.n_users, clicks.n_items, self.n_factors, rng)
        optimizer = torch.optim.Adam(tables, lr=self.learning_rate)
        for epoch in range(self.n_epochs):
            triples.set_epoch(epoch)
            loss = self._epoch(tables, optimizer, triples, rng)
            if not np.isfinite(loss):
                raise FloatingPointError(
                    f"the BPR loss became {loss} in epoch {epoch + 1}, float32, with learning_rate = "
                    f"{self.learning_rate:g}; use a smaller one"
                )
            yield tables, loss

    def _epoch(self, tables: Tables, optimizer: torch.optim.Adam, triples: Triples, rng: torch.Generator) -> float:
        columns = (triples.users, triples.positives, triples.negatives, triples.weights)
        tensors = [torch.from_numpy(column) for column in columns]
        total = 0.0
        for index in torch.randperm(len(triples), generator=rng).split(self.batch_size):
            users, positives, negatives, weights = (tensor[index] for tensor in tensors)
            mask = self._mask(index.numel(), rng)
            loss = bpr_loss(tables, users, positives, negatives, weights, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * index.numel()
        return total / len(triples)

    def _mask(self, n: int, rng: torch.Generator) -> torch.Tensor | None:
        if not self.dropout:
            return None
        kept = 1 - self.dropout
        return torch.empty(n, self.n_factors).bernoulli_(kept, generator=rng) / kept

    def _value(self, factors: Factors, split: Split) -> float:
        n_negatives = 50 if self.metric == "AUC-sampled" else 0
        return evaluate(factors, split, "validation", metric_k(self.metric), n_negatives=n_negatives)[self.metric]

    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        return self._factors.scores(histories)

    def _check(self) -> None:
        for name in ("n_factors", "n_epochs", "batch_size", "check_every", "patience"):
            check_whole(getattr(self, name), name, 1)
        check_whole(self.seed, "seed", 0)
        metric_k(self.metric)
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share, from 0 to below 1, got {self.dropout!r}")


class Tables(NamedTuple):
    """What is trained, float32."""

    users: torch.Tensor  # (n_users, n_factors)
    items: torch.Tensor  # (n_items, n_factors)
    bias: torch.Tensor  # (n_items,)

    @classmethod
    def random(cls, n_users: int, n_items: int, n_factors: int, rng: torch.Generator) -> Tables:
        """Normal vectors of standard deviation `INIT_STD`, and biases of 0."""
        users, items = (INIT_STD * torch.randn(n, n_factors, generator=rng) for n in (n_users, n_items))
        return cls(users.requires_grad_(), items.requires_grad_(), torch.zeros(n_items, requires_grad=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one core, then as before: on steps this small a second one gains little.

    Where another process was using the cores, two threads were 17 times slower than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bpr_loss(
    tables: Tables,
    users: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    weights: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over triples of weight * -log sigmoid(score(u, i) - score(u, j)) (Rendle et al. 2009, 4.3.1).

    Args:
      tables: the vectors and biases.
      users: (n,) rows.
      positives: (n,) columns of items clicked.
      negatives: (n,) columns of items not clicked.
      weights: (n,) values of the clicks.
      mask: (n, n_factors) factors on the coordinates of p_u, for dropout.
    """
    vectors = embedding(users, tables.users)
    if mask is not None:
        vectors = vectors * mask
    apart = embedding(positives, tables.items) - embedding(negatives, tables.items)
    margin = (vectors * apart).sum(1) + tables.bias[positives] - tables.bias[negatives]
    return (weights * softplus(-margin)).mean()


@dataclass(frozen=True)
class Factors:
    """Item vectors, and the regression that makes a user vector of a history; all float32.

    p(history) = user_mean + (mean q_i over the history - history_mean) @ weights
    """

    items: np.ndarray  # (n_items, n_factors)
    bias: np.ndarray  # (n_items,)
    weights: np.ndarray  # (n_factors, n_factors)
    history_mean: np.ndarray  # (n_factors,)
    user_mean: np.ndarray  # (n_factors,)
    item_ids_: np.ndarray

    @classmethod
    def of(cls, tables: Tables, clicks: Interactions, triples: Triples) -> Factors:
        """Fold-in fitted to the users who were trained; a copy, which training leaves alone.

        With M the centred (n_users, n_factors) history means and P the centred p_u:
        weights = (M'M + FOLD_IN_REG * trace(M'M)/n_factors * I)^-1 M'P.
        """
        users, items, bias = (table.detach().numpy().copy() for table in tables)
        trained = np.unique(triples.users)
        histories = _mean_vectors(clicks.matrix[trained], items).astype(np.float64)
        history_mean, user_mean = histories.mean(axis=0), users[trained].mean(axis=0)
        centred = histories - history_mean
        gram = centred.T @ centred
        gram += FOLD_IN_REG * np.trace(gram) / len(gram) * np.eye(len(gram))
        # Not `solve`: with a single user, or equal histories, there is nothing to regress on.
        weights = np.linalg.lstsq(gram, centred.T @ (users[trained] - user_mean), rcond=None)[0]
        return cls(items, bias, weights.astype(np.float32), history_mean.astype(np.float32), user_mean, clicks.item_ids)

    def scores(self, histories: sp.csr_matrix) -> np.ndarray:
        """(n_users, n_items) scores of histories with the fitted items as columns."""
        known = np.diff(histories.indptr)[:, None] > 0
        means = np.where(known, _mean_vectors(histories, self.items), self.history_mean)
        return (self.user_mean + (means - self.history_mean) @ self.weights) @ self.items.T + self.bias

    def predict(self, histories: Interactions) -> np.ndarray:
        """`scores`, with items matched by id, as `evaluate` asks."""
        return self.scores(as_histories(histories, self.item_ids_))


def _mean_vectors(histories: sp.csr_matrix, items: np.ndarray) -> np.ndarray:
    """(n_users, n_factors) mean vector of the items of each history, weighted by stored value; 0 for none."""
    total = np.asarray(histories.sum(axis=1))
    return (histories @ items) / np.where(total > 0, total, 1)


def select_bpr(
    split: Split, grid: Mapping[str, Sequence[Any]], *, progress: bool = False, **params: Any
) -> tuple[BPRMF, list[dict[str, Any]]]:
    """The best on the split's validation part of all combinations in a grid, and what each one reached.

    `grid` is parameter name -> values to try, such as `PAPER_GRID`; `params` are the other
    parameters of `BPRMF`, with `metric` the one to choose by.
    """
    best: tuple[float, BPRMF] | None = None
    tried = []
    for values in bar("BPR-MF grid", progress, list(itertools.product(*grid.values()))):
        chosen = dict(zip(grid, values, strict=True))
        model = BPRMF(**chosen, **params).fit(split.train, split)
        value = max(row[model.metric] for row in model.path_ if np.isfinite(row.get(model.metric, np.nan)))
        tried.append({**chosen, "epoch": model.epoch_, model.metric: value})
        if best is None or value > best[0]:
            best = value, model
    if best is None:
        raise ValueError(f"the grid has an empty list: {dict(grid)}")
    return best[1], tried


def choose(clicks: Interactions, split: Split, search: Search) -> tuple[BPRMF, dict[str, Any]]:
    """Batches of a twentieth of the clicks, where those are few."""
    batch_size = int(np.clip(clicks.n_interactions // 20, 256, 16384))
    model = BPRMF(batch_size=batch_size, metric=search.metric, seed=search.seed).fit(clicks, split)
    return model, {"epoch": model.epoch_}
