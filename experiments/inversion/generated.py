"""Rows of generators that saw the data: IRGAN and AugCF, the GANs that model inversion is compared with.

Both papers' networks are matrix factorisations of users and items, and both learn a generator p(item | user, label)
against a discriminator that tells generated items from real ones. Decided here, where the papers leave it open or are
about something else:

- irgan (Wang et al. 2017) has clicks alone. Half of the rows are its items, with label 1; the others are a random
  user's with a random item, with label 0. Its generator steps by the expectation over all items of the reward
  log(1 + exp(d)) (Eq. 8), of which the paper's policy gradient is an estimate.
- augcf (Wang et al. 2019) has a generator for either label, and as many rows of each as the data has. Its generator
  steps through a straight-through Gumbel softmax; side information and text, which its own data have, are left out.
- Real rows are drawn anew in each epoch, `EPOCH_ROWS` of them; users of generated rows are those of real ones.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import gumbel_softmax, softplus

from experiments.ctr.rows import Rows
from experiments.training.trainer import Task, Trainer, adam, one_thread
from infae.runtime import checks

KINDS = ("irgan", "augcf")
EPOCH_ROWS, BATCH = 50_000, 2000
N_FACTORS = 16


class Factors(nn.Module):
    """(n, n_items) of users and labels: b_c + (p_u * e_c) q'."""

    def __init__(self, n_users: int, n_items: int, rng: torch.Generator):
        super().__init__()
        self.users, self.items = (
            nn.Parameter(0.1 * torch.randn(n, N_FACTORS, generator=rng)) for n in (n_users, n_items)
        )
        self.labels = nn.Parameter(1 + 0.1 * torch.randn(2, N_FACTORS, generator=rng))
        self.biases = nn.Parameter(torch.zeros(2, n_items))

    def forward(self, users: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.biases[labels] + (self.users[users] * self.labels[labels]) @ self.items.T


class Game(Task):
    """Generator and discriminator, and their losses on real rows (user, item, label)."""

    def __init__(self, kind: str, columns: Sequence[torch.Tensor], sizes: tuple[int, int], rng: torch.Generator):
        self._kind, self._columns, self._rng = kind, columns, rng
        parts = {name: Factors(*sizes, rng) for name in ("discriminator", "generator")}
        self.module: nn.ModuleDict = nn.ModuleDict(parts)

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        drawn = torch.randint(len(self._columns[0]), (EPOCH_ROWS,), generator=self._rng)
        return [column[drawn] for column in self._columns]

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        users, items, labels = batch
        generator, discriminator = self.module["generator"], self.module["discriminator"]
        with torch.no_grad():
            fake = _drawn(generator(users, labels), rng)
        told = discriminator(users, labels)
        real, made = (told.gather(1, each[:, None])[:, 0] for each in (items, fake))
        yield (softplus(-real) + softplus(made)).mean()
        # Value 0, which is never drawn, has no part in what is learned.
        told, scores = discriminator(users, labels).detach()[:, 1:], generator(users, labels)[:, 1:]
        if self._kind == "irgan":
            yield -(scores.softmax(1) * softplus(told)).sum(1).mean()
        else:
            with torch.random.fork_rng(devices=[]):  # `gumbel_softmax` takes no generator
                torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
                chosen = gumbel_softmax(scores, hard=True)
            yield softplus(-(chosen * told).sum(1)).mean()


def synthesise(
    rows: Rows, n_rows: int, seed: int = 0, *, kind: str = "irgan", n_epochs: int = 30, learning_rate: float = 0.01,
    progress: bool = False,
) -> Rows:  # fmt: skip
    """Rows of one user and one item each, with labels 0 and 1; see the module.

    Args:
      rows: real ones, of two category fields, with labels 0 and 1.
      n_rows: how many.
      seed: of all that is drawn.
      kind: one of `KINDS`.
      n_epochs: of `EPOCH_ROWS` real rows.
      learning_rate: of Adam for both networks.
      progress: show a bar.

    Raises:
      ValueError: bad arguments, other fields, soft values or soft labels.
      FloatingPointError: training diverged.
    """
    n_rows, kind = checks.whole("n_rows", n_rows), checks.choice("kind", kind, KINDS)
    labels = rows.known_labels
    if [field.kind for field in rows.fields] != ["category"] * 2 or any(value.ndim > 1 for value in rows.values):
        raise ValueError(f"rows are generated for two category fields of ids, got {', '.join(rows.fields.names)}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("a generator learns from labels 0 and 1")
    columns = [torch.from_numpy(column) for column in (*rows.values, labels.astype(np.int64))]
    if kind == "irgan":
        columns = [column[columns[2] == 1] for column in columns]
    if not len(columns[0]):
        raise ValueError("there are no rows with label 1 to learn from")
    first, second = (field.size for field in rows.fields)
    rng = torch.Generator().manual_seed(checks.seed("seed", seed))
    game = Game(kind, columns, (first, second), rng)
    trainer = Trainer(kind, n_epochs, BATCH, progress=progress)
    trainer.fit(game, {name: adam(game.module[name], learning_rate) for name in game.module}, rng)
    drawn = torch.randint(len(columns[0]), (n_rows,), generator=rng)
    users, wanted = columns[0][drawn], columns[2][drawn]
    with torch.no_grad(), one_thread():
        parts = zip(users.split(BATCH), wanted.split(BATCH), strict=True)
        items = torch.cat([_drawn(game.module["generator"](*part), rng) for part in parts])
    if kind == "irgan":
        wanted = (torch.arange(n_rows) % 2).long()
        others = torch.randint(1, first, (n_rows,), generator=rng), torch.randint(1, second, (n_rows,), generator=rng)
        users, items = (torch.where(wanted == 1, *pair) for pair in zip((users, items), others, strict=True))
    return Rows(rows.fields, (users.numpy(), items.numpy()), wanted.numpy())


def _drawn(scores: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """(n,) an item of each row but value 0, by the softmax of its scores."""
    return torch.multinomial(scores[:, 1:].softmax(1), 1, generator=rng)[:, 0] + 1
