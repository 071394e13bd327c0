"""`Interactions`: canonical and binary whatever it is made of, with the caller's ids."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from infae.data import Interactions
from infae.data.interactions import item_positions

PAIRS = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=1, max_size=30)


def as_pairs(clicks):
    return set(map(tuple, clicks.to_frame().to_numpy().tolist()))


def assert_canonical(clicks):
    matrix = clicks.matrix
    assert matrix.format == "csr"
    assert matrix.dtype == np.float32
    assert (matrix.data == 1).all()
    assert matrix.has_canonical_format
    assert clicks.user_ids.shape == (clicks.n_users,)
    assert clicks.item_ids.shape == (clicks.n_items,)


@given(PAIRS, st.booleans())
@pytest.mark.filterwarnings("ignore:.*repeats")
def test_pairs_survive_and_ids_are_sorted(pairs, as_text):
    users, items = zip(*[(str(u), str(i)) if as_text else (u, i) for u, i in pairs], strict=True)
    clicks = Interactions.from_pairs(users, items)
    assert_canonical(clicks)
    assert as_pairs(clicks) == set(zip(users, items, strict=True))
    assert clicks.user_ids.tolist() == sorted(set(users))
    assert clicks.item_ids.tolist() == sorted(set(items))


@given(st.integers(0, 2**31), st.sampled_from(["csr", "csc", "coo", "lil", "dense"]), st.sampled_from("?Bbiufd"))
def test_every_nonzero_of_any_matrix_is_a_click(seed, form, dtype):
    rng = np.random.default_rng(seed)
    dense = (rng.random((5, 4)) < 0.5) * rng.integers(1, 100, (5, 4))
    # SciPy has no half-precision sparse matrices; "u" and "f" stand for uint32 and float32.
    array = dense.astype({"u": "uint32", "f": "float32", "i": "int32"}.get(dtype, dtype))
    clicks = Interactions.from_matrix(array if form == "dense" else sp.coo_matrix(array).asformat(form))
    assert_canonical(clicks)
    np.testing.assert_array_equal(clicks.matrix.toarray(), dense != 0)
    assert clicks.user_ids.tolist() == list(range(5))


def test_repeats_explicit_zeros_and_tiny_values_in_a_sparse_matrix():
    # Four times 64 wraps round to 0 in int8.
    values = np.array([64, 64, 64, 64, 0, 3, 4], dtype=np.int8)
    rows, cols = [0, 0, 0, 0, 1, 2, 2], [1, 1, 1, 1, 0, 0, 1]
    clicks = Interactions.from_matrix(sp.coo_matrix((values, (rows, cols))))
    assert_canonical(clicks)
    np.testing.assert_array_equal(clicks.matrix.toarray(), [[0, 1], [0, 0], [1, 1]])
    assert Interactions.from_matrix([[1e-300, 0.0]]).n_interactions == 1


def test_the_callers_matrix_is_left_alone():
    matrix = sp.csr_matrix((np.array([2.0, 3.0]), np.array([1, 0]), np.array([0, 2])), shape=(1, 2))
    clicks = Interactions.from_matrix(matrix)
    assert matrix.indices.tolist() == [1, 0]
    assert matrix.data.tolist() == [2.0, 3.0]
    assert clicks.matrix.indices.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1.0, np.nan]], "1 NaN or infinite"),
        ([[1.0, np.inf]], "1 NaN or infinite"),
        ([[1, -1]], "negative"),
        ([1, 2], "2-D"),
        ([["a"]], "numeric matrix"),
        ([[1j]], "numeric matrix"),
        (sp.csr_matrix([[1j]]), "numeric matrix"),
        (np.zeros((0, 3)), "at least one user"),
        (sp.csr_matrix((3, 0)), "at least one user"),
    ],
)
def test_matrices_that_are_no_clicks(matrix, message):
    with pytest.raises(ValueError, match=message):
        Interactions.from_matrix(matrix)


@pytest.mark.parametrize(
    ("users", "items", "known", "message"),
    [
        ([], [], {}, "at least one"),
        ([1], [1, 2], {}, "equally long"),
        ([1, "a"], [1, 2], {}, "users must be all integers or all strings, got a mixture"),
        ([1.5], [1], {}, "users must be all integers or all strings"),
        ([[1]], [[1]], {}, "one-dimensional"),
        ([1, 2], [1, 1], {"user_ids": [1]}, "1 unknown user.* such as 2"),
        ([1], ["a"], {"item_ids": [1]}, "item ids are int64, but got <U1"),
        ([1], [1], {"item_ids": [1, 1]}, "item_ids must be unique"),
        ([1], [1], {"user_ids": []}, "user_ids must hold at least one id"),
    ],
)
def test_pairs_that_do_not_fit(users, items, known, message):
    with pytest.raises(ValueError, match=message):
        Interactions.from_pairs(users, items, **known)


def test_repeated_pairs_count_once_with_a_warning():
    with pytest.warns(UserWarning, match="2 of 4"):
        clicks = Interactions.from_pairs([1, 1, 1, 2], [5, 5, 5, 5])
    assert_canonical(clicks)
    assert clicks.n_interactions == 2


def test_known_ids_keep_their_order():
    clicks = Interactions.from_pairs(["b"], [7], user_ids=np.array(["z", "b", "a"]), item_ids=np.array([9, 7]))
    np.testing.assert_array_equal(clicks.matrix.toarray(), [[0, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize("ids", [["u1", "u2"], [1, 2], [1.0, 2.0]], ids=["text", "whole", "float"])
def test_frames_of_any_id_type(ids):
    frame = pd.DataFrame({"item_id": ids, "user_id": ids, "rating": [1, 5]})
    clicks = Interactions.from_frame(frame)
    assert_canonical(clicks)
    assert clicks.user_ids.tolist() == ids
    assert as_pairs(clicks) == set(zip(ids, ids, strict=True))


def test_frames_that_do_not_fit():
    with pytest.raises(ValueError, match=r"got \['user', 'item_id'\]; rename .* user_id"):
        Interactions.from_frame(pd.DataFrame({"user": [1], "item_id": [1]}))
    with pytest.raises(ValueError, match="1 rows have no item_id"):
        Interactions.from_frame(pd.DataFrame({"user_id": [1, 2], "item_id": ["a", None]}))


def test_ids_that_do_not_fit_a_matrix():
    with pytest.raises(ValueError, match="user_ids must have 2 entries"):
        Interactions.from_matrix(np.eye(2), user_ids=[1])
    with pytest.raises(ValueError, match="item_ids must be unique; 1 repeat"):
        Interactions.from_matrix(np.eye(2), item_ids=["a", "a"])


def test_selection_union_and_words():
    clicks = Interactions.from_matrix([[1, 0], [0, 1], [0, 0]], ["a", "b", "c"], [10, 20])
    assert clicks.select_users(np.array([2, 0])).user_ids.tolist() == ["c", "a"]
    assert clicks.select_users(clicks.user_ids == "b").matrix.toarray().tolist() == [[0, 1]]
    other = clicks.with_matrix(sp.csr_matrix([[1, 1], [0, 0], [0, 0]], dtype=np.float32))
    both = clicks.union(other)
    assert both.matrix.has_canonical_format
    assert both.matrix.toarray().tolist() == [[2, 1], [0, 1], [0, 0]]
    assert clicks.union(clicks.with_matrix(sp.csr_matrix((3, 2), dtype=np.float32))) is clicks
    assert repr(clicks) == "Interactions(3 users x 2 items, 2 clicks, 33.3% dense)"
    assert item_positions([20, 10], clicks.item_ids).tolist() == [1, 0]
