"""`Interactions`: canonical and binary whatever it is made of, with the caller's ids."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from infae.data import Blocks, Interactions
from infae.data.coerce import as_clicks, as_histories, as_history_interactions
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
def test_pairs_survive_users_in_order_of_appearance_and_items_sorted(pairs, as_text):
    users, items = zip(*[(str(u), str(i)) if as_text else (u, i) for u, i in pairs], strict=True)
    clicks = Interactions.from_pairs(users, items)
    assert_canonical(clicks)
    assert as_pairs(clicks) == set(zip(users, items, strict=True))
    assert clicks.user_ids.tolist() == list(dict.fromkeys(users))
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
        (sp.coo_array(np.array([1, 2])), "must be 2-D"),
        (np.ma.masked_array([[1, 2]], [[True, False]]), "masked"),
        ([[1, 2], [1]], "2-D"),
        (np.zeros((0, 3)), "at least one user"),
        (sp.csr_matrix((3, 0)), "at least one user"),
    ],
)
def test_matrices_that_are_no_clicks(matrix, message):
    with pytest.raises(ValueError, match=message):
        Interactions.from_matrix(matrix)


def damaged(form="csr", **arrays):
    """A sound 3 x 3 matrix whose arrays were then replaced, as nothing in SciPy stops a file from doing."""
    matrix = sp.csr_matrix(np.eye(3)).asformat(form)
    for name, values in arrays.items():
        setattr(matrix, name, values)
    return matrix


DAMAGED = [
    damaged(indptr=np.array([0, 2, 1, 3], np.int32)),
    damaged(indptr=np.array([0, 9, 9, 0], np.int32)),
    damaged(indptr=np.array([0, 2**31 - 1, -(2**31), 3], np.int32)),
    damaged(indptr=np.array([0, 1, 2, 90], np.int32)),
    damaged(indptr=np.array([1, 1, 2, 3], np.int32)),
    damaged(indptr=np.array([0, 3], np.int32)),
    damaged(indices=np.array([0, 1, 3], np.int32)),
    damaged(indices=np.array([0, 1, -1], np.int32)),
    damaged(indices=np.array([0, 1], np.int32)),
    damaged("csc", indptr=np.array([0, 2, 1, 3], np.int32)),
    damaged("csc", indices=np.array([0, 1, 10**9], np.int32)),
    damaged("bsr", indptr=np.array([0, 2, 1, 3], np.int32)),
    damaged("coo", coords=(np.array([0, 1, 7]), np.array([0, 1, 2]))),
    damaged("coo", coords=(np.array([0, 1, 2]), np.array([0, 1, -7]))),
    damaged("coo", coords=(np.array([0, 1]), np.array([0, 1]))),
]


@pytest.mark.parametrize("matrix", DAMAGED, ids=lambda matrix: matrix.format)
def test_damaged_sparse_matrices_are_refused_wherever_they_are_handed_in(matrix):
    for call in (
        lambda: Interactions.from_matrix(matrix),
        lambda: Interactions(matrix, np.arange(3), np.arange(3)),
        lambda: as_clicks(matrix),
        lambda: as_histories(matrix, np.arange(3)),
        lambda: list(Blocks(lambda: [matrix], 3)),
    ):
        with pytest.raises(ValueError, match="damaged"):
            call()


@pytest.mark.parametrize(
    ("matrix", "users", "items", "message"),
    [
        (-np.eye(2), [1, 2], [1, 2], "negative"),
        (np.eye(2) * np.nan, [1, 2], [1, 2], "NaN"),
        (np.eye(2) * 1e300, [1, 2], [1, 2], "infinite"),
        (np.eye(2) * 1j, [1, 2], [1, 2], "real numbers"),
        (np.eye(2), [1], [1, 2], "user_ids must have 2 entries"),
        (np.eye(2), [1, 2], [1, 2, 3], "item_ids must have 2 entries"),
        (np.eye(2), [1, 1], [1, 2], "user_ids must be unique; 1 repeat"),
    ],
)
def test_hand_made_clicks_are_checked(matrix, users, items, message):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        Interactions(sp.csr_matrix(matrix), users, items)
    with pytest.raises(ValueError, match="must be a SciPy CSR"):
        Interactions(matrix, users, items)


def test_hand_made_clicks_become_canonical_and_the_callers_stay():
    matrix = sp.csr_matrix((np.array([1.0, 2, 0, 5]), np.array([2, 0, 1, 2]), np.array([0, 4, 4])), shape=(2, 3))
    clicks = Interactions(matrix, ["a", "b"], [7, 8, 9])
    assert clicks.matrix.has_canonical_format
    assert clicks.matrix.dtype == np.float32
    assert clicks.matrix.toarray().tolist() == [[2, 0, 6], [0, 0, 0]]
    assert clicks.n_interactions == 2
    assert clicks.user_ids.tolist() == ["a", "b"]
    assert matrix.indices.tolist() == [2, 0, 1, 2]
    sound = clicks.matrix
    assert Interactions(sound, clicks.user_ids, clicks.item_ids).matrix is sound
    assert Interactions(sp.csr_array(sound), clicks.user_ids, clicks.item_ids).matrix.shape == (2, 3)


def test_histories_keep_who_they_are_of():
    items = np.array(["a", "b", "c"])
    frame = pd.DataFrame({"user_id": ["z", "y", "z"], "item_id": ["c", "a", "a"]})
    found = as_history_interactions(frame, items)
    assert found.user_ids.tolist() == ["z", "y"]
    assert found.matrix.toarray().tolist() == [[1, 0, 1], [1, 0, 0]]
    fewer = Interactions.from_pairs([9, 4], ["c", "b"])
    moved = as_history_interactions(fewer, items)
    assert moved.user_ids.tolist() == [9, 4]
    assert moved.item_ids.tolist() == items.tolist()
    assert moved.matrix.toarray().tolist() == [[0, 0, 1], [0, 1, 0]]
    assert as_history_interactions(found, items) is found
    assert as_history_interactions([[0, 1, 2]], items).user_ids.tolist() == [0]
    assert as_history_interactions(np.zeros((0, 3)), items).shape == (0, 3)


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([[1, 0], [1]], "2-D"),
        ([1, 0, 1], "2-D"),
        (sp.coo_array(np.array([1, 0, 1])), "2-D"),
        (np.eye(4), "one column for each of the 3 fitted items, got"),
        (np.ma.masked_array(np.eye(3)), "masked"),
        (np.eye(3) * 1j, "numeric"),
        (7, "got int"),
        (None, "got NoneType"),
        (pd.DataFrame([[1, 2, 3]], columns=["user_id", "item_id", "item_id"]), "each once"),
    ],
    ids=str,
)
def test_histories_that_are_none(histories, message):
    with pytest.raises(ValueError, match=message):
        as_histories(histories, np.arange(3))


@pytest.mark.parametrize("ids", [0, -1, 1.5, True, None, "abc", [], ["a", "a"], [1.5], [[1, 2]]], ids=repr)
def test_blocks_without_valid_item_ids(ids):
    with pytest.raises(ValueError, match="item_ids"):
        Blocks(list, ids)


def test_parts_of_clicks():
    clicks = Interactions.from_matrix([[1, 1], [0, 1]], ["a", "b"], [10, 20])
    kept = clicks.masked(np.array([False, True, True]))
    assert kept.matrix.toarray().tolist() == [[0, 1], [0, 1]]
    assert kept.user_ids.tolist() == ["a", "b"]
    assert clicks.emptied().shape == (2, 2)
    assert clicks.emptied().n_interactions == 0


@pytest.mark.parametrize(
    ("users", "items", "known", "message"),
    [
        ([], [], {}, "at least one"),
        ([1], [1, 2], {}, "equally long"),
        ([1, "a"], [1, 2], {}, "users must be all integers or all strings, got a mixture"),
        ([1.5], [1], {}, "users must be all integers or all strings"),
        ([[1]], [[1]], {}, "one-dimensional"),
        ([1, 2], [1, 1], {"user_ids": [1]}, "1 unknown user.* such as 2"),
        ([1], ["a"], {"item_ids": [1]}, "item ids are integers, but got texts such as 'a'"),
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
    with pytest.raises(ValueError, match="columns user_id and item_id, each once"):
        Interactions.from_frame(pd.DataFrame([[1, 2, 3]], columns=["user_id", "item_id", "user_id"]))
    with pytest.raises(ValueError, match="expected a frame with columns user_id and item_id, got None"):
        Interactions.from_frame(None)
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
    assert clicks.union(clicks.emptied()) is clicks
    assert repr(clicks) == "Interactions(3 users x 2 items, 2 clicks, 33.3% dense)"
    assert item_positions([20, 10], clicks.item_ids).tolist() == [1, 0]
