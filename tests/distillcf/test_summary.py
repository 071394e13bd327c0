"""`Summary`: its file, its exports, its samples and the model it fits."""

import ast
import inspect
import json
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import oracles
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import tolerance
from test_distill import (  # noqa: F401 - a fixture for this module too
    ARRAYS,
    LABELS,
    assert_same_bits,
    compiled_once,
    distil,
    linear,
    planted_split,
)

import distillcf
import infae
from distillcf import Summary, SummaryFileError
from infae import InfiniteAE, Interactions
from infae.data.arrays import read_parquet
from infae.data.fingerprint import clicks_fingerprint
from infae.data.readers import read_inter

FORMS = ("hard", "soft")
EXPORTS = {
    "to_csv": ("clicks.csv", lambda path: pd.read_csv(path)),
    "to_parquet": ("clicks.parquet", lambda path: pd.read_parquet(path)),
    "to_recbole": ("made.inter", lambda path: pd.read_csv(path, sep="\t")),
}


@pytest.fixture(scope="module")
def clicks():
    """The planted training clicks, with items of string ids in no order."""
    train = planted_split().train
    return Interactions(train.matrix, train.user_ids, np.array([f"item {(7 * i) % 60}" for i in range(60)]))


@pytest.fixture(scope="module", params=LABELS)
def summary(request, clicks):
    """Both kinds of labels; not to be changed."""
    return distil(clicks, labels=request.param, seed=3)


@pytest.fixture
def small():
    """3 synthetic users x 4 items, made up by hand: nothing in it is expensive."""
    soft = np.array([[0.9, 0.004, 0.5, 0.0], [0.01, 1.0, 0.25, 0.125], [0.0, 0.0, 0.0, 0.75]], np.float32)
    return Summary(
        logits=np.log(np.maximum(soft, 1e-6)),
        soft=soft,
        hard=(soft > 0.4).astype(np.uint8),
        labels=None,
        hard_labels=None,
        item_ids=np.array(["d", "b", "é", "a"]),
        item_weights=None,
        model={"depth": 1, "w_std": 2**0.5, "b_std": 0.1, "row_power": 0.0, "own_kernel": False},
        reg=0.5,
        config=distillcf.Config(n_users=3, n_draws=5, seed=11).as_dict(),
        fingerprint="0" * 64,
        kept=3,
        history=[],
    )


@pytest.fixture
def saved(small, tmp_path):
    path = tmp_path / "summary.npz"
    small.save(path)
    return path


def rewrite(path, **changes):
    """Save the fields of a summary again with some of them changed; None leaves one out."""
    with np.load(path) as archive:
        kept = {**archive, **changes}
    np.savez(path, **{name: value for name, value in kept.items() if value is not None})


# --- the file -------------------------------------------------------------------------------------


def test_a_loaded_summary_is_the_same_to_the_bit(summary, tmp_path):
    for path in (tmp_path / "summary.npz", str(tmp_path / "summary.npz")):
        summary.save(path)
        loaded = distillcf.load(path)
        assert_same_bits(loaded, summary)
        assert loaded.config == summary.config
        assert [row["seconds"] for row in loaded.history] == [row["seconds"] for row in summary.history]
        assert_array_equal(loaded.sample(5).matrix.toarray(), summary.sample(5).matrix.toarray())
        assert repr(loaded) == repr(summary)


def test_a_loaded_summary_fits_the_same_model(summary, clicks, tmp_path):
    summary.save(tmp_path / "summary.npz")
    loaded = distillcf.load(tmp_path / "summary.npz")
    for form in FORMS:
        assert_array_equal(loaded.fit(form).predict(clicks), summary.fit(form).predict(clicks))


def test_every_attribute_survives(small, tmp_path):
    """No two arrays alike, so that none can stand for another."""
    rng = np.random.default_rng(0)
    odd = replace(
        small,
        labels=rng.standard_normal((3, 4)).astype(np.float32),
        hard_labels=rng.standard_normal((3, 4)).astype(np.float32),
        item_weights=rng.random(4),
        item_ids=np.array([7, -1, 2**40, 0]),
        history=[{"step": 1, "loss": 0.1, "AUC": float("nan"), "seconds": 0.3}],
        reg=0.1 + 0.2,
    )
    odd.save(tmp_path / "summary.npz")
    loaded = distillcf.load(tmp_path / "summary.npz")
    assert_same_bits(loaded, odd)
    for name in (field.name for field in fields(Summary)):
        if name not in ARRAYS:
            assert repr(getattr(loaded, name)) == repr(getattr(odd, name)), name


