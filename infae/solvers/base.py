"""What every solver shares: one protocol, one loop over regs, and a fitted model's common part.

`reg` is relative everywhere in this project, as in the papers' reference code: what is added to
the Gram matrix's diagonal is `ridge = reg * trace(K) / n`, its mean diagonal times `reg`.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

import jax
import numpy as np
import scipy.sparse as sp

from infae.data.blocks import Blocks
from infae.data.interactions import Interactions
from infae.errors import IllConditionedWarning, SingularKernelError
from infae.inputs import InputMap
from infae.kernels.base import Kernel
from infae.kernels.rows import Rows
from infae.machine import KernelMachine, batches
from infae.runtime import checks
from infae.runtime.mesh import UserMesh, on
from infae.tuning.best import Trial

# Of the solution's departure from plain interpolation, how much may be rounding error.
NOISE_LIMIT = 0.1
# A relative residual above this is no solution.
RESIDUAL_LIMIT = 0.1
# From here on single precision has no digits left for what tells the scores of a reg from those of an infinite one.
LARGEST_REG = 1e12

Progress = Callable[[int, int], None] | None
"""Called with (parts done, parts in all)."""

Labels: TypeAlias = sp.csr_matrix | np.ndarray
"""(n_users, n_items) of what is fitted: a user's clicks, or other numbers."""

Users = Interactions | Blocks


def check_reg(reg: float) -> float:
    """`reg` as a float; ValueError unless it is a finite number, zero or more, below 1e12."""
    return checks.number("reg", reg, least=0, below=LARGEST_REG, remedy="it is relative to the kernel's mean diagonal")


def mean_diagonal(gram: Any) -> float:
    """trace(K)/n, that `reg` is relative to; SingularKernelError where it is no finite number."""
    mean = float(np.mean(gram.diagonal(), dtype=np.float64))
    if not np.isfinite(mean):
        raise SingularKernelError(
            f"the kernel's diagonal holds NaN or infinity in {gram.dtype}; use smaller inputs (popularity_power, "
            "item_weights, w_std) or float64"
        )
    return mean


@dataclass(frozen=True, eq=False)
class Solution:
    """Dual coefficients (n, m) with (K + ridge * I) coef = targets; on landmarks, of their normal equations.

    The residual is |system coef - right side| / |right side| (Frobenius), estimated from 16 random
    sign combinations of the columns, whose mean squared error is exact on average.
    """

    coef: jax.Array
    residual: float
    reg: float  # relative regularisation
    ridge: float  # what was added to K's diagonal

    def row(self) -> dict[str, float]:
        """What `path_` tells of it."""
        return {"reg": self.reg, "residual": self.residual}


class Step(NamedTuple):
    """One reg of those tried: its solution, or why the solve is singular or mere rounding error."""

    reg: float  # relative
    solved: Solution | None
    failure: str = ""  # with reg, dtype and residual


class System(Protocol):
    """Equations that are solved at one reg after another."""

    def solve(self, reg: float, *, strict: bool, progress: Progress = None) -> Solution:
        """The solution at a reg.

        SingularKernelError where there is none; where rounding error is a visible part of it, too,
        if `strict`, and else an IllConditionedWarning.
        """


def path(system: System, regs: Sequence[float], *, progress: Progress = None) -> Iterator[Step]:
    """A step for each reg in turn, all of one system; a reg whose solve is of no use is passed over.

    One solution is in memory at a time, if the caller keeps none.
    """
    for reg in map(check_reg, regs):
        try:
            step = Step(reg, system.solve(reg, strict=True, progress=progress))
        except SingularKernelError as error:
            step = Step(reg, None, str(error))
        yield step
        # Not held while the next is solved: at scale each takes gigabytes.
        del step


def object_to(failure: str, strict: bool) -> None:
    """SingularKernelError for what is wrong with a solution, or only a warning."""
    if strict:
        raise SingularKernelError(failure)
    warnings.warn(failure, IllConditionedWarning, stacklevel=3)


def signs(n_items: int) -> np.ndarray:
    """(n_items, 16) random signs v: E|R v|^2 is |R|_F^2, at n^2 operations for each instead of n^2 n_items."""
    return np.random.default_rng(0).choice([-1.0, 1.0], (n_items, 16))


def where(reg: float, dtype: np.dtype, residual: float) -> str:
    """A solve in a message."""
    return f"reg = {reg:g} in {dtype}: relative residual {residual:.2g}"


def interpolates(dtype: np.dtype) -> str:
    """Why a path passes over reg = 0."""
    return (
        f"reg = 0 in {dtype}: relative residual not computed, since the fit interpolates whatever it is "
        "and rounding error alone ranks the unclicked items of training users"
    )


def noisy(reg: float, dtype: np.dtype, residual: float, noise: float) -> str:
    """What an `IllConditionedWarning` says of a noise above the limit."""
    share = "all" if noise >= 1 else f"{noise:.0%}"
    return (
        f"ill-conditioned solve at {where(reg, dtype, residual)}; {share} of the difference between fitted scores "
        f"and targets, which ranks unclicked items, is rounding error: {remedy(dtype)}"
    )


def remedy(dtype: np.dtype) -> str:
    """What to change after such a solve."""
    return "use a larger reg" + (", or float64" if dtype == np.float32 else "")


