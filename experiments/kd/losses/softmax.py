"""The teacher's distribution over all items, with no sampling."""

import torch


def full_softmax(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Mean over users of -sum_i q_i log p_i, of logits (n, n_items).

    q = softmax(teacher / temperature), p = softmax(student / temperature), both without the items of teacher's logit
    -inf.
    """
    teacher = teacher.detach()
    left_out = teacher == -torch.inf
    said = torch.log_softmax(student.masked_fill(left_out, -torch.inf) / temperature, 1).masked_fill(left_out, 0)
    return -(torch.softmax(teacher / temperature, 1) * said).sum(1).mean()
