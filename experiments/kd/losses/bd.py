"""Bidirectional distillation: teacher and student learn from each other (Kweon et al. 2021).

Each learns soft targets of items that the other ranks higher than itself; see `soft_targets` for the loss (Eq. 5, 6).
"""

import torch


def rank_gaps(own: torch.Tensor, other: torch.Tensor, sharpness: float) -> torch.Tensor:
    """(n, n_items) weights tanh(max(sharpness (rank_own - rank_other), 0)), ranks from 1, the best.

    A student is taught the items that it ranks lower than its teacher does (Eq. 8).
    """
    return torch.tanh((sharpness * (own - other)).clamp(min=0))


def rank_gaps_of_teacher(teacher: torch.Tensor, student: torch.Tensor, sharpness: float) -> torch.Tensor:
    """(n, n_items) weights exp(sharpness (rank_teacher - rank_student)), by which a teacher is taught (Eq. 7)."""
    return torch.exp(sharpness * (teacher - student))


def ranks(scores: torch.Tensor) -> torch.Tensor:
    """(n, n_items) ranks from 1, the best, of scores; of equal ones the first item's is the better."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(1, scores.shape[1] + 1, dtype=torch.float32).expand_as(scores)
    return torch.empty_like(scores).scatter_(1, order, places)


def drawn(weights: torch.Tensor, k: int, rng: torch.Generator) -> torch.Tensor:
    """(n, k) items by weight, with replacement; uniform where all weights are zero."""
    weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, 1.0)
    return torch.multinomial(weights, k, replacement=True, generator=rng)
