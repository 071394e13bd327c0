"""The one training loop: any module and loss, one or several optimisers, the best state kept.

Not imported by `experiments.recommenders`, which works without PyTorch.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from distillcf.errors import CheckpointError
from infae.runtime.checks import number, shown, whole
from infae.runtime.progress import bar
from infae.storage import npz

FORMAT = "infae.training"
VERSION = 1


def n_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(part.numel() for part in module.parameters())


class Task:
    """What is trained, on what, by what loss."""

    module: nn.Module

    def examples(self, epoch: int) -> Sequence[torch.Tensor]:
        """Columns of equal length, on the device, of an epoch from 0; a batch is some rows of each."""
        raise NotImplementedError

    def losses(self, rng: torch.Generator, *batch: torch.Tensor) -> Iterator[torch.Tensor]:
        """A loss for each optimiser in turn; the next is asked for after the step of the last."""
        raise NotImplementedError

    def settle(self) -> None:
        """Bring up to the parameters what the module needs beside them, as buffers, before it is looked at."""


@dataclass
class Progress:
    """How far a training is."""

    epoch: int = 0  # those done
    path: list[dict[str, float]] = field(default_factory=list)  # of each `epoch`, mean losses, and metric if looked at
    best: dict[str, Any] | None = None  # look at the metric: `value`, `epoch` and `state`


@dataclass(frozen=True)
class Trainer:
    """Minibatch training, stopped by a metric. Raises ValueError for bad arguments."""

    title: str  # of the progress bar and of errors
    n_epochs: int  # passes over the examples; at most, where there is a metric
    batch_size: int  # examples a step
    metric: str = "value"  # name of the value that training stops by
    check_every: int = 5  # epochs from one look at the metric to the next
    patience: int = 3  # looks without a better value before training stops
    checkpoint: str | Path | None = None  # that a killed training goes on from, to the same bits; written at every look
    identity: str = ""  # what tells this training from others; a checkpoint of another one is refused
    progress: bool = False  # show a bar on standard error

    def __post_init__(self) -> None:
        for name in ("n_epochs", "batch_size", "check_every", "patience"):
            whole(name, getattr(self, name))

    def fit(
        self,
        task: Task,
        optimizers: Mapping[str, Optimizer],
        rng: torch.Generator,
        value: Callable[[], float] | None = None,
        report: Callable[[int, float], None] | None = None,
    ) -> Progress:
        """Train, and leave the module in its best state, in evaluation mode.

        Args:
          task: module, examples and losses.
          optimizers: name of a loss -> what steps by it, in the order of `task.losses`.
          rng: draws the order of examples, and what the losses draw; on the device of the module.
          value: the metric as the module is now, higher is better; without it all epochs are run.
          report: is told (epoch, value) of each look; an exception that it raises ends training.

        Raises:
          ValueError: the metric was never finite.
          FloatingPointError: a loss became NaN or infinite.
          CheckpointError: the checkpoint is damaged, or of another training.
        """
        module = task.module
        parts = {"module": module, **optimizers}
        done = self._load(parts, rng)
        with one_thread(), bar(self.title, self.progress, total=self.n_epochs, unit="epoch") as shown_bar:
            shown_bar.update(done.epoch)
            while done.epoch < self.n_epochs and not self._in_vain(done):
                module.train()
                losses = self._epoch(task, optimizers, rng, done.epoch)
                done.epoch += 1
                done.path.append({"epoch": done.epoch, **losses})
                if done.epoch % self.check_every == 0 or done.epoch == self.n_epochs:
                    if value is not None:
                        module.eval()
                        task.settle()
                        done.path[-1][self.metric] = reached = value()
                        if np.isfinite(reached) and (done.best is None or reached > done.best["value"]):
                            state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
                            done.best = {"value": reached, "epoch": done.epoch, "state": state}
                        shown_bar.set_postfix({self.metric: reached})
                        if report is not None:
                            report(done.epoch, reached)
                    self._save(done, parts, rng)
                shown_bar.update()
        module.eval()
        if done.best is not None:
            module.load_state_dict(done.best["state"])
        elif value is not None:
            raise ValueError(f"{self.metric} is not defined on this validation part; choose another metric")
        else:
            task.settle()
        return done

    def _epoch(
        self, task: Task, optimizers: Mapping[str, Optimizer], rng: torch.Generator, epoch: int
    ) -> dict[str, float]:
        """The mean of each loss."""
        columns = task.examples(epoch)
        n = len(columns[0])
        # Permuted once and cut into slices: a fifth faster than gathering the rows of every batch.
        order = torch.randperm(n, generator=rng, device=rng.device)
        totals = torch.zeros(len(optimizers), dtype=torch.float64, device=rng.device)
        for batch in zip(*(column[order].split(self.batch_size) for column in columns), strict=True):
            losses = task.losses(rng, *batch)
            for k, (optimizer, loss) in enumerate(zip(optimizers.values(), losses, strict=True)):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                totals[k] += loss.detach().double() * len(batch[0])
        means = dict(zip(optimizers, (totals / n).tolist(), strict=True))
        for name, mean in means.items():
            if not np.isfinite(mean):
                at = f"epoch {epoch + 1}, float32, with learning_rate = {optimizers[name].param_groups[0]['lr']:g}"
                raise FloatingPointError(f"{self.title}: {name} became {mean} in {at}; use a smaller one")
        return means

    def _in_vain(self, done: Progress) -> bool:
        return done.best is not None and done.epoch - done.best["epoch"] >= self.patience * self.check_every

    def _save(self, done: Progress, parts: Mapping[str, Any], rng: torch.Generator) -> None:
        if self.checkpoint is None:
            return
        states = {name: part.state_dict() for name, part in parts.items()}
        buffer = io.BytesIO()
        torch.save({"identity": self._about(), "done": vars(done), "parts": states, "rng": rng.get_state()}, buffer)
        # In an archive of ours, whose checksums are looked at.
        npz.write(Path(self.checkpoint), FORMAT, VERSION, content=np.frombuffer(buffer.getvalue(), np.uint8))

    def _load(self, parts: Mapping[str, Any], rng: torch.Generator) -> Progress:
        if self.checkpoint is None or not Path(self.checkpoint).exists():
            return Progress()
        remedy = "remove it to start again, or name another file"
        fields = npz.read(Path(self.checkpoint), FORMAT, VERSION, CheckpointError, remedy)
        content = torch.load(io.BytesIO(fields["content"].tobytes()), map_location="cpu", weights_only=True)
        if content["identity"] != self._about():
            raise CheckpointError(f"{self.checkpoint} is a checkpoint of another training; {remedy}")
        for name, part in parts.items():
            part.load_state_dict(content["parts"][name])
        rng.set_state(content["rng"])
        return Progress(**content["done"])

    def _about(self) -> str:
        return repr(replace(self, checkpoint=None, progress=False))


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


def device_of(name: Any) -> torch.device:
    """The device of that name, such as "cpu" or "cuda"; ValueError for any other."""
    try:
        return torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be a PyTorch device, such as 'cpu' or 'cuda', got {shown(name)}") from error


def adam(module: nn.Module, learning_rate: float, **params: Any) -> torch.optim.Adam:
    """Adam over a module's parameters; ValueError for a bad rate.

    Fused: one pass over the parameters, where small batches spend most of their time; a sixth of it.
    """
    rate = number("learning_rate", learning_rate, above=0)
    return torch.optim.Adam(module.parameters(), lr=rate, fused=True, **params)
