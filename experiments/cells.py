"""Finished results of a study on disk, so that one that was stopped goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.record import plain, write_json

Place = Mapping[str, Any]
"""Where a cell is: a value on each axis of the study, such as {"model": "EASE", "seed": 0}."""


class Cells:
    """Results by place; each is on disk as soon as it is there.

    Args:
      path: the file; it need not exist.
      settings: whatever the results depend on beside their places.

    Attributes:
      seconds: time spent on all of them, over all runs, with what was done between them.

    Raises ValueError where the file holds results of other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self._path, self._settings = path, json.loads(json.dumps(plain(settings)))
        self._found: dict[str, dict[str, Any]] = {}
        self.seconds, self._since = 0.0, time.perf_counter()
        if path.exists():
            stored = _read(path)
            if stored["settings"] != self._settings:
                differing = sorted(
                    name
                    for name in {*stored["settings"], *self._settings}
                    if stored["settings"].get(name) != self._settings.get(name)
                )
                raise ValueError(
                    f"{path} holds results of other settings ({', '.join(differing)}); give another --out, or remove it"
                )
            self.seconds = stored["seconds"]
            self._found = {_key(cell["at"]): cell for cell in stored["cells"]}

    def __contains__(self, at: Place) -> bool:
        return _key(at) in self._found

    def __getitem__(self, at: Place) -> dict[str, Any]:
        """The result, `seconds` among it."""
        return self._found[_key(at)]["result"]

    def add(self, at: Place, result: Mapping[str, Any]) -> None:
        """Keep a result, on disk too."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        self._found[_key(at)] = {"at": plain(at), "result": plain(result)}
        content = {"settings": self._settings, "seconds": self.seconds, "cells": list(self._found.values())}
        write_json(self._path, content)


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if {"settings", "seconds", "cells"} <= stored.keys():
            return stored
    except (json.JSONDecodeError, AttributeError):
        pass
    raise ValueError(f"{path} is damaged: expected the cells of a study; remove it to work them out again")


def _key(at: Place) -> str:
    return json.dumps(plain(at), sort_keys=True)