@pytest.mark.parametrize("name", ["summary_of_0.1.npz", "summary_of_0.1_clicks.npz"])
def test_files_of_version_0_1_load(name):
    """With free labels and item weights, and without either."""
    path = Path(__file__).parent / "files" / name
    loaded = distillcf.load(path)
    with np.load(path) as archive:
        for array in ARRAYS:
            found = getattr(loaded, array)
            assert_array_equal(archive[array], np.zeros(0) if found is None else found)
        assert json.loads(str(archive["about"]))["config"] == loaded.config
    assert (loaded.labels is None) == (loaded.item_weights is None) == ("clicks" in name)
    assert [row["step"] for row in loaded.history] == [2, 4]
    for form in FORMS:
        assert np.isfinite(loaded.fit(form).predict(np.eye(10))).all()


def documented_lines():
    """The NumPy lines in `Summary.save`'s docstring."""
    lines = [line.strip() for line in inspect.getdoc(Summary.save).splitlines()]
    return [line for line in lines if line.startswith(("file =", "clicks =", "items ="))]


def test_three_documented_lines_of_numpy_read_it(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small.save("summary.npz")
    lines = documented_lines()
    assert len(lines) == 3
    assert all(isinstance(node, ast.Assign) for node in ast.parse("\n".join(lines)).body)
    found = {"np": np}
    exec("\n".join(lines), found)
    assert_array_equal(found["clicks"], small.hard)
    assert_array_equal(found["items"], small.item_ids)


def test_the_file_holds_all_that_is_promised_and_no_pickle(summary, tmp_path):
    summary.save(tmp_path / "summary.npz")
    with np.load(tmp_path / "summary.npz", allow_pickle=False) as file:
        held = {**file}
    assert not any(array.dtype.hasobject for array in held.values())
    for name in ("logits", "soft", "hard", "item_ids"):
        assert_array_equal(held[name], getattr(summary, name))
    assert int(held["version"]) == 1
    assert str(held["format"]) == "distillcf.Summary"
    about = json.loads(str(held["about"]))
    assert about["config"] == summary.config
    assert about["config"]["seed"] == 3
    assert about["config"]["n_users"] == 8
    assert about["fingerprint"] == summary.fingerprint
    assert len(about["history"]) == 3


def test_the_fingerprint_is_of_clicks_and_items_and_not_of_users(summary, clicks):
    assert len(summary.fingerprint) == 64
    assert int(summary.fingerprint, 16) >= 0
    users = Interactions(clicks.matrix, clicks.user_ids[::-1], clicks.item_ids)
    assert clicks_fingerprint(clicks) == clicks_fingerprint(users) == summary.fingerprint
    more = clicks.matrix.tolil()
    more[0, int(np.flatnonzero(more.toarray()[0] == 0)[0])] = 1
    moved = clicks.matrix[:, np.roll(np.arange(60), 1)].tocsr()
    moved.sort_indices()
    others = [
        clicks.with_matrix(more.tocsr()),
        clicks.with_matrix(moved),
        clicks.select_users(np.arange(1, 120)),
        clicks.select_users(np.arange(120)[::-1]),
        Interactions(clicks.matrix, clicks.user_ids, clicks.item_ids[::-1]),
        Interactions(clicks.matrix, clicks.user_ids, np.arange(60)),
    ]
    assert len({summary.fingerprint, *map(clicks_fingerprint, others)}) == 7


# --- files that are no summary --------------------------------------------------------------------


def test_truncated_files(saved):
    whole = saved.read_bytes()
    for length in [0, 1, 4, 30, 100, *range(200, len(whole), 99), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(SummaryFileError, match=r"summary\.npz"):
            distillcf.load(saved)


def test_a_flipped_bit_is_found_or_harmless(saved, small):
    whole, found = saved.read_bytes(), 0
    for place in range(0, len(whole), 13):
        for bit in (1, 64):
            saved.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                loaded = distillcf.load(saved)
            except SummaryFileError:
                found += 1
            else:
                assert_same_bits(loaded, small)
    assert found > 300


@pytest.mark.parametrize("name", ["labels", "hard_labels", "item_weights"])
def test_a_flipped_bit_does_not_take_labels_or_weights_away(name, small, tmp_path):
    path, shape = tmp_path / "summary.npz", (100, 1000)
    arrays = dict.fromkeys(("logits", "soft", "hard", "labels", "hard_labels"), np.ones(shape, np.float32))
    config = {**small.config, "n_users": 100}
    replace(small, **arrays, item_ids=np.arange(1000), item_weights=np.ones(1000), config=config).save(path)
    assert distillcf.load(path).labels is not None
    whole = path.read_bytes()
    # Of (100, 1000) or (1000,) the 1 becomes a 0: nothing to read, and no CRC-32 to compare.
    place = whole.index(b"'shape': (1", whole.index(f"{name}.npy".encode())) + len("'shape': (")
    path.write_bytes(whole[:place] + b"0" + whole[place + 1 :])
    with pytest.raises(SummaryFileError):
        distillcf.load(path)


@pytest.mark.parametrize(
    "content", [b"user_id,item_id\n1,2\n", b"\x93NUMPY", pickle.dumps({"format": 1}), b"PK\x03\x04 no zip"]
)
def test_foreign_bytes(content, tmp_path):
    path = tmp_path / "summary.npz"
    path.write_bytes(content)
    with pytest.raises(SummaryFileError, match=r"summary\.npz"):
        distillcf.load(path)


@pytest.mark.slow
def test_foreign_archives(clicks, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, data=np.zeros(3))
    infae.fit(clicks).save(tmp_path / "model.npz")
    distil(clicks, steps=1, checkpoint=tmp_path / "run.npz")
    for other in (path, tmp_path / "model.npz", tmp_path / "run.npz"):
        with pytest.raises(SummaryFileError, match=r"is not a file of distillcf\.Summary"):
            distillcf.load(other)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        distillcf.load(tmp_path / "none.npz")


def test_versions(saved):
    rewrite(saved, version=np.array(99))
    with pytest.raises(SummaryFileError, match="version 99 and this infae reads 1; upgrade"):
        distillcf.load(saved)
    rewrite(saved, version=np.array(0))
    with pytest.raises(SummaryFileError, match="version 0 and this infae reads 1; distill again"):
        distillcf.load(saved)


class Bomb:
    went_off = False

    def __setstate__(self, state):
        Bomb.went_off = True


@pytest.mark.parametrize("field", ["format", "about", "hard", "item_ids"])
def test_a_pickle_inside_is_never_opened(field, saved):
    bomb = Bomb()
    bomb.fuse = 1
    rewrite(saved, **{field: np.array([bomb], object)})
    with pytest.raises(SummaryFileError):
        distillcf.load(saved)
    assert not Bomb.went_off


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in ("logits", "soft", "hard", "labels", "item_ids", "about", "version")),
        {"version": np.array([1, 1])},
        {"about": np.array("{")},
        {"about": np.array("[]")},
        {"about": np.array("{}")},
        {"about": {"reg": "large"}},
        {"about": {"config": {}}},
        {"about": {"model": {"own_kernel": False, "width": 3}}},
        {"about": {"model": None}},
        {"about": {"reg": -1.0}},
        {"about": {"reg": True}},
        {"about": {"kept": 401}},
        {"about": {"kept": "3"}},
        {"about": {"fingerprint": "0" * 63}},
        {"about": {"fingerprint": "z" * 64}},
        {"about": {"history": [{"step": 1, "loss": "low"}]}},
        {"about": {"history": 3}},
        {"about": {"config": distillcf.Config(n_users=4).as_dict()}},
        {"about": {"config": {**distillcf.Config(n_users=3).as_dict(), "n_draws": 0}}},
        {"about": {"config": {**distillcf.Config(n_users=3).as_dict(), "width": 0}}},
        {"soft": np.array(0.5)},
        {"soft": np.zeros((3, 5), np.float32)},
        {"soft": np.full((3, 4), 7, np.float32)},
        {"logits": np.full((3, 4), np.nan, np.float32)},
        {"hard": np.zeros((2, 4), np.uint8)},
        {"hard": np.full((3, 4), 7, np.uint8)},
        {"labels": np.ones((3, 3), np.float32)},
        {"labels": np.ones((3, 4), np.float32)},
        {"hard_labels": np.full((3, 4), np.inf, np.float32)},
        {"item_ids": np.arange(3)},
        {"item_ids": np.array(["a", "a", "b", "c"])},
        {"item_weights": np.ones(3)},
        {"item_weights": np.array([1, 1, np.nan, 1])},
        {"item_ids": np.array([[1, 2, 3, 4]])},
        {"item_ids": np.array([1.0, 2.0, 3.0, 4.0])},
        {"soft": np.zeros((3, 4), complex)},
        {"logits": np.full((3, 4), "a")},
    ],
    ids=lambda changes: f"{next(iter(changes))}={next(iter(changes.values()))!r:.30}",
)
def test_damaged_fields(changes, saved):
    if isinstance(changes.get("about"), dict):
        with np.load(saved) as archive:
            changes = {"about": np.array(json.dumps({**json.loads(str(archive["about"])), **changes["about"]}))}
    rewrite(saved, **changes)
    with pytest.raises(SummaryFileError, match=r"summary\.npz"):
        distillcf.load(saved)


