"""Finished results of a study on disk, so that one that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.study.record import plain, write_json

Place = Mapping[str, Any]
"""Where a cell is: a value on each axis of the study, such as {"model": "EASE", "seed": 0}."""


class Cells:
    """Results by place; each is on disk as soon as it is there, in a file of its own.

    A result is found again by its place, the settings and its model's grid, all of them together: one
    that was made with others is never taken for it. Processes may share a folder: what one has finished, the
    others find.

    Args:
      folder: of the files; made where it is missing.
      settings: whatever all results depend on beside their places: flags, data, grids, the code's version.
      grids: what a model was chosen from, or rows were made by, by the value on an axis that names it. Where one
        was edited, its results are worked out anew beside the old ones, which nobody reads again.

    Raises ValueError where the folder holds results of other settings; it names those that differ.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], grids: Mapping[str, Any] | None = None):
        self._folder, self._grids = folder, grids or {}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        self._settings = ours = json.loads(json.dumps(plain(settings)))
        if not path.exists():
            write_json(path, ours)
        theirs = _read(path)
        if differing := sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)):
            raise ValueError(
                f"{folder} holds results of other settings ({', '.join(differing)}); give another --out, or remove it"
            )

    def __contains__(self, at: Place) -> bool:
        return self._path(at).exists()

    def __getitem__(self, at: Place) -> dict[str, Any]:
        """The result. ValueError where its file is damaged."""
        return _read(self._path(at), "result")

    def add(self, at: Place, result: Mapping[str, Any]) -> None:
        """Keep a result."""
        write_json(self._path(at), {"at": at, "result": result})

    def _path(self, at: Place) -> Path:
        # Of the settings too: whatever happens to their file, a result of others is never taken for ours.
        grids = {name: self._grids.get(value) for name, value in at.items() if isinstance(value, str)}
        known_by = json.dumps(plain([self._settings, grids, at]), sort_keys=True)
        return self._folder / f"{hashlib.sha256(known_by.encode()).hexdigest()[:16]}.json"


def _read(path: Path, name: str = "") -> dict[str, Any]:
    """The object in a JSON file, or that of a name within it."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {**(stored[name] if name else stored)}
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError):
        raise ValueError(f"{path} is damaged: expected a result of a study; remove it to work it out again") from None
