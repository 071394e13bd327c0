"""Records of runs: what was asked for, on what, with which versions, and what came out."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.study.flags import command
from infae.storage.atomic import replacing

_PACKAGES = ("infae", "jax", "jaxlib", "neural-tangents", "numpy", "scipy", "torch")


def output_folder(path: str) -> Path:
    """The folder, made if absent. Called before any work: PermissionError or NotADirectoryError now, not later."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(error.errno, f"cannot write into the output folder: {error.strerror}", path) from error
    return folder


def write_json(path: Path, content: Any) -> None:
    """Write JSON aside and rename it; NaN and infinity become null."""
    write_text(path, json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text aside and rename it."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def header(config: Any) -> dict[str, Any]:
    """What every record begins with: the Config, its command, versions, and nothing that names the machine."""
    return {
        "config": {name: value for name, value in dataclasses.asdict(config).items() if name != "data_dir"},
        "command": command(config),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in _PACKAGES}},
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "devices": sorted({d.device_kind for d in jax.devices()}),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # run from a checkout


@dataclasses.dataclass
class Stopwatch:
    """Seconds by name of the step."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Times the body; a step timed twice adds up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


def plain(x: Any) -> Any:
    """What JSON can hold: dataclasses as dicts, arrays as lists, NaN and infinity as None."""
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return plain(dataclasses.asdict(x))
    if isinstance(x, dict):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple, np.ndarray)):
        return [plain(value) for value in x]
    if isinstance(x, np.generic):
        x = x.item()
    return None if isinstance(x, float) and not np.isfinite(x) else x
