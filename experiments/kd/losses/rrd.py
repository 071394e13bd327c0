"""Relaxed ranking distillation: the order of the teacher's first items, and all others below (Kang et al. 2020)."""

import torch


def rrd(interesting: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Mean over users of -log of the probability of the teacher's order.

        -sum_r (s_r - log(sum_{r' >= r} exp s_r' + sum_j exp o_j))

    Logits s (n, k) of items that interest a user, the best first, and o (n, m) of others, among which no order is asked
    for (Eq. 7). The same of users who are ranked for an item is the item's side of IR-RRD (Kang et al. 2021).
    """
    tails = interesting.flip(1).logcumsumexp(1).flip(1)
    below = others.logsumexp(1, keepdim=True)
    return (torch.logaddexp(tails, below) - interesting).sum(1).mean()
