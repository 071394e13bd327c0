"""Versioned `.npz` files without pickle: written aside and renamed, and refused in words where they are not ours."""

from __future__ import annotations

import os
import tokenize
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from infae.storage.atomic import replacing

# What NumPy and zipfile raise for bytes that are no archive, a damaged one, or one that holds pickles.
_UNREADABLE = (
    zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError, SyntaxError,
    tokenize.TokenError,
)  # fmt: skip


def write(path: Path, file_format: str, version: int, **arrays: np.ndarray) -> None:
    """Write arrays under their names beside `format` and `version`, so that `path` is never half written.

    Raises OSError, naming the folder, where it cannot be written.
    """
    with replacing(path) as aside:
        try:
            file = open(aside, "wb")  # noqa: SIM115 - only opening is translated below
        except OSError as error:
            reason = f"cannot write into the folder: {error.strerror}"
            raise type(error)(error.errno, reason, str(path.parent)) from error
        with file:
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
            return _fields(path, file, file_format, version, refusal, remedy)
        except refusal:
            raise
        except _UNREADABLE as error:
            raise refusal(f"{path} is not a file of {file_format}, or is truncated or damaged: {error}") from error


def _fields(
    path: Path, file: BinaryIO, file_format: str, version: int, refusal: type[ValueError], remedy: str
) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as archive:
        if "format" not in archive or str(archive["format"]) != file_format:
            raise refusal(f"{path} is not a file of {file_format}")
        found = int(archive["version"])
        if found != version:
            remedy = "upgrade infae" if found > version else remedy
            raise refusal(f"{path} has format version {found} and this infae reads {version}; {remedy}")
        return {name: archive[name] for name in archive.files}
