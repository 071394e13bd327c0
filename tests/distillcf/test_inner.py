"""The inner model: ∞-AE on soft rows, labels solved for, and scores handed in."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from jax.test_util import check_grads
from made_batches import N_ITEMS, N_REAL, N_SYNTHETIC, PLAIN, a_batch, as_interactions, input_map, real_clicks, soft
from numpy.testing import assert_allclose
from oracles import tolerance

import infae
from distillcf.config import Config
from distillcf.inner import Batch, LabelSystem, Student, Support, given_scores
from distillcf.losses import (
    Objective,
    logistic,
    softmax_cross_entropy,
    squared_error,
)
from distillcf.step import _labels
from infae.kernels import ReluNTK
from infae.linalg.tiles import precision


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "holes"),
    [
        (squared_error, True),
        (softmax_cross_entropy, False),
        pytest.param(squared_error, False, marks=pytest.mark.slow),
        pytest.param(softmax_cross_entropy, True, marks=pytest.mark.slow),
        pytest.param(logistic, False, marks=pytest.mark.slow),
        pytest.param(logistic, True, marks=pytest.mark.slow),
    ],
)
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
