"""Text readers: what is written in a format is read back, packed or not; what is malformed is named."""

import gzip
import lzma
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infae.data import readers
from infae.errors import DataFormatError

WHOLE = st.integers(0, 10**9)
NAMES = st.text("abcXYZ019-_ é", min_size=1, max_size=8).map(lambda text: f"n{text}n")
RATINGS = st.sampled_from([0.5, 1.0, 2.5, 3.0, 5.0])
FULL = ["user_id", "item_id", "rating", "timestamp"]


def logs(ids):
    return st.lists(st.tuples(ids, ids, RATINGS, WHOLE), min_size=1, max_size=12).map(
        lambda rows: pd.DataFrame(rows, columns=FULL)
    )


def lines(log, columns, sep, header=""):
    rows = log[columns].astype(str).agg(sep.join, axis=1)
    return "\n".join(([header] if header else []) + rows.tolist()) + "\n"


FORMATS = {
    "u.data": (readers.read_movielens, FULL, lambda log: lines(log, FULL, "\t")),
    "ratings.dat": (readers.read_movielens, FULL, lambda log: lines(log, FULL, "::")),
    "ratings.csv": (
        readers.read_movielens,
        FULL,
        lambda log: lines(log, FULL, ",", "userId,movieId,rating,timestamp"),
    ),
    "x.inter": (
        readers.read_inter,
        FULL,
        lambda log: lines(
            log.assign(other="x"),
            ["timestamp", "user_id", "other", "item_id", "rating"],
            "\t",
            "timestamp:float\tuser_id:token\tother:token_seq\titem_id:token\trating:float",
        ),
    ),
    "x.csv": (readers.read_csv, FULL, lambda log: log.to_csv(index=False)),
    "pairs.csv": (readers.read_csv, FULL[:2], lambda log: log[FULL[:2]].to_csv(index=False)),
    "amazon.csv": (
        readers.read_amazon_ratings,
        FULL,
        lambda log: lines(log, ["item_id", "user_id", "rating", "timestamp"], ","),
    ),
    "triples.txt": (readers.read_triples, FULL[:3], lambda log: lines(log, FULL[:3], "\t")),
}


def assert_same(got, expected):
    assert list(got) == list(expected)
    for column in expected:
        assert got[column].tolist() == expected[column].tolist()
        assert (got[column].dtype.kind in "if") == (expected[column].dtype.kind in "if")


