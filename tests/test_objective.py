"""The outer loop's pieces: the dense solve, losses, the inner model, labels, batches, one step, settings."""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, tolerance

import infae
from distillcf.batches import Batches
from distillcf.config import Config
from distillcf.inner import given_scores
from distillcf.losses import (
    LOSSES,
    Batch,
    LabelSystem,
    Objective,
    Student,
    Support,
    l1_penalty,
    logistic,
    sharpness_penalty,
    softmax_cross_entropy,
    squared_error,
)
from distillcf.prior import expected_inclusion
from distillcf.step import State, _labels, init, initial_logits, make_update, ramp, soft_clicks
from distillcf.validate import Fitted, Judge
from infae import Interactions
from infae.inputs import InputMap
from infae.kernels import ReluNTK
from infae.linalg.tiles import precision
from infae.solvers.dense import solve_dense

N_SYNTHETIC, N_ITEMS, N_REAL = 4, 7, 9
INPUTS = [{}, {"popularity_power": -0.5}, {"popularity_power": -0.25, "row_power": 1.0}]
PLAIN = InputMap(None, 0.0)

check_reverse = partial(check_grads, order=1, modes=["rev"], eps=1e-5, rtol=1e-6, atol=1e-8)


def soft(n=N_SYNTHETIC, m=N_ITEMS, seed=3, dtype=np.float64):
    """Clicks in (0, 1)."""
    return np.random.default_rng(seed).uniform(0.02, 0.98, (n, m)).astype(dtype)


def real_clicks(dtype=np.float64):
    return random_clicks(N_REAL, N_ITEMS, seed=5).astype(dtype)


def a_batch(dtype=np.float64, holes=True):
    """Some clicks hidden from the histories, and the cells that are shown left out of the loss."""
    targets = real_clicks(dtype)
    shown = targets * (np.random.default_rng(6).random(targets.shape) < 0.6)
    return Batch(shown, targets, (shown == 0).astype(dtype) if holes else np.ones_like(targets))


def input_map(popularity_power=0.0, row_power=0.0):
    return InputMap.from_popularity(real_clicks().sum(axis=0), popularity_power, row_power)


# --- the dense solve ------------------------------------------------------------------------------


def spd(n, seed=0):
    root = np.random.default_rng(seed).standard_normal((n, n)) / np.sqrt(n)
    return root @ root.T + np.eye(n)


@pytest.mark.parametrize("n", [1, 7, 97])
def test_the_dense_solve_equals_numpy(n, dtype):
    gram, targets = spd(n), np.random.default_rng(1).standard_normal((n, 5))
    with precision(dtype):
        coef = jax.jit(solve_dense)(gram.astype(dtype), targets.astype(dtype), 0.3)
    assert coef.dtype == dtype
    assert_allclose(coef, oracles.ridge(gram, targets, 0.3), **tolerance(dtype))


@pytest.mark.parametrize("n", [1, 3, 70])
def test_gradient_of_the_dense_solve(n):
    targets = np.random.default_rng(1).standard_normal((n, 2))

    @jax.jit
    def solved(root, targets, reg):
        # Symmetric matrices only: of others half is never read.
        return solve_dense((root + root.T) / 2, targets, reg)

    with precision(np.float64):
        check_reverse(solved, (spd(n), targets, 0.3))


def test_gradients_by_targets_and_reg_equal_their_formulas():
    gram, targets, cotangent = spd(6), soft(6, 3), soft(6, 3, seed=4)
    with precision(np.float64):
        _, pull_back = jax.vjp(jax.jit(partial(solve_dense, gram)), targets, 0.3)
        by_targets, by_reg = pull_back(cotangent)
    inverse = np.linalg.inv(gram + 0.3 * np.trace(gram) / 6 * np.eye(6))
    assert_allclose(by_targets, inverse @ cotangent, rtol=1e-10)
    assert_allclose(by_reg, -np.trace(gram) / 6 * np.sum(cotangent * (inverse @ inverse @ targets)), rtol=1e-10)


@pytest.mark.parametrize("matrix", [np.diag([1.0, -1.0, 2.0]), -np.eye(3), np.zeros((3, 3)), -np.eye(70)])
def test_a_matrix_that_is_not_positive_definite_gives_nan(matrix):
    coef = jax.jit(solve_dense)(matrix.astype(np.float32), np.ones((len(matrix), 2), np.float32), 0.0)
    assert np.isnan(coef).any()


