"""Losses that models share."""

import torch
from torch.nn.functional import softplus


def bpr_loss(margin: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over triples of weight * -log sigmoid(score(u, i) - score(u, j)) (Rendle et al. 2009, section 4.3.1)."""
    return (weights * softplus(-margin)).mean()


def elbo_loss(
    logits: torch.Tensor, clicks: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, beta: float
) -> torch.Tensor:
    """Mean over users of -sum_i x_i log softmax(logits)_i + beta KL(N(mean, diag(exp(log_variance))) || N(0, I)).

    Logits and clicks x are (n, n_items), mean and log_variance (n, n_factors).
    """
    likelihood = (clicks * torch.log_softmax(logits, dim=1)).sum(1)
    divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
    return (beta * divergence - likelihood).mean()
