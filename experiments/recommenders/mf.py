"""MF: matrix factorisation trained to rank clicks above non-clicks, in PyTorch (paper, appendix B.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding

from distillcf.torch_data import check_whole
from experiments.recommenders.ranking import FoldIn, Ranking, vectors
from experiments.training import tuning
from experiments.training.trainer import Trained, check_share, dropped, frozen
from experiments.training.tuning import Stages, batch_of, grid
from infae import Interactions, Split

if TYPE_CHECKING:
    from experiments.recommenders.registry import Search

STAGES: dict[str, Stages] = {
    "paper": {"learning_rate": (0.01,), "n_factors": (16, 32, 128), "dropout": (0.0, 0.3)},
    "quick": {"n_factors": (32,), "dropout": (0.3,)},
    "smoke": {},
}
WHOLE_GRID = grid("learning_rate", "n_factors", "dropout")


class MF(Trained):
    """score(u, i) = p_u . q_i + b_i, trained to rank an item i clicked above an item j not clicked.

        min over p, q, b of the mean over (u, i, j) of -x_ui * log sigmoid(score(u, i) - score(u, j))

    with x_ui the click's value, 1 or below on a soft support (Rendle et al. 2009, section 4.3.1;
    dropout, as in the paper's table 3, in place of their L2 penalty). The paper's alpha and beta_u
    cancel in the difference, and are left out.

    Histories are scored by their items alone, those of training users too, with p_u folded in
    by ridge regression of the trained p_u on the mean q_i of the items of u's history; an empty
    history gets the mean p_u. On ML-1M's validation clicks this ranks better than the trained p_u.

    Args:
      n_factors: latent size.
      dropout: share of the coordinates of p_u set to zero in a triple, the others scaled up.
      training: see `Trained`.
    """

    title = "MF"

    def __init__(self, n_factors: int = 64, *, dropout: float = 0.5, **training: Any):
        super().__init__(**training)
        self.n_factors = n_factors
        self.dropout = dropout

    def _learner(self, clicks: Interactions, rng: torch.Generator) -> Factors:
        return Factors(clicks, self, rng)

    def _check(self) -> None:
        super()._check()
        check_whole(self.n_factors, "n_factors", 1)
        check_share(self.dropout, "dropout")


class Tables(NamedTuple):
    """What is trained, float32."""

    users: torch.Tensor  # (n_users, n_factors)
    items: torch.Tensor  # (n_items, n_factors)
    bias: torch.Tensor  # (n_items,)


class Factors(Ranking):
    """`Tables` in training."""

    def __init__(self, clicks: Interactions, model: MF, rng: torch.Generator):
        super().__init__(clicks, model.seed)
        users, items = (vectors(n, model.n_factors, rng) for n in clicks.shape)
        self.parameters = Tables(users, items, torch.zeros(clicks.n_items, requires_grad=True))
        self._dropout, self._rng = model.dropout, rng

    def margin(self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        p, q, b = self.parameters
        apart = embedding(positives, q) - embedding(negatives, q)
        return (dropped(embedding(users, p), self._dropout, self._rng) * apart).sum(1) + b[positives] - b[negatives]

    def scorer(self) -> Scores:
        users, items, bias = frozen(self.parameters)
        return Scores(FoldIn.of(users, items, self.clicks, np.unique(self.triples.users)), bias)


@dataclass(frozen=True)
class Scores:
    """Histories -> p(history) . q_i + b_i."""

    fold_in: FoldIn
    bias: np.ndarray  # (n_items,)

    def __call__(self, histories: sp.csr_matrix) -> np.ndarray:
        return self.fold_in(histories) @ self.fold_in.items.T + self.bias


def choose(clicks: Interactions, split: Split, search: Search) -> tuple[Trained, dict[str, Any]]:
    """See `tuning.choose`; on large data at most 7 of table 3's 63 trainings, without rate 0.001 and sizes 4, 8 and 50.

    At 0.006 and batches this large it takes 95 epochs on ML-1M; at 0.001 it would take several times as many.
    """
    batch_size = batch_of(clicks.n_interactions, 256, 16384)
    return tuning.choose(MF, STAGES, WHOLE_GRID, clicks, split, search, batch_size=batch_size)
