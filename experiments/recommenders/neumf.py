"""NeuMF: matrix factorisation with a network in place of the inner product (He et al. 2017; paper, appendix B.1)."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from experiments.recommenders.layers import Dense, Sparse, dropped, inner, look_up
from experiments.recommenders.ranking import Ranking, Vectors
from experiments.recommenders.trained import Trained, part
from experiments.training.tuning import Stages, batch_of, chooser, grid
from infae import Interactions
from infae.runtime import checks

STAGES: dict[str, Stages] = {
    "paper": {"learning_rate": (0.01,), "n_factors": (32,), "n_layers": (2, 3), "dropout": (0.0, 0.3)},
    "quick": {"n_factors": (32,), "n_layers": (2,)},
    "smoke": {},
}
WHOLE_GRID = grid("learning_rate", "n_factors", "n_layers", "dropout")

HIDDEN_VALUES = 1 << 18
"""Values of a layer that are scored at once, to stay in the processor's cache."""


@dataclass(eq=False, repr=False)
class NeuMF(Trained):
    """score(u, i) = phi(p_u, q_i) + b_i, trained by the BPR loss of `MF` as the paper does.

        phi(p, q) = h . [p * q ; z_L],  z_1 = relu(W_1 [p ; q] + c_1),  z_k = relu(W_k z_(k-1) + c_k)

    (He et al. 2017, Eq. 12, with one vector a user and an item for both parts, as in the paper's
    appendix B.1.) Layers halve, the first is of n_factors units. The paper's alpha and beta_u cancel
    in the loss, and are left out. Users are folded in from their histories as in `MF`.
    """

    title = "NeuMF"
    CHECKS: ClassVar = {"n_factors": checks.whole, "n_layers": checks.whole, "dropout": part}

    n_factors: int = 64
    n_layers: int = 1  # L
    dropout: float = 0.5  # as in `MF`

    def _task(self, clicks: Interactions) -> Ranking:
        module = Network(*clicks.shape, self.n_factors, self.n_layers, self.dropout)
        return Ranking(module, clicks, self.seed, self.device)


class Network(Vectors):
    """phi(p_u, q_i) + b_i; see `Vectors`."""

    def __init__(self, n_users: int, n_items: int, n_factors: int, n_layers: int, dropout: float = 0.0):
        super().__init__(n_users, n_items, n_factors)
        widths = [max(n_factors >> k, 1) for k in range(n_layers)]
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.first = Dense(2 * n_factors, n_factors)
        self.others = nn.ModuleList(Dense(*pair) for pair in itertools.pairwise(widths))
        # h, of ones for p * q, so that training starts as MF's does.
        self.h_product = nn.Parameter(torch.ones(n_factors))
        self.h_hidden = Dense(widths[-1], 1, bias=False)
        self.dropout = dropout

    def forward(
        self, users: torch.Tensor | Sparse, items: torch.Tensor | None = None, rng: torch.Generator | None = None
    ) -> torch.Tensor:
        p, q = dropped(self.of_users(users), self.dropout, rng), self.items.weight
        # W_1 [p ; q] is the sum of a user's half and an item's half, of which all pairs share the latter.
        w_user, w_item = self.first.weight.chunk(2)
        of_user, of_items, weighted = p @ w_user + self.first.bias, q @ w_item, p * self.h_product
        if items is None:
            parts = of_user.unsqueeze(1).split(max(1, HIDDEN_VALUES // of_items.numel()))
            hidden = torch.cat([self.hidden(part + of_items) for part in parts])
            return weighted @ q.T + hidden + self.bias

        def score(item: torch.Tensor) -> torch.Tensor:
            hidden = self.hidden(of_user + look_up(of_items, item))
            return inner(weighted, q, item) + hidden + look_up(self.bias, item)

        # One item of each user at a time, as in the records: a single product with all would round otherwise.
        several = items.dim() - items.is_floating_point() > 1
        return torch.stack([score(item) for item in items]) if several else score(items)

    def hidden(self, z: torch.Tensor) -> torch.Tensor:
        """Of W_1 [p ; q] + c_1 (..., n_factors) what h takes of z_L."""
        z = z.relu_()
        for layer in self.others:
            z = layer(z).relu_()
        return self.h_hidden(z).squeeze(-1)


choose = chooser(NeuMF, STAGES, WHOLE_GRID, lambda clicks: batch_of(clicks.n_interactions, 256, 16384))
"""On large data at most 7 of table 3's 189 trainings, sizes 32 and 64, without rate 0.001."""
