"""Fitted models on disk: one versioned `.npz`, no pickle, written aside and renamed.

Keys: `format` and `version`; `params`, a JSON of the constructor's arguments and of the solve;
`coef`; the training clicks as `clicks_data`, `clicks_indices`, `clicks_indptr`, `clicks_shape`; `item_weights`
(empty for raw inputs); `user_ids` and `item_ids`.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.atomic import replacing
from infae.data.interactions import Interactions
from infae.errors import ModelFileError
from infae.fitted import Fitted
from infae.inputs import InputMap
from infae.kernels.relu import ReluNTK
from infae.kernels.rows import Rows
from infae.kernels.tiles import Kernel
from infae.solvers.ridge import Solution
from infae.tiles import precision

FORMAT = "infae.InfiniteAE"
VERSION = 1

# What NumPy and zipfile raise for bytes that are no archive, a damaged one, or one that holds pickles.
_UNREADABLE = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError)


def save(fitted: Fitted, params: dict[str, Any], path: list[dict[str, Any]], file: str | os.PathLike[str]) -> None:
    """Write a fitted model, the parameters it was fitted with, and its reg path; see `InfiniteAE.save`."""
    solution = fitted.solution
    own_kernel = params["kernel"] is not None
    params = {
        **{name: value for name, value in params.items() if name != "kernel"},
        "reg": np.asarray(params["reg"], float).tolist(),
        "dtype": np.dtype(params["dtype"]).name,
    }
    about = {
        "params": params,
        "own_kernel": own_kernel,
        "path": path,
        "solution": {k: getattr(solution, k) for k in ("residual", "noise", "reg", "ridge")},
    }
    weights, clicks = fitted.inputs.item_weights, fitted.clicks
    write_npz(
        Path(file),
        format=np.array(FORMAT),
        version=np.array(VERSION),
        params=np.array(json.dumps(about, default=lambda scalar: scalar.item())),
        coef=np.asarray(solution.coef),
        clicks_data=clicks.matrix.data,
        clicks_indices=clicks.matrix.indices,
        clicks_indptr=clicks.matrix.indptr,
        clicks_shape=np.array(clicks.shape),
        item_weights=np.zeros(0) if weights is None else weights,
        user_ids=clicks.user_ids,
        item_ids=clicks.item_ids,
    )


def read(path: str | os.PathLike[str], kernel: Kernel | None) -> tuple[dict[str, Any], Fitted, list[dict[str, Any]]]:
    """(parameters without the kernel, fitted model, reg path) that `save` wrote; see `infae.load`."""
    path = Path(path)
    fields = _read(path)
    try:
        about = json.loads(str(fields["params"]))
        if about["own_kernel"] != (kernel is not None):
            wanted = "its own kernel: pass kernel=..." if about["own_kernel"] else "a built-in kernel: pass none"
            raise ModelFileError(f"{path} was fitted with {wanted}")
        params = about["params"]
        shape = tuple(int(x) for x in fields["clicks_shape"])
        clicks = sp.csr_matrix((fields["clicks_data"], fields["clicks_indices"], fields["clicks_indptr"]), shape=shape)
        clicks.check_format(full_check=True)
        if not fields["coef"].shape == shape == (fields["user_ids"].size, fields["item_ids"].size):
            raise ValueError(f"coefficients {fields['coef'].shape} do not fit the clicks {shape}")
        with precision(fields["coef"].dtype):
            solution = Solution(coef=jnp.asarray(fields["coef"]), **about["solution"])
        inputs = InputMap(fields["item_weights"] if fields["item_weights"].size else None, params["unit_rows"])
        kernel = kernel or ReluNTK(params["depth"], params["w_std"], params["b_std"])
        rows = Rows(inputs(clicks, solution.coef.dtype), solution.coef.dtype)
        anchors = Interactions(clicks, fields["user_ids"], fields["item_ids"])
        return params, Fitted(anchors, inputs, kernel, rows, solution), about["path"]
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r}") from error


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write an `.npz` aside and rename it, so that `path` is never half written.

    Raises OSError, naming the folder, where it cannot be written.
    """
    with replacing(path) as aside:
        try:
            file = open(aside, "wb")  # noqa: SIM115 - only opening is translated below
        except OSError as error:
            reason = f"cannot write a model into the folder: {error.strerror}"
            raise type(error)(error.errno, reason, str(path.parent)) from error
        with file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())


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
