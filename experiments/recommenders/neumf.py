"""NeuMF: matrix factorisation with a network in place of the inner product (He et al. 2017; paper, appendix B.1)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding

from distillcf.torch_data import check_whole
from experiments.recommenders.ranking import FoldIn, Ranking, vectors
from experiments.training import tuning
from experiments.training.trainer import Layer, Trained, check_share, dropped, frozen
from experiments.training.tuning import Stages, batch_of, grid
from infae import Interactions, Split

if TYPE_CHECKING:
    from experiments.recommenders.registry import Search

STAGES: dict[str, Stages] = {
    "paper": {"learning_rate": (0.01,), "n_factors": (32,), "n_layers": (2, 3), "dropout": (0.0, 0.3)},
    "quick": {"n_factors": (32,), "n_layers": (2,)},
    "smoke": {},
}
WHOLE_GRID = grid("learning_rate", "n_factors", "n_layers", "dropout")

HIDDEN_VALUES = 1 << 18
"""Values of a layer that are scored at once, to stay in the processor's cache."""


class NeuMF(Trained):
    """score(u, i) = phi(p_u, q_i) + b_i, trained by the BPR loss of `MF` as the paper does.

        phi(p, q) = h . [p * q ; z_L],  z_1 = relu(W_1 [p ; q] + c_1),  z_k = relu(W_k z_(k-1) + c_k)

    (He et al. 2017, Eq. 12, with one vector a user and an item for both parts, as in the paper's
    appendix B.1.) Layers halve, the first is of n_factors units. The paper's alpha and beta_u cancel
    in the loss, and are left out. Users are folded in from their histories as in `MF`.

    Args:
      n_factors: latent size.
      n_layers: layers of z, 1 or more.
      dropout: share of the coordinates of p_u set to zero in a triple, the others scaled up.
      training: see `Trained`.
    """

    title = "NeuMF"

    def __init__(self, n_factors: int = 64, *, n_layers: int = 1, dropout: float = 0.5, **training: Any):
        super().__init__(**training)
        self.n_factors = n_factors
        self.n_layers = n_layers
        self.dropout = dropout

    def _learner(self, clicks: Interactions, rng: torch.Generator) -> Network:
        return Network(clicks, self, rng)

    def _check(self) -> None:
        super()._check()
        check_whole(self.n_factors, "n_factors", 1)
        check_whole(self.n_layers, "n_layers", 1)
        check_share(self.dropout, "dropout")


class Network(Ranking):
    """Vectors, biases and layers in training."""

    def __init__(self, clicks: Interactions, model: NeuMF, rng: torch.Generator):
        super().__init__(clicks, model.seed)
        d = model.n_factors
        self._users, self._items = (vectors(n, d, rng) for n in clicks.shape)
        self._bias = torch.zeros(clicks.n_items, requires_grad=True)
        widths = [max(d >> k, 1) for k in range(model.n_layers)]
        self._first = Layer.random(2 * d, d, rng)
        self._layers = [Layer.random(n_in, n_out, rng) for n_in, n_out in itertools.pairwise(widths)]
        # h is of ones for p * q, so that training starts as MF's does.
        self._h = torch.cat([torch.ones(d), Layer.random(widths[-1], 1, rng)[0].detach()[:, 0]]).requires_grad_()
        self._dropout, self._rng = model.dropout, rng

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [self._users, self._items, self._bias, self._h, *self._first, *itertools.chain(*self._layers)]

    def margin(self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        p = dropped(embedding(users, self._users), self._dropout, self._rng)
        d = p.shape[1]
        # W_1 [p ; q] is the sum of a user's half and an item's half, of which all triples share the latter.
        of_user = p @ self._first[0][:d] + self._first[1]
        of_items = self._items @ self._first[0][d:]
        weighted = p * self._h[:d]

        def score(items: torch.Tensor) -> torch.Tensor:
            z = torch.relu(of_user + embedding(items, of_items))
            for layer in self._layers:
                z = torch.relu(layer(z))
            return (weighted * embedding(items, self._items)).sum(1) + z @ self._h[d:] + self._bias[items]

        return score(positives) - score(negatives)

    def scorer(self) -> Scores:
        users, items, bias, h, *layers = frozen(self.parameters)
        fold_in = FoldIn.of(users, items, self.clicks, np.unique(self.triples.users))
        return Scores(fold_in, bias, h, list(zip(layers[::2], layers[1::2], strict=True)))


@dataclass(frozen=True)
class Scores:
    """Histories -> phi(p(history), q_i) + b_i."""

    fold_in: FoldIn
    bias: np.ndarray  # (n_items,)
    h: np.ndarray  # (n_factors + width of the last layer,)
    layers: list[tuple[np.ndarray, np.ndarray]]  # W (n_in, n_out) and c (n_out,)

    def __call__(self, histories: sp.csr_matrix) -> np.ndarray:
        p, q = self.fold_in(histories), self.fold_in.items
        d = q.shape[1]
        (first, constant), *others = self.layers
        of_users, of_items = p @ first[:d] + constant, q @ first[d:]
        scores = (p * self.h[:d]) @ q.T + self.bias
        n_rows = max(1, HIDDEN_VALUES // of_items.size)
        for start in range(0, len(p), n_rows):
            z = of_users[start : start + n_rows, None] + of_items
            np.maximum(z, 0, out=z)
            for weights, offset in others:
                z = z @ weights
                z += offset
                np.maximum(z, 0, out=z)
            scores[start : start + n_rows] += z @ self.h[d:]
        return scores


def choose(clicks: Interactions, split: Split, search: Search) -> tuple[Trained, dict[str, Any]]:
    """See `tuning.choose`; on large data at most 7 of table 3's 189 trainings, sizes 32 and 64, without rate 0.001."""
    batch_size = batch_of(clicks.n_interactions, 256, 16384)
    return tuning.choose(NeuMF, STAGES, WHOLE_GRID, clicks, split, search, batch_size=batch_size)