@pytest.mark.slow
@pytest.mark.parametrize("ids", [WHOLE, NAMES], ids=["numbers", "strings"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_log_written_in_a_format_is_read_back_also_when_packed(name, ids):
    reader, columns, text = FORMATS[name]

    @settings(max_examples=12)
    @given(logs(ids))
    def check(log):
        data = text(log).encode()
        with tempfile.TemporaryDirectory() as folder:
            for ending, pack in (("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)):
                path = Path(folder) / (name + ending)
                path.write_bytes(pack(data))
                assert_same(reader(path), log[columns])

    check()


@given(st.lists(st.lists(WHOLE, max_size=5), min_size=1, max_size=6))
@settings(max_examples=20)
def test_lightgcn_lines_are_read_back_and_a_user_may_have_no_item(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        path.write_text("".join(f"{7 * user}{''.join(f' {item}' for item in row)}\n" for user, row in enumerate(rows)))
        log = readers.read_lightgcn(path)
    assert list(zip(log["user_id"], log["item_id"], strict=True)) == [
        (7 * user, item) for user, row in enumerate(rows) for item in row
    ]


@pytest.mark.parametrize(
    ("name", "text", "reader"),
    [(name, text, reader) for name, (reader, _, text) in FORMATS.items() if name not in ("triples.txt", "amazon.csv")],
)
def test_read_log_tells_tables_apart_by_their_content(write, name, text, reader):
    log = pd.DataFrame([(3, 5, 4.0, 100), (1, 2, 0.5, 7)], columns=FULL)
    path = write(f"nameless{Path(name).suffix and '.txt'}.gz", text(log))
    assert_same(readers.read_log(path), reader(path))


ASSUMED = [
    ("train.txt", "0 5 6\n1\n2 7\n", [0, 0, 2], [5, 6, 7], "`user item item ...`"),
    ("sessions/train.txt", "0 5 6\n1\n2 7\n", [0, 0, 2], [5, 6, 7], "`user item item ...`"),
    ("valid.txt", "4 9\n3 8\n", [4, 3], [9, 8], "`user item item ...`"),
    ("some_sessions.txt", "5 6 5\n\n7\n", [1, 1, 1, 3], [5, 6, 5, 7], "sessions, one a line"),
    ("2018.csv", "B00005N7P0,AH2IFH762VY5U,5.0,100\n", ["AH2IFH762VY5U"], ["B00005N7P0"], "item,user,rating"),
    ("isbn.csv", "0001713353,A1C6M8LCIX4M6M,5.0,100\n", ["A1C6M8LCIX4M6M"], ["0001713353"], "item,user,rating"),
    ("2014.csv", "AH2IFH762VY5U,B00005N7P0,5.0,100\n", ["AH2IFH762VY5U"], ["B00005N7P0"], "user,item,rating"),
]


@pytest.mark.parametrize(("name", "text", "users", "items", "said"), ASSUMED, ids=[case[0] for case in ASSUMED])
def test_read_log_says_what_it_assumed(write, name, text, users, items, said):
    with pytest.warns(UserWarning, match=said) as caught:
        log = readers.read_log(write(name, text))
    assert len(caught) == 1
    assert log["user_id"].tolist() == users
    assert log["item_id"].tolist() == items


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ratings.csv", "7,5,4.0,100\n"),
        ("ratings.csv", "ann,film,4.0,100\n"),
        ("ratings.csv", "7,5,4\n"),
        ("ratings.csv", "7,5\n"),
        ("sessions/train.txt", "5 6 5\n4\n7 8\n"),
    ],
)
def test_read_log_refuses_what_could_be_either(write, name, text):
    with pytest.raises(DataFormatError, match=r"read_csv\(path, columns=\.\.\.\)|read_sessions"):
        readers.read_log(write(name, text))


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("7,5,4.0,100\n", FULL, {"user_id": [7], "item_id": [5], "rating": [4.0], "timestamp": [100]}),
        ("7,5\n", ("item_id", "user_id"), {"user_id": [5], "item_id": [7]}),
        ('7,"x, y",5\n', ["user_id", None, "item_id"], {"user_id": [7], "item_id": [5]}),
    ],
)
def test_a_csv_without_a_header_is_read_by_the_columns_it_is_said_to_have(write, text, columns, expected):
    assert_same(readers.read_csv(write("x.csv", text), columns=columns), pd.DataFrame(expected))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("user_id", "rating"), "columns must name user_id and item_id"),
        (("user_id", "item_id", "user_id"), "columns must name"),
        (("user_id", "item_id", "stars"), "columns must name"),
        ("user_id", "columns must be a sequence"),
        ((), "columns is an empty sequence"),
        (("user_id", "item_id", "rating"), "line 1: expected 3 fields, as columns says, and no header"),
        (("item_id", "user_id"), "line 1: expected 2 fields, as columns says, and no header"),
    ],
)
def test_columns_that_do_not_fit_a_csv(write, columns, message):
    with pytest.raises(ValueError, match=message):
        readers.read_csv(write("x.csv", "user_id,item_id\n1,2\n"), columns=columns)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        ("csv", "\n \r\n\nuser_id,item_id\n\n1,2\n"),
        ("inter", "\nuser_id:token\titem_id:token\n1\t2\n"),
        ("movielens", "\nuserId,movieId,rating,timestamp\n1,2,3,4\n"),
        ("log", "\n\nuser_id,item_id\n1,2\n"),
    ],
)
def test_blank_lines_before_a_header_do_not_make_it_a_click(write, reader, text):
    log = getattr(readers, f"read_{reader}")(write("x.txt", text))
    assert log[["user_id", "item_id"]].to_numpy().tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("name", "text", "users", "items"),
    [
        ("counts", "1\t2\t33\n", [1], [2]),
        ("combined_data_1.txt", "8:\n1488844,3,2005-09-06\n", [1488844], [8]),
    ],
)
def test_read_log_tells_the_others_apart(write, name, text, users, items):
    log = readers.read_log(write(name, text))
    assert log["user_id"].tolist() == users
    assert log["item_id"].tolist() == items


