"""The inner model and the full-data model whose scores are matched."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from distillcf.config import Config, plain
from distillcf.losses import Student
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.model import InfiniteAE

# Full-data models to choose from by validation: dense data prefers the first, sparse data the second.
CANDIDATES: tuple[dict[str, Any], ...] = (
    {"popularity_power": -0.25},
    {"row_power": 1.0, "b_std": 0.0},
    {"popularity_power": -0.25, "row_power": 1.0, "b_std": 0.0},
)
REGS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


class Scores(Protocol):
    """Scores to be matched: (n,) rows of the clicks -> (n, n_items)."""

    def __call__(self, rows: np.ndarray) -> np.ndarray: ...


def choose_teacher(clicks: Interactions, split: Split | None, metric: str, *, progress: bool = False) -> InfiniteAE:
    """∞-AE of all the data, inputs and reg chosen from `CANDIDATES` and `REGS` by `metric` on validation.

    Without a validation part it is the first candidate at reg 1.
    """
    if split is None:
        return InfiniteAE(1.0, **CANDIDATES[0]).fit(clicks, progress=progress)
    best: tuple[float, InfiniteAE] | None = None
    for inputs in CANDIDATES:
        model = InfiniteAE(REGS, metric=metric, **inputs).fit(clicks, split, progress=progress)
        value = max(row[metric] for row in model.path_ if row["reg"] == model.reg_)
        if best is None or value > best[0]:
            best = value, model
    assert best is not None
    return best[1]


def teacher_scores(teacher: InfiniteAE) -> Scores:
    """A fitted model's leave-one-out scores of its own users: what it says without their own clicks' echo."""
    return teacher.leave_one_out


def given_scores(scores: Any, everybody: Interactions) -> Scores:
    """Scores handed in, of the users with clicks: finite numbers, row by row with all users."""
    array = np.asarray(scores)
    if array.shape != everybody.shape or array.dtype.kind not in "biuf":
        raise ValueError(f"scores must be numbers of X's shape {everybody.shape}, got {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("scores hold NaN or infinity; every cell needs a finite score")
    kept = np.flatnonzero(np.diff(everybody.matrix.indptr))
    return lambda rows: array[kept[rows]].astype(np.float32)


def inner_model(
    config: Config,
    clicks: Interactions,
    split: Split | None,
    model: InfiniteAE | None,
    scores: np.ndarray | None,
    everybody: Interactions,
    progress: bool,
) -> tuple[Student, dict[str, Any], Scores | None]:
    """(inner model, a description of it for files, the scores to be matched if any); see `distill`."""
    if scores is not None and config.objective != "match":
        raise ValueError(f"scores are matched by objective='match', got objective={config.objective!r}")
    targets: Scores | None = None
    if scores is not None:
        targets = given_scores(scores, everybody)
    matched = config.objective == "match" and scores is None
    if model is None and (matched or split is not None):
        model = choose_teacher(clicks, split, config.metric, progress=progress)
    elif matched and model is not None:
        model = InfiniteAE(**model.get_params()).fit(clicks, split, progress=progress)
    model = model or InfiniteAE(1.0, **CANDIDATES[0])
    if matched:
        targets = teacher_scores(model)
    kernel, inputs = model.components(clicks)
    described = {name: plain(getattr(model, name)) for name in ("depth", "w_std", "b_std", "row_power")}
    return Student(kernel, inputs), {**described, "own_kernel": model.kernel is not None}, targets
