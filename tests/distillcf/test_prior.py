"""From a prior to support rows: the closed form, the Gumbel estimator and its gradient, and hard samples."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal
from oracles import tolerance

from distillcf.prior import expected_inclusion, gumbel_inclusion, hard_sample, initial_logits, most_probable
from infae.linalg.tiles import precision

N_DRAWS, TEMPERATURE = 5, 0.6
LOGITS = arrays(np.float32, (3, 5), elements=st.floats(-60, 60, width=32))


def random_logits(n=4, m=7, seed=0, dtype=np.float64, spread=1.5):
    """Not normalised, and peaked enough for several draws to hit the same item."""
    return (2 + spread * np.random.default_rng(seed).standard_normal((n, m))).astype(dtype)


def stored_samples(logits, key, n_draws, temperature):
    """Eq. 3 as printed: every draw side by side, left to ordinary differentiation."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n_draws))
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape, logits.dtype))(keys)
    draws = jax.nn.softmax((jnp.log(jax.nn.softmax(logits, axis=1)) + noise) / temperature, axis=2)
    total = draws.sum(axis=0)
    return jnp.where(total < 1, total, 1.0)


def softmax(rows):
    share = np.exp(np.asarray(rows, np.float64) - np.max(rows, axis=-1, keepdims=True))
    return share / share.sum(axis=-1, keepdims=True)


def inclusion(logits, n_draws):
    return 1 - (1 - softmax(logits)) ** n_draws


def slope_of_inclusion(logits, n_draws, weights):
    """Derivative of sum(weights * inclusion), by hand."""
    p, slope = softmax(logits), np.zeros(np.shape(logits))
    for u, i, j in itertools.product(range(p.shape[0]), range(p.shape[1]), range(p.shape[1])):
        slope[u, j] += weights[u, i] * n_draws * (1 - p[u, i]) ** (n_draws - 1) * p[u, i] * ((i == j) - p[u, j])
    return slope


# --- Gumbel: against all samples stored -----------------------------------------------------------


@partial(jax.jit, static_argnums=(0, 4, 5))
def value_and_slope(sampler, logits, key, weights, n_draws=N_DRAWS, temperature=TEMPERATURE):
    """The sample, and the derivative of sum(weights * sample)."""
    x, pull_back = jax.vjp(lambda z: sampler(z, key, n_draws, temperature), logits)
    return x, pull_back(weights)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_draws", "temperature", "dtype"),
    [
        (N_DRAWS, TEMPERATURE, np.float32),
        (N_DRAWS, TEMPERATURE, np.float64),
        (1, 0.5, np.float32),
        (12, 3.0, np.float64),
    ],
)
def test_equals_the_sum_of_stored_samples_in_value_and_gradient(n_draws, temperature, dtype):
    weights = np.random.default_rng(1).standard_normal((4, 7)).astype(dtype)
    with precision(dtype):
        logits, key = random_logits(dtype=dtype), jax.random.key(3)
        (x, slope), (expected, expected_slope) = (
            value_and_slope(f, logits, key, weights, n_draws, temperature) for f in (gumbel_inclusion, stored_samples)
        )
    assert x.dtype == slope.dtype == dtype
    assert n_draws == 1 or 0 < np.count_nonzero(np.asarray(x) == 1) < x.size  # the clip is put to the test
    assert_allclose(x, expected, **tolerance(dtype))
    assert_allclose(slope, expected_slope, **tolerance(dtype))


def test_gradient_equals_finite_differences_with_the_noise_held_fixed():
    weights = np.random.default_rng(1).standard_normal((4, 7))
    with precision(np.float64):
        logits, key = random_logits(), jax.random.key(8)
        total = jax.jit(lambda z: jnp.sum(weights * gumbel_inclusion(z, key, N_DRAWS, TEMPERATURE)))
        check_grads(total, (logits,), order=1, modes=["rev"], eps=1e-6, rtol=1e-6, atol=1e-8)


def test_only_what_is_below_one_can_move():
    logits, key = random_logits(dtype=np.float32), jax.random.key(8)
    x, _ = value_and_slope(gumbel_inclusion, logits, key, np.zeros((4, 7), np.float32))
    assert 0 < np.count_nonzero(x == 1) < x.size
    _, slope = value_and_slope(gumbel_inclusion, logits, key, np.where(x == 1, np.float32(7), np.float32(0)))
    assert_array_equal(slope, 0)


