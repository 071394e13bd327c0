"""Made-up data: the planted structure is there, and the tiny set's answer is the one that is claimed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infae.data import random_split
from infae.data.synthetic import synthetic, tiny


def own_share(planted):
    """Each click's user and item group agree: the share of all clicks."""
    users, items = planted.interactions.matrix.nonzero()
    return float((planted.user_group[users] == planted.item_group[items]).mean())


def test_the_planted_structure_is_there():
    planted = synthetic(seed=3)
    clicks = planted.interactions
    n = np.diff(clicks.matrix.indptr)
    assert clicks.shape == (600, 400)
    assert n.min() >= 3
    assert abs(n.mean() - 25) < 1
    assert abs(own_share(planted) - 0.8) < 0.02
    assert np.bincount(planted.user_group).tolist() == [75] * 8
    assert np.bincount(planted.item_group).tolist() == [50] * 8
    popularity = np.sort(np.asarray(clicks.matrix.sum(axis=0))[0])[::-1]
    # A tenth of the items has three tenths of the clicks; the flat share would be one.
    assert popularity[:40].sum() > 0.27 * popularity.sum()


def test_zipf_zero_is_flat_and_a_user_can_click_everything():
    flat = np.asarray(synthetic(zipf=0.0).interactions.matrix.sum(axis=0))[0]
    assert flat.max() < 3 * np.median(flat)
    assert (np.diff(synthetic(5, 6, n_groups=2, mean_clicks=6).interactions.matrix.indptr) <= 6).all()


@given(
    st.integers(2, 30),
    st.integers(4, 30),
    st.integers(1, 2),
    st.floats(0, 1),
    st.floats(3, 4),
    st.integers(0, 2**31),
)
@settings(max_examples=40)
def test_any_size_gives_three_distinct_clicks_a_user_by_seed_alone(n_users, n_items, n_groups, focus, mean, seed):
    args = {"n_groups": n_groups, "focus": focus, "mean_clicks": mean, "seed": seed}
    first, again = synthetic(n_users, n_items, **args), synthetic(n_users, n_items, **args)
    matrix = first.interactions.matrix
    assert matrix.shape == (n_users, n_items)
    assert np.diff(matrix.indptr).min() >= 3
    assert matrix.has_canonical_format
    assert (matrix != again.interactions.matrix).nnz == 0
    np.testing.assert_array_equal(first.user_group, again.user_group)


def test_chunks_do_not_change_the_law(monkeypatch):
    monkeypatch.setattr("infae.data.synthetic.CELLS", 500)
    assert abs(own_share(synthetic(seed=1)) - 0.8) < 0.02


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"n_groups": 0}, "n_groups"),
        ({"n_users": 3, "n_groups": 4}, "n_groups must be .* 1 to 3"),
        ({"n_users": 1.5}, "n_users must be a whole number"),
        ({"n_items": None}, "n_items must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": "one"}, "seed must be a whole number"),
        ({"zipf": float("nan")}, "zipf must be a finite number"),
        ({"mean_clicks": "many"}, "mean_clicks must be a finite number"),
        ({"mean_clicks": 2}, "mean_clicks"),
        ({"mean_clicks": 401}, "mean_clicks must be .* at most 400"),
        ({"focus": 1.1}, "focus must be .* at most 1"),
    ],
)
def test_numbers_that_no_data_can_have(args, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**args)


def ease(train, histories, reg):
    gram = train.T @ train + reg * np.eye(train.shape[1])
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return histories @ weights


def ridge(train, histories, reg):
    kernel = train @ train.T
    return histories @ train.T @ np.linalg.solve(kernel + reg * np.eye(len(kernel)), train)


def neighbours(train, histories, reg):
    return histories @ (train.T @ train) / (1 + reg * train.sum(axis=0))


@pytest.mark.parametrize("on", ["validation", "test"])
@pytest.mark.parametrize("reg", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("model", [ease, ridge, neighbours])
def test_the_tiny_sets_missing_item_comes_first_for_every_user(model, reg, on):
    split = tiny()
    context, targets = split.context(on).matrix.toarray(), split.targets(on).matrix.toarray()
    scores = model(split.train.matrix.toarray(), context, reg)
    scores[context > 0] = -np.inf
    asked = targets.sum(axis=1) > 0
    assert asked.sum() == 21
    np.testing.assert_array_equal(scores[asked].argmax(axis=1), targets[asked].argmax(axis=1))


def test_the_tiny_sets_answer_is_not_the_popular_item():
    split = tiny()
    scores = np.tile(split.train.matrix.toarray().sum(axis=0), (split.train.n_users, 1))
    scores[split.context("test").matrix.toarray() > 0] = -np.inf
    targets = split.test.matrix.toarray()
    hits = targets[np.arange(len(targets)), scores.argmax(axis=1)]
    assert hits.sum() < 0.7 * targets.sum()


def test_the_tiny_set_is_as_described():
    split = tiny()
    every = split.context("test").union(split.test)
    assert split.train.shape == (42, 15)
    for user, row in zip(every.user_ids, every.matrix.toarray(), strict=True):
        block = [item.startswith(user[0].lower()) for item in every.item_ids]
        np.testing.assert_array_equal(row, block)
    held_out = split.test.to_frame()
    assert all(f"{user[0].lower()}{user[1]}" == item for user, item in held_out.itertuples(index=False))
    assert not (split.validation.matrix.sum(axis=1).A1 * split.test.matrix.sum(axis=1).A1).any()


def test_synthetic_data_can_be_split():
    split = random_split(synthetic().interactions, seed=1)
    assert split.train.n_users == 600
