"""Outer objectives: how well an ∞-AE that is fitted on synthetic users serves real ones.

Everything here is a pure function of arrays: (support, batch) -> (), jitted and differentiated
through the inner fit, which is `infae`'s own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from distillcf.inner import Batch, Student, Support

Loss = Callable[[jax.Array, Batch], jax.Array]
"""(scores, batch) -> (): the mean over users of a sum over items."""


def logistic(scores: jax.Array, batch: Batch) -> jax.Array:
    """The paper's Eq. 3, as a loss: -E_u[X_u . log P_u + (1 - X_u) . log(1 - P_u)], P = softmax(K alpha).

    Eq. 3 and algorithm 3 print the sum without the minus sign, under arg min. The softmax is
    algorithm 2's: without it K alpha is no probability, and its logarithm not defined.
    """
    log_p = _log_softmax(scores, batch.weights)
    # A pair that the paper's split holds twice is one click here: 1 - X is a probability.
    clicks = jnp.minimum(batch.targets, 1)
    # log(1 - p), also where p rounds to 1.
    log_not_p = jnp.log1p(-jnp.minimum(jnp.exp(log_p), 1 - 1e-6))
    return -_per_user(clicks * log_p + (1 - clicks) * log_not_p, batch)


def softmax_cross_entropy(scores: jax.Array, batch: Batch) -> jax.Array:
    """The reference code's loss: -E_u[X_u . log softmax(K alpha)_u]."""
    return -_per_user(batch.targets * _log_softmax(scores, batch.weights), batch)


def squared_error(scores: jax.Array, batch: Batch) -> jax.Array:
    """E_u |K alpha - targets|^2 over the cells that count."""
    return _per_user((scores - batch.targets) ** 2, batch)


def l1_penalty(clicks: jax.Array) -> jax.Array:
    """Mean clicks of a synthetic user: |X|_1 / n_synthetic, the sparsity term of Eq. 3 but for the 1 / n_synthetic."""
    return jnp.sum(clicks) / clicks.shape[0]


def sharpness_penalty(clicks: jax.Array) -> jax.Array:
    """Mean variance of a synthetic user's hard sample: sum x (1 - x) / n_synthetic; 0 if all clicks are 0 or 1."""
    return jnp.sum(clicks * (1 - clicks)) / clicks.shape[0]


@dataclass(frozen=True, eq=False)
class Objective:
    """loss(student fitted on the support, batch) / scale + l1 * l1_penalty + sharpness * sharpness_penalty."""

    student: Student
    loss: Loss
    scale: float = 1.0  # the mean square of the targets makes `squared_error` a share of it
    l1: float = 0.0  # the paper's lambda_2, for the mean instead of the sum over synthetic users

    def __call__(self, support: Support, batch: Batch, sharpness: jax.Array | float = 0.0) -> jax.Array:
        scores = self.student.predict(self.student.fit(support), batch.shown)
        penalty = self.l1 * l1_penalty(support.clicks) + sharpness * sharpness_penalty(support.clicks)
        return self.loss(scores, batch) / self.scale + penalty


def _per_user(cells: jax.Array | np.ndarray, batch: Batch) -> jax.Array:
    return jnp.sum(batch.weights * cells) / cells.shape[0]


def _log_softmax(scores: jax.Array, weights: jax.Array | np.ndarray) -> jax.Array:
    # Over the cells that count; the others get a logarithm that is finite, so that 0 times it is 0.
    return jax.nn.log_softmax(jnp.where(weights > 0, scores, -1e30), axis=1)


LOSSES: dict[str, Loss] = {
    "match": squared_error,
    "squared": squared_error,
    "softmax": softmax_cross_entropy,
    "logistic": logistic,
}
"""Losses by the name of the objective in `distillcf.Config`."""
