"""Fitted models on disk: one versioned `.npz`, no pickle, written aside and renamed.

Keys: `format` and `version`; `params`, a JSON of the constructor's arguments and of the solve;
`coef` and `inverse_diagonal`; `targets` (empty where they are the clicks themselves); the training
clicks as `clicks_data`, `clicks_indices`, `clicks_indptr`, `clicks_shape`; `item_weights` (empty for
raw inputs); `user_ids` and `item_ids`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae import npz
from infae.data.interactions import Interactions
from infae.errors import ModelFileError
from infae.fitted import Fitted, dense
from infae.inputs import InputMap
from infae.kernels.relu import ReluNTK
from infae.kernels.rows import Rows
from infae.kernels.tiles import Kernel
from infae.solvers.ridge import Solution
from infae.tiles import precision

FORMAT = "infae.InfiniteAE"
VERSION = 2


def save(fitted: Fitted, params: dict[str, Any], path: list[dict[str, Any]], file: str | os.PathLike[str]) -> None:
    """Write a fitted model, the parameters it was fitted with, and its reg path; see `InfiniteAE.save`."""
    solution = fitted.solution
    own_kernel, own_weights = (params[name] is not None for name in ("kernel", "item_weights"))
    params = {
        **{name: value for name, value in params.items() if name not in ("kernel", "item_weights")},
        "reg": np.asarray(params["reg"], float).tolist(),
        "dtype": np.dtype(params["dtype"]).name,
    }
    about = {
        "params": params,
        "own_kernel": own_kernel,
        "own_weights": own_weights,
        "path": path,
        "solution": {k: getattr(solution, k) for k in ("residual", "noise", "reg", "ridge")},
    }
    weights, clicks = fitted.inputs.item_weights, fitted.clicks
    npz.write(
        Path(file),
        FORMAT,
        VERSION,
        params=np.array(json.dumps(about, default=lambda scalar: scalar.item())),
        coef=np.asarray(solution.coef),
        inverse_diagonal=solution.inverse_diagonal,
        targets=np.zeros(0) if fitted.targets is clicks.matrix else dense(fitted.targets),
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
    fields = npz.read(path, FORMAT, VERSION, ModelFileError, "fit and save the model again")
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
        targets = fields["targets"] if fields["targets"].size else clicks
        if targets.shape != shape or fields["inverse_diagonal"].shape != shape[:1]:
            raise ValueError(f"targets {targets.shape} do not fit the clicks {shape}")
        with precision(fields["coef"].dtype):
            coef, diagonal = jnp.asarray(fields["coef"]), fields["inverse_diagonal"]
            solution = Solution(coef=coef, inverse_diagonal=diagonal, **about["solution"])
        weights = fields["item_weights"] if fields["item_weights"].size else None
        inputs = InputMap(weights, params["unit_rows"])
        if about["own_weights"]:
            params["item_weights"] = weights
        kernel = kernel or ReluNTK(params["depth"], params["w_std"], params["b_std"])
        rows = Rows(inputs(clicks, solution.coef.dtype), solution.coef.dtype)
        anchors = Interactions(clicks, fields["user_ids"], fields["item_ids"])
        return params, Fitted(anchors, inputs, kernel, rows, targets, solution), about["path"]
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r}") from error
