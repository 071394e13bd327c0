"""The inner model, fitted on synthetic users in closed form, and the full-data model whose scores it is to match."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.inputs import InputMap
from infae.kernels.base import Kernel
from infae.machine import KernelMachine
from infae.model import InfiniteAE
from infae.solvers.dense import solve_dense
from infae.tuning.best import Trial, best

# Full-data models to choose from by validation: dense data prefers the first, sparse data the second.
CANDIDATES: tuple[dict[str, Any], ...] = (
    {"popularity_power": -0.25},
    {"row_power": 1.0, "b_std": 0.0},
    {"popularity_power": -0.25, "row_power": 1.0, "b_std": 0.0},
)
REGS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_LARGEST_SCORE = 1e15


class Support(NamedTuple):
    """A synthetic data set, as the inner model is fitted on it."""

    clicks: jax.Array  # (n_synthetic, n_items) in [0, 1]
    labels: jax.Array  # (n_synthetic, n_items), the clicks themselves in the paper
    reg: jax.Array  # (), relative to the kernel's mean diagonal


class Batch(NamedTuple):
    """Real users to be served."""

    shown: jax.Array | np.ndarray  # (n_users, n_items) histories that are scored
    targets: jax.Array | np.ndarray  # (n_users, n_items) clicks, or scores to be matched
    weights: jax.Array | np.ndarray  # (n_users, n_items) 1 where a cell counts, 0 where not


@dataclass(frozen=True, eq=False)
class Student:
    """The inner model: ∞-AE with this kernel on these inputs."""

    kernel: Kernel  # traceable
    inputs: InputMap

    @classmethod
    def of(cls, model: InfiniteAE, clicks: Interactions) -> Self:
        """With the kernel and the inputs that a model has on these clicks."""
        return cls(*model.components(clicks))

    def fit(self, support: Support) -> KernelMachine:
        """The inner loop in closed form: alpha = (K_ss + reg * mean diagonal * I)^-1 labels (Eq. 3)."""
        rows = self.inputs.dense(support.clicks)
        return KernelMachine(self.kernel, rows, solve_dense(self.kernel(rows), support.labels, support.reg))

    def predict(self, fitted: KernelMachine, shown: jax.Array | np.ndarray) -> jax.Array:
        """(n_users, n_items) scores K_us alpha of (n_users, n_items) histories."""
        return fitted(self.inputs.dense(jnp.asarray(shown)))

    def smoother(self, clicks: jax.Array, reg: jax.Array, shown: jax.Array | np.ndarray) -> jax.Array:
        """(n_users, n_synthetic) Phi with scores = Phi labels: K_us (K_ss + reg * mean diagonal * I)^-1."""
        identity = jnp.eye(clicks.shape[0], dtype=clicks.dtype)
        return self.predict(self.fit(Support(clicks, identity, reg)), shown)


class LabelSystem(NamedTuple):
    """Normal equations of the labels that serve users best, summed over any number of batches."""

    square: jax.Array  # (n_synthetic, n_synthetic) Phi' Phi
    right: jax.Array  # (n_synthetic, n_items) Phi' targets

    @classmethod
    def of(cls, student: Student, clicks: jax.Array, reg: jax.Array, batch: Batch) -> Self:
        """Of one batch; all cells count, whatever its weights."""
        phi = student.smoother(clicks, reg, batch.shown)
        return cls(phi.T @ phi, phi.T @ batch.targets)

    def __add__(self, other: Self) -> Self:  # type: ignore[override]
        return type(self)(self.square + other.square, self.right + other.right)

    def solve(self, penalty: float) -> jax.Array:
        """(n_synthetic, n_items) Y = argmin |Phi Y - targets|^2 + penalty * mean diagonal(Phi' Phi) * |Y|^2."""
        return solve_dense(self.square, self.right, penalty)


Scores = Callable[[np.ndarray], np.ndarray]
"""Scores to be matched: (n,) rows of the clicks -> (n, n_items)."""


def choose_teacher(clicks: Interactions, split: Split | None, metric: str, *, progress: bool = False) -> InfiniteAE:
    """∞-AE of all the data, inputs and reg chosen from `CANDIDATES` and `REGS` by `metric` on validation.

    Without a validation part it is the first candidate at reg 1.
    """
    if split is None:
        return InfiniteAE(1.0, **CANDIDATES[0]).fit(clicks, progress=progress)
    fitted = (
        Trial(inputs, InfiniteAE(REGS, metric=metric, **inputs).fit(clicks, split, progress=progress))
        for inputs in CANDIDATES
    )
    return best(fitted, lambda model: max(r[metric] for r in model.path_ if r["reg"] == model.reg_), metric).candidate


def full_data_model(
    clicks: Interactions, split: Split | None, metric: str, model: InfiniteAE | None, *, fit: bool, progress: bool
) -> InfiniteAE:
    """The ∞-AE whose kernel and inputs are the student's; fitted on all the data where its scores are to be matched.

    It is the caller's `model`; where that is None, one chosen by `choose_teacher` if there is anything to choose by.
    """
    if model is not None:
        return InfiniteAE(**model.get_params()).fit(clicks, split, progress=progress) if fit else model
    if fit or split is not None:
        return choose_teacher(clicks, split, metric, progress=progress)
    return InfiniteAE(1.0, **CANDIDATES[0])


def described(model: InfiniteAE) -> dict[str, Any]:
    """What files tell of the inner model, as plain values."""
    numbers = {name: float(getattr(model, name)) for name in ("w_std", "b_std", "row_power")}
    return {"depth": int(model.depth), **numbers, "own_kernel": model.kernel is not None}


def given_scores(scores: Any, everybody: Interactions) -> Scores:
    """Scores handed in, of the users with clicks: finite numbers, row by row with all users."""
    try:
        array = np.asarray(scores)
    except ValueError as error:
        raise ValueError(f"scores must be a matrix of X's shape {everybody.shape}: {error}") from None
    if array.shape != everybody.shape or array.dtype.kind not in "biuf":
        raise ValueError(f"scores must be numbers of X's shape {everybody.shape}, got {array.dtype} {array.shape}")
    if np.ma.isMaskedArray(scores):
        raise ValueError("scores are a masked array, whose mask would be lost; give every cell a score")
    # Their squares are summed in float32.
    if not (np.abs(array) < _LARGEST_SCORE).all():
        raise ValueError(
            f"scores hold NaN or infinity, or are beyond {_LARGEST_SCORE:g} in size; every cell needs a finite score"
        )
    kept = np.flatnonzero(np.diff(everybody.matrix.indptr))
    return lambda rows: array[kept[rows]].astype(np.float32)
