"""MF: matrix factorisation trained to rank clicks above non-clicks, in PyTorch (paper, appendix B.1)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from experiments.recommenders.layers import Sparse, dropped, inner, look_up
from experiments.recommenders.ranking import Ranking, Vectors
from experiments.recommenders.trained import Trained, part
from experiments.training.tuning import Stages, batch_of, chooser, grid
from infae import Interactions
from infae.runtime import checks

STAGES: dict[str, Stages] = {
    "paper": {"learning_rate": (0.01,), "n_factors": (16, 32, 128), "dropout": (0.0, 0.3)},
    "quick": {"n_factors": (32,), "dropout": (0.3,)},
    "smoke": {},
}
WHOLE_GRID = grid("learning_rate", "n_factors", "dropout")


@dataclass(eq=False, repr=False)
class MF(Trained):
    """score(u, i) = p_u . q_i + b_i, trained to rank an item i clicked above an item j not clicked.

        min over p, q, b of the mean over (u, i, j) of -x_ui * log sigmoid(score(u, i) - score(u, j))

    with x_ui the click's value, 1 or below on a soft support (Rendle et al. 2009, section 4.3.1;
    dropout, as in the paper's table 3, in place of their L2 penalty). The paper's alpha and beta_u
    cancel in the difference, and are left out.

    Histories are scored by their items alone, those of training users too, with p_u folded in
    by ridge regression of the trained p_u on the mean q_i of the items of u's history; an empty
    history gets the mean p_u. On ML-1M's validation clicks this ranks better than the trained p_u.
    """

    title = "MF"
    CHECKS: ClassVar = {"n_factors": checks.whole, "dropout": part}

    n_factors: int = 64
    dropout: float = 0.5  # share of the coordinates of p_u set to zero in a triple, the others scaled up

    def _task(self, clicks: Interactions) -> Ranking:
        module = Factors(*clicks.shape, self.n_factors, self.dropout)
        return Ranking(module, clicks, self.seed, self.device)


class Factors(Vectors):
    """p_u . q_i + b_i; see `Vectors`."""

    def __init__(self, n_users: int, n_items: int, n_factors: int, dropout: float = 0.0):
        super().__init__(n_users, n_items, n_factors)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.dropout = dropout

    def forward(
        self, users: torch.Tensor | Sparse, items: torch.Tensor | None = None, rng: torch.Generator | None = None
    ) -> torch.Tensor:
        p = dropped(self.of_users(users), self.dropout, rng)
        return inner(p, self.items.weight, items) + look_up(self.bias, items)


choose = chooser(MF, STAGES, WHOLE_GRID, lambda clicks: batch_of(clicks.n_interactions, 256, 16384))
"""On large data at most 7 of table 3's 63 trainings, without rate 0.001 and sizes 4, 8 and 50.

At 0.006 and batches this large it takes 95 epochs on ML-1M; at 0.001 it would take several times as many.
"""
