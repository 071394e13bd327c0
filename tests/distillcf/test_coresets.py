"""Samplers of real clicks: what each keeps, how much of it, and whom first."""

import math

import numpy as np
import oracles
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_interactions

from distillcf import coresets
from distillcf.coresets import CORESETS, Budget, forgetting, head_users, random_users, svp_cf_users
from distillcf.coresets.forgetting import forgetting_counts
from infae import Interactions
from infae.data import load
from infae.data.synthetic import synthetic

SEEDS = st.integers(0, 2**31)
CLICKS = arrays(np.float32, (7, 6), elements=st.sampled_from([0, 0, 1]))
SAMPLERS = list(CORESETS.values())
USER_SAMPLERS = [random_users, head_users, svp_cf_users]
each_sampler = pytest.mark.parametrize("sample", SAMPLERS, ids=CORESETS.keys())
each_user_sampler = pytest.mark.parametrize("sample", USER_SAMPLERS, ids=lambda sample: sample.__name__)


@pytest.fixture(scope="module")
def log():
    """60 users x 30 items with 3 to 20 clicks a user."""
    return random_interactions(60, 30, seed=4)


def n_of(clicks):
    return np.diff(clicks.matrix.indptr)


def named(dense):
    """Ids that are unlike positions; users in no alphabetical order."""
    n_users, n_items = dense.shape
    users = [f"u{(5 * k + 3) % n_users}" for k in range(n_users)]
    return Interactions.from_matrix(dense, users, [f"i{n_items - k}" for k in range(n_items)])


def pairs(clicks):
    return set(map(tuple, clicks.to_frame().to_numpy().tolist()))


def assert_same(first, second):
    assert pairs(first) == pairs(second)
    assert first.user_ids.tolist() == second.user_ids.tolist()


def with_clicks(*n_clicks, n_items=12):
    """One user for each number, who clicked the first so many items."""
    return Interactions.from_matrix([[k < n for k in range(n_items)] for n in n_clicks])


# --- what every sampler keeps -----------------------------------------------------------------------


@each_sampler
@given(dense=CLICKS, seed=SEEDS, n=st.integers(1, 7))
def test_a_sample_is_clicks_of_the_original_under_its_ids(sample, dense, seed, n):
    clicks = named(dense)
    assume(n <= np.count_nonzero(n_of(clicks)))
    kept = sample(clicks, n, seed)
    assert pairs(kept) <= pairs(clicks)
    assert kept.item_ids.tolist() == clicks.item_ids.tolist()
    assert kept.user_ids.tolist() == [user for user in clicks.user_ids if user in set(kept.user_ids)]
    assert n_of(kept).all()
    assert kept.matrix.has_canonical_format


@each_user_sampler
@given(dense=CLICKS, seed=SEEDS, n=st.integers(1, 7))
def test_samplers_of_users_keep_all_clicks_of_so_many_users(sample, dense, seed, n):
    clicks = named(dense)
    assume(n <= np.count_nonzero(n_of(clicks)))
    kept = sample(clicks, Budget.users(n), seed)
    assert kept.n_users == n
    assert pairs(kept) == {(user, item) for user, item in pairs(clicks) if user in set(kept.user_ids)}


@each_sampler
def test_all_there_is_can_be_asked_for(sample, log):
    for budget in (60, Budget.interactions(log.n_interactions), Budget.share(1)):
        assert_same(sample(log, budget), log)


@each_sampler
def test_the_seed_alone_decides(sample, log):
    assert_same(sample(log, Budget.share(0.3), 5), sample(log, Budget.share(0.3), 5))
    np.random.seed(0)  # noqa: NPY002
    first = sample(log, 10, 6)
    np.random.seed(1)  # noqa: NPY002
    assert_same(first, sample(log, 10, 6))


@each_sampler
def test_every_form_of_the_same_clicks_gives_the_same_sample(sample, log):
    expected = sample(log, 10, 2)
    for form in (log.matrix, log.matrix.toarray(), log.to_frame()):
        assert_same(sample(form, 10, 2), expected)


