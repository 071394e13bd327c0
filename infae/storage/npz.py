"""Versioned `.npz` files without pickle: written aside and renamed, and refused in words where they are not ours."""

import lzma
import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from infae.storage.atomic import replacing

# What NumPy, SciPy and zipfile raise for bytes that are no archive, a damaged one, or one that holds pickles.
UNREADABLE = (
    zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError, SyntaxError,
    tokenize.TokenError, zlib.error, lzma.LZMAError,
)  # fmt: skip


def write(path: Path, file_format: str, version: int, **arrays: np.ndarray) -> None:
    """Write arrays under their names beside `format` and `version`, so that `path` is never half written.

    Raises OSError as `replacing` does.
    """
    with replacing(path) as aside, open(aside, "wb") as file:
        np.savez(file, allow_pickle=False, format=np.array(file_format), version=np.array(version), **arrays)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, file_format: str, version: int, refusal: type[ValueError], remedy: str) -> dict[str, Any]:
    """The arrays that `write` wrote under this format and version, by name.

    Raises FileNotFoundError, or `refusal` for anything else: foreign, truncated, damaged, newer,
    or of an older version, for which `remedy` says what to do.
    """
    with open(path, "rb") as file:
        try:
            check_archive(file)
            with np.load(file, allow_pickle=False) as archive:
                if "format" not in archive or str(archive["format"]) != file_format:
                    raise refusal(f"{path} is not a file of {file_format}")
                found = int(archive["version"])
                if found != version:
                    remedy = "upgrade infae" if found > version else remedy
                    raise refusal(f"{path} has format version {found} and this infae reads {version}; {remedy}")
                return {name: archive[name] for name in archive.files}
        except refusal:
            raise
        except UNREADABLE as error:
            raise refusal(f"{path} is not a file of {file_format}, or is truncated or damaged: {error}") from error


def check_archive(file: Path | BinaryIO) -> None:
    """Raises BadZipFile unless every member of the archive has its checksum; rewinds an open one.

    NumPy reads as many bytes as a header says: where a damaged one asks for fewer, it ends before the checksum.
    """
    with zipfile.ZipFile(file) as archive:
        if bad := archive.testzip():
            raise zipfile.BadZipFile(f"the checksum of {bad} does not fit")
    if not isinstance(file, Path):
        file.seek(0)
