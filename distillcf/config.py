"""The settings of a distillation, checked once."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from infae.ranking.evaluate import metric_k
from infae.runtime import checks

# The outer loop computes with integers and numbers of 32 bits, and with squares of the penalties.
_LARGEST_WHOLE = 2**31 - 1


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
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if name == "sharpness" and value is None:
                value = 0.0 if self.labels == "free" else 0.003
            object.__setattr__(self, name, check(name, value))

    @property
    def reg_grid(self) -> tuple[float, ...]:
        """The regs to choose from; empty where reg is learnt."""
        if self.reg is None:
            return ()
        return self.reg if isinstance(self.reg, tuple) else (self.reg,)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for records and files."""
        settings = asdict(self)
        settings["reg"] = list(self.reg) if isinstance(self.reg, tuple) else self.reg
        return settings


def _regs(name: str, value: Any) -> float | tuple[float, ...] | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_positive(name, reg) for reg in checks.sequence(name, value, "number"))
    return _positive(name, value)


def _metric(name: str, value: Any) -> str:
    if isinstance(value, str) and value.isascii():
        metric_k(value)
        return value
    raise ValueError(f"{name} must be a name such as 'HR@100', got {checks.shown(value)}")


_whole = partial(checks.whole, most=_LARGEST_WHOLE)
_positive = partial(checks.number, least=1e-12, most=1e30)
_penalty = partial(checks.number, least=0, most=1e12)

# In this order, for `sharpness` left open goes by `labels`.
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "labels": partial(checks.choice, choices=("clicks", "free")),
    "sampler": partial(checks.choice, choices=("expected", "gumbel")),
    "objective": partial(checks.choice, choices=("match", "squared", "softmax", "logistic")),
    **dict.fromkeys(("n_users", "n_draws", "steps", "batch_size", "validate_every"), _whole),
    "patience": partial(_whole, least=0),
    "seed": checks.seed,
    **dict.fromkeys(("temperature", "learning_rate"), _positive),
    **dict.fromkeys(("l1", "sharpness", "label_penalty"), _penalty),
    "held_out": partial(checks.share, least=0),
    "reg": _regs,
    "metric": _metric,
}
