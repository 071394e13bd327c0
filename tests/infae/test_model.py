import gc
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, tolerance

import infae
from infae import InfiniteAE, Interactions
from infae.data.coerce import RowIndex
from infae.errors import IllConditionedWarning, NotFittedError, SingularKernelError
from infae.inputs import InputMap
from infae.kernels import ReluNTK, relu_ntk
from infae.kernels.rows import Rows
from infae.linalg.tiles import precision
from infae.machine import KernelMachine

INPUTS = [
    {},
    {"depth": 2},
    {"popularity_power": -0.5},
    {"row_power": 1.0, "b_std": 0.0},
    {"row_power": 0.5, "depth": 3, "b_std": 0.0},
    {"popularity_power": -0.25, "row_power": 1.0, "w_std": 1.0, "b_std": 0.3},
    {"depth": 0},
    {"popularity_power": -0.25, "row_power": 0.5, "depth": 0, "b_std": 0.0},
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


@pytest.mark.parametrize("reg", [0.05, 2.0])
def test_without_hidden_layers_it_is_a_ridge_regression_of_items(reg, clicks, new_users):
    """The primal: weights (X'X + lam I)^-1 X'X between items."""
    train = clicks.matrix.toarray().astype(np.float64)
    model = infae.fit(clicks, reg, depth=0, b_std=0.0, dtype="float64")
    products = train.T @ train
    lam = reg * np.trace(products) / len(train)
    weights = np.linalg.solve(products + lam * np.eye(16), products)
    for histories in (new_users, train):
        assert_allclose(model.predict(histories), histories @ weights, rtol=1e-8, atol=1e-10)


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
    monkeypatch.setattr("infae.machine.batch_size", lambda n_items: 8)
    assert_allclose(model.predict(mixed), whole, rtol=1e-5, atol=1e-6)


def test_every_form_of_the_same_clicks_fits_the_same(clicks, new_users, model):
    scores = model.predict(new_users)
    dense = clicks.matrix.toarray()
    for form in (dense, 5 * dense.astype(int), dense.tolist(), clicks.matrix.tocoo(), clicks.matrix.astype(bool)):
        assert_array_equal(infae.fit(form, reg=1.0).predict(new_users), scores)
    assert_array_equal(infae.fit(clicks.to_frame(), reg=1.0).predict(new_users), scores)


def test_the_same_fit_twice_gives_the_same_bits(clicks, new_users, model):
    again = infae.fit(clicks, reg=1.0)
    assert_array_equal(again.machine_.coef, model.machine_.coef)
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
    assert_allclose(model.machine_.scores(clicks.matrix), clicks.matrix.toarray(), atol=1e-8)


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
    message = r"no reg of .* gave a usable model: .*in float32"
    with pytest.raises(SingularKernelError, match=message):
        infae.fit(split.train, reg=[0.0], kernel=flat, validation=split)
    with pytest.warns(IllConditionedWarning, match="passed over"), pytest.raises(SingularKernelError, match=message):
        infae.fit(split.train, reg=[0.0, 1e-30], kernel=flat, validation=split)


@pytest.mark.parametrize(("validation", "message"), [(None, "pass validation=split"), (np.eye(3), "got ndarray")])
def test_several_regs_need_held_out_clicks(validation, message, clicks):
    with pytest.raises(ValueError, match=message):
        infae.fit(clicks, reg=[1.0, 2.0], validation=validation)


# --- parameters -----------------------------------------------------------------------------------


def test_parameters_go_in_and_out():
    model = InfiniteAE(2.0, depth=3)
    assert model.get_params() == {**InfiniteAE().get_params(), "reg": 2.0, "depth": 3}
    assert model.set_params(depth=1, row_power=1.0) is model
    assert repr(model) == "InfiniteAE(reg=2.0, row_power=1.0)"
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
    model.set_params(depth=3, dtype="float32", row_power=1.0, reg=9.0)
    assert_array_equal(model.predict(new_users), before[0])
    assert_array_equal(model.predict(clicks), before[1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reg": -1.0}, "reg must be a finite number at least 0"),
        ({"reg": np.nan}, "reg must be a finite number at least 0"),
        ({"reg": "5"}, "reg must be a finite number"),
        ({"row_power": True}, "row_power must be a finite number"),
        ({"row_power": np.inf}, "row_power must be a finite number"),
        ({"reg": np.array("5")}, "reg must be a finite number"),
        ({"reg": []}, "reg is an empty sequence"),
        ({"reg": [1.0, -2.0]}, "reg must be a finite number at least 0"),
        ({"depth": -1}, "depth"),
        ({"depth": True}, "depth"),
        ({"depth": 1.5}, "depth"),
        ({"b_std": -1.0}, "b_std"),
        ({"dtype": "float16"}, "dtype must be one of 'float32', 'float64'"),
        ({"dtype": "single precision"}, "dtype must be"),
        ({"dtype": None}, "dtype must be"),
        ({"metric": "HR"}, "unknown metric 'HR'"),
        ({"metric": "MRR@10"}, "unknown metric"),
        ({"metric": "HR@0"}, "unknown metric"),
        ({"metric": 10}, "unknown metric"),
        ({"kernel": "rbf"}, "kernel must be callable"),
        ({"popularity_power": np.inf}, "popularity_power must be a finite number"),
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
    assert_array_equal(model.machine_.coef, once.machine_.coef)


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
        (frame([0], ["3"]), "item ids are integers"),
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
    assert_array_equal(model.predict(named.to_frame()), expected)


def test_items_missing_from_histories_are_not_clicked(model):
    some = Interactions.from_matrix(np.array([[1.0, 1.0]]), item_ids=[9, 2])
    dense = np.zeros((1, 16))
    dense[0, [2, 9]] = 1
    assert_array_equal(model.predict(some), model.predict(dense))


@pytest.mark.parametrize("call", ["predict", "recommend", "leave_one_out", "save"])
def test_nothing_works_before_fit(call, clicks, tmp_path):
    with pytest.raises(NotFittedError, match="not fitted; call fit"):
        getattr(InfiniteAE(), call)(tmp_path / "model.npz" if call == "save" else clicks)


# --- the pieces, on dense arrays ------------------------------------------------------------------


def test_a_dual_called_on_arrays_scores_as_block_by_block(dtype, clicks, new_users, small_tiles):
    fitted = infae.fit(clicks, reg=0.7, dtype=dtype.name).machine_
    dense_clicks = clicks.matrix.toarray().astype(dtype)
    with precision(dtype):
        called = KernelMachine(fitted.kernel, jnp.asarray(dense_clicks), fitted.coef)
        scores = jax.jit(lambda x: called(x))(new_users.astype(dtype))
    assert scores.dtype == dtype
    assert_allclose(scores, fitted.scores(new_users), **tolerance(dtype))
    assert_allclose(scores, fitted.scores(sp.csr_matrix(new_users)), **tolerance(dtype))
    assert_allclose(scores, oracles.infinite_ae(dense_clicks, new_users, 0.7), **tolerance(dtype))


@pytest.mark.parametrize("form", [np.asarray, jnp.asarray])
def test_block_by_block_scores_need_rows(form, clicks, model):
    called = KernelMachine(ReluNTK(), form(clicks.matrix.toarray()), model.machine_.coef)
    with pytest.raises(TypeError, match="anchors in `Rows`; call the machine itself"):
        called.scores(clicks.matrix)
    assert isinstance(model.machine_.anchors, Rows)


WEIGHTS = np.linspace(0.2, 3.0, 16)
MAPS = [InputMap(None, 0.0), InputMap(WEIGHTS, 0.0), InputMap(None, 1.0), InputMap(WEIGHTS, 0.5)]
each_map = pytest.mark.parametrize("inputs", MAPS, ids=["raw", "weights", "unit", "both"])


@each_map
def test_input_rows_of_arrays_equal_those_of_sparse_clicks(inputs, dtype, new_users):
    histories = new_users * np.random.default_rng(0).random(new_users.shape, np.float32)
    sparse = inputs(sp.csr_matrix(histories), dtype).toarray()
    with precision(dtype):
        dense = inputs.dense(jnp.asarray(histories, dtype))
    assert dense.dtype == sparse.dtype == dtype
    assert_allclose(dense, sparse, **tolerance(dtype))
    assert not dense[-1].any()  # an empty history
    expected = histories * (np.ones(16) if inputs.item_weights is None else WEIGHTS)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    assert_allclose(dense, expected / np.where(lengths > 0, lengths, 1) ** inputs.row_power, **tolerance(dtype))


@each_map
def test_gradients_through_input_rows_are_finite_at_empty_ones(inputs, new_users):
    cotangent, direction = np.random.default_rng(1).standard_normal((2, *new_users.shape))
    direction[-1] = 0
    total = jax.jit(lambda x: jnp.sum(cotangent * inputs.dense(x)))
    with precision(np.float64):
        slope = np.asarray(jax.grad(total)(new_users.astype(np.float64)))
        ahead, behind = (float(total(new_users + step * direction)) for step in (1e-6, -1e-6))
    assert np.isfinite(slope).all()
    assert np.sum(slope * direction) == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)


# --- weights of the caller's own ------------------------------------------------------------------


@pytest.mark.parametrize("row_power", [0.0, 0.5, 1.0])
def test_item_weights_take_the_place_of_the_popularity_power(row_power, clicks, new_users):
    popularity = clicks.matrix.toarray().sum(axis=0, dtype=np.float64)
    by_power = infae.fit(clicks, reg=0.7, popularity_power=-0.5, row_power=row_power)
    for form in (np.asarray, list):
        by_weights = infae.fit(clicks, reg=0.7, item_weights=form(popularity**-0.5), row_power=row_power)
        assert_array_equal(by_weights.inputs_.item_weights, by_power.inputs_.item_weights)
        for histories in (new_users, clicks):
            assert_array_equal(by_weights.predict(histories), by_power.predict(histories))


def test_item_weights_are_parameters_like_others(clicks):
    weights = np.arange(1.0, 4.0)
    model = InfiniteAE(item_weights=weights)
    assert model.get_params()["item_weights"] is weights
    assert repr(model) == "InfiniteAE(item_weights=array([1., 2., 3.]))"
    assert repr(model.set_params(item_weights=None)) == "InfiniteAE()"
    assert model.set_params(item_weights=WEIGHTS).fit(clicks).inputs_.item_weights.tolist() == WEIGHTS.tolist()
    assert InfiniteAE(**model.get_params()).item_weights is WEIGHTS


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"item_weights": np.ones(15)}, r"16 positive finite numbers, one an item, got float64 of shape \(15,\)"),
        ({"item_weights": np.ones((16, 1))}, "16 positive finite numbers"),
        ({"item_weights": 2.0}, r"got float64 of shape \(\)"),
        ({"item_weights": np.arange(16.0)}, "16 positive finite numbers"),
        ({"item_weights": -np.ones(16)}, "16 positive finite numbers"),
        ({"item_weights": np.where(np.arange(16), 1, np.nan)}, "16 positive finite numbers"),
        ({"item_weights": np.where(np.arange(16), 1, np.inf)}, "16 positive finite numbers"),
        ({"item_weights": ["a"] * 16}, "16 positive finite numbers"),
        ({"item_weights": np.ones(16), "popularity_power": -0.5}, "popularity_power or item_weights, not both"),
    ],
    ids=["short", "2-D", "one number", "zero", "negative", "NaN", "infinity", "strings", "both"],
)
def test_bad_item_weights_are_refused(params, message, clicks):
    with pytest.raises(ValueError, match=message):
        InfiniteAE(**params).fit(clicks)
    with pytest.raises(ValueError, match=message):
        InfiniteAE(**params).components(clicks)


