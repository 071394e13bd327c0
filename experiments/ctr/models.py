"""Click-through models: each gives the logits (n,) of rows.

Fields are ids or soft values; one-hot ones give the bits of ids. All have
`forward(x, rng=None)`: x has a column a field, and `rng` draws what is dropped out; without it nothing is. In the
equations v_f is the vector of field f, and w the linear part.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from experiments.ctr.fields import Fields
from experiments.ctr.layers import (
    CIN,
    MLP,
    Attention,
    Bags,
    Column,
    Cross,
    Embeddings,
    Linear,
    pairwise_products,
    pairwise_sum,
    plain,
    seeded,
)
from experiments.recommenders.layers import Dense
from infae.runtime import checks

Rng = torch.Generator | None


class Model(nn.Module):
    """What all have: the sizes of the fields that they were made for.

    `params` of all: n_factors, width of v_f; n_layers and width of a network's hidden layers; batch_norm; dropout,
    share of what its layers give, and but for PNN of what the first takes.
    """

    DROPS_INPUTS = True

    def __init__(
        self, fields: Fields, n_factors: int = 16, n_layers: int = 2, width: int = 64, batch_norm: bool = False,
        dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        for name, value in (("n_factors", n_factors), ("n_layers", n_layers), ("width", width)):
            checks.whole(name, value)
        checks.share("dropout", dropout, least=0)
        self.params: dict[str, Any] = {
            "n_factors": n_factors, "n_layers": n_layers, "width": width, "batch_norm": batch_norm, "dropout": dropout,
        }  # fmt: skip
        self.fields, self.n_factors, self.n_layers = fields, n_factors, n_layers
        self.sizes = [field.size for field in fields]
        self._mlp = (n_layers * [width], batch_norm, dropout)
        with torch.random.fork_rng(devices=[]):  # layers draw values at once, which `train.fit` draws anew
            self._build()

    def _build(self) -> None:
        raise NotImplementedError

    def network(self, n_in: int) -> MLP:
        """A network of the model's `params` on so many numbers."""
        widths, batch_norm, dropout = self._mlp
        return MLP(n_in, widths, batch_norm, dropout, self.DROPS_INPUTS)

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        raise NotImplementedError


class Own(Model):
    """A module of another kind, which gives logits (n,) of a list of columns: ids (n,), or soft values (n, size).

    What it drops out is drawn by PyTorch's global generator, which is seeded for it, and put back.

    Raises (forward) ValueError where it gives something else.
    """

    def __init__(self, fields: Fields, module: nn.Module):
        super().__init__(fields)
        self.module = module

    def _build(self) -> None:
        pass

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        columns = [plain(column, size) for column, size in zip(x, self.sizes, strict=True)]
        if rng is None:
            found = self.module(columns)
        else:
            with seeded(rng):
                found = self.module(columns)
        if not isinstance(found, torch.Tensor) or found.shape != (len(x[0]),):
            raise ValueError(
                f"{type(self.module).__name__} must give {len(x[0])} logits, one a row, got "
                f"{tuple(getattr(found, 'shape', ()))} of {type(found).__name__}"
            )
        return found


class LR(Model):
    """w: logistic regression."""

    def _build(self) -> None:
        self.linear = Linear(self.sizes)

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        return self.linear(x)


class FM(Model):
    """w + sum over f < g of v_f . v_g (Rendle 2010, Eq. 1)."""

    def _build(self) -> None:
        self.linear, self.vectors = Linear(self.sizes), Embeddings(self.sizes, self.n_factors)

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        return self.linear(x) + pairwise_sum(self.vectors(x))


class _Deep(Model):
    """w, v, and a network whose output a row of weights takes to a number."""

    def _build(self) -> None:
        self.linear, self.vectors = Linear(self.sizes), Embeddings(self.sizes, self.n_factors)
        self.mlp = self.network(self._n_in())
        self.out = Dense(self.mlp.n_out + self._n_beside(), 1, bias=False)

    def _n_in(self) -> int:
        return len(self.sizes) * self.n_factors

    def _n_beside(self) -> int:
        """Numbers beside the network's that the last weights take."""
        return 0

    def _deep(self, inputs: torch.Tensor, rng: Rng, *beside: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat([self.mlp(inputs, rng), *beside], 1))[:, 0]


class DeepFM(_Deep):
    """w + sum over f < g of v_f . v_g + MLP(v) (Guo et al. 2017, Eq. 1)."""

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        v = self.vectors(x)
        return self.linear(x) + pairwise_sum(v) + self._deep(v.flatten(1), rng)


