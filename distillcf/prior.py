"""A prior over clicks: where it starts, and the rows it gives (Gumbel sampling, its expectation, hard samples).

A prior is a (n_synthetic, n_items) array of logits; row u's distribution over items is
p_u = softmax(logits_u), and a synthetic user is what n_draws draws from it, with replacement,
have hit at least once.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from distillcf.config import Config
from distillcf.coresets import CORESETS
from infae.data.interactions import Interactions
from infae.runtime import checks

# Of a starting row, clicks that its user never made, as a share of those it did: what optimisation can take up.
_SPURIOUS = 0.5


def soft_clicks(config: Config, logits: jax.Array, key: jax.Array) -> jax.Array:
    """(n_synthetic, n_items) support rows of a prior; `key` is for the Gumbel sampler alone."""
    if config.sampler == "expected":
        return expected_inclusion(logits, config.n_draws)
    return gumbel_inclusion(logits, key, config.n_draws, config.temperature)


def expected_inclusion(logits: jax.Array, n_draws: float) -> jax.Array:
    """P(item is hit by at least one of n_draws draws) = 1 - (1 - softmax(logits))^n_draws.

    The expectation of `hard_sample`, entry by entry, and so of the zero-temperature limit of
    `gumbel_inclusion`: in closed form, differentiable, without random numbers, and at a cost
    that does not depend on n_draws. (n_synthetic, n_items) in and out, values in [0, 1].
    """
    # Near 1 float32 has no digits left for 1 - p; the bound only keeps the logarithm finite.
    p = jnp.minimum(jax.nn.softmax(logits, axis=1), 1 - 1e-6)
    return -jnp.expm1(n_draws * jnp.log1p(-p))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def gumbel_inclusion(logits: jax.Array, key: jax.Array, n_draws: int, temperature: float) -> jax.Array:
    r"""The paper's multi-step Gumbel sample (Sachdeva et al. 2022, Eq. 3).

        x = clip(sum_{t=1..n_draws} softmax((log softmax(logits) + g_t) / temperature), 0, 1)

    with g_t independent standard Gumbel noise for every entry, and hard-tanh for the paper's
    activation. As the temperature falls a draw becomes one-hot and x binary.

    The derivative is written out (`custom_vjp`): each draw's is its own, so the backward pass
    makes the same noise again from the same keys and adds up one draw at a time. Memory is that
    of a few (n_synthetic, n_items) arrays whatever n_draws; where the sum is clipped the
    derivative is 0.

    (n_synthetic, n_items) in and out, values in [0, 1], at most n_draws in a row together. Draw t
    uses fold_in(key, t). `n_draws`, gamma, and `temperature`, tau, are not traced; ValueError for
    fewer than 1 draw or a temperature that is not above 0.
    """
    return _forward(logits, key, n_draws, temperature)[0]


def _forward(
    logits: jax.Array, key: jax.Array, n_draws: int, temperature: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    checks.whole("n_draws", n_draws)
    checks.number("temperature", temperature, above=0)

    def add(t: jax.Array, total: jax.Array) -> jax.Array:
        return total + _draw(logits, jax.random.fold_in(key, t), temperature)

    total = jax.lax.fori_loop(0, n_draws, add, jnp.zeros_like(logits))
    return jnp.minimum(total, 1), (logits, key, total < 1)


def _backward(
    n_draws: int, temperature: float, saved: tuple[jax.Array, jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, np.ndarray]:
    logits, key, unclipped = saved
    v = jnp.where(unclipped, cotangent, 0)

    def add(t: jax.Array, total: jax.Array) -> jax.Array:
        # softmax's derivative: y * (v - <v, y>) / temperature.
        y = _draw(logits, jax.random.fold_in(key, t), temperature)
        return total + y * (v - jnp.sum(v * y, axis=1, keepdims=True))

    gradient = jax.lax.fori_loop(0, n_draws, add, jnp.zeros_like(logits)) / temperature
    return gradient, np.zeros(key.shape, jax.dtypes.float0)


gumbel_inclusion.defvjp(_forward, _backward)


def _draw(logits: jax.Array, key: jax.Array, temperature: float) -> jax.Array:
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return jax.nn.softmax((logits + noise) / temperature, axis=1)


def most_probable(soft: np.ndarray) -> np.ndarray:
    """(n_synthetic, n_items) of 0 and 1: the clicks that are likelier than not, and each row's likeliest in any case.

    Of all binary rows the one nearest to `soft` in squared distance, and with a sharp prior the
    one that `hard_sample` scatters about.
    """
    hard = soft > 0.5
    hard[np.arange(len(hard)), soft.argmax(axis=1)] = True
    return hard.astype(np.float32)


def hard_sample(logits: np.ndarray, n_draws: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Binary rows: the items that n_draws draws from softmax(logits), with replacement, hit at least once.

    (n_synthetic, n_items) in and out: a CSR of ones, every row with 1 to n_draws entries; ValueError
    for n_draws below 1.
    """
    checks.whole("n_draws", n_draws)
    shifted = np.asarray(logits, np.float64)
    share = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    cumulative = np.cumsum(share, axis=1)
    # One search for all rows: row u's distribution function lies in [u, u + 1].
    n, m = share.shape
    row = np.arange(n)[:, None]
    ends = (cumulative / cumulative[:, -1:] + row).ravel()
    at = np.searchsorted(ends, (rng.random((n, n_draws)) + row).ravel(), side="right")
    # A draw that rounds up to the row's end is its last item's.
    drawn = np.unique(np.minimum(at, np.repeat((np.arange(n) + 1) * m - 1, n_draws)))
    clicks = sp.csr_matrix((np.ones(drawn.size, np.float32), (drawn // m, drawn % m)), shape=(n, m))
    clicks.sort_indices()
    return clicks


def first_rows(clicks: Interactions, n_users: int, seed: int, start: str) -> np.ndarray:
    """(n_users, n_items) of 0 and 1 to start from: "mixed", halves of two users a row; "random" or "head" users."""
    checks.choice("start, unless it is a Summary or Interactions,", start, ("mixed", "random", "head"))
    if start == "mixed":
        return mixtures(clicks, n_users, seed)
    return np.minimum(CORESETS[f"{start} users"](clicks, n_users, seed).matrix.toarray(), 1)


def mixtures(clicks: Interactions, n_users: int, seed: int) -> np.ndarray:
    """(n_users, n_items) rows that are nobody's: of two random users each half of the clicks, at random, rounded up."""
    rng = np.random.default_rng([seed, 5])
    rows = np.zeros((n_users, clicks.n_items), np.float32)
    for row in rows:
        for user in rng.choice(clicks.n_users, min(2, clicks.n_users), replace=False):
            items = clicks.matrix.indices[clicks.matrix.indptr[user] : clicks.matrix.indptr[user + 1]]
            row[rng.choice(items, -(-items.size // 2), replace=False)] = 1
    return rows


def initial_logits(clicks: np.ndarray, n_draws: int) -> np.ndarray:
    """Logits whose expected inclusion is near the given clicks in [0, 1], with some mass on all other items.

    The mass is worth half as many clicks as the row has, and at most half of the draws.
    """
    n_clicks = np.maximum(clicks.sum(axis=1, keepdims=True), 1e-6)
    n_others = np.maximum((1 - clicks).sum(axis=1, keepdims=True), 1e-6)
    background = np.minimum(_SPURIOUS * n_clicks / n_draws, 0.5)
    share = clicks * (1 - background) / n_clicks + (1 - clicks) * background / n_others
    return np.log(np.maximum(share, 1e-12)).astype(np.float32)
