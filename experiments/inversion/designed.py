"""Rows designed from a model: groups of values along its singular vectors, labelled by their mean logit.

A soft row (p, q) of a logistic regression or a factorisation machine has the logit p' L q, where L (n_1, n_2) holds the
logits of all pairs of values: whatever is trained on such rows sees L through them alone. With

    L = mean + a 1' + 1 b' + sum_k s_k u_k v_k'

the rows are all pairs of a p and a q, p out of {uniform, a+, a-, u_1+, u_1-, ..., u_r+, u_r-} (x+ = max(x, 0), x- =
max(-x, 0), both scaled to sum to one), q likewise of b and v_k; and pairs of quantile groups of a and of b, from which
main effects are learnt value by value. The label is sigmoid(p' L q), of the model's mean logit over the group.
Gradients by the rows span the u_k and v_k, so that a student finds the directions of its teacher; and as mixtures
differ in all of them, a network that learns from them has less to make up between mixtures and single values than from
groups of one direction.

Where L is too large, it is told by some of its rows and columns: L = C W^+ R with C = L[:, J], R = L[I, :] and
W = L[I, J] (a CUR decomposition), exact for a factorisation machine of fewer factors, and two, than there are of them.

Of more fields than two each pair has such a matrix, all others being spread evenly over their values. A row then has
one of its own groups in each field, drawn at random, and its label is the sigmoid of the mean of the model's logits of
`N_DRAWS` rows of single values drawn by its shares.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from experiments.ctr.layers import Column
from experiments.ctr.models import Model
from experiments.ctr.rows import Rows
from experiments.ctr.train import DIVERGED, probabilities
from experiments.ctr.train import logits as logits_of
from experiments.inversion.pieces import Pieces
from experiments.recommenders.layers import Repeated
from infae.runtime import checks
from infae.runtime.memory import require_memory
from infae.runtime.progress import bar

RANK = 16
PAIRED = 0.65
"""Of the rows, at most how many are pairs along singular vectors."""
NEGLIGIBLE = 1e-3
"""Singular values below this share of the spread of main effects are none: a logistic regression has no others."""
SAMPLED_FROM, SAMPLE = 2**30, 1000
"""Of a matrix of more pairs, so many rows and columns are worked out."""
N_DRAWS = 1000
"""Rows of single values that the label of a row of more fields than two is the mean of."""
KEPT_BYTES = 2**31
"""A response of more bytes is worked out anew at every pass, or read from a checkpoint."""
BLOCK_BYTES, PAIR_BYTES = 2**28, 420
"""Of the pairs that the model scores at a time, and of one of them, by a factorisation machine of 16 factors."""


def synthesise(
    model: Model, n_rows: int, seed: int = 0, *, rank: int = RANK, sample: int | None = None,
    checkpoint: Path | str | None = None, progress: bool = False,
) -> Rows:  # fmt: skip
    """Designed rows; see the module.

    Args:
      model: a trained model of category, several-valued or binned fields; it is put into evaluation mode.
      n_rows: how many; they hold n_rows x (sum of all sizes) numbers. Of two fields, they repeat each other beyond all
        pairs of groups.
      seed: of the SVD's random start, of what is sampled, and of which groups are paired beyond the design.
      rank: most singular vectors r; fewer where n_rows is small, or the model has fewer.
      sample: rows and columns of a pair's logits that are worked out; None: all of up to `SAMPLED_FROM` pairs of
        values, and `SAMPLE` of more.
      checkpoint: folder for the model's responses, from which a run that was stopped goes on, to the same bits; it
        grows to 4 bytes for each pair of values that is worked out.
      progress: show a bar.

    Raises:
      CheckpointError: `checkpoint` holds the response of another model or other settings, or is damaged.
      ValueError: bad arguments, a single field, or fields that are no shares of values.
      FloatingPointError: the model's logits are NaN or infinite.
      MemoryError: the rows, or the groups, do not fit.
    """
    n_rows, rank = checks.whole("n_rows", n_rows), checks.whole("rank", rank, 0)
    if sample is not None:
        checks.whole("sample", sample)
    if other := [field.name for field in model.fields if not field.on_simplex]:
        raise ValueError(f"rows are designed of shares of values, which a number is not, got {', '.join(other)}")
    if len(model.fields) < 2:
        raise ValueError("designed rows pair two fields or more, and this model has one")
    # Value 0 stands for values that nobody has seen.
    sizes = [size - 1 for size in model.sizes]
    if not all(sizes):
        raise ValueError("a field of the model has no known value")
    largest = sorted(sizes)[-2:]
    n_sampled = _n_sampled(sample, *largest)
    # Of sampled rows and columns there are parts, and what they are joined to.
    kept = min(4.0 * largest[0] * largest[1], KEPT_BYTES) if n_sampled is None else 8.0 * n_sampled * sum(largest)
    drawn = 24 * n_rows * N_DRAWS * len(sizes) * (len(sizes) > 2)
    n_bytes = 8 * n_rows * sum(sizes) + kept + max(BLOCK_BYTES, PAIR_BYTES * max(sizes)) + drawn
    require_memory(int(n_bytes), f"{n_rows:,} designed rows of {' and '.join(f'{size:,}' for size in sizes)} values")
    rng = checks.generator(seed)
    pieces = Pieces(checkpoint, model, way="designed", seed=seed, rank=rank, sample=sample)
    if len(sizes) > 2:
        return _of_many(model, n_rows, rank, sample, pieces, rng, progress)
    response = _response(model, (0, 1), sample, pieces, rng, progress)
    a, b, mean = _main_effects(response)
    u, v = _singular(response, a, b, mean, min(rank, *sizes), rng)
    rank = min(u.shape[1], max(0, int((np.sqrt(PAIRED * n_rows) - 3) // 2)))
    first, second = ([_uniform(x), *_signed(np.column_stack([x, w[:, :rank]]))] for x, w in ((a, u), (b, v)))
    pairs = [(i, j) for i in range(len(first)) for j in range(len(second))] if rank else []
    n_groups = int(np.sqrt(max(n_rows - len(pairs), 1)))
    groups = len(first), len(second)
    first, second = first + _quantiles(a, n_groups), second + _quantiles(b, n_groups)
    pairs += [(i, j) for i in range(groups[0], len(first)) for j in range(groups[1], len(second))]
    left = max(n_rows - len(pairs), 0)
    pairs += zip(rng.integers(len(first), size=left), rng.integers(len(second), size=left), strict=True)
    left_side, right_side = np.stack(first), np.stack(second)
    logits = response.transposed_times(left_side.T).T @ right_side.T
    i, j = np.array(pairs[:n_rows]).T
    values = (np.pad(side[at], ((0, 0), (1, 0))) for side, at in ((left_side, i), (right_side, j)))
    return Rows(model.fields, tuple(values), probabilities(logits[i, j]))


def _of_many(
    model: Model, n_rows: int, rank: int, sample: int | None, pieces: Pieces, rng: np.random.Generator, progress: bool
) -> Rows:
    """Rows of three fields or more."""
    sides: list[list[np.ndarray]] = [[_uniform(np.empty(size - 1))] for size in model.sizes]
    effects: list[np.ndarray] = [np.zeros(size - 1) for size in model.sizes]
    for pair in bar("pairs of fields", progress, [*itertools.combinations(range(len(sides)), 2)], "pair"):
        response = _response(model, pair, sample, pieces, rng, False)
        a, b, mean = _main_effects(response)
        u, v = _singular(response, a, b, mean, min(rank, *response.shape), rng)
        for field, effect, vectors in zip(pair, (a, b), (u, v), strict=True):
            effects[field] += effect / (len(sides) - 1)
            sides[field] += _signed(vectors)
    n_groups = max(2, round(n_rows**0.5 / 2))
    columns, draws = [], []
    for field, (effect, own) in enumerate(zip(effects, sides, strict=True)):
        groups = _quantiles(effect, n_groups)
        all_sides = np.stack([*own, *_signed(effect[:, None]), *groups])
        n_own = len(all_sides) - len(groups)
        at = np.where(
            rng.random(n_rows) < PAIRED, rng.integers(0, n_own, n_rows), n_own + rng.integers(0, len(groups), n_rows)
        )
        columns.append(np.pad(all_sides[at], ((0, 0), (1, 0))))
        ends = np.cumsum(all_sides, axis=1, dtype=np.float64)
        ends /= ends[:, -1:]
        found = np.empty((n_rows, N_DRAWS), np.int64)
        for side in np.unique(at):
            mine = at == side
            found[mine] = 1 + np.searchsorted(ends[side], rng.random((mine.sum(), N_DRAWS)), side="right")
        draws.append(np.minimum(found, model.sizes[field] - 1).ravel())
    told = logits_of(model, Rows(model.fields, tuple(draws)))
    if not np.isfinite(told).all():
        raise FloatingPointError(DIVERGED)
    return Rows(model.fields, tuple(columns), probabilities(told.reshape(n_rows, N_DRAWS).mean(1)))


def _response(
    model: Model, pair: tuple[int, int], sample: int | None, pieces: Pieces, rng: np.random.Generator, progress: bool
) -> "Response | Sampled":
    whole = Response(model, pair, pieces, progress)
    n_sampled = _n_sampled(sample, *whole.shape)
    return whole if n_sampled is None else Sampled(whole, n_sampled, rng)


def _n_sampled(sample: int | None, n_1: int, n_2: int) -> int | None:
    """Rows and columns that tell a matrix of this shape; None for all of them."""
    if sample is None and float(n_1) * n_2 > SAMPLED_FROM:
        sample = SAMPLE
    return None if sample is None or sample >= min(n_1, n_2) else sample


class Response:
    """L, the model's logits of all pairs of values but value 0 of two fields, a block of rows at a time.

    Other fields are spread evenly over their values.
    """

    def __init__(self, model: Model, pair: tuple[int, int], pieces: Pieces, progress: bool = False):
        self._model, self._pair, self._pieces, self._progress = model.eval(), pair, pieces, progress
        first, second = (model.sizes[field] - 1 for field in pair)
        self.shape = first, second
        self._kept: list[np.ndarray] | None = [] if 4 * np.prod(self.shape, dtype=np.float64) <= KEPT_BYTES else None

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """(rows, their logits), one block after another."""
        blocks = _blocks(np.arange(self.shape[0]), self.shape[1])
        for k, rows in enumerate(bar("response", self._progress and not self._kept, blocks, "block")):
            if self._kept is None or k == len(self._kept):
                block = self.part(rows, np.arange(self.shape[1]), f"rows_{rows[0]}")
                if self._kept is not None:
                    self._kept.append(block)
            else:
                block = self._kept[k]
            yield slice(rows[0], rows[-1] + 1), block

    def part(self, rows: np.ndarray, columns: np.ndarray, name: str) -> np.ndarray:
        """L[rows][:, columns], a piece of this name."""
        name = "_".join(map(str, (*self._pair, name)))
        return self._pieces.once(name, lambda: {"logits": self._logits(rows, columns)})["logits"]

    @torch.no_grad()
    def _logits(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        device, n = next(self._model.parameters()).device, len(rows) * len(columns)
        first, second = (torch.from_numpy(at + 1).to(device) for at in (rows, columns))
        x: list[Column] = [
            Repeated(_even(size).to(device), torch.zeros(n, dtype=torch.int64, device=device))
            for size in self._model.sizes
        ]
        x[self._pair[0]], x[self._pair[1]] = first.repeat_interleave(len(second)), second.repeat(len(first))
        logits = self._model(x)
        if not logits.isfinite().all():
            raise FloatingPointError(DIVERGED)
        return logits.view(len(first), -1).cpu().numpy()

    def times(self, right: np.ndarray) -> np.ndarray:
        """L @ right."""
        return np.concatenate([block @ right for _, block in self.blocks()])

    def transposed_times(self, left: np.ndarray) -> np.ndarray:
        """L' @ left."""
        return sum(block.T @ left[at] for at, block in self.blocks())


