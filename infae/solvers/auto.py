"""Which solver to use, by what each would take: known before anything is begun.

Operations are counted as those of large matrix products; what runs slower counts as more of them.
Factors are from two CPU cores, see BUILD_NOTES.md: seconds are within a factor of two or so there,
and bytes on the safe side. The choice goes by operations and memory alone, so that the same data give
the same model on a busy machine; how fast the machine is at the moment is only told.
"""

import sys
import timeit
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from infae.data.blocks import Blocks
from infae.linalg.tiles import precision
from infae.runtime import memory
from infae.runtime.checks import shown
from infae.solvers.base import Cost, Fitted, Job, Labels, Problem, Solver, Users
from infae.solvers.cg import CG
from infae.solvers.exact import Exact
from infae.solvers.nystrom import Nystrom
from infae.tuning.best import Trial

# A solve on all users is preferred to landmarks up to so many operations: ten minutes of two CPU cores.
_PATIENCE = 600 * 100e9
# What is longer than this is told before it is begun.
_LONG_SECONDS = 1800
# Compiling.
_BASE_SECONDS = 1.0


@dataclass(frozen=True)
class Auto(Solver):
    """The solver that serves best of those that fit into memory: it prints what each would take, and chooses.

    The one of fewer operations of "exact" and "cg", which give the same, unless it takes more than
    some ten minutes of two cores and "nystrom" fits and takes fewer; else "nystrom".

    Attributes:
      nystrom: the solver on landmarks that it may choose.
    """

    nystrom: Nystrom = field(default_factory=Nystrom)

    def __post_init__(self) -> None:
        if not isinstance(self.nystrom, Nystrom):
            raise ValueError(f"nystrom must be an infae.solvers.Nystrom, got {shown(self.nystrom)}")

    name: ClassVar[str] = "auto"
    takes_mesh: ClassVar[bool] = False
    takes_blocks: ClassVar[bool] = True

    def fits(self, job: Job, users: Users, labels: Labels | None) -> Iterator[Trial[Fitted]]:
        if isinstance(users, Blocks):
            return self.nystrom.fits(job, users, labels)
        counts = np.bincount(users.matrix.indices, minlength=users.n_items)
        problem = Problem(counts, users.n_users, len(job.regs), job.dtype.itemsize)
        costs = self.costs(problem)
        chosen = self.chosen(problem)
        rate = matrix_rate(job.dtype.name)
        told = [f"{solver.name}: {_told(cost, rate)}" for solver, cost in costs.items()]
        print(*told, f"chosen: {chosen.name}", sep="\n", file=sys.stderr)
        if (seconds := costs[chosen].operations / rate) > _LONG_SECONDS:
            takes = f"is estimated to take {seconds / 60:,.0f} minutes on this machine as it is now"
            warnings.warn(f"solver={chosen.name!r} {takes}", stacklevel=4)
        return chosen.fits(job, users, labels)

    def cost(self, problem: Problem) -> Cost:
        return self.chosen(problem).cost(problem)

    def costs(self, problem: Problem) -> Mapping[Solver, Cost]:
        """Of each solver, with a margin of memory."""
        found = ((solver, solver.cost(problem)) for solver in (Exact(), CG(), self.nystrom))
        return {solver: cost._replace(n_bytes=memory.with_margin(cost.n_bytes)) for solver, cost in found}

    def chosen(self, problem: Problem) -> Solver:
        """The solver that fits are made by.

        Raises MemoryError where none fits, with the number of landmarks that would.
        """
        costs, available = self.costs(problem), memory.available_bytes()
        if solver := choose(costs, available):
            return solver
        assert available is not None
        fewer = range(1, min(self.nystrom.n_anchors, problem.n_users))
        smaller = partial(replace, self.nystrom)
        largest = bisect_right(
            fewer, available, key=lambda n: memory.with_margin(smaller(n_anchors=n).cost(problem).n_bytes)
        )
        rate = matrix_rate("float32" if problem.itemsize == 4 else "float64")
        told = "; ".join(f"{solver.name}: {_told(cost, rate)}" for solver, cost in costs.items())
        raise MemoryError(
            f"no solver fits into the {available / 2**30:.2g} GiB available ({told}); "
            + (f"use solver='nystrom' with n_anchors={largest}" if largest else "use fewer items, or a larger machine")
        )


def choose(costs: Mapping[Solver, Cost], available: int | None) -> Solver | None:
    """The best of those that fit into `available` bytes (all do if None), as `Auto` says; None where none does."""
    fitting = {solver: cost for solver, cost in costs.items() if available is None or cost.n_bytes <= available}
    full = [solver for solver in fitting if not isinstance(solver, Nystrom)]
    best = min(full, key=lambda solver: fitting[solver].operations, default=None)
    landmarks = next((solver for solver in fitting if isinstance(solver, Nystrom)), None)
    if landmarks is None or best is None:
        return best or landmarks
    return best if fitting[best].operations <= max(_PATIENCE, fitting[landmarks].operations) else landmarks


def _told(cost: Cost, rate: float) -> str:
    return f"{cost.n_bytes / 2**30:.2g} GiB, about {_BASE_SECONDS + cost.operations / rate:.2g} s"


@cache
def matrix_rate(dtype: str) -> float:
    """Operations a second of a matrix product in "float32" or "float64", measured once, in a tenth of a second."""
    edge = 1024
    with precision(dtype):
        a = jnp.ones((edge, edge), dtype)
        jax.block_until_ready(_product(a))
        taken = timeit.repeat(lambda: jax.block_until_ready(_product(a)), number=1, repeat=5)
    return 2 * edge**3 / float(np.median(taken))


_product = jax.jit(lambda a: a @ a)
