"""Fields, rows, tables and metrics of click-through models, none of which needs PyTorch."""

import os

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from experiments.ctr import metrics, tables
from experiments.ctr.fields import Field, Fields
from experiments.ctr.rows import Rows

KINDS = {"user": "category", "genres": "several", "year": "bins", "price": "standard"}


def frame():
    return pd.DataFrame(
        {
            "user": [7, 3, 7, 5],
            "genres": ["Drama|Comedy", "Drama", "", None],
            "year": [1990.0, 1995, np.nan, 2001],
            "price": [1.0, 3.0, 5.0, np.nan],
            "label": [1, 0, 1, 0],
        }
    )


# --- fields ---------------------------------------------------------------------------------------


def test_each_kind_of_field_is_encoded_as_it_says():
    user, genres, year, price = Fields.of(frame(), KINDS).rows(frame(), "label").values
    assert_array_equal(user, [3, 1, 3, 2])
    assert_allclose(genres.toarray(), [[0, 0.5, 0.5], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert year[2] == 0
    assert sorted(year[[0, 1, 3]]) == list(year[[0, 1, 3]])
    assert_allclose(price[:3, 0].mean(), 0, atol=1e-6)
    assert_allclose(price[:3, 0].std(), 1, atol=1e-6)
    assert_array_equal(price[3], [0, 1])


def test_values_that_training_rows_lack_are_value_0():
    fields = Fields.of(frame(), KINDS)
    new = frame().assign(user=[9, 7, None, 3], genres=["Horror", "Horror|Drama", "Drama", ""])
    rows = fields.rows(new)
    assert_array_equal(rows.values[0], [0, 3, 0, 1])
    assert_allclose(rows.values[1].toarray(), [[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1], [1, 0, 0]])
    assert rows.labels is None


def test_a_missing_value_of_training_rows_is_a_value():
    column = pd.Series(["a", None, "b"], name="city")
    field = Field.of(column)
    assert_array_equal(field.encode(column), [1, 3, 2])
    assert_array_equal(field.encode(pd.Series([None, "z", "a"], name="city")), [3, 0, 1])


def test_values_that_nobody_knows_are_told_of():
    field = Field.of(pd.Series([1, 2, 3], name="user"))
    with pytest.warns(UserWarning, match="2 of 4 values are unknown, such as 8"):
        assert_array_equal(field.encode(pd.Series([1, 8, 9, 2], name="user")), [1, 0, 0, 2])
    with pytest.raises(ValueError, match="'user' holds text, such as 'u1'; its known values are numbers"):
        field.encode(pd.Series(["u1", "u2"], name="user"))


def test_a_history_has_the_values_of_its_items():
    frame = pd.DataFrame({"item": [3, 12, 5], "history": ["12|5", "", "3|99"]})
    fields = Fields.of(frame, {"item": "category", "history": "several of item"})
    item, history = fields
    assert item.values == history.values == (3, 5, 12, 99)
    assert_allclose(fields.rows(frame).values[1].toarray()[0], [0, 0, 0.5, 0.5, 0])
    mixed = pd.DataFrame({"item": ["a1", "12", "5"], "history": ["12|a1", "", "5"]})
    item, history = Fields.of(mixed, {"item": "category", "history": "several of item"})
    assert item.values == history.values == (5, 12, "a1")
    for kinds in ({"item": "bins", "history": "several of item"}, {"item": "category", "history": "bins of item"}):
        with pytest.raises(ValueError, match="several or bag of the values of a category field"):
            Fields.of(frame, kinds)


def test_fields_of_numpy_texts_are_the_same_from_their_file(tmp_path):
    fields = Fields.of(pd.DataFrame({"city": [np.str_("a"), np.str_("b")]}, dtype=object), {"city": "category"})
    fields.save(tmp_path / "fields.json")
    assert Fields.load(tmp_path / "fields.json").fingerprint == fields.fingerprint


def test_empty_texts_are_values_and_empty_parts_none():
    assert Field.of(pd.Series(["b", "", None], name="city")).values == ("", "b", None)
    assert Field.of(pd.Series(["b||a|", ""], name="tags"), "several").values == ("a", "b")


def test_a_column_of_one_number_is_not_scaled_by_rounding():
    field = Field.of(pd.Series([0.1] * 1000, name="price"), "standard")
    assert_allclose(field.encode(pd.Series([0.1, 1.1], name="price"))[:, 0], [0, 1], atol=1e-6)


def test_fields_are_saved_and_loaded(tmp_path):
    fields = Fields.of(frame(), KINDS)
    fields.save(tmp_path / "fields.json")
    loaded = Fields.load(tmp_path / "fields.json")
    assert loaded == fields
    for a, b in zip(loaded.rows(frame()).values, fields.rows(frame()).values, strict=True):
        assert_array_equal(a.toarray() if sp.issparse(a) else a, b.toarray() if sp.issparse(b) else b)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"fields": [{"name": 1, "colour": 2}]}', '{"fields": 3}', '{"fields": []}']
)
def test_a_file_that_holds_no_fields_is_refused(text, tmp_path):
    (tmp_path / "fields.json").write_text(text)
    with pytest.raises(ValueError, match=r"no fields|at least one field"):
        Fields.load(tmp_path / "fields.json")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Fields.of(frame(), {"colour": "category"}), "colour"),
        (lambda: Fields.of(frame(), {"user": "numeric"}), "kind of 'user' must be one of"),
        (lambda: Fields.numbered(labels=3), "labels cannot be the name"),
        (lambda: Fields.numbered(user=3, user_share=3), "user_share cannot be the name"),
        (lambda: Fields.of(frame(), {"genres": "bins"}), "'genres' must hold numbers"),
        (lambda: Fields.of(frame().assign(price=np.nan), {"price": "standard"}), "no number"),
        (lambda: Fields.of(frame(), KINDS).rows(frame().drop(columns="year")), "year"),
        (
            lambda: Fields.of(frame(), KINDS).rows(frame().assign(label=[0, 2, 1, 1]), "label"),
            "from 0 to 1, got 0 to 2",
        ),
        (lambda: Fields.of(frame(), KINDS).rows(frame().assign(label=[0, None, 1, 1]), "label"), "NaN"),
    ],
)
def test_bad_tables_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- rows -----------------------------------------------------------------------------------------