def test_components_are_what_fit_uses(clicks):
    params = {"depth": 2, "b_std": 0.3, "popularity_power": -0.25, "row_power": 1.0}
    kernel, inputs = InfiniteAE(**params).components(clicks)
    fitted = infae.fit(clicks, **params)
    assert kernel == fitted.machine_.kernel == ReluNTK(depth=2, b_std=0.3)
    assert inputs.row_power == 1
    assert_array_equal(inputs.item_weights, fitted.inputs_.item_weights)
    assert InfiniteAE(kernel=flat).components(clicks)[0] is flat


# --- labels of the caller's own -------------------------------------------------------------------


def labels_of(clicks, seed=4):
    return np.random.default_rng(seed).standard_normal(clicks.shape)


def scores_from(train, labels, histories, reg):
    coef = oracles.ridge(oracles.relu_ntk(train, train), labels, reg)
    return oracles.relu_ntk(histories, train) @ coef


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.coo_array, np.float32, lambda y: y.round().astype(int)])
def test_labels_are_fitted_in_place_of_the_clicks(form, dtype, clicks, new_users):
    labels = form(np.where(np.random.default_rng(1).random(clicks.shape) < 0.4, 3 * labels_of(clicks), 0))
    model = infae.fit(clicks, reg=0.7, targets=labels, dtype=dtype.name)
    dense = labels.toarray() if sp.issparse(labels) else labels
    train = clicks.matrix.toarray()
    for histories in (new_users, train, np.concatenate([train[3:5], new_users[:2]])):
        scores = model.predict(histories)
        assert scores.dtype == dtype
        assert_allclose(scores, scores_from(train, dense, histories, 0.7), **tolerance(dtype))


