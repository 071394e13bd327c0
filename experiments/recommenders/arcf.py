"""AR-CF's user generator: a conditional GAN that makes virtual neighbours of real users, in PyTorch.

After Chae, Kim, Chau and Kim (2020), "AR-CF: Augmenting Virtual Users and Items in Collaborative
Filtering for Addressing Cold-Start Problems". The item generator is left out, as the comparison of
Sachdeva et al. (2022), appendix B, does. This is a reading, not the authors' code, of which we had only
the abstract ("generating virtual, but plausible neighbors" of a user); chosen here:

- The condition is the user's own click row, scaled to length 1.
- A real example for a condition is the row of one of the user's `N_NEIGHBOURS` nearest users by
  cosine, another one in every epoch: a generated user is to pass for a neighbour of the conditioning one.
- Both networks have one hidden layer. The generator sees condition and normal noise and scores all
  items, beginning at their log popularity. A virtual row has the items of highest score, as many
  as the real example has clicks, so that the discriminator compares 0/1 rows with 0/1 rows of
  one size, and gradients pass to the scores as though the row were their sigmoid (straight-through).
- Losses are those of Goodfellow et al. (2014), the generator's in the non-saturating form.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from experiments.training.trainer import Task, Trainer, adam, device_of, one_thread
from infae import Interactions, NotFittedError
from infae.data.coerce import as_clicks, drop_empty_users
from infae.machine import batches
from infae.runtime import checks

N_NEIGHBOURS, N_NOISE, OUT_STD = 10, 32, 0.3
GENERATOR_RATE = 0.02
"""Of the discriminator's. At one rate for both, rows leave those of real users. This and the default `learning_rate`
were chosen of 0.02, 0.05, 0.2, 1 and 0.003, 0.01 by EASE's validation HR@100 on 90 generated users of ML-100k."""