@each_sampler
def test_the_original_stays_as_it_is(sample, log):
    before = log.matrix.toarray()
    sample(log, 5).matrix.data[:] = 9
    assert_array_equal(log.matrix.toarray(), before)


@each_sampler
def test_a_click_held_twice_is_one_interaction_and_stays_twice(sample, log):
    twice = log.with_matrix(2 * log.matrix)
    kept = sample(twice, Budget.interactions(100), 3)
    assert (kept.matrix.data == 2).all()
    assert_same(kept, sample(log, Budget.interactions(100), 3))


@each_sampler
def test_real_and_hand_made_splits_are_sampled(sample):
    assert sample(load("tiny").train, 5).n_items == 15


# --- budgets ----------------------------------------------------------------------------------------


@given(dense=CLICKS, seed=SEEDS, data=st.data())
def test_random_interactions_are_exactly_as_many_as_asked_for(dense, seed, data):
    assume(dense.any())
    n = data.draw(st.integers(1, int(dense.sum())))
    assert coresets.random_interactions(dense, Budget.interactions(n), seed).n_interactions == n


@pytest.mark.parametrize(("n_users", "expected"), [(1, 3), (2, 7), (3, 10)])
def test_random_interactions_of_so_many_average_users(n_users, expected):
    # 10 clicks of three users; the others have none and do not count.
    clicks = with_clicks(1, 0, 3, 6, 0)
    assert coresets.random_interactions(clicks, n_users).n_interactions == expected


@pytest.mark.parametrize(("share", "expected"), [(0.5, 20), (0.29, 12), (0.001, 1), (1.0, 40), (np.float64(0.1), 4)])
def test_a_share_is_of_all_interactions_and_rounded(share, expected):
    assert coresets.random_interactions(with_clicks(10, 10, 0, 10, 10), Budget.share(share)).n_interactions == expected


@each_user_sampler
def test_a_plain_number_is_a_number_of_users(sample, log):
    for n in (7, np.int32(7)):
        assert_same(sample(log, n, 1), sample(log, Budget.users(7), 1))


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (9, [9]),
        (14, [9]),
        (15, [9, 6]),
        (16, [9, 6]),
        (17, [9, 6]),
        (19, [9, 6, 4]),
        (21, [9, 6, 4]),
        (22, [9, 6, 4, 3]),
    ],
)
def test_users_are_taken_while_they_fit_and_nobody_out_of_turn(budget, expected):
    # With 14, users of 4 and 3 clicks would fit after the first; the user of 6 ends the sample.
    kept = head_users(with_clicks(3, 9, 0, 4, 6), Budget.interactions(budget))
    assert sorted(n_of(kept).tolist(), reverse=True) == expected


@each_user_sampler
def test_one_user_is_taken_even_over_budget(sample):
    kept = sample(with_clicks(5, 8, 0, 6), Budget.interactions(1))
    assert kept.n_users == 1
    assert kept.n_interactions > 1


@pytest.mark.slow
@each_user_sampler
@given(dense=CLICKS, seed=SEEDS, data=st.data())
def test_samplers_of_users_stay_within_a_budget_of_interactions(sample, dense, seed, data):
    assume(dense.any())
    budget = data.draw(st.integers(1, int(dense.sum())))
    kept = sample(dense, Budget.interactions(budget), seed)
    assert kept.n_interactions <= budget or kept.n_users == 1
    # The next one would have passed the budget.
    if kept.n_users < np.count_nonzero(dense.any(axis=1)):
        assert sample(dense, kept.n_users + 1, seed).n_interactions > budget


# --- whom the random samplers draw ------------------------------------------------------------------


def chi_square(counts):
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


def test_every_user_is_equally_likely():
    clicks = with_clicks(1, 2, 0, 5, 12, 3, 1)
    counts = sum(np.isin(clicks.user_ids, random_users(clicks, 2, seed).user_ids) for seed in range(1500))
    assert counts[2] == 0
    # 500 draws each. Chi-square of 5 degrees of freedom is beyond 20.5 once in a thousand.
    assert chi_square(np.delete(counts, 2)) < 20.5


