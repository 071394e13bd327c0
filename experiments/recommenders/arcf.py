"""AR-CF's user generator: a conditional GAN that makes virtual neighbours of real users, in PyTorch.

After Chae, Kim, Chau and Kim (2020), "AR-CF: Augmenting Virtual Users and Items in Collaborative
Filtering for Addressing Cold-Start Problems". The item generator is left out, as the comparison of
Sachdeva et al. (2022), appendix B, does. This is a reading, not the authors' code, of which we had only
the abstract ("generating virtual, but plausible neighbors" of a user); chosen here:

- The condition is the user's own click row, scaled to length 1.
- A real example for a condition is the row of one of the user's `n_neighbours` nearest users by
  cosine, another one in every epoch: a generated user is to pass for a neighbour of the conditioning one.
- Both networks have one hidden layer. The generator sees condition and normal noise and scores all
  items, beginning at their log popularity. A virtual row has the items of highest score, as many
  as the real example has clicks, so that the discriminator compares 0/1 rows with 0/1 rows of
  one size, and gradients pass to the scores as though the row were their sigmoid (straight-through).
- Losses are those of Goodfellow et al. (2014), the generator's in the non-saturating form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from distillcf.torch_data import check_whole
from experiments.training.trainer import one_thread
from infae import Interactions, NotFittedError
from infae.data.coerce import as_clicks, drop_empty_users
from infae.runtime.progress import bar

OUT_STD = 0.3
GENERATOR_RATE = 0.02
"""Of the discriminator's. At one rate for both, rows leave those of real users. This and the default `learning_rate`
were chosen of 0.02, 0.05, 0.2, 1 and 0.003, 0.01 by EASE's validation HR@100 on 90 generated users of ML-100k."""


class ARCF:
    """min over G, max over D of E log D(row of a neighbour of u, u) + E log(1 - D(G(noise, u), u)).

    Args:
      n_hidden: units of either network's hidden layer.
      n_noise: length of the noise.
      n_neighbours: nearest users who are real examples of a neighbour; all others where fewer.
      n_epochs: passes over the users.
      batch_size: users a step, of both networks.
      learning_rate: of Adam for the discriminator; the generator's is `GENERATOR_RATE` of it.
      seed: of initial values, order, neighbours and noise; no global generator is used.

    Attributes (after fit):
      path_: one dict an epoch: `epoch`, and the mean losses `discriminator` and `generator`.
    """

    def __init__(
        self,
        n_hidden: int = 256,
        *,
        n_noise: int = 32,
        n_neighbours: int = 10,
        n_epochs: int = 50,
        batch_size: int = 64,
        learning_rate: float = 0.01,
        seed: int = 0,
    ):
        self.n_hidden = n_hidden
        self.n_noise = n_noise
        self.n_neighbours = n_neighbours
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed

    def fit(self, X: Any, *, progress: bool = False) -> ARCF:
        """Train both networks on clicks; `X` as in `InfiniteAE.fit`. How often a click is repeated does not count.

        Raises ValueError for bad parameters or fewer than two users with clicks, FloatingPointError
        where training diverged.
        """
        self._check()
        clicks = drop_empty_users(_binary(as_clicks(X)))
        if clicks.n_users < 2:
            raise ValueError("expected at least two users with clicks: one is the other's neighbour")
        rng = torch.Generator().manual_seed(self.seed)
        near = nearest_users(clicks.matrix, min(self.n_neighbours, clicks.n_users - 1))
        generator = Conditioned(self.n_noise, clicks.n_items, self.n_hidden, clicks.n_items, rng, self.n_noise**0.5)
        size = (clicks.n_interactions / clicks.n_users) ** 0.5
        discriminator = Conditioned(clicks.n_items, clicks.n_items, self.n_hidden, 1, rng, size)
        path = []
        popularity = np.asarray(clicks.matrix.sum(axis=0)).ravel()
        generator.out.bias.data = torch.from_numpy(np.log((popularity + 0.1) / clicks.n_users)).float()
        with one_thread():
            optimizers = [
                torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.999), fused=True)
                for net, rate in ((generator, self.learning_rate * GENERATOR_RATE), (discriminator, self.learning_rate))
            ]
            for epoch in bar("AR-CF", progress, range(1, self.n_epochs + 1), "epoch"):
                losses = self._epoch(clicks.matrix, near, generator, discriminator, optimizers, rng)
                if not np.isfinite(losses).all():
                    raise FloatingPointError(
                        f"AR-CF's losses became {losses} in epoch {epoch}, float32, with learning_rate = "
                        f"{self.learning_rate:g}; use a smaller one"
                    )
                path.append({"epoch": epoch, "discriminator": losses[0], "generator": losses[1]})
        self._clicks, self._near, self._generator, self.path_ = clicks, near, generator, path
        return self

    def generate(self, n_users: int, seed: int = 0) -> Interactions:
        """Virtual users, (n_users, n_items) 0/1, ids 0, 1, ...; each is conditioned on a real one.

        Those are drawn at random, all different where `n_users` is at most theirs.
        """
        check_whole(n_users, "n_users", 1)
        if not hasattr(self, "_generator"):
            raise NotFittedError("this ARCF is not fitted; call fit(X) first")
        matrix, rng = self._clicks.matrix, np.random.default_rng(seed)
        users = rng.choice(matrix.shape[0], n_users, replace=n_users > matrix.shape[0])
        example = self._near[users, rng.integers(self._near.shape[1], size=n_users)]
        noise = torch.Generator().manual_seed(seed)
        with one_thread(), torch.no_grad():
            scores = self._scores(self._generator, _rows(matrix, users), noise)
            rows = highest(scores, torch.from_numpy(np.diff(matrix.indptr)[example]))
        return Interactions.from_matrix(rows.numpy(), None, self._clicks.item_ids)

    def _epoch(
        self,
        matrix: sp.csr_matrix,
        near: np.ndarray,
        generator: Conditioned,
        discriminator: Conditioned,
        optimizers: list[torch.optim.Adam],
        rng: torch.Generator,
    ) -> tuple[float, float]:
        drawn = torch.randint(near.shape[1], (near.shape[0],), generator=rng).numpy()
        example = near[np.arange(near.shape[0]), drawn]
        total = np.zeros(2)
        for batch in torch.randperm(near.shape[0], generator=rng).split(self.batch_size):
            users = batch.numpy()
            condition, real = _rows(matrix, users), _rows(matrix, example[users])
            soft = torch.sigmoid(self._scores(generator, condition, rng))
            fake = highest(soft.detach(), real.sum(1).long()) + soft - soft.detach()
            told = _told(discriminator(real, condition), 1) + _told(discriminator(fake.detach(), condition), 0)
            _step(optimizers[1], told)
            fooled = _told(discriminator(fake, condition), 1)
            _step(optimizers[0], fooled)
            total += np.array([told.item(), fooled.item()]) * users.size
        losses = total / near.shape[0]
        return float(losses[0]), float(losses[1])

    def _scores(self, generator: Conditioned, condition: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return generator(torch.randn(condition.shape[0], self.n_noise, generator=rng), condition)

    def _check(self) -> None:
        for name in ("n_hidden", "n_noise", "n_neighbours", "n_epochs", "batch_size"):
            check_whole(getattr(self, name), name, 1)
        check_whole(self.seed, "seed", 0)
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate!r}")


