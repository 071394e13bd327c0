"""Paths that a caller names, checked before any work: what is wrong with them is told in words, and at once."""

import os
import tempfile
from pathlib import Path
from typing import Any

from infae.runtime.checks import shown


def as_path(name: str, value: Any) -> Path:
    """A text or a path as a path; ValueError for anything else, and for an empty one."""
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
        if isinstance(path, str) and path and "\0" not in path:
            return Path(path)
    raise ValueError(f"{name} must be the path of a file, got {shown(value)}")


def readable(name: str, value: Any) -> Path:
    """The path of a file that is there.

    Raises FileNotFoundError, IsADirectoryError, or ValueError for a device, a pipe or no path at all.
    """
    path = as_path(name, value)
    if path.is_dir():
        raise IsADirectoryError(f"{name} must be a file, and {path} is a folder")
    if not path.exists():
        raise FileNotFoundError(f"{name} must be a file, and there is no {path}")
    if not path.is_file():
        raise ValueError(f"{name} must be a file, and {path} is a device or a pipe")
    return path


def writable(name: str, value: Any) -> Path:
    """The path of a file that is there or can be made; a file is made beside it for a moment, to see.

    Raises OSError for a missing folder, one that cannot be written to, a folder in place of a file, or a
    link to nothing; ValueError for a device, a pipe or no path at all.
    """
    path = as_path(name, value)
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{name} must be a file, and {path} is a link to {path.readlink()}, which is not there")
    if path.exists():
        readable(name, path)
    folder = path.resolve().parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"cannot write {name}={path.name} into the folder: {error.strerror}"
        raise type(error)(error.errno, reason, str(folder)) from error
    return path