def test_ids_are_integers_only_where_every_text_is_a_plain_one(write):
    log = readers.read_csv(write("x.csv", "user_id,item_id\n7,1\n07,2\n"))
    assert log["user_id"].tolist() == ["7", "07"]
    assert log["item_id"].tolist() == [1, 2]
    assert readers.read_csv(write("y.csv", "user_id,item_id\nNA,null\n"))["user_id"].tolist() == ["NA"]


def test_windows_line_ends_a_byte_order_mark_and_blank_lines_are_fine(write):
    log = readers.read_csv(write("x.csv", b"\xef\xbb\xbfuser_id,item_id\r\n1,2\r\n\r\n3,4\r\n\r\n"))
    assert_same(log, pd.DataFrame({"user_id": [1, 3], "item_id": [2, 4]}))


def test_a_missing_rating_is_nan_and_the_row_stays(write):
    for name, text in (("u.data", "1\t2\t\t9\n1\t3\t4\t9\n"), ("ratings.dat", "1::2::::9\n1::3::4::9\n")):
        log = readers.read_movielens(write(name, text))
        assert np.isnan(log["rating"][0])
        assert log["rating"][1] == 4


def test_a_rebuilt_log_uses_the_middle_or_the_known_end_of_an_interval(write):
    text = (
        "user_id,movie_id,rating,timestamp,ts_lo,ts_hi,ts_kind,time_rank\n"
        "1,10,5,100,,,0,0\n1,11,3,,200,301,2,1\n1,12,2,,,50,2,2\n1,13,2,,70,,2,3\n"
    )
    log = readers.read_movielens(write("ratings_rebuilt.csv", text))
    assert list(log) == [*FULL, "time_rank"]
    assert log["timestamp"].tolist() == [100, 250, 50, 70]
    assert log["time_rank"].tolist() == [0, 1, 2, 3]
    with pytest.raises(DataFormatError, match="line 2: expected a timestamp"):
        readers.read_movielens(write("bad.csv", "user_id,movie_id,timestamp,rating,ts_lo,ts_hi\n1,2,,3,,\n"))