# --- losses ---------------------------------------------------------------------------------------


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


def test_the_gradient_is_finite_at_binary_equal_and_empty_rows():
    student, batch = Student(ReluNTK(), input_map(-0.25, row_power=1.0)), a_batch(np.float32)
    objective = Objective(student, logistic, l1=0.3)
    clicks = random_clicks(5, N_ITEMS, seed=5)  # the first is a real user's own
    clicks[1], clicks[2] = clicks[0], 0
    slope = jax.jit(jax.grad(lambda x: objective(Support(x, x, jnp.float32(0.5)), batch, 1.0)))(clicks)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


# --- the inner model ------------------------------------------------------------------------------


def as_interactions(rows):
    return Interactions(sp.csr_matrix(rows), np.arange(len(rows)), np.arange(rows.shape[1]))


@pytest.mark.parametrize(("labels", "row_power"), [("clicks", 0.0), ("free", 0.5)])
def test_the_student_is_infae_fitted_on_the_soft_rows(labels, row_power, dtype):
    clicks, shown = soft(6, dtype=dtype), real_clicks(dtype)
    targets = clicks if labels == "clicks" else soft(6, seed=9, dtype=dtype) - dtype.type(0.5)
    weights = np.linspace(0.4, 2, N_ITEMS)
    settings = {"depth": 2, "b_std": 0.2, "row_power": row_power, "item_weights": weights, "dtype": dtype.name}
    model = infae.fit(as_interactions(clicks), 0.7, targets=None if labels == "clicks" else targets, **settings)
    with precision(dtype):
        student = Student(*model.components(as_interactions(clicks)))
        dual = student.fit(Support(clicks, targets, jnp.asarray(0.7, dtype)))
        scores = student.predict(dual, shown)
        own = student.predict(dual, clicks)
    assert scores.dtype == dual.coef.dtype == dtype
    assert_allclose(dual.coef, model.machine_.coef, **tolerance(dtype))
    assert_allclose(scores, infae.predict(model, shown), **tolerance(dtype))
    # A row meets itself at the cusp of k0, where rounding costs half of the digits, unless it is known to be itself.
    half = {"rtol": 0, "atol": 3 * np.finfo(dtype).eps ** 0.5}
    assert_allclose(own, infae.predict(model, as_interactions(clicks)), **half)


def test_the_smoother_takes_labels_to_scores(dtype):
    student, clicks, labels = Student(ReluNTK(), input_map(-0.5, True)), soft(dtype=dtype), soft(seed=9, dtype=dtype)
    shown = a_batch(dtype).shown
    with precision(dtype):
        phi = student.smoother(clicks, jnp.asarray(0.7, dtype), shown)
        expected = student.predict(student.fit(Support(clicks, labels, 0.7)), shown)
        assert phi.shape == (N_REAL, N_SYNTHETIC)
        assert phi.dtype == dtype
        assert_allclose(phi @ labels, expected, **tolerance(dtype))


# --- free labels ----------------------------------------------------------------------------------


def parts_of(batch, *cuts):
    return [Batch(*parts) for parts in zip(*(np.split(array, cuts) for array in batch), strict=True)]


def test_label_systems_add_up_over_batches():
    student, clicks, batch = Student(ReluNTK(), PLAIN), soft(), a_batch()
    with precision(np.float64):
        whole = LabelSystem.of(student, clicks, 0.7, batch)
        first, *others = (LabelSystem.of(student, clicks, 0.7, part) for part in parts_of(batch, 2, 6))
        total = sum(others, first)
        for one, sum_ in zip(whole, total, strict=True):
            assert one.shape == sum_.shape
            assert_allclose(sum_, one, rtol=1e-12)
        assert_allclose(total.solve(0.1), whole.solve(0.1), rtol=1e-9)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_solved_labels_minimise_the_penalised_error(penalty):
    student, clicks, batch = Student(ReluNTK(), input_map(-0.5)), soft(), a_batch()
    with precision(np.float64):
        phi = np.asarray(student.smoother(clicks, 0.7, batch.shown))
        labels = LabelSystem.of(student, clicks, 0.7, batch).solve(penalty)
    root = math.sqrt(penalty * np.mean([column @ column for column in phi.T]))
    above, below = np.concatenate([phi, root * np.eye(N_SYNTHETIC)]), np.zeros((N_SYNTHETIC, N_ITEMS))
    expected = np.linalg.lstsq(above, np.concatenate([batch.targets, below]), rcond=None)[0]
    assert_allclose(labels, expected, rtol=1e-8)


