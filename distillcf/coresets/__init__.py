"""Data summaries that keep real clicks."""

from distillcf.coresets.forgetting import forgetting_counts, inverse_auc
from distillcf.coresets.samplers import CORESETS, Budget, head_users, random_interactions, random_users, svp_cf_users

__all__ = [
    "CORESETS",
    "Budget",
    "forgetting_counts",
    "head_users",
    "inverse_auc",
    "random_interactions",
    "random_users",
    "svp_cf_users",
]
