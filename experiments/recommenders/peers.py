r"""The PyTorch competitors by other hands, to hold ours against: from Cornac, and LightGCN from PyTorch Geometric.

    python -m experiments.infinite.table_1 --preset=quick --out=experiments/results/peers_ml-100k \
      --models=mf,experiments.recommenders.peers:MF,neumf,experiments.recommenders.peers:NEUMF,\
    lightgcn,experiments.recommenders.peers:LIGHTGCN,mvae,experiments.recommenders.peers:MVAE

Each is trained on the clicks as 0/1 and chosen on validation out of a small grid, at sizes like those that ours
have; what else it has is its library's default. They score the users they were trained on and no others, which is
why they serve as a check alone. Needs the `peers` extra (Cornac 3, PyTorch Geometric 2.8) beside `torch`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from experiments.recommenders.registry import Chosen, Model, Search
from experiments.training.trainer import one_thread
from infae import Interactions, Split
from infae.runtime.progress import bar
from infae.tuning.search import held_out_metrics

N_FACTORS = 64
LIGHTGCN_BATCH = 16384

Scored = Iterator[tuple[dict[str, Any], np.ndarray]]
"""Trained models one after another: what only training settles, such as epochs, and (users, items) scores."""


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
        order = np.argsort(self.user_ids)
        at = np.searchsorted(self.user_ids, histories.user_ids, sorter=order).clip(max=order.size - 1)
        rows = order[at]
        if unknown := int((self.user_ids[rows] != histories.user_ids).sum()):
            raise ValueError(f"{unknown} users were not trained on; these models score no others")
        return self.scores[rows]


def choose(
    train: Callable[..., Scored],
    grid: Mapping[str, Sequence[Any]],
    clicks: Interactions,
    split: Split,
    search: Search,
) -> Chosen:
    """The best on validation of all combinations of the grid, and of all that each training yields."""
    best: tuple[float, dict[str, Any], Trained] | None = None
    tried = []
    with one_thread():
        for values in bar(train.__name__, search.progress, [*itertools.product(*grid.values())]):
            params = dict(zip(grid, values, strict=True))
            for settled, scores in train(clicks, search.seed, **params):
                model = Trained(scores, clicks.user_ids, clicks.item_ids)
                value = held_out_metrics(model, split, [search.metric])["value"]
                tried.append({**params, **settled, search.metric: value})
                if np.isfinite(value) and (best is None or value > best[0]):
                    best = value, tried[-1], model
    if best is None:
        raise ValueError(f"{search.metric} is not defined on this validation part; choose another metric")
    return best[2], {**best[1], "tried": tried}


def bpr(clicks: Interactions, seed: int, **params: Any) -> Scored:
    """Cornac's BPR by stochastic gradient descent, with item biases."""
    from cornac.models import BPR

    yield {}, cornac_scores(BPR(k=N_FACTORS, num_threads=1, seed=seed, **params), clicks)


def neumf(clicks: Interactions, seed: int, **params: Any) -> Scored:
    """Cornac's NeuMF, pointwise: cross-entropy with four negatives a click."""
    from cornac.models import NeuMF

    layers = (2 * N_FACTORS, N_FACTORS)
    made = NeuMF(num_factors=N_FACTORS, layers=layers, backend="pytorch", verbose=False, seed=seed, **params)
    yield {}, cornac_scores(made, clicks)


def vaecf(clicks: Interactions, seed: int, **params: Any) -> Scored:
    """Cornac's multinomial VAE, without dropout and annealing."""
    from cornac.models import VAECF

    yield {}, cornac_scores(VAECF(k=N_FACTORS, autoencoder_structure=[600], beta=0.2, seed=seed, **params), clicks)


def lightgcn(clicks: Interactions, seed: int, n_epochs: Sequence[int] = (25, 50, 100, 150), **params: Any) -> Scored:
    """PyTorch Geometric's LightGCN by its own loss and Adam; negatives are any items."""
    from torch_geometric.nn.models import LightGCN

    rng = torch.Generator().manual_seed(seed)
    n_users, n_items = clicks.shape
    users, items = (torch.from_numpy(part.astype(np.int64)) for part in clicks.matrix.nonzero())
    items = items + n_users
    edges = torch.stack([torch.cat([users, items]), torch.cat([items, users])])
    learning_rate = params.pop("learning_rate")
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of its vectors, which it draws from the global generator
        model = LightGCN(n_users + n_items, N_FACTORS, **params)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for epoch in range(1, max(n_epochs) + 1):
        for index in torch.randperm(len(users), generator=rng).split(LIGHTGCN_BATCH):
            negatives = torch.randint(n_users, n_users + n_items, index.shape, generator=rng)
            pairs = torch.stack([users[index].repeat(2), torch.cat([items[index], negatives])])
            positive, negative = model(edges, pairs).chunk(2)
            loss = model.recommendation_loss(positive, negative, node_id=pairs.unique())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch in n_epochs:
            with torch.no_grad():
                vectors = model.get_embedding(edges)
            yield {"n_epochs": epoch}, (vectors[:n_users] @ vectors[n_users:].T).numpy()


def cornac_scores(model: Any, clicks: Interactions) -> np.ndarray:
    """(n_users, n_items) scores of a Cornac model trained here; a user's lowest for items that nobody has clicked."""
    from cornac.data import Dataset

    rows, columns = clicks.matrix.nonzero()
    # It numbers users and items as they come; by their positions here, `model.score` is one row of ours.
    known = Dataset.from_uir([*zip(rows.tolist(), columns.tolist(), [1.0] * rows.size, strict=True)], seed=0)
    with torch.random.fork_rng():
        model.fit(known)
    scores = np.zeros(clicks.shape, np.float32)
    theirs = np.array([*known.iid_map], int)
    for row, user in known.uid_map.items():
        values = np.asarray(model.score(user), np.float32).ravel()
        scores[row] = values.min()
        scores[row, theirs] = values
    return scores


BPR_GRID = {"learning_rate": (0.01, 0.05), "lambda_reg": (0.001, 0.01, 0.03), "max_iter": (50, 100, 200)}
MF = Model("MF, Cornac", partial(choose, bpr, BPR_GRID), needs_torch=True)
NEUMF = Model("NeuMF, Cornac", partial(choose, neumf, {"lr": (0.001,), "num_epochs": (5, 10, 20)}), needs_torch=True)
LIGHTGCN = Model(
    "LightGCN, PyTorch Geometric",
    partial(choose, lightgcn, {"learning_rate": (0.02,), "num_layers": (1, 2, 3)}),
    needs_torch=True,
)
MVAE = Model("MVAE, Cornac", partial(choose, vaecf, {"n_epochs": (10, 25, 50, 100)}), needs_torch=True)