# --- writing --------------------------------------------------------------------------------------


def test_writing_leaves_one_file(small, tmp_path):
    for name in ("save", *EXPORTS):
        path = tmp_path / name / EXPORTS.get(name, ["summary.npz"])[0]
        path.parent.mkdir()
        for _ in range(2):
            getattr(small, name)(path)
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("method", "writer"),
    [
        ("save", "numpy.savez"),
        ("to_csv", "pandas.DataFrame.to_csv"),
        ("to_recbole", "pandas.DataFrame.to_csv"),
        ("to_parquet", "pandas.DataFrame.to_parquet"),
    ],
)
def test_a_failing_write_leaves_the_old_file(method, writer, small, tmp_path, monkeypatch):
    path = tmp_path / EXPORTS.get(method, ["summary.npz"])[0]
    getattr(small, method)(path)
    before = path.read_bytes()

    def half(*args, **kwargs):
        target = next(a for a in args if hasattr(a, "write_bytes") or hasattr(a, "write"))
        target.write(b"half") if hasattr(target, "write") else target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, half)
    with pytest.raises(OSError, match="No space left"):
        getattr(small, method)(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("method", ["save", *EXPORTS])
def test_a_folder_that_cannot_be_written(method, small, tmp_path):
    path = tmp_path / "missing" / EXPORTS.get(method, ["summary.npz"])[0]
    with pytest.raises(OSError, match=r"cannot|directory"):
        getattr(small, method)(path)


@pytest.mark.parametrize("method", ["save", *EXPORTS])
def test_a_folder_a_device_or_no_path_in_place_of_a_file(method, small, tmp_path):
    ending = EXPORTS.get(method, ["summary.npz"])[0]
    (tmp_path / ending).mkdir()
    with pytest.raises(IsADirectoryError, match=f"path must be a file, and .*{ending} is a folder"):
        getattr(small, method)(tmp_path / ending)
    (tmp_path / ending).rmdir()
    (tmp_path / ending).symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"link to .*nothing, which is not there"):
        getattr(small, method)(tmp_path / ending)
    with pytest.raises(ValueError, match="device"):
        getattr(small, method)("/dev/null")
    for path in (None, 3, b"summary.npz", ""):
        with pytest.raises(ValueError, match="path must be the path of a file, got"):
            getattr(small, method)(path)