class Sampled:
    """L told by some of its rows I and columns J: C W^+ R; see the module."""

    def __init__(self, response: Response, n: int, rng: np.random.Generator):
        self.shape = response.shape
        rows, columns = (np.sort(rng.permutation(size)[:n]) for size in self.shape)
        everything = [np.arange(size) for size in self.shape]
        self._columns = np.concatenate([
            response.part(part, columns, f"columns_{part[0]}") for part in _blocks(everything[0], len(columns))
        ])  # fmt: skip
        self._rows = np.concatenate([
            response.part(part, everything[1], f"sampled_{k}") for k, part in enumerate(_blocks(rows, self.shape[1]))
        ])  # fmt: skip
        core = self._columns[rows].astype(np.float64)
        # Beyond float32's digits singular values are noise, which an inverse would blow up.
        self._core = np.linalg.pinv(core, rcond=1e-4).astype(np.float32)

    def times(self, right: np.ndarray) -> np.ndarray:
        """L @ right."""
        return self._columns @ (self._core @ (self._rows @ right))

    def transposed_times(self, left: np.ndarray) -> np.ndarray:
        """L' @ left."""
        return self._rows.T @ (self._core.T @ (self._columns.T @ left))


def _blocks(rows: np.ndarray, n_columns: int) -> list[np.ndarray]:
    """Rows, as many at a time as the model scores with so many columns within `BLOCK_BYTES`, at most 64."""
    height = int(np.clip(BLOCK_BYTES // (PAIR_BYTES * n_columns), 1, 64))
    return np.split(rows, range(height, len(rows), height))


def _even(size: int) -> torch.Tensor:
    """(1, size) shares of all values but value 0."""
    shares = torch.full((1, size), 1 / max(size - 1, 1))
    shares[0, 0] = 0
    return shares


def _main_effects(response: Response | Sampled) -> tuple[np.ndarray, np.ndarray, float]:
    """A (n_1,), b (n_2,) and the mean."""
    n_1, n_2 = response.shape
    rows = response.times(np.full(n_2, 1 / n_2, np.float32)).astype(np.float64)
    columns = response.transposed_times(np.full(n_1, 1 / n_1, np.float32)).astype(np.float64)
    mean = float(rows.mean())
    return rows - mean, columns - mean, mean


def _singular(
    response: Response | Sampled, a: np.ndarray, b: np.ndarray, mean: float, rank: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors u (n_1, .) and v (n_2, .) of the largest singular values of what main effects leave.

    Those of values below `NEGLIGIBLE` are left out.

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
    spread = np.hypot(np.linalg.norm(a) * b.size**0.5, np.linalg.norm(b) * a.size**0.5)
    rank = min(rank, int((s > NEGLIGIBLE * spread).sum()))
    return left[:, :rank], (basis @ right.T)[:, :rank]


def _uniform(x: np.ndarray) -> np.ndarray:
    return np.full(x.size, 1 / x.size, np.float32)


def _signed(vectors: np.ndarray) -> list[np.ndarray]:
    """Shares along the positive and the negative part of each column, where it has any."""
    parts = (np.clip(sign * x, 0, None) for x in vectors.T for sign in (1, -1))
    return [(part / part.sum()).astype(np.float32) if part.any() else _uniform(part) for part in parts]


def _quantiles(x: np.ndarray, n: int) -> list[np.ndarray]:
    """Shares of equal groups by value, the least first."""
    n = min(n, x.size)
    groups = np.array_split(np.argsort(x, kind="stable"), n)
    shares = np.zeros((n, x.size), np.float32)
    for k, group in enumerate(groups):
        shares[k, group] = 1 / group.size
    return list(shares)