def test_a_shift_of_a_row_of_logits_changes_nothing():
    logits, weights = random_logits(dtype=np.float32), np.random.default_rng(1).standard_normal((4, 7))
    shifted = logits + np.arange(4, dtype=np.float32)[:, None]
    closed = lambda z, key, n_draws, temperature: expected_inclusion(z, n_draws)  # noqa: E731
    for f in (gumbel_inclusion, closed):
        (x, slope), (x_shifted, _) = (
            value_and_slope(f, z, jax.random.key(0), weights.astype(np.float32)) for z in (logits, shifted)
        )
        assert_allclose(x_shifted, x, **tolerance("float32"))
        assert_allclose(slope.sum(axis=1), 0, atol=1e-5)
        assert np.abs(slope).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_under_vmap_and_with_either_kind_of_key(make_key):
    logits, keys = random_logits(dtype=np.float32), jax.vmap(make_key)(jnp.arange(3))
    weights = np.ones((4, 7), np.float32)
    weights[:, 3] = -2
    one = partial(value_and_slope, gumbel_inclusion)
    for together, apart in zip(
        jax.vmap(one, in_axes=(None, 0, None))(logits, keys, weights),
        zip(*(one(logits, key, weights) for key in keys), strict=True),
        strict=True,
    ):
        assert_allclose(together, apart, **tolerance("float32"))
        assert np.abs(together[0] - together[1]).max() > 0.01


@pytest.mark.slow
@given(logits=LOGITS, draws=st.sampled_from([(1, 0.02), (9, 1.0)]))
def test_samples_stay_within_their_bounds(logits, draws):
    n_draws, temperature = draws
    x, slope = value_and_slope(gumbel_inclusion, logits, jax.random.key(1), np.ones_like(logits), n_draws, temperature)
    assert np.min(x) >= 0
    assert np.max(x) <= 1
    assert (np.sum(x, axis=1) <= n_draws * (1 + 1e-5)).all()
    assert np.isfinite(slope).all()


# --- Gumbel: against its expectation --------------------------------------------------------------


def many(f, logits, n):
    """(n, ...) of f(logits, key) over n keys, as float64."""
    keys = jax.random.split(jax.random.key(11), n)
    with precision(np.float32):
        samples = jax.jit(jax.vmap(f, in_axes=(None, 0)))(logits.astype(np.float32), keys)
        return jax.tree.map(partial(np.asarray, dtype=np.float64), samples)


def monte_carlo(logits, noise, temperature):
    """Samples from noise (n, n_draws, n_rows, n_items), by Eq. 3 in NumPy."""
    return np.minimum(softmax((logits + noise) / temperature).sum(axis=1), 1)


def assert_equal_means(first, second, slack=0.0):
    """Up to five standard errors of the difference, entry by entry; `second` may be an exact value."""
    error = first.var(axis=0) / len(first)
    exact = second.ndim < first.ndim
    error = error if exact else error + second.var(axis=0) / len(second)
    difference = np.abs(first.mean(axis=0) - (second if exact else second.mean(axis=0)))
    assert (difference <= 5 * np.sqrt(error) + slack).all(), difference / np.sqrt(error)


@pytest.mark.slow
def test_mean_over_keys_is_that_of_a_monte_carlo_twin():
    logits = random_logits(2, 4, spread=1.0)
    x = many(lambda logits, key: gumbel_inclusion(logits, key, 3, TEMPERATURE), logits, 20_000)
    noise = np.random.default_rng(5).gumbel(size=(20_000, 3, 2, 4))
    assert_equal_means(x, monte_carlo(logits, noise, TEMPERATURE))


@pytest.mark.slow
def test_mean_gradient_is_the_gradient_of_the_mean():
    """The derivative of the expectation, from the values alone: differences under noise of NumPy's own."""
    logits = random_logits(2, 4, spread=1.0)
    weights = np.random.default_rng(2).standard_normal((2, 4))

    def slope(logits, key):
        return jax.grad(lambda z: jnp.sum(weights * gumbel_inclusion(z, key, 3, TEMPERATURE)))(logits)

    noise, step = np.random.default_rng(6).gumbel(size=(20_000, 3, 2, 4)), 1e-4
    differences = np.empty((20_000, 2, 4))
    for place in np.ndindex(2, 4):
        moved = np.zeros((2, 4))
        moved[place] = step
        up, down = (monte_carlo(logits + sign * moved, noise, TEMPERATURE) for sign in (1, -1))
        differences[:, *place] = np.sum(weights * (up - down), axis=(1, 2)) / (2 * step)
    assert_equal_means(many(slope, logits, 20_000), differences)


