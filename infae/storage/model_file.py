"""Fitted models on disk: one versioned `.npz`, no pickle, written aside and renamed.

Keys: `format` and `version`; `params`, a JSON of the constructor's arguments and of the solve;
`coef`; the anchors' clicks as `clicks_data`, `clicks_indices`, `clicks_indptr`, `clicks_shape`;
`item_weights` (empty for raw inputs); `user_ids` and `item_ids`. A fit whose anchors are all users
has also `targets` (empty where they are the clicks themselves), and by the inverse
`inverse_diagonal`; one on landmarks `square` and `right`, the sums to which more users can be added.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.errors import ModelFileError
from infae.fitted import CGFit, ExactFit, Fitted, FullFit, LandmarkFit, dense
from infae.inputs import InputMap
from infae.kernels.grams import Kernel
from infae.kernels.relu import ReluNTK
from infae.kernels.rows import Rows
from infae.linalg.tiles import SymmetricTiles, precision
from infae.solvers.cg import CGSolution
from infae.solvers.exact import ExactSolution, Solution
from infae.solvers.nystrom import LandmarkSums
from infae.storage import npz

FORMAT = "infae.InfiniteAE"
VERSION = 3


def save(fitted: Fitted, params: dict[str, Any], path: list[dict[str, Any]], file: str | os.PathLike[str]) -> None:
    """Write a fitted model, the parameters it was fitted with, and its reg path; see `InfiniteAE.save`."""
    solution = fitted.solution
    own_kernel, own_weights = (params[name] is not None for name in ("kernel", "item_weights"))
    own_anchors = isinstance(params["anchors"], Interactions)
    omitted = {"kernel", "item_weights", "mesh", *(["anchors"] if own_anchors else [])}
    params = {
        **{name: value for name, value in params.items() if name not in omitted},
        "reg": np.asarray(params["reg"], float).tolist(),
        "dtype": np.dtype(params["dtype"]).name,
    }
    about: dict[str, Any] = {
        "params": params,
        "own_kernel": own_kernel,
        "own_weights": own_weights,
        "own_anchors": own_anchors,
        "path": path,
        "solution": {k: getattr(solution, k) for k in ("residual", "reg", "ridge")},
    }
    weights, clicks = fitted.inputs.item_weights, fitted.clicks
    arrays: dict[str, Any] = {}
    if isinstance(fitted, FullFit):
        about["solution"]["noise"] = fitted.solution.noise
        arrays = {"targets": np.zeros(0) if fitted.targets is clicks.matrix else dense(fitted.targets)}
    if isinstance(fitted, ExactFit):
        arrays["inverse_diagonal"] = fitted.solution.inverse_diagonal
    elif isinstance(fitted, CGFit):
        about["solution"] |= {k: getattr(fitted.solution, k) for k in ("iterations", "n_landmarks")}
    elif isinstance(fitted, LandmarkFit):
        sums = fitted.sums
        about["sums"] = {"n_users": sums.n_users, "diagonal": sums.diagonal}
        arrays = {"square": sums.square.to_dense(), "right": sums.right}
    npz.write(
        Path(file),
        FORMAT,
        VERSION,
        params=np.array(json.dumps(about, default=lambda scalar: scalar.item())),
        coef=np.asarray(solution.coef),
        **arrays,
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
        dtype = fields["coef"].dtype
        with precision(dtype):
            coef = jnp.asarray(fields["coef"])
        weights = fields["item_weights"] if fields["item_weights"].size else None
        inputs = InputMap(weights, params["row_power"])
        if about["own_weights"]:
            params["item_weights"] = weights
        kernel = kernel or ReluNTK(params["depth"], params["w_std"], params["b_std"])
        rows = Rows(inputs(clicks, dtype), dtype)
        anchors = Interactions(clicks, fields["user_ids"], fields["item_ids"])
        if about["own_anchors"]:
            params["anchors"] = anchors
        if "sums" in about:
            solution, sums = Solution(coef=coef, **about["solution"]), _sums(fields, about["sums"], shape)
            return params, LandmarkFit(anchors, inputs, kernel, rows, solution, sums), about["path"]
        targets = fields["targets"] if fields["targets"].size else clicks
        if targets.shape != shape:
            raise ValueError(f"targets {targets.shape} do not fit the clicks {shape}")
        if "iterations" in about["solution"]:
            by_cg = CGSolution(coef=coef, **about["solution"])
            return params, CGFit(anchors, inputs, kernel, rows, by_cg, targets), about["path"]
        diagonal = fields["inverse_diagonal"]
        if diagonal.shape != shape[:1]:
            raise ValueError(f"inverse_diagonal {diagonal.shape} does not fit the clicks {shape}")
        exact = ExactSolution(coef=coef, inverse_diagonal=diagonal, **about["solution"])
        return params, ExactFit(anchors, inputs, kernel, rows, exact, targets), about["path"]
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r}") from error


def _sums(fields: dict[str, Any], about: dict[str, Any], shape: tuple[int, ...]) -> LandmarkSums:
    square, right = fields["square"], fields["right"]
    if square.shape != (shape[0], shape[0]) or right.shape != shape[::-1]:
        raise ValueError(f"sums {square.shape} and {right.shape} do not fit the landmarks {shape}")
    return LandmarkSums(SymmetricTiles.from_dense(square), right, about["n_users"], about["diagonal"])