class Conditioned(nn.Module):
    """out(leaky_relu(own(x) + shown(condition))): a hidden layer over two inputs, the condition scaled to length 1."""

    def __init__(self, n_in: int, n_condition: int, n_hidden: int, n_out: int, rng: torch.Generator, size: float = 1.0):
        """`size` is the usual length of x: both inputs move a hidden unit by 1 or so at the start."""
        super().__init__()
        # Without the layers' own initial values, which are drawn from the global generator.
        self.own = nn.utils.skip_init(nn.Linear, n_in, n_hidden)
        self.shown = nn.utils.skip_init(nn.Linear, n_condition, n_hidden, bias=False)
        self.out = nn.utils.skip_init(nn.Linear, n_hidden, n_out)
        for layer, scale in ((self.own, 1 / size), (self.shown, 1.0), (self.out, OUT_STD * n_hidden**-0.5)):
            nn.init.normal_(layer.weight, std=scale, generator=rng)
        for bias in (self.own.bias, self.out.bias):
            nn.init.zeros_(bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        hidden = self.own(x) + self.shown(normalize(condition))
        return self.out(nn.functional.leaky_relu(hidden, 0.2))


def nearest_users(matrix: sp.csr_matrix, n: int) -> np.ndarray:
    """(n_users, n) positions of the other users of highest cosine, in no order."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)))
    unit = sp.csr_matrix(matrix.multiply(1 / np.maximum(lengths, 1e-12)), dtype=np.float32)
    found = np.empty((matrix.shape[0], n), np.int64)
    for start in range(0, matrix.shape[0], 512):
        at = np.arange(start, min(start + 512, matrix.shape[0]))
        similar = (unit[at] @ unit.T).toarray()
        similar[np.arange(at.size), at] = -np.inf
        found[at] = np.argpartition(-similar, n - 1, axis=1)[:, :n]
    return found


def highest(scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """0/1 rows with ones at the `counts` highest scores of each."""
    place = torch.arange(scores.shape[1]).expand_as(scores)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(scores).scatter(1, order, (place < counts[:, None]).to(scores.dtype))


def _binary(clicks: Interactions) -> Interactions:
    matrix = clicks.matrix.copy()
    matrix.eliminate_zeros()
    matrix.data[:] = 1
    return clicks.with_matrix(matrix)


def _rows(matrix: sp.csr_matrix, users: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(matrix[users].toarray().astype(np.float32))


def _told(logits: torch.Tensor, label: float) -> torch.Tensor:
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _step(optimizer: torch.optim.Adam, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
