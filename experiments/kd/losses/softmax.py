"""The teacher's distribution over all items, with no sampling."""

import torch


def full_softmax(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Mean over users of -sum_i q_i log p_i, of logits (n, n_items).

    q = softmax(teacher / temperature), p = softmax(student / temperature). Items of teacher's logit -inf are left out.
    """
    wanted = torch.softmax(teacher.detach() / temperature, 1)
    return -(wanted * torch.log_softmax(student / temperature, 1)).sum(1).mean()
