"""Flipping: how many items of each user change, which, and that nothing else does."""

import numpy as np
import pytest

from experiments.infinite import flips
from experiments.infinite.flips import flip
from infae import Interactions


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_every_user_has_that_many_items_flipped(named, share):
    before = named.matrix.toarray()
    after = flip(named, share, np.random.default_rng(0))
    assert ((before != after.matrix.toarray()).sum(axis=1) == round(share * 8)).all()
    np.testing.assert_array_equal(after.user_ids, named.user_ids)
    np.testing.assert_array_equal(after.item_ids, named.item_ids)


def test_the_matrix_is_as_interactions_are(clicks):
    matrix = flip(clicks, 0.3, np.random.default_rng(1)).matrix
    again = Interactions.from_matrix(matrix.toarray()).matrix
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(matrix, name), getattr(again, name))
    assert matrix.dtype == np.float32


def test_all_items_are_flipped_equally_often():
    empty = Interactions.from_matrix(np.eye(1, 10)).select_users(np.zeros(4000, int))
    n = np.asarray(flip(empty, 0.3, np.random.default_rng(2)).matrix.sum(axis=0)).ravel()
    n[0] = 4000 - n[0]
    assert (abs(n - 1200) < 5 * np.sqrt(4000 * 0.3 * 0.7)).all()


def test_draws_depend_on_the_generator_and_not_on_the_size_of_steps(clicks, monkeypatch):
    first = flip(clicks, 0.3, np.random.default_rng(3)).matrix
    assert (first != flip(clicks, 0.3, np.random.default_rng(4)).matrix).nnz
    monkeypatch.setattr(flips, "CELLS", 1)
    assert not (first != flip(clicks, 0.3, np.random.default_rng(3)).matrix).nnz


def test_a_user_may_end_empty_and_repeated_clicks_that_stay_keep_their_count():
    full = Interactions.from_matrix(np.ones((2, 3)))
    assert flip(full, 1.0, np.random.default_rng(0)).n_interactions == 0
    twice = full.with_matrix(2 * full.matrix)
    kept = flip(twice, 1 / 3, np.random.default_rng(0)).matrix
    assert kept.data.tolist() == [2.0] * 4


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(clicks, share):
    with pytest.raises(ValueError, match="share must be"):
        flip(clicks, share, np.random.default_rng(0))
