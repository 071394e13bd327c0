"""Kernel ridge regression: factor once, solve many, each solution with its residual."""

from infae.linalg.sweep import inverse
from infae.solvers.cg import CGSolution, conjugate_path, solve_conjugate
from infae.solvers.dense import solve_dense
from infae.solvers.exact import ExactSolution, Factor, FullSolution, PathStep, Solution, factor, path, solve
from infae.solvers.nystrom import LandmarkSums, accumulate, solve_landmarks

__all__ = [
    "CGSolution",
    "ExactSolution",
    "Factor",
    "FullSolution",
    "LandmarkSums",
    "PathStep",
    "Solution",
    "accumulate",
    "conjugate_path",
    "factor",
    "inverse",
    "path",
    "solve",
    "solve_conjugate",
    "solve_dense",
    "solve_landmarks",
]
