"""Fitted models on disk: one versioned `.npz`, no pickle, written aside and renamed.

Keys: `format` and `version`; `params`, a JSON of the constructor's arguments and of the solve;
`coef`; the anchors' clicks as `clicks_data`, `clicks_indices`, `clicks_indptr`, `clicks_shape`;
`item_weights` (empty for raw inputs); `user_ids` and `item_ids`; and what the solver's fitted form
adds, see `infae.solvers.base.Fitted.stored`.
"""

import json
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.errors import ModelFileError
from infae.inputs import InputMap
from infae.kernels.base import Kernel
from infae.kernels.relu import ReluNTK
from infae.kernels.rows import Rows
from infae.linalg.tiles import precision
from infae.solvers import SOLVERS, Solver
from infae.solvers.base import Fitted
from infae.storage import npz

FORMAT = "infae.InfiniteAE"
VERSION = 3


def save(fitted: Fitted, params: dict[str, Any], path: list[dict[str, Any]], file: Path) -> None:
    """Write a fitted model, the parameters it was fitted with, and its reg path; see `InfiniteAE.save`."""
    arrays, about = fitted.stored()
    about |= {
        "solver": fitted.solver,
        "params": {name: _plain(name, value) for name, value in params.items() if _is_kept(name, value)},
        "own_kernel": params["kernel"] is not None,
        "own_weights": params["item_weights"] is not None,
        "own_anchors": isinstance(params["anchors"], Interactions),
        "path": path,
    }
    weights, clicks = fitted.inputs.item_weights, fitted.clicks
    npz.write(
        file,
        FORMAT,
        VERSION,
        params=np.array(json.dumps(about, default=lambda scalar: scalar.item())),
        coef=np.asarray(fitted.solution.coef),
        **arrays,
        clicks_data=clicks.matrix.data,
        clicks_indices=clicks.matrix.indices,
        clicks_indptr=clicks.matrix.indptr,
        clicks_shape=np.array(clicks.shape),
        item_weights=np.zeros(0) if weights is None else weights,
        user_ids=clicks.user_ids,
        item_ids=clicks.item_ids,
    )


def read(path: Path, kernel: Kernel | None) -> tuple[dict[str, Any], Fitted, list[dict[str, Any]]]:
    """(parameters without the kernel, fitted model, reg path) that `save` wrote; see `infae.load`."""
    fields = npz.read(path, FORMAT, VERSION, ModelFileError, "fit and save the model again")
    try:
        about = json.loads(str(fields["params"]))
        if about["own_kernel"] != (kernel is not None):
            wanted = "its own kernel: pass kernel=..." if about["own_kernel"] else "a built-in kernel: pass none"
            raise ModelFileError(f"{path} was fitted with {wanted}")
        params, anchors, weights = about["params"], _anchors(fields), fields["item_weights"]
        dtype = fields["coef"].dtype
        with precision(dtype):
            coef = jnp.asarray(fields["coef"])
        inputs = InputMap(weights if weights.size else None, params["row_power"])
        kernel = kernel or ReluNTK(params["depth"], params["w_std"], params["b_std"])
        common = (anchors, inputs, kernel, Rows(inputs(anchors.matrix, dtype), dtype))
        fitted = SOLVERS[_solver_of(about)].fitted_class.restored(common, coef, fields, about)
        if about["own_weights"]:
            params["item_weights"] = inputs.item_weights
        if about["own_anchors"]:
            params["anchors"] = anchors
        if isinstance(params["solver"], dict):
            params["solver"] = _solver(params["solver"], anchors)
        return params, fitted, about["path"]
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r}") from error


def _is_kept(name: str, value: Any) -> bool:
    """Whether a parameter is in the JSON: code and meshes are not, arrays have keys of their own."""
    return name not in ("kernel", "item_weights", "mesh") and not isinstance(value, Interactions)


def _plain(name: str, value: Any) -> Any:
    if name == "reg":
        return np.asarray(value, float).tolist()
    if name == "dtype":
        return np.dtype(value).name
    if not isinstance(value, Solver):
        return value
    # Anchors of its own are the model's, and null here.
    parts = {field.name: getattr(value, field.name) for field in dataclass_fields(cast(Any, value))}
    return {"name": value.name} | {k: None if isinstance(v, Interactions) else _plain(k, v) for k, v in parts.items()}


def _solver(plain: dict[str, Any], anchors: Interactions) -> Solver:
    def part(value: Any) -> Any:
        return _solver(value, anchors) if isinstance(value, dict) else anchors if value is None else value

    return SOLVERS[plain["name"]](**{name: part(value) for name, value in plain.items() if name != "name"})


def _solver_of(about: dict[str, Any]) -> str:
    """Its name; files from before it was written tell it by what else they hold."""
    by_content = "nystrom" if "sums" in about else "cg" if "iterations" in about["solution"] else "exact"
    return about.get("solver", by_content)


def _anchors(fields: dict[str, Any]) -> Interactions:
    shape = tuple(int(x) for x in fields["clicks_shape"])
    clicks = sp.csr_matrix((fields["clicks_data"], fields["clicks_indices"], fields["clicks_indptr"]), shape=shape)
    clicks.check_format(full_check=True)
    if not fields["coef"].shape == shape == (fields["user_ids"].size, fields["item_ids"].size):
        raise ValueError(f"coefficients {fields['coef'].shape} do not fit the clicks {shape}")
    # Trusted: users of several processes may share ids.
    return Interactions.trusted(clicks, fields["user_ids"], fields["item_ids"])
