"""What the outer loop starts from, and what is checked before it does."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from distillcf.checkpoint import Progress
from distillcf.config import Config, whole
from distillcf.coresets import head_users, random_users
from distillcf.step import init, initial_logits
from distillcf.summary import Summary
from infae.data.interactions import Interactions
from infae.linalg.tiles import precision
from infae.runtime.memory import require_memory


def check(config: Config, clicks: Interactions, checkpoint_every: int, checkpoint: Path | None) -> None:
    """What can be known to fail is told before any work; see `distill`."""
    if config.n_users > clicks.n_users:
        raise ValueError(
            f"expected at most as many synthetic users as there are real ones with clicks, {clicks.n_users:,}, "
            f"got n_users={config.n_users:,}: a summary is smaller than its source"
        )
    whole("checkpoint_every", checkpoint_every, 1)
    if checkpoint is not None:
        # Not after an hour of work.
        with tempfile.TemporaryFile(dir=checkpoint.parent):
            pass
    batch = min(config.batch_size, clicks.n_users)
    require_memory(
        required_bytes(config.n_users, clicks.n_items, batch),
        _what(config, clicks.n_items, batch),
        "ask for fewer synthetic users, or a smaller batch_size",
    )


def required_bytes(n_users: int, n_items: int, batch_size: int) -> int:
    """An estimate of a step's peak memory in float32: some 14 support-shaped, 8 batch-shaped and 12 kernel arrays."""
    support, shown, kernel = n_users * n_items, batch_size * n_items, n_users * (n_users + batch_size)
    return 4 * (14 * support + 8 * shown + 12 * kernel)


def _what(config: Config, n_items: int, batch: int) -> str:
    return f"a step with {config.n_users:,} synthetic users x {n_items:,} items and batches of {batch:,} users"


def begin(config: Config, clicks: Interactions, start: str | Summary | Interactions) -> Progress:
    """The progress before the first step: from users mixed, random, head or given ones, or a summary's prior."""
    reg = config.reg_grid[0] if config.reg_grid else 1.0
    if isinstance(start, Summary):
        _check_start(config, clicks, start.n_users, start.item_ids)
        logits, reg = start.logits, reg if config.reg_grid else start.reg
    else:
        logits = initial_logits(_rows(config, clicks, start), config.n_draws)
    with precision(np.float32):
        return Progress(0, init(config, logits, reg), None, [], [])


def _rows(config: Config, clicks: Interactions, start: str | Interactions) -> np.ndarray:
    if isinstance(start, Interactions):
        _check_start(config, clicks, start.n_users, start.item_ids)
        chosen = start
    elif start == "mixed":
        return _mixtures(clicks, config.n_users, config.seed)
    elif start in ("random", "head"):
        draw = random_users if start == "random" else head_users
        chosen = draw(clicks, config.n_users, config.seed)
    else:
        raise ValueError(f"start must be 'mixed', 'random', 'head', a Summary or Interactions, got {start!r}")
    return np.minimum(chosen.matrix.toarray(), 1)


def _mixtures(clicks: Interactions, n_users: int, seed: int) -> np.ndarray:
    """Rows that are nobody's: of two random users each half of the clicks, drawn at random, rounded up."""
    rng = np.random.default_rng([seed, 5])
    rows = np.zeros((n_users, clicks.n_items), np.float32)
    for row in rows:
        for user in rng.choice(clicks.n_users, min(2, clicks.n_users), replace=False):
            items = clicks.matrix.indices[clicks.matrix.indptr[user] : clicks.matrix.indptr[user + 1]]
            row[rng.choice(items, -(-items.size // 2), replace=False)] = 1
    return rows


def _check_start(config: Config, clicks: Interactions, n_users: int, item_ids: np.ndarray) -> None:
    if n_users != config.n_users or not np.array_equal(item_ids, clicks.item_ids):
        raise ValueError(
            f"start must have {config.n_users:,} users over X's own {clicks.n_items:,} items in the same order, "
            f"got {n_users:,} users x {item_ids.size:,} items"
        )
