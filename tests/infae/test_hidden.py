"""Validation without a held-out set: against models honestly fitted without each user."""

import numpy as np
import oracles
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, tolerance

import infae
from infae import Interactions
from infae.kernels.grams import symmetric_gram
from infae.linalg.tiles import precision
from infae.solvers.exact import factor
from infae.tuning.holdout import HiddenClicks, hide

REG = 0.7
SETTINGS = [
    {},
    {"depth": 0, "popularity_power": -0.5},
    {"depth": 2, "row_power": 0.5, "b_std": 0.0, "popularity_power": -0.25},
]


def hidden_clicks(clicks, dtype="float64", **params):
    fitted = infae.fit(clicks, REG, dtype=dtype, **params)._fitted
    with precision(np.dtype(dtype)):
        return HiddenClicks(fitted, factor(symmetric_gram(fitted.kernel, fitted.anchors), REG).inverse)


def without(train, user, history, *, popularity_power=0.0, row_power=0.0, **network):
    """Scores of a history by ridge regression on the other rows, with the ridge and the weights of all."""
    rows = oracles.input_rows(train, train, popularity_power, row_power)
    given = oracles.input_rows(history[None], train, popularity_power, row_power)
    gram, others = oracles.relu_ntk(rows, rows, **network), np.arange(len(train)) != user
    system = gram[np.ix_(others, others)] + REG * np.trace(gram) / len(gram) * np.eye(others.sum())
    return (oracles.relu_ntk(given, rows[others], **network) @ np.linalg.solve(system, train[others]))[0]


@pytest.fixture(scope="module")
def shown(clicks):
    """The clicks less one of each user who has two, or more."""
    rng = np.random.default_rng(5)
    dense = clicks.matrix.toarray()
    for row in dense:
        items = np.flatnonzero(row)
        if items.size > 1:
            row[rng.choice(items, max(1, items.size // 3), replace=False)] = 0
    return Interactions.from_matrix(dense, clicks.user_ids, clicks.item_ids)


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_scores_are_those_of_a_fit_without_the_user(settings, dtype, clicks, shown, small_tiles):
    scores = hidden_clicks(clicks, dtype.name, **settings).predict(shown)
    assert scores.dtype == dtype
    train, histories = clicks.matrix.toarray(), shown.matrix.toarray()
    expected = [without(train, user, histories[user], **settings) for user in range(24)]
    assert_allclose(scores, expected, **tolerance(dtype))
    # The user's own clicks do count for who is not left out.
    assert np.abs(scores - infae.fit(clicks, REG, **settings).predict(shown)).max() > 0.01


def test_of_whole_histories_they_are_the_leave_one_out_scores(clicks):
    model = infae.fit(clicks, REG, dtype="float64", row_power=0.5)
    scores = hidden_clicks(clicks, row_power=0.5).predict(clicks)
    assert_allclose(scores, model.leave_one_out(np.arange(24)), **tolerance("float64"))


@pytest.mark.slow
@pytest.mark.parametrize("names", [np.arange(24) * 7 % 24, [f"user {i}" for i in range(24)]], ids=["mixed", "strings"])
def test_users_are_found_by_their_ids_in_any_order(names, clicks, shown, small_tiles):
    named, some = (Interactions(x.matrix, np.asarray(names), x.item_ids) for x in (clicks, shown))
    model, turned = hidden_clicks(named), np.array([17, 3, 23, 0, 16])
    expected = hidden_clicks(clicks).predict(shown)
    assert_allclose(model.predict(some.select_users(turned)), expected[turned], **tolerance("float64"))
    assert_allclose(model.predict(some.select_users(np.array([9]))), expected[[9]], **tolerance("float64"))


# --- what is hidden -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def users():
    """90 users, every tenth with a single click, ids of their own."""
    dense = random_clicks(90, 40, seed=3)
    dense[::10] = 0
    dense[::10, 4] = 1
    return Interactions.from_matrix(dense, 1000 - np.arange(90))


def test_shown_and_hidden_clicks_make_up_the_history(users):
    split = hide(users, np.random.default_rng(0))
    assert split.train is users
    able = np.flatnonzero(users.matrix.toarray().sum(axis=1) >= 2)
    for part in (split.validation, split.validation_context):
        assert_array_equal(part.user_ids, users.user_ids[able])
        assert part.matrix.has_sorted_indices
    hidden, rest = split.validation.matrix.toarray(), split.context("validation").matrix.toarray()
    assert not (hidden * rest).any()
    assert_array_equal(hidden + rest, users.matrix.toarray()[able])


def test_a_fifth_of_each_users_clicks_is_hidden_and_at_least_one(users):
    split = hide(users, np.random.default_rng(0))
    hidden, rest = (x.matrix.toarray().sum(axis=1) for x in (split.validation, split.validation_context))
    assert rest.min() >= 1
    for n, of in zip(hidden, hidden + rest, strict=True):
        assert n == max(1, round(of / 5))


def test_at_most_2048_users_and_every_click_as_likely():
    many = Interactions.from_matrix(np.ones((3000, 5)))
    split = hide(many, np.random.default_rng(0))
    assert np.unique(split.validation.user_ids).size == split.validation.n_users == 2048
    assert split.validation.user_ids.max() > 2900
    # Standard deviation about 18 for each of 5 items.
    assert np.abs(split.validation.matrix.toarray().sum(axis=0) - 2048 / 5).max() < 90


def test_what_is_hidden_is_the_generators_doing(users):
    first, again, other = (hide(users, np.random.default_rng(seed)).validation.matrix.toarray() for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert (first != other).any()


def test_soft_clicks_keep_their_values(users):
    soft = users.matrix.copy()
    soft.data = np.linspace(0.1, 1, soft.nnz, dtype=np.float32)
    split = hide(users.with_matrix(soft), np.random.default_rng(0))
    both = split.validation.matrix + split.validation_context.matrix
    rows = np.flatnonzero(np.diff(soft.indptr) >= 2)
    assert_array_equal(both.toarray(), soft[rows].toarray())


def test_nobody_with_two_clicks_is_an_error():
    with pytest.raises(ValueError, match="no user has two clicks"):
        hide(Interactions.from_matrix(np.eye(4)), np.random.default_rng(0))