def test_labels_are_the_clicks_themselves_in_the_paper():
    clicks = jnp.asarray(soft(dtype=np.float32))
    student = Student(ReluNTK(), PLAIN)
    labels = _labels(Config(labels="clicks"), student, clicks, jnp.float32(1), a_batch(np.float32))
    assert labels is clicks


def test_free_labels_are_the_solved_ones(dtype):
    student, clicks, batch = Student(ReluNTK(), PLAIN), soft(dtype=dtype), a_batch(dtype)
    with precision(dtype):
        labels = _labels(Config(labels="free", label_penalty=0.3), student, clicks, dtype.type(0.7), batch)
        phi = np.asarray(student.smoother(clicks, dtype.type(0.7), batch.shown))
    assert_allclose(labels, oracles.ridge(phi.T @ phi, phi.T @ batch.targets, 0.3), **tolerance(dtype))


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("loss", [squared_error, softmax_cross_entropy, logistic])
def test_the_gradient_sees_the_labels_solved_anew(loss, holes):
    """At the default penalty, and where the loss is not the error that the labels minimise."""
    config, batch = Config(labels="free"), a_batch(holes=holes)
    student = Student(ReluNTK(), input_map(-0.5))
    objective = Objective(student, loss)

    @jax.jit
    def solved(clicks, reg):
        labels = _labels(config, student, clicks, reg, batch)
        return objective(Support(clicks, labels, reg), batch)

    with precision(np.float64):
        check_grads(solved, (soft(), 0.7), order=1, modes=["rev"], eps=1e-5, rtol=1e-4, atol=1e-6)
        slope = jax.jit(jax.grad(solved))(soft(), 0.7)
    assert np.abs(slope).max() > 0.01


def test_of_a_pair_held_twice_the_logistic_loss_counts_one_click():
    scores, once = jnp.asarray([[2.0, -1.0, 0.5]]), np.array([[1.0, 0.0, 1.0]])
    ones = np.ones((1, 3))
    assert_allclose(
        logistic(scores, Batch(once, np.array([[2.0, 0.0, 1.0]]), ones)), logistic(scores, Batch(once, once, ones))
    )


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


# --- batches --------------------------------------------------------------------------------------


def batches(clicks, scores=None, **settings):
    return Batches(sp.csr_matrix(clicks), Config(**{"objective": "squared", **settings}), scores)


def users_of(batch):
    """Of an identity matrix of clicks."""
    return np.flatnonzero(np.asarray(batch.targets).sum(axis=0)).tolist()


