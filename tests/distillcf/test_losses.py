"""Losses, penalties and the objective, against their formulas."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from made_batches import (
    INPUTS,
    N_ITEMS,
    N_REAL,
    N_SYNTHETIC,
    PLAIN,
    a_batch,
    check_reverse,
    input_map,
    real_clicks,
    soft,
)
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, tolerance

from distillcf.config import Config
from distillcf.inner import Student, Support
from distillcf.losses import (
    LOSSES,
    Objective,
    l1_penalty,
    logistic,
    sharpness_penalty,
    softmax_cross_entropy,
    squared_error,
)
from infae.kernels import ReluNTK
from infae.linalg.tiles import precision


def plain_softmax(row, counts):
    """{item: probability} over the items that count."""
    kept = [i for i in range(len(row)) if counts[i]]
    largest = max((row[i] for i in kept), default=0)
    total = math.fsum(math.exp(row[i] - largest) for i in kept)
    return {i: math.exp(row[i] - largest) / total for i in kept}


def plain_logistic(scores, batch):
    total = 0.0
    for row, x, counts in zip(scores, batch.targets, batch.weights, strict=True):
        for i, p in plain_softmax(row, counts).items():
            total -= x[i] * math.log(p) + (1 - x[i]) * math.log(1 - p)
    return total / len(scores)


def plain_softmax_cross_entropy(scores, batch):
    total = 0.0
    for row, x, counts in zip(scores, batch.targets, batch.weights, strict=True):
        total -= sum(x[i] * math.log(p) for i, p in plain_softmax(row, counts).items())
    return total / len(scores)


def plain_squared_error(scores, batch):
    total = 0.0
    for row, x, counts in zip(scores, batch.targets, batch.weights, strict=True):
        total += sum((row[i] - x[i]) ** 2 for i in range(len(row)) if counts[i])
    return total / len(scores)


LOSS_TWINS = [
    (logistic, plain_logistic),
    (softmax_cross_entropy, plain_softmax_cross_entropy),
    (squared_error, plain_squared_error),
]
each_loss = pytest.mark.parametrize(("loss", "plain"), LOSS_TWINS, ids=[loss.__name__ for loss, _ in LOSS_TWINS])


def some_scores(dtype=np.float64):
    return (2 * np.random.default_rng(2).standard_normal((N_REAL, N_ITEMS))).astype(dtype)


@each_loss
@pytest.mark.parametrize("holes", [False, True])
def test_losses_equal_their_formulas_cell_by_cell(loss, plain, holes, dtype):
    scores, batch = some_scores(dtype), a_batch(dtype, holes)
    with precision(dtype):
        value = jax.jit(loss)(scores, batch)
    assert value.dtype == dtype
    assert_allclose(value, plain(scores.tolist(), batch), **tolerance(dtype))


@pytest.mark.slow
@each_loss
def test_cells_that_do_not_count_have_no_say(loss, plain):
    batch, scores = a_batch(), some_scores()
    others = batch.weights == 0
    assert others.any()
    moved = np.where(others, 50.0, scores)
    relabelled = batch._replace(targets=np.where(others, 9.0, batch.targets))
    with precision(np.float64):
        loss = jax.jit(loss)
        value, slope = jax.value_and_grad(loss)(scores, batch)
        assert_allclose([loss(moved, batch), loss(scores, relabelled)], value, rtol=1e-12)
    assert_array_equal(slope[others], 0)
    assert np.abs(slope).max() > 0


@each_loss
def test_gradients_of_losses(loss, plain):
    with precision(np.float64):
        check_reverse(jax.jit(partial(loss, batch=a_batch())), (some_scores(),))


@each_loss
@pytest.mark.parametrize("holes", [False, True])
def test_losses_are_finite_where_probabilities_round_to_zero_or_one(loss, plain, holes):
    batch = a_batch(np.float32, holes)
    scores = some_scores(np.float32) * 1000
    scores[0], scores[1] = 0, 1e6
    value, slope = jax.value_and_grad(jax.jit(loss))(scores, batch)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


@each_loss
def test_a_user_of_whom_nothing_counts_has_no_loss(loss, plain):
    batch = a_batch(holes=False)
    weights = batch.weights.copy()
    weights[3] = 0
    with precision(np.float64):
        value, slope = jax.value_and_grad(jax.jit(loss))(some_scores(), batch._replace(weights=weights))
    assert_allclose(value, plain(some_scores(), batch._replace(weights=weights)), rtol=1e-12)
    assert_array_equal(slope[3], 0)


@pytest.mark.parametrize(("name", "loss"), [("match", 2), ("squared", 2), ("softmax", 1), ("logistic", 0)])
def test_losses_go_by_the_names_of_the_settings(name, loss):
    assert LOSSES[name] is LOSS_TWINS[loss][0]
    assert Config(objective=name).objective == name
    assert len(LOSSES) == 4


def test_penalties_are_means_over_synthetic_users():
    clicks = soft()
    with precision(np.float64):
        assert_allclose(l1_penalty(clicks), sum(sum(row) for row in clicks.tolist()) / N_SYNTHETIC, rtol=1e-12)
        variance = sum(sum(x * (1 - x) for x in row) for row in clicks.tolist())
        assert_allclose(sharpness_penalty(clicks), variance / N_SYNTHETIC, rtol=1e-12)
        assert sharpness_penalty(real_clicks()) == 0


# --- the objective --------------------------------------------------------------------------------


def plain_scores(clicks, labels, reg, shown, inputs, **network):
    """Algorithms 1 and 2: alpha of the support by NumPy, with the kernel pair by pair."""
    rows = oracles.input_rows(clicks, real_clicks(), **inputs)
    shown_rows = oracles.input_rows(shown, real_clicks(), **inputs)
    alpha = oracles.ridge(oracles.relu_ntk(rows, rows, **network), labels, reg)
    return oracles.relu_ntk(shown_rows, rows, **network) @ alpha


@pytest.mark.parametrize(("twins", "inputs"), list(zip(LOSS_TWINS, INPUTS, strict=True)), ids=["raw", "power", "unit"])
def test_the_objective_equals_equation_3(twins, inputs):
    loss, plain = twins
    student = Student(ReluNTK(), input_map(**inputs))
    objective = Objective(student, loss, scale=2.5, l1=0.3)
    clicks, labels, batch = soft(), soft(seed=8) - 0.4, a_batch()
    with precision(np.float64):
        for y in (clicks, labels):
            value = jax.jit(objective)(Support(clicks, y, 0.7), batch, sharpness=0.2)
            scores = plain_scores(clicks, y, 0.7, batch.shown, inputs)
            penalty = 0.3 * clicks.sum() / N_SYNTHETIC + 0.2 * (clicks * (1 - clicks)).sum() / N_SYNTHETIC
            assert_allclose(value, plain(scores, batch) / 2.5 + penalty, **tolerance("float64"))


@pytest.mark.slow
def test_the_papers_own_form_by_neural_tangents():
    """Logistic loss, raw rows, clicks for labels, and the kernel and all else by neural-tangents and NumPy."""
    from infae.kernels.stax import fully_connected

    clicks, batch = soft(), a_batch(holes=False)
    with precision(np.float64):
        value = Objective(Student(ReluNTK(), PLAIN), logistic, l1=0.01)(Support(clicks, clicks, 0.5), batch)
        kernel = fully_connected(depth=1)
        k_ss, k_us = np.asarray(kernel(clicks)), np.asarray(kernel(batch.shown, clicks))
    alpha = np.linalg.solve(k_ss + 0.5 * np.trace(k_ss) / N_SYNTHETIC * np.eye(N_SYNTHETIC), clicks)
    expected = plain_logistic(k_us @ alpha, batch) + 0.01 * clicks.sum() / N_SYNTHETIC
    assert_allclose(value, expected, **tolerance("float64"))


def test_gradient_of_the_objective_by_clicks_labels_and_reg():
    student, batch = Student(ReluNTK(), input_map(-0.25, row_power=1.0)), a_batch()
    objective = Objective(student, logistic, scale=2.5, l1=0.3)

    @jax.jit
    def value(clicks, labels, reg):
        return objective(Support(clicks, labels, reg), batch, 0.2)

    with precision(np.float64):
        check_reverse(value, (soft(), soft(seed=8), 0.7))


@pytest.mark.slow
def test_the_gradient_is_finite_at_binary_equal_and_empty_rows():
    student, batch = Student(ReluNTK(), input_map(-0.25, row_power=1.0)), a_batch(np.float32)
    objective = Objective(student, logistic, l1=0.3)
    clicks = random_clicks(5, N_ITEMS, seed=5)  # the first is a real user's own
    clicks[1], clicks[2] = clicks[0], 0
    slope = jax.jit(jax.grad(lambda x: objective(Support(x, x, jnp.float32(0.5)), batch, 1.0)))(clicks)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0