@pytest.mark.parametrize("path", [None, 3, "", ["summary.npz"]])
def test_loading_takes_a_path(path):
    with pytest.raises(ValueError, match="path must be the path of a file, got"):
        distillcf.load(path)


def test_loading_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        distillcf.load(tmp_path)


@pytest.mark.parametrize("seed", [-1, None, 1.5, True, "0"])
def test_seeds_of_a_sample_are_whole_numbers(seed, small):
    with pytest.raises(ValueError, match="seed must be a whole number from 0"):
        small.sample(seed)


def test_existing_paths_may_be_strings(small, tmp_path):
    for name, (file, read) in EXPORTS.items():
        getattr(small, name)(str(tmp_path / file))
        assert len(read(tmp_path / file)) == small.hard.sum()


# --- exports --------------------------------------------------------------------------------------


def rows_of(small, form):
    """(user, item, rating) of every click, by hand."""
    values = small.hard if form == "hard" else np.where(small.soft < np.float32(0.01), 0, small.soft)
    return [
        (user, str(small.item_ids[item]), float(values[user, item]))
        for user in range(3)
        for item in range(4)
        if values[user, item] > 0
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", EXPORTS)
def test_exports_read_back_are_the_clicks(method, form, small, tmp_path):
    file, read = EXPORTS[method]
    getattr(small, method)(tmp_path / file, form)
    found = read(tmp_path / file)
    header = ["user_id", "item_id", "rating"]
    assert list(found.columns) == (
        ["user_id:token", "item_id:token", "rating:float"] if file == "made.inter" else header
    )
    expected = pd.DataFrame(rows_of(small, form), columns=header)
    assert_array_equal(found.iloc[:, :2].to_numpy(), expected.iloc[:, :2].to_numpy())
    assert_allclose(found.iloc[:, 2], expected["rating"], rtol=1e-6)
    pd.testing.assert_frame_equal(small.to_frame(form), expected, check_dtype=False)


@pytest.mark.parametrize("method", EXPORTS)
def test_hard_is_the_form_by_default(method, small, tmp_path):
    file, _ = EXPORTS[method]
    getattr(small, method)(tmp_path / file)
    by_default = (tmp_path / file).read_bytes()
    getattr(small, method)(tmp_path / file, "hard")
    assert (tmp_path / file).read_bytes() == by_default
    assert_array_equal(small.to_csr().toarray(), small.hard)


def test_recboles_file_to_the_letter(small, tmp_path):
    small.to_recbole(tmp_path / "made.inter")
    lines = (tmp_path / "made.inter").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "user_id:token\titem_id:token\trating:float"
    assert lines[1:] == ["0\td\t1.0", "0\té\t1.0", "1\tb\t1.0", "2\ta\t1.0"]


@pytest.mark.parametrize("ids", [['a"', 'a"b', "'", " c "], ["d,e", "1", "\u2028", "x\\t"], ["4", "3", "07", "-"]])
def test_recboles_file_is_read_back_with_any_id_that_it_can_hold(ids, small, tmp_path):
    named = replace(small, item_ids=np.array(ids))
    named.to_recbole(tmp_path / "made.inter")
    assert read_inter(tmp_path / "made.inter")["item_id"].tolist() == named.to_frame()["item_id"].tolist()


@pytest.mark.parametrize("wrong", ["a\tb", "a\nb", "a\rb", "", "a\0b", '"a'])
def test_ids_that_recboles_file_cannot_hold(wrong, small, tmp_path):
    named = replace(small, item_ids=np.array([wrong, "b", "c", "d"]))
    with pytest.raises(ValueError, match="has no tab, line break, leading quote or empty id"):
        named.to_recbole(tmp_path / "made.inter")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["made.csv", "made", "made.inter.txt", ".inter"])