@pytest.mark.parametrize("size", [1, 4, 12, 5, 100])
def test_every_user_comes_once_an_epoch(size):
    deal = batches(np.eye(12, dtype=np.float32), batch_size=size)
    size = min(size, 12)
    assert deal.size == size
    epochs = []
    for epoch in range(3):
        dealt = [users_of(deal(epoch * (12 // size) + k)) for k in range(12 // size)]
        assert all(len(users) == size for users in dealt)
        together = [user for users in dealt for user in users]
        assert len(set(together)) == len(together) == 12 // size * size
        epochs.append(dealt)
    assert size == 12 or epochs[0] != epochs[1] != epochs[2]
    other = batches(np.eye(12, dtype=np.float32), batch_size=size, seed=1)
    assert size == 12 or epochs[0] != [users_of(other(k)) for k in range(12 // size)]


def assert_same_batches(first, second):
    for one, other in zip(first, second, strict=True):
        assert_array_equal(one, other)


def differ(first, second):
    return any((np.asarray(one) != other).any() for one, other in zip(first, second, strict=True))


def test_a_batch_depends_on_seed_and_step_alone():
    clicks = random_clicks(30, 12)
    make = partial(batches, clicks, batch_size=8, held_out=0.4)
    in_turn = make(seed=3)
    expected = [in_turn(step) for step in range(9)]
    shuffled = make(seed=3)
    for step in (7, 0, 8, 3, 3, 1, 6, 0, 5):
        assert_same_batches(shuffled(step), expected[step])
    assert_same_batches(make(seed=3)(4), expected[4])
    assert all(differ(make(seed=4)(step), expected[step]) for step in range(9))
    assert all(differ(expected[0], other) for other in expected[1:])


def test_rows_of_a_batch_belong_together():
    clicks = random_clicks(30, 12)
    scores = np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32)
    deal = batches(clicks, lambda rows: scores[rows], objective="match", labels="free", batch_size=8)
    batch = deal(2)
    for shown, target in zip(batch.shown, batch.targets, strict=True):
        (row,) = np.flatnonzero((scores == target).all(axis=1))
        assert_array_equal(shown, clicks[row])


def test_without_held_out_clicks_the_whole_history_is_shown_and_counts():
    batch = batches(random_clicks(30, 12), batch_size=10)(0)
    assert_array_equal(batch.shown, batch.targets)
    assert_array_equal(batch.weights, np.ones((10, 12)))
    assert all(array.dtype == np.float32 for array in batch)


def test_held_out_clicks_are_hidden_and_to_be_found():
    clicks = np.ones((200, 50), np.float32)
    clicks[:, ::3] = 0
    batch = batches(clicks, batch_size=200, held_out=0.3)(0)
    assert_array_equal(batch.targets, clicks)
    other = batches(clicks, batch_size=200, held_out=0.3)(1)
    assert (other.shown != batch.shown).any()
    hidden = (batch.targets == 1) & (batch.shown == 0)
    assert hidden.sum() / clicks.sum() == pytest.approx(0.3, abs=0.02)
    assert hidden.any(axis=0).sum() == clicks.any(axis=0).sum()
    assert not batch.shown[clicks == 0].any()
    assert_array_equal(batch.weights, batch.shown == 0)


@pytest.mark.parametrize("held_out", [0.0, 0.5])
@pytest.mark.parametrize("labels", ["clicks", "free"])
def test_scores_are_matched_where_nothing_was_clicked_and_by_free_labels_everywhere(labels, held_out):
    clicks = random_clicks(30, 12)
    scores = np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32)
    whole, deal = (
        batches(clicks, lambda rows: scores[rows], objective="match", labels=labels, held_out=share, batch_size=30)(0)
        for share in (0.0, held_out)
    )
    assert_array_equal(deal.targets, whole.targets)
    assert (deal.shown <= whole.shown).all()
    assert (deal.shown < whole.shown).any() == (held_out > 0)
    expected = np.ones((30, 12)) if labels == "free" else whole.shown == 0
    assert_array_equal(deal.weights, expected)


def test_nothing_is_held_out_where_users_are_named():
    clicks = random_clicks(30, 12)
    batch = batches(clicks, held_out=0.5).of(np.array([4, 2]))
    assert_array_equal(batch.shown, clicks[[4, 2]])
    assert_array_equal(batch.targets, clicks[[4, 2]])


def test_the_clicks_handed_in_are_left_alone():
    matrix = sp.csr_matrix(random_clicks(30, 12))
    before = matrix.copy()
    deal = Batches(matrix, Config(objective="squared", held_out=0.5), None)
    deal(0)
    deal.mean_square()
    assert (matrix != before).nnz == 0


@pytest.mark.parametrize(
    ("labels", "objective", "held_out"),
    [
        ("clicks", "squared", 0.0),
        ("clicks", "squared", 0.3),
        ("clicks", "match", 0.0),
        ("clicks", "match", 0.3),
        ("free", "match", 0.0),
    ],
)
def test_the_mean_square_of_the_targets(labels, objective, held_out):
    clicks = random_clicks(1100, 12)
    scores = np.random.default_rng(0).standard_normal((1100, 12))
    deal = batches(
        clicks,
        given_scores(scores, as_interactions(clicks)) if objective == "match" else None,
        objective=objective,
        labels=labels,
        held_out=held_out,
    )
    if objective == "squared":
        # Where clicks are held out, those that are found count: a share of them all.
        assert 0.2 * clicks.sum() / 1100 < deal.mean_square() <= clicks.sum() / 1100 + 1e-9
        assert held_out or deal.mean_square() == pytest.approx(clicks.sum() / 1100)
    else:
        counted = scores[clicks == 0] if labels == "clicks" else scores
        assert deal.mean_square() == pytest.approx((counted**2).sum() / 1100)


@pytest.mark.parametrize("size", [1, 7, 30, 99])
def test_blocks_cover_all_users(size):
    blocks = batches(random_clicks(30, 12)).blocks(size)
    assert_array_equal(np.concatenate(blocks), np.arange(30))
    assert max(block.size for block in blocks) <= size


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros((3, 5)), r"X's shape \(3, 4\), got float64 \(3, 5\)"),
        (np.zeros(12), r"got float64 \(12,\)"),
        (np.full((3, 4), "a"), "must be numbers"),
        (np.zeros((3, 4), complex), "must be numbers"),
        (sp.csr_matrix(np.ones((3, 4))), "must be numbers"),
        (np.where(np.eye(3, 4), np.nan, 0), "NaN or infinity"),
        (np.where(np.eye(3, 4), -np.inf, 0), "NaN or infinity"),
    ],
)
def test_bad_scores_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        given_scores(scores, as_interactions(np.ones((3, 4))))


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, lambda scores: scores > 0])
def test_scores_are_given_row_by_row(form):
    scores, clicks = np.random.default_rng(0).standard_normal((5, 4)), np.ones((5, 4))
    rows = given_scores(form(scores), as_interactions(clicks))(np.array([3, 0]))
    assert rows.dtype == np.float32
    assert_allclose(rows, np.asarray(form(scores), float)[[3, 0]], rtol=1e-6)
    clicks[[1, 3]] = 0  # users who are left out, with their scores
    rows = given_scores(form(scores), as_interactions(clicks))(np.array([2, 0, 1]))
    assert_allclose(rows, np.asarray(form(scores), float)[[4, 0, 2]], rtol=1e-6)