def test_prefixes_and_targets_keep_their_line_numbers(write):
    prefixes, targets = readers.read_prefix_targets(write("test.txt", "4 5\t6\n\n5\t4\n"))
    assert prefixes.to_numpy().tolist() == [[1, 4], [1, 5], [3, 5]]
    assert targets.to_numpy().tolist() == [[1, 6], [3, 4]]
    with pytest.raises(DataFormatError, match=r"line 2: expected prefix<TAB>target, got 1 fields"):
        readers.read_prefix_targets(write("bad.txt", "4 5\t6\n7 8\n"))


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        ("movielens", "1\t2\t3\t9\n1\t2\tgood\t9\n", "line 2: expected a number as rating, got 'good'"),
        ("movielens", "1\t2\t3\t9\n\n1\t\t3\t9\n", "line 3: expected a value of item_id, got none"),
        ("movielens", "1\t2\t3\t9\n1\t2\t3\n", "line 2: expected a value of timestamp"),
        ("movielens", "1\t2\t3\t9\n1\t2\t3\t9\t9\n", "same columns in every line.*line 2"),
        ("movielens", "1::2::inf::9\n", "line 1: expected a finite rating"),
        ("movielens", "1::2::3::soon\n", "line 1: expected a number as timestamp, got 'soon'"),
        ("movielens", "1 2 3\n", "line 1: expected four fields parted by tabs"),
        ("movielens", "userId,movieId,rating,timestamp\n", "at least one row of data"),
        ("movielens", "", "at least one line, got an empty file"),
        ("inter", "user_id:token\trating:float\n1\t2\n", "line 1: expected one column item_id"),
        ("inter", "user_id:token\titem_id:token\n1\t2\t3\n", "same columns"),
        ("csv", "user,item\n1,2\n", "line 1: expected one column user_id and one item_id.*rename"),
        ("csv", "user_id,item_id\n1,2\n,\n", "line 3: expected a value of user_id"),
        ("csv", 'user_id,item_id\n1,"2\n', "same columns in every line"),
        ("csv", "user_id,item_id,rating\n1,2,True\n", "line 2: expected a number as rating, got 'True'"),
        ("csv", b"user_id,item_id\n1,\xff\n", "expected UTF-8 text"),
        ("triples", "1\t2\n", "line 1: expected a value of rating|same columns"),
        ("amazon_ratings", "B1,A1,5.0\n", "expected a value of timestamp"),
        ("lightgcn", "1 2 3\n\n2 x 4\n", "line 3: expected integer ids parted by spaces, got 'x'"),
        ("lightgcn", "1 2 99999999999999999999\n", "line 1: .*99999999999999999999"),
        ("lightgcn", "\n", "empty file"),
        ("sessions", "", "empty file"),
        ("log", "what,is,this\n", "one of these formats: MovieLens .*'what,is,this'"),
        ("log", "user_id,thing\n1,2\n", "expected one column item_id"),
        ("log", b"PK\x03\x04 and so on", "expected a log, got a file of arrays"),
        ("log", b"\x00\xff\xfe", "expected UTF-8 text"),
    ],
)
def test_malformed_text_is_named_with_its_line(write, reader, text, message):
    path = write("file.txt", text)
    with pytest.raises(DataFormatError, match=message) as caught:
        getattr(readers, f"read_{reader}")(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("reader", "header", "line"),
    [
        ("movielens", "", "{0}::{1}::3::{2}\n"),
        ("csv", "user_id,item_id\n", "{0},{1}\n"),
        ("lightgcn", "", "{0} {1} {2}\n"),
        ("sessions", "", "{0} {1} {2}\n"),
        ("netflix", "1:\n", "{2},3,2001-01-01\n"),
        ("log", "", "{0} {1}\n"),
        ("prefix_targets", "", "{0} {1}\t{2}\n"),
    ],
)
def test_damaged_archives_and_missing_files_are_named(tmp_path, reader, header, line):
    data = (header + "".join(line.format(k, k % 97, k * k) for k in range(30000))).encode()
    for name, blob in {
        "cut.gz": gzip.compress(data)[:-2000],
        "cut.xz": lzma.compress(data)[:-2000],
        "other.gz": data,
        "other.xz": data,
    }.items():
        (tmp_path / name).write_bytes(blob)
        with pytest.raises(DataFormatError, match=rf"{name}: expected a whole .gz or .xz archive"):
            getattr(readers, f"read_{reader}")(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        getattr(readers, f"read_{reader}")(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("file", "users", "items", "rows"),
    [
        ("lightgcn-gowalla/train.txt.xz", 29_858, 40_981, 810_128),
        ("lightgcn-lastfm/data1.txt.xz", 1_878, 4_476, 42_135),
        ("ml-100k/u.data.xz", 943, 1_682, 100_000),
        ("ml-latest-small/ratings.csv.xz", 671, 9_066, 100_004),
        ("citeulike-kd/train.txt.xz", 5_219, 24_742, 115_142),
    ],
)
def test_real_files_have_their_published_counts(real, file, users, items, rows):
    folder, name = file.split("/")
    log = readers.read_log(real(folder) / name)
    assert (log["user_id"].nunique(), log["item_id"].nunique(), len(log)) == (users, items, rows)
