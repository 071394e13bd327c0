"""Split protocols: what they promise holds for any log."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st

from infae.data import Interactions, Split, leave_one_out, random_split, time_split, user_split, with_validation

SEEDS = st.integers(0, 2**31)
PARTS = ("train", "validation", "test")


def random_log(seed, n_users=9, n_items=12):
    """Clicks (9, 12) with user ids that are unlike positions; users have 0 to 12 of them."""
    rng = np.random.default_rng(seed)
    dense = rng.random((n_users, n_items)) < rng.random((n_users, 1))
    return Interactions.from_matrix(dense, user_ids=[f"u{k}" for k in rng.permutation(n_users)])


def random_frame(seed, ids=str):
    """A log of 60 rows with repeated pairs, tied times and no order."""
    rng = np.random.default_rng(seed)
    columns = {"user_id": rng.integers(0, 8, 60), "item_id": rng.integers(0, 15, 60)}
    frame = pd.DataFrame({name: [ids(x) for x in column] for name, column in columns.items()})
    return frame.assign(timestamp=rng.integers(0, 25, 60))


def part_sets(split):
    return [set(map(tuple, getattr(split, part).to_frame().to_numpy().tolist())) for part in PARTS]


def n_of(clicks):
    return np.diff(clicks.matrix.indptr)


def assert_partition(split, clicks):
    train, validation, test = part_sets(split)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert train | validation | test == set(clicks)


def pairs(clicks):
    return map(tuple, clicks.to_frame().to_numpy().tolist())


@given(SEEDS, SEEDS, st.sampled_from([(0.8, 0.1, 0.1), (0.4, 0.3, 0.3), (0.02, 0.49, 0.49), (0.98, 0.01, 0.01)]))
def test_random_split_parts_every_kept_users_clicks(seed, draw, fractions):
    log = random_log(seed)
    n = n_of(log)
    assume((n >= 3).any())
    split = random_split(log, fractions=fractions, seed=draw)
    kept = log.select_users(np.flatnonzero(n >= 3))
    assert split.train.user_ids.tolist() == kept.user_ids.tolist()
    assert split.train.item_ids.tolist() == log.item_ids.tolist()
    assert_partition(split, pairs(kept))
    for part, fraction in zip(PARTS[1:], fractions[1:], strict=True):
        held_out = n_of(getattr(split, part))
        assert (held_out >= 1).all()
        assert (held_out <= np.maximum(1, np.rint(n_of(kept) * fraction))).all()
    assert (n_of(split.train) >= 1).all()


@given(SEEDS)
def test_random_split_is_the_seeds_alone(seed):
    log = random_log(7)
    first, again = random_split(log, seed=seed), random_split(log, seed=seed)
    assert part_sets(first) == part_sets(again)
    assert part_sets(first) != part_sets(random_split(log, seed=seed + 1))


def test_random_split_draws_every_click_alike():
    log = Interactions.from_matrix(np.ones((1, 10)))
    counts = sum(random_split(log, seed=seed).test.matrix.toarray()[0] for seed in range(500))
    # 500 draws of one in ten: 50 each, standard deviation 6.7.
    assert np.abs(counts - 50).max() < 30


@given(SEEDS)
def test_leave_one_out_by_time_holds_out_the_last_two(seed):
    frame = random_frame(seed)
    split = leave_one_out(frame)
    # The obvious twin: each user's distinct items in order of their last click.
    ordered = frame.sort_values("timestamp", kind="stable")
    assert_partition(split, map(tuple, frame[["user_id", "item_id"]].to_numpy().tolist()))
    _, validation, test = part_sets(split)
    for user, rows in ordered.groupby("user_id"):
        history = list(dict.fromkeys(rows["item_id"].tolist()[::-1]))
        if len(history) < 3:
            assert not [i for u, i in validation | test if u == user]
        else:
            assert [i for u, i in test if u == user] == history[:1]
            assert [i for u, i in validation if u == user] == history[1:2]


@given(SEEDS, SEEDS)
def test_leave_one_out_without_time_draws_two(seed, draw):
    log = random_log(seed)
    split = leave_one_out(log, seed=draw)
    assert_partition(split, pairs(log))
    expected = (n_of(log) >= 3).astype(int)
    np.testing.assert_array_equal(n_of(split.validation), expected)
    np.testing.assert_array_equal(n_of(split.test), expected)
    assert part_sets(split) == part_sets(leave_one_out(log, seed=draw))


@given(SEEDS, st.tuples(st.integers(0, 25), st.integers(0, 25)).map(sorted))
def test_time_split_cuts_at_its_boundaries(seed, boundaries):
    frame = random_frame(seed, ids=int)
    split = time_split(frame, boundaries=tuple(boundaries))
    first = frame.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "item_id"])
    for part, clicks in enumerate(part_sets(split)):
        rows = first[np.searchsorted(boundaries, first["timestamp"], side="right") == part]
        assert clicks == set(map(tuple, rows[["user_id", "item_id"]].to_numpy().tolist()))
    assert set(split.train.user_ids) == set(frame["user_id"])


def test_time_split_by_fractions_holds_out_the_latest():
    frame = pd.DataFrame({"user_id": range(10), "item_id": 0, "timestamp": range(100, 110)})
    split = time_split(frame.sample(frac=1, random_state=0))
    assert [sorted(u for u, _ in part) for part in part_sets(split)] == [list(range(8)), [8], [9]]


@given(SEEDS, SEEDS, st.sampled_from([0.2, 0.5, 0.8]))
def test_user_split_shares_no_user_and_hides_part_of_each(seed, draw, fold_in):
    log = random_log(seed, n_users=20)
    assume((n_of(log) >= 3).sum() >= 5)
    split = user_split(log, fractions=(0.6, 0.2, 0.2), fold_in=fold_in, seed=draw)
    groups = [set(split.train.user_ids), set(split.validation.user_ids), set(split.test.user_ids)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == log.n_users
    clicks = set(pairs(split.train))
    for part in PARTS[1:]:
        context, targets = split.context(part), split.targets(part)
        assert context.user_ids.tolist() == targets.user_ids.tolist()
        assert (n_of(context) >= 1).all()
        assert (n_of(targets) >= 1).all()
        assert not set(pairs(context)) & set(pairs(targets))
        clicks |= set(pairs(context)) | set(pairs(targets))
    assert clicks == set(pairs(log))
    again = user_split(log, fractions=(0.6, 0.2, 0.2), fold_in=fold_in, seed=draw)
    assert part_sets(split) == part_sets(again)


@given(SEEDS, SEEDS)
def test_with_validation_moves_clicks_but_never_a_users_last(seed, draw):
    log = random_log(seed)
    empty = log.with_matrix(sp.csr_matrix(log.shape, dtype=np.float32))
    before = Split(log, empty, empty, name="published", note="As published.")
    after = with_validation(before, fraction=0.3, seed=draw)
    assert_partition(after, pairs(log))
    n = n_of(log)
    np.testing.assert_array_equal(n_of(after.validation), np.minimum(np.rint(0.3 * n), np.maximum(n - 1, 0)))
    assert after.name == "published"
    assert after.note == f"As published. 30% of train held out as validation, seed {draw}."


def test_contexts_are_what_a_model_may_see():
    split = random_split(random_log(3), seed=0)
    assert split.context("validation") is split.train
    assert set(pairs(split.context("test"))) == set(pairs(split.train)) | set(pairs(split.validation))
    assert split.context("test") is split.context("test")
    with pytest.raises(ValueError, match="must be 'validation' or 'test', got 'train'"):
        split.context("train")


def test_parts_of_one_split_fit_each_other():
    a, b, c = (Interactions.from_matrix(np.ones(shape)) for shape in ((2, 3), (2, 4), (3, 3)))
    with pytest.raises(ValueError, match="validation has 4 items and train has 3"):
        Split(a, b, a)
    with pytest.raises(ValueError, match="test has 3 users, expected 2"):
        Split(a, a, c)
    assert Split(a, a, c, test_context=c).context("test") is c
    assert repr(Split(a, a, a, name="x")) == "Split(x: 2 x 3; clicks train 6, validation 6, test 6)"


LOG = random_log(3)
FRAME = random_frame(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_split(LOG, fractions=(0.8, 0.1, 0.2)), "sum to 1"),
        (lambda: random_split(LOG, fractions=(1.0, 0.0, 0.0)), "three positive shares"),
        (lambda: random_split(LOG, min_interactions=2), "at least 3"),
        (lambda: random_split(LOG, min_interactions=99), "no user has 99"),
        (lambda: leave_one_out(FRAME.drop(columns="timestamp")), "timestamp"),
        (lambda: leave_one_out(FRAME.rename(columns={"item_id": "item"})), "columns user_id, item_id, timestamp"),
        (lambda: leave_one_out(FRAME.assign(timestamp=np.nan)), "60 of 60 rows have no timestamp"),
        (lambda: time_split(LOG), "this split goes by time"),
        (lambda: time_split(FRAME, boundaries=(2, 1)), "ascending"),
        (lambda: time_split(FRAME, fractions=(0.5, 0.5)), "three positive shares"),
        (lambda: user_split(LOG, fold_in=1.0), "fold_in must be between"),
        (lambda: user_split(LOG.select_users(np.arange(2))), "too few to hold out"),
        (lambda: with_validation(random_split(LOG)), "already has a validation part"),
        (lambda: with_validation(random_split(LOG), fraction=1.0), "fraction must be between"),
    ],
)
def test_requests_that_cannot_be_met(call, message):
    with pytest.raises(ValueError, match=message):
        call()