# --- one step -------------------------------------------------------------------------------------

FEW = {"n_users": N_SYNTHETIC, "n_draws": 6, "steps": 40, "learning_rate": 0.01, "reg": 0.5, "sharpness": 0.0}
FORMS = [
    {"objective": "squared"},
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


# --- validation -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged():
    """A split, a student and some support clicks over its items."""
    clicks = oracles.random_interactions(40, 20, seed=1, density=0.5)
    split = infae.data.random_split(clicks, fractions=(0.5, 0.2, 0.3), seed=3)
    return split, Student(ReluNTK(), PLAIN), jnp.asarray(soft(6, 20, dtype=np.float32))


def test_a_fitted_student_predicts_in_batches(judged, monkeypatch):
    split, student, clicks = judged
    fitted = Fitted(student, Support(clicks, clicks, jnp.float32(0.5)), split.train.item_ids)
    expected = student.predict(student.fit(Support(clicks, clicks, 0.5)), split.train.matrix.toarray())
    assert_allclose(fitted.predict(split.train), expected, **tolerance("float32"))
    for step in (8, 13, 39):
        monkeypatch.setattr("distillcf.validate.batch_size", lambda n_items, step=step: step)
        assert_allclose(fitted.predict(split.train), expected, **tolerance("float32"))


@pytest.mark.parametrize("held_out", [0.0, 0.5])
def test_free_labels_are_solved_from_all_users(judged, held_out, monkeypatch):
    split, student, clicks = judged
    scores = np.random.default_rng(0).standard_normal(split.train.shape)
    config = Config(labels="free", label_penalty=0.1, held_out=held_out)
    deal = Batches(split.train.matrix, config, given_scores(scores, split.train))
    blocks = Batches.blocks
    monkeypatch.setattr(Batches, "blocks", lambda self, size: blocks(self, 16))
    support = Judge(student, config, deal, split.train.item_ids, split).support(clicks, 0.5)
    phi = np.asarray(student.smoother(clicks, 0.5, split.train.matrix.toarray()), np.float64)
    assert_allclose(support.labels, oracles.ridge(phi.T @ phi, phi.T @ scores, 0.1), rtol=1e-3, atol=1e-4)
    assert_array_equal(support.clicks, clicks)
    assert support.reg == 0.5


def test_the_best_reg_of_a_grid_is_chosen_by_the_metric(judged):
    split, student, clicks = judged
    grid = (1e-3, 0.1, 50.0)
    config = Config(reg=grid, metric="NDCG@5")
    judge = Judge(student, config, Batches(split.train.matrix, config, None), split.train.item_ids, split)
    values = {}
    for reg in grid:
        fitted = Fitted(student, Support(clicks, clicks, jnp.float32(reg)), split.train.item_ids)
        values[reg] = infae.evaluate(fitted, split, on="validation", k=(5,))["NDCG@5"]
    assert len(set(values.values())) > 1
    assert judge.best(clicks, 7.0) == (max(values.values()), max(values, key=values.get))
    held = Judge(student, Config(metric="NDCG@5"), None, split.train.item_ids, split)
    assert held.best(clicks, 0.1) == (values[0.1], 0.1)


def test_without_validation_there_is_nothing_to_choose_by(judged):
    split, student, clicks = judged
    judge = Judge(student, Config(reg=(1.0, 2.0)), None, split.train.item_ids, None)
    value, reg = judge.best(clicks, 2.0)
    assert math.isnan(value)
    assert math.isnan(judge.value(judge.support(clicks, 2.0)))
    assert reg == 2.0


def test_a_support_that_cannot_be_solved_is_the_worst(judged):
    split, student, clicks = judged
    same = jnp.tile(clicks[:1], (6, 1))
    judge = Judge(Student(lambda x, z=None: -student.kernel(x, z), PLAIN), Config(), None, split.train.item_ids, split)
    assert judge.value(judge.support(same, 1.0)) == -math.inf
    assert judge.best(same, 1.0) == (-math.inf, 1.0)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "soft"}, "labels must be one of clicks, free, got 'soft'"),
        ({"sampler": "hard"}, "sampler must be one of expected, gumbel"),
        ({"objective": "mse"}, "objective must be one of match, squared, softmax, logistic"),
        ({"objective": None}, "objective must be one of"),
        *(
            ({name: value}, f"{name} must be a whole number of at least 1")
            for name in ("n_users", "n_draws", "steps", "batch_size", "validate_every")
            for value in (0, -1, 2.0, True, "5", None)
        ),
        *(
            ({name: value}, f"{name} must be a whole number of at least 0")
            for name in ("patience", "seed")
            for value in (-1, 1.0, False, None)
        ),
        *(({name: 0}, f"{name} must be above 0, got 0") for name in ("temperature", "learning_rate", "reg")),
        *(({name: -1e-9}, f"{name} must be at least 0, got -1e-09") for name in ("l1", "sharpness", "label_penalty")),
        *(
            ({name: value}, f"{name} must be a finite number")
            for name in ("temperature", "learning_rate", "reg", "l1", "sharpness", "label_penalty", "held_out")
            for value in (math.nan, math.inf, "1", True)
        ),
        ({"l1": None}, "l1 must be a finite number, got None"),
        ({"held_out": -0.1}, "held_out must be at least 0 and below 1, got -0.1"),
        ({"held_out": 1.0}, "held_out must be at least 0 and below 1"),
        ({"reg": (1.0, 0.0)}, "reg must be above 0, got 0.0"),
        ({"reg": [1.0, "2"]}, "reg must be a finite number, got '2'"),
        ({"reg": np.array([1.0, 2.0])}, "reg must be a finite number"),
        ({"metric": "HR"}, "unknown metric 'HR'"),
        ({"metric": 10}, "unknown metric 10"),
        ({"reg": ()}, "reg is an empty sequence"),
        ({"reg": []}, "reg is an empty sequence"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@pytest.mark.parametrize(("labels", "sharpness"), [("clicks", 0.003), ("free", 0.0)])
def test_the_sharpness_left_open_goes_by_the_labels(labels, sharpness):
    assert Config(labels=labels).sharpness == Config(labels=labels, sharpness=None).sharpness == sharpness
    assert Config(labels=labels, sharpness=0.5).sharpness == 0.5
    assert Config(labels=labels, sharpness=0).sharpness == 0


@pytest.mark.parametrize(
    ("reg", "grid"), [(None, ()), (2, (2,)), (0.5, (0.5,)), ((1.0, 5.0), (1.0, 5.0)), ([1.0, 5.0], (1.0, 5.0))]
)
def test_the_grid_of_regs(reg, grid):
    assert Config(reg=reg).reg_grid == grid


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reg": (1.0, 2.0)},
        {"reg": [1, 2]},
        {"n_users": np.int64(5), "temperature": np.float32(0.5), "reg": [np.float32(1)], "labels": np.str_("free")},
    ],
    ids=str,
)
def test_settings_are_records_that_give_them_back(settings):
    config = Config(**settings)
    record = json.loads(json.dumps(config.as_dict()))
    assert record == config.as_dict()
    assert Config(**record).as_dict() == config.as_dict()