def test_every_pair_of_users_is_equally_likely():
    clicks = with_clicks(1, 2, 5, 9)
    counts = np.zeros((4, 4))
    for seed in range(1200):
        counts[tuple(random_users(clicks, 2, seed).user_ids)] += 1
    # 6 pairs, 200 each; 5 degrees of freedom.
    assert chi_square(counts[np.triu_indices(4, 1)]) < 20.5


def test_every_click_is_equally_likely():
    dense = with_clicks(1, 3, 0, 6, n_items=6).matrix.toarray()
    users, items = np.nonzero(dense)
    counts = np.zeros_like(dense)
    for seed in range(1500):
        kept = coresets.random_interactions(dense, Budget.interactions(4), seed)
        counts[kept.user_ids] += kept.matrix.toarray()
    assert counts[dense == 0].sum() == 0
    # 10 clicks, 600 each; 9 degrees of freedom: beyond 27.9 once in a thousand.
    assert chi_square(counts[users, items]) < 27.9


# --- head users -------------------------------------------------------------------------------------


@given(dense=CLICKS, seed=SEEDS, n=st.integers(1, 7))
def test_head_users_are_the_first_of_a_sorted_list(dense, seed, n):
    n_clicks = dense.sum(axis=1).tolist()
    assume(n <= sum(map(bool, n_clicks)))
    kept = head_users(dense, n, seed)
    assert sorted(n_of(kept).tolist(), reverse=True) == sorted(n_clicks, reverse=True)[:n]
    assert kept.user_ids.tolist() == sorted(kept.user_ids)


def test_equally_active_users_are_drawn_by_the_seed():
    clicks = with_clicks(4, 9, 4, 4, 1)
    drawn = [set(head_users(clicks, 2, seed).user_ids.tolist()) - {1} for seed in range(300)]
    counts = np.array([drawn.count({user}) for user in (0, 2, 3)])
    assert counts.sum() == 300
    # 2 degrees of freedom.
    assert chi_square(counts) < 13.8


# --- SVP-CF -----------------------------------------------------------------------------------------


def slow_inverse_auc(dense, scores):
    """(n_users,) every pair of a click and a non-click by itself."""
    aucs = [oracles.pair_auc(scores[row > 0].tolist(), scores[row == 0].tolist()) for row in dense]
    return np.array([0.0 if math.isnan(auc) else 1 - auc for auc in aucs])


@given(CLICKS, arrays(np.float64, 6, elements=st.sampled_from([-2.0, -0.0, 0.0, 0.5, 3.0])))
def test_inverse_auc_is_the_share_of_pairs_in_the_wrong_order(dense, scores):
    matrix = Interactions.from_matrix(dense).matrix
    assert_allclose(forgetting.inverse_auc(matrix, scores), slow_inverse_auc(dense, scores), atol=1e-12)


def test_users_who_clicked_nothing_or_everything_have_nothing_to_forget():
    assert forgetting_counts([[0, 0, 0], [1, 1, 1], [1, 0, 0]])[:2].tolist() == [0, 0]
    assert forgetting_counts(np.ones((3, 4))).tolist() == [0, 0, 0]
    assert svp_cf_users(np.ones((3, 4)), 2).n_users == 2


def test_forgetting_counts_are_means_over_the_ends_of_epochs(log, monkeypatch):
    seen = []
    exact = forgetting.inverse_auc
    monkeypatch.setattr(forgetting, "inverse_auc", lambda m, scores: (seen.append(scores.copy()), exact(m, scores))[1])
    counts = forgetting_counts(log, 3, epochs=4, learning_rate=0.001)
    dense = log.matrix.toarray()
    # Four epochs of one proxy, which goes on from where it is.
    assert len(seen) == 4
    assert np.abs(seen[3]).max() > 2 * np.abs(seen[0]).max()
    assert_allclose(counts, np.mean([slow_inverse_auc(dense, scores) for scores in seen], axis=0), atol=1e-12)