def test_clicks_for_labels_are_the_plain_fit(clicks, new_users, model):
    for labels in (clicks.matrix, clicks.matrix.copy(), clicks.matrix.toarray(), clicks.matrix.toarray() > 0):
        given = infae.fit(clicks, reg=1.0, targets=labels)
        for histories in (new_users, clicks):
            assert_allclose(given.predict(histories), model.predict(histories), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_labels_of_users_without_clicks_go_with_them(form, clicks, new_users):
    labels, gaps = labels_of(clicks), [0, 5, 24]
    with pytest.warns(UserWarning, match="3 of 27 users have no clicks"):
        model = infae.fit(
            np.insert(clicks.matrix.toarray(), gaps, 0, axis=0),
            targets=form(np.insert(labels, gaps, 99.0, axis=0)),
            dtype="float64",
        )
    expected = infae.fit(clicks, targets=form(labels), dtype="float64")
    for histories in (new_users, clicks.matrix):
        assert_array_equal(model.predict(histories), expected.predict(histories))
    assert_array_equal(model.leave_one_out(np.arange(24)), expected.leave_one_out(np.arange(24)))


def test_a_reg_is_chosen_for_the_labels(split):
    labels, regs = labels_of(split.train), [0.01, 1.0, 100.0]
    model = infae.fit(split.train, reg=regs, validation=split, targets=labels, metric="AUC")
    single = {reg: infae.fit(split.train, reg=reg, targets=labels) for reg in regs}
    values = {reg: infae.evaluate(m, split, on="validation")["AUC"] for reg, m in single.items()}
    assert [row["AUC"] for row in model.path_] == list(values.values())
    assert_array_equal(model.predict(split.train), single[max(regs, key=values.get)].predict(split.train))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((24, 15)), r"X's shape \(24, 16\), got float64 \(24, 15\)"),
        (np.zeros((23, 16)), "X's shape"),
        (sp.csr_matrix((16, 24)), r"got float64 \(16, 24\)"),
        (np.zeros(24), "targets: expected a 2-D"),
        (np.full((24, 16), "a"), "targets"),
        (np.zeros((24, 16), complex), "targets"),
        (np.where(np.eye(24, 16), np.nan, 0), "NaN or infinity"),
        (sp.csr_matrix(np.where(np.eye(24, 16), -np.inf, 0)), "NaN or infinity"),
    ],
    ids=["items", "users", "turned", "flat", "strings", "complex", "NaN", "infinity"],
)
def test_bad_labels_are_refused(labels, message, clicks):
    with pytest.raises(ValueError, match=message):
        infae.fit(clicks, targets=labels)


