"""Trained click-through models on disk."""

import importlib
from pathlib import Path

import torch
from torch import nn

from experiments.ctr.fields import Fields
from experiments.ctr.models import MODELS, Model, Own
from infae.runtime.checks import shown
from infae.storage.atomic import replacing

_PARTS = {"model", "params", "state", "fields"}


def save(model: Model, path: str | Path) -> None:
    """Name, parameters and state, as `torch.save` writes them; its fields go into a file of their own.

    ValueError for a module of your own, which only its own code can make again.
    """
    if isinstance(model, Own):
        raise ValueError(
            f"{type(model.module).__name__} is no model of ours: save its state_dict, and load it in build"
        )
    content = {"model": type(model).__name__.lower(), "params": model.params, "state": model.state_dict()}
    content["fields"] = model.fields.fingerprint
    with replacing(Path(path)) as aside:
        torch.save(content, aside)


def load(path: str, fields: Fields) -> Model:
    """A model that `save` wrote, in evaluation mode; or of your own, `my_module:build`, by `build(fields)`.

    That gives a `Model`, or any other module, see `models.Own`.

    Weights alone are read: a file cannot run code. ValueError for a file that is no such model, or of other fields.
    """
    if ":" in path and not Path(path).exists():
        return _built(path, fields)
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file; give a model's, or my_module:build")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of foreign bytes the unpickler raises whatever it stumbles over
        raise ValueError(f"{path} is no model of experiments.ctr.store.save: it cannot be read") from error
    if not isinstance(content, dict) or content.keys() != _PARTS or str(content["model"]) not in MODELS:
        raise ValueError(f"{path} is no model of experiments.ctr.store.save: it holds something else")
    if content["fields"] != fields.fingerprint:
        names = ", ".join(fields.names)
        raise ValueError(f"{path} holds a {content['model']} of other fields, or of other values, than these: {names}")
    try:
        model = MODELS[str(content["model"])](fields, **content["params"])
        model.load_state_dict(content["state"])
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path} is damaged: it does not make a {content['model']}: {reason}") from error
    return model.eval()


def _built(name: str, fields: Fields) -> Model:
    module, _, function = name.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} is not found: expected module:function, called as function(fields)") from error
    model = build(fields)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} must give a torch.nn.Module, got {shown(model)}")
    return (model if isinstance(model, Model) else Own(fields, model)).eval()
