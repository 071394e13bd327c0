"""Bias only, against least squares over all cells."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

import infae
from experiments.recommenders import BiasOnly, PopRec
from experiments.recommenders import bias as module
from experiments.recommenders import registry as models
from infae.data.synthetic import synthetic


@pytest.fixture(scope="module")
def soft(clicks):
    """The clicks with values in (0, 1], a user of every item, one of none, and an item of nobody."""
    dense = clicks.matrix.toarray()
    dense[3], dense[5] = 1, 0
    dense *= np.random.default_rng(0).uniform(0.05, 1, dense.shape)
    return infae.Interactions.from_matrix(np.column_stack([dense, np.zeros(len(dense))]))


def cell_weights(dense):
    """A click weighs its value; a user's other items share as much among them."""
    weights = dense.astype(float).copy()
    for row in weights:
        others = row == 0
        if others.any():
            row[others] = row.sum() / others.sum()
    return weights


def dense_scores(dense, ridge):
    """By the singular values of the design matrix, a row a cell."""
    (n_users, n_items), weights = dense.shape, cell_weights(dense).ravel()
    u, i = (index.ravel() for index in np.indices(dense.shape))
    design = np.column_stack([np.ones(u.size), np.eye(n_users)[u], np.eye(n_items)[i]])
    penalty = np.sqrt(ridge) * np.eye(design.shape[1])[1:]
    rows = np.vstack([np.sqrt(weights)[:, None] * design, penalty])
    wanted = np.concatenate([np.sqrt(weights) * (dense.ravel() > 0), np.zeros(len(penalty))])
    return (design @ np.linalg.lstsq(rows, wanted)[0]).reshape(dense.shape)


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 30.0])
def test_it_is_least_squares_over_all_cells(ridge, soft):
    assert_allclose(BiasOnly(ridge).fit(soft).predict(soft), dense_scores(soft.matrix.toarray(), ridge), atol=1e-7)


def test_items_not_clicked_weigh_as_much_as_clicks(soft):
    dense = soft.matrix.toarray()
    weights = module.Weights.of(soft.matrix)
    found = weights.others[:, None] + weights.beyond.toarray()
    assert_allclose(found, cell_weights(dense), rtol=1e-6)
    assert_allclose((found * (dense == 0)).sum(1)[:3], dense.sum(1)[:3], rtol=1e-6)


def test_everybody_gets_the_same_order(soft, new_users):
    histories = np.column_stack([new_users, np.zeros(len(new_users))])
    scores = BiasOnly().fit(soft).predict(histories)
    assert_allclose(scores - scores[:, :1], np.tile(scores[0] - scores[0, 0], (len(scores), 1)), atol=1e-12)


def test_a_user_who_has_no_history_has_no_bias(clicks):
    model = BiasOnly().fit(clicks)
    dense = dense_scores(clicks.matrix.toarray(), 1.0)
    # Rows differ by beta_u alone, and users' biases add up to 0 without clicks: alpha is the one at liberty.
    nothing = model.predict(np.zeros((1, 16)))[0]
    assert_allclose(np.ptp(dense - nothing, axis=1), 0, atol=1e-7)
    assert_allclose((dense - nothing)[:, 0].sum(), 0, atol=1e-6)


def test_it_does_what_popularity_does():
    split = infae.data.random_split(synthetic(300, 120, n_groups=4, mean_clicks=20, seed=2).interactions, seed=0)
    ours, popular = (infae.evaluate(make().fit(split.train), split)["AUC"] for make in (BiasOnly, PopRec))
    assert ours == pytest.approx(popular, abs=0.01)


def test_no_clicks_are_no_biases():
    assert_array_equal(BiasOnly().fit(sp.csr_matrix((3, 4))).predict(np.zeros((2, 4))), np.zeros((2, 4)))


@pytest.mark.parametrize("ridge", [0.0, -1.0, np.nan, np.inf])
def test_a_bad_ridge_is_refused(ridge, clicks):
    with pytest.raises(ValueError, match="ridge must be a finite number above 0"):
        BiasOnly(ridge).fit(clicks)


def test_equations_not_solved_are_told(monkeypatch, clicks):
    monkeypatch.setattr(module, "cg", lambda *args, **kwargs: (np.zeros(41), 1))
    with pytest.raises(FloatingPointError, match=r"residual .* with ridge = 0.5; use a larger one"):
        BiasOnly(0.5).fit(clicks)


def test_of_equally_good_ridges_the_largest_is_taken(monkeypatch, clicks):
    value = {0.1: 0.2, 1.0: 0.3, 10.0: 0.3, 100.0: 0.1}
    monkeypatch.setattr(models, "held_out_metrics", lambda model, *args: {"value": value[model.ridge]})
    split = infae.data.random_split(clicks, seed=0)
    model, found = models.choose_bias(split.train, split, models.Search())
    assert found["ridge"] == 10.0
    assert {row["ridge"]: row["HR@100"] for row in found["tried"]} == value
    assert model.ridge == 10.0
