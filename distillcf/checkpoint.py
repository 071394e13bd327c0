"""The outer loop's progress on disk: written aside and renamed, and continued to the same bits."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distillcf.batches import Batches
from distillcf.errors import CheckpointError
from distillcf.inner import Student
from distillcf.step import State
from infae.data.fingerprint import clicks_fingerprint, fingerprint
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.linalg.tiles import precision
from infae.runtime import checks
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

    Raises CheckpointError for a file that is foreign, damaged, or of another run; then it names what differs.
    """
    fields = read(path)
    try:
        about = json.loads(str(fields["about"]))
        if not isinstance(about["identity"], dict):
            raise ValueError("the identity is no dictionary")
        if differing := _differences(about["identity"], identity):
            raise CheckpointError(f"{path} is a checkpoint of another run: {'; '.join(differing)}")
        step = checks.whole("step", about["step"], 0, identity["settings"]["steps"])
        best = about["best"] and _best(about["best"], _checked(fields["best_logits"], "best_logits", like.logits), step)
        losses = [checks.number("a loss", loss) for loss in about["losses"]]
        leaves, tree = jax.tree.flatten(like)
        stored = [_checked(fields[f"state_{i}"], f"state_{i}", leaf) for i, leaf in enumerate(leaves)]
        state = jax.tree.unflatten(tree, map(jnp.asarray, stored))
        return Progress(step, state, best, losses, checked_history(about["history"]))
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; start again without resume") from error


def read(path: Path) -> dict[str, Any]:
    """The arrays of a checkpoint; raises CheckpointError where the file is none."""
    return npz.read(path, FORMAT, VERSION, CheckpointError, "start again without resume")


def checked_history(rows: Any) -> list[dict[str, Any]]:
    """The rows of a history, one a validation; ValueError or TypeError where they are none."""
    for row in rows:
        checks.whole("step", row["step"], 0)
        if not all(isinstance(value, (int, float)) for value in row.values()):
            raise ValueError(f"the history holds {row}")
    return list(rows)


def fingerprints(
    clicks: Interactions,
    split: Split | None,
    student: Student,
    batches: Batches,
    state: State,
    *,
    scores: Any,
    own_kernel: bool,
) -> dict[str, str | None]:
    """Of all the data that a run is given and starts from; `scores` and an own kernel are the caller's."""
    weights = student.inputs.item_weights
    parts = () if split is None else (split.validation, split.context("validation"))
    if scores is None and batches.scores is not None:
        # Some users' scores tell of a model: they depend on all its settings.
        scores = batches.scores(np.arange(min(256, batches.n_users)))
    return {
        "start data": fingerprint([np.asarray(state.logits)]),
        "source data": clicks_fingerprint(clicks),
        "validation data": fingerprint([np.array([*map(clicks_fingerprint, parts)])]) if parts else None,
        "item weights data": None if weights is None else fingerprint([weights]),
        "scores data": None if scores is None else fingerprint([np.asarray(scores)]),
        "kernel data": fingerprint([_kernel_of_a_few(student, batches)]) if own_kernel else None,
    }


def _kernel_of_a_few(student: Student, batches: Batches) -> np.ndarray:
    """(8, 8) at most: what tells a caller's own kernel from another, code being no data."""
    with precision(np.float32):
        shown = batches.of(batches.blocks(8)[0]).shown
        return np.asarray(student.kernel(student.inputs.dense(jnp.asarray(shown))))


def _best(about: dict[str, Any], logits: np.ndarray, step: int) -> Best:
    if not isinstance(about["value"], float):
        raise ValueError(f"{about['value']!r} is no value of a metric")
    reg = checks.number("reg", about["reg"], above=0)
    return Best(logits, reg, about["value"], checks.whole("step", about["step"], 0, step))


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