def test_recbole_asks_for_its_ending(name, small, tmp_path):
    with pytest.raises(ValueError, match=r"ending \.inter, got"):
        small.to_recbole(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_recbole_and_this_library_read_the_same_ids(small, tmp_path):
    odd = replace(small, item_ids=np.array(['5" pipe', "O'Neill, J.", " a b", "é"]))
    odd.to_recbole(tmp_path / "made.inter")
    as_recbole = pd.read_csv(tmp_path / "made.inter", sep="\t", engine="python", dtype=str)["item_id:token"]
    ours = read_inter(tmp_path / "made.inter")["item_id"]
    assert as_recbole.tolist() == ours.tolist() == odd.to_frame()["item_id"].tolist()


@pytest.mark.parametrize("name", ["a\tb", "a\nb", '"a', '"a"', "a\r"])
def test_ids_that_recboles_format_cannot_hold_are_refused(name, small, tmp_path):
    with pytest.raises(ValueError, match="rename it"):
        replace(small, item_ids=np.array(["d", "b", "c", name])).to_recbole(tmp_path / "made.inter")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMS)
def test_the_matrix_is_a_scipy_csr(form, summary):
    matrix = summary.to_csr(form)
    assert sp.issparse(matrix)
    assert matrix.format == "csr"
    assert matrix.has_sorted_indices
    assert (matrix.data > 0).all()
    dense = summary.hard if form == "hard" else np.where(summary.soft < np.float32(0.01), 0, summary.soft)
    assert_array_equal(matrix.toarray(), dense)


