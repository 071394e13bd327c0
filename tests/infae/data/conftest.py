"""Fixtures of the data tests: the real data's folders, where somebody has them."""

import gzip
import lzma
import os
from pathlib import Path

import pytest


@pytest.fixture
def real():
    """A function from a folder's name to its path, which skips the test where it is not there."""

    def folder(name: str) -> Path:
        root = os.environ.get("INFAE_DATA")
        if not root:
            pytest.skip("INFAE_DATA is not set")
        if not (path := Path(root) / name).is_dir():
            pytest.skip(f"INFAE_DATA has no folder {name}")
        return path

    return folder


@pytest.fixture
def write(tmp_path):
    """A function that writes text to a new file, packed as the name's ending says."""

    def to(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode() if isinstance(text, str) else text
        pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(data))
        return path

    return to


@pytest.fixture(autouse=True)
def no_folder_of_the_environment(request, monkeypatch):
    if "real" not in request.fixturenames:
        monkeypatch.delenv("INFAE_DATA", raising=False)
