"""Kernel ridge regression: factor once, solve many, each solution with its residual."""

from infae.solvers.inverse import inverse
from infae.solvers.ridge import Factor, Solution, factor, path, solve

__all__ = ["Factor", "Solution", "factor", "inverse", "path", "solve"]
