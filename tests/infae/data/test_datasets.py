"""The registry: which files make which split, and what is said of missing ones."""

import hashlib
import lzma
import warnings

import h5py
import numpy as np
import pytest

import infae.data
from infae.data import datasets, download, registry
from infae.errors import DataNotFoundError

PUBLISHED = ["citeulike", "diginetica", "douban", "gowalla", "lastfm", "magazine", "ml-100k", "ml-1m", "netflix"]
RATINGS = "".join(f"{u}::{i}::{1 + (u + i) % 5}::{100 * u + i}\n" for u in range(1, 7) for i in range(u, u + 6))


def parts(split):
    return [
        sorted(map(tuple, part.to_frame().to_numpy().tolist())) for part in (split.train, split.validation, split.test)
    ]


def write_paper(folder):
    folder.mkdir(parents=True)
    with h5py.File(folder / "total_data.hdf5", "w") as file:
        file["user"], file["item"] = np.array([1, 1, 2, 2]), np.array([5, 6, 5, 7])
    np.savez(folder / "index.npz", data=np.array([0, 2, 0, 1]))


def test_a_file_of_your_own_is_read_and_split(tmp_path):
    path = tmp_path / "clicks.csv"
    pairs = [(user, item) for user in range(10) for item in range(user, user + 10)]
    path.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    split = infae.data.load(str(path), seed=3)
    assert split.name == "clicks.csv, random 80/10/10, seed 3"
    assert split.train.n_users == 10
    together = split.train.union(split.validation).union(split.test)
    assert sorted(zip(*together.matrix.nonzero(), strict=True)) == pairs
    assert len(datasets.load_log(str(path))) == 100
    with pytest.raises(ValueError, match="or the path of a file"):
        infae.data.load(str(tmp_path / "other.csv"))


def test_a_file_of_your_own_says_whom_it_drops_and_is_asked_to_drop_more(tmp_path):
    path = tmp_path / "clicks.csv"
    n_clicks = {"d": 2, "b": 3, "c": 1, "a": 5}
    rows = [f"{user},{item}\n" for user, n in n_clicks.items() for item in range(n)]
    path.write_text("user_id,item_id\n" + "".join(rows))
    with pytest.warns(UserWarning, match=r"clicks\.csv: 2 users with fewer than 3 clicks dropped") as caught:
        split = infae.data.load(path)
    assert caught[0].filename == __file__
    assert split.note == "2 users with fewer than 3 clicks dropped."
    assert split.train.user_ids.tolist() == ["a", "b"]
    assert split.train.item_ids.tolist() == [0, 1, 2, 3, 4]
    path.write_text("user_id,item_id\n" + "".join(rows[::-1]))
    with pytest.warns(UserWarning, match="2 users"):
        assert parts(infae.data.load(path)) == parts(split)
    with pytest.warns(UserWarning, match="3 users with fewer than 5 clicks dropped"):
        assert infae.data.load(path, min_interactions=5).train.user_ids.tolist() == ["a"]
    with pytest.raises(ValueError, match="no user has 9 or more clicks"):
        infae.data.load(path, min_interactions=9)


def test_a_least_number_of_clicks_is_for_what_is_split_here(write, tmp_path):
    write("ml-100k/u.data", "".join(f"{u}\t{i}\t3\t9\n" for u in (1, 2) for i in range(2 + 2 * u)))
    split = datasets.load("ml-100k", tmp_path, min_interactions=5)
    assert split.train.user_ids.tolist() == [2]
    assert split.note == "1 users with fewer than 5 clicks dropped."
    write_paper(tmp_path / "ml-1m")
    for name in ("ml-1m", "synthetic", "tiny"):
        with pytest.raises(ValueError, match=f"{name} comes as a split of its own"):
            datasets.load(name, tmp_path, min_interactions=5)
    for wrong in (2, 3.5, "3", True):
        with pytest.raises(ValueError, match="min_interactions must be a whole number of at least 3"):
            datasets.load("ml-100k", tmp_path, min_interactions=wrong)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        datasets.load("ml-100k", tmp_path, seed=-1)
    with pytest.raises(ValueError, match="path of a file, got 7"):
        datasets.load(7)


def test_a_file_never_stands_in_for_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthetic").write_text("user_id,item_id\n1,1\n")
    assert infae.data.load("synthetic").train.n_users > 10


def test_names_are_those_promised():
    assert datasets.names() == sorted([*PUBLISHED, "synthetic", "tiny"])
    assert infae.data.load is datasets.load


