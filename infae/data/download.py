"""Fetches a published file, checks it, and only then gives it its name."""

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from tqdm import tqdm

from infae.data.readers import read_lightgcn
from infae.errors import DataFormatError

BLOCK = 1 << 20
TIMEOUT_S = 60


class Source(NamedTuple):
    """A file at a stable public address, or where `url` ends in `.zip` an archive to take `files` out of."""

    url: str
    checksum: str  # `md5:...` or `sha256:...` of its bytes, or `pairs-sha256:...` as `pairs_sha256`
    files: tuple[str, ...]  # names below the data folder


def fetch(source: Source, root: str | PathLike[str]) -> list[Path]:
    """Downloads those of the source's files that are not below `root`, and returns all of them.

    Until the checksum is right everything is in a `.part` folder of this download's own, which is
    gone after an error. Raises ConnectionError where the address cannot be read, DataFormatError
    where it holds other bytes than expected, and OSError where `root` cannot be written.
    """
    targets = [Path(root) / name for name in source.files]
    wanted = {name: target for name, target in zip(source.files, targets, strict=True) if not target.exists()}
    if not wanted:
        return targets
    with _folder_in(targets[0].parent) as work:
        got = work / source.url.rsplit("/", 1)[-1]
        _stream(source.url, got, targets[0].parent)
        _verify(got, source)
        parts = _extracted(got, wanted, source.url) if source.url.endswith(".zip") else {got: targets[0]}
        for part, target in parts.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
    return targets


def pairs_sha256(path: str | PathLike[str]) -> str:
    """SHA-256 of a `user item item ...` file that does not depend on the order of users or items.

    It is taken over one line `user item` a pair, in ascending order of user, then item.
    """
    pairs = read_lightgcn(path).sort_values(["user_id", "item_id"])
    lines = pairs["user_id"].astype(str) + " " + pairs["item_id"].astype(str) + "\n"
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@contextmanager
def _folder_in(parent: Path) -> Iterator[Path]:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=parent)
    except OSError as err:
        # The error number keeps the class: PermissionError, NotADirectoryError and so on.
        raise OSError(err.errno, f"cannot write into {parent} ({err.strerror}); choose another data_dir") from err
    with work as folder:
        yield Path(folder)


def _stream(url: str, to: Path, folder: Path) -> None:
    try:
        with to.open("wb") as out, urlopen(url, timeout=TIMEOUT_S) as response:
            size = response.headers.get("Content-Length")
            name = url.rsplit("/", 1)[-1]
            with tqdm.wrapattr(out, "write", total=int(size) if size else None, desc=name) as shown:
                shutil.copyfileobj(response, shown, BLOCK)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as err:
        raise ConnectionError(
            f"could not download {url}: {err}; check the network, or fetch it by hand and put its files in {folder}"
        ) from err


def _verify(part: Path, source: Source) -> None:
    kind, _, expected = source.checksum.partition(":")
    if kind == "pairs-sha256":
        got = pairs_sha256(part)
    else:
        with part.open("rb") as file:
            got = hashlib.file_digest(file, kind).hexdigest()
    if got != expected:
        raise DataFormatError(
            f"{source.url}: expected {kind} {expected}, got {got}; the download was cut short or the file has "
            "changed since: try again, or fetch it by hand if you trust it"
        )


def _extracted(archive: Path, wanted: dict[str, Path], url: str) -> dict[Path, Path]:
    """Takes the wanted members out, beside the archive: where each is, and where it is to go."""
    parts = {archive.with_name(f"{k}.part"): target for k, target in enumerate(wanted.values())}
    try:
        with zipfile.ZipFile(archive) as files:
            for name, part in zip(wanted, parts, strict=True):
                with files.open(name) as member, part.open("wb") as out:
                    shutil.copyfileobj(member, out, BLOCK)
    except (KeyError, zipfile.BadZipFile) as err:
        raise DataFormatError(f"{url}: expected a zip archive with {', '.join(wanted)}, got {err}") from err
    return parts