@pytest.mark.parametrize(
    "labels_dtype",
    [
        np.float32,
        np.float64,
        int,
    ],
)
def test_scores_are_of_the_models_dtype_whatever_the_labels(labels_dtype, clicks):
    model = infae.fit(clicks, targets=labels_of(clicks).astype(labels_dtype))
    assert model.predict(clicks).dtype == np.float32
    assert model.recommend(clicks, n=2)[1].dtype == np.float32
    assert model.leave_one_out(np.arange(3)).dtype == np.float32


# --- soft clicks ----------------------------------------------------------------------------------


def as_interactions(rows):
    return Interactions(sp.csr_matrix(rows), np.arange(len(rows)), np.arange(rows.shape[1]))


@pytest.mark.parametrize("params", [*INPUTS[:3], INPUTS[4]], ids=str)
def test_soft_clicks_count_by_their_value(params, dtype, clicks, new_users):
    rng = np.random.default_rng(3)
    train, others = (x * rng.random(x.shape).astype(np.float32) for x in (clicks.matrix.toarray(), new_users))
    model = infae.fit(as_interactions(train), reg=0.7, dtype=dtype.name, **params)
    for histories in (others, train):
        expected = oracles.infinite_ae(train.astype(np.float64), histories, 0.7, **params)
        assert_allclose(model.predict(as_interactions(histories)), expected, **tolerance(dtype))