FIELDS = Fields.numbered(user=3, item=2)
IDS = np.array([0, 2])


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        ((IDS, np.array([0, 3])), None, "takes ids from 0 to 2"),
        ((IDS, np.array([-1, 0])), None, "takes ids from 0 to 2"),
        ((IDS, np.array([0.0, 1.0])), None, "takes ids"),
        ((IDS, np.eye(2)), None, "takes soft vectors of 3 numbers, got float64 .2, 2."),
        ((IDS, np.full((2, 3), 0.5)), None, "that sum to 1; got a smallest of 0 and sums from 1.5"),
        ((IDS, np.array([[-1, 1, 1], [0, 0, 1.0]])), None, "smallest of -1"),
        ((IDS, np.array([[np.nan, 1, 1], [0, 0, 1.0]])), None, "NaN"),
        ((IDS, sp.csr_matrix((2, 3), dtype=np.float32)), None, "sums from 0 to 0"),
        ((IDS,), None, "values of 2 fields, got 1"),
        ((IDS, np.array([0, 1, 1])), None, "as many of each"),
        ((IDS, IDS), np.array([0, 1.5]), "labels must be from 0 to 1, got 0 to 1.5"),
        ((IDS, IDS), np.array([0.0, np.nan]), "NaN"),
        ((IDS, IDS), np.array(["yes", "no"]), "column of numbers"),
        ((IDS, IDS), np.zeros(3), "as many of each"),
    ],
)
def test_bad_rows_are_refused(values, labels, message):
    with pytest.raises(ValueError, match=message):
        Rows(FIELDS, values, labels)


