"""Array readers: the paper's split files, SciPy matrices, Parquet."""

import gzip
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from infae.data import readers
from infae.errors import DataFormatError


@pytest.fixture
def paper(tmp_path):
    """A function that writes (user, item, label) rows, or what is given in their place, as the paper's files."""

    def files(rows=(), **instead):
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        sets = {"user": table[:, 0], "item": table[:, 1], "rating": np.ones(len(table), np.float32)}
        with h5py.File(tmp_path / "total_data.hdf5", "w") as file:
            for name, values in {**sets, **instead.get("sets", {})}.items():
                if values is not None:
                    file[name] = values
        np.savez(tmp_path / "index.npz", **instead.get("labels", {"data": table[:, 2]}))
        return tmp_path / "total_data.hdf5", tmp_path / "index.npz"

    return files


def pairs(part):
    return sorted(map(tuple, part.to_frame().to_numpy().tolist()))


def test_the_papers_split_keeps_what_is_labelled(paper):
    split = readers.read_paper(*paper([(7, 30, 0), (7, 10, 1), (2, 30, 2), (2, 20, 0), (9, 99, -1)]))
    assert split.train.user_ids.tolist() == [2, 7]
    assert split.train.item_ids.tolist() == [10, 20, 30]
    assert pairs(split.train) == [(2, 20), (7, 30)]
    assert pairs(split.validation) == [(7, 10)]
    assert pairs(split.test) == [(2, 30)]
    assert split.note == ""


def test_the_papers_repeats_add_up_within_a_part_and_are_kept_across(paper, recwarn):
    rows = [(1, 1, 0), (1, 1, 0), (1, 1, 2), (1, 2, 0), (2, 1, 0), (2, 1, 0), (2, 1, 0)]
    split = readers.read_paper(*paper(rows))
    assert pairs(split.train) == [(1, 1), (1, 2), (2, 1)]
    assert pairs(split.test) == [(1, 1)]
    assert split.validation.n_interactions == 0
    assert split.note.startswith(
        "3 repeats of a pair within a part are added up, as the papers' code does. 1 pairs are in more than one"
    )
    assert split.train.matrix.toarray().tolist() == [[2, 1], [3, 0]]
    assert not recwarn.list


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(-1, 2)), min_size=1))
@settings(max_examples=25)
def test_the_papers_parts_are_the_labelled_pairs(tmp_path_factory, rows):
    rows = [*rows, (0, 0, 0)]
    folder = tmp_path_factory.mktemp("paper")
    with h5py.File(folder / "d.hdf5", "w") as file:
        file["user"], file["item"] = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    np.savez(folder / "i.npz", data=np.array([r[2] for r in rows]))
    split = readers.read_paper(folder / "d.hdf5", folder / "i.npz", name="mine")
    assert split.name == "mine"
    for label, part in enumerate((split.train, split.validation, split.test)):
        assert pairs(part) == sorted({(u, i) for u, i, k in rows if k == label})


@pytest.mark.parametrize(
    ("rows", "instead", "message"),
    [
        ([(1, 1, 0)], {"labels": {"data": [0, 1]}}, "expected 1 labels, one for each row .* got 2; the two files"),
        ([(1, 1, 0), (1, 2, 3)], {}, "row 1: expected a label -1, 0, 1 or 2, got 3"),
        ([(1, 1, -2)], {}, "row 0: .* got -2"),
        ([(1, 1, 1)], {}, "expected rows with label 0"),
        ([(1, 1, 0)], {"labels": {"other": [0]}}, "npz file with the key 'data'"),
        ([(1, 1, 0)], {"labels": {"data": np.array([{}])}}, "npz file with the key 'data'"),
        ([(1, 1, 0)], {"labels": {"data": [0.5]}}, "expected whole numbers"),
        ([(1, 1, 0)], {"labels": {"data": [[0]]}}, "one-dimensional integers"),
        ([(1, 1, 0)], {"sets": {"user": np.array([2**63], np.uint64)}}, "data set 'user': .* 64 bits"),
        ([(1, 1, 0)], {"sets": {"item": [2.0**60]}}, "data set 'item': .* rounded"),
        ([(1, 1, 0)], {"sets": {"item": None}}, "expected data sets user and item, got no item"),
        ([(1, 1, 0)], {"sets": {"user": [np.nan]}}, "data set 'user': expected whole numbers, got NaN"),
        ([(1, 1, 0)], {"sets": {"user": ["ann"]}}, "data set 'user': expected one-dimensional integers"),
        ([(1, 1, 0)], {"sets": {"user": [1, 2]}}, "expected user and item of one length"),
    ],
)
def test_malformed_paper_files_are_named(paper, rows, instead, message):
    with pytest.raises(DataFormatError, match=message):
        readers.read_paper(*paper(rows, **instead))


def test_damaged_or_missing_paper_files_are_named(paper, tmp_path):
    hdf5, npz = paper([(k, 1, 0) for k in range(5000)])
    for path in (hdf5, npz):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataFormatError, match=rf"{path.name}: expected .*fetch it again"):
            readers.read_paper(hdf5, npz)
        path.write_bytes(whole)
    npz.write_text("hello")
    with pytest.raises(DataFormatError, match="npz file"):
        readers.read_paper(hdf5, npz)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        readers.read_paper(tmp_path / "nowhere.hdf5", npz)


