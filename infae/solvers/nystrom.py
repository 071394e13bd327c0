"""Nyström: kernel ridge regression of any number of users on a few of them, the landmarks."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.blocks import Blocks
from infae.data.interactions import Interactions
from infae.errors import SingularKernelError
from infae.kernels.rows import Rows
from infae.landmarks import METHODS, choose_landmarks, shortlist, survey
from infae.linalg.sweep import inverse
from infae.linalg.tiles import SymmetricTiles, precision
from infae.runtime import checks
from infae.runtime.mesh import UserMesh
from infae.runtime.progress import bar
from infae.solvers import base
from infae.solvers.base import Cost, Fitted, Job, Labels, Problem, Solution, Solver, Users
from infae.solvers.full import click_operations, entry_operations, row_bytes
from infae.solvers.sums import LandmarkSums, Whitening, accumulate, required_bytes, whitening
from infae.tuning.best import Trial

# float64 runs at half the rate of float32.
_FLOAT64 = 2


def solve_landmarks(white: Whitening, sums: LandmarkSums, reg: float, dtype: np.dtype) -> Solution:
    """Coefficients (m, n_items) in `dtype`, from the landmarks' whitening and the sums over all users.

    `ridge` is reg times the mean over all users of kernel(x, x), as in the exact solve. Its
    3 m^3 + 2 m^2 n_items operations are in float64. Raises SingularKernelError where the residual,
    of the coefficients as they are rounded to `dtype`, is not finite or above 0.1, and at reg = 0.
    """
    reg = base.check_reg(reg)
    if reg == 0:
        raise SingularKernelError("landmarks need a reg above 0: without one their equations are singular to rounding")
    ridge = reg * sums.diagonal / sums.n_users
    with precision(np.float64):
        inverted = inverse(sums.square, ridge)
        to_coef = jnp.concatenate(
            [_product(white.inverse_root, inverted.column(b)) for b in range(inverted.n_tiles)], axis=1
        )
        right, signs = jnp.asarray(sums.right), base.signs(sums.right.shape[0])
        rows = [inverted.rows_of(b) for b in range(inverted.n_tiles)]
        parts = [_coefficients(to_coef[at], right, signs, np.dtype(dtype)) for at in rows]
        coef, moved = (jnp.concatenate(side) for side in zip(*parts, strict=True))
        wanted = np.asarray(right.T @ signs)
        in_features = np.asarray(white.root.T @ moved)
        error = sums.square @ in_features + ridge * in_features - wanted
    residual = float(np.linalg.norm(error) / (np.linalg.norm(wanted) or 1.0))
    if not residual <= base.RESIDUAL_LIMIT:
        raise SingularKernelError(
            f"the landmarks' normal equations could not be solved at reg = {reg:g} with a kernel in {dtype}: relative "
            f"residual {residual:.2g}; {base.remedy(np.dtype(dtype))}"
        )
    return Solution(coef, residual, reg, ridge)


@dataclass(frozen=True, eq=False)
class LandmarkSystem:
    """The landmarks' normal equations, the same on every process of the mesh."""

    white: Whitening
    sums: LandmarkSums
    dtype: np.dtype
    mesh: UserMesh

    def solve(self, reg: float, *, strict: bool, progress: base.Progress = None) -> Solution:
        """Where rounding makes one process fail alone, all of them fail."""
        solution, failure = None, ""
        with self.mesh.together():
            try:
                solution = solve_landmarks(self.white, self.sums, reg, self.dtype)
            except SingularKernelError as error:
                failure = str(error)
        failures = [str(said) for (said,) in self.mesh.exchange(np.array(failure)) if str(said)]
        if solution is None or failures:
            raise SingularKernelError(failure or failures[0])
        return solution


