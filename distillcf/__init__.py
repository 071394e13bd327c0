"""DISTILL-CF: a few hundred synthetic users that train a recommender nearly as well as all the real ones.

summary = distillcf.distill(split.train, n_users=500, validation=split, seed=0)
summary.save("summary.npz")
model = distillcf.load("summary.npz").fit()
"""

from distillcf.config import Config
from distillcf.coresets import CORESETS, Budget
from distillcf.distill import distill
from distillcf.errors import CheckpointError, DivergedError, SummaryFileError
from distillcf.summary import Summary, load

__all__ = [
    "CORESETS",
    "Budget",
    "CheckpointError",
    "Config",
    "DivergedError",
    "Summary",
    "SummaryFileError",
    "distill",
    "load",
]
