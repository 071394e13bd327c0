"""MVAE: a variational autoencoder of a user's clicks with a multinomial likelihood (Liang et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import norm
from torch import nn

from experiments.recommenders.layers import Sparse, dense_layers, dropped
from experiments.recommenders.trained import Trained, part, penalty
from experiments.training.losses import elbo_loss
from experiments.training.trainer import Task, one_thread
from experiments.training.tuning import Stages, batch_of, chooser, grid
from infae import Interactions
from infae.runtime import checks

STAGES: dict[str, Stages] = {
    "paper": {"learning_rate": (0.006,), "n_factors": (32, 64), "n_layers": (2, 3), "dropout": (0.0, 0.3)},
    "quick": {"n_factors": (64,), "dropout": (0.3,)},
    "smoke": {},
}
WHOLE_GRID: Stages = {"learning_rate": (0.001,), **grid("n_factors", "n_layers", "dropout")}


@dataclass(eq=False, repr=False)
class MVAE(Trained):
    """Scores are the logits of the items at the mean of the user's latent distribution.

        max over the network of the mean over users of
            E_z~q(z | x)[sum_i x_ui log softmax(f(z))_i] - beta KL(q(z | x) || N(0, I)),
        q(z | x) = N(mu(x), diag(sigma(x)^2))

    (Liang et al. 2018, Eq. 7.) mu and log sigma^2 are read off `n_layers` layers of tanh over x / |x|_2,
    entries dropped out; f has as many. beta grows linearly over the first `anneal_epochs` (section 2.2.2).
    Values x_ui below 1, of a soft support, weigh the likelihood. An empty history is encoded as zeros.

    Raises (fit) also ValueError where nobody has clicked.
    """

    title = "MVAE"
    CHECKS: ClassVar = {
        **dict.fromkeys(("n_factors", "n_layers", "n_hidden", "anneal_epochs"), checks.whole),
        "dropout": part,
        "beta": penalty,
    }

    n_factors: int = 128  # latent size, of z
    _: KW_ONLY
    n_layers: int = 1  # hidden layers of the encoder, and of the decoder
    n_hidden: int = 600  # their width
    dropout: float = 0.5  # share of a user's clicks hidden in a batch, the others scaled up
    beta: float = 0.2  # weight of the KL term at the end of annealing
    anneal_epochs: int = 50  # passes over the users until then
    learning_rate: float = 0.001
    batch_size: int = 256  # users

    def encode(self, histories: Any) -> np.ndarray:
        """(n_users, n_factors) means of the latent distribution; `histories` as in `predict`."""
        clicks = self._clicks(histories).matrix
        with one_thread(), torch.no_grad():
            mean, _ = self.module.encode(unit(Sparse.of(clicks, self.device)))
        return mean.cpu().numpy()

    def _task(self, clicks: Interactions) -> Likelihood:
        return Likelihood(clicks, self)


class Autoencoder(nn.Module):
    """Histories, `Sparse` or dense rows (n, n_items), -> logits (n, n_items) at the mean of z."""

    def __init__(self, n_items: int, n_factors: int, n_layers: int, n_hidden: int, dropout: float = 0.0):
        super().__init__()
        hidden = [n_hidden] * n_layers
        self.encoder = dense_layers([n_items, *hidden, 2 * n_factors], nn.Tanh)
        self.decode = dense_layers([n_factors, *hidden, n_items], nn.Tanh)
        self.dropout = dropout

    def encode(
        self, rows: torch.Tensor | Sparse, rng: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mu and log sigma^2, (n, n_factors), of rows of length 1; `rng` draws the clicks to hide, none without."""
        if isinstance(rows, Sparse):
            rows = rows.with_values(dropped(rows.values, self.dropout, rng))
        else:
            rows = dropped(rows, self.dropout, rng)
        mean, log_variance = self.encoder(rows).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, histories: torch.Tensor | Sparse) -> torch.Tensor:
        return self.decode(self.encode(unit(histories))[0])


def unit(histories: torch.Tensor | Sparse) -> torch.Tensor | Sparse:
    """Rows x / |x|_2; zeros where x is."""
    if isinstance(histories, Sparse):
        return histories.scaled(_per_length(histories.with_values(histories.values**2).sums()[:, 0]))
    return histories * _per_length((histories**2).sum(1, keepdim=True))


def _per_length(squares: torch.Tensor) -> torch.Tensor:
    return 1 / torch.where(squares > 0, squares, 1).sqrt()


class Likelihood(Task):
    """Learns from the rows of users who have clicked; a batch is some of them."""

    module: Autoencoder

    def __init__(self, clicks: Interactions, model: MVAE):
        self._rows = clicks.matrix[np.flatnonzero(np.diff(clicks.matrix.indptr))]
        if not self._rows.shape[0]:
            raise ValueError(f"no clicks: all {clicks.n_users:,} users have empty rows")
        self.module = Autoencoder(clicks.n_items, model.n_factors, model.n_layers, model.n_hidden, model.dropout)
        self._model, self.beta = model, 0.0
        # SciPy's product leaves a row's items last first: the order in which the records drew the clicks to hide.
        self._inputs = sp.csr_matrix(sp.diags_array(1 / norm(self._rows, axis=1)) @ self._rows)

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        self.beta = self._model.beta * min(1, epoch / self._model.anneal_epochs)
        return [torch.arange(self._rows.shape[0], device=self._model.device)]

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        users = batch[0].cpu().numpy()
        mean, log_variance = self.module.encode(Sparse.of(self._inputs[users], rng.device), rng)
        noise = torch.empty_like(mean).normal_(generator=rng)
        logits = self.module.decode(mean + noise * torch.exp(log_variance / 2))
        clicks = torch.from_numpy(self._rows[users].toarray()).to(rng.device)
        yield elbo_loss(logits, clicks, mean, log_variance, self.beta)


choose = chooser(MVAE, STAGES, WHOLE_GRID, lambda clicks: batch_of(clicks.n_users, 16, 256))
"""On large data at most 8 of table 3's 189 trainings, of sizes 32 to 128, without rate 0.01.

On small data those at the authors' rate of 0.001, a third of them, to save the two hours of the others.
The width of the layers, which table 3 does not have, and beta are the authors' 600 and 0.2.
"""
