"""Versioned archives: every damaged one is refused, whichever bit it is."""

import itertools

import numpy as np
import pytest

from infae.storage import npz


class RefusedError(ValueError):
    pass


def read(path):
    return npz.read(path, "a.Format", 1, RefusedError, "make it again")


@pytest.fixture
def saved(tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    arrays = {"x": rng.random((3, 50), np.float32), "ids": np.array(["é", "b"]), "about": np.array("{}")}
    npz.write(path, "a.Format", 1, **arrays)
    return path, arrays


def test_what_is_written_is_read_back(saved):
    path, arrays = saved
    fields = read(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(fields[name], array)
        assert fields[name].dtype == array.dtype


def test_every_flipped_bit_is_refused_or_changes_no_array(saved):
    path, arrays = saved
    whole = path.read_bytes()
    found = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            fields = read(path)
        except RefusedError:
            found += 1
            continue
        # An array may be missing, which whoever reads it sees; dates of members are read by nobody.
        for name in arrays.keys() & fields.keys():
            np.testing.assert_array_equal(fields[name], arrays[name], err_msg=f"byte {place}")
            assert fields[name].dtype == arrays[name].dtype
    assert found > 0.8 * len(whole)


def test_a_header_that_asks_for_less_than_there_is_is_refused(tmp_path):
    path = tmp_path / "large.npz"
    npz.write(path, "a.Format", 1, x=np.arange(2**17))
    whole = path.read_bytes()
    at = whole.index(b"(131072,)")
    for digit, bit in itertools.product(range(6), range(8)):
        place = at + 1 + digit
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        with pytest.raises(RefusedError, match="truncated or damaged"):
            read(path)