@dataclass(frozen=True, eq=False)
class NystromFit(Fitted):
    """A few users are the anchors, and all were fitted."""

    solver = "nystrom"
    sums: LandmarkSums  # over the users fitted, to which others can be added

    def with_users(self, blocks: Iterable[sp.csr_matrix], mesh: UserMesh, progress: Callable[[int], None]) -> Self:
        """The fit at the same `reg` of these users too, those of all the mesh's processes."""
        dtype, n_items = self.solution.coef.dtype, self.item_ids_.size
        pairs = ((clicks, clicks) for clicks in blocks)
        with mesh.together():
            white = whitening(self.kernel, self.inputs(self.clicks.matrix, np.dtype(np.float64)), dtype)
        added = accumulate(self.kernel, self.anchors, white, self.inputs, pairs, n_items, mesh=mesh, progress=progress)
        sums = self.sums + added
        solution = solve_landmarks(white, sums, self.solution.reg, dtype)
        return replace(self, solution=solution, sums=sums)

    def stored(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, about = super().stored()
        sums = self.sums
        about = {**about, "sums": {"n_users": sums.n_users, "diagonal": sums.diagonal}}
        return {**arrays, "square": sums.square.to_dense(), "right": sums.right}, about

    @classmethod
    def _own_parts(cls, clicks: Interactions, arrays: Any, about: Any) -> dict[str, Any]:
        square, right, (m, n_items) = arrays["square"], arrays["right"], clicks.shape
        if square.shape != (m, m) or right.shape != (n_items, m):
            raise ValueError(f"sums {square.shape} and {right.shape} do not fit the landmarks {clicks.shape}")
        return {"sums": LandmarkSums(SymmetricTiles.from_dense(square), right, **about["sums"])}


@dataclass(frozen=True)
class Nystrom(Solver):
    """`n_anchors` users are anchors, and all users are fitted (Rudi, Carratino and Rosasco 2017, Eq. 8).

    n m^2 operations and m (n_items + m) numbers of memory for m anchors, however many users.

    Attributes:
      n_anchors: landmark users.
      anchors: how they are made: "uniform", users drawn alike; "rpcholesky", users who explain most of
        the kernel; "kmeans", means of groups of alike users, the most accurate (see
        `infae.landmarks`); or `Interactions` that serve as landmarks, such as a distilled summary's rows.
    """

    n_anchors: int = 1000
    anchors: str | Interactions = "uniform"

    name = "nystrom"
    fitted_class = NystromFit
    takes_blocks = True

    def __post_init__(self) -> None:
        checks.whole("n_anchors", self.n_anchors)
        is_name = isinstance(self.anchors, str) and self.anchors in METHODS
        if not isinstance(self.anchors, Interactions) and not is_name:
            names = ", ".join(map(repr, METHODS))
            got = checks.shown(self.anchors)
            raise ValueError(f"anchors must be one of {names}, or Interactions of landmark users, got {got}")

    def fits(self, job: Job, users: Users, labels: Labels | None) -> Iterator[Trial[Fitted]]:
        if isinstance(users, Blocks):
            counts, drawn = survey(users, self.n_anchors, job.seed, job.mesh)
            pairs: Iterable[Any] = ((block.matrix, block.matrix) for block in users)
        else:
            counts, drawn = shortlist(users, self.n_anchors, job.seed, job.mesh)
            pairs = [(users.matrix, users.matrix if labels is None else sp.csr_matrix(labels))]
        with job.mesh.together():
            inputs = job.input_map(counts)
            chosen = choose_landmarks(drawn, self.n_anchors, self.anchors, inputs, job.kernel, job.dtype, job.seed)
            matrix = inputs(chosen.matrix, job.dtype)
            rows = Rows(matrix, job.dtype)
            white = whitening(job.kernel, inputs(chosen.matrix, np.dtype(np.float64)), job.dtype)
        job.mesh.require_same("landmarks or weights", np.concatenate([matrix.data, matrix.indices, matrix.indptr]))
        with bar("users", job.progress, unit="user") as shown:
            n, told = chosen.n_items, shown.update
            sums = accumulate(job.kernel, rows, white, inputs, pairs, n, mesh=job.mesh, progress=told)
        fitted = partial(NystromFit, chosen, inputs, job.kernel, rows, sums=sums)
        yield from job.fits(LandmarkSystem(white, sums, job.dtype, job.mesh), fitted)

    def cost(self, problem: Problem) -> Cost:
        n, m, size, n_regs = problem.n_users, problem.popularity.size, problem.itemsize, problem.n_regs
        a = min(self.anchors.n_users if isinstance(self.anchors, Interactions) else self.n_anchors, n)
        wide = _FLOAT64 if size == 4 else 1
        solves = wide * (2 * a**3 + n_regs * (3 * a**3 + 2 * a**2 * m))
        operations = n * a * (entry_operations(problem) + 3 * a) + a * click_operations(problem) + solves
        n_bytes = required_bytes(a, m, size) + (size * a * m if n_regs > 1 else 0)
        return Cost(n_bytes + row_bytes(problem), operations)


_product = jax.jit(jnp.matmul)


@partial(jax.jit, static_argnums=3)
def _coefficients(
    to_coef: jax.Array, right: jax.Array, signs: jax.Array, dtype: np.dtype
) -> tuple[jax.Array, jax.Array]:
    coef = (to_coef @ right.T).astype(dtype)
    return coef, coef.astype(right.dtype) @ signs