def test_steps_are_adam_on_the_bpr_loss():
    """Three steps of one pair set, with Adam by hand and gradients by differences."""
    liked, passed = np.array([0, 0, 3, 1]), np.array([2, 2, 0, 3])

    def loss(b):
        return sum(math.log1p(math.exp(b[j] - b[i])) for i, j in zip(liked, passed, strict=True))

    bias, mean, square = np.zeros(5), np.zeros(5), np.zeros(5)
    proxy = forgetting.untrained(5)
    for step in (1, 2, 3):
        gradient = np.array([(loss(bias + e) - loss(bias - e)) / 2e-6 for e in 1e-6 * np.eye(5)])
        mean, square = 0.9 * mean + 0.1 * gradient, 0.98 * square + 0.02 * gradient**2
        bias = bias - 0.3 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.98**step)) + 1e-8)
        proxy = forgetting.epoch(proxy, liked, passed, 1, 0.3)
        assert proxy.bias.dtype == np.float64
        assert_allclose(proxy.bias, bias, rtol=1e-5, atol=1e-7)


@given(CLICKS, SEEDS)
def test_each_click_meets_a_non_click_of_the_same_user(dense, seed):
    # By itself, or it would not be known whose pair it is.
    for row in dense:
        liked, passed = forgetting.pairs(Interactions.from_matrix(row[None]).matrix, np.random.default_rng(seed))
        if row.all() or not row.any():
            assert liked.size == passed.size == 0
        else:
            assert sorted(liked.tolist()) == np.flatnonzero(row).tolist()
            assert not row[passed].any()
    liked, passed = forgetting.pairs(Interactions.from_matrix(dense).matrix, np.random.default_rng(seed))
    others = dense[~dense.all(axis=1)]
    assert_array_equal(np.bincount(liked, minlength=6), others.sum(axis=0))
    for i, j in zip(liked, passed, strict=True):
        assert ((dense[:, i] == 1) & (dense[:, j] == 0)).any()


def test_every_non_click_is_equally_likely_to_be_met():
    dense = np.array([[1, 0, 1, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0, 0]], np.float32)
    matrix = Interactions.from_matrix(dense).matrix
    rng = np.random.default_rng(0)
    met = np.zeros((2, 8))
    for _ in range(1000):
        liked, passed = forgetting.pairs(matrix, rng)
        np.add.at(met, (np.where(liked == 1, 1, 0), passed), 1)
    assert met[dense > 0].sum() == 0
    # 4000 over 4 items, and 1000 over 7.
    assert chi_square(met[0][dense[0] == 0]) < 16.3
    assert chi_square(met[1][dense[1] == 0]) < 22.5


def test_the_proxy_comes_to_rank_by_popularity():
    clicks = synthetic(400, 60, n_groups=1, mean_clicks=12, seed=2).interactions
    popularity = np.asarray(clicks.matrix.sum(axis=0)).ravel()
    rng = np.random.default_rng(0)
    proxy = forgetting.untrained(60)
    for _ in range(10):
        proxy = forgetting.epoch(proxy, *forgetting.pairs(clicks.matrix, rng), 100, 0.02)
    places = [np.argsort(np.argsort(x)) for x in (proxy.bias, popularity)]
    assert np.corrcoef(*places)[0, 1] > 0.97


