"""Users fitted, one reg after the other, by each solver: what `InfiniteAE.fit` chooses from.

Fits are made, and errors raised, as they are asked for: SingularKernelError where `Job.several` is
False, MemoryError before a matrix that does not fit is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse as sp

from infae.data.blocks import Blocks
from infae.data.coerce import as_histories, drop_empty_users
from infae.data.interactions import Interactions
from infae.errors import SingularKernelError
from infae.fitted import CGFit, ExactFit, Fitted, LandmarkFit
from infae.inputs import InputMap, popularity
from infae.kernels.grams import Kernel, symmetric_gram
from infae.kernels.rows import Rows
from infae.landmarks import centroids, choose_anchors, distinct, pivoted_cholesky, shortlist, survey
from infae.linalg.sharded import ShardedMatrix
from infae.linalg.tiles import SymmetricTiles, precision
from infae.runtime.memory import require_memory
from infae.runtime.mesh import UserMesh
from infae.runtime.progress import bar, onto
from infae.solvers.cg import conjugate_path, kernel_matrix, n_landmarks, solve_conjugate
from infae.solvers.exact import PathStep, factor, path, solve
from infae.solvers.nystrom import accumulate, solve_landmarks, whitening


class Fit(NamedTuple):
    """One reg of those tried; `fitted` is None where its solve failed, for the reason told."""

    reg: float
    fitted: Fitted | None
    failure: str


@dataclass(frozen=True)
class Job:
    """What fits of one call share.

    Attributes:
      regs: to be tried, in this order.
      several: whether they are a path, of which one whose solve fails is passed over; a single reg
        fails with SingularKernelError, or is given with a warning where it is ill-conditioned.
      kernel: of input rows.
      input_map: (n_items,) popularity -> the map from clicks to input rows.
      dtype: of the system.
      seed: of all that is drawn.
      mesh: of the devices and processes.
      progress: show progress bars.
    """

    regs: Sequence[float]
    several: bool
    kernel: Kernel
    input_map: Callable[[np.ndarray], InputMap]
    dtype: np.dtype
    seed: int
    mesh: UserMesh
    progress: bool


def full_fits(job: Job, users: Interactions, labels: sp.csr_matrix | np.ndarray, solver: str) -> Iterator[Fit]:
    """Kernel ridge regression on all users; `solver` is "exact" or "cg"."""
    # A user's scores need all others' histories and coefficients, wherever their rows of K are.
    own, users = users, job.mesh.all_users(users)
    labels = users.matrix if labels is own.matrix else job.mesh.all_rows(labels)
    inputs = job.input_map(popularity(users.matrix))
    mapped = inputs(users.matrix, job.dtype)
    rows = Rows(mapped, job.dtype)
    if solver == "cg":
        _, pivots = pivoted_cholesky(job.kernel, mapped, n_landmarks(rows.n), np.random.default_rng([job.seed, 7]))
        steps = _cg_steps(job, rows, pivots, labels)
    else:
        steps = _exact_steps(job, _gram(job, rows, mapped), labels)
    made: Any = CGFit if solver == "cg" else ExactFit
    for step in steps:
        solved = step.solution is not None
        yield Fit(
            step.reg, made(users, inputs, job.kernel, rows, step.solution, labels) if solved else None, step.failure
        )
        # Not held while the next is solved: at scale each takes gigabytes.
        del step


def landmark_fits(
    job: Job,
    users: Interactions | Blocks,
    labels: sp.csr_matrix | np.ndarray | None,
    anchors: str | Interactions,
    n_anchors: int,
) -> Iterator[Fit]:
    """Kernel ridge regression of all users on landmarks.

    Args:
      job: see `Job`.
      users: of whom `Blocks` are fitted to their own clicks.
      labels: of the users, where they are `Interactions`.
      anchors: a name of `infae.landmarks.METHODS`, or the landmarks.
      n_anchors: how many are chosen.
    """
    if isinstance(users, Blocks):
        counts, drawn = survey(users, n_anchors, job.seed, job.mesh)
        pairs: Iterable[Any] = ((block.matrix, block.matrix) for block in users)
    else:
        counts, drawn = shortlist(users, n_anchors, job.seed, job.mesh)
        pairs = [(users.matrix, sp.csr_matrix(labels))]
    with job.mesh.together():
        inputs = job.input_map(counts)
        chosen = _landmarks(job, drawn, inputs, anchors, n_anchors)
        matrix = inputs(chosen.matrix, job.dtype)
        rows = Rows(matrix, job.dtype)
        white = whitening(job.kernel, inputs(chosen.matrix, np.dtype(np.float64)), job.dtype)
    job.mesh.require_same("landmarks or weights", np.concatenate([matrix.data, matrix.indices, matrix.indptr]))
    n_items = chosen.n_items
    with bar("users", job.progress, unit="user") as shown:
        sums = accumulate(job.kernel, rows, white, inputs, pairs, n_items, mesh=job.mesh, progress=shown.update)
    for reg in job.regs:
        solution, failure = None, ""
        with job.mesh.together():
            try:
                solution = solve_landmarks(white, sums, reg, job.dtype)
            except SingularKernelError as error:
                failure = str(error)
        # Where rounding makes one process fail alone, all pass over this reg.
        failures = [str(said) for (said,) in job.mesh.exchange(np.array(failure))]
        if solution is None or any(failures):
            failure = failure or next(filter(None, failures))
            if not job.several:
                raise SingularKernelError(failure)
            yield Fit(reg, None, failure)
            continue
        yield Fit(reg, LandmarkFit(chosen, inputs, job.kernel, rows, solution, sums), "")
        del solution


def _landmarks(
    job: Job, users: Interactions, inputs: InputMap, anchors: str | Interactions, n_anchors: int
) -> Interactions:
    if isinstance(anchors, Interactions):
        rows = as_histories(anchors, users.item_ids)
        given = drop_empty_users(Interactions(rows, anchors.user_ids, users.item_ids))
        # Landmarks that equal each other make the system singular.
        return given.select_users(distinct(given.matrix, np.arange(given.n_users), given.n_users))
    if anchors == "kmeans":
        return centroids(users, n_anchors, inputs, job.dtype, job.seed)
    return users.select_users(choose_anchors(users.matrix, n_anchors, anchors, inputs, job.kernel, job.dtype, job.seed))


def _gram(job: Job, rows: Rows, mapped: sp.csr_matrix) -> SymmetricTiles | ShardedMatrix:
    if job.mesh.mesh is not None:
        return ShardedMatrix.gram(job.mesh, job.kernel, rows, mapped)
    n = rows.n
    # Before it is begun, room for the matrix and for its inverse.
    require_memory(n * (n + 1024) * rows.head.dtype.itemsize, f"the kernel matrix of {n:,} users and its inverse")
    with precision(rows.head.dtype), bar("kernel", job.progress, unit="block") as shown:
        return symmetric_gram(job.kernel, rows, progress=onto(shown))


def _exact_steps(
    job: Job, gram: SymmetricTiles | ShardedMatrix, labels: sp.csr_matrix | np.ndarray
) -> Iterator[PathStep]:
    with bar("solve", job.progress, unit="block") as shown:
        if job.several:
            yield from path(gram, labels, job.regs, progress=onto(shown))
        else:
            (reg,) = job.regs
            # At a single reg an ill-conditioned solve is given, with a warning.
            yield PathStep(reg, solve(factor(gram, reg, progress=onto(shown)), labels, progress=onto(shown)), "")


def _cg_steps(job: Job, rows: Rows, pivots: jax.Array, labels: sp.csr_matrix | np.ndarray) -> Iterator[PathStep]:
    n_items = labels.shape[1]
    with bar("kernel", job.progress, unit="block") as shown:
        gram = kernel_matrix(job.kernel, rows, n_items, several_regs=job.several, progress=onto(shown))
    with bar("solve", job.progress, unit="item") as shown:
        if job.several:
            yield from conjugate_path(gram, pivots, labels, job.regs, progress=onto(shown))
        else:
            (reg,) = job.regs
            yield PathStep(reg, solve_conjugate(gram, pivots, labels, reg, progress=onto(shown)), "")
