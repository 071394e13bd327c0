"""GD-REC's generator: a conditional GAN of recommendation lists, whose rows are masked (Wang et al. 2022).

Where the paper is silent or says what cannot be meant, chosen here:

- A real example is the user's own row C, which is the condition too; Eq. 2 calls it GF, as it calls what is generated.
- The generator's scores of negative samples are pushed to zero by `ZERO_WEIGHT` of their mean square: the paper says
  that they are, and not how. This is CFGAN's zero reconstruction (Chae et al. 2018, Eq. 8), at its weight.
- The generator's loss is the non-saturating form, -log D, and its rate AR-CF's.
- A list has a user's items of highest score, as many as are asked for. Clicked ones are among them, or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from experiments.recommenders.arcf import ConditionalGAN, Game, highest, noise, rows_of, told
from experiments.recommenders.ranking import Ranking
from experiments.training.trainer import Task, one_thread
from infae import Interactions
from infae.data.fingerprint import clicks_fingerprint
from infae.runtime import checks

N_NEGATIVE = 0.3
"""Share of the items that a user has not clicked, drawn at every step as negative samples."""
ZERO_WEIGHT = 0.1
N_LISTED = 50
"""Items of a list in the studies: as many as are looked at."""


@dataclass(eq=False, repr=False)
class GDREC(ConditionalGAN):
    """min over G, max over D of E log D(C | C) + E log(1 - D(G(noise, C) * (E + K) | C)) (Eq. 1 to 3).

    C is a user's row, E its 0/1 items, and K its negative samples.
    """

    title = "GD-REC"

    def _game(self, matrix: sp.csr_matrix, rng: torch.Generator) -> Masked:
        return Masked(matrix, self, rng)

    def lists(self, n_items: int, seed: int = 0) -> Interactions:
        """The users that were fitted, with their `n_items` items of highest score, 0/1.

        The seed draws the noise: the same one gives the same lists.

        Raises ValueError for more items than there are.
        """
        self._fitted()
        matrix = self._clicks.matrix
        checks.whole("n_items", n_items, most=matrix.shape[1])
        drawn, parts = torch.Generator(self.device).manual_seed(checks.seed("seed", seed)), []
        with one_thread(), torch.no_grad():
            for users in torch.arange(matrix.shape[0]).split(512):
                condition = rows_of(matrix, users, drawn.device)
                scores = self.module["generator"](noise(len(users), drawn), condition)
                counts = torch.full((len(users),), n_items, device=drawn.device)
                parts.append(sp.csr_matrix(highest(scores, counts).cpu().numpy()))
        return self._clicks.with_matrix(sp.csr_matrix(sp.vstack(parts), dtype=np.float32))


@dataclass(frozen=True)
class AlsoLists:
    """What `Trained.fit` takes as `beside`: the same loss of generated lists, added (Eq. 4).

    A step has as many of their triples as of the clicks'. Their order and the items not listed are drawn anew every
    epoch.

    Raises ValueError where it is called for a model that ranks no pairs, or for lists of other users or items.
    """

    lists: Interactions

    def __repr__(self) -> str:
        return f"AlsoLists({clicks_fingerprint(self.lists)})"

    def __call__(self, own: Task, rng: torch.Generator) -> Together:
        if not isinstance(own, Ranking):
            raise ValueError(f"a model must rank pairs of items, as MF does, got {type(own).__name__}")
        if own.clicks.shape != self.lists.shape:
            raise ValueError(f"expected lists of {own.clicks.shape} users and items, got {self.lists.shape}")
        return Together(own, self.lists, int(torch.randint(2**62, (), generator=rng, device=rng.device)))


class Together(Task):
    """A model's own triples, and as many of lists."""

    def __init__(self, own: Ranking, lists: Interactions, seed: int):
        self.module, self._own, self._seed = own.module, own, seed
        self._lists = Ranking(own.module, lists, seed % 2**31, str(own.device))

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        own, lists = self._own.examples(epoch), self._lists.examples(epoch)
        rng = torch.Generator().manual_seed(self._seed + epoch)
        order = torch.cat(
            [torch.randperm(len(lists[0]), generator=rng) for _ in range(-(-len(own[0]) // len(lists[0])))]
        )
        return [*own, *(column[order[: len(own[0])].to(column.device)] for column in lists)]

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        parts = zip((self._own, self._lists), (batch[:4], batch[4:]), strict=True)
        yield torch.stack([loss for task, rows in parts for loss in task.losses(rng, *rows)]).sum()

    def settle(self) -> None:
        self._own.settle()


class Masked(Game):
    """Users' rows against what is generated of them, masked."""

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        generator, discriminator = self.module["generator"], self.module["discriminator"]
        condition = rows_of(self._matrix, batch[0], rng.device)
        drawn = torch.rand(condition.shape, generator=rng, device=rng.device)
        negative = ((drawn < N_NEGATIVE) & (condition == 0)).to(condition.dtype)
        scores = torch.sigmoid(generator(noise(len(condition), rng), condition))
        fake = scores * (condition + negative)
        yield told(discriminator(condition, condition), 1) + told(discriminator(fake.detach(), condition), 0)
        zeros = (scores.square() * negative).sum() / negative.sum().clamp(min=1)
        yield told(discriminator(fake, condition), 1) + ZERO_WEIGHT * zeros