@pytest.mark.slow
def test_at_a_low_temperature_it_estimates_the_closed_form_and_its_jacobian():
    logits, cold = random_logits(2, 4, spread=1.0), 0.05

    def value_and_jacobian(logits, key):
        x, pull_back = jax.vjp(lambda z: gumbel_inclusion(z, key, 3, cold), logits)
        # Row by row nothing mixes, so that one cotangent serves an item of every row.
        return x, jax.vmap(lambda item: pull_back(jnp.tile(item, (2, 1)))[0])(jnp.eye(4, dtype=x.dtype))

    x, slopes = many(value_and_jacobian, logits, 40_000)
    assert_equal_means(x, inclusion(logits, 3), slack=0.01)
    for item in range(4):
        expected = slope_of_inclusion(logits, 3, np.tile(np.arange(4) == item, (2, 1)))
        assert_equal_means(slopes[:, item], expected, slack=0.015)


@pytest.mark.slow
def test_a_cold_sample_is_nearly_binary_and_a_warm_one_is_not():
    logits = random_logits(dtype=np.float32)
    spread = []
    for temperature in (1e-3, 0.5, 5.0):
        x = gumbel_inclusion(logits, jax.random.key(2), N_DRAWS, temperature)
        spread.append(float(jnp.mean(x * (1 - x))))
    assert spread[0] < 1e-3 < 0.02 < spread[1] < spread[2]


# --- Gumbel: memory -------------------------------------------------------------------------------


def temporary_bytes(sampler, n_draws):
    def total(logits, key):
        return jnp.sum(sampler(logits, key, n_draws, TEMPERATURE) ** 2)

    arguments = jax.ShapeDtypeStruct((32, 256), np.float32), jax.random.key(0)
    return jax.jit(jax.grad(total)).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_of_the_gradient_does_not_grow_with_the_draws():
    flat, growing = (
        [temporary_bytes(f, n_draws) for n_draws in (50, 200, 700)] for f in (gumbel_inclusion, stored_samples)
    )
    array = 4 * 32 * 256
    assert max(flat) <= 1.05 * min(flat)
    assert 0 < min(flat) <= 12 * array
    assert all(bytes_ >= n_draws * array for bytes_, n_draws in zip(growing, (50, 200, 700), strict=True))


# --- expected inclusion ---------------------------------------------------------------------------


@jax.jit
def closed_value_and_slope(logits, weights, n_draws):
    x, pull_back = jax.vjp(lambda z: expected_inclusion(z, n_draws), logits)
    return x, pull_back(weights)[0]


@pytest.mark.parametrize("n_draws", [1, 2, 7, 200, 20_000])
def test_expected_inclusion_equals_brute_force(n_draws, dtype):
    logits = random_logits(dtype=dtype, spread=3.0)
    with precision(dtype):
        x = expected_inclusion(logits, n_draws)
    assert x.dtype == dtype
    assert_allclose(x, inclusion(logits, n_draws), **tolerance(dtype))


def test_rare_items_keep_their_digits():
    logits = np.array([[0.0, -12.0, -18.0, -30.0]], np.float32)
    exact = [-math.expm1(200 * math.log1p(-p)) for p in softmax(logits)[0]]
    assert_allclose(expected_inclusion(logits, 200)[0], exact, rtol=1e-5)


@pytest.mark.parametrize("n_draws", [1, 3, 200])
def test_gradient_of_expected_inclusion(n_draws, dtype):
    logits, weights = random_logits(dtype=dtype), np.random.default_rng(1).standard_normal((4, 7)).astype(dtype)
    with precision(dtype):
        _, slope = closed_value_and_slope(logits, weights, n_draws)
    assert_allclose(slope, slope_of_inclusion(logits, n_draws, weights), **tolerance(dtype))


