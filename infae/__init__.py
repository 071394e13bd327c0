"""Infinitely wide autoencoders for recommendation, fitted in closed form.

split = infae.data.load("ml-1m")
model = infae.fit(split.train, reg=5.0)
infae.evaluate(model, split)["NDCG@10"]
items, scores = model.recommend(histories, n=10)
"""

from infae import data, kernels, solvers
from infae.data import Interactions, Split
from infae.errors import (
    DataFormatError,
    DataNotFoundError,
    IllConditionedWarning,
    ModelFileError,
    NotFittedError,
    SingularKernelError,
)
from infae.model import InfiniteAE, fit, load, predict
from infae.ranking import metrics
from infae.ranking.evaluate import Report, evaluate
from infae.tuning.select import Selection, select

__version__ = "0.1.0"

__all__ = [
    "DataFormatError",
    "DataNotFoundError",
    "IllConditionedWarning",
    "InfiniteAE",
    "Interactions",
    "ModelFileError",
    "NotFittedError",
    "Report",
    "Selection",
    "SingularKernelError",
    "Split",
    "data",
    "evaluate",
    "fit",
    "kernels",
    "load",
    "metrics",
    "predict",
    "select",
    "solvers",
]