@dataclass(eq=False, repr=False)
class ConditionalGAN:
    """A generator of rows of clicks conditioned on a user's own, against a discriminator; a model makes its `Game`.

    Attributes (after fit):
      module: the trained networks, `generator` and `discriminator`.
      path_: one dict an epoch: `epoch`, and the mean losses `discriminator` and `generator`; none where it diverged.
    """

    title: ClassVar[str]

    n_hidden: int = 256  # units of either network's hidden layer
    _: KW_ONLY
    n_epochs: int = 50  # passes over the users
    batch_size: int = 64  # users a step, of both networks
    learning_rate: float = 0.01  # of Adam for the discriminator; the generator's is `GENERATOR_RATE` of it
    seed: int = 0  # of initial values, order, neighbours and noise; no global generator is used
    device: str = "cpu"  # or another of PyTorch's, such as "cuda"
    module: nn.ModuleDict = field(init=False)
    path_: list[dict[str, float]] = field(init=False)
    _play: Any = field(init=False)  # its `Game`

    def _game(self, matrix: sp.csr_matrix, rng: torch.Generator) -> Game:
        raise TypeError(f"{type(self).__name__} defines no _game")

    def fit(self, X: Any, *, progress: bool = False) -> Self:
        """Train both networks on clicks; `X` as in `InfiniteAE.fit`. How often a click is repeated does not count.

        Where training diverges, the networks are kept as they were after the last good epoch, with a RuntimeWarning.

        Raises ValueError for bad parameters, and for AR-CF fewer than two users with clicks; FloatingPointError where
        training diverged in its first epoch.
        """
        checks.whole("n_hidden", self.n_hidden)
        rng = torch.Generator(device_of(self.device)).manual_seed(checks.seed("seed", self.seed))
        rate = checks.number("learning_rate", self.learning_rate, above=0)
        trainer = Trainer(self.title, self.n_epochs, self.batch_size, progress=progress)
        clicks = as_clicks(X)
        clicks = drop_empty_users(clicks.with_matrix(sp.csr_matrix(clicks.matrix > 0, dtype=np.float32)))
        game = self._game(clicks.matrix, rng)
        rates = {"discriminator": rate, "generator": rate * GENERATOR_RATE}
        optimizers = {name: adam(game.module[name], rates[name], betas=(0.5, 0.999)) for name in rates}
        path: list[dict[str, float]] = []
        try:
            path = trainer.fit(game, optimizers, rng).path
        except FloatingPointError as error:
            if not game.kept:
                raise
            message = f"{error}; the networks are kept as they were after epoch {game.n_kept}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            game.module.load_state_dict(game.kept)
        self.module, self.path_, self._clicks, self._play = game.module.eval(), path, clicks, game
        return self

    def _fitted(self) -> None:
        if not hasattr(self, "module"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit(X) first")


@dataclass(eq=False, repr=False)
class ARCF(ConditionalGAN):
    """min over G, max over D of E log D(row of a neighbour of u, u) + E log(1 - D(G(noise, u), u))."""

    title = "AR-CF"

    def _game(self, matrix: sp.csr_matrix, rng: torch.Generator) -> Neighbours:
        return Neighbours(matrix, self, rng)

    def generate(self, n_users: int, seed: int = 0) -> Interactions:
        """Virtual users, (n_users, n_items) 0/1, ids 0, 1, ...; each is conditioned on a real one.

        Those are drawn at random, all different where `n_users` is at most theirs.
        """
        checks.whole("n_users", n_users)
        self._fitted()
        matrix, rng, near = self._clicks.matrix, np.random.default_rng(checks.seed("seed", seed)), self._play.near
        users = rng.choice(matrix.shape[0], n_users, replace=n_users > matrix.shape[0])
        example = near[users, rng.integers(near.shape[1], size=n_users)]
        drawn = torch.Generator(self.device).manual_seed(seed)
        with one_thread(), torch.no_grad():
            condition = rows_of(matrix, torch.from_numpy(users), drawn.device)
            scores = self.module["generator"](noise(n_users, drawn), condition)
            counts = torch.from_numpy(np.diff(matrix.indptr)[example]).to(drawn.device)
            rows = highest(scores, counts).cpu().numpy()
        return Interactions.from_matrix(rows, None, self._clicks.item_ids)


class Game(Task):
    """The two networks of a conditional GAN, and how their last good state is kept."""

    module: nn.ModuleDict

    def __init__(self, matrix: sp.csr_matrix, model: ConditionalGAN, rng: torch.Generator):
        n_users, n_items = matrix.shape
        self._matrix, self._rng = matrix, rng
        self.kept: dict[str, torch.Tensor] = {}
        self.n_kept = 0
        with torch.random.fork_rng(devices=[]):  # layers draw values at once, which are drawn anew
            generator = Conditioned(N_NOISE, n_items, model.n_hidden, n_items)
            discriminator = Conditioned(n_items, n_items, model.n_hidden, 1)
        self.module = nn.ModuleDict({"generator": generator, "discriminator": discriminator}).to(rng.device)
        generator.initialise(N_NOISE**0.5, rng)
        discriminator.initialise((matrix.nnz / n_users) ** 0.5, rng)
        popularity = np.asarray(matrix.sum(axis=0)).ravel()
        generator.out.bias.data.copy_(torch.from_numpy(np.log((popularity + 0.1) / n_users)))

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        state = self.module.state_dict()
        # Losses of the epoch before were finite, or this one would not begin; its last step may have spoilt the state.
        if epoch and all(tensor.isfinite().all() for tensor in state.values()):
            self.kept, self.n_kept = {name: tensor.clone() for name, tensor in state.items()}, epoch
        return [torch.arange(self._matrix.shape[0], device=self._rng.device)]


class Neighbours(Game):
    """Users, each against a neighbour drawn anew in every epoch."""

    near: np.ndarray  # (n_users, N_NEIGHBOURS) positions; of all others where they are fewer

    def __init__(self, matrix: sp.csr_matrix, model: ARCF, rng: torch.Generator):
        if matrix.shape[0] < 2:
            raise ValueError("expected at least two users with clicks: one is the other's neighbour")
        self.near = nearest_users(matrix, min(N_NEIGHBOURS, matrix.shape[0] - 1))
        super().__init__(matrix, model, rng)

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        n_users, n_near = self.near.shape
        drawn = torch.randint(n_near, (n_users, 1), generator=self._rng, device=self._rng.device)
        return [*super().examples(epoch), torch.from_numpy(self.near).to(self._rng.device).gather(1, drawn)[:, 0]]

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        generator, discriminator = self.module["generator"], self.module["discriminator"]
        condition, real = (rows_of(self._matrix, rows, rng.device) for rows in batch)
        soft = torch.sigmoid(generator(noise(len(condition), rng), condition))
        fake = highest(soft.detach(), real.sum(1).long()) + soft - soft.detach()
        yield told(discriminator(real, condition), 1) + told(discriminator(fake.detach(), condition), 0)
        yield told(discriminator(fake, condition), 1)


class Conditioned(nn.Module):
    """out(leaky_relu(own(x) + shown(condition))): a hidden layer over two inputs, the condition scaled to length 1."""

    def __init__(self, n_in: int, n_condition: int, n_hidden: int, n_out: int):
        super().__init__()
        self.own = nn.Linear(n_in, n_hidden)
        self.shown = nn.Linear(n_condition, n_hidden, bias=False)
        self.out = nn.Linear(n_hidden, n_out)

    def initialise(self, size: float, rng: torch.Generator) -> None:
        """Draw initial values; of x's usual length `size`, both inputs move a hidden unit by 1 or so."""
        n_hidden = self.out.in_features
        for layer, scale in ((self.own, 1 / size), (self.shown, 1.0), (self.out, OUT_STD * n_hidden**-0.5)):
            nn.init.normal_(layer.weight, std=scale, generator=rng)
        nn.init.zeros_(self.own.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        hidden = self.own(x) + self.shown(normalize(condition))
        return self.out(nn.functional.leaky_relu(hidden, 0.2))


def nearest_users(matrix: sp.csr_matrix, n: int) -> np.ndarray:
    """(n_users, n) positions of the other users of highest cosine, in no order."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)))
    unit = sp.csr_matrix(matrix.multiply(1 / np.maximum(lengths, 1e-12)), dtype=np.float32)
    found = np.empty((matrix.shape[0], n), np.int64)
    for at in batches(*matrix.shape):
        similar = (unit[at] @ unit.T).toarray()
        np.fill_diagonal(similar[:, at], -np.inf)
        found[at] = np.argpartition(-similar, n - 1, axis=1)[:, :n]
    return found


def highest(scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """0/1 rows with ones at the `counts` highest scores of each."""
    place = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(scores).scatter(1, order, (place < counts[:, None]).to(scores.dtype))


def rows_of(matrix: sp.csr_matrix, users: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(n, n_items) dense rows."""
    return torch.from_numpy(matrix[users.cpu().numpy()].toarray().astype(np.float32)).to(device)


def noise(n: int, rng: torch.Generator) -> torch.Tensor:
    """(n, N_NOISE) of the generator."""
    return torch.randn(n, N_NOISE, generator=rng, device=rng.device)


def told(logits: torch.Tensor, label: float) -> torch.Tensor:
    """Mean cross-entropy of logits that should say `label`."""
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
