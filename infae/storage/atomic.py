"""Files that are either as they were or written in full, whoever else writes them at the same time."""

import errno
import glob
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none: there a file that is still written is told by its age alone
    fcntl = None  # type: ignore[assignment]

STALE_S = 300
"""Seconds after which an unfinished file that no process holds is taken for a dead one's."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` if the body ends well, and is removed if not.

    No two writers, in whichever threads, processes or containers, get the same one: the last to
    finish stays. A symbolic link stays, and what it points to is replaced. A file keeps its mode.
    What killed writers left behind is removed. Raises OSError where the folder cannot be written,
    and at once where `path` is a folder, a device or a pipe.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    suffix = f".part{target.suffix}"
    aside = target.with_name(f".{target.stem[:100]}.{secrets.token_hex(8)}{suffix}")
    try:
        held = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except OSError as error:
        reason = f"cannot write into the folder: {error.strerror}"
        raise type(error)(error.errno, reason, str(path.parent)) from error
    try:
        _lock(held)
        if mode is not None:
            os.fchmod(held, mode | stat.S_IWUSR)
        yield aside
        if mode is not None:
            os.chmod(aside, mode)
        os.replace(aside, target)
        _remove_stale(target.parent, target.stem[:100], suffix)
    finally:
        os.close(held)
        with suppress(OSError):  # the folder itself may be what is missing
            aside.unlink(missing_ok=True)


def _mode(target: Path) -> int | None:
    """Permissions of a file that is there already, None where there is none."""
    try:
        found = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the path of a file", str(target))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is a device or a pipe and no file; give the path of a file", str(target))
    return stat.S_IMODE(found.st_mode)


def _lock(file: int) -> bool:
    """Whether nobody else holds the file. A lock ends with its process, so that none outlives a killed writer."""
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_stale(folder: Path, stem: str, suffix: str) -> None:
    for name in glob.glob(f".{glob.escape(stem)}.*{glob.escape(suffix)}", root_dir=folder):
        with suppress(OSError):  # another writer may clean up as well
            left = folder / name
            if time.time() - left.stat().st_mtime > STALE_S:
                file = os.open(left, os.O_RDONLY)
                try:
                    if _lock(file):
                        left.unlink()
                finally:
                    os.close(file)
