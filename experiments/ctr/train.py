"""Training a click-through model on rows, real or synthetic, with or without a teacher."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.ctr import metrics
from experiments.ctr.fields import Field
from experiments.ctr.layers import Bags, Column, Cross, Linear
from experiments.ctr.rows import Rows, Values
from experiments.recommenders.layers import Dense, Mixed, Repeated
from experiments.training.trainer import Progress, Task, Trainer, adam, device_of, one_thread
from infae.runtime import checks

INIT_STD = 0.01
DIVERGED = "the model's logits are NaN or infinite: it has diverged; train it again"
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits, labels) -> (n,)"""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-y log p - (1 - y) log(1 - p) of each row, p = sigmoid(logit)."""
    return binary_cross_entropy_with_logits(logits, labels, reduction="none")


def squared_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(logit - logit(y))^2 of each row: for a teacher's probabilities as labels, none of them 0 or 1."""
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
    temperature: float = 1.0  # logits are divided by it in the loss; labels are then a teacher's at the same one
    metric: str = "AUC"  # or LogLoss, which stops training by its negative
    check_every: int = 1  # epochs
    patience: int = 3
    seed: int = 0
    device: str = "cpu"


Drawn = Callable[[int], Rows]
"""The rows of an epoch, from 0: the same for the same epoch."""


def fit(
    model: nn.Module, rows: Rows | Drawn, validation: Rows | None = None, training: Training = Training(), *,
    go_on: bool = False, progress: bool = False,
) -> Progress:  # fmt: skip
    """Draw initial values, and train the model on rows with labels and weights; see `Trainer` for the rest.

    Where rows are drawn anew for every epoch, `rows` is what draws them. With `go_on` the model keeps the values that
    it has, and is trained further.

    Raises:
      ValueError: bad settings, no rows, rows without labels, of one kind of label or of other fields than the model's,
        labels 0 or 1 with squared errors, batches of one row with batch normalisation; for AUC, validation rows of one
        kind of label.
      FloatingPointError: training diverged.
    """
    draw, rows = (rows, rows(0)) if callable(rows) else (None, rows)
    _check_fields(model, rows, *([] if validation is None else [validation]))
    checks.choice("loss", training.loss, LOSSES)
    labels = rows.known_labels
    if not labels.size:
        raise ValueError("there are no rows to train on")
    if labels.min() == labels.max() and labels[0] in (0, 1):
        raise ValueError(f"all labels are {labels[0]:g}: rows of both kinds are needed to tell them apart")
    if training.loss == "squared_error" and not (labels.min() > 0 and labels.max() < 1):
        raise ValueError("squared_error is of logits: every label must be above 0 and below 1; use cross_entropy")
    checks.choice("metric", training.metric, METRICS)
    temperature = checks.number("temperature", training.temperature, above=0)
    decay = checks.number("weight_decay", training.weight_decay, least=0)
    device = device_of(training.device)
    rng = torch.Generator(device).manual_seed(checks.seed("seed", training.seed))
    model.to(device)
    if not go_on:
        initialise(model, rng)
    batch_size = checks.whole("batch_size", training.batch_size)
    if any(isinstance(part, nn.BatchNorm1d) for part in model.modules()):
        if min(len(rows), batch_size) < 2:
            raise ValueError("batch normalisation needs batches of two rows or more: one row has no variance")
        while len(rows) % batch_size == 1:  # nor has a last batch of one
            batch_size += 1
    settings = (training.n_epochs, batch_size, training.metric, training.check_every, training.patience)
    trainer = Trainer(type(model).__name__, *settings, progress=progress)
    value = None
    if validation is not None:
        columns, held_out = on(validation, device), validation.known_labels
        score = METRICS[training.metric]
        score(held_out, np.zeros(len(held_out)))  # labels that have no such metric are told now, not after an epoch
        value = lambda: score(held_out, _logits(model, columns))  # noqa: E731
    task = Click(model, rows, draw, device, LOSSES[training.loss], temperature)
    return trainer.fit(task, {"loss": adam(model, training.learning_rate, weight_decay=decay)}, rng, value)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "AUC": metrics.auc,
    "LogLoss": lambda labels, logits: -metrics.log_loss(labels, logits),
}


