"""Kernel ridge regression: factor once, solve many, each solution with its residual."""

from infae.solvers.dense import solve_dense
from infae.solvers.landmarks import LandmarkSums, accumulate, solve_landmarks
from infae.solvers.ridge import ExactSolution, Factor, PathStep, Solution, factor, path, solve
from infae.solvers.sweep import inverse

__all__ = [
    "ExactSolution",
    "Factor",
    "LandmarkSums",
    "PathStep",
    "Solution",
    "accumulate",
    "factor",
    "inverse",
    "path",
    "solve",
    "solve_dense",
    "solve_landmarks",
]
