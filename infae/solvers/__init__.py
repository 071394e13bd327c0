"""How coefficients are solved for: solvers as objects, and the functions they are made of."""

from collections.abc import Mapping

from infae.data.interactions import Interactions
from infae.linalg.sweep import inverse
from infae.runtime import checks
from infae.solvers.auto import Auto
from infae.solvers.base import Solver, path
from infae.solvers.cg import CG, ConjugateSystem, solve_conjugate
from infae.solvers.dense import solve_dense
from infae.solvers.exact import Exact, InverseSystem, factor, solve
from infae.solvers.nystrom import Nystrom

SOLVERS: Mapping[str, type[Solver]] = {solver.name: solver for solver in (Exact, CG, Nystrom, Auto)}
"""By the names that `InfiniteAE` takes."""


def named(solver: str | Solver, n_anchors: int = 1000, anchors: str | Interactions = "uniform") -> Solver:
    """The solver object of a name; an object is given back, and brings its own landmarks.

    Raises ValueError for anything else, and for landmarks beside an object.
    """
    if isinstance(solver, Solver):
        if (n_anchors, anchors) != (1000, "uniform"):
            raise ValueError(f"n_anchors and anchors go with a solver's name; give them to the {type(solver).__name__}")
        return solver
    nystrom = Nystrom(n_anchors, anchors)
    checks.choice("solver", solver, SOLVERS)
    return nystrom if solver == "nystrom" else Auto(nystrom) if solver == "auto" else SOLVERS[solver]()


__all__ = [
    "CG",
    "SOLVERS",
    "Auto",
    "ConjugateSystem",
    "Exact",
    "InverseSystem",
    "Nystrom",
    "Solver",
    "factor",
    "inverse",
    "named",
    "path",
    "solve",
    "solve_conjugate",
    "solve_dense",
]