def test_the_papers_files_are_read_packed(paper):
    plain = paper([(1, 1, 0), (1, 2, 2)])
    packed = [path.with_name(path.name + ".gz") for path in plain]
    for path, target in zip(plain, packed, strict=True):
        target.write_bytes(gzip.compress(path.read_bytes()))
    assert pairs(readers.read_paper(*packed).test) == pairs(readers.read_paper(*plain).test) == [(1, 2)]


@pytest.mark.parametrize(
    ("folder", "shape", "labelled"),
    [
        ("paper-ml-1m", (6_040, 3_706), (791_718, 99_692, 108_799)),
        ("paper-magazine", (3_092, 1_305), (5_984, 436, 6_269)),
    ],
)
def test_the_papers_own_files_have_its_counts(real, folder, shape, labelled):
    path = real(folder)
    split = readers.read_paper(path / "total_data.hdf5", path / "index.npz")
    clicks = [getattr(split, part).n_interactions for part in ("train", "validation", "test")]
    assert split.train.shape == shape
    if folder == "paper-ml-1m":
        assert tuple(clicks) == labelled
        assert int((split.train.matrix.sum(axis=0) == 0).sum()) == 28
    else:
        assert clicks == [5_934, 436, 6_145]
        assert split.note.startswith(f"{sum(labelled) - sum(clicks)} repeats")
        assert int((split.validation.matrix.sum(axis=1) == 0).sum()) == 2_681
        assert int((split.train.matrix.sum(axis=0) == 0).sum()) == 323


def test_scipy_matrices_are_read_back_and_never_unpickled(tmp_path):
    matrix = sp.random(6, 5, density=0.4, format="csc", rng=np.random.default_rng(0))
    sp.save_npz(tmp_path / "m.npz", matrix)
    (tmp_path / "m.npz.gz").write_bytes(gzip.compress((tmp_path / "m.npz").read_bytes()))
    for name in ("m.npz", "m.npz.gz"):
        np.testing.assert_array_equal(readers.read_scipy_npz(tmp_path / name).matrix.toarray(), matrix.toarray() > 0)
    np.savez(tmp_path / "pickle.npz", format=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", data=[1])
    sp.save_npz(tmp_path / "negative.npz", -matrix)
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "m.npz").read_bytes()[:-40])
    np.savez(tmp_path / "wild.npz", format=b"csr", shape=(2, 2), data=[1, 1], indices=[0, 9], indptr=[0, 1, 2])
    np.savez(tmp_path / "turned.npz", format=b"csr", shape=(3, 2), data=[1, 1], indices=[0, 1], indptr=[0, 2, 1, 2])
    np.savez(tmp_path / "loop.npz", format=b"csr", shape=(2, 2), data=[1, 1], indices=[0, 1], indptr=[0, 10**9, 0])
    for name in ("pickle", "other", "negative", "text", "cut", "wild", "turned", "loop"):
        with pytest.raises(DataFormatError, match=rf"{name}.npz: expected a matrix of clicks"):
            readers.read_scipy_npz(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        readers.read_scipy_npz(tmp_path / "nowhere.npz")


def test_parquet_is_read_back_with_its_types(tmp_path):
    pytest.importorskip("pyarrow")
    log = pd.DataFrame(
        {
            "other": [1, 2],
            "timestamp": pd.to_datetime(["1970-01-01 00:01", "2005-09-06 00:00"], utc=True),
            "item_id": pd.Categorical(["7", "b"]),
            "user_id": [4.0, 5.0],
            "rating": [np.nan, 3],
        }
    )
    log.to_parquet(tmp_path / "log.parquet")
    for got in (readers.read_parquet(tmp_path / "log.parquet"), readers.read_log(tmp_path / "log.parquet")):
        assert list(got) == ["user_id", "item_id", "rating", "timestamp"]
        assert got["user_id"].tolist() == [4, 5]
        assert got["user_id"].dtype == np.int64
        assert got["item_id"].tolist() == ["7", "b"]
        assert got["timestamp"].tolist() == [60, 1125964800]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"user": [1], "item_id": [2]}, "expected columns user_id, got .*rename the columns"),
        ({"user_id": [1, None], "item_id": [1, 2]}, "column user_id: expected an id in every row, got 1 rows without"),
        ({"user_id": np.array([2**63], np.uint64), "item_id": [1]}, "column user_id: .* below 2"),
        ({"user_id": [1.5], "item_id": [1]}, "column user_id: expected all integers below .* or all strings"),
        ({"user_id": [1], "item_id": [1], "rating": ["good"]}, "row 0: expected a number as rating, got 'good'"),
    ],
)
def test_malformed_parquet_is_named(tmp_path, frame, message):
    pytest.importorskip("pyarrow")
    pd.DataFrame(frame).to_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataFormatError, match=message):
        readers.read_parquet(tmp_path / "log.parquet")


def test_a_damaged_parquet_file_or_a_missing_pyarrow_is_named(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    (tmp_path / "log.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(DataFormatError, match="expected a Parquet file"):
        readers.read_parquet(tmp_path / "log.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'infae\[parquet\]'"):
        readers.read_parquet(tmp_path / "log.parquet")
