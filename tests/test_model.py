import gc
import warnings

import numpy as np
import oracles
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, tolerance

import infae
from infae import InfiniteAE, Interactions
from infae.errors import IllConditionedWarning, NotFittedError, SingularKernelError
from infae.histories import RowIndex
from infae.kernels import relu_ntk

INPUTS = [
    {},
    {"depth": 2},
    {"popularity_power": -0.5},
    {"unit_rows": True, "b_std": 0.0},
    {"popularity_power": -0.25, "unit_rows": True, "w_std": 1.0, "b_std": 0.3},
]


def frame(users, items):
    return pd.DataFrame({"user_id": users, "item_id": items})


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", INPUTS, ids=str)
def test_scores_equal_the_closed_form(params, dtype, clicks, new_users, small_tiles):
    model = infae.fit(clicks, reg=0.7, dtype=dtype.name, **params)
    scores = infae.predict(model, new_users)
    assert scores.dtype == dtype
    train = clicks.matrix.toarray()
    assert_allclose(scores, oracles.infinite_ae(train, new_users, 0.7, **params), **tolerance(dtype))


@pytest.mark.parametrize("params", INPUTS, ids=str)
def test_training_users_are_scored_by_the_closed_form_too(params, dtype, clicks):
    model = infae.fit(clicks, reg=0.7, dtype=dtype.name, **params)
    train = clicks.matrix.toarray()
    assert_allclose(model.predict(clicks), oracles.infinite_ae(train, train, 0.7, **params), **tolerance(dtype))


def test_known_and_new_histories_side_by_side(clicks, new_users, model, monkeypatch):
    mixed = np.concatenate([new_users[:3], clicks.matrix.toarray()[4:8], new_users[3:]])
    shortcut = model.predict(mixed)
    monkeypatch.setattr(model._fitted._index, "find", lambda rows: np.full(rows.shape[0], -1))
    assert_allclose(shortcut, model.predict(mixed), **tolerance("float32"))
    assert_array_equal(shortcut[:3], model.predict(new_users)[:3])


def test_a_training_row_with_a_click_counted_twice_is_another_history(clicks, model):
    twice = clicks.matrix[:3].copy()
    twice.data[0] = 2
    scores = model.predict(clicks.select_users(np.arange(3)).with_matrix(twice))
    assert_allclose(scores, oracles.infinite_ae(clicks.matrix.toarray(), twice.toarray(), 1.0), **tolerance("float32"))


def test_rows_of_one_hash_are_told_apart(clicks, new_users, monkeypatch):
    monkeypatch.setattr(RowIndex, "_hashes", lambda self, rows: np.zeros(rows.shape[0], np.uint64))
    model = infae.fit(clicks, reg=1.0)
    mixed = np.concatenate([clicks.matrix.toarray(), new_users])
    assert_allclose(
        model.predict(mixed), oracles.infinite_ae(clicks.matrix.toarray(), mixed, 1.0), **tolerance("float32")
    )


def test_predict_in_blocks_of_users(clicks, new_users, model, monkeypatch):
    mixed = np.concatenate([new_users, clicks.matrix.toarray()])
    whole = model.predict(mixed)
    monkeypatch.setattr("infae.fitted.batch_size", lambda n_items: 8)
    assert_allclose(model.predict(mixed), whole, rtol=1e-5, atol=1e-6)


def test_every_form_of_the_same_clicks_fits_the_same(clicks, new_users, model):
    scores = model.predict(new_users)
    dense = clicks.matrix.toarray()
    for form in (dense, 5 * dense.astype(int), dense.tolist(), clicks.matrix.tocoo(), clicks.matrix.astype(bool)):
        assert_array_equal(infae.fit(form, reg=1.0).predict(new_users), scores)
    assert_array_equal(infae.fit(clicks.to_frame(), reg=1.0).predict(new_users), scores)


def test_the_same_fit_twice_gives_the_same_bits(clicks, new_users, model):
    again = infae.fit(clicks, reg=1.0)
    assert_array_equal(again.dual_.coef, model.dual_.coef)
    assert_array_equal(again.predict(new_users), model.predict(new_users))


