"""LightGCN: user and item vectors smoothed over the graph of clicks (He et al. 2020), in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding, embedding_bag

from distillcf.torch_data import check_whole
from experiments.recommenders.ranking import FoldIn, Ranking, bpr_loss, vectors
from experiments.training import tuning
from experiments.training.trainer import Trained, frozen
from experiments.training.tuning import Stages, batch_of, grid
from infae import Interactions, Split

if TYPE_CHECKING:
    from experiments.recommenders.registry import Search

STAGES: dict[str, Stages] = {
    "paper": {"n_layers": (1, 3), "n_factors": (32, 128)},
    "quick": {"n_layers": (1,)},
    "smoke": {},
}
WHOLE_GRID = grid("learning_rate", "n_factors", "n_layers")


class LightGCN(Trained):
    """score(u, i) = e_u . e_i, trained by the BPR loss of `MF` + l2/2 (|p_u|^2 + |q_i|^2 + |q_j|^2) a triple.

        e = mean of e^(0), ..., e^(K), with e^(0) the trained p_u and q_i, and
        e_u^(k+1) = sum_i x_ui / sqrt(d_u d_i) e_i^(k),  e_i^(k+1) = sum_u x_ui / sqrt(d_u d_i) e_u^(k)

    (He et al. 2020, Eq. 3, 4 and 15.) d are sums of the click values x, which on binary clicks are
    numbers of clicks; values also weigh the loss. As the authors do, without dropout and biases.

    A history is scored by its items alone: layers from 1 on are propagated from the layers of the
    items as above, which for a training user's history gives the trained ones, and p_u is folded
    in by regression as in `MF`. An empty history has the mean p_u and nothing else.

    Args:
      n_factors: latent size.
      n_layers: K.
      l2: weight of the penalty.
      training: see `Trained`. Each step propagates over all clicks, so batches are large.
    """

    title = "LightGCN"

    def __init__(
        self,
        n_factors: int = 64,
        *,
        n_layers: int = 2,
        l2: float = 1e-4,
        learning_rate: float = 0.01,
        n_epochs: int = 200,
        batch_size: int = 65536,
        **training: Any,
    ):
        super().__init__(learning_rate=learning_rate, n_epochs=n_epochs, batch_size=batch_size, **training)
        self.n_factors = n_factors
        self.n_layers = n_layers
        self.l2 = l2

    def _learner(self, clicks: Interactions, rng: torch.Generator) -> Graph:
        return Graph(clicks, self, rng)

    def _check(self) -> None:
        super()._check()
        check_whole(self.n_factors, "n_factors", 1)
        check_whole(self.n_layers, "n_layers", 1)
        if not (np.isfinite(self.l2) and self.l2 >= 0):
            raise ValueError(f"l2 must be finite and 0 or more, got {self.l2!r}")


class Graph(Ranking):
    """Vectors of layer 0 in training."""

    def __init__(self, clicks: Interactions, model: LightGCN, rng: torch.Generator):
        super().__init__(clicks, model.seed)
        self.parameters = [vectors(n, model.n_factors, rng) for n in clicks.shape]
        self._n_layers, self._l2 = model.n_layers, model.l2
        self._item_scale = inverse_root(clicks.matrix.sum(axis=0))
        graph = edges(clicks.matrix, self._item_scale)
        self._down, self._up = Sparse.of(graph), Sparse.of(sp.csr_matrix(graph.T))

    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Users' and items' vectors of layers 0 to K."""
        users, items = self.parameters
        found = [(users, items)]
        for _ in range(self._n_layers):
            users, items = found[-1]
            found.append((Product.apply(items, self._down, self._up), Product.apply(users, self._up, self._down)))
        return found

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        users, positives, negatives, weights = (column[index] for column in self._columns)
        e_users, e_items = (torch.stack(layers).mean(0) for layers in zip(*self.layers(), strict=True))
        apart = embedding(positives, e_items) - embedding(negatives, e_items)
        margin = (embedding(users, e_users) * apart).sum(1)
        p, q = self.parameters
        squares = sum_of_squares(p, users) + sum_of_squares(q, torch.cat([positives, negatives]))
        return bpr_loss(margin, weights) + self._l2 / 2 * squares / index.numel()

    def scorer(self) -> Scores:
        with torch.no_grad():
            users, *_ = self.parameters
            items = frozen([of_items for _, of_items in self.layers()])
        fold_in = FoldIn.of(frozen([users])[0], items[0], self.clicks, np.unique(self.triples.users))
        return Scores(fold_in, items, self._item_scale)


@dataclass(frozen=True)
class Scores:
    """Histories -> e(history) . e_i."""

    fold_in: FoldIn
    layers: list[np.ndarray]  # of items, (n_items, n_factors), 0 to K
    item_scale: np.ndarray  # (n_items,)

    def users(self, histories: sp.csr_matrix) -> list[np.ndarray]:
        """(n_users, n_factors) vectors of layers 0 to K."""
        graph = edges(histories, self.item_scale)
        return [self.fold_in(histories), *(graph @ items for items in self.layers[:-1])]

    def __call__(self, histories: sp.csr_matrix) -> np.ndarray:
        return np.mean(self.users(histories), axis=0) @ np.mean(self.layers, axis=0).T


class Product(torch.autograd.Function):
    """A sparse matrix times x; its transpose is at hand for the gradient, so that both are read row by row."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, matrix: Sparse, transpose: Sparse) -> torch.Tensor:
        ctx.transpose = transpose
        return matrix.times(x.detach())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.transpose.times(gradient), None, None


class Sparse(NamedTuple):
    """A CSR matrix as PyTorch takes sums of rows by it, in a fourth of the time of SciPy's product and its own."""

    columns: torch.Tensor  # (nnz,)
    starts: torch.Tensor  # (n_rows,)
    values: torch.Tensor  # (nnz,)

    @classmethod
    def of(cls, matrix: sp.csr_matrix) -> Sparse:
        columns, starts = (part.astype(np.int64) for part in (matrix.indices, matrix.indptr[:-1]))
        return cls(*map(torch.from_numpy, (columns, starts, matrix.data)))

    def times(self, x: torch.Tensor) -> torch.Tensor:
        return embedding_bag(self.columns, x.contiguous(), self.starts, mode="sum", per_sample_weights=self.values)


def sum_of_squares(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Sum of |table[row]|^2, by how often a row comes: to read each of them would be half of a step."""
    return (torch.bincount(rows, minlength=len(table)) * (table**2).sum(1)).sum()


def edges(histories: sp.csr_matrix, item_scale: np.ndarray) -> sp.csr_matrix:
    """(n_users, n_items) x_ui / sqrt(d_u d_i), float32, with the d_i of training."""
    scaled = sp.diags_array(inverse_root(histories.sum(axis=1))) @ histories @ sp.diags_array(item_scale)
    return sp.csr_matrix(scaled, dtype=np.float32)


def inverse_root(degrees: np.ndarray) -> np.ndarray:
    """d^(-1/2), and 0 for what nothing is joined to."""
    degrees = np.asarray(degrees, np.float64).ravel()
    return np.where(degrees > 0, degrees, np.inf) ** -0.5


def choose(clicks: Interactions, split: Split, search: Search) -> tuple[Trained, dict[str, Any]]:
    """See `tuning.choose`; on large data at most 5 of table 3's 63 trainings without dropout, at its largest rate.

    A step propagates over all clicks, so there are few of them, and smaller rates take twice as many or more.
    """
    batch_size = batch_of(clicks.n_interactions, 256, 65536)
    return tuning.choose(LightGCN, STAGES, WHOLE_GRID, clicks, split, search, batch_size=batch_size)
