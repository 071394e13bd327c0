"""The one training loop of all PyTorch models: Adam on minibatches, stopped by a validation metric.

Not imported by `experiments.recommenders`, which works without PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import scipy.sparse as sp
import torch

from distillcf.torch_data import check_whole
from experiments.recommenders.base import Baseline
from infae import Interactions, Split
from infae.data.coerce import as_clicks, as_histories, as_split
from infae.ranking.evaluate import metric_k
from infae.runtime.progress import bar
from infae.tuning.search import held_out_metrics

Scorer = Callable[[sp.csr_matrix], np.ndarray]
"""(n_users, n_items) histories -> scores; training leaves it alone."""


class Learner(Protocol):
    """What is trained.

    Attributes:
      parameters: float32 tensors that Adam changes.
      n_examples: of which batches are drawn, each once an epoch.
    """

    @property
    def parameters(self) -> Sequence[torch.Tensor]: ...

    n_examples: int

    def start(self, epoch: int) -> None:
        """Get ready for an epoch, from 0: draw negatives, set weights that change."""

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        """Mean loss of the examples at (n,) positions."""

    def scorer(self) -> Scorer:
        """How histories are scored with the parameters of this moment."""


class Trained(Baseline):
    """A recommender trained by Adam; a model makes its `Learner` and sets defaults.

    Args:
      learning_rate: of Adam.
      n_epochs: passes over the examples; at most, where `fit` is given validation clicks.
      batch_size: examples a step; smaller on summaries of few clicks, see `tuning.batch_of`.
      metric: what `fit` stops by, a name of `infae.evaluate`'s report.
      check_every: epochs from one look at validation to the next.
      patience: looks without a better value before training stops.
      seed: of everything that is drawn; no global generator is used.

    Attributes (after fit):
      epoch_: epochs trained for, of the state kept.
      path_: one dict an epoch: `epoch`, mean `loss`, and the value of `metric` where it was looked at.
      item_ids_: ids of the items.
    """

    title: str

    def __init__(
        self,
        *,
        learning_rate: float = 0.006,
        n_epochs: int = 100,
        batch_size: int = 16384,
        metric: str = "HR@100",
        check_every: int = 5,
        patience: int = 3,
        seed: int = 0,
    ):
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.metric = metric
        self.check_every = check_every
        self.patience = patience
        self.seed = seed

    def _learner(self, clicks: Interactions, rng: torch.Generator) -> Learner:
        raise TypeError(f"{type(self).__name__} defines no _learner")

    def fit(self, X: Any, validation: Split | Interactions | None = None, *, progress: bool = False) -> Self:
        """Train for `n_epochs`, or as long as it helps on `validation`, and keep the best state.

        Args:
          X: clicks as in `InfiniteAE.fit`; stored values weigh the loss.
          validation: as in `InfiniteAE.fit`.
          progress: show progress bars on standard error.

        Raises:
          ValueError: bad parameters or data, or `metric` undefined on `validation`.
          FloatingPointError: training diverged. After either an earlier fit stays in place.
        """
        self._check()
        clicks = as_clicks(X)
        split = None if validation is None else as_split(clicks, validation)
        rng = torch.Generator().manual_seed(self.seed)
        learner = self._learner(clicks, rng)
        path: list[dict[str, float]] = []
        best: tuple[float, int, Scorer] | None = None
        steps = self._epochs(learner, rng)
        with one_thread(), bar(self.title, progress, steps, "epoch", self.n_epochs) as epochs:
            for epoch, loss in enumerate(epochs, start=1):
                path.append({"epoch": epoch, "loss": loss})
                if split is None or (epoch % self.check_every and epoch != self.n_epochs):
                    continue
                scorer = learner.scorer()
                moment = Moment(scorer, clicks.item_ids)
                value = path[-1][self.metric] = held_out_metrics(moment, split, [self.metric])["value"]
                epochs.set_postfix({self.metric: value})
                if np.isfinite(value) and (best is None or value > best[0]):
                    best = value, epoch, scorer
                if best is not None and epoch - best[1] >= self.patience * self.check_every:
                    break
        if split is None:
            best = np.nan, self.n_epochs, learner.scorer()
        if best is None:
            raise ValueError(f"{self.metric} is not defined on this validation part; choose another metric")
        _, self.epoch_, self._scorer = best
        self.path_, self.item_ids_ = path, clicks.item_ids
        return self

    def _epochs(self, learner: Learner, rng: torch.Generator) -> Iterator[float]:
        """After every epoch its mean loss, dropout included; the next one changes the learner."""
        # Fused: one pass over the parameters, where small batches spend most of their time; a sixth of it.
        optimizer = torch.optim.Adam(learner.parameters, lr=self.learning_rate, fused=True)
        for epoch in range(self.n_epochs):
            learner.start(epoch)
            total = 0.0
            for index in torch.randperm(learner.n_examples, generator=rng).split(self.batch_size):
                loss = learner.loss(index)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * index.numel()
            mean = total / learner.n_examples
            if not np.isfinite(mean):
                raise FloatingPointError(
                    f"the loss of {self.title} became {mean} in epoch {epoch + 1}, float32, with learning_rate = "
                    f"{self.learning_rate:g}; use a smaller one"
                )
            yield mean

    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        return self._scorer(histories)

    def _check(self) -> None:
        for name in ("n_epochs", "batch_size", "check_every", "patience"):
            check_whole(getattr(self, name), name, 1)
        check_whole(self.seed, "seed", 0)
        metric_k(self.metric)
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate!r}")


@dataclass(frozen=True)
class Moment:
    """A model as it is at one look at validation, as `evaluate` asks."""

    scorer: Scorer
    item_ids_: np.ndarray

    def predict(self, histories: Interactions) -> np.ndarray:
        return self.scorer(as_histories(histories, self.item_ids_))


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one core, then as before: on steps this small a second one gains little.

    Where another process was using the cores, two threads were 17 times slower than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_share(value: float, name: str) -> None:
    """ValueError for what is no share that may be dropped."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} is a share, from 0 to below 1, got {value!r}")


def dropped(x: torch.Tensor, share: float, rng: torch.Generator) -> torch.Tensor:
    """X with a share of its entries set to zero and the others scaled up, to the same expectation."""
    if not share:
        return x
    # A quarter of the time of `bernoulli_`, which was half of a step's.
    return x * torch.rand(x.shape, generator=rng).ge_(share).div_(1 - share)


class Layer(tuple[torch.Tensor, torch.Tensor]):
    """x -> x W + b: W (n_in, n_out) and b (n_out,), float32."""

    @classmethod
    def random(cls, n_in: int, n_out: int, rng: torch.Generator) -> Layer:
        """W of variance 2 / (n_in + n_out) (Glorot and Bengio 2010, Eq. 16), b of zeros."""
        weights = torch.randn(n_in, n_out, generator=rng) * (2 / (n_in + n_out)) ** 0.5
        return cls((weights.requires_grad_(), torch.zeros(n_out, requires_grad=True)))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self[0] + self[1]


def frozen(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Copies, which training leaves alone."""
    return [tensor.detach().numpy().copy() for tensor in tensors]
