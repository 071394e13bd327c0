"""What the PyTorch models are made of.

Wherever a model takes ids (int64) it takes soft ones as well: float rows over the field's values, such as
probabilities. Their vectors are `rows @ table`, which for a one-hot row is the vector of that id, to the bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn.functional import embedding, embedding_bag

INIT_STD = 0.1
FOLD_IN_REG = 0.01


class Sparse(nn.Module):
    """Rows of a sparse matrix, such as click histories, whose product with a table is a sum of its rows.

    In a fourth of the time of SciPy's product, and of PyTorch's own.
    """

    columns: torch.Tensor  # (nnz,) int64
    starts: torch.Tensor  # (n_rows,) int64, where in `columns` a row begins
    values: torch.Tensor  # (nnz,) float32; gradients pass to them

    def __init__(self, n_columns: int, columns: torch.Tensor, starts: torch.Tensor, values: torch.Tensor):
        super().__init__()
        self.n_columns = n_columns
        for name, part in (("columns", columns), ("starts", starts), ("values", values)):
            # Not part of a state: data, which a model is made with.
            self.register_buffer(name, part, persistent=False)

    @classmethod
    def of(cls, matrix: sp.csr_matrix, device: torch.device | str = "cpu") -> Self:
        """A SciPy matrix on a device."""
        columns, starts = (part.astype(np.int64) for part in (matrix.indices, matrix.indptr[:-1]))
        parts = (columns, starts, matrix.data.astype(np.float32))
        return cls(matrix.shape[1], *(torch.from_numpy(part).to(device) for part in parts))

    def __len__(self) -> int:
        return len(self.starts)

    def lengths(self) -> torch.Tensor:
        """(n_rows,) stored values of each row."""
        return self.starts.diff(append=self.starts.new_tensor([len(self.columns)]))

    def __getitem__(self, rows: torch.Tensor) -> Self:
        """Rows of these positions."""
        n_stored = self.lengths()[rows]
        starts = n_stored.cumsum(0) - n_stored
        at = torch.arange(int(n_stored.sum()), device=starts.device)
        at += (self.starts[rows] - starts).repeat_interleave(n_stored)
        return type(self)(self.n_columns, self.columns[at], starts, self.values[at])

    def split(self, n: int) -> list[Self]:
        """Parts of n rows each, the last maybe of fewer."""
        bounds = [*range(0, len(self), n), len(self)]
        ends = [*self.starts[bounds[:-1]].tolist(), len(self.columns)]
        return [
            type(self)(self.n_columns, self.columns[i:j], self.starts[a:b] - i, self.values[i:j])
            for a, b, i, j in zip(bounds, bounds[1:], ends, ends[1:], strict=False)
        ]

    def with_values(self, values: torch.Tensor) -> Self:
        """The same places."""
        return type(self)(self.n_columns, self.columns, self.starts, values)

    def scaled(self, scale: torch.Tensor) -> Sparse:
        """Each row times its scale, (n_rows,)."""
        return self.with_values(self.values * scale.repeat_interleave(self.lengths()))

    def times(self, table: torch.Tensor) -> torch.Tensor:
        """(n_rows, n) product with a table (n_columns, n)."""
        values = self.values.to(table.dtype)
        return embedding_bag(self.columns, table.contiguous(), self.starts, mode="sum", per_sample_weights=values)

    def sums(self) -> torch.Tensor:
        """(n_rows, 1) sums of values."""
        return self.times(self.values.new_ones(self.n_columns, 1))


class _Places:
    """A few soft rows, and for each row a place (n_rows,) that tells of them."""

    def __init__(self, soft: torch.Tensor | Sparse, which: torch.Tensor):
        self.soft, self.which = soft, which

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, rows: torch.Tensor) -> Self:
        return type(self)(self.soft, self.which[rows])

    def split(self, n: int) -> list[Self]:
        """Parts of n rows each, the last maybe of fewer."""
        return [type(self)(self.soft, part) for part in self.which.split(n)]


class Repeated(_Places):
    """Soft rows of which many are alike: a few, and for each row which of them it is."""


class Mixed(_Places):
    """Ids below n, and among them soft rows: n + k stands for row k of some soft ones of n values."""

    @classmethod
    def of(cls, matrix: sp.csr_matrix, device: torch.device | str = "cpu") -> Mixed:
        """A SciPy matrix on a device; its rows of one stored value, a one, are ids."""
        ids = np.diff(matrix.indptr) == 1
        ids[ids] = matrix.data[matrix.indptr[:-1][ids]] == 1
        which, soft = np.empty(len(ids), np.int64), matrix[~ids]
        which[ids], which[~ids] = matrix.indices[matrix.indptr[:-1][ids]], matrix.shape[1] + np.arange(soft.shape[0])
        # Of dense rows a product is much faster than sums of the rows of a table.
        dense = 8 * soft.nnz > soft.shape[0] * soft.shape[1]
        rows = torch.from_numpy(soft.toarray()).to(device) if dense else Sparse.of(soft, device)
        return cls(rows, torch.from_numpy(which).to(device))

    def times(self, table: torch.Tensor) -> torch.Tensor:
        """(n_rows, n) product with a table (n_columns, n)."""
        n, which = len(table), self.which.clone()
        places = (which >= n).nonzero()[:, 0]
        added = look_up(table, self.soft[which[places] - n])
        which[places] = n + torch.arange(len(places), device=which.device)
        return embedding(which, torch.cat([table, added]))


def look_up(table: torch.Tensor, x: torch.Tensor | Sparse | Repeated | Mixed | None) -> torch.Tensor:
    """Rows of a table (n, ...) by ids (int64), by soft ones, (..., n) or of a class here; by None the table."""
    if x is None:
        return table
    if isinstance(x, Repeated):
        return look_up(look_up(table, x.soft), x.which)
    if isinstance(x, Sparse | Mixed):
        return x.times(table)
    if x.is_floating_point():
        return x @ table
    return embedding(x, table) if table.dim() == 2 else table[x]


def inner(p: torch.Tensor, table: torch.Tensor, x: torch.Tensor | None) -> torch.Tensor:
    """The inner products p . table[x], row by row; (len(p), n) with every row of the table by None."""
    return p @ table.T if x is None else (p * look_up(table, x)).sum(-1)


def dropped(x: torch.Tensor, share: float, rng: torch.Generator | None) -> torch.Tensor:
    """By `rng` a share of the entries set to zero, and the others scaled up to keep the expectation; without it all."""
    if rng is None or not share:
        return x
    # A quarter of the time of `bernoulli_`, which was half of a step's.
    return x * torch.rand(x.shape, generator=rng, device=x.device).ge_(share).div_(1 - share)


class Dense(nn.Module):
    """x -> x W + b, of whatever `look_up` takes.

    `nn.Linear` adds b before the sum is done, and rounds otherwise than the models of the records.

    Attributes:
      weight: W, (n_in, n_out).
      bias: b, (n_out,); zeros, and not learned, where the layer is to have none.
    """

    def __init__(self, n_in: int, n_out: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_in, n_out))
        self.bias: torch.Tensor = (nn.Parameter if bias else nn.Buffer)(torch.zeros(n_out))

    def forward(self, x: torch.Tensor | Sparse) -> torch.Tensor:
        return look_up(self.weight, x) + self.bias


def dense_layers(widths: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """Dense layers of these widths, the activation between them."""
    layers = [part for pair in itertools.pairwise(widths) for part in (Dense(*pair), activation())]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def initialise(module: nn.Module, rng: torch.Generator) -> None:
    """Draw initial values: embeddings N(0, INIT_STD^2); layers as Glorot and Bengio (2010, Eq. 16), offsets zero."""
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=INIT_STD, generator=rng)
        elif isinstance(part, Dense):
            # Not by `xavier_normal_`, which rounds fewer than 16 values otherwise than the records.
            nn.init.normal_(part.weight, generator=rng).mul_((2 / sum(part.weight.shape)) ** 0.5)
            nn.init.zeros_(part.bias)


class FoldIn(nn.Module):
    """The regression that makes a user's vector of a history.

        p(history) = user_mean + (mean q_i over the history - history_mean) @ weights

    An empty history gets the mean vector.
    """

    def __init__(self, n_factors: int):
        super().__init__()
        self.weights = nn.Buffer(torch.zeros(n_factors, n_factors))
        self.history_mean, self.user_mean = (nn.Buffer(torch.zeros(n_factors)) for _ in range(2))

    @torch.no_grad()
    def settle(self, users: torch.Tensor, items: torch.Tensor, histories: Sparse) -> None:
        """Ridge regression of users' vectors (n, n_factors) on their n histories.

        With M the centred (n, n_factors) history means and P the centred p_u:
        weights = (M'M + FOLD_IN_REG * trace(M'M)/n_factors * I)^-1 M'P.
        """
        means = mean_vectors(histories, items).double()
        self.history_mean.copy_(means.mean(0))
        self.user_mean.copy_(users.mean(0))
        centred = means - means.mean(0)
        gram = centred.T @ centred
        gram += FOLD_IN_REG * gram.trace() / len(gram) * torch.eye(len(gram), device=gram.device)
        # With a single user, or equal histories, there is nothing to regress on: the smallest solution.
        self.weights.copy_(torch.linalg.pinv(gram, hermitian=True) @ (centred.T @ (users - users.mean(0)).double()))

    def forward(self, histories: Sparse, items: torch.Tensor) -> torch.Tensor:
        """(n_users, n_factors) vectors of histories, of the items' vectors (n_items, n_factors)."""
        known = histories.sums() > 0
        means = torch.where(known, mean_vectors(histories, items), self.history_mean)
        return self.user_mean + (means - self.history_mean) @ self.weights


def mean_vectors(histories: Sparse, items: torch.Tensor) -> torch.Tensor:
    """(n_users, n_factors) mean vector of the items of each history, weighted by stored value; 0 for none."""
    total = histories.sums()
    return histories.times(items) / torch.where(total > 0, total, 1)
