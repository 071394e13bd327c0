"""What click-through models are made of; fields come as `look_up` takes them: ids, or soft values."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import scipy.sparse as sp
import torch
from torch import nn

from experiments.recommenders.layers import Dense, Mixed, Repeated, Sparse, dropped, look_up

Column = torch.Tensor | Sparse | Repeated | Mixed
"""Of a field: ids (n,) int64, soft values (n, size), `Sparse`, `Repeated` or `Mixed`."""


class Bags(Sparse):
    """Sparse rows that take a table's gradient by SciPy, on the CPU, where their own values ask for none.

    For 1,000 histories of 45 items in a twelfth of the time of `embedding_bag`'s own, which sorts them. `Sparse` keeps
    that one: by its rounding the recommenders' records stand.
    """

    @classmethod
    def read(cls, column: "Column", n_columns: int) -> "Bags":
        """Of a column of a field of so many values: ids are bags of one, and soft rows hold their shares above 0.

        ValueError for ids with soft rows among them.
        """
        if isinstance(column, Bags):
            return column
        if isinstance(column, Sparse):
            return cls(column.n_columns, column.columns, column.starts, column.values)
        if isinstance(column, Repeated):
            return cls.read(column.soft, n_columns)[column.which]
        if isinstance(column, Mixed):
            raise ValueError("a history is given as ids, or as soft rows, and not as ids with soft rows among them")
        if not column.is_floating_point():
            places = torch.arange(len(column), device=column.device)
            return cls(n_columns, column, places, torch.ones(len(column), device=column.device))
        rows, columns = column.nonzero(as_tuple=True)
        ends = torch.bincount(rows, minlength=len(column)).cumsum(0)
        return cls(n_columns, columns, torch.cat([ends.new_zeros(1), ends[:-1]]), column[rows, columns])

    def times(self, table: torch.Tensor) -> torch.Tensor:
        return super().times(table) if self.values.requires_grad else _Times.apply(self, table)

    def places(self) -> "Bags":
        """(nnz, n_columns): of each stored place the column, with value 1."""
        return self._single(self.n_columns, self.columns)

    def rows(self) -> "Bags":
        """(nnz, n_rows): of each stored place the row, with value 1."""
        each = torch.arange(len(self), device=self.starts.device)
        return self._single(len(self), each.repeat_interleave(self.lengths()))

    def row_sums(self, parts: torch.Tensor) -> torch.Tensor:
        """(n_rows, width) sums over the stored places of a row, of parts (nnz, width)."""
        ones = torch.ones_like(self.values)
        return Bags(len(parts), torch.arange(len(parts), device=parts.device), self.starts, ones).times(parts)

    def _single(self, n_columns: int, columns: torch.Tensor) -> "Bags":
        return Bags(n_columns, columns, torch.arange(len(columns), device=columns.device), torch.ones_like(self.values))


class _Times(torch.autograd.Function):
    """`Sparse.times` of Bags and a table."""

    @staticmethod
    def forward(ctx: Any, bags: Bags, table: torch.Tensor) -> torch.Tensor:
        ctx.bags, ctx.n_rows = bags, len(table)
        return Sparse.times(bags, table)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, torch.Tensor]:
        bags = ctx.bags
        ends = bags.starts.new_tensor([len(bags.columns)])
        parts = (part.cpu().numpy() for part in (bags.values, bags.columns, torch.cat([bags.starts, ends])))
        transposed = sp.csc_array(tuple(parts), shape=(ctx.n_rows, len(bags)))
        return None, torch.from_numpy(transposed @ grad.cpu().numpy()).to(grad.device)


def plain(column: Column, size: int) -> torch.Tensor:
    """Ids (n,), or dense soft values (n, size)."""
    if isinstance(column, Repeated):
        return plain(column.soft, size)[column.which]
    if isinstance(column, torch.Tensor):
        return column
    device = column.which.device if isinstance(column, Mixed) else column.values.device
    return look_up(torch.eye(size, device=device), column)


@contextmanager
def seeded(rng: torch.Generator) -> Iterator[None]:
    """PyTorch's global generator with a seed that `rng` draws, and afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=rng, device=rng.device)))
        yield