def test_soft_rows_of_the_same_items_are_told_apart():
    """Rows without a single zero, which a hash of the clicked items cannot tell apart."""
    train = np.random.default_rng(3).uniform(0.1, 1, (9, 5)).astype(np.float32)
    labels = labels_of(train)
    model = infae.fit(as_interactions(train), reg=0.7, targets=labels, dtype="float64")
    expected = scores_from(train, labels, train, 0.7)
    # Most go by the kernel, where a row that meets itself loses half of the digits.
    assert_allclose(model.predict(as_interactions(train)), expected, rtol=0, atol=1e-7)
    assert_allclose(model.predict(as_interactions(train[::-1])), expected[::-1], rtol=0, atol=1e-7)


# --- leave one out --------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"row_power": 1.0, "b_std": 0.0, "item_weights": WEIGHTS}], ids=["raw", "unit"])
@pytest.mark.parametrize("labelled", [False, True], ids=["clicks", "labels"])
def test_leave_one_out_equals_fitting_without_each_user(labelled, params, dtype, clicks):
    labels = labels_of(clicks) if labelled else clicks.matrix
    params = {**params, "dtype": dtype.name}
    model = infae.fit(clicks, reg=0.7, targets=labels, **params)
    rows = model.inputs_(clicks.matrix, np.dtype(np.float64)).toarray()
    diagonal = np.diagonal(oracles.relu_ntk(rows, rows, b_std=params.get("b_std", 0.1)))
    scores = model.leave_one_out(np.arange(24))
    assert scores.shape == (24, 16)
    for user in (0, 7, 23):
        others = np.delete(np.arange(24), user)
        # The same ridge, which `reg` states relative to another mean diagonal.
        reg = 0.7 * diagonal.mean() / diagonal[others].mean()
        without = infae.fit(clicks.select_users(others), reg, targets=labels[others], **params)
        expected = without.predict(clicks.select_users(np.array([user])))
        assert_allclose(scores[[user]], expected, **tolerance(dtype))
        assert np.abs(scores[user] - model.predict(clicks)[user]).max() > 0.01


def test_leave_one_out_of_some_users_in_any_order(clicks, model):
    whole = model.leave_one_out(np.arange(24))
    for rows in ([5, 0, 5], np.array([23]), range(3, 6), np.array([], int)):
        assert_array_equal(model.leave_one_out(rows), whole[list(rows)])


@pytest.mark.parametrize("rows", [[24], [0, 99]])
def test_leave_one_out_is_for_training_users(rows, model):
    with pytest.raises(ValueError, match="positions from 0 to 23"):
        model.leave_one_out(rows)


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
    with pytest.raises(ValueError, match="n must be a whole number from 1 to 16"):
        model.recommend(new_users, n=n)


def test_more_items_asked_for_than_given(new_users, model):
    with pytest.raises(ValueError, match="from 1 to 2"):
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


@pytest.mark.slow
def test_a_path_holds_no_more_than_the_best_solution(split, monkeypatch):
    from infae.solvers import base, exact

    def alive():
        # Not collected first: what is left to a cycle takes gigabytes at scale.
        return sum(issubclass(type(thing), base.Solution) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    held, before, real = [], alive(), exact.factor
    monkeypatch.setattr(exact, "factor", lambda *args, **more: held.append(alive() - before) or real(*args, **more))
    # The same reg again never beats the first, so that what is held beyond the best shows.
    try:
        infae.fit(split.train, reg=[1.0, 1.0, 1.0, 1.0], validation=split)
    finally:
        gc.enable()
    assert held == [0, 1, 1, 1]
