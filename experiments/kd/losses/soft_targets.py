"""Soft targets: a student says of each item what its teacher says (Hinton et al. 2015; GD-REC, Eq. 6)."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def soft_targets(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Mean over users and items of -q log p - (1 - q) log(1 - p).

    p = sigmoid(student / temperature) and q = sigmoid(teacher / temperature), of logits (n, k) of the same items. No
    gradient reaches the teacher.
    """
    wanted = torch.sigmoid(teacher.detach() / temperature)
    return binary_cross_entropy_with_logits(student / temperature, wanted)