class Embeddings(nn.Module):
    """(n, n_fields, width) vectors of a row's fields: a table each, of which a soft value takes p @ table."""

    def __init__(self, sizes: Iterable[int], width: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes)

    def table(self, field: int) -> torch.Tensor:
        """(size, width) of a field."""
        return cast(nn.Embedding, self.tables[field]).weight

    def forward(self, x: Sequence[Column]) -> torch.Tensor:
        return torch.stack([look_up(self.table(field), column) for field, column in enumerate(x)], 1)


class Linear(nn.Module):
    """(n,) b + sum over fields of a weight of the value."""

    def __init__(self, sizes: Iterable[int]):
        super().__init__()
        self.weights, self.bias = Embeddings(sizes, 1), nn.Parameter(torch.zeros(()))

    def forward(self, x: Sequence[Column]) -> torch.Tensor:
        return self.bias + self.weights(x).sum((1, 2))


def pairwise_sum(vectors: torch.Tensor) -> torch.Tensor:
    """(n,) sum over pairs of fields f < g of v_f . v_g, of vectors (n, n_fields, width) (Rendle 2010, lemma 3.1)."""
    return (vectors.sum(1).square() - vectors.square().sum(1)).sum(1) / 2


def pairwise_products(vectors: torch.Tensor) -> torch.Tensor:
    """(n, n_fields (n_fields - 1) / 2) inner products of each pair of fields."""
    first, second = torch.triu_indices(vectors.shape[1], vectors.shape[1], 1, device=vectors.device)
    return (vectors @ vectors.transpose(1, 2))[:, first, second]


class MLP(nn.Module):
    """ReLU layers, with batch normalisation before the ReLU if asked for, and dropout of what each gives, if any.

    `drop_inputs`: what the first layer takes is dropped out too.
    """

    def __init__(
        self, n_in: int, widths: Sequence[int], batch_norm: bool = False, dropout: float = 0.0,
        drop_inputs: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.dropout, self.drop_inputs, self.n_out = dropout, drop_inputs, [n_in, *widths][-1]
        self.dense = nn.ModuleList(Dense(*pair) for pair in zip([n_in, *widths], widths, strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths) if batch_norm else None

    def forward(self, x: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        if self.drop_inputs:
            x = dropped(x, self.dropout, rng)
        for k, dense in enumerate(self.dense):
            x = dense(x)
            x = torch.relu(x if self.norms is None else self.norms[k](x))
            x = dropped(x, self.dropout, rng)
        return x


class Cross(nn.Module):
    """x_{l+1} = x_0 (x_l . w_l) + b_l + x_l, of x_0 (n, width) (Wang et al. 2017, Eq. 3)."""

    def __init__(self, width: int, n_layers: int):
        super().__init__()
        self.weights = nn.ModuleList(Dense(width, 1, bias=False) for _ in range(n_layers))
        self.biases = nn.Parameter(torch.zeros(n_layers, width))

    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        x = x0
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = x0 * weight(x) + bias + x
        return x


class CIN(nn.Module):
    """Compressed interactions of vectors (n, n_fields, width) (Lian et al. 2018, Eq. 6 to 8).

    X_k[h] = sum_ij W_k[h, i, j] (X_{k-1}[i] * X_0[j]); the sums over the width of all X_k[h] come out.
    """

    def __init__(self, n_fields: int, heights: Sequence[int]):
        super().__init__()
        befores = [n_fields, *heights]
        self.dense = nn.ModuleList(
            Dense(before * n_fields, height, bias=False) for before, height in zip(befores, heights, strict=False)
        )
        self.n_out = sum(heights)

    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        x0 = x0.transpose(1, 2).contiguous()  # pairs then lie as the product takes them, in two fifths of the time
        x, sums = x0, []
        for dense in self.dense:
            pairs = (x[..., :, None] * x0[..., None, :]).flatten(2)  # (n, width, before * n_fields)
            x = dense(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])
            sums.append(x.sum(1))
        return torch.cat(sums, 1)


class Attention(nn.Module):
    """Self-attention over fields, with a residual and a ReLU (Song et al. 2019, Eq. 5 to 8)."""

    def __init__(self, n_in: int, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.residual = (Dense(n_in, width, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, n_fields, width) of (n, n_fields, n_in)."""
        query, key, value = (
            part(x).unflatten(2, (self.n_heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = torch.softmax(query @ key.transpose(2, 3), dim=3) @ value
        return torch.relu(mixed.transpose(1, 2).flatten(2) + self.residual(x))
