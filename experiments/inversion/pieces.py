"""Pieces of a long synthesis, in a folder from which one that was stopped goes on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distillcf.errors import CheckpointError
from experiments.ctr.models import Model, Own
from infae.data.fingerprint import fingerprint
from infae.storage import npz

FORMAT, VERSION = "infae.rows", 1


class Pieces:
    """Arrays by name, each worked out once; without a folder nothing is kept.

    Args:
      folder: where they are kept; made where it is missing.
      model: the model that rows are made of.
      **settings: what else decides the pieces.

    Raises CheckpointError where the folder holds pieces of another model or other settings, or a damaged one.
    """

    def __init__(self, folder: Path | str | None, model: Model, **settings: Any):
        self._folder = None if folder is None else Path(folder)
        if self._folder is None:
            return
        state = fingerprint([value.cpu().numpy() for value in model.state_dict().values()])
        kind = type(model.module if isinstance(model, Own) else model)
        name = kind.__name__ if kind.__module__ == Model.__module__ else f"{kind.__module__}.{kind.__qualname__}"
        about = np.array(repr([name, state, model.fields.fingerprint, sorted(settings.items())]))
        self._folder.mkdir(parents=True, exist_ok=True)
        found = self.once("about", lambda: {"about": about})["about"]
        if str(found) != str(about):
            raise CheckpointError(
                f"{folder} holds rows of another model or other settings; remove it to start again, or name another one"
            )

    def once(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        """The piece of this name, from its file or made now."""
        if self._folder is None:
            return make()
        path = self._folder / f"{name}.npz"
        if not path.exists():
            npz.write(path, FORMAT, VERSION, **make())
        return npz.read(path, FORMAT, VERSION, CheckpointError, "remove it to make it again")
