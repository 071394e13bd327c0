"""LightGCN: user and item vectors smoothed over the graph of clicks (He et al. 2020), in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from experiments.recommenders.layers import Sparse, inner, look_up
from experiments.recommenders.ranking import Ranking, Vectors
from experiments.recommenders.trained import Trained, penalty
from experiments.training.tuning import Stages, batch_of, chooser, grid
from infae import Interactions
from infae.runtime import checks

STAGES: dict[str, Stages] = {
    "paper": {"n_layers": (1, 3), "n_factors": (32, 128)},
    "quick": {"n_layers": (1,)},
    "smoke": {},
}
WHOLE_GRID = grid("learning_rate", "n_factors", "n_layers")


@dataclass(eq=False, repr=False)
class LightGCN(Trained):
    """score(u, i) = e_u . e_i, trained by the BPR loss of `MF` + l2/2 (|p_u|^2 + |q_i|^2 + |q_j|^2) a triple.

        e = mean of e^(0), ..., e^(K), with e^(0) the trained p_u and q_i, and
        e_u^(k+1) = sum_i x_ui / sqrt(d_u d_i) e_i^(k),  e_i^(k+1) = sum_u x_ui / sqrt(d_u d_i) e_u^(k)

    (He et al. 2020, Eq. 3, 4 and 15.) d are sums of the click values x, which on binary clicks are
    numbers of clicks; values also weigh the loss. As the authors do, without dropout and biases.

    A history is scored by its items alone: layers from 1 on are propagated from the layers of the
    items as above, which for a training user's history gives the trained ones, and p_u is folded
    in by regression as in `MF`. An empty history has the mean p_u and nothing else.
    """

    title = "LightGCN"
    CHECKS: ClassVar = {"n_factors": checks.whole, "n_layers": checks.whole, "l2": penalty}

    n_factors: int = 64
    _: KW_ONLY
    n_layers: int = 2  # K
    l2: float = 1e-4
    learning_rate: float = 0.01
    n_epochs: int = 200
    batch_size: int = 65536  # large, for each step propagates over all clicks

    def _task(self, clicks: Interactions) -> Smoothing:
        graph = Graph(clicks.matrix, self.n_factors, self.n_layers)
        return Smoothing(graph, clicks, self.seed, self.device, self.l2)


class Graph(Vectors):
    """e_u . e_i over the graph of clicks (n_users, n_items); see `Vectors`.

    In evaluation mode layers are as they were at the last `settle`.
    """

    def __init__(self, clicks: sp.csr_matrix, n_factors: int, n_layers: int):
        n_users, n_items = clicks.shape
        super().__init__(n_users, n_items, n_factors)
        user_scale, item_scale = (inverse_root(clicks.sum(axis=axis)) for axis in (1, 0))
        graph = sp.csr_matrix(sp.diags_array(user_scale) @ clicks @ sp.diags_array(item_scale), dtype=np.float32)
        self.down, self.up = Sparse.of(graph), Sparse.of(sp.csr_matrix(graph.T))
        self.item_scale = nn.Buffer(torch.from_numpy(item_scale.astype(np.float32)))
        self.user_layers: torch.Tensor = nn.Buffer(torch.zeros(n_layers + 1, n_users, n_factors))
        self.item_layers: torch.Tensor = nn.Buffer(torch.zeros(n_layers + 1, n_items, n_factors))

    def layers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Users' and items' vectors of layers 0 to K."""
        found = [(self.users.weight, self.items.weight)]
        while len(found) < len(self.item_layers):
            users, items = found[-1]
            found.append((Product.apply(items, self.down, self.up), Product.apply(users, self.up, self.down)))
        return torch.stack([users for users, _ in found]), torch.stack([items for _, items in found])

    def forward(
        self, users: torch.Tensor | Sparse, items: torch.Tensor | None = None, rng: torch.Generator | None = None
    ) -> torch.Tensor:
        of_users, of_items = self.layers() if self.training else (self.user_layers, self.item_layers)
        if isinstance(users, Sparse):
            e_users = torch.stack([self.of_users(users), *self.propagated(users, of_items[:-1])]).mean(0)
        else:
            e_users = look_up(of_users.mean(0), users)
        return inner(e_users, of_items.mean(0), items)

    def propagated(self, histories: Sparse, item_layers: torch.Tensor) -> Iterator[torch.Tensor]:
        """(n, n_factors) vectors of layers 1 to K of histories, from the layers of the items below."""
        degrees = histories.sums()
        scale = torch.where(degrees > 0, degrees, torch.inf).rsqrt()
        edges = histories.with_values(histories.values * self.item_scale[histories.columns])
        return (scale * edges.times(items) for items in item_layers)

    @torch.no_grad()
    def settle(self, users: torch.Tensor, histories: Sparse) -> None:
        super().settle(users, histories)
        self.user_layers, self.item_layers = self.layers()


class Smoothing(Ranking):
    """`Ranking` with a penalty of the triples' vectors of layer 0."""

    def __init__(self, module: Graph, clicks: Interactions, seed: int, device: str, l2: float):
        super().__init__(module, clicks, seed, device)
        self._l2 = l2

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        (bpr,) = super().losses(rng, *batch)
        users, positives, negatives, _ = batch
        p, q = self.module.users.weight, self.module.items.weight
        squares = sum_of_squares(p, users) + sum_of_squares(q, torch.cat([positives, negatives]))
        yield bpr + self._l2 / 2 * squares / len(users)


class Product(torch.autograd.Function):
    """A sparse matrix times x; its transpose is at hand for the gradient, so that both are read row by row."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, matrix: Sparse, transpose: Sparse) -> torch.Tensor:
        ctx.transpose = transpose
        return matrix.times(x.detach())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.transpose.times(gradient), None, None


def sum_of_squares(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Sum of |table[row]|^2, by how often a row comes: to read each of them would be half of a step."""
    return (torch.bincount(rows, minlength=len(table)) * (table**2).sum(1)).sum()


def inverse_root(degrees: np.ndarray) -> np.ndarray:
    """d^(-1/2), and 0 for what nothing is joined to."""
    degrees = np.asarray(degrees, np.float64).ravel()
    return np.where(degrees > 0, degrees, np.inf) ** -0.5


choose = chooser(LightGCN, STAGES, WHOLE_GRID, lambda clicks: batch_of(clicks.n_interactions, 256, 65536))
"""On large data at most 5 of table 3's 63 trainings without dropout, at its largest rate.

A step propagates over all clicks, so there are few of them, and smaller rates take twice as many or more.
"""
