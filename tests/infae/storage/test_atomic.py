"""Replacing a file: whole or not at all, whoever else writes, and whatever the path is."""

import fcntl
import os
import stat
import threading
import time

import pytest

from infae.storage.atomic import replacing


def put(path, text):
    with replacing(path) as aside:
        aside.write_text(text)


def test_a_body_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.npz"
    put(path, "old")

    def fail():
        with replacing(path) as aside:
            aside.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_path_leave_one_whole_file(tmp_path):
    path, failures, together = tmp_path / "a.txt", [], threading.Barrier(8)

    def write(letter):
        try:
            for _ in range(20):
                together.wait()
                with replacing(path) as aside, open(aside, "w") as file:
                    for _ in range(50):
                        file.write(letter)
                        file.flush()
        except Exception as error:
            failures.append(error)
            together.abort()

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert path.read_text() in [50 * letter for letter in "abcdefgh"]
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_path_never_share_a_name(tmp_path):
    path = tmp_path / "a.npz"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        assert first.suffix == second.suffix == ".npz"
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "real.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to("store/real.txt")
    put(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(tmp_path / "store" / "later.txt")
    put(dangling, "made")
    assert (tmp_path / "store" / "later.txt").read_text() == "made"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["dangling.txt", "later.txt", "link.txt", "real.txt", "store"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    with replacing(path) as aside:
        assert not stat.S_IMODE(aside.stat().st_mode) & ~mode & 0o077
        aside.write_text("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        put(tmp_path / "a.txt", "new")
        (tmp_path / "b.txt").write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_a_folder_a_pipe_or_a_device_is_refused_before_any_work(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to_null").symlink_to(os.devnull)
    for name, error, message in (
        ("folder", IsADirectoryError, "is a folder"),
        ("pipe", OSError, "is a device or a pipe"),
        ("to_null", OSError, "is a device or a pipe"),
    ):
        with pytest.raises(error, match=message), replacing(tmp_path / name):
            pytest.fail("the body must not run")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["missing/a.txt", "file/a.txt"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="cannot write into the folder") as caught:
        put(tmp_path / name, "new")
    assert caught.value.filename == str((tmp_path / name).parent)


def test_what_dead_writers_left_is_removed_and_what_others_write_is_not(tmp_path):
    path, long_ago = tmp_path / "[a] b.npz", time.time() - 10**5
    dead, young, other, alive = (
        tmp_path / f".{name}"
        for name in ("[a] b.77.part.npz", "[a] b.0f.part.npz", "c.77.part.npz", "[a] b.abc.part.npz")
    )
    for left in (dead, young, other, alive):
        left.write_text("half")
        if left is not young:
            os.utime(left, (long_ago, long_ago))
    with open(alive) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        put(path, "new")
        assert set(tmp_path.iterdir()) == {path, young, other, alive}
    with replacing(path) as mine:
        mine.write_text("slow")
        os.utime(mine, (long_ago, long_ago))
        put(path, "quick")
    assert path.read_text() == "slow"
    assert set(tmp_path.iterdir()) == {path, young, other}


def test_a_long_name_is_no_hindrance(tmp_path):
    path = tmp_path / ("x" * 250 + ".npz")
    put(path, "new")
    assert path.read_text() == "new"
