"""The outer loop's progress on disk: written aside and renamed, and continued to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distillcf.errors import CheckpointError
from distillcf.step import State
from infae.storage import npz

FORMAT = "distillcf.checkpoint"
VERSION = 1


class Best(NamedTuple):
    """The best state of the outer loop by validation; where nothing is held out, the last."""

    logits: np.ndarray  # (n_synthetic, n_items)
    reg: float
    value: float
    step: int


class Progress(NamedTuple):
    """All that the outer loop knows between two steps."""

    step: int  # steps done
    state: State
    best: Best | None
    losses: list[float]  # of the steps since the last validation
    history: list[dict[str, Any]]  # one dict a validation


def save(path: Path, progress: Progress, identity: dict[str, Any]) -> None:
    """Write a checkpoint; `identity` says what run it is of: settings and fingerprints, as plain values."""
    best = progress.best
    about = {
        "identity": identity,
        "step": progress.step,
        "losses": progress.losses,
        "history": progress.history,
        "best": None if best is None else {"reg": best.reg, "value": best.value, "step": best.step},
    }
    leaves = jax.tree.leaves(progress.state)
    npz.write(
        path,
        FORMAT,
        VERSION,
        about=np.array(json.dumps(about)),
        best_logits=np.zeros(0, np.float32) if best is None else best.logits,
        **{f"state_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)},
    )


def load(path: Path, like: State, identity: dict[str, Any]) -> Progress:
    """The progress that `save` wrote, for a run with this identity, whose state is shaped `like`.

    Raises:
      FileNotFoundError: no such file.
      CheckpointError: foreign, damaged, or of another run; then it names what differs.
    """
    fields = npz.read(path, FORMAT, VERSION, CheckpointError, "start again without resume")
    try:
        about = json.loads(str(fields["about"]))
        if not isinstance(about["identity"], dict):
            raise ValueError("the identity is no dictionary")
        if differing := _differences(about["identity"], identity):
            raise CheckpointError(f"{path} is a checkpoint of another run: {'; '.join(differing)}")
        best = about["best"] and Best(_checked(fields["best_logits"], "best_logits", like.logits), **about["best"])
        step = about["step"]
        if not isinstance(step, int) or not 0 <= step <= identity["settings"]["steps"]:
            raise ValueError(f"{step!r} is no step of this run")
        return Progress(step, _state(fields, like), best, about["losses"], about["history"])
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; start again without resume") from error


def _state(fields: dict[str, Any], like: State) -> State:
    leaves, tree = jax.tree.flatten(like)
    stored = [_checked(fields[f"state_{i}"], f"state_{i}", leaf) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, [jnp.asarray(found) for found in stored])


def _checked(found: np.ndarray, name: str, like: Any) -> np.ndarray:
    if found.shape != like.shape or found.dtype != like.dtype or not np.isfinite(found).all():
        raise ValueError(f"{name} is {found.dtype} {found.shape}, expected finite {like.dtype} {like.shape}")
    return found


def _differences(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What was and what is, for each difference; fingerprints are not shown."""
    found = []
    for name in sorted(stored.keys() | wanted.keys()):
        before, now = stored.get(name), wanted.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now)
        elif name.endswith("data"):
            found.append(f"the {name} differs")
        else:
            found.append(f"{name} was {before!r} and is {now!r}")
    return found