def test_rows_of_ids_and_soft_ones_are_joined():
    soft = Rows(FIELDS, (np.full((2, 4), 0.25), np.eye(3)[:2]), np.array([0.3, 0.7]), np.array([2.0, 3.0]))
    both = Rows.joined([Rows(FIELDS, (IDS, IDS), np.array([0, 1])), soft])
    assert_allclose(both.values[0].toarray(), [[1, 0, 0, 0], [0, 0, 1, 0], [0.25] * 4, [0.25] * 4])
    assert_allclose(both.weights, [1, 1, 2, 3])
    assert_allclose(both.labels, [0, 1, 0.3, 0.7])
    with pytest.raises(ValueError, match="different fields"):
        Rows.joined([soft, Rows(Fields.numbered(user=3, item=3), (IDS, IDS), np.array([0, 1]))])


@pytest.mark.parametrize("soft", [False, True])
def test_rows_are_saved_and_read_by_pandas_alone(soft, tmp_path):
    values = (np.array([[0.5, 0, 0.5, 0], [0, 1, 0, 0]]), np.eye(3)[:2]) if soft else (IDS, IDS)
    rows = Rows(FIELDS, values, np.array([0.25, 1.0]))
    rows.save(tmp_path / "rows.parquet")
    table = pd.read_parquet(tmp_path / "rows.parquet")
    assert_allclose(table["labels"], [0.25, 1])
    if soft:
        assert [list(each) for each in table["user"]] == [[0, 2], [1]]
        assert [list(each) for each in table["user_share"]] == [[0.5, 0.5], [1]]
    loaded = Rows.load(tmp_path / "rows.parquet", FIELDS)
    for a, b in zip(loaded.soft().values, rows.soft().values, strict=True):
        assert_array_equal(a.toarray(), b.toarray())
    for other in (Fields.numbered(user=3, colour=2), Fields.numbered(user=4, item=2)):
        with pytest.raises(ValueError, match="of other fields, or of other values"):
            Rows.load(tmp_path / "rows.parquet", other)
    table.assign(user_share=1.0).to_csv(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match="holds no rows of"):
        Rows.load(tmp_path / "rows.csv", FIELDS)


# --- tables ---------------------------------------------------------------------------------------


def table(n=100):
    rng = np.random.default_rng(0)
    made = {"user": rng.integers(5, size=n), "time": rng.permutation(n), "label": np.arange(n) % 2}
    return tables.Table("made", pd.DataFrame(made), {"user": "category"})


def test_a_random_split_takes_each_row_once_by_its_seed():
    first, again, other = (tables.random_parts(table(), seed) for seed in (0, 0, 1))
    assert [len(part) for part in (first.train, first.validation, first.test)] == [80, 10, 10]
    assert_array_equal(first.test.values[0], again.test.values[0])
    assert (first.train.values[0] != other.train.values[0]).any()


def test_a_column_named_part_is_a_field_like_any_other():
    made = table().frame.assign(part=np.arange(100) % 4)
    data = tables.random_parts(tables.Table("made", made, {"user": "category", "part": "category"}))
    assert (len(data.train), len(data.test)) == (80, 10)


def test_windows_follow_time():
    parts = tables.windows(table(), 3)
    assert sum(map(len, parts)) == 100
    assert parts[0]["time"].max() < parts[1]["time"].min() <= parts[1]["time"].max() < parts[2]["time"].min()
    without = table().frame.drop(columns="time")
    with pytest.raises(ValueError, match="no times"):
        tables.windows(tables.Table("made", without, {"user": "category"}))


def test_windows_follow_each_users_own_time():
    given = tables.made(n_users=12, n_items=9, n_rows=500)
    given.frame["time"] = np.random.default_rng(0).permutation(500)
    parts = tables.windows(given, 3, by_user=True)
    assert sum(map(len, parts)) == 500
    for user in range(12):
        times = [part.loc[part["user"] == user, "time"] for part in parts]
        assert max(map(len, times)) - min(map(len, times)) <= 1
        assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_of_ones_own_is_read(ending, tmp_path):
    path, given = tmp_path / f"mine.{ending}", frame().rename(columns={"label": "click"})
    given.to_csv(path, index=False) if ending == "csv" else given.to_parquet(path)
    read = tables.read(path, KINDS, label="click")
    assert_array_equal(read.frame["label"], [1, 0, 1, 0])
    with pytest.raises(ValueError, match="bought"):
        tables.read(path, KINDS, label="bought")
    with pytest.raises(ValueError, match="must not be a field too"):
        tables.read(path, {**KINDS, "click": "category"}, label="click")
    given.assign(click=1).to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(ValueError, match="0 and 1, both of them"):
        tables.read(tmp_path / "one.csv", KINDS, label="click")