@pytest.mark.parametrize("n_draws", [1, 2, 200])
@pytest.mark.parametrize(
    "row",
    [[200, 0, 0, 0], [1e4, -1e4, 0, 1], [14, 0, 0, 0], [5, 5, 5, 5], [80, 80, -80, -80], [0, -200, -200, -201]],
    ids=str,
)
def test_extreme_logits(row, n_draws, dtype):
    """All the mass in one item, nearly all of it, ties."""
    logits, weights = np.array([row], dtype), np.array([[3.0, -1.0, 0.5, 2.0]], dtype)
    with precision(dtype):
        x, slope = closed_value_and_slope(logits, weights, n_draws)
    assert np.isfinite(slope).all()
    # The probability of a certain item is taken as 1 - 1e-6.
    assert_allclose(x, inclusion(logits, n_draws), rtol=1e-5, atol=1e-6)
    assert_allclose(slope, slope_of_inclusion(logits, n_draws, weights), rtol=1e-3, atol=1e-5)


@given(logits=LOGITS, n_draws=st.sampled_from([1, 2, 9, 1000]))
def test_expected_inclusion_stays_within_its_bounds(logits, n_draws):
    x = np.asarray(expected_inclusion(logits, n_draws))
    assert x.min() >= 0
    assert x.max() <= 1
    assert (x.sum(axis=1) <= min(n_draws, 5) * (1 + 1e-5)).all()
    assert (x.sum(axis=1) >= 1 - 1e-5).all()


# --- hard samples ---------------------------------------------------------------------------------


def copies(logits, n):
    """Each row n times, rows in turn, so that a draw for a neighbour would show."""
    return np.tile(logits, (n, 1))


def test_expected_inclusion_is_the_mean_of_hard_samples():
    logits = random_logits(3, 6, dtype=np.float32)
    clicks = hard_sample(copies(logits, 4000), 4, np.random.default_rng(0)).toarray().reshape(4000, 3, 6)
    assert_equal_means(clicks.astype(np.float64), np.asarray(expected_inclusion(logits, 4), np.float64))


def test_every_set_of_items_has_its_probability():
    shares = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    n = 20_000
    drawn = hard_sample(copies(np.log(shares), n), 2, np.random.default_rng(0)).toarray().reshape(n, 2, 3)
    for p, rows in zip(shares, drawn.transpose(1, 0, 2), strict=True):
        law = {(i, i): p[i] ** 2 for i in range(3)} | {
            (i, j): 2 * p[i] * p[j] for i in range(3) for j in range(i + 1, 3)
        }
        assert sum(law.values()) == pytest.approx(1)
        chi_square = 0.0
        for (i, j), probability in law.items():
            found = (rows[:, [i, j]] == 1).all(axis=1) & (rows.sum(axis=1) == len({i, j}))
            chi_square += (found.sum() - n * probability) ** 2 / (n * probability)
        assert chi_square < 25  # of 5 degrees of freedom: exceeded once in 7,000


@given(logits=LOGITS, n_draws=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_hard_samples_are_rows_of_one_to_n_draws_clicks(logits, n_draws, seed):
    clicks = hard_sample(logits, n_draws, np.random.default_rng(seed))
    assert isinstance(clicks, sp.csr_matrix)
    assert clicks.shape == logits.shape
    assert clicks.dtype == np.float32
    assert_array_equal(clicks.data, 1)
    per_row = np.diff(clicks.indptr)
    assert per_row.min() >= 1
    assert per_row.max() <= min(n_draws, 5)
    assert clicks.has_canonical_format
    assert_array_equal(clicks.indices, sp.csr_matrix(clicks.toarray()).indices)  # sorted within each row
    again = hard_sample(logits, n_draws, np.random.default_rng(seed))
    assert_array_equal(again.toarray(), clicks.toarray())


def test_the_generator_is_the_only_chance():
    logits, rng = random_logits(), np.random.default_rng(0)
    first, second = (hard_sample(logits, 3, rng).toarray() for _ in range(2))
    assert (first != second).any()


def test_items_without_any_mass_are_never_drawn():
    logits = copies([[-np.inf, 0.0, -np.inf, 1.0, -1e4], [-1e4, -np.inf, -1e4, 2.0, -1e4]], 200)
    clicks = hard_sample(logits, 50, np.random.default_rng(0)).toarray()
    assert not clicks[::2, [0, 2, 4]].any()
    assert clicks[::2, [1, 3]].all()
    assert_array_equal(clicks[1::2], np.tile([0, 0, 0, 1, 0], (200, 1)))


@given(soft=arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)))
def test_the_most_probable_rows_are_the_nearest_that_hold_a_click(soft):
    before = soft.copy()
    rows = most_probable(soft)
    assert rows.dtype == np.float32
    assert_array_equal(soft, before)
    choices = np.array(list(itertools.product([0, 1], repeat=4))[1:])
    for x, row in zip(soft.astype(np.float64), rows, strict=True):
        distances = ((choices - x) ** 2).sum(axis=1)
        assert row.any()
        assert ((row - x) ** 2).sum() == pytest.approx(distances.min(), abs=1e-12)


