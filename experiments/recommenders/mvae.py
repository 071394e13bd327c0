"""MVAE: a variational autoencoder of a user's clicks with a multinomial likelihood (Liang et al. 2018)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding_bag

from distillcf.torch_data import check_whole
from experiments.training import tuning
from experiments.training.trainer import Layer, Trained, check_share, dropped, frozen
from experiments.training.tuning import Stages, batch_of, grid
from infae import Interactions, Split

if TYPE_CHECKING:
    from experiments.recommenders.registry import Search

STAGES: dict[str, Stages] = {
    "paper": {"learning_rate": (0.006,), "n_factors": (32, 64), "n_layers": (2, 3), "dropout": (0.0, 0.3)},
    "quick": {"n_factors": (64,), "dropout": (0.3,)},
    "smoke": {},
}
WHOLE_GRID: Stages = {"learning_rate": (0.001,), **grid("n_factors", "n_layers", "dropout")}


class MVAE(Trained):
    """Scores are the logits of the items at the mean of the user's latent distribution.

        max over the network of the mean over users of
            E_z~q(z | x)[sum_i x_ui log softmax(f(z))_i] - beta KL(q(z | x) || N(0, I)),
        q(z | x) = N(mu(x), diag(sigma(x)^2))

    (Liang et al. 2018, Eq. 7.) mu and log sigma^2 are read off `n_layers` layers of tanh over x / |x|_2,
    entries dropped out; f has as many. beta grows linearly over the first `anneal_epochs` (section 2.2.2).
    Values x_ui below 1, of a soft support, weigh the likelihood. An empty history is encoded as zeros.

    Args:
      n_factors: latent size, of z.
      n_layers: hidden layers of the encoder, and of the decoder.
      n_hidden: their width.
      dropout: share of a user's clicks hidden in a batch, the others scaled up.
      beta: weight of the KL term at the end of annealing, 0 or more.
      anneal_epochs: passes over the users until then.
      training: see `Trained`; its batches are of users.

    Raises (fit) also ValueError where nobody has clicked.
    """

    title = "MVAE"

    def __init__(
        self,
        n_factors: int = 128,
        *,
        n_layers: int = 1,
        n_hidden: int = 600,
        dropout: float = 0.5,
        beta: float = 0.2,
        anneal_epochs: int = 50,
        learning_rate: float = 0.001,
        batch_size: int = 256,
        **training: Any,
    ):
        super().__init__(learning_rate=learning_rate, batch_size=batch_size, **training)
        self.n_factors = n_factors
        self.n_layers = n_layers
        self.n_hidden = n_hidden
        self.dropout = dropout
        self.beta = beta
        self.anneal_epochs = anneal_epochs

    def encode(self, histories: Any) -> np.ndarray:
        """(n_users, n_factors) means of the latent distribution; `histories` as in `predict`."""
        clicks = self._clicks(histories)
        assert isinstance(self._scorer, Scores)
        return self._scorer.encode(clicks)

    def _learner(self, clicks: Interactions, rng: torch.Generator) -> Network:
        return Network(clicks, self, rng)

    def _check(self) -> None:
        super()._check()
        for name in ("n_factors", "n_layers", "n_hidden", "anneal_epochs"):
            check_whole(getattr(self, name), name, 1)
        check_share(self.dropout, "dropout")
        if not (np.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta must be finite and 0 or more, got {self.beta!r}")


class Network:
    """Encoder and decoder in training; examples are the users who have clicked."""

    def __init__(self, clicks: Interactions, model: MVAE, rng: torch.Generator):
        self._rows = clicks.matrix[np.flatnonzero(np.diff(clicks.matrix.indptr))]
        self.n_examples = self._rows.shape[0]
        if not self.n_examples:
            raise ValueError(f"no clicks: all {clicks.n_users:,} users have empty rows")
        self._inputs = normalised(self._rows)
        hidden = [model.n_hidden] * model.n_layers
        self._encoder = _layers([clicks.n_items, *hidden, 2 * model.n_factors], rng)
        self._decoder = _layers([model.n_factors, *hidden, clicks.n_items], rng)
        self._model, self._rng, self._beta = model, rng, 0.0

    @property
    def parameters(self) -> list[torch.Tensor]:
        return list(itertools.chain(*self._encoder, *self._decoder))

    def start(self, epoch: int) -> None:
        self._beta = self._model.beta * min(1, epoch / self._model.anneal_epochs)

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        users = index.numpy()
        mean, log_variance = self._encode(self._inputs[users])
        noise = torch.empty_like(mean).normal_(generator=self._rng)
        z = mean + noise * torch.exp(log_variance / 2)
        clicks = torch.from_numpy(self._rows[users].toarray())
        return elbo_loss(_decode(self._decoder, z), clicks, mean, log_variance, self._beta)

    def _encode(self, rows: sp.csr_matrix) -> tuple[torch.Tensor, torch.Tensor]:
        (weights, offset), *others = self._encoder
        values = dropped(torch.from_numpy(rows.data), self._model.dropout, self._rng)
        items, starts = (torch.from_numpy(part.astype(np.int64)) for part in (rows.indices, rows.indptr[:-1]))
        # x W of sparse rows x.
        x = torch.tanh(embedding_bag(items, weights, starts, mode="sum", per_sample_weights=values) + offset)
        mean, log_variance = _decode(others, x).chunk(2, dim=1)
        return mean, log_variance

    def scorer(self) -> Scores:
        encoder, decoder = ([tuple(frozen(layer)) for layer in part] for part in (self._encoder, self._decoder))
        # Of [mu ; log sigma^2] the mean alone.
        encoder[-1] = tuple(part[..., : self._model.n_factors] for part in encoder[-1])
        return Scores(encoder, decoder)


@dataclass(frozen=True)
class Scores:
    """Histories -> f(mu(x)), of layers W (n_in, n_out) and offset (n_out,)."""

    encoder: list[tuple[np.ndarray, ...]]
    decoder: list[tuple[np.ndarray, ...]]

    def __call__(self, histories: sp.csr_matrix) -> np.ndarray:
        return _forward(self.decoder, self.encode(histories))

    def encode(self, histories: sp.csr_matrix) -> np.ndarray:
        """(n_users, n_factors) mu of histories."""
        return _forward(self.encoder, normalised(histories))


def _forward(layers: list[tuple[np.ndarray, ...]], x: np.ndarray | sp.csr_matrix) -> np.ndarray:
    for weights, offset in layers[:-1]:
        x = np.tanh(x @ weights + offset)
    weights, offset = layers[-1]
    return x @ weights + offset


def elbo_loss(
    logits: torch.Tensor, clicks: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, beta: float
) -> torch.Tensor:
    """Mean over users of -sum_i x_i log softmax(logits)_i + beta KL(N(mean, diag(exp(log_variance))) || N(0, I)).

    Args:
      logits: (n, n_items).
      clicks: (n, n_items), x.
      mean: (n, n_factors).
      log_variance: (n, n_factors).
      beta: of the KL term, here and now.
    """
    likelihood = (clicks * torch.log_softmax(logits, dim=1)).sum(1)
    divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
    return (beta * divergence - likelihood).mean()


def normalised(rows: sp.csr_matrix) -> sp.csr_matrix:
    """X / |x|_2, float32; zeros where x is."""
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    scale = sp.diags_array(1 / np.where(norms > 0, norms, 1))
    return sp.csr_matrix(scale @ rows, dtype=np.float32)


def _layers(widths: list[int], rng: torch.Generator) -> list[Layer]:
    return [Layer.random(n_in, n_out, rng) for n_in, n_out in itertools.pairwise(widths)]


def _decode(layers: list[Layer], z: torch.Tensor) -> torch.Tensor:
    """Tanh after every layer but the last."""
    for layer in layers[:-1]:
        z = torch.tanh(layer(z))
    return layers[-1](z)


def choose(clicks: Interactions, split: Split, search: Search) -> tuple[Trained, dict[str, Any]]:
    """See `tuning.choose`; on large data at most 8 of table 3's 189 trainings, of sizes 32 to 128, without rate 0.01.

    On small data those at the authors' rate of 0.001, a third of them, to save the two hours of the others.
    The width of the layers, which table 3 does not have, and beta are the authors' 600 and 0.2.
    """
    batch_size = batch_of(clicks.n_users, 16, 256)
    return tuning.choose(MVAE, STAGES, WHOLE_GRID, clicks, split, search, batch_size=batch_size)
