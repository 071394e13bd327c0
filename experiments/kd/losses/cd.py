"""Collaborative distillation: soft targets of items that are drawn by the teacher's ranks (Lee et al. 2019)."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def cd(student: torch.Tensor, teacher: torch.Tensor, scale: float = 2.0, shift: float = 0.0) -> torch.Tensor:
    """Mean of the cross-entropy of sigmoid(student) against sigmoid((teacher + shift) / scale), logits (n, k)."""
    return binary_cross_entropy_with_logits(student, torch.sigmoid((teacher.detach() + shift) / scale))


def by_rank(n_users: int, k: int, n_ranks: int, spread: float, rng: torch.Generator) -> torch.Tensor:
    """(n_users, k) different ranks below `n_ranks`, in order, of probability in proportion to exp(-rank / spread).

    Drawn without replacement one after the other, by the Gumbel top-k trick (Kool et al. 2019).
    """
    if k > n_ranks:
        raise ValueError(f"{k} ranks are asked for, and there are {n_ranks}")
    noise = torch.rand(n_users, n_ranks, generator=rng).clamp_(min=1e-20).log_().neg_().log_().neg_()
    keys = noise - torch.arange(n_ranks) / spread
    return keys.topk(k, dim=1).indices.sort(1).values
