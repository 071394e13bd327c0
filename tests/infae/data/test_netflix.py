"""The Netflix Prize's files: movies carried across chunks, and every bad line named."""

import pytest

from infae.data import Interactions, _netflix, readers
from infae.errors import DataFormatError

NETFLIX = "1:\n10,3,2005-09-06\n11,5,1999-11-11\n\n2:\n10,1,2005-12-31\n3:\n12,4,1970-01-02\n13,2,1970-01-01\n"


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_netflix_carries_the_movie_across_chunks(write, monkeypatch, chunk):
    monkeypatch.setattr(_netflix, "CHUNK", chunk)
    log = readers.read_netflix(
        [write("combined_data_1.txt", NETFLIX), write("combined_data_2.txt.xz", "9:\n1,1,1970-01-01")]
    )
    assert log["user_id"].tolist() == [10, 11, 10, 12, 13, 1]
    assert log["item_id"].tolist() == [1, 1, 2, 3, 3, 9]
    assert log["rating"].tolist() == [3, 5, 1, 4, 2, 1]
    assert log["timestamp"].tolist() == [1125964800, 942278400, 1135987200, 86400, 0, 0]
    assert Interactions.from_frame(log).shape == (5, 4)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("10,3,2005-09-06\n", "line 1: .* no valid MovieID"),
        ("1:\nten,3,2005-09-06\n", "line 2: expected a number as CustomerID, got 'ten'"),
        ("1:\n10,3,2005-09-06\n\n10.5,3,2005-09-06\n", "line 4: .* no valid CustomerID"),
        ("1:\n99999999999,3,2005-09-06\n", "line 2: .* no valid CustomerID"),
        ("1:\n10,3,2005-13-06\n", "line 2: .* no valid date"),
        ("1:\n10,good,2005-12-06\n", "line 2: expected a number as rating, got 'good'"),
        ("1:\n10\n", "line 2: .* no valid date"),
        ("one:\n10,3,2005-09-06\n", "line 1: expected a number as MovieID, got 'one'"),
        ("1:\n10,3,2005-09-06,4\n", "same columns in every line"),
        ("", "at least one line, got an empty file"),
    ],
)
def test_netflix_names_the_line_that_is_wrong(write, text, line):
    with pytest.raises(DataFormatError, match=line):
        readers.read_netflix(write("combined_data_1.txt", text))


def test_netflix_needs_a_file():
    with pytest.raises(ValueError, match="at least one"):
        readers.read_netflix([])
