"""Rows designed from a model of two fields: groups along its singular vectors, labelled by their mean logit.

A soft row (p, q) of a logistic regression or a factorisation machine has the logit p' L q, where L (n_1, n_2) holds the
logits of all pairs of values: whatever is trained on such rows sees L through them alone. With

    L = mean + a 1' + 1 b' + sum_k s_k u_k v_k'

the rows are all pairs of a p and a q, p out of {uniform, a+, a-, u_1+, u_1-, ..., u_r+, u_r-} (x+ = max(x, 0), x- =
max(-x, 0), both scaled to sum to one), q likewise of b and v_k; and pairs of quantile groups of a and of b, from which
main effects are learnt value by value. The label is sigmoid(p' L q), with the model's mean logit over the group.
Gradients by the rows span the u_k and v_k, so that a student finds the directions of its teacher; and as mixtures
differ in all of them, a network that learns from them has less to make up between mixtures and single values than from
groups of one direction.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from experiments.ctr.models import Model
from experiments.ctr.rows import Rows
from experiments.ctr.train import probabilities
from experiments.inversion.pieces import Pieces
from infae.runtime import checks
from infae.runtime.memory import require_memory
from infae.runtime.progress import bar

RANK = 16
PAIRED = 0.65
"""Of the rows, at most how many are pairs along singular vectors."""
NEGLIGIBLE = 1e-3
"""Singular values below this share of the spread of main effects are none: a logistic regression has no others."""
KEPT_BYTES = 2**31
"""A response of more bytes is worked out anew at every pass, or read from a checkpoint."""
BLOCK_BYTES, PAIR_BYTES = 2**28, 420
"""Of the pairs that the model scores at a time, and of one of them, by a factorisation machine of 16 factors."""


def synthesise(
    model: Model, n_rows: int, seed: int = 0, *, rank: int = RANK, checkpoint: Path | str | None = None,
    progress: bool = False,
) -> Rows:  # fmt: skip
    """Designed rows; see the module.

    Args:
      model: a trained model of two category fields; it is put into evaluation mode.
      n_rows: how many; they hold n_rows x (n_1 + n_2) numbers. Beyond all pairs of groups they repeat each other.
      seed: of the SVD's random start, and of which groups are paired beyond the design.
      rank: most singular vectors r; fewer where n_rows is small, or the model has fewer.
      checkpoint: folder for the model's response, from which a run that was stopped goes on, to the same bits; it
        grows to 4 n_1 n_2 bytes.
      progress: show a bar.

    Raises:
      CheckpointError: `checkpoint` holds the response of another model, or is damaged.
      ValueError: bad arguments, or other fields than two categories.
      FloatingPointError: the model's logits are NaN or infinite.
      MemoryError: the rows, or the groups, do not fit.
    """
    n_rows, rank = checks.whole("n_rows", n_rows), checks.whole("rank", rank, 0)
    if [field.kind for field in model.fields] != ["category", "category"]:
        raise ValueError(
            "designed rows are of models with two category fields, got "
            + ", ".join(f"{field.name} ({field.kind})" for field in model.fields)
        )
    # Value 0 stands for values that nobody has seen.
    n_1, n_2 = (size - 1 for size in model.sizes)
    if not (n_1 and n_2):
        raise ValueError("a field of the model has no known value")
    kept = min(4 * n_1 * n_2, KEPT_BYTES)
    n_bytes = 8 * n_rows * (n_1 + n_2) + kept + max(BLOCK_BYTES, PAIR_BYTES * n_2)
    require_memory(n_bytes, f"{n_rows:,} designed rows of {n_1:,} and {n_2:,} values")
    response = Response(model, checkpoint, progress)
    rng = checks.generator(seed)
    a, b, mean = _main_effects(response)
    u, s, v = _singular(response, a, b, mean, min(rank, n_1, n_2), rng)
    rank = min(
        int((s > NEGLIGIBLE * np.hypot(np.linalg.norm(a) * n_2**0.5, np.linalg.norm(b) * n_1**0.5)).sum()),
        max(0, int((np.sqrt(PAIRED * n_rows) - 3) // 2)),
    )
    first, second = ([_uniform(x), *_signed(x, w[:, :rank])] for x, w in ((a, u), (b, v)))
    pairs = [(i, j) for i in range(len(first)) for j in range(len(second))] if rank else []
    n_groups = int(np.sqrt(max(n_rows - len(pairs), 1)))
    groups = len(first), len(second)
    first, second = first + _quantiles(a, n_groups), second + _quantiles(b, n_groups)
    pairs += [(i, j) for i in range(groups[0], len(first)) for j in range(groups[1], len(second))]
    left = max(n_rows - len(pairs), 0)
    pairs += zip(rng.integers(len(first), size=left), rng.integers(len(second), size=left), strict=True)
    left_side, right_side = np.stack(first), np.stack(second)
    logits = response.between(left_side, right_side)
    i, j = np.array(pairs[:n_rows]).T
    values = (np.pad(side[at], ((0, 0), (1, 0))) for side, at in ((left_side, i), (right_side, j)))
    return Rows(model.fields, tuple(values), probabilities(logits[i, j]))


class Response:
    """L, the model's logits of all pairs of values but value 0, a block of rows at a time."""

    def __init__(self, model: Model, checkpoint: Path | str | None = None, progress: bool = False):
        self._model, self._progress = model.eval(), progress
        self._pieces = Pieces(checkpoint, model, way="designed")
        self.shape = tuple(size - 1 for size in model.sizes)
        self._height = int(np.clip(BLOCK_BYTES // (PAIR_BYTES * self.shape[1]), 1, 64))
        self._kept: list[np.ndarray] | None = [] if 4 * np.prod(self.shape) <= KEPT_BYTES else None

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """(rows, their logits), one block after another."""
        starts = range(0, self.shape[0], self._height)
        for k, start in enumerate(bar("response", self._progress and not self._kept, starts, "block")):
            at = slice(start, min(start + self._height, self.shape[0]))
            if self._kept is None or k == len(self._kept):
                block = self._pieces.once(f"rows_{start}", lambda at=at: {"logits": self._logits(at)})["logits"]
                if self._kept is not None:
                    self._kept.append(block)
            else:
                block = self._kept[k]
            yield at, block

    @torch.no_grad()
    def _logits(self, rows: slice) -> np.ndarray:
        first, second = torch.arange(rows.start, rows.stop) + 1, torch.arange(self.shape[1]) + 1
        x = [first.repeat_interleave(len(second)), second.repeat(len(first))]
        logits = self._model([column.to(next(self._model.parameters()).device) for column in x])
        if not logits.isfinite().all():
            raise FloatingPointError("the model's logits are NaN or infinite: it has diverged; train it again")
        return logits.view(len(first), -1).cpu().numpy()

    def times(self, right: np.ndarray) -> np.ndarray:
        """L @ right."""
        return np.concatenate([block @ right for _, block in self.blocks()])

    def transposed_times(self, left: np.ndarray) -> np.ndarray:
        """L' @ left."""
        return sum(block.T @ left[at] for at, block in self.blocks())

    def between(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Left @ L @ right', of rows of shares."""
        return self.transposed_times(left.T).T @ right.T


def _main_effects(response: Response) -> tuple[np.ndarray, np.ndarray, float]:
    """A (n_1,), b (n_2,) and the mean."""
    n_1, n_2 = response.shape
    rows = response.times(np.full(n_2, 1 / n_2, np.float32)).astype(np.float64)
    columns = response.transposed_times(np.full(n_1, 1 / n_1, np.float32)).astype(np.float64)
    mean = float(rows.mean())
    return rows - mean, columns - mean, mean


def _singular(
    response: Response, a: np.ndarray, b: np.ndarray, mean: float, rank: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest singular values of what main effects leave, and their vectors u (n_1, rank) and v (n_2, rank).

    By a random start and two power iterations (Halko, Martinsson and Tropp 2011, algorithm 4.4).
    """

    def times(x: np.ndarray) -> np.ndarray:
        return response.times(x) - mean * x.sum(0) - a[:, None] * x.sum(0) - b @ x

    def transposed_times(x: np.ndarray) -> np.ndarray:
        return response.transposed_times(x) - mean * x.sum(0) - a @ x - b[:, None] * x.sum(0)

    n = min(rank + 8, *response.shape)
    basis = rng.standard_normal((response.shape[1], n)).astype(np.float32)
    for _ in range(2):
        basis = np.linalg.qr(transposed_times(np.linalg.qr(times(basis))[0].astype(np.float32)))[0].astype(np.float32)
    left, s, right = np.linalg.svd(times(basis), full_matrices=False)
    return left[:, :rank], s[:rank], (basis @ right.T)[:, :rank]


def _uniform(x: np.ndarray) -> np.ndarray:
    return np.full(x.size, 1 / x.size, np.float32)


def _signed(effects: np.ndarray, vectors: np.ndarray) -> list[np.ndarray]:
    """Shares along the positive and the negative part of each, where it has any."""
    parts = (np.clip(sign * x, 0, None) for x in (effects, *vectors.T) for sign in (1, -1))
    return [(part / part.sum()).astype(np.float32) if part.any() else _uniform(part) for part in parts]


def _quantiles(x: np.ndarray, n: int) -> list[np.ndarray]:
    """Shares of equal groups by value, the least first."""
    n = min(n, x.size)
    groups = np.array_split(np.argsort(x, kind="stable"), n)
    shares = np.zeros((n, x.size), np.float32)
    for k, group in enumerate(groups):
        shares[k, group] = 1 / group.size
    return list(shares)
