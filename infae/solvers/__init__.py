"""Kernel ridge regression: factor once, solve many, each solution with its residual."""

from infae.solvers.dense import solve_dense
from infae.solvers.ridge import Factor, PathStep, Solution, factor, path, solve
from infae.solvers.sweep import inverse

__all__ = ["Factor", "PathStep", "Solution", "factor", "inverse", "path", "solve", "solve_dense"]
