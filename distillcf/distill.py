"""DISTILL-CF's outer loop: synthetic users by gradient descent through the closed-form inner fit."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from distillcf import checkpoint as checkpoints
from distillcf.batches import Batches
from distillcf.checkpoint import Progress
from distillcf.config import Config
from distillcf.errors import DivergedError
from distillcf.inner import Student, described, full_data_model, given_scores
from distillcf.loop import Loop
from distillcf.losses import LOSSES, Objective
from distillcf.prior import first_rows, initial_logits
from distillcf.step import init
from distillcf.summary import Summary
from distillcf.validate import Judge
from infae.data.coerce import as_clicks, as_split, drop_empty_users
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.linalg.tiles import precision
from infae.model import InfiniteAE
from infae.runtime import checks
from infae.runtime.memory import require_memory
from infae.runtime.progress import bar
from infae.storage.paths import readable, writable


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
      OSError: `checkpoint` cannot be written, or `resume` is not there, said before starting.
      MemoryError: what a step needs is not to be had, said before starting.
      DivergedError: the loss is not finite; it holds the best summary until then.
      CheckpointError: `resume` names a foreign or damaged file, or one of other data or settings.
    """
    started = time.perf_counter()
    config = Config(n_users=n_users, seed=seed, **settings)
    checks.flag("progress", progress)
    every = checks.whole("checkpoint_every", checkpoint_every)
    # What is wrong with files is told now, and not after an hour of work.
    file = None if checkpoint is None else writable("checkpoint", checkpoint)
    if resume is not None:
        checkpoints.read(readable("resume", resume))
    everybody = as_clicks(X)
    clicks = drop_empty_users(everybody)
    split = None if validation is None else as_split(everybody, validation)
    _check(config, clicks, model, scores)
    targets = None if scores is None else given_scores(scores, everybody)
    begun = _begin(config, clicks, start)

    matched = config.objective == "match" and targets is None
    model = full_data_model(clicks, split, config.metric, model, fit=matched, progress=progress)
    if matched:
        # What the model says of its users without the echo of their own clicks.
        targets = model.leave_one_out
    student = Student.of(model, clicks)
    batches = Batches(clicks.matrix, config, targets)
    scale = batches.mean_square() if config.objective in ("match", "squared") else 1.0
    objective = Objective(student, LOSSES[config.objective], scale or 1.0, config.l1)
    judge = Judge(student, config, batches, clicks.item_ids, split)
    loop = Loop(config, objective, batches, judge)

    about = described(model)
    identity = {
        "settings": config.as_dict(),
        "model": about,
        "start": start if isinstance(start, str) else type(start).__name__,
        **checkpoints.fingerprints(
            clicks, split, student, batches, begun.state, scores=scores, own_kernel=about["own_kernel"]
        ),
    }
    if resume is not None:
        begun = checkpoints.load(Path(resume), begun.state, identity)

    done = begun
    with bar("distilling", progress, total=config.steps, unit="step") as shown:
        shown.update(begun.step)
        for done in loop.steps(begun, started):
            _show(shown, config, done)
            if file is not None and (done.step % every == 0 or loop.ended(done)):
                checkpoints.save(file, done, identity)
    diverged = not loop.ended(done)
    if diverged and file is not None:
        checkpoints.save(file, done, identity)
    summary = done.best and _summary(judge, clicks.item_ids, student.inputs.item_weights, identity, done)
    if diverged:
        raise DivergedError(_diagnosis(config, done), summary)
    assert summary is not None
    return summary


