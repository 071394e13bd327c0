"""Ranking distillation: the teacher's first items are clicks, the more so the higher (Tang and Wang 2018)."""

import torch
from torch.nn.functional import logsigmoid


def rd(student: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over users of -sum_r w_r log sigmoid(student_r), of logits (n, k) of the teacher's first k items in order.

    `weights` broadcast to them; no gradient reaches these (Eq. 7).
    """
    return -(weights.detach() * logsigmoid(student)).sum(1).mean()


def position_weights(k: int, spread: float = 1.0) -> torch.Tensor:
    """(k,) w_r in proportion to exp(-r / spread), r = 1, ..., k, of sum 1 (Eq. 8)."""
    return torch.softmax(-torch.arange(1, k + 1) / spread, 0)


def discrepancy_weights(
    student: torch.Tensor, others: torch.Tensor, n_items: int, sharpness: float = 0.1
) -> torch.Tensor:
    """(n, k) max(0, tanh(sharpness (rank_r - r))): how far the student puts the teacher's item r below r (Eq. 9).

    Its rank among all `n_items` is told by the share of `others`, logits (n, m) of items drawn uniformly, above it.
    """
    above = (others[:, None] > student[:, :, None]).float().mean(2)
    ranks = 1 + torch.floor((n_items - 1) * above)
    return torch.tanh(sharpness * (ranks - torch.arange(1, student.shape[1] + 1))).clamp(min=0)
