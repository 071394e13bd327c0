"""Split protocols: what they promise holds for any log."""

import numpy as np
import pandas as pd
import pytest
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


MOMENTS = ["2009-01-01", "2010-01-01", "2011-01-01", "2011-01-01 00:01"]
TIMES = {
    "numeric text": ["9", "10", "11", "100"],
    "dates": pd.to_datetime(MOMENTS, format="ISO8601"),
    "zoned": pd.to_datetime(MOMENTS, format="ISO8601", utc=True),
    "date text": ["2009-01-01", "2009-10-01T12:00:00Z", "2009-10-01 12:00:01", "2010-01-01 00:00:00+05:00"],
    "objects": np.array([9, 10, 11, 100], object),
    "nullable": pd.array([9, 10, 11, 100], dtype="Int64"),
    "categories": pd.Categorical(["9", "10", "11", "100"]),
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_times_are_in_order_of_time_whatever_they_are_written_as(times):
    frame = pd.DataFrame({"user_id": "u", "item_id": [1, 2, 3, 4], "timestamp": times}).iloc[[3, 0, 2, 1]]
    split = leave_one_out(frame)
    assert [sorted(i for _, i in part) for part in part_sets(split)] == [[1, 2], [3], [4]]
    split = time_split(frame, fractions=(0.5, 0.25, 0.25))
    assert [sorted(i for _, i in part) for part in part_sets(split)] == [[1, 2], [3], [4]]
    split = time_split(frame, boundaries=(times[2], times[3]))
    assert [sorted(i for _, i in part) for part in part_sets(split)] == [[1, 2], [3], [4]]


def test_splits_by_time_have_ascending_ids_and_find_every_click_again():
    frame = pd.DataFrame(
        {"user_id": ["z", "b", "z", "z", "a"], "item_id": [9, 5, 1, 7, 1], "timestamp": [5, 4, 3, 2, 1]}
    )
    split = leave_one_out(frame)
    assert split.train.user_ids.tolist() == ["a", "b", "z"]
    assert split.train.item_ids.tolist() == [1, 5, 7, 9]
    assert part_sets(split) == [{("a", 1), ("b", 5), ("z", 7)}, {("z", 1)}, {("z", 9)}]


def test_a_random_split_says_whom_it_drops():
    log = Interactions.from_matrix([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    assert random_split(log).note == "1 users with fewer than 3 clicks dropped."
    assert random_split(log, min_interactions=4).note == "2 users with fewer than 4 clicks dropped."
    assert random_split(log.select_users(np.array([0, 2]))).note == ""


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
    empty = log.emptied()
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
    with pytest.raises(ValueError, match="on must be one of 'validation', 'test', got 'train'"):
        split.context("train")


def test_parts_of_one_split_fit_each_other():
    a, b, c = (Interactions.from_matrix(np.ones(shape)) for shape in ((2, 3), (2, 4), (3, 3)))
    others = Interactions.from_matrix(np.ones((2, 3)), user_ids=["u", "v"])
    turned = Interactions.from_matrix(np.ones((2, 3)), item_ids=[1, 0, 2])
    for parts, message in (
        ((a, b, a), "validation has 4 items and train has 3"),
        ((a, a, c), "test has 3 users and train has 2"),
        ((a, others, a), "validation has 2 users and train has others"),
        ((a, a, turned), "test has 3 items and train has others"),
        ((a, a, a, c), "validation has 2 users and validation_context has 3"),
        ((a, a, a, None, b), "test_context has 4 items"),
        ((a, None, a), "validation must be Interactions, got None"),
        ((np.ones((2, 3)), a, a), "train must be Interactions, got a ndarray"),
    ):
        with pytest.raises(ValueError, match=message):
            Split(*parts)
    assert Split(a, a, c, test_context=c).context("test") is c
    assert repr(Split(a, a, a, name="x")) == "Split(x: 2 x 3; clicks train 6, validation 6, test 6)"


LOG = random_log(3)
FRAME = random_frame(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_split(LOG, fractions=(0.8, 0.1, 0.2)), "sum to 1"),
        (lambda: random_split(LOG, fractions=(1.0, 0.0, 0.0)), "fractions must be .* below 1, got 1.0"),
        (lambda: random_split(LOG, fractions=(float("nan"), 0.5, 0.5)), "fractions must be .* got nan"),
        (lambda: random_split(LOG, fractions=0.8), "fractions must be a sequence"),
        (lambda: random_split(LOG, fractions=("a", "b", "c")), "fractions must be .* got 'a'"),
        (lambda: random_split(LOG, seed=-1), "seed must be a whole number"),
        (lambda: random_split(LOG, seed="one"), "seed must be a whole number"),
        (lambda: random_split(LOG, seed=None), "seed must be a whole number"),
        (lambda: leave_one_out(LOG, seed=0.5), "seed must be a whole number"),
        (lambda: user_split(LOG, seed=2**80), "seed must be a whole number"),
        (lambda: with_validation(random_split(LOG), seed=True), "seed must be a whole number"),
        (lambda: with_validation(LOG), "expected a Split, got"),
        (lambda: random_split(FRAME), "expected Interactions, got a DataFrame"),
        (lambda: user_split(None), "expected Interactions, got None"),
        (lambda: user_split(LOG, fold_in=float("nan")), "fold_in must be"),
        (lambda: leave_one_out(None), "expected a frame with columns .*timestamp, got None"),
        (lambda: leave_one_out(FRAME[:0]), "at least one row"),
        (lambda: time_split(FRAME[:0]), "at least one row"),
        (lambda: leave_one_out(FRAME.assign(timestamp="soon")), "timestamp must be numbers, or dates .* got 'soon'"),
        (lambda: leave_one_out(FRAME.assign(timestamp="01/02/2003")), "pandas.to_datetime"),
        (lambda: leave_one_out(FRAME.assign(timestamp=1j)), "timestamp must be numbers"),
        (lambda: leave_one_out(FRAME.assign(timestamp=np.inf)), "timestamp must be finite"),
        (lambda: leave_one_out(pd.concat([FRAME, FRAME], axis=1)), "each once"),
        (lambda: time_split(FRAME, boundaries=7), "boundaries must be a sequence"),
        (lambda: time_split(FRAME, boundaries=(1, 2, 3)), "two times"),
        (lambda: time_split(FRAME, boundaries=("soon", "later")), "boundaries must be numbers"),
        (lambda: random_split(LOG, min_interactions=2), "at least 3"),
        (lambda: random_split(LOG, min_interactions=3.5), "min_interactions must be a whole number"),
        (lambda: random_split(LOG, min_interactions=99), "no user has 99"),
        (lambda: leave_one_out(FRAME.drop(columns="timestamp")), "timestamp"),
        (
            lambda: leave_one_out(FRAME.rename(columns={"item_id": "item"})),
            "columns user_id and item_id .*item_id",
        ),
        (lambda: leave_one_out(FRAME.assign(timestamp=np.nan)), "60 of 60 rows have no timestamp"),
        (lambda: time_split(LOG), "expected a frame with columns .*timestamp, got Interactions"),
        (lambda: time_split(FRAME, boundaries=(2, 1)), "ascending"),
        (lambda: time_split(FRAME, fractions=(0.5, 0.5)), "three positive shares"),
        (lambda: user_split(LOG, fold_in=1.0), "fold_in must be .* below 1"),
        (lambda: user_split(LOG.select_users(np.arange(2))), "too few to hold out"),
        (lambda: with_validation(random_split(LOG)), "already has a validation part"),
        (lambda: with_validation(random_split(LOG), fraction=1.0), "fraction must be .* below 1"),
    ],
)
def test_requests_that_cannot_be_met(call, message):
    with pytest.raises(ValueError, match=message):
        call()