@dataclass(frozen=True, eq=False)
class Fitted:
    """Anchors, their coefficients, and the map from clicks to input rows: what `fit` computes and a file holds."""

    solver: ClassVar[str]
    solution_class: ClassVar[type[Solution]] = Solution

    clicks: Interactions  # of the anchors
    inputs: InputMap
    kernel: Kernel
    anchors: Rows  # the input rows of `clicks`
    solution: Solution

    @property
    def item_ids_(self) -> np.ndarray:
        """Ids of the score columns."""
        return self.clicks.item_ids

    @cached_property
    def machine(self) -> KernelMachine:
        """The kernel machine."""
        return KernelMachine(self.kernel, self.anchors, self.solution.coef)

    def predict(self, histories: Interactions, /, devices: Sequence[jax.Device | None] = (None,)) -> np.ndarray:
        """(n_users, n_items) scores of clicks over `item_ids_`, whose batches are shared out to these devices."""
        matrix = histories.matrix
        scores = np.empty(matrix.shape, self.solution.coef.dtype)
        turns = list(batches(matrix.shape[0], matrix.shape[1], len(devices)))

        def score(turn: int) -> None:
            with on(devices[turn]):
                fitted = self._copy_on(devices[turn])
                for at in turns[turn :: len(devices)]:
                    scores[at] = fitted.scores(matrix[at])

        if len(devices) == 1:
            score(0)
        else:
            with ThreadPoolExecutor(len(devices)) as threads:
                list(threads.map(score, range(len(devices))))
        return scores

    @cached_property
    def _copies(self) -> dict[jax.Device, Self]:
        return {}

    def _copy_on(self, device: jax.Device | None) -> Self:
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
        return self.machine.scores(self.inputs(clicks, self.solution.coef.dtype))

    def stored(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What a file holds of it beside coefficients, anchors and weights: arrays, and plain values."""
        parts = {f.name: getattr(self.solution, f.name) for f in fields(self.solution) if f.name != "coef"}
        arrays = {name: value for name, value in parts.items() if isinstance(value, np.ndarray)}
        return arrays, {"solution": {name: value for name, value in parts.items() if name not in arrays}}

    @classmethod
    def restored(
        cls, common: tuple[Interactions, InputMap, Kernel, Rows], coef: jax.Array, arrays: Mapping[str, Any], about: Any
    ) -> Self:
        """What `stored` came from; KeyError, TypeError or ValueError where the arrays do not fit each other."""
        names = {f.name for f in fields(cls.solution_class)} - about["solution"].keys() - {"coef"}
        solution = cls.solution_class(coef=coef, **about["solution"], **{name: arrays[name] for name in names})
        return cls(*common, solution, **cls._own_parts(common[0], arrays, about))

    @classmethod
    def _own_parts(cls, clicks: Interactions, arrays: Mapping[str, Any], about: Any) -> dict[str, Any]:
        """The fields that this class has beside those of `Fitted`."""
        return {}


@dataclass(frozen=True)
class Job:
    """What the fits of one call share.

    With `several` regs one whose solve fails is skipped, not raised. A single one fails with
    SingularKernelError, or comes with a warning where it is ill-conditioned.
    """

    regs: Sequence[float]
    several: bool
    kernel: Kernel
    input_map: Callable[[np.ndarray], InputMap]  # of the items' popularity
    dtype: np.dtype
    seed: int
    mesh: UserMesh
    progress: bool

    def fits(
        self, system: System, fitted: Callable[[Any], Fitted], progress: Progress = None
    ) -> Iterator[Trial[Fitted]]:
        """Fitted models around the solutions: those of a path, or of a single reg its own."""
        if not self.several:
            solution = system.solve(self.regs[0], strict=False, progress=progress)
            yield Trial(solution.row(), fitted(solution))
            return
        for reg, solved, failure in path(system, self.regs, progress=progress):
            if solved is None:
                if len(self.regs) > 1:  # A single one's failure is raised.
                    warnings.warn(f"passed over: {failure}", IllConditionedWarning, stacklevel=6)
                yield Trial({"reg": reg}, None, failure)
            else:
                yield Trial(solved.row(), fitted(solved))
            del solved


class Problem(NamedTuple):
    """What a fit's cost depends on."""

    popularity: np.ndarray  # (n_items,) clicks of each item
    n_users: int  # with clicks
    n_regs: int = 1
    itemsize: int = 4  # bytes of a number


class Cost(NamedTuple):
    """Bytes at the peak beside the data, and operations counted as those of large matrix products."""

    n_bytes: int
    operations: float


class Solver(ABC):
    """How coefficients are solved for: the solve, its cost, the fitted form and its arrays on disk.

    Subclasses are frozen dataclasses whose fields are their parameters. A new one is a file of its
    own and an entry of `infae.solvers.SOLVERS`.
    """

    name: ClassVar[str]
    fitted_class: ClassVar[type[Fitted]]
    takes_mesh: ClassVar[bool] = True
    takes_blocks: ClassVar[bool] = False

    @abstractmethod
    def fits(self, job: Job, users: Users, labels: Labels | None) -> Iterator[Trial[Fitted]]:
        """Users fitted to their labels at one reg after the other, each when it is asked for.

        Errors are raised then, too: SingularKernelError where `job.several` is False, MemoryError
        before a matrix that does not fit is begun. `labels` are None for `Blocks`, which are fitted
        to their own clicks.
        """

    @abstractmethod
    def cost(self, problem: Problem) -> Cost:
        """What a fit takes."""