class Constant:
    """A generator of one number."""

    def __init__(self, value):
        self.value = value

    def random(self, shape):
        return np.full(shape, self.value)


@pytest.mark.parametrize(
    ("value", "item"),
    [
        (0.0, 1),
        (2.0**-53, 1),
        (0.49, 1),
        (0.51, 2),
        (1 - 2.0**-53, 2),
    ],
)
def test_the_ends_of_the_unit_interval_fall_into_their_own_row(value, item):
    clicks = hard_sample(np.tile([-np.inf, 0.0, 0.0], (4, 1)), 3, Constant(value)).toarray()
    assert_array_equal(clicks, np.tile(np.arange(3) == item, (4, 1)))


@pytest.mark.parametrize(("n_draws", "temperature"), [(0, 0.5), (-1, 0.5), (5, 0.0), (5, -1.0), (5, float("nan"))])
def test_bad_draws_and_temperatures_are_refused(n_draws, temperature):
    logits = jnp.zeros((2, 3))
    for call in (gumbel_inclusion, jax.grad(lambda *args: gumbel_inclusion(*args).sum())):
        with pytest.raises(ValueError, match=r"n_draws must be|temperature must be"):
            call(logits, jax.random.key(0), n_draws, temperature)


def test_a_hard_sample_of_no_draws_is_refused():
    with pytest.raises(ValueError, match="n_draws"):
        hard_sample(np.zeros((2, 3)), 0, np.random.default_rng(0))


# --- the starting prior ---------------------------------------------------------------------------


def starting_rows():
    """Rows of 1, 10 and 40 clicks, of all clicks, of none, and of soft clicks, over 60 items."""
    rows = np.zeros((6, 60), np.float32)
    for row, n in enumerate((1, 10, 40, 60)):
        rows[row, np.random.default_rng(row).permutation(60)[:n]] = 1
    rows[5] = np.linspace(0, 1, 60)
    return rows


@pytest.mark.parametrize("n_draws", [1, 20, 200, 2000])
def test_the_starting_prior_has_its_shares(n_draws):
    rows = starting_rows()
    logits = initial_logits(rows, n_draws)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    share = np.exp(logits.astype(np.float64))
    share /= share.sum(axis=1, keepdims=True)
    for row, n in enumerate((1, 10, 40)):
        clicked = rows[row] == 1
        background = min(0.5 * n / n_draws, 0.5)
        assert_allclose(share[row, clicked], (1 - background) / n, rtol=1e-5)
        assert_allclose(share[row, ~clicked], background / (60 - n), rtol=1e-5)
    assert_allclose(share[3:5], 1 / 60, rtol=1e-5)
    # As many clicks as draws or more leave no more mass for them than for the others.
    assert (np.diff(share[5]) > 0).all() == (n_draws > 30)


def test_the_starting_inclusion_is_near_the_clicks():
    rows = starting_rows()
    with precision(np.float32):
        x = np.asarray(expected_inclusion(initial_logits(rows, 400), 400))
    assert (x[:4][rows[:4] == 1] > 0.98).all()
    for row in range(3):
        n = rows[row].sum()
        spurious = x[row][rows[row] == 0]
        assert 0.3 * n < spurious.sum() <= 0.5 * n
        assert spurious.min() > 0


def test_the_starting_mass_on_other_items_never_exceeds_half_of_the_draws():
    rows = starting_rows()[:3]
    share = np.exp(initial_logits(rows, 3).astype(np.float64))
    assert_allclose(np.sum(share * (rows == 0), axis=1), [1 / 6, 0.5, 0.5], rtol=1e-5)