class Click(Task):
    """Rows and their labels."""

    def __init__(
        self, module: nn.Module, rows: Rows, draw: Drawn | None, device: torch.device, loss: Loss, temperature: float
    ):
        self.module, self._loss, self._temperature, self._device, self._draw = module, loss, temperature, device, draw
        self._columns = self._of(rows)

    def _of(self, rows: Rows) -> Sequence[Any]:
        given = rows.known_labels, np.ones(len(rows), np.float32) if rows.weights is None else rows.weights
        return [*on(rows, self._device), *(torch.from_numpy(column).to(self._device) for column in given)]

    def examples(self, epoch: int) -> Sequence[Any]:
        if self._draw is not None and epoch:
            self._columns = self._of(self._draw(epoch))
        return self._columns

    def losses(self, rng: torch.Generator, *batch: Any) -> Iterator[torch.Tensor]:
        *columns, labels, weights = batch
        yield (weights * self._loss(self.module(columns, rng) / self._temperature, labels)).mean()


def on(rows: Rows, device: torch.device | str = "cpu") -> list[Column]:
    """The values of rows as models take them."""
    return [_column(field, value, device) for field, value in zip(rows.fields, rows.values, strict=True)]


def _column(field: Field, value: Values, device: torch.device | str) -> Column:
    if not isinstance(value, np.ndarray):
        # A few made rows among many real ones: inverted ones, which are dense, took 4 to 9 times as long.
        mixed = field.kind == "category" and 8 * (value.getnnz(axis=1) > 1).sum() <= value.shape[0]
        return Mixed.of(value, device) if mixed else Bags.of(value, device)
    if value.ndim == 2:
        # Designed rows pair a few groups of each field: 2,000 rows train in a third of the time.
        _, first, which = np.unique([row.tobytes() for row in value], return_index=True, return_inverse=True)
        if 8 * len(first) <= len(value):
            return Repeated(*(torch.from_numpy(part).to(device) for part in (value[first], which)))
    return torch.from_numpy(value).to(device)


@torch.no_grad()
def logits(model: nn.Module, rows: Rows) -> np.ndarray:
    """(n,) logits of rows by a trained model."""
    _check_fields(model, rows)
    device = next(model.parameters()).device
    model.eval()
    with one_thread():
        return _logits(model, on(rows, device))


@torch.no_grad()
def _logits(model: nn.Module, columns: Sequence[Column], batch: int = 2**13) -> np.ndarray:
    parts = zip(*(column.split(batch) for column in columns), strict=True)
    return np.concatenate([np.empty(0, np.float32), *(model(part).cpu().numpy() for part in parts)])


def _check_fields(model: nn.Module, *parts: Rows) -> None:
    """Rows of other fields, or of other values, would be read as what they are not."""
    for rows in parts:
        if getattr(model, "fields", rows.fields) != rows.fields:
            raise ValueError(f"the rows are of other fields than the model's, or of other values: {rows.fields.names}")


def evaluate(model: nn.Module, rows: Rows) -> dict[str, float]:
    """AUC, LogLoss, and the expected calibration error of a model on rows."""
    found = logits(model, rows)
    labels = rows.known_labels
    error = metrics.calibration(labels, found).error
    return {"AUC": metrics.auc(labels, found), "LogLoss": metrics.log_loss(labels, found), "ECE": error}


@torch.no_grad()
def initialise(model: nn.Module, rng: torch.Generator) -> None:
    """Vectors N(0, INIT_STD^2); layers normal, of Glorot and Bengio's (2010) variance; weights and offsets zero."""
    for part in model.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=INIT_STD, generator=rng)
        elif isinstance(part, Dense):
            nn.init.xavier_normal_(part.weight, generator=rng)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm1d):
            part.reset_parameters()
            part.reset_running_stats()
    for part in model.modules():  # after the tables, which a linear part has too
        for parameter in part.parameters() if isinstance(part, Linear) else ():
            nn.init.zeros_(parameter)
        if isinstance(part, Cross):
            nn.init.zeros_(part.biases)


def labelled(model: nn.Module, rows: Rows, temperature: float = 1.0) -> Rows:
    """The rows with labels sigmoid(logit / temperature) of the model; FloatingPointError where they are not finite."""
    found = logits(model, rows)
    if not np.isfinite(found).all():
        raise FloatingPointError(DIVERGED)
    return replace(rows, labels=probabilities(found / temperature))


def probabilities(logits: np.ndarray) -> np.ndarray:
    """sigmoid(logits), not quite 0 or 1, so that the logits can be told from them again."""
    return np.clip(expit(logits), 1e-6, 1 - 1e-6).astype(np.float32)