def test_an_empty_history_has_scores(clicks, new_users, model):
    assert not new_users[-1].any()
    scores = model.predict(new_users)[-1]
    assert_allclose(
        scores, oracles.infinite_ae(clicks.matrix.toarray(), new_users[-1:], 1.0)[0], **tolerance("float32")
    )


def test_no_histories_have_no_scores(model):
    assert model.predict(np.zeros((0, 16))).shape == (0, 16)
    items, scores = model.recommend(np.zeros((0, 16)), n=3)
    assert items.shape == scores.shape == (0, 3)


def test_reg_zero_interpolates_with_a_warning(clicks):
    with pytest.warns(IllConditionedWarning, match="reg = 0"):
        model = infae.fit(clicks, reg=0.0, dtype="float64")
    assert_allclose(model.dual_.scores(clicks.matrix), clicks.matrix.toarray(), atol=1e-8)


def test_fit_describes_itself(clicks, model):
    assert_array_equal(model.user_ids_, clicks.user_ids)
    assert_array_equal(model.item_ids_, clicks.item_ids)
    assert model.reg_ == 1.0
    assert 0 <= model.residual_ < 1e-5
    assert model.path_ == [{"reg": 1.0, "residual": model.residual_, "noise": model.path_[0]["noise"]}]


def test_a_second_fit_forgets_the_first(clicks):
    model = InfiniteAE().fit(clicks)
    other = random_clicks(9, 5)
    assert_array_equal(model.fit(other).predict(other), infae.fit(other).predict(other))
    assert model.item_ids_.size == 5


# --- choosing reg ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["HR@3", "NDCG@10", "AUC"])
def test_the_best_reg_on_validation_is_kept(metric, split):
    regs = (0.01, 1.0, 100.0)
    model = infae.fit(split.train, reg=regs, validation=split, metric=metric)
    k = (int(metric.partition("@")[2] or 1),)
    single = {reg: infae.fit(split.train, reg=reg) for reg in regs}
    values = {reg: infae.evaluate(m, split, on="validation", k=k)[metric] for reg, m in single.items()}
    assert [row["reg"] for row in model.path_] == list(regs)
    assert [row[metric] for row in model.path_] == list(values.values())
    assert model.reg_ == max(regs, key=values.get)
    assert_array_equal(model.predict(split.train), single[model.reg_].predict(split.train))


def test_validation_clicks_serve_for_a_split(split):
    by_clicks, by_split = (
        infae.fit(split.train, reg=[0.1, 10.0], validation=v, metric="NDCG@3") for v in (split.validation, split)
    )
    assert by_clicks.path_ == by_split.path_
    assert len({row["NDCG@3"] for row in by_clicks.path_}) == 2


def flat(x1, x2=None):
    """A kernel of rank 1."""
    return np.ones((len(x1), len(x1 if x2 is None else x2)))


def test_a_reg_that_only_interpolates_is_told_and_passed_over(split):
    own = lambda x1, x2=None: relu_ntk(x1, x2) + (np.eye(len(x1)) if x2 is None else 0)  # noqa: E731
    with pytest.warns(IllConditionedWarning):
        model = infae.fit(split.train, reg=np.array([0.0, 1.0]), kernel=own, validation=split)
    assert "rounding error" in model.path_[0]["failure"]
    assert "HR@100" not in model.path_[0]
    assert model.reg_ == 1.0


def test_a_reg_without_a_solution_is_told_and_passed_over(split):
    with pytest.warns(IllConditionedWarning, match="passed over"):
        model = infae.fit(split.train, reg=[1e-30, 1.0], kernel=flat, validation=split)
    assert "could not be inverted" in model.path_[0]["failure"]
    assert model.reg_ == 1.0


def test_no_usable_reg_is_an_error(split):
    with (
        pytest.warns(IllConditionedWarning),
        pytest.raises(SingularKernelError, match=r"no reg of \[0.0\] gave a usable model: .*in float32"),
    ):
        infae.fit(split.train, reg=[0.0], kernel=flat, validation=split)