def _check(config: Config, clicks: Interactions, model: Any, scores: Any) -> None:
    """What can be known to fail is told before any work; see `distill`."""
    if not (model is None or isinstance(model, InfiniteAE)):
        raise ValueError(f"model must be an InfiniteAE or None, got {checks.shown(model)}")
    if scores is not None and config.objective != "match":
        raise ValueError(f"scores are matched by objective='match', got objective={config.objective!r}")
    if config.n_users > clicks.n_users:
        raise ValueError(
            f"expected at most as many synthetic users as there are real ones with clicks, {clicks.n_users:,}, "
            f"got n_users={config.n_users:,}: a summary is smaller than its source"
        )
    batch = min(config.batch_size, clicks.n_users)
    require_memory(
        required_bytes(config.n_users, clicks.n_items, batch, config.n_draws),
        f"a step with {config.n_users:,} synthetic users x {clicks.n_items:,} items and batches of {batch:,} users, "
        f"and {config.n_draws:,} draws a user,",
        "ask for fewer synthetic users or draws, or a smaller batch_size",
    )


def required_bytes(n_users: int, n_items: int, batch_size: int, n_draws: int) -> int:
    """An estimate of the peak memory, of a step in float32 or of a hard sample's draws, whichever is more.

    A step has some 14 support-shaped, 8 batch-shaped and 12 kernel arrays, a draw some 4 numbers of 64 bits.
    """
    support, shown, kernel = n_users * n_items, batch_size * n_items, n_users * (n_users + batch_size)
    return max(4 * (14 * support + 8 * shown + 12 * kernel), 32 * n_users * n_draws)


def _begin(config: Config, clicks: Interactions, start: str | Summary | Interactions) -> Progress:
    """The progress before the first step: from users mixed, random, head or given ones, or a summary's prior."""
    reg = config.reg_grid[0] if config.reg_grid else 1.0
    if isinstance(start, (Summary, Interactions)) and not (
        start.n_users == config.n_users and np.array_equal(start.item_ids, clicks.item_ids)
    ):
        raise ValueError(
            f"start must have {config.n_users:,} users over X's own {clicks.n_items:,} items in the same order, "
            f"got {start.n_users:,} users x {start.item_ids.size:,} items"
        )
    if isinstance(start, Summary):
        logits, reg = start.logits, reg if config.reg_grid else start.reg
    elif isinstance(start, Interactions):
        logits = initial_logits(np.minimum(start.matrix.toarray(), 1), config.n_draws)
    else:
        logits = initial_logits(first_rows(clicks, config.n_users, config.seed, start), config.n_draws)
    with precision(np.float32):
        return Progress(0, init(config, logits, reg), None, [], [])


def _summary(
    judge: Judge, item_ids: np.ndarray, item_weights: np.ndarray | None, identity: dict[str, Any], done: Progress
) -> Summary:
    """The summary of the best state, with the binary rows that are best on validation."""
    best, config = done.best, identity["settings"]
    assert best is not None
    with precision(np.float32):
        soft = judge.soft(best.logits)
        support = judge.support(soft, best.reg)
        hard = judge.best_hard(best.logits, np.asarray(soft), best.reg)
    free = config["labels"] == "free"
    return Summary(
        logits=best.logits,
        soft=np.asarray(soft),
        hard=np.asarray(hard.clicks).astype(np.uint8),
        labels=np.asarray(support.labels) if free else None,
        hard_labels=np.asarray(hard.labels) if free else None,
        item_ids=item_ids,
        item_weights=item_weights,
        model=identity["model"],
        reg=best.reg,
        config=config,
        fingerprint=identity["source data"],
        kept=best.step,
        history=done.history,
    )


def _diagnosis(config: Config, progress: Progress) -> str:
    kept = f"the best state, of step {progress.best.step:,}, is kept" if progress.best else "no validation was passed"
    return (
        f"the loss is not finite at step {progress.step + 1:,} (learning_rate {config.learning_rate:g}, reg "
        f"{float(np.exp(progress.state.log_reg)):.2g}); {kept}. Lower the learning_rate, hold reg fixed at a larger "
        "value, or use fewer synthetic users"
    )


def _show(shown: tqdm, config: Config, progress: Progress) -> None:
    shown.update(progress.step - shown.n)
    if progress.history:
        row = progress.history[-1]
        numbers = {"loss": ".4f", config.metric: ".4f", "reg": ".3g", "clicks": ".1f"}
        shown.set_postfix({name: f"{row[name]:{form}}" for name, form in numbers.items()})
