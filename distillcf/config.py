"""The settings of a distillation, checked once."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from infae.ranking.evaluate import metric_k

CHOICES = {
    "labels": ("clicks", "free"),
    "sampler": ("expected", "gumbel"),
    "objective": ("match", "squared", "softmax", "logistic"),
}


@dataclass(frozen=True)
class Config:
    """Every setting of `distill` that is a number or a name.

    Attributes:
      n_users: synthetic users, mu.
      labels: "clicks", a synthetic user's labels are its clicks, as in the paper; or "free",
        real-valued labels, solved in closed form for the present clicks at every step.
      sampler: "expected", the closed-form inclusion; or "gumbel", the paper's.
      n_draws: draws a synthetic user, gamma; an upper bound on its clicks.
      temperature: tau of the Gumbel sampler.
      objective: "match", squared error to the scores of a model of all the data; "logistic", the
        paper's Eq. 3; "softmax", the reference code's cross-entropy; "squared" error to clicks.
      held_out: share of each real user's clicks that is hidden from the history and to be
        found; 0 shows and predicts the whole history. Of "match", only the history changes.
      l1: weight of a synthetic user's mean number of clicks: the paper's lambda_2 times n_users.
      sharpness: weight of the variance of a synthetic user's hard sample, reached by a linear
        ramp after the first quarter of the steps. It drives clicks towards 0 and 1, so that
        binary rows serve nearly as well as the soft support (0.01), at some cost to the latter,
        and makes either serve other models better. None is 0.003, or 0 with free labels. Above 0
        the best state is one of the last quarter of the steps, where `patience` counts too.
      label_penalty: ridge penalty of free labels, relative to their mean diagonal.
      learning_rate: of Adam on the logits, decaying to 0 by a cosine over `steps`.
      reg: the inner ridge penalty, relative: None, learnt by gradient beside the prior; a number,
        held fixed; or several, of which each validation keeps the best until the next (B.4).
      steps: outer steps at most.
      batch_size: real users a step.
      validate_every: steps between validations.
      patience: validations without improvement before stopping; 0 never stops early.
      metric: of `infae.evaluate`, by which the best state is kept.
      seed: of everything random.

    For "match" and "squared" the loss is a share of the targets' mean square, so that `l1` and
    `sharpness` mean the same on any data.
    """

    n_users: int = 500
    labels: str = "clicks"
    sampler: str = "expected"
    n_draws: int = 200
    temperature: float = 0.5
    objective: str = "match"
    held_out: float = 0.0
    l1: float = 0.0
    sharpness: float | None = None
    label_penalty: float = 0.01
    learning_rate: float = 0.15
    reg: float | tuple[float, ...] | None = None
    steps: int = 400
    batch_size: int = 1024
    validate_every: int = 25
    patience: int = 8
    metric: str = "HR@100"
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("n_users", "n_draws", "steps", "batch_size", "validate_every"):
            whole(name, getattr(self, name), 1)
        for name in ("patience", "seed"):
            whole(name, getattr(self, name), 0)
        for name in ("temperature", "learning_rate"):
            _number(name, getattr(self, name), above=0)
        if self.sharpness is None:
            # The one default that depends on another setting.
            object.__setattr__(self, "sharpness", 0.0 if self.labels == "free" else 0.003)
        for name in ("l1", "sharpness", "label_penalty"):
            _number(name, getattr(self, name), least=0)
        _number("held_out", self.held_out, least=0, below=1)
        if isinstance(self.reg, tuple) and not self.reg:
            raise ValueError("reg is an empty sequence; give numbers to choose from, or None to learn it")
        for reg in self.reg if isinstance(self.reg, tuple) else (self.reg,):
            if reg is not None:
                _number("reg", reg, above=0)
        metric_k(self.metric)

    @property
    def reg_grid(self) -> tuple[float, ...]:
        """The regs to choose from; empty where reg is learnt."""
        if self.reg is None:
            return ()
        return tuple(map(float, self.reg)) if isinstance(self.reg, tuple) else (float(self.reg),)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for records and files."""
        settings = asdict(self)
        settings["reg"] = list(self.reg) if isinstance(self.reg, tuple) else self.reg
        return settings


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's, and sequences as tuples of such; anything else as it is."""
    if isinstance(value, (tuple, list)):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value


def whole(name: str, value: Any, least: int) -> None:
    """ValueError unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _number(
    name: str, value: Any, *, above: float = -math.inf, least: float = -math.inf, below: float = math.inf
) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if not (value > above and value >= least and value < below):
        bounds = f"above {above}" if above > -math.inf else f"at least {least}"
        upper = f" and below {below}" if below < math.inf else ""
        raise ValueError(f"{name} must be {bounds}{upper}, got {value!r}")