@pytest.mark.parametrize(("validation", "message"), [(None, "pass validation=split"), (np.eye(3), "got ndarray")])
def test_several_regs_need_held_out_clicks(validation, message, clicks):
    with pytest.raises(ValueError, match=message):
        infae.fit(clicks, reg=[1.0, 2.0], validation=validation)


# --- parameters -----------------------------------------------------------------------------------


def test_parameters_go_in_and_out():
    model = InfiniteAE(2.0, depth=3)
    assert model.get_params() == {**InfiniteAE().get_params(), "reg": 2.0, "depth": 3}
    assert model.set_params(depth=1, unit_rows=True) is model
    assert repr(model) == "InfiniteAE(reg=2.0, unit_rows=True)"
    with pytest.raises(ValueError, match=r"unknown parameter\(s\) alpha, beta"):
        model.set_params(alpha=1, beta=2)


def test_arrays_of_regs_have_a_repr():
    assert "reg=array([1., 2.])" in repr(InfiniteAE(np.array([1.0, 2.0])))


def test_scikit_learn_clones_it(clicks):
    from sklearn.base import clone

    fitted = InfiniteAE(reg=(1.0, 2.0), depth=2, dtype="float64")
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(clicks)


def test_new_parameters_wait_for_the_next_fit(clicks, new_users):
    model = infae.fit(clicks, reg=1.0, dtype="float64")
    before = model.predict(new_users), model.predict(clicks)
    model.set_params(depth=3, dtype="float32", unit_rows=True, reg=9.0)
    assert_array_equal(model.predict(new_users), before[0])
    assert_array_equal(model.predict(clicks), before[1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reg": -1.0}, "reg must be zero or positive"),
        ({"reg": np.nan}, "reg must be zero or positive"),
        ({"reg": "5"}, "reg must be a number"),
        ({"reg": np.array("5")}, "reg must be a number"),
        ({"reg": []}, "reg is an empty sequence"),
        ({"reg": [1.0, -2.0]}, "reg must be zero or positive"),
        ({"depth": 0}, "depth"),
        ({"b_std": -1.0}, "b_std"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64'"),
        ({"dtype": "single precision"}, "dtype must be"),
        ({"dtype": None}, "dtype must be"),
        ({"metric": "HR"}, "unknown metric 'HR'"),
        ({"metric": "MRR@10"}, "unknown metric"),
        ({"metric": "HR@0"}, "unknown metric"),
        ({"metric": 10}, "unknown metric"),
        ({"kernel": "rbf"}, "kernel must be callable"),
        ({"popularity_power": np.inf}, "popularity_power must be finite"),
    ],
)
def test_bad_parameters_are_refused_at_fit(params, message, clicks, split):
    with pytest.raises(ValueError, match=message):
        InfiniteAE(**params).fit(clicks, split)


# --- clicks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array([[1, np.nan]]), "1 NaN or infinite"),
        (sp.csr_matrix(np.array([[np.inf, 1]])), "1 NaN or infinite"),
        (np.array([[1, -1]]), "negative"),
        (np.array([["a", "b"]]), "numeric"),
        (np.array([[1, None]]), "numeric"),
        (np.zeros((3, 4)), "no clicks: all 3 users"),
        (np.zeros((0, 4)), "at least one user"),
        (np.zeros((4, 0)), "at least one user"),
        (np.ones(4), "2-D"),
        (np.ones((2, 2, 2)), "2-D"),
        ({"user_id": [1]}, "got dict"),
        ("clicks.csv", "got str"),
        (frame([], []), "no interactions"),
        (frame([1, 1], [2, np.nan]), "1 rows have no item_id"),
        (pd.DataFrame({"user": [1], "item_id": [2]}), "rename the columns that hold user_id"),
    ],
)
def test_bad_clicks_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        infae.fit(matrix)


def caught_at_fit(X):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = infae.fit(X)
    return model, [str(w.message) for w in caught]


def test_users_without_clicks_are_left_out_with_one_warning(clicks, new_users):
    dense = clicks.matrix.toarray()
    gaps = np.insert(dense, [0, 5, 24], 0, axis=0)
    model, messages = caught_at_fit(gaps)
    assert messages == ["3 of 27 users have no clicks and are left out of the fit"]
    assert_array_equal(model.predict(new_users), infae.fit(dense).predict(new_users))
    assert_array_equal(model.user_ids_, np.flatnonzero(gaps.any(axis=1)))
    assert model.predict(gaps).shape == gaps.shape


