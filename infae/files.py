"""Fitted models on disk: one versioned `.npz`, no pickle, written aside and renamed.

Keys: `format` and `version`; `params`, a JSON of the constructor's arguments and of the solve;
`coef`; the training clicks as `clicks_data`, `clicks_indices`, `clicks_indptr`, `clicks_shape`; `item_weights`
(empty for raw inputs); `user_ids` and `item_ids`.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.errors import ModelFileError
from infae.inputs import InputMap
from infae.kernels.gram import Kernel
from infae.model import InfiniteAE
from infae.solvers.ridge import Solution
from infae.tiles import precision

FORMAT = "infae.InfiniteAE"
VERSION = 1

# What NumPy and zipfile raise for bytes that are no archive, a damaged one, or one that holds pickles.
_UNREADABLE = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError)


def save(model: InfiniteAE, path: str | os.PathLike[str]) -> None:
    """Write a fitted model; see `InfiniteAE.save`."""
    path = Path(path)
    solution = model._solution
    # As they were at `fit`: a later `set_params` does not change the fitted model.
    params = dict(model._params)
    own_kernel = params.pop("kernel") is not None
    params["reg"] = np.asarray(params["reg"], float).tolist()
    params["dtype"] = np.dtype(params["dtype"]).name
    about = {
        "params": params,
        "own_kernel": own_kernel,
        "path": model.path_,
        "solution": {k: getattr(solution, k) for k in ("residual", "noise", "reg", "ridge")},
    }
    weights = model._inputs.item_weights
    write_npz(
        path,
        format=np.array(FORMAT),
        version=np.array(VERSION),
        params=np.array(json.dumps(about, default=lambda scalar: scalar.item())),
        coef=np.asarray(solution.coef),
        clicks_data=model._train.data,
        clicks_indices=model._train.indices,
        clicks_indptr=model._train.indptr,
        clicks_shape=np.array(model._train.shape),
        item_weights=np.zeros(0) if weights is None else weights,
        user_ids=model.user_ids_,
        item_ids=model.item_ids_,
    )


def load(path: str | os.PathLike[str], *, kernel: Kernel | None = None) -> InfiniteAE:
    """The model that `InfiniteAE.save` wrote; it predicts the same to the bit.

    Args:
      path: the `.npz` file.
      kernel: the kernel that the model was fitted with, where it was one of the caller's own:
        code is not saved.

    Raises:
      FileNotFoundError: no such file.
      ModelFileError: not a model, truncated or damaged, or written by a newer version; or a
        `kernel` is missing or superfluous.
    """
    path = Path(path)
    fields = _read(path)
    try:
        about = json.loads(str(fields["params"]))
        if about["own_kernel"] != (kernel is not None):
            wanted = "its own kernel: pass kernel=..." if about["own_kernel"] else "a built-in kernel: pass none"
            raise ModelFileError(f"{path} was fitted with {wanted}")
        shape = tuple(int(x) for x in fields["clicks_shape"])
        clicks = sp.csr_matrix((fields["clicks_data"], fields["clicks_indices"], fields["clicks_indptr"]), shape=shape)
        clicks.check_format(full_check=True)
        if not fields["coef"].shape == shape == (fields["user_ids"].size, fields["item_ids"].size):
            raise ValueError(f"coefficients {fields['coef'].shape} do not fit the clicks {shape}")
        model = InfiniteAE(kernel=kernel, **about["params"])
        weights = fields["item_weights"] if fields["item_weights"].size else None
        anchors = Interactions(clicks, fields["user_ids"], fields["item_ids"])
        with precision(fields["coef"].dtype):
            solution = Solution(coef=jnp.asarray(fields["coef"]), **about["solution"])
        model._restore(anchors, InputMap(weights, model.unit_rows), solution, about["path"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path} is damaged: {error!r}") from error
    return model


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write an `.npz` aside and rename it, so that `path` is never half written.

    Raises OSError, naming the folder, where it cannot be written.
    """
    try:
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise type(error)(
            error.errno, f"cannot write a model into the folder: {error.strerror}", str(path.parent)
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        try:
            return _fields(path, file)
        except ModelFileError:
            raise
        except _UNREADABLE as error:
            raise ModelFileError(f"{path} is not a model file, or is truncated or damaged: {error}") from error


def _fields(path: Path, file: BinaryIO) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as archive:
        if "format" not in archive or str(archive["format"]) != FORMAT:
            raise ModelFileError(f"{path} is not a model that InfiniteAE.save wrote")
        version = int(archive["version"])
        if version > VERSION:
            raise ModelFileError(
                f"{path} has format version {version} and this infae reads up to {VERSION}; upgrade infae"
            )
        return {name: archive[name] for name in archive.files}
