"""DISTILL-CF's outer loop: synthetic users by gradient descent through the closed-form inner fit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distillcf import checkpoint as checkpoints
from distillcf.batches import Batches
from distillcf.checkpoint import Best, Progress
from distillcf.config import Config
from distillcf.errors import DivergedError
from distillcf.inner import Scores, inner_model
from distillcf.losses import LOSSES, Objective, Student
from distillcf.prior import most_probable
from distillcf.start import begin, check
from distillcf.step import make_update, soft_clicks
from distillcf.summary import Summary
from distillcf.validate import Judge
from infae.data.coerce import as_clicks, as_split, drop_empty_users
from infae.data.fingerprint import clicks_fingerprint, fingerprint
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.linalg.tiles import precision
from infae.model import InfiniteAE
from infae.runtime.progress import bar


def distill(
    X: Any,
    n_users: int = 500,
    *,
    validation: Split | Interactions | None = None,
    seed: int = 0,
    model: InfiniteAE | None = None,
    scores: np.ndarray | None = None,
    start: str | Summary | Interactions = "mixed",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 50,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **settings: Any,
) -> Summary:
    r"""Synthetic users on which ∞-AE serves the real ones as well as can be (Sachdeva et al. 2022, section 4).

        minimise over the prior L   E_u loss(K_us alpha, targets_u) + penalties(x)
        where   alpha = (K_ss + reg * mean diagonal * I)^-1 labels,   x = sampler(L)   (Eq. 3)

    By default the targets are the leave-one-out scores of an ∞-AE of all the data, on the items
    that u has not clicked, and x is the closed-form expected inclusion. The paper's own form is
    objective="logistic", sampler="gumbel", reg=(1e-5, 1e-3, 0.1, 1, 5, 50). A step takes some
    6 (b + n_users) n_users n_items operations for a batch of b real users.

    Args:
      X: clicks, as `infae.fit` takes them.
      n_users: synthetic users, at most the real ones.
      validation: a `Split`, or `Interactions` held out from the users of X, row by row; the
        best state by `metric` on it is kept, and without improvement the run ends early. Where
        None, all steps are taken, and the last state is kept.
      seed: of everything random; the same seed gives the same bits on the same machine.
      model: an `InfiniteAE` whose kernel, inputs and `reg` serve as the inner model's and, for
        objective="match", as the full-data model's. Where None one is chosen on validation
        from a few; see `distillcf.inner.choose_teacher`.
      scores: (n_users, n_items) of X's users to be matched instead of the full-data model's;
        labels="free" also matches their values on clicked items, which should then be no echo
        of the click itself.
      start: "mixed", halves of two random users a row; "random" or "head" users, a `Summary`, or
        `Interactions` of n_users users. Rows that are of little use to the objective stay near
        their start, so only the first gives away nobody's history.
      checkpoint: file to write the progress to; None for none.
      checkpoint_every: steps between writes; the last step is always written.
      resume: checkpoint to continue from, to the bits of an uninterrupted run.
      progress: show a bar with loss, validation metric, reg, clicks a user and time.
      settings: of `distillcf.Config`.

    Returns:
      The `Summary` of the state that was kept: `logits`, `soft`, `hard` and, with free labels,
      `labels`, each (n_users, n_items) over all items of X.

    Raises:
      ValueError: bad settings or data; more synthetic users than real ones; a validation set of
        other items.
      MemoryError: what a step needs is not to be had, said before starting.
      DivergedError: the loss is not finite; it holds the best summary until then.
      CheckpointError: `resume` names a foreign or damaged file, or one of other data or settings.
    """
    started = time.perf_counter()
    file = None if checkpoint is None else Path(checkpoint)
    config = Config(n_users=n_users, seed=seed, **settings)
    everybody = as_clicks(X)
    clicks = drop_empty_users(everybody)
    split = None if validation is None else as_split(everybody, validation)
    check(config, clicks, checkpoint_every, file)
    student, described, targets = inner_model(config, clicks, split, model, scores, everybody, progress)
    batches = Batches(clicks.matrix, config, targets)
    scale = batches.mean_square() if config.objective in ("match", "squared") else 1.0
    objective = Objective(student, LOSSES[config.objective], scale or 1.0, config.l1)
    judge = Judge(student, config, batches, clicks.item_ids, split)
    begun = begin(config, clicks, start)
    source = clicks_fingerprint(clicks)
    weights = student.inputs.item_weights
    identity = {
        "settings": config.as_dict(),
        "model": described,
        "start": start if isinstance(start, str) else type(start).__name__,
        "start data": fingerprint([np.asarray(begun.state.logits)]),
        "source data": source,
        "validation data": None if split is None else _validation_fingerprint(split),
        "item weights data": None if weights is None else fingerprint([weights]),
        "scores data": _scores_fingerprint(scores, targets, clicks.n_users),
        "kernel data": fingerprint([_kernel_of_a_few(student, batches)]) if described["own_kernel"] else None,
    }
    if resume is not None:
        begun = checkpoints.load(Path(resume), begun.state, identity)

    def summary(best: Best, history: list[dict[str, Any]]) -> Summary:
        with precision(np.float32):
            soft = soft_clicks(config, jnp.asarray(best.logits), _judging_key(config))
            support = judge.support(soft, best.reg)
            hard = judge.best_hard(best.logits, np.asarray(soft), best.reg)
        free = config.labels == "free"
        return Summary(
            logits=best.logits,
            soft=np.asarray(soft),
            hard=np.asarray(hard.clicks).astype(np.uint8),
            labels=np.asarray(support.labels) if free else None,
            hard_labels=np.asarray(hard.labels) if free else None,
            item_ids=clicks.item_ids,
            item_weights=weights,
            model=described,
            reg=best.reg,
            config=config.as_dict(),
            fingerprint=source,
            kept=best.step,
            history=history,
        )

    done = begun
    with bar("distilling", progress, total=config.steps, unit="step") as shown:
        shown.update(begun.step)
        for done in _steps(config, objective, batches, judge, begun, started):
            shown.update(done.step - shown.n)
            if done.history:
                shown.set_postfix(_shown(config, done))
            if not np.isfinite(done.losses[-1:]).all():
                # Without the loss that is none, so that it can be read again.
                if file is not None:
                    checkpoints.save(file, done._replace(losses=done.losses[:-1]), identity)
                raise DivergedError(_diagnosis(config, done), done.best and summary(done.best, done.history))
            ends = done.step == config.steps or _stale(config, done)
            if file is not None and (done.step % checkpoint_every == 0 or ends):
                checkpoints.save(file, done, identity)
            if ends:
                break
    assert done.best is not None
    return summary(done.best, done.history)


def _steps(
    config: Config, objective: Objective, batches: Batches, judge: Judge, begun: Progress, started: float
) -> Iterator[Progress]:
    """The progress after each outer step; a step whose loss is not finite is the last, and changes nothing."""
    update = make_update(config, objective)
    progress = begun
    before = begun.history[-1]["seconds"] if begun.history else 0.0
    batch = batches(begun.step)
    for step in range(begun.step, config.steps):
        if _stale(config, progress):
            return
        state, loss = update(progress.state, batch, jnp.int32(step))
        # The next batch is laid out while this step is computed.
        batch = batches(step + 1)
        losses = [*progress.losses, float(loss)]
        if not np.isfinite(losses[-1]):
            yield progress._replace(losses=losses)
            return
        progress = progress._replace(step=step + 1, state=state, losses=losses)
        if (step + 1) % config.validate_every == 0 or step + 1 == config.steps:
            progress = _validated(config, judge, progress, before + time.perf_counter() - started)
        yield progress


def _validated(config: Config, judge: Judge, progress: Progress, seconds: float) -> Progress:
    state = progress.state
    with precision(np.float32):
        soft = soft_clicks(config, state.logits, _judging_key(config))
        value, reg = judge.best(soft, float(jnp.exp(state.log_reg)))
        values = {config.metric: value}
        if config.sharpness:
            values[f"{config.metric} hard"] = judge.value(judge.support(most_probable(np.asarray(soft)), reg))
        if config.reg_grid:
            state = state._replace(log_reg=jnp.log(jnp.float32(reg)))
        best = progress.best
        if best is None or _eligible(config, progress.step) > _eligible(config, best.step) or not value <= best.value:
            best = Best(np.asarray(state.logits), reg, value, progress.step)
        row = {
            "step": progress.step,
            "loss": float(np.mean(progress.losses)),
            **values,
            "reg": reg,
            "clicks": float(jnp.mean(jnp.sum(soft, axis=1))),
            "variance": float(jnp.mean(jnp.sum(soft * (1 - soft), axis=1))),
            "seconds": seconds,
        }
    return progress._replace(state=state, best=best, losses=[], history=[*progress.history, row])


def _eligible(config: Config, step: int) -> bool:
    """Whether a state may be the best: a prior that is to be sharp is not taken before it is."""
    return not config.sharpness or step > 0.75 * config.steps


def _stale(config: Config, progress: Progress) -> bool:
    """No better validation for `patience` times, of those whose states may be kept."""
    if not config.patience or progress.best is None or np.isnan(progress.best.value):
        return False
    if not _eligible(config, progress.best.step):
        return False
    return progress.step - progress.best.step >= config.patience * config.validate_every


def _validation_fingerprint(split: Split) -> str:
    return fingerprint(
        [np.array([clicks_fingerprint(split.validation), clicks_fingerprint(split.context("validation"))])]
    )


def _scores_fingerprint(given: np.ndarray | None, targets: Scores | None, n_users: int) -> str | None:
    if given is not None:
        return fingerprint([np.asarray(given)])
    # Of a model some users' scores tell: they depend on all its settings.
    return None if targets is None else fingerprint([targets(np.arange(min(256, n_users)))])


def _kernel_of_a_few(student: Student, batches: Batches) -> np.ndarray:
    """(8, 8) at most: what tells a caller's own kernel from another, code being no data."""
    with precision(np.float32):
        shown = batches.of(batches.blocks(8)[0]).shown
        return np.asarray(student.kernel(student.inputs.dense(jnp.asarray(shown))))


def _judging_key(config: Config) -> jax.Array:
    return jax.random.fold_in(jax.random.key(config.seed), config.steps)


def _diagnosis(config: Config, progress: Progress) -> str:
    kept = f"the best state, of step {progress.best.step:,}, is kept" if progress.best else "no validation was passed"
    return (
        f"the loss is not finite at step {progress.step + 1:,} (learning_rate {config.learning_rate:g}, reg "
        f"{float(np.exp(progress.state.log_reg)):.2g}); {kept}. Lower the learning_rate, hold reg fixed at a larger "
        "value, or use fewer synthetic users"
    )


def _shown(config: Config, progress: Progress) -> dict[str, str]:
    row = progress.history[-1]
    return {
        "loss": f"{row['loss']:.4f}",
        config.metric: f"{row[config.metric]:.4f}",
        "reg": f"{row['reg']:.3g}",
        "clicks": f"{row['clicks']:.1f}",
    }
