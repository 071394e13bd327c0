"""One step of the outer loop."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_batches import N_SYNTHETIC, a_batch, input_map, real_clicks, soft
from numpy.testing import assert_allclose

from distillcf.config import Config
from distillcf.inner import Student, Support
from distillcf.losses import (
    LOSSES,
    Objective,
)
from distillcf.prior import initial_logits, soft_clicks
from distillcf.step import State, _labels, init, make_update, ramp
from infae.kernels import ReluNTK

FEW = {"n_users": N_SYNTHETIC, "n_draws": 6, "steps": 40, "learning_rate": 0.01, "reg": 0.5, "sharpness": 0.0}
FORMS = [
    pytest.param({"objective": "squared"}, marks=pytest.mark.slow),
    {"objective": "logistic", "sampler": "gumbel", "reg": None, "l1": 0.01, "seed": 5},
    {"objective": "match", "labels": "free", "sharpness": 0.5},
]


def prepared(step=0, **settings):
    config = Config(**{**FEW, **settings})
    student = Student(ReluNTK(), input_map(-0.5))
    objective = Objective(student, LOSSES[config.objective], 1.5, config.l1)
    batch = a_batch(np.float32, holes=config.labels == "clicks")
    state = init(config, initial_logits(real_clicks(np.float32)[:N_SYNTHETIC], config.n_draws), 0.5)
    return config, objective, batch, state, make_update(config, objective)


@pytest.mark.slow
@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_a_small_step_lowers_the_loss(settings):
    config, objective, batch, state, update = prepared(**settings)
    new, before = update(state, batch, jnp.int32(30))
    newer, after = update(new, batch, jnp.int32(30))
    _, last = update(newer, batch, jnp.int32(30))
    assert last < after < before
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    # Adam's first step is as long as the learning rate.
    assert np.abs(new.logits - state.logits).max() == pytest.approx(0.01, rel=0.01)
    assert (new.log_reg != state.log_reg) == (config.reg is None)

    clicks = soft_clicks(config, state.logits, jax.random.fold_in(jax.random.key(config.seed), 30))
    labels = _labels(config, objective.student, clicks, jnp.float32(0.5), batch)
    sharpness = config.sharpness * (30 / 40 - 0.25) / 0.75
    expected = objective(Support(clicks, labels, jnp.float32(0.5)), batch, sharpness)
    assert_allclose(before, expected, rtol=1e-5)


def assert_same_bits(first, second):
    leaves = [jax.tree.leaves(state) for state in (first, second)]
    for one, other in zip(*leaves, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_loss_that_is_not_finite_moves_nothing():
    _, _, batch, state, update = prepared(objective="squared", reg=None)
    state, _ = update(state, batch, jnp.int32(0))
    assert batch.weights[2, 3]
    for bad in (np.nan, np.inf, -np.inf):
        poisoned = batch.targets.copy()
        poisoned[2, 3] = bad
        kept, loss = update(state, batch._replace(targets=poisoned), jnp.int32(1))
        assert np.isnan(loss)
        assert isinstance(kept, State)
        assert_same_bits(kept, state)
    moved, loss = update(kept, batch, jnp.int32(1))
    assert np.isfinite(loss)
    assert np.abs(moved.logits - kept.logits).max() > 0


def test_a_gradient_that_is_not_finite_moves_nothing():
    config, objective, batch, state, _ = prepared(objective="squared")
    flat = Objective(objective.student, lambda scores, batch: jnp.sum(jnp.sqrt(0 * scores)))
    kept, loss = make_update(config, flat)(state, batch, jnp.int32(0))
    assert np.isnan(loss)
    assert_same_bits(kept, state)


@pytest.mark.slow
def test_the_learning_rate_ends_at_zero():
    _, _, batch, state, update = prepared(objective="squared", reg=None, steps=2)
    lengths = []
    for step in range(3):
        new, _ = update(state, batch, jnp.int32(step))
        lengths.append(float(np.abs(new.logits - state.logits).max()))
        state = new
    assert lengths[0] == pytest.approx(0.01, rel=0.01)
    assert 0.002 < lengths[1] < 0.008
    assert lengths[2] == 0


def test_the_start_is_what_was_given():
    logits = soft(dtype=np.float64)
    state = init(Config(**FEW), logits, 2.0)
    assert state.logits.dtype == state.log_reg.dtype == np.float32
    assert_allclose(state.logits, logits, rtol=1e-6)
    assert math.exp(state.log_reg) == pytest.approx(2.0)


def test_the_sharpness_rises_after_the_first_quarter():
    values = [float(ramp(jnp.int32(step), 80)) for step in range(81)]
    assert not any(values[:21])
    assert_allclose(values[20:], np.linspace(0, 1, 61), atol=1e-6)
    assert float(ramp(jnp.int32(500), 80)) == 1
