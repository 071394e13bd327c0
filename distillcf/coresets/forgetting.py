"""SVP-CF's forgetting counts: how badly a bias-only proxy ranks each user's clicks while it learns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse as sp
from scipy.special import expit

from infae.data.coerce import as_clicks
from infae.data.ops import row_of, unclicked
from infae.linalg.tiles import precision
from infae.runtime import checks


def forgetting_counts(
    X: Any, seed: int | np.random.Generator = 0, *, epochs: int = 10, batches: int = 100, learning_rate: float = 0.02
) -> np.ndarray:
    """(n_users,) mean over epochs of 1 - AUC(user), measured at the end of each epoch.

    The proxy scores b_u + b_i and learns, by Adam, the BPR loss -log sigmoid(b_i - b_j) of each
    click (u, i) against a non-click (u, j) that is drawn anew every epoch. b_u cancels in the loss
    and in every user's ranking, and is left out. Model, loss, optimiser, one negative a click and
    worst users first are those of SVP-CF's public code. That code counts the pairs in the wrong
    order while it trains; this is the share it estimates, 1 - AUC over all pairs, ties a half.
    The paper gives no numbers for the proxy. Here an epoch is `batches` steps on data of any size
    (one a click where those are fewer). Where items have many clicks the order of users hardly
    depends on it, or on the seed; where users have one or two clicks it does.

    0 for a user who clicked nothing or everything, who has no pair to get wrong.

    Raises ValueError where X is no clicks, `epochs` or `batches` is no whole number of at least 1,
    or `learning_rate` is not positive and finite.
    """
    checks.whole("epochs", epochs)
    checks.whole("batches", batches)
    learning_rate = checks.number("learning_rate", learning_rate, above=0)
    matrix = as_clicks(X).matrix
    rng = seed if isinstance(seed, np.random.Generator) else checks.generator(seed)
    total = np.zeros(matrix.shape[0])
    proxy = untrained(matrix.shape[1])
    for _ in range(epochs):
        proxy = epoch(proxy, *pairs(matrix, rng), batches, learning_rate)
        total += inverse_auc(matrix, np.asarray(proxy.bias))
    return total / epochs


def inverse_auc(clicks: sp.csr_matrix, item_scores: np.ndarray) -> np.ndarray:
    """(n_users,) exact 1 - AUC of each user's clicks against all other items, where all users share scores.

    Equal scores count a half; 0 for a user with no pair of a click and a non-click. Time is in
    proportion to the clicks, without stored zeros, and to sorting the (n_items,) scores once.
    """
    # Let w(i, j) be 1 where i scores higher than j, 1/2 where they tie. The ascending mid-rank of
    # item i is 1/2 + the sum of w(i, j) over all items j, itself among them. Summed over a user's
    # n clicks i, those j that are clicks too add n^2 / 2, for w(i, j) + w(j, i) = 1; so the sum of
    # the ranks less n (n + 1) / 2 is the w of clicks over non-clicks: Mann and Whitney's U.
    _, level, n_level = np.unique(item_scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(n_level) - (n_level - 1) / 2)[level]
    n = np.diff(clicks.indptr)
    won = np.bincount(row_of(clicks), rank[clicks.indices], minlength=n.size) - n * (n + 1) / 2
    n_pairs = n * (item_scores.size - n.astype(np.float64))
    return np.where(n_pairs > 0, 1 - won / np.maximum(n_pairs, 1), 0.0)


class Proxy(NamedTuple):
    bias: jax.Array  # (n_items,)
    optimizer: Any  # optax state


# SVP-CF's code has these two.
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.98)


def untrained(n_items: int) -> Proxy:
    with precision(np.float64):
        bias = jnp.zeros(n_items)
        return Proxy(bias, _ADAM.init(bias))


def epoch(proxy: Proxy, liked: np.ndarray, passed: np.ndarray, batches: int, learning_rate: float) -> Proxy:
    """One pass over the pairs in so many steps of Adam, or one a pair where those are fewer, in 64 bits."""
    n_batches = max(1, min(batches, liked.size))
    with precision(np.float64):
        for i, j in zip(np.array_split(liked, n_batches), np.array_split(passed, n_batches), strict=True):
            proxy = _moved(proxy, _gradient(np.asarray(proxy.bias), i, j), learning_rate)
    return proxy


def _gradient(bias: np.ndarray, liked: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """(n_items,) of the summed loss of the pairs; `bincount` is many times as fast as XLA's scatter."""
    miss = expit(bias[passed] - bias[liked])
    return np.bincount(passed, miss, minlength=bias.size) - np.bincount(liked, miss, minlength=bias.size)


@jax.jit
def _moved(proxy: Proxy, gradient: jax.Array, learning_rate: jax.Array) -> Proxy:
    change, optimizer = _ADAM.update(gradient, proxy.optimizer)
    return Proxy(proxy.bias - learning_rate * change, optimizer)


def pairs(clicks: sp.csr_matrix, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(clicked, not clicked) items of one user each, for every click, in random order.

    The second is uniform over the user's non-clicks; clicks of users who have none are left out.
    """
    n_free = clicks.shape[1] - np.diff(clicks.indptr)
    row = row_of(clicks)
    entry = np.flatnonzero(n_free[row])
    user = row[entry]
    passed = unclicked(clicks, user, rng.integers(0, n_free[user]))
    order = rng.permutation(entry.size)
    return clicks.indices[entry][order], passed[order]