class DCN(_Deep):
    """w + weights of (MLP(v), Cross(v)) (Wang et al. 2017)."""

    def _build(self) -> None:
        super()._build()
        self.cross = Cross(self._n_in(), self.n_layers)

    def _n_beside(self) -> int:
        return self._n_in()

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        v = self.vectors(x).flatten(1)
        return self.linear(x) + self._deep(v, rng, self.cross(v))


class PNN(_Deep):
    """w + MLP(v, all v_f . v_g): the inner-product network (Qu et al. 2016, section III-B).

    Its network's inputs are not dropped out: on Frappe's validation rows that has AUC .9854, and .9833 with.
    """

    DROPS_INPUTS = False

    def _n_in(self) -> int:
        n = len(self.sizes)
        return super()._n_in() + n * (n - 1) // 2

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        v = self.vectors(x)
        return self.linear(x) + self._deep(torch.cat([v.flatten(1), pairwise_products(v)], 1), rng)


class XDeepFM(_Deep):
    """w + weights of (MLP(v), CIN(v)) (Lian et al. 2018, Eq. 10); n_layers of CIN, n_factors high."""

    def _build(self) -> None:
        self.cin = CIN(len(self.sizes), self.n_layers * [self.n_factors])
        super()._build()

    def _n_beside(self) -> int:
        return self.cin.n_out

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        v = self.vectors(x)
        return self.linear(x) + self._deep(v.flatten(1), rng, self.cin(v))


class AutoInt(_Deep):
    """w + weights of (MLP(v), attention over v) (Song et al. 2019, with its network beside: AutoInt+)."""

    N_HEADS = 2

    def _build(self) -> None:
        super()._build()
        widths = [self.n_factors, *self.n_layers * [self._n_attended()]]
        layers = [Attention(*pair, self.N_HEADS) for pair in itertools.pairwise(widths)]
        self.attention = nn.Sequential(*layers)

    def _n_attended(self) -> int:
        return self.N_HEADS * -(-self.n_factors // self.N_HEADS)

    def _n_beside(self) -> int:
        return len(self.sizes) * self._n_attended()

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        v = self.vectors(x)
        return self.linear(x) + self._deep(v.flatten(1), rng, self.attention(v).flatten(1))


class DIN(_Deep):
    """w + MLP(v, sum over h in the history of a(v_h, v_t) v_h), t the item (Zhou et al. 2018, Eq. 3).

    `history` and `item` name fields of the same values, whose vectors they share. The shares of a history multiply.
    a is a hidden layer of (v_h, v_t, v_h * v_t); public code adds v_h - v_t, which such a layer makes of them itself.

    Raises ValueError for fields of other values.
    """

    def __init__(self, fields: Fields, history: str = "history", item: str = "item", **params: Any):
        super().__init__(fields, **params)
        self.params |= {"history": history, "item": item}
        self._history, self._item = fields.position(history), fields.position(item)
        if fields.fields[self._history].values != fields.fields[self._item].values:
            raise ValueError(f"{history!r} and {item!r} must be fields of the same values, in the same order")
        self.vectors.tables[self._history] = self.vectors.tables[self._item]

    def _build(self) -> None:
        super()._build()
        self.of_past, self.of_both = (Dense(self.n_factors, 36, bias=False) for _ in range(2))
        self.of_item = Dense(self.n_factors, 36)
        self.weight = Dense(36, 1)

    def forward(self, x: Sequence[Column], rng: Rng = None) -> torch.Tensor:
        history = Bags.read(x[self._history], self.sizes[self._history])
        v, table = self.vectors(x), self.vectors.table(self._item)
        places, rows, target = history.places(), history.rows(), v[:, self._item]
        past = places.times(table)
        # Linear in either vector: of a value once, and not at each of its places.
        z = places.times(self.of_past(table)) + rows.times(self.of_item(target))
        weights = self.weight(torch.relu(z + self.of_both(past * rows.times(target))))
        read = history.row_sums(weights * history.values[:, None] * past)
        others = [v[:, f] for f in range(v.shape[1]) if f != self._history]
        return self.linear(x) + self._deep(torch.cat([*others, read], 1), rng)


MODELS: Mapping[str, Callable[..., Model]] = {
    model.__name__.lower(): model for model in (LR, FM, DeepFM, DCN, PNN, XDeepFM, AutoInt, DIN)
}
"""By the names that flags take."""
