"""What the solvers share whose anchors are all users: the fitted form, the users, the operations."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.coerce import RowIndex
from infae.data.interactions import Interactions
from infae.inputs import InputMap, popularity
from infae.kernels.rows import HEAD_SHARE, Rows
from infae.linalg.tiles import precision
from infae.machine import batch_size
from infae.solvers.base import Fitted, Job, Labels, Problem, Solution, Users

# From this reg on, targets - ridge * coef would lose more than 1e-5 of a score to cancellation in float32.
LARGE_REG = {np.dtype(np.float32): 1e2, np.dtype(np.float64): 1e8}
# Operations of a kernel entry; of a scattered addition between two tails of clicks, and along rows of the inverse.
_KERNEL_ENTRY, _TAIL_PAIR, _TAIL_ENTRY = 1000, 800, 40


@dataclass(frozen=True, eq=False)
class FullSolution(Solution):
    """Of a system whose anchors are the users that are fitted.

    Its noise is the residual relative to |ridge * coef|, the part of the fitted scores that is not
    the targets themselves. Near 1 a ranking of unclicked items is rounding error.
    """

    noise: float

    def row(self) -> dict[str, float]:
        return {**super().row(), "noise": self.noise}


@dataclass(frozen=True, eq=False)
class FullFit(Fitted):
    """All training users with clicks are the anchors."""

    solution: FullSolution
    targets: Labels  # their clicks, or labels of their own
    # What the solve leaves of the targets, as a multiple of rounding error.
    left_over: ClassVar[float] = 1.0

    @cached_property
    def _index(self) -> RowIndex:
        return RowIndex(self.clicks.matrix)

    def scores(self, clicks: sp.csr_matrix) -> np.ndarray:
        """(n, n_items) scores of one batch of clicks; of rows that are anchors without a kernel."""
        coef, known = self.solution.coef, self._index.find(clicks)
        if self.solution.reg * self.left_over > LARGE_REG[np.dtype(coef.dtype)] or (known < 0).all():
            return super().scores(clicks)
        # (K + ridge I) coef = targets, so K coef = targets - ridge coef: exact, and no product with K.
        with precision(coef.dtype):
            padded = np.pad(known, (0, batch_size(clicks.shape[1]) - known.size))
            taken = np.asarray(take(coef, padded))
        scores = dense(self.targets[known]) - taken.dtype.type(self.solution.ridge) * taken[: known.size]
        if len(new := np.flatnonzero(known < 0)):
            scores[new] = super().scores(clicks[new])
        return scores

    def stored(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, about = super().stored()
        targets = np.zeros(0) if self.targets is self.clicks.matrix else dense(self.targets)
        return {**arrays, "targets": targets}, about

    @classmethod
    def _own_parts(cls, clicks: Interactions, arrays: Any, about: Any) -> dict[str, Any]:
        targets = arrays["targets"] if arrays["targets"].size else clicks.matrix
        if targets.shape != clicks.shape:
            raise ValueError(f"targets {targets.shape} do not fit the clicks {clicks.shape}")
        return {"targets": targets}


@dataclass(frozen=True, eq=False)
class FullProblem:
    """All users, who are the anchors, as the full solvers need them."""

    users: Interactions
    labels: Labels
    inputs: InputMap
    mapped: sp.csr_matrix
    rows: Rows

    @classmethod
    def of(cls, job: Job, users: Users, labels: Labels | None) -> Self:
        """A user's scores need all others' histories and coefficients, wherever their rows of K are."""
        assert isinstance(users, Interactions)
        everybody = job.mesh.all_users(users)
        labels = everybody.matrix if labels is None or labels is users.matrix else job.mesh.all_rows(labels)
        inputs = job.input_map(popularity(everybody.matrix))
        mapped = inputs(everybody.matrix, job.dtype)
        return cls(everybody, labels, inputs, mapped, Rows(mapped, job.dtype))

    def fitted(self, job: Job, form: type[FullFit]) -> Callable[[Any], Fitted]:
        """Makes a fitted model of a solution."""
        return partial(form, self.users, self.inputs, job.kernel, self.rows, targets=self.labels)


def gram_operations(problem: Problem) -> float:
    """Of the kernel of all pairs of users."""
    return problem.n_users**2 / 2 * entry_operations(problem)


def entry_operations(problem: Problem) -> float:
    """Of the kernel of two users: popular items densely, the others where both have them."""
    n = problem.n_users
    tail = _tail(problem)
    n_head = problem.popularity.size - tail.size
    return 2 * n_head + _KERNEL_ENTRY + _TAIL_PAIR * float(np.sum((tail / n) ** 2))


def click_operations(problem: Problem) -> float:
    """Of a row of the inverse, or of the landmarks' kernel, times the clicks."""
    tail = _tail(problem)
    return 2 * problem.n_users * (problem.popularity.size - tail.size) + _TAIL_ENTRY * float(tail.sum())


def row_bytes(problem: Problem) -> int:
    """Of the clicks as input rows."""
    n_head = problem.popularity.size - _tail(problem).size
    return 2 * problem.itemsize * problem.n_users * n_head + int(problem.popularity.sum()) * (problem.itemsize + 4)


def _tail(problem: Problem) -> np.ndarray:
    """Clicks of each item that is not popular."""
    return problem.popularity[problem.popularity <= HEAD_SHARE * problem.n_users].astype(float)


def dense(rows: Any) -> np.ndarray:
    """The rows as an array, sparse or not."""
    return rows.toarray() if sp.issparse(rows) else rows


take = jax.jit(lambda coef, rows: jnp.take(coef, rows, axis=0))
