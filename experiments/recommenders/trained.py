"""A recommender that is a trained PyTorch module."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch

from experiments.recommenders.base import Baseline
from experiments.recommenders.layers import Sparse, initialise
from experiments.training.trainer import Task, Trainer, adam, device_of, one_thread
from infae import Interactions, Split
from infae.data.coerce import as_clicks, as_split
from infae.data.fingerprint import clicks_fingerprint, split_fingerprint
from infae.ranking.evaluate import metric_k
from infae.runtime import checks
from infae.tuning.search import held_out_metrics

part = partial(checks.share, least=0)
penalty = partial(checks.number, least=0)


@dataclass(eq=False, repr=False, kw_only=True)
class Trained(Baseline):
    """A recommender trained by Adam; a model makes its `Task`, and has `CHECKS` of parameters of its own.

    Attributes (after fit):
      module: the trained `nn.Module`; `module(histories)` gives the scores of `Sparse` histories.
      epoch_: epochs trained for, of the state kept.
      path_: one dict an epoch: `epoch`, mean `loss`, and the value of `metric` where it was looked at; or `value`,
        where `fit` is given one.
      item_ids_: ids of the items.
    """

    title: ClassVar[str]
    CHECKS: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {}

    learning_rate: float = 0.006
    weight_decay: float = 0.0  # of Adam, which adds so much of a parameter to its gradient
    n_epochs: int = 100  # passes over the examples; at most, where `fit` is given validation clicks
    batch_size: int = 16384  # examples a step; smaller on summaries of few clicks, see `tuning.batch_of`
    metric: str = "HR@100"  # what `fit` stops by, a name of `infae.evaluate`'s report
    check_every: int = 5  # epochs from one look at validation to the next
    patience: int = 3  # looks without a better value before training stops
    seed: int = 0  # of everything that is drawn; no global generator is used
    device: str = "cpu"  # or another of PyTorch's, such as "cuda", on which the module is trained and scores
    module: Any = field(init=False)

    def _task(self, clicks: Interactions) -> Task:
        raise TypeError(f"{type(self).__name__} defines no _task")

    def fit(
        self,
        X: Any,
        validation: Split | Interactions | None = None,
        *,
        progress: bool = False,
        checkpoint: str | Path | None = None,
        report: Callable[[int, float], None] | None = None,
        beside: Callable[[Any, torch.Generator], Task] | None = None,
        value: Callable[[Any], float] | None = None,
    ) -> Self:
        """Train for `n_epochs`, or as long as it helps on `validation`, and keep the best state.

        `X` and `validation` are as in `InfiniteAE.fit`; stored values weigh the loss. `beside(task, rng)` gives what
        is trained in place of the model's own task, such as one with a teacher; a checkpoint knows it by its `repr`.
        `value(model)` is what training stops by in place of `metric`; a checkpoint does not know it. For the rest see
        `Trainer`.

        Raises:
          ValueError: bad parameters or data, or `metric` undefined on `validation`.
          FloatingPointError: training diverged. After either an earlier fit stays in place.
        """
        for name, check in self.CHECKS.items():
            check(name, getattr(self, name))
        metric_k(self.metric)
        penalty("weight_decay", self.weight_decay)
        device = device_of(self.device)
        rng = torch.Generator(device).manual_seed(checks.seed("seed", self.seed))
        clicks = as_clicks(X)
        split = None if validation is None else as_split(clicks, validation)
        params = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        parts = (params, clicks_fingerprint(clicks), split and split_fingerprint(split), *([beside] if beside else []))
        about = repr(parts) if checkpoint else ""
        settings = (self.n_epochs, self.batch_size, "value" if value else self.metric, self.check_every, self.patience)
        trainer = Trainer(self.title, *settings, checkpoint, about, progress)
        with torch.random.fork_rng(devices=[]):  # layers draw values at once, which are drawn anew
            task = self._task(clicks)
        module = task.module.to(device)
        initialise(module, rng)
        if beside is not None:
            task = beside(task, rng)

        trial = copy.copy(self)
        trial.module, trial.item_ids_ = module, clicks.item_ids
        if value is None and split is not None:
            value = lambda model: held_out_metrics(model, split, [self.metric])["value"]  # noqa: E731
        looked = partial(value, trial) if value else None
        optimizer = adam(task.module, self.learning_rate, weight_decay=self.weight_decay)
        done = trainer.fit(task, {"loss": optimizer}, rng, looked, report)
        self.epoch_ = self.n_epochs if done.best is None else done.best["epoch"]
        self.module, self.path_, self.item_ids_ = module, done.path, clicks.item_ids
        return self

    @torch.no_grad()
    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        with one_thread():
            return self.module(Sparse.of(histories, next(self.module.parameters()).device)).cpu().numpy()
