"""Batches of real users."""

from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from made_batches import as_interactions, batches
from numpy.testing import assert_array_equal
from oracles import random_clicks

from distillcf.batches import Batches
from distillcf.config import Config
from distillcf.inner import given_scores


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
