"""A fitted ∞-AE: what `fit` computes, what a model file holds, and how it scores histories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.coerce import RowIndex
from infae.data.interactions import Interactions
from infae.inputs import InputMap
from infae.kernels.grams import Kernel
from infae.kernels.rows import Rows
from infae.linalg.tiles import precision
from infae.machine import Dual
from infae.ranking.evaluate import batch_size
from infae.runtime.mesh import UserMesh, on
from infae.solvers.cg import CGSolution
from infae.solvers.exact import ExactSolution, FullSolution, Solution
from infae.solvers.nystrom import LandmarkSums, accumulate, solve_landmarks, whitening


@dataclass(frozen=True, eq=False)
class Fitted:
    """Anchors, their coefficients, and the map from clicks to input rows.

    Attributes:
      clicks: of the anchors.
      inputs: from clicks to the network's input.
      kernel: between input rows.
      anchors: the input rows of `clicks`.
      solution: coefficients, residual, reg and ridge.
      solver: the name of what solved it.
    """

    solver: ClassVar[str]
    clicks: Interactions
    inputs: InputMap
    kernel: Kernel
    anchors: Rows
    solution: Solution

    @property
    def item_ids_(self) -> np.ndarray:
        """Ids of the score columns."""
        return self.clicks.item_ids

    @cached_property
    def dual(self) -> Dual:
        """The kernel machine."""
        return Dual(self.kernel, self.anchors, self.solution.coef)

    def predict(self, histories: Interactions, /, devices: Sequence[jax.Device | None] = (None,)) -> np.ndarray:
        """(n_users, n_items) scores of clicks over `item_ids_`, whose batches are shared out to these devices."""
        matrix = histories.matrix
        scores = np.empty(matrix.shape, self.solution.coef.dtype)
        step = min(batch_size(matrix.shape[1]), max(1, -(-matrix.shape[0] // len(devices))))
        starts = range(0, matrix.shape[0], step)

        def score(turn: int) -> None:
            with on(devices[turn]):
                fitted = self._copy_on(devices[turn])
                for start in starts[turn :: len(devices)]:
                    scores[start : start + step] = fitted.scores(matrix[start : start + step])

        if len(devices) == 1:
            score(0)
        else:
            with ThreadPoolExecutor(len(devices)) as threads:
                list(threads.map(score, range(len(devices))))
        return scores

    @cached_property
    def _copies(self) -> dict[jax.Device, Fitted]:
        return {}

    def _copy_on(self, device: jax.Device | None) -> Fitted:
        """The same with anchors and coefficients on a device, kept for the next batch."""
        if device is None:
            # Not among the copies: a cycle would keep gigabytes until it is collected.
            return self
        if device not in self._copies:
            solution = replace(self.solution, coef=jax.device_put(self.solution.coef, device))
            self._copies[device] = replace(self, anchors=self.anchors.copy(), solution=solution)
        return self._copies[device]

    def scores(self, clicks: sp.csr_matrix) -> np.ndarray:
        """(n, n_items) scores of one batch of clicks."""
        return self.dual.scores(self.inputs(clicks, self.solution.coef.dtype))


@dataclass(frozen=True, eq=False)
class FullFit(Fitted):
    """All training users with clicks are the anchors.

    Attributes:
      targets: what the anchors' scores were fitted to: their clicks, or labels of their own.
    """

    solution: FullSolution
    targets: sp.csr_matrix | np.ndarray

    @cached_property
    def _index(self) -> RowIndex:
        return RowIndex(self.clicks.matrix)

    def scores(self, clicks: sp.csr_matrix) -> np.ndarray:
        """(n, n_items) scores of one batch of clicks; of rows that are anchors without a kernel."""
        known = self._index.find(clicks)
        if (known < 0).all():
            return super().scores(clicks)
        scores = self._own_scores(clicks, known)
        if len(new := np.flatnonzero(known < 0)):
            scores[new] = super().scores(clicks[new])
        return scores

    def _own_scores(self, clicks: sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
        # (K + ridge I) coef = targets, so K coef = targets - ridge coef: exact, and no product with K.
        with precision(self.solution.coef.dtype):
            padded = np.pad(rows, (0, batch_size(clicks.shape[1]) - rows.size))
            taken = np.asarray(_take(self.solution.coef, padded))
        return dense(self.targets[rows]) - taken.dtype.type(self.solution.ridge) * taken[: rows.size]


@dataclass(frozen=True, eq=False)
class ExactFit(FullFit):
    """By the system's inverse.

    Attributes:
      solution: with what leave-one-out scores need.
    """

    solver = "exact"
    solution: ExactSolution

    def leave_one_out(self, rows: np.ndarray) -> np.ndarray:
        """(rows, n_items) scores of anchors by the model that all *other* anchors fit; see `InfiniteAE`."""
        with precision(self.solution.coef.dtype):
            taken = np.asarray(_take(self.solution.coef, rows))
        return dense(self.targets[rows]) - taken / self.solution.inverse_diagonal[rows, None]


@dataclass(frozen=True, eq=False)
class CGFit(FullFit):
    """By conjugate gradients: own scores are off by what the solve left of the targets, 1e-4 of them."""

    solver = "cg"
    solution: CGSolution


@dataclass(frozen=True, eq=False)
class LandmarkFit(Fitted):
    """A few users are the anchors, and all were fitted.

    Attributes:
      sums: over the users fitted, to which others can be added.
    """

    solver = "nystrom"
    sums: LandmarkSums

    def with_users(
        self, blocks: Iterable[sp.csr_matrix], mesh: UserMesh, progress: Callable[[int], None]
    ) -> LandmarkFit:
        """The fit at the same `reg` of these users too, those of all the mesh's processes."""
        dtype, n_items = self.solution.coef.dtype, self.item_ids_.size
        pairs = ((clicks, clicks) for clicks in blocks)
        with mesh.together():
            white = whitening(self.kernel, self.inputs(self.clicks.matrix, np.dtype(np.float64)), dtype)
        added = accumulate(self.kernel, self.anchors, white, self.inputs, pairs, n_items, mesh=mesh, progress=progress)
        sums = self.sums + added
        solution = solve_landmarks(white, sums, self.solution.reg, dtype)
        return replace(self, solution=solution, sums=sums)


def dense(rows: Any) -> np.ndarray:
    """The rows as an array, sparse or not."""
    return rows.toarray() if sp.issparse(rows) else rows


_take = jax.jit(lambda coef, rows: jnp.take(coef, rows, axis=0))