def test_repeated_rows_of_a_frame_count_once_with_one_warning():
    users, items = [1, 1, 2, 2, 1], [5, 6, 6, 7, 5]
    model, messages = caught_at_fit(frame(users, items))
    assert messages == ["1 of 5 (user, item) pairs are repeats; each pair counts once"]
    once = infae.fit(frame(users[:4], items[:4]))
    assert_array_equal(model.dual_.coef, once.dual_.coef)


# --- histories ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        (np.ones((3, 15)), r"16 fitted items, got \(3, 15\)$"),
        (np.ones((16, 3)), "looks transposed: users are rows"),
        (sp.csr_matrix(np.ones((16, 3))), "looks transposed"),
        (np.full((2, 16), np.nan), "NaN or infinite"),
        (-np.ones((2, 16)), "negative"),
        (np.array([["a"] * 16]), "numeric"),
        (np.ones(16), "2-D"),
        (frame([0, 0], [3, 99]), "1 unknown item id.*99"),
        (frame([0], ["3"]), "item ids are int64"),
        (Interactions.from_matrix(np.eye(2), item_ids=[3, 99]), "1 unknown item id.*99"),
        (7, "got int"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "recommend"])
def test_bad_histories_are_refused(method, histories, message, model):
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(histories)


def test_histories_are_matched_by_item_id(named):
    model = infae.fit(named)
    expected = model.predict(named)
    turned = Interactions(named.matrix[:, ::-1].tocsr(), named.user_ids, named.item_ids[::-1])
    assert_array_equal(model.predict(turned), expected)
    by_name = np.argsort(named.user_ids)  # the rows of a frame are its sorted user ids
    assert_array_equal(model.predict(named.to_frame()), expected[by_name])


def test_items_missing_from_histories_are_not_clicked(model):
    some = Interactions.from_matrix(np.array([[1.0, 1.0]]), item_ids=[9, 2])
    dense = np.zeros((1, 16))
    dense[0, [2, 9]] = 1
    assert_array_equal(model.predict(some), model.predict(dense))


@pytest.mark.parametrize("call", ["predict", "recommend", "save"])
def test_nothing_works_before_fit(call, clicks, tmp_path):
    with pytest.raises(NotFittedError, match="not fitted; call fit"):
        getattr(InfiniteAE(), call)(tmp_path / "model.npz" if call == "save" else clicks)


# --- recommend ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_recommended_items_are_the_best_by_predict(exclude_seen, clicks, dtype):
    model = infae.fit(clicks, dtype=dtype.name)
    items, scores = model.recommend(clicks, n=4, exclude_seen=exclude_seen)
    predicted = model.predict(clicks)
    if exclude_seen:
        predicted[clicks.matrix.toarray() > 0] = -np.inf
    assert_array_equal(items, np.argsort(-predicted, axis=1, kind="stable")[:, :4])
    assert_array_equal(scores, np.take_along_axis(predicted, items, axis=1))
    assert scores.dtype == dtype


def test_recommend_among_some_items(clicks, new_users, model):
    items, scores = model.recommend(new_users, n=2, items=[14, 3, 9, 3])
    predicted = model.predict(new_users)
    predicted[new_users > 0] = -np.inf
    order = np.argsort(-predicted[:, [3, 9, 14]], axis=1, kind="stable")[:, :2]
    left = np.isfinite(scores)
    assert_array_equal(items[left], np.array([3, 9, 14])[order][left])
    assert_array_equal(items[~left], -1)


def test_recommend_speaks_the_ids_of_the_data(named):
    model = infae.fit(named)
    items, scores = model.recommend(named, n=8)
    clicked = named.matrix.toarray() > 0
    for row, seen in enumerate(clicked):
        n_left = (~seen).sum()
        assert set(items[row, :n_left]) == set(named.item_ids[~seen])
        assert (items[row, n_left:] == "").all()
        assert np.isneginf(scores[row, n_left:]).all()
    among, _ = model.recommend(named, n=1, items=["item a"], exclude_seen=False)
    assert (among == "item a").all()


