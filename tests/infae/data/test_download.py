"""Downloads, from a server on this machine: checked, unpacked, and nothing left behind by a failed one."""

import hashlib
import http.server
import io
import lzma
import threading
import zipfile
from dataclasses import replace
from functools import partial

import pytest

from infae.data import datasets, download, registry
from infae.data.download import Source
from infae.errors import DataFormatError


@pytest.fixture
def server(tmp_path):
    """(address, folder) of an HTTP server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


@pytest.fixture
def ml_100k(server, monkeypatch):
    """A function that serves an archive as ml-100k's, under a checksum of its own or another."""
    address, folder = server

    def serve(members, checksum=None):
        blob = io.BytesIO()
        with zipfile.ZipFile(blob, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        (folder / "ml-100k.zip").write_bytes(blob.getvalue())
        old = registry.DATASETS["ml-100k"]
        checksum = checksum or "md5:" + hashlib.md5(blob.getvalue()).hexdigest()
        source = Source(f"{address}/ml-100k.zip", checksum, old.sources[0].files)
        monkeypatch.setitem(registry.DATASETS, "ml-100k", replace(old, sources=(source,)))

    return serve


U_DATA = "".join(f"{u}\t{i}\t3\t{100 * u + i}\n" for u in range(1, 7) for i in range(u, u + 6))
MEMBERS = {"ml-100k/u.data": U_DATA, "ml-100k/u.item": "items", "ml-100k/u.user": "users", "ml-100k/README": "no"}


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_download_takes_what_is_needed_out_of_an_archive_once(ml_100k, tmp_path, monkeypatch, capsys):
    ml_100k(MEMBERS)
    root = tmp_path / "new" / "data"
    split = datasets.load("ml-100k", root, download=True)
    assert split.train.shape == (6, 11)
    assert files_below(root) == ["ml-100k/u.data", "ml-100k/u.item", "ml-100k/u.user"]
    assert "ml-100k.zip" in capsys.readouterr().err
    monkeypatch.setattr(datasets, "fetch", None)
    datasets.load("ml-100k", root, download=True)


def test_files_that_are_there_are_not_overwritten(ml_100k, write, tmp_path):
    ml_100k(MEMBERS)
    write("data/ml-100k/u.item", "mine")
    datasets.load("ml-100k", tmp_path / "data", download=True)
    assert (tmp_path / "data/ml-100k/u.item").read_text() == "mine"


@pytest.mark.parametrize(
    ("members", "checksum", "message"),
    [
        (MEMBERS, "md5:" + "0" * 32, r"ml-100k.zip: expected md5 0{32}, got [0-9a-f]{32}; the download was cut short"),
        ({"ml-100k/u.data": U_DATA}, None, r"expected a zip archive with ml-100k/u.data, .*u\.item"),
    ],
)
def test_a_wrong_archive_leaves_nothing_behind(ml_100k, tmp_path, members, checksum, message):
    ml_100k(members, checksum)
    with pytest.raises(DataFormatError, match=message):
        datasets.load("ml-100k", tmp_path / "data", download=True)
    assert files_below(tmp_path / "data") == []


def test_single_files_are_checked_by_bytes_or_by_pairs(server, tmp_path):
    address, folder = server
    (folder / "train.txt").write_text("1 9 8\n0 3\n")
    same, other = tmp_path / "same.txt.xz", tmp_path / "other.txt"
    same.write_bytes(lzma.compress(b"0 3\n1 8 9\n"))
    other.write_text("0 3\n1 8 7\n")
    assert download.pairs_sha256(same) == hashlib.sha256(b"0 3\n1 8\n1 9\n").hexdigest()
    good = {"sha256": hashlib.sha256(b"1 9 8\n0 3\n").hexdigest(), "pairs-sha256": download.pairs_sha256(same)}
    for kind, digest in good.items():
        source = Source(f"{address}/train.txt", f"{kind}:{digest}", (f"{kind}/train.txt",))
        assert download.fetch(source, tmp_path)[0].read_text() == "1 9 8\n0 3\n"
        wrong = source._replace(checksum=f"{kind}:{download.pairs_sha256(other)}", files=("wrong/train.txt",))
        with pytest.raises(DataFormatError, match=f"expected {kind} "):
            download.fetch(wrong, tmp_path)
    assert not files_below(tmp_path / "wrong")


def test_downloads_at_the_same_time_do_not_break_each_other(ml_100k, tmp_path):
    ml_100k(MEMBERS)
    source, failures, together = registry.DATASETS["ml-100k"].sources[0], [], threading.Barrier(6)

    def one():
        together.wait()
        try:
            download.fetch(source, tmp_path / "data")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert files_below(tmp_path / "data") == ["ml-100k/u.data", "ml-100k/u.item", "ml-100k/u.user"]
    assert (tmp_path / "data/ml-100k/u.data").read_text() == U_DATA


def test_an_address_that_cannot_be_read_is_named(server, tmp_path):
    for url in (f"{server[0]}/nowhere.txt", "http://127.0.0.1:1/nowhere.txt"):
        with pytest.raises(ConnectionError, match=f"could not download {url}: .*check the network"):
            download.fetch(Source(url, "md5:0", ("a/nowhere.txt",)), tmp_path)
        assert files_below(tmp_path / "a") == []


def test_a_folder_that_cannot_be_written_is_named(ml_100k, write):
    ml_100k(MEMBERS)
    file = write("file", "in the way")
    with pytest.raises(OSError, match=r"cannot write into .*file/ml-100k .*choose another data_dir"):
        datasets.load("ml-100k", file, download=True)


def test_downloads_that_cannot_be():
    with pytest.raises(ValueError, match="ml-100k needs a folder: pass data_dir, or set INFAE_DATA"):
        datasets.load("ml-100k", download=True)
    for name in ("magazine", "douban", "netflix", "citeulike", "diginetica"):
        with pytest.raises(ValueError, match=f"{name} has no stable address .*https?://"):
            datasets.load(name, download=True)
