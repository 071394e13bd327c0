r"""The PyTorch competitors by other hands, to hold ours against: from Cornac, and LightGCN from PyTorch Geometric.

    python -m experiments.infinite.table_1 --preset=quick --out=experiments/results/peers_ml-100k \
      --models=mf,experiments.recommenders.peers:MF,neumf,experiments.recommenders.peers:NEUMF,\
    lightgcn,experiments.recommenders.peers:LIGHTGCN,mvae,experiments.recommenders.peers:MVAE

Each is trained on the clicks as 0/1 and chosen on validation out of a small grid, at sizes like those that ours
have; what else it has is its library's default. They score the users they were trained on and no others, which is
why they serve as a check alone. Needs the `peers` extra (Cornac 3, PyTorch Geometric 2.8) beside `torch`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.recommenders.registry import Chosen, Model, Search
from experiments.training.trainer import Task, Trainer, adam, one_thread
from experiments.training.tuning import Report, Trials
from infae import Interactions, Split
from infae.tuning.search import held_out_metrics

N_FACTORS = 64
LIGHTGCN_BATCH = 16384

Value = Callable[[np.ndarray], float]
"""(users, items) scores -> the metric, on validation."""
Scored = tuple[np.ndarray, dict[str, Any]]
"""(users, items) scores of a trained model, and what only training settled, such as epochs."""


@dataclass(frozen=True)
class Trained:
    """Scores of the users a model was trained on, in their own order.

    Raises (predict) ValueError for any other user.
    """

    scores: np.ndarray  # (n_users, n_items)
    user_ids: np.ndarray
    item_ids_: np.ndarray

    def predict(self, histories: Interactions) -> np.ndarray:
        """Rows by user id; what the histories hold is not looked at."""
        rows = pd.Index(self.user_ids).get_indexer(histories.user_ids)
        if unknown := int((rows < 0).sum()):
            raise ValueError(f"{unknown} users were not trained on; these models score no others")
        return self.scores[rows]


def choose(
    train: Callable[..., Scored], grid: Mapping[str, Sequence[Any]], clicks: Interactions, split: Split, search: Search
) -> Chosen:
    """The best on validation of all combinations of the grid."""
    of_clicks = partial(Trained, user_ids=clicks.user_ids, item_ids_=clicks.item_ids)

    def value(scores: np.ndarray) -> float:
        return held_out_metrics(of_clicks(scores), split, [search.metric])["value"]

    def trained(params: dict[str, Any], report: Report | None = None) -> Scored:
        with one_thread():
            scores, settled = train(clicks, search.seed, value, **params)
        return scores, {**settled, search.metric: value(scores)}

    trials = Trials(trained, grid, clicks, split, search, f"peers.{train.__name__}", {"seed": search.seed})
    trials.over_grid()
    return of_clicks(trials.best_model()), {**trials.best, "tried": trials.rows}


def bpr(clicks: Interactions, seed: int, value: Value | None = None, **params: Any) -> Scored:
    """Cornac's BPR by stochastic gradient descent, with item biases."""
    return cornac_scores("BPR", clicks, k=N_FACTORS, num_threads=1, seed=seed, **params)


def neumf(clicks: Interactions, seed: int, value: Value | None = None, **params: Any) -> Scored:
    """Cornac's NeuMF, pointwise: cross-entropy with four negatives a click."""
    sizes = {"num_factors": N_FACTORS, "layers": (2 * N_FACTORS, N_FACTORS)}
    return cornac_scores("NeuMF", clicks, **sizes, backend="pytorch", verbose=False, seed=seed, **params)


def vaecf(clicks: Interactions, seed: int, value: Value | None = None, **params: Any) -> Scored:
    """Cornac's multinomial VAE, without dropout and annealing."""
    return cornac_scores("VAECF", clicks, k=N_FACTORS, autoencoder_structure=[600], beta=0.2, seed=seed, **params)


def lightgcn(
    clicks: Interactions,
    seed: int,
    value: Value | None = None,
    *,
    learning_rate: float,
    n_epochs: int = 150,
    **params: Any,
) -> Scored:
    """PyTorch Geometric's LightGCN by its own loss and Adam, of 25, 50, ... epochs the best by `value`."""
    task = _GeometricLightGCN(clicks, seed, **params)
    rng = torch.Generator().manual_seed(seed)
    trainer = Trainer("LightGCN", n_epochs, LIGHTGCN_BATCH, check_every=25, patience=n_epochs)
    looked = None if value is None else lambda: value(task.scores())
    done = trainer.fit(task, {"loss": adam(task.module, learning_rate)}, rng, looked)
    return task.scores(), {"n_epochs": n_epochs if done.best is None else done.best["epoch"]}


class _GeometricLightGCN(Task):
    """Clicks as their model learns them; negatives are any items."""

    module: Any

    def __init__(self, clicks: Interactions, seed: int, **params: Any):
        from torch_geometric.nn.models import LightGCN

        self._n_users, self._n_items = clicks.shape
        users, items = (torch.from_numpy(part.astype(np.int64)) for part in clicks.matrix.nonzero())
        self._clicks = users, items + self._n_users
        self._edges = torch.stack([torch.cat(self._clicks), torch.cat(self._clicks[::-1])])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of its vectors, which it draws from the global generator
            self.module = LightGCN(self._n_users + self._n_items, N_FACTORS, **params)

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        return self._clicks

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        users, items = batch
        negatives = torch.randint(self._n_users, self._n_users + self._n_items, users.shape, generator=rng)
        pairs = torch.stack([users.repeat(2), torch.cat([items, negatives])])
        positive, negative = self.module(self._edges, pairs).chunk(2)
        yield self.module.recommendation_loss(positive, negative, node_id=pairs.unique())

    def scores(self) -> np.ndarray:
        with torch.no_grad():
            vectors = self.module.get_embedding(self._edges)
        return (vectors[: self._n_users] @ vectors[self._n_users :].T).numpy()


def cornac_scores(name: str, clicks: Interactions, **params: Any) -> Scored:
    """Of a model of Cornac's trained here; an item that nobody has clicked has a user's lowest score."""
    import cornac

    model = getattr(cornac.models, name)(**params)
    pairs = zip(*(part.tolist() for part in clicks.matrix.nonzero()), strict=True)
    # It numbers users and items as they come; by their positions here, `model.score` is one row of ours.
    known = cornac.data.Dataset.from_uir([(user, item, 1.0) for user, item in pairs], seed=0)
    with torch.random.fork_rng():
        model.fit(known)
    scores = np.zeros(clicks.shape, np.float32)
    theirs = np.array([*known.iid_map], int)
    for row, user in known.uid_map.items():
        values = np.asarray(model.score(user), np.float32).ravel()
        scores[row] = values.min()
        scores[row, theirs] = values
    return scores, {}


def _model(title: str, train: Callable[..., Scored], **grid: Sequence[Any]) -> Model:
    return Model(title, partial(choose, train, grid), needs_torch=True)


MF = _model("MF, Cornac", bpr, learning_rate=(0.01, 0.05), lambda_reg=(0.001, 0.01, 0.03), max_iter=(50, 100, 200))
NEUMF = _model("NeuMF, Cornac", neumf, lr=(0.001,), num_epochs=(5, 10, 20))
LIGHTGCN = _model("LightGCN, PyTorch Geometric", lightgcn, learning_rate=(0.02,), num_layers=(1, 2, 3))
MVAE = _model("MVAE, Cornac", vaecf, n_epochs=(10, 25, 50, 100))
