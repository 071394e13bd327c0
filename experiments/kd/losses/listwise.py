"""Cross-entropy of a sparse target with the softmax over all items (ListNet: Cao et al. 2007, Eq. 6)."""

import torch


def listwise(student: torch.Tensor, rows: torch.Tensor, items: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Mean over users of -sum_i q_i log p_i, of logits (n, n_items) with p = softmax(student).

    q has `shares` (m,) at `rows` (m,) and `items` (m,), and 0 elsewhere; the shares of a row have the sum 1.
    """
    told = (shares * student[rows, items]).sum()
    return (student.logsumexp(1).sum() - told) / len(student)
