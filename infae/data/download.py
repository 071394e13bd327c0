"""Fetches a published file, checks it, and only then gives it its name."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from tqdm import tqdm

from infae.data.readers import read_lightgcn
from infae.errors import DataFormatError

BLOCK = 1 << 20
TIMEOUT_S = 60


class Source(NamedTuple):
    """A file at a stable public address.

    Attributes:
      url: where it is.
      checksum: `md5:...` or `sha256:...` of its bytes, or `pairs-sha256:...` as `pairs_sha256`.
      files: the names it gets below the data folder. Where `url` ends in `.zip` these are the
        members to take out of the archive, and the checksum is the archive's.
    """

    url: str
    checksum: str
    files: tuple[str, ...]


def fetch(source: Source, root: str | PathLike[str]) -> list[Path]:
    """Downloads those of the source's files that are not below `root`, and returns all of them.

    Until the checksum is right everything is in a `.part` file, which is gone after an error.
    Raises ConnectionError where the address cannot be read, DataFormatError where it holds
    other bytes than expected, and OSError where `root` cannot be written.
    """
    targets = [Path(root) / name for name in source.files]
    wanted = {name: target for name, target in zip(source.files, targets, strict=True) if not target.exists()}
    if not wanted:
        return targets
    part = targets[0].with_name(source.url.rsplit("/", 1)[-1] + ".part")
    out = _create(part)
    try:
        with out:
            _stream(source.url, out, part.parent)
        _verify(part, source)
        if source.url.endswith(".zip"):
            _extract(part, wanted, source.url)
        else:
            part.replace(targets[0])
    finally:
        part.unlink(missing_ok=True)
    return targets


def pairs_sha256(path: str | PathLike[str]) -> str:
    """SHA-256 of a `user item item ...` file that does not depend on the order of users or items.

    It is taken over one line `user item` a pair, in ascending order of user, then item.
    """
    pairs = read_lightgcn(path).sort_values(["user_id", "item_id"])
    lines = pairs["user_id"].astype(str) + " " + pairs["item_id"].astype(str) + "\n"
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _create(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except OSError as err:
        # The error number keeps the class: PermissionError, NotADirectoryError and so on.
        raise OSError(err.errno, f"cannot write {path} ({err.strerror}); choose another data_dir") from err


def _stream(url: str, out: BinaryIO, folder: Path) -> None:
    try:
        with urlopen(url, timeout=TIMEOUT_S) as response:
            size = response.headers.get("Content-Length")
            name = url.rsplit("/", 1)[-1]
            with tqdm(total=int(size) if size else None, unit="B", unit_scale=True, desc=name) as bar:
                while block := response.read(BLOCK):
                    out.write(block)
                    bar.update(len(block))
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


def _extract(archive: Path, wanted: dict[str, Path], url: str) -> None:
    parts = {target: target.with_name(target.name + ".part") for target in wanted.values()}
    try:
        with zipfile.ZipFile(archive) as files:
            for name, target in wanted.items():
                with files.open(name) as member, _create(parts[target]) as out:
                    shutil.copyfileobj(member, out, BLOCK)
        for target, part in parts.items():
            part.replace(target)
    except (KeyError, zipfile.BadZipFile) as err:
        raise DataFormatError(f"{url}: expected a zip archive with {', '.join(wanted)}, got {err}") from err
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
