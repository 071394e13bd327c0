"""The outer loop's progress on disk: written aside and renamed, and continued to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distillcf.errors import CheckpointError
from distillcf.state import State
from infae import npz

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
        if differing := _differences(about["identity"], identity):
            raise CheckpointError(f"{path} is a checkpoint of another run: {'; '.join(differing)}")
        best = about["best"] and Best(np.asarray(fields["best_logits"]), **about["best"])
        return Progress(about["step"], _state(fields, like), best, about["losses"], about["history"])
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; start again without resume") from error


def _state(fields: dict[str, Any], like: State) -> State:
    leaves, tree = jax.tree.flatten(like)
    stored = [fields[f"state_{i}"] for i in range(len(leaves))]
    for i, (found, leaf) in enumerate(zip(stored, leaves, strict=True)):
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise ValueError(f"state_{i} is {found.dtype} {found.shape}, expected {leaf.dtype} {leaf.shape}")
    return jax.tree.unflatten(tree, [jnp.asarray(found) for found in stored])


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