def test_an_unknown_name_gets_the_list_and_a_guess():
    with pytest.raises(ValueError, match=r"unknown data set 'ml1m', .*netflix.*; did you mean 'ml-1m'\?"):
        datasets.load("ml1m")
    with pytest.raises(ValueError, match=r"expected one of citeulike, .*tiny, or the path of a file$"):
        datasets.load("")


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files_are_all_named_with_the_way_to_get_them(tmp_path, name):
    with pytest.raises(DataNotFoundError) as caught:
        datasets.load(name, tmp_path)
    message, dataset = str(caught.value), registry.DATASETS[name]
    for form in dataset.forms:
        for file in form.files:
            assert str(tmp_path / file) in message
    for words in ("data_dir", "INFAE_DATA", ".gz", ".xz", dataset.where, dataset.terms):
        assert words in message
    assert ("download=True" in message) == bool(dataset.sources)
    with pytest.raises(DataNotFoundError, match="neither data_dir nor INFAE_DATA is set"):
        datasets.load(name)


def test_a_file_that_is_there_is_marked_where_another_is_missing(write, tmp_path):
    write("gowalla/train.txt.gz", "1 2\n")
    with pytest.raises(DataNotFoundError, match=r"gowalla/train\.txt  \(found\)\n.*gowalla/test\.txt\n"):
        datasets.load("gowalla", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("ml-1m", "paper-ml-1m"),
        ("ml-1m", "ml-1m"),
        ("magazine", "paper-magazine"),
        ("magazine", "magazine"),
        ("douban", "paper-douban"),
        ("douban", "douban"),
        ("netflix", "paper-netflix"),
        ("netflix", "netflix"),
    ],
)
def test_the_papers_split_is_read_where_it_is(tmp_path, monkeypatch, name, folder):
    write_paper(tmp_path / folder)
    monkeypatch.setenv("INFAE_DATA", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = datasets.load(name)
    assert parts(split) == [[(1, 5), (2, 5)], [(2, 7)], [(1, 6)]]
    assert split.name == f"{name}, the paper's own split"


STAND_INS = {
    "ml-1m/ratings.dat": RATINGS,
    "ml-1m/ratings.csv": "userId,movieId,rating,timestamp\n" + RATINGS.replace("::", ","),
    "ml-1m/ratings_rebuilt.csv": "user_id,movie_id,rating,timestamp,ts_lo,ts_hi\n"
    + RATINGS.replace("::", ",").replace("\n", ",,\n"),
    "magazine/Magazine_Subscriptions.csv": "".join(
        f"{i},{u},{r},{t}\n" for u, i, r, t in (line.split("::") for line in RATINGS.splitlines())
    ),
    "douban/ratings.csv": "user_id,item_id,rating,timestamp\n" + RATINGS.replace("::", ","),
}


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
@pytest.mark.parametrize("file", STAND_INS)
def test_raw_ratings_stand_in_with_one_warning_and_a_note(write, tmp_path, file, ending):
    name = file.split("/")[0]
    path = write(file + ending, STAND_INS[file])
    with pytest.warns(UserWarning, match="published split was not found") as caught:
        split = datasets.load(name, tmp_path, seed=4)
    assert len(caught) == 1
    assert str(caught[0].message) == split.note
    assert caught[0].filename == __file__
    assert f"the published split was not found, so this is a random 80/10/10, seed 4, of {path.name}." in split.note
    assert split.train.shape == (6, 11)
    assert len(set().union(*parts(split))) == 36
    with pytest.warns(UserWarning, match="seed 4"):
        assert parts(datasets.load(name, tmp_path, seed=4)) == parts(split)


def test_netflix_ratings_stand_in_from_all_files(write, tmp_path):
    for movie in (1, 2, 3):
        lines = "".join(f"{user},3,2005-01-0{user}\n" for user in range(1, 7 - movie))
        write(f"netflix/combined_data_{movie}.txt", f"{movie}:\n{lines}")
    with pytest.warns(UserWarning, match=r"of combined_data_1.txt\. 2 users with fewer than 3 clicks dropped"):
        split = datasets.load("netflix", tmp_path)
    assert split.train.shape == (3, 3)
    assert len(datasets.load_log("netflix", tmp_path)) == 12


def test_a_random_split_counts_repeats_and_drops_users_and_their_items(write, tmp_path):
    rows = [(1, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 1), (2, 1), (3, 99)]
    write("ml-100k/u.data", "".join(f"{u}\t{i}\t3\t9\n" for u, i in rows))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = datasets.load("ml-100k", tmp_path, seed=2)
    assert split.name == "ml-100k, random 80/10/10, seed 2"
    assert split.note == "3 repeats of a pair count once. 2 users with fewer than 3 clicks dropped."
    assert split.train.user_ids.tolist() == [1]
    assert split.train.item_ids.tolist() == [1, 2, 3]


def test_published_parts_are_taken_as_they_are(write, tmp_path):
    write("gowalla/train.txt.xz", "0 1 2\n1 2\n2\n")
    write("gowalla/test.txt.gz", "0 3\n5 1\n")
    split = datasets.load("gowalla", tmp_path)
    assert parts(split) == [[(0, 1), (0, 2), (1, 2)], [], [(0, 3), (5, 1)]]
    assert split.train.user_ids.tolist() == [0, 1, 5]
    assert split.context("test").n_interactions == 3
    write("lightgcn-lastfm/data1.txt", "1\t4\t33\n2\t4\t1\n")
    write("lightgcn-lastfm/test1.txt", "1\t9\t2\n")
    assert parts(datasets.load("lastfm", tmp_path)) == [[(1, 4), (2, 4)], [], [(1, 9)]]
    for name, text in (("train", "0 1 2\n1 2\n"), ("valid", "0 3\n"), ("test", "1 1\n")):
        write(f"citeulike-kd/{name}.txt", text)
    assert parts(datasets.load("citeulike", tmp_path)) == [[(0, 1), (0, 2), (1, 2)], [(0, 3)], [(1, 1)]]


def test_sessions_leave_out_what_train_does_not_know(write, tmp_path):
    write("sessions-diginetica/train_sessions.txt", "1 2 1\n3\n")
    write("sessions-diginetica/test_prefix_target.txt", "1 9 2\t3\n8\t1\n2 2\t7\n3 1\t3\n")
    split = datasets.load("diginetica", tmp_path)
    assert parts(split) == [[(1, 1), (1, 2), (2, 3)], [], [(1, 3), (4, 3)]]
    assert sorted(map(tuple, split.context("test").to_frame().to_numpy().tolist())) == [(1, 1), (1, 2), (4, 1), (4, 3)]
    assert split.note == (
        "3 test items unknown to train left out, and with them 2 of 4 test sessions; 1 targets are in their own prefix."
    )


def test_made_up_sets_need_no_files():
    split = datasets.load("synthetic", seed=5)
    assert split.name == "synthetic, random 80/10/10, seed 5"
    assert parts(split) == parts(datasets.load("synthetic", seed=5))
    assert parts(split) != parts(datasets.load("synthetic", seed=6))
    assert datasets.load("tiny").name == "tiny, hand-made blocks"


def test_raw_logs_keep_every_row_and_the_time(write, tmp_path):
    write("ml-1m/ratings_rebuilt.csv.xz", "user_id,movie_id,rating,timestamp,ts_lo,ts_hi\n1,2,3,,10,20\n1,2,3,9,,\n")
    log = datasets.load_log("ml-1m", tmp_path)
    assert log.to_numpy().tolist() == [[1, 2, 3, 15], [1, 2, 3, 9]]
    with pytest.raises(ValueError, match=r"gowalla has no raw log; .*: douban, magazine, ml-100k, ml-1m, netflix"):
        datasets.load_log("gowalla", tmp_path)
    with pytest.raises(DataNotFoundError, match=r"u\.data"):
        datasets.load_log("ml-100k", tmp_path)


def test_every_source_is_a_file_that_a_form_needs():
    for dataset in registry.DATASETS.values():
        needed = {file for form in dataset.forms for file in form.files}
        for source in dataset.sources:
            assert source.files[0] in needed
            assert source.checksum.split(":")[0] in ("md5", "sha256", "pairs-sha256")


@pytest.mark.parametrize(
    ("name", "folder", "shape", "clicks"),
    [
        ("ml-1m", "paper-ml-1m", (6_040, 3_706), (791_718, 99_692, 108_799)),
        ("magazine", "paper-magazine", (3_092, 1_305), (5_934, 436, 6_145)),
        ("ml-100k", "ml-100k", (943, 1_682), (80_024, 9_988, 9_988)),
        ("gowalla", "lightgcn-gowalla", (29_858, 40_981), (810_128, 0, 217_242)),
        ("lastfm", "lightgcn-lastfm", (1_880, 4_489), (42_135, 0, 10_533)),
        ("citeulike", "citeulike-kd", (5_219, 25_181), (115_142, 5_219, 5_219)),
        ("diginetica", "sessions-diginetica", (186_670, 43_097), (762_120, 0, 60_858)),
    ],
)
def test_real_sets_have_their_counts(real, name, folder, shape, clicks):
    split = datasets.load(name, real(folder).parent)
    assert split.train.shape == shape
    assert tuple(getattr(split, part).n_interactions for part in ("train", "validation", "test")) == clicks


def test_real_files_match_the_checksums_of_what_would_be_downloaded(real):
    for name in ("gowalla", "lastfm"):
        root = real(f"lightgcn-{name}").parent
        for source in registry.DATASETS[name].sources:
            path = next(p for p in (root / source.files[0], root / f"{source.files[0]}.xz") if p.exists())
            kind, _, digest = source.checksum.partition(":")
            data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
            got = download.pairs_sha256(path) if kind == "pairs-sha256" else hashlib.sha256(data).hexdigest()
            assert got == digest


def test_the_real_log_keeps_every_rating_and_knows_every_time(real):
    log = datasets.load_log("ml-1m", real("ml-1m").parent)
    assert len(log) == 1_000_209
    assert log["timestamp"].dtype == np.int64
    assert log["timestamp"].between(956_703_932, 1_046_454_590).all()