def test_integer_ids_stay_integers(small, tmp_path):
    numbered = replace(small, item_ids=np.array([30, 10, 40, 20]))
    numbered.to_csv(tmp_path / "clicks.csv")
    assert pd.read_csv(tmp_path / "clicks.csv")["item_id"].tolist() == [30, 40, 10, 20]
    numbered.to_parquet(tmp_path / "clicks.parquet")
    assert pd.read_parquet(tmp_path / "clicks.parquet")["item_id"].dtype == np.int64


def test_exports_are_clicks_to_this_library(small, tmp_path):
    small.to_csv(tmp_path / "clicks.csv")
    small.to_parquet(tmp_path / "clicks.parquet")
    for frame in (pd.read_csv(tmp_path / "clicks.csv"), read_parquet(tmp_path / "clicks.parquet")):
        again = Interactions.from_frame(frame, item_ids=small.item_ids)
        assert_array_equal(again.matrix.toarray(), small.hard)


def test_csv_can_be_compressed(small, tmp_path):
    small.to_csv(tmp_path / "clicks.csv.gz")
    assert (tmp_path / "clicks.csv.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert len(pd.read_csv(tmp_path / "clicks.csv.gz")) == small.hard.sum()


@pytest.mark.parametrize("call", ["interactions", "to_csr", "to_frame", "fit"])
def test_other_forms_are_refused(call, small):
    with pytest.raises(ValueError, match="form must be one of 'soft', 'hard', got 'crisp'"):
        getattr(small, call)("crisp")


def test_it_says_what_it_is(summary, small):
    assert "8 synthetic users x 60 items" in repr(summary)
    assert ("free labels" in repr(summary)) == (summary.labels is not None)
    assert repr(small) == (
        "Summary(3 synthetic users x 4 items, their clicks for labels, 1 clicks each, 1 in the sample)"
    )


# --- samples --------------------------------------------------------------------------------------


def test_a_sample_is_fresh_binary_users(summary):
    sample = summary.sample(1)
    assert sample.shape == (8, 60)
    assert_array_equal(sample.item_ids, summary.item_ids)
    assert_array_equal(sample.user_ids, np.arange(8))
    assert set(sample.matrix.data) == {1}
    n_clicks = np.diff(sample.matrix.indptr)
    assert n_clicks.min() >= 1
    assert n_clicks.max() <= summary.config["n_draws"]


def test_samples_go_by_their_seed(summary):
    first, again, other = (summary.sample(seed).matrix.toarray() for seed in (1, 1, 2))
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    other_run = replace(summary, config={**summary.config, "seed": 4})
    assert not np.array_equal(other_run.sample(1).matrix.toarray(), first)


@pytest.mark.slow
def test_the_mean_of_samples_is_the_soft_support(summary):
    n = 3000
    mean = sum(summary.sample(seed).matrix for seed in range(n)).toarray() / n
    error = np.abs(mean - summary.soft) / np.sqrt(summary.soft * (1 - summary.soft) / n + 1e-6)
    assert error.max() < 5
    assert abs(mean.sum() - summary.soft.sum()) < 0.02 * summary.soft.sum()


def test_the_stored_sample_is_binary_and_within_the_draws(summary):
    assert summary.hard.dtype == np.uint8
    assert set(np.unique(summary.hard)) == {0, 1}
    assert summary.hard.sum(axis=1).min() >= 1
    assert summary.hard.sum(axis=1).max() <= summary.config["n_draws"]


# --- the model ------------------------------------------------------------------------------------


def plain_scores(rows, labels, weights, reg, histories):
    """∞-AE of soft rows with labels of their own, by float64 NumPy."""
    anchors, shown = rows * weights, histories * weights
    coef = oracles.ridge(oracles.relu_ntk(anchors, anchors), labels, reg)
    return oracles.relu_ntk(shown, anchors) @ coef


@pytest.mark.parametrize("form", FORMS)
def test_the_fit_is_the_closed_form_on_the_rows_and_their_labels(form, summary, clicks):
    histories = clicks.matrix[:9].toarray()
    rows = getattr(summary, form).astype(np.float64)
    labels = {"soft": summary.labels, "hard": summary.hard_labels}[form]
    expected = plain_scores(rows, rows if labels is None else labels, summary.item_weights, summary.reg, histories)
    model = summary.fit(form)
    assert_allclose(model.predict(histories), expected, **tolerance("float32"))
    assert_array_equal(model.item_ids_, summary.item_ids)
    assert_array_equal(summary.fit().predict(histories), summary.fit("soft").predict(histories))


@pytest.mark.slow
def test_parameters_of_the_fit_can_be_others(summary, clicks):
    histories = clicks.matrix[:3].toarray()
    model = summary.fit(reg=7.0, depth=2, dtype="float64", b_std=0.3, row_power=1.0)
    assert (model.reg_, model.depth, model.b_std, model.row_power) == (7.0, 2, 0.3, 1.0)
    assert model.predict(histories).dtype == np.float64
    given = {"reg": 7.0, "depth": 2, "dtype": "float64", "b_std": 0.3, "row_power": 1.0}
    soft = summary._interactions(summary.soft)
    by_hand = InfiniteAE(item_weights=summary.item_weights, **given).fit(soft, targets=summary.labels)
    assert_array_equal(model.predict(histories), by_hand.predict(histories))
    raw = summary.fit(item_weights=None, popularity_power=0.0)
    assert raw.inputs_.item_weights is None
    with pytest.raises(TypeError, match="width"):
        summary.fit(width=3)


@pytest.mark.slow
def test_item_weights_are_those_of_the_source(summary, clicks):
    popularity = clicks.matrix.toarray().sum(axis=0)
    assert_allclose(summary.item_weights, np.maximum(popularity, 1) ** -0.25, rtol=1e-6)
    raw = distil(clicks, steps=1, model=InfiniteAE(1.0))
    assert raw.item_weights is None


def test_kernels_of_the_callers_own(clicks, tmp_path):
    own = distil(clicks, steps=1, model=InfiniteAE(1.0, kernel=linear))
    own.save(tmp_path / "summary.npz")
    loaded = distillcf.load(tmp_path / "summary.npz")
    assert_array_equal(loaded.fit(kernel=linear).predict(clicks), own.fit(kernel=linear).predict(clicks))
    with pytest.raises(ValueError, match="give the kernel"):
        loaded.fit()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"n_users": np.int64(8), "reg": np.float32(0.5), "seed": np.uint8(3)},
        {"reg": (1, np.int64(5)), "l1": np.float64(0), "validation": True},
        {"reg": 1, "validation": True},
        {"model": InfiniteAE(np.float32(1), depth=np.int64(1), b_std=np.float32(0.1), row_power=np.float32(1))},
    ],
    ids=str,
)
def test_any_kind_of_number_can_be_saved(settings, clicks, tmp_path):
    validation = planted_split().validation if settings.get("validation") else None
    named = validation and Interactions(validation.matrix, validation.user_ids, clicks.item_ids)
    made = distil(clicks, steps=1, **{**settings, "validation": named})
    made.save(tmp_path / "summary.npz")
    loaded = distillcf.load(tmp_path / "summary.npz")
    assert_same_bits(loaded, made)
    assert loaded.config == made.config