def test_fewer_items_left_than_asked_for(model):
    history = np.ones((1, 16))
    history[0, [4, 11]] = 0
    items, scores = model.recommend(history, n=5)
    assert set(items[0, :2]) == {4, 11}
    assert_array_equal(items[0, 2:], -1)
    assert_array_equal(np.isneginf(scores[0]), [False, False, True, True, True])


def test_unsigned_ids_leave_room_for_no_item():
    clicks = Interactions.from_matrix(random_clicks(6, 4), item_ids=np.arange(4, dtype=np.uint32))
    items, scores = infae.fit(clicks).recommend(np.ones((1, 4)), n=2)
    assert_array_equal(items, [[-1, -1]])
    assert np.isneginf(scores).all()


def test_equal_scores_are_listed_by_item_position():
    # Items 1, 2 and 4 were clicked together by all, so that their scores are equal.
    clicks = np.array([[1, 1, 1, 0, 1], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], np.float32)
    items, scores = infae.fit(clicks).recommend(np.array([[1.0, 0, 0, 0, 0]]), n=3)
    assert_array_equal(items, [[1, 2, 4]])
    assert_array_equal(scores[0], scores[0, 0])


@pytest.mark.parametrize("n", [0, -1, 17, 2.0, True, "3", None])
def test_bad_numbers_of_items(n, new_users, model):
    with pytest.raises(ValueError, match="n must be a whole number from 1 to the 16 items"):
        model.recommend(new_users, n=n)


def test_more_items_asked_for_than_given(new_users, model):
    with pytest.raises(ValueError, match="1 to the 2 items"):
        model.recommend(new_users, n=3, items=[4, 5])


def test_unknown_items_to_choose_from(new_users, model):
    with pytest.raises(ValueError, match=r"1 unknown item id.*77"):
        model.recommend(new_users, n=1, items=[4, 77])


def test_a_fit_that_fails_leaves_the_earlier_one_in_place(split):
    model = infae.InfiniteAE(1.0).fit(split.train)
    before = model.predict(split.train)
    with pytest.raises(SingularKernelError):
        model.set_params(reg=0.0, kernel=flat).fit(split.train)
    np.testing.assert_array_equal(model.predict(split.train), before)


def test_validation_without_clicks_is_refused_before_the_work(split):
    nothing = split.train.with_matrix(split.train.matrix * 0)
    nothing.matrix.eliminate_zeros()
    with pytest.raises(ValueError, match="no clicks to rank"):
        infae.fit(split.train, reg=[1.0, 2.0], validation=nothing)


def test_validation_over_other_items_or_users_is_refused(split):
    other = infae.Interactions(split.validation.matrix, split.validation.user_ids, split.validation.item_ids + 1000)
    with pytest.raises(ValueError, match="other items"):
        infae.fit(split.train, reg=[1.0, 2.0], validation=infae.Split(other, other, other))
    with pytest.raises(ValueError, match="row by row"):
        infae.fit(split.train, reg=[1.0, 2.0], validation=split.validation.select_users(np.arange(2)))


def test_one_reg_with_validation_records_its_metric(split):
    model = infae.fit(split.train, reg=1.0, validation=split, metric="NDCG@3")
    assert model.path_[0]["NDCG@3"] == infae.evaluate(model, split, on="validation", k=(3,))["NDCG@3"]


def test_a_path_holds_no_more_than_the_best_solution(split, monkeypatch):
    from infae.solvers import ridge

    def alive():
        gc.collect()
        return sum(isinstance(thing, ridge.Solution) for thing in gc.get_objects())

    held, before, real = [], alive(), ridge.factor
    monkeypatch.setattr(ridge, "factor", lambda *args, **more: held.append(alive() - before) or real(*args, **more))
    # The same reg again never beats the first, so that what is held beyond the best shows.
    infae.fit(split.train, reg=[1.0, 1.0, 1.0, 1.0], validation=split)
    assert held == [0, 1, 1, 1]
