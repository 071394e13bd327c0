"""Validation of supports: scores, free labels, the best reg."""

import math

import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from made_batches import PLAIN, soft
from numpy.testing import assert_allclose, assert_array_equal
from oracles import tolerance

import infae
from distillcf.batches import Batches
from distillcf.config import Config
from distillcf.inner import Student, Support, given_scores
from distillcf.validate import Fitted, Judge
from infae.kernels import ReluNTK


@pytest.fixture(scope="module")
def judged():
    """A split, a student and some support clicks over its items."""
    clicks = oracles.random_interactions(40, 20, seed=1, density=0.5)
    split = infae.data.random_split(clicks, fractions=(0.5, 0.2, 0.3), seed=3)
    return split, Student(ReluNTK(), PLAIN), jnp.asarray(soft(6, 20, dtype=np.float32))


@pytest.mark.slow
def test_a_fitted_student_predicts_in_batches(judged, monkeypatch):
    split, student, clicks = judged
    fitted = Fitted(student, Support(clicks, clicks, jnp.float32(0.5)), split.train.item_ids)
    expected = student.predict(student.fit(Support(clicks, clicks, 0.5)), split.train.matrix.toarray())
    assert_allclose(fitted.predict(split.train), expected, **tolerance("float32"))
    for step in (8, 13, 39):
        monkeypatch.setattr("infae.machine.batch_size", lambda n_items, step=step: step)
        assert_allclose(fitted.predict(split.train), expected, **tolerance("float32"))


@pytest.mark.slow
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
