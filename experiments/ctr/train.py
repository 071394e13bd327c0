"""Training a click-through model on rows, real or synthetic, with or without a teacher."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.special import expit
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.ctr import metrics
from experiments.ctr.layers import Column
from experiments.ctr.rows import Rows, Values
from experiments.recommenders.layers import Dense, Sparse
from experiments.training.trainer import Progress, Task, Trainer, adam, device_of, one_thread
from infae.runtime import checks

INIT_STD = 0.01
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits, labels) -> (n,)"""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-y log p - (1 - y) log(1 - p) of each row, p = sigmoid(logit)."""
    return binary_cross_entropy_with_logits(logits, labels, reduction="none")


def squared_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(logit - logit(y))^2 of each row: for labels that are a teacher's probabilities, none of them 0 or 1."""
    return (logits - torch.logit(labels)).square()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "squared_error": squared_error}


@dataclass(frozen=True)
class Training:
    """How a model is trained: by Adam, until a metric of validation rows stops rising, or for all epochs.

    Raises ValueError for bad values, when `fit` is called.
    """

    learning_rate: float = 0.001
    weight_decay: float = 0.0  # times half the squared length of all parameters, added to the loss
    batch_size: int = 4096
    n_epochs: int = 30
    loss: str = "cross_entropy"  # a name of `LOSSES`
    metric: str = "AUC"  # or LogLoss, which stops training by its negative
    check_every: int = 1  # epochs
    patience: int = 3
    seed: int = 0
    device: str = "cpu"


def fit(
    model: nn.Module, rows: Rows, validation: Rows | None = None, training: Training = Training(), *,
    progress: bool = False, checkpoint: str | Path | None = None, report: Callable[[int, float], None] | None = None,
) -> Progress:  # fmt: skip
    """Draw initial values, and train the model on rows with labels and weights; see `Trainer` for the rest.

    Raises:
      ValueError: bad settings, rows without labels, validation rows of one kind of label.
      FloatingPointError: training diverged.
    """
    checks.choice("loss", training.loss, LOSSES)
    checks.choice("metric", training.metric, METRICS)
    decay = checks.number("weight_decay", training.weight_decay, least=0)
    device = device_of(training.device)
    rng = torch.Generator(device).manual_seed(checks.seed("seed", training.seed))
    initialise(model.to(device), rng)
    settings = (training.n_epochs, training.batch_size, training.metric, training.check_every, training.patience)
    trainer = Trainer(type(model).__name__, *settings, checkpoint, repr(training), progress)
    value = None
    if validation is not None:
        columns, labels = on(validation, device), validation.known_labels
        score = METRICS[training.metric]
        score(labels, np.zeros(len(labels)))  # told before training: labels that no metric is of
        value = lambda: score(labels, _logits(model, columns))  # noqa: E731
    task = Click(model, rows, device, LOSSES[training.loss])
    return trainer.fit(task, {"loss": adam(model, training.learning_rate, weight_decay=decay)}, rng, value, report)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "AUC": metrics.auc,
    "LogLoss": lambda labels, logits: -metrics.log_loss(labels, logits),
}


class Click(Task):
    """Rows and their labels."""

    def __init__(self, module: nn.Module, rows: Rows, device: torch.device, loss: Loss):
        self.module, self._loss = module, loss
        given = rows.known_labels, np.ones(len(rows), np.float32) if rows.weights is None else rows.weights
        self._columns = [*on(rows, device), *(torch.from_numpy(column).to(device) for column in given)]

    def examples(self, epoch: int) -> Sequence[Any]:
        return self._columns

    def losses(self, rng: torch.Generator, *batch: Any) -> Iterator[torch.Tensor]:
        *columns, labels, weights = batch
        yield (weights * self._loss(self.module(columns, rng), labels)).mean()


def on(rows: Rows, device: torch.device | str = "cpu") -> list[Column]:
    """The values of rows as models take them."""
    return [_column(value, device) for value in rows.values]


def _column(value: Values, device: torch.device | str) -> Column:
    return Sparse.of(value, device) if sp.issparse(value) else torch.from_numpy(value).to(device)


@torch.no_grad()
def logits(model: nn.Module, rows: Rows) -> np.ndarray:
    """(n,) logits of rows by a trained model."""
    device = next(model.parameters()).device
    model.eval()
    with one_thread():
        return _logits(model, on(rows, device))


@torch.no_grad()
def _logits(model: nn.Module, columns: Sequence[Column], batch: int = 2**16) -> np.ndarray:
    parts = zip(*(column.split(batch) for column in columns), strict=True)
    return np.concatenate([model(part).cpu().numpy() for part in parts])


def evaluate(model: nn.Module, rows: Rows) -> dict[str, float]:
    """AUC, LogLoss, and the expected calibration error of a model on rows."""
    found = logits(model, rows)
    labels = rows.known_labels
    error = metrics.calibration(labels, found).error
    return {"AUC": metrics.auc(labels, found), "LogLoss": metrics.log_loss(labels, found), "ECE": error}


@torch.no_grad()
def initialise(model: nn.Module, rng: torch.Generator) -> None:
    """Embeddings N(0, INIT_STD^2), but zero where they are weights; layers as Glorot and Bengio (2010, Eq. 16)."""
    for part in model.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=INIT_STD, generator=rng)
            part.weight.mul_(part.embedding_dim > 1)
        elif isinstance(part, Dense):
            nn.init.xavier_normal_(part.weight, generator=rng)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm1d):
            part.reset_parameters()
            part.reset_running_stats()


def labelled(model: nn.Module, rows: Rows) -> Rows:
    """The rows with the model's probabilities as labels; FloatingPointError where they are not finite."""
    found = logits(model, rows)
    if not np.isfinite(found).all():
        raise FloatingPointError("the model's logits are NaN or infinite: it has diverged; train it again")
    # Not quite 0 or 1, so that a logit can be told from them again.
    return replace(rows, labels=np.clip(expit(found), 1e-6, 1 - 1e-6).astype(np.float32))