def planted(seed=0):
    """Ordinary users click popular items; users 50 to 59 click only the others."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((200, 60), np.float32)
    for user in range(200):
        hard = 50 <= user < 60
        dense[user, rng.choice(np.arange(30, 60) if hard else np.arange(30), 10, replace=False)] = 1
    return dense


@pytest.mark.parametrize("seed", range(3))
def test_svp_cf_takes_users_of_unpopular_taste_first(seed):
    kept = svp_cf_users(planted(seed), 10, seed)
    assert kept.user_ids.tolist() == list(range(50, 60))
    assert svp_cf_users(planted(seed), Budget.interactions(57), seed).n_users == 5


def test_svp_cf_takes_users_in_descending_order_of_their_counts(log):
    # The same generator state, so the same counts.
    counts = forgetting_counts(log, 8)
    for n in (1, 13, 40):
        chosen = sorted(sorted(range(60), key=lambda user: -counts[user])[:n])
        assert svp_cf_users(log, n, 8).user_ids.tolist() == chosen


def test_users_with_equal_counts_are_drawn_by_the_seed():
    # Each of 30 users clicked the same: whatever the proxy learns, their counts are one.
    clicks = with_clicks(*[5] * 30)
    drawn = {svp_cf_users(clicks, 1, seed, epochs=1).user_ids.item() for seed in range(40)}
    assert len(drawn) > 10


def test_the_proxys_settings_are_passed_on(log):
    plain, other = svp_cf_users(log, 20, 1), svp_cf_users(log, 20, 1, epochs=1, batches=1, learning_rate=1e-4)
    counts = forgetting_counts(log, 1, epochs=1, batches=1, learning_rate=1e-4)
    assert set(other.user_ids) != set(plain.user_ids)
    assert counts[other.user_ids].min() >= np.delete(counts, other.user_ids).max()


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, True, np.bool_(True), 2.0, 0.1, np.float64(3), "3", None, math.nan])
def test_a_budget_that_is_no_whole_number_of_at_least_one(size):
    for make in (Budget.users, Budget.interactions):
        with pytest.raises(ValueError, match=r"whole number of at least 1, got .*Budget\.share"):
            make(size)
    for sample in SAMPLERS:
        with pytest.raises(ValueError, match="a budget of users must be a whole number of at least 1"):
            sample(np.eye(4), size)


@pytest.mark.parametrize("size", [0, -0.1, 1.01, 10, True, np.bool_(True), "0.1", None, math.nan, math.inf])
def test_a_share_that_is_none(size):
    with pytest.raises(ValueError, match="above 0 and at most 1, got"):
        Budget.share(size)


@pytest.mark.parametrize("unit", ["user", "items", "", None])
def test_an_unknown_unit(unit):
    with pytest.raises(ValueError, match="unit must be one of 'users', 'interactions', 'share', got"):
        Budget(3, unit)


@each_sampler
def test_more_than_there_is(sample):
    clicks = with_clicks(2, 0, 3)
    with pytest.raises(ValueError, match=r"at most the 2 users there are .*, got 3; ask for fewer"):
        sample(clicks, 3)
    with pytest.raises(ValueError, match=r"at most the 5 interactions there are .*, got 6; ask for fewer"):
        sample(clicks, Budget.interactions(6))


@each_sampler
def test_data_without_clicks_or_that_is_no_clicks(sample):
    with pytest.raises(ValueError, match="no clicks to draw from: all 3 users have empty rows"):
        sample(np.zeros((3, 2)), Budget.share(0.5))
    with pytest.raises(ValueError, match="expected columns user_id and item_id"):
        sample(pd.DataFrame({"user": [1], "item": [2]}), 1)
    with pytest.raises(ValueError, match="expected Interactions, a SciPy sparse or dense"):
        sample("clicks", 1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number of at least 1, got 1.5"),
        ({"batches": True}, "batches must be a whole number of at least 1, got True"),
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0, got 0"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number above 0, got nan"),
        ({"learning_rate": math.inf}, "learning_rate must be a finite number above 0, got inf"),
    ],
)
def test_settings_of_the_proxy_that_are_none(setting, message):
    with pytest.raises(ValueError, match=message):
        svp_cf_users(np.eye(4), 1, **setting)


@each_sampler
@pytest.mark.parametrize("seed", [-1, None, 1.5, True, "0", 2**63])
def test_seeds_are_whole_numbers(sample, seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0"):
        sample(np.eye(4), 1, seed)


def test_a_budget_does_not_change():
    with pytest.raises(AttributeError):
        Budget.users(3).size = 4
    assert Budget.users(3) == Budget(3)
