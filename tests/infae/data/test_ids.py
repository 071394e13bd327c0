"""Ids that cannot be told apart, or not be stored, are refused; all others keep their identity."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from infae.data import Interactions

LARGE = 2**63


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([LARGE, -1], "below 2\\^63"),
        ([LARGE + 1, 5], "below 2\\^63"),
        ([2**70, 1], "64 bits"),
        (np.array([LARGE, 1], np.uint64), "64 bits"),
        (np.array([2**70, -1], object), "64 bits"),
        ([2.0**53, 2.0**53 + 2], "rounded"),
        (np.array([2.0**24, 5], np.float32), "rounded"),
        (["a", "a\0"], "NUL"),
        (np.array(["a", "a\0"], object), "NUL"),
        (["a", 1], "mixture"),
        (np.array(["a", 1], object), "all integers or all strings"),
        ([True, False], "all integers or all strings"),
        ([1j, 2], "all integers or all strings"),
        ([b"a", b"b"], "all integers or all strings"),
        ([None, "a"], "all integers or all strings"),
        ([0.5, 1], "all integers or all strings"),
        ([np.nan, 1], "all integers or all strings"),
        (np.ma.masked_array([1, 2], [True, False]), "masked"),
        ([[1], [2, 3]], "one-dimensional"),
        ([[1], [2]], "one-dimensional"),
        ("ab", "sequence of ids"),
        (7, "sequence of ids"),
        (None, "sequence of ids"),
    ],
    ids=repr,
)
def test_ids_that_are_refused(ids, message):
    for call in (
        lambda: Interactions.from_pairs(ids, [1, 2]),
        lambda: Interactions.from_pairs(["x", "y"], ids),
        lambda: Interactions(sp.csr_matrix((2, 2)), ["x", "y"], 7 if ids is None else ids),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    "ids",
    [
        [LARGE - 1, -LARGE],
        [2**53 + 1, 2**53],
        np.array([LARGE - 1, 0], np.uint64),
        np.array([3, 1], np.uint8),
        [3.0, 1.0],
        np.array([3, 1], object),
        ["b", "a"],
        ["", " "],
        [np.str_("b"), "a"],
        dict.fromkeys(["b", "a"]).keys(),
        pd.Series(["b", "a"], dtype="string"),
        pd.Series([3, 1], dtype="Int64"),
        pd.Series(["b", "a"], dtype="category"),
    ],
    ids=repr,
)
def test_ids_that_are_kept(ids):
    clicks = Interactions.from_pairs(ids, ids)
    expected = list(ids)
    assert clicks.user_ids.tolist() == expected
    assert clicks.item_ids.tolist() == sorted(expected)
    assert clicks.to_frame().to_numpy().tolist() == [[x, x] for x in expected]
    known = Interactions.from_pairs(ids, ids, user_ids=clicks.user_ids[::-1], item_ids=clicks.item_ids)
    assert known.user_ids.tolist() == expected[::-1]
    assert known.to_frame().to_numpy().tolist() == [[x, x] for x in expected[::-1]]


@pytest.mark.slow
@given(st.lists(st.one_of(st.text(max_size=3).filter(lambda t: not t.endswith("\0"))), min_size=1, max_size=20))
@pytest.mark.filterwarnings("ignore:.*repeats")
def test_texts_are_told_apart_as_python_does(users):
    clicks = Interactions.from_pairs(users, ["i"] * len(users))
    assert clicks.user_ids.tolist() == list(dict.fromkeys(users))


def test_an_unknown_id_is_shown_and_never_at_length():
    with pytest.raises(ValueError, match="1 unknown item id") as caught:
        Interactions.from_pairs(["u", "u"], ["a", "x" * 5000], item_ids=["a"])
    assert len(str(caught.value)) < 300


def test_one_long_id_costs_no_memory_of_its_width_a_click():
    users = [f"u{k % 100}" for k in range(50_000)]
    users[7] = "x" * 5_000
    items = [f"i{k}" for k in range(50_000)]
    tracemalloc.start()
    clicks = Interactions.from_pairs(users, items)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert clicks.user_ids[7] == "x" * 5_000
    assert peak < 100e6
    items[7] = "x" * 5_000
    with pytest.raises(ValueError, match=r"50,000 distinct item ids has 5,000 characters.*GiB"):
        Interactions.from_pairs(users, items)
