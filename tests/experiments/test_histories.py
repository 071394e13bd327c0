"""Bags, histories and the questions that users are asked, none of which needs PyTorch."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

import distillcf
from experiments.ctr import histories, tables
from experiments.ctr.fields import Field, Fields
from experiments.ctr.histories import Users, history_rows, item_fields
from experiments.ctr.rows import Rows
from experiments.inversion.summarised import Question

RNG = np.random.default_rng(0)
CLICKS = sp.csr_matrix((RNG.random((12, 9)) < 0.5).astype(np.float32))


def test_a_bag_is_scaled_by_the_sizes_of_its_numbers():
    column = pd.Series([{"a": 3, "b": -1}, {}, {"c": 0.5}, None, {"a": 2}], name="past")
    field = Field.of(column.iloc[[0, 4]], "bag")
    assert field.values == ("a", "b")
    encoded = field.encode(column)
    assert_allclose(encoded.toarray(), [[0, 0.75, -0.25], [0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]])
    fields = Fields((field,))
    assert_allclose(fields.rows(pd.DataFrame({"past": column})).values[0].toarray(), encoded.toarray())


def test_a_bag_comes_back_from_parquet(tmp_path):
    frame = pd.DataFrame({"past": [{"a": 3.0}, {"b": -1.0}]})
    frame.to_parquet(tmp_path / "bags.parquet")
    read = pd.read_parquet(tmp_path / "bags.parquet")["past"]
    field = Field.of(frame["past"], "bag")
    assert_allclose(field.encode(read).toarray(), [[0, 1, 0], [0, 0, -1]])


@pytest.mark.parametrize("value", ["a|b", ["a"], {"a": np.nan}, {"a": "much"}])
def test_what_is_no_bag_is_refused(value):
    with pytest.raises(ValueError, match="'past' must hold"):
        Field.of(pd.Series([value], name="past"), "bag")


def test_a_history_is_the_users_past_but_for_the_item_itself():
    users, items = (each.ravel() for each in np.indices(CLICKS.shape))
    rows = history_rows(item_fields(9), CLICKS, users, items, np.zeros(users.size), np.random.default_rng(1))
    expected = CLICKS.toarray()[users]
    expected[np.arange(users.size), items] = 0
    expected /= np.maximum(expected.sum(1, keepdims=True), 1)
    assert_allclose(rows.values[0].toarray()[:, 1:], expected, rtol=1e-6)
    assert_array_equal(rows.values[1], items + 1)


def test_of_long_histories_a_random_part_is_read(monkeypatch):
    monkeypatch.setattr(histories, "LENGTH", 3)
    past = sp.csr_matrix(np.ones((1, 9), np.float32))
    users, items = np.zeros(3000, int), np.full(3000, 4)
    bags = history_rows(item_fields(9), past, users, items, np.zeros(3000), np.random.default_rng(1)).values[0]
    assert_array_equal(np.diff(bags.indptr), 3)
    read = np.asarray((bags > 0).mean(axis=0)).ravel()[1:]
    assert read[4] == 0
    assert_allclose(np.delete(read, 4), 3 / 8, atol=0.08)


def test_a_user_without_a_past_has_an_empty_history():
    rows = history_rows(
        item_fields(2), sp.csr_matrix((1, 2)), np.array([0]), np.array([1]), np.ones(1), np.random.default_rng(0)
    )
    assert rows.values[0].nnz == 0


def test_rows_are_drawn_by_what_is_asked_the_same_for_the_same_epoch():
    asked = sp.csr_matrix(np.array([[1.0, 0, 3], [0, 4, 0]], np.float32))
    draw = Users(asked, asked, np.array([0.0, 0.5, 1.0])).drawn(item_fields(3), 8000, seed=3)
    rows = draw(0)
    for item, label, share in ((1, 0, 1 / 8), (3, 0.5, 3 / 8), (2, 1, 4 / 8)):
        of_item = rows.values[1] == item
        assert np.isclose(of_item.mean(), share, atol=0.02)
        assert (rows.known_labels[of_item] == np.float32(label)).all()
    assert_array_equal(draw(0).values[1], rows.values[1])
    assert (draw(1).values[1] != rows.values[1]).any()


def test_items_drawn_beside_clicks_weigh_nothing_where_they_were_clicked():
    users = Users(CLICKS, CLICKS, np.ones(CLICKS.nnz), negatives=True)
    rows = users.drawn(item_fields(9), 2000, seed=0)(0)
    assert_array_equal(rows.known_labels, np.repeat([1, 0], 1000))
    weights = rows.weights[1000:]
    # The share of places that a user has not clicked, users by how much they clicked.
    counts = np.diff(CLICKS.indptr)
    assert_allclose(weights.mean(), (counts * (1 - counts / 9)).sum() / counts.sum(), atol=0.05)
    assert set(weights) == {0.0, 1.0}


def test_users_who_are_asked_nothing_are_refused():
    nothing = sp.csr_matrix((2, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="asked for no item"):
        Users(nothing, nothing, np.empty(0)).drawn(item_fields(3), 10, seed=0)


# --- questions ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    made = tables.made(n_users=40, n_items=30, n_rows=1000)
    once = made.frame.drop_duplicates(["user", "item"])
    return tables.random_parts(tables.Table("made", once, made.kinds), 0)


def pairs(rows):
    return set(zip(*rows.values, strict=True))


def test_held_out_rows_of_the_implicit_question_are_clicks_and_items_never_clicked(data):
    question = Question("implicit", data)
    rows = question.held_out("test")
    n = len(rows) // 2
    assert_array_equal(rows.known_labels, np.repeat([1, 0], n))
    assert n == (data.test.known_labels == 1).sum()
    clicked = sum(
        sp.csr_matrix((part.known_labels, part.values), shape=(41, 31))
        for part in (data.train, data.validation, data.test)
    )
    users = data.test.values[0][data.test.known_labels == 1]
    others = np.asarray(clicked[users, rows.values[1][n:]]).ravel()
    assert not others.any()


def test_held_out_rows_of_the_explicit_question_are_all_rows_beside_signed_histories(data):
    question = Question("explicit", data)
    rows = question.held_out("validation")
    assert len(rows) == len(data.validation)
    assert rows.known_labels.mean() == data.validation.known_labels.mean()
    signs = sp.csr_matrix((2 * data.train.known_labels - 1, data.train.values), shape=(41, 31)).toarray()
    history = rows.values[0].toarray()
    for k in (0, 7, 20):
        past = signs[data.validation.values[0][k]].copy()
        past[data.validation.values[1][k]] = 0
        assert_allclose(history[k], past / np.abs(past).sum(), atol=1e-6)


@pytest.mark.slow
def test_a_summary_is_read_in_each_form(data):
    question = Question("explicit", data)
    summary = distillcf.distill(question.split.train, 5, steps=3, labels="free", seed=0)
    soft, hard, free = (question.users(summary, form) for form in ("soft", "hard", "free"))
    good, bad = summary.soft[:, :30], summary.soft[:, 30:]
    well, badly = (np.where(each >= 0.01, each, 0) for each in (good, bad))
    assert_allclose(soft.past.toarray(), well - badly, atol=1e-6)
    assert_allclose(soft.asked.toarray(), well + badly, atol=1e-6)
    assert_allclose(hard.asked.toarray(), summary.hard[:, :30] + summary.hard[:, 30:], atol=1e-6)
    assert_allclose(free.past.toarray(), soft.past.toarray())
    told = np.clip(summary.labels, 0, 1)
    dense = sp.csr_matrix((free.labels, free.asked.indices, free.asked.indptr), shape=(5, 30)).toarray()
    known = told[:, :30] + told[:, 30:] > 0
    assert_allclose(dense[known], (told[:, :30] / (told[:, :30] + told[:, 30:] + 1e-30))[known], atol=1e-5)


def test_other_questions_and_forms_are_refused(data):
    with pytest.raises(ValueError, match="question must be one of"):
        Question("implict", data)
    with pytest.raises(ValueError, match="form must be one of"):
        Question("implicit", data).users(Question("implicit", data).split.train, "binary")
    rows = Rows(Fields.numbered(user=2, item=2, day=2), 3 * (np.array([1, 2]),), np.array([0, 1]))
    with pytest.raises(ValueError, match="about a user and an item, got user, item, day"):
        Question("implicit", tables.Data("mine", rows, rows, rows))


def test_a_user_who_clicked_everything_is_asked_for_nothing_else():
    fields = Fields.numbered(user=2, item=2)
    rows = Rows(fields, (np.array([1, 1, 2]), np.array([1, 2, 1])), np.ones(3))
    held_out = Question("implicit", tables.Data("mine", rows, rows, rows)).held_out("validation")
    assert_array_equal(held_out.values[1], [1, 2])


def test_odd_numbers_of_rows_are_drawn_whole():
    users = Users(CLICKS, CLICKS, np.ones(CLICKS.nnz), negatives=True)
    assert len(users.drawn(item_fields(9), 7, seed=0)(0)) == 7
    with pytest.raises(ValueError, match="n_rows"):
        users.drawn(item_fields(9), 1, seed=0)


@pytest.mark.slow
def test_free_labels_are_of_summaries_that_have_them(data):
    question = Question("implicit", data)
    with pytest.raises(ValueError, match="labels='free'"):
        question.users(distillcf.distill(question.split.train, 5, steps=2, seed=0), "free")