@pytest.mark.parametrize("name", ["yahoo-uniform", "yahoo-selected", "ml-1m-side", "frappe"])
@pytest.mark.slow
def test_public_tables_have_their_published_sizes(name):
    if not os.environ.get("INFAE_DATA"):
        pytest.skip("needs INFAE_DATA")
    n, clicks = {
        "yahoo-uniform": (54_000, 0.088), "yahoo-selected": (311_704, 0.401), "ml-1m-side": (1_000_209, 0.575),
        "frappe": (288_609, 1 / 3),
    }[name]  # fmt: skip
    found = tables.TABLES[name](None)
    assert len(found.frame) == n
    assert_allclose(found.frame["label"].mean(), clicks, atol=0.001)
    data = tables.random_parts(found)
    assert len(data.train) + len(data.validation) + len(data.test) == n


# --- metrics --------------------------------------------------------------------------------------


def labels_and_logits(n=200):
    rng = np.random.default_rng(0)
    return rng.integers(2, size=n), np.round(rng.normal(size=n), 1)


def test_metrics_are_those_of_scikit_learn():
    labels, logits = labels_and_logits()
    assert_allclose(metrics.auc(labels, logits), roc_auc_score(labels, logits))
    assert_allclose(metrics.log_loss(labels, logits), sklearn_log_loss(labels, 1 / (1 + np.exp(-logits))))
    groups = np.arange(200) % 7
    parts = [(roc_auc_score(labels[groups == g], logits[groups == g]), (groups == g).sum()) for g in range(7)]
    values, sizes = zip(*parts, strict=True)
    assert_allclose(metrics.grouped_auc(labels, logits, groups), np.average(values, weights=sizes))


def test_groups_may_be_texts_and_are_one_a_row():
    assert metrics.grouped_auc([0, 1, 1, 0], [0.0, 1, 2, 3], ["a", "a", "b", "b"]) == 0.5
    with pytest.raises(ValueError, match="a group for each of 4 rows"):
        metrics.grouped_auc([0, 1, 1, 0], [0.0, 1, 2, 3], [0, 0])


def test_a_constant_is_calibrated_whatever_the_order_of_rows():
    assert metrics.calibration([0] * 100 + [1] * 100, np.zeros(200)).error < 1e-12


def test_extreme_logits_have_a_finite_loss():
    assert_allclose(metrics.log_loss([1, 0], [-1000.0, 1000.0]), 1000)


def test_calibration_of_labels_drawn_by_the_model_and_of_a_shift():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=50_000)
    labels = rng.random(50_000) < 1 / (1 + np.exp(-logits))
    assert metrics.calibration(labels, logits).error < 0.01
    assert metrics.calibration(labels, logits + 1).error > 0.1
    assert metrics.calibration(labels, logits).n.sum() == 50_000


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([1, 1], [0.0, 1], "both of them"),
        ([0.5, 1], [0.0, 1], "labels 0 and 1"),
        ([0, 2], [0.0, 1], "from 0 to 1, got 0 to 2"),
        ([0, 1], [np.nan, 1], "1 of 2 logits are NaN"),
        ([0, 1], [0.0], "as many labels as logits"),
        ([], [], "at least one"),
    ],
)
def test_metrics_refuse_what_they_are_not_of(labels, logits, message):
    with pytest.raises(ValueError, match=message):
        metrics.auc(labels, logits)


def test_groups_of_one_kind_are_left_out():
    assert metrics.grouped_auc([0, 1, 1, 1], [0.0, 1, 5, 4], [0, 0, 1, 1]) == 1
    with pytest.raises(ValueError, match="no group"):
        metrics.grouped_auc([0, 1], [0.0, 1], [0, 1])
