"""The climb behind `select`: trials that share inner products and Gram matrices, none made twice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.errors import SingularKernelError
from infae.inputs import InputMap
from infae.kernels.grams import symmetric_gram
from infae.kernels.linear import Linear
from infae.kernels.relu import ReluNTK
from infae.kernels.rows import Rows
from infae.linalg.tiles import SymmetricTiles, precision
from infae.ranking.evaluate import Recommender, evaluate_by
from infae.runtime.memory import require_memory
from infae.solvers.exact import ExactFit, factor, solve
from infae.tuning.holdout import HiddenClicks

SETTING = ("depth", "row_power", "popularity_power", "b_std")


@dataclass(frozen=True)
class Data:
    """Users to fit, and a split whose validation part is to be found."""

    users: Interactions  # with clicks, all of them
    split: Split  # what is held out from them, or from others
    hidden: bool  # the held-out clicks are the users' own, and part of the fit


@dataclass
class Search:
    """Trials on one set of users, none made twice."""

    data: Data
    item_popularity: np.ndarray
    metrics: Sequence[str]
    params: dict[str, Any]
    shown: Any
    trials: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._values: dict[tuple[Any, ...], float] = {}
        self._products: tuple[float, _Products] | None = None
        self._gram: tuple[tuple[Any, ...], Prepared] | None = None

    @property
    def n_users(self) -> int:
        return self.data.users.n_users

    def climb(self, start: dict[str, Any], reg: float, axes: Mapping[str, Sequence[float]]) -> None:
        """From a setting to better neighbours, until none is."""
        best, (value, reg) = start, self.best_reg(start, reg)
        moved = True
        while moved:
            moved = False
            for name, choices in axes.items():
                for step in (1, -1):
                    while True:
                        place = list(choices).index(best[name]) + step
                        if not 0 <= place < len(choices):
                            break
                        candidate = {**best, name: choices[place]}
                        found, found_reg = self.best_reg(candidate, reg)
                        if not found > value:
                            break
                        best, value, reg, moved = candidate, found, found_reg, True

    def best_reg(self, setting: dict[str, Any], reg: float, factor: float = 2.0) -> tuple[float, float]:
        """(value, reg) of the best reg near this one, among its products with powers of `factor`."""
        value = self.value(setting, reg)
        for step in (factor, 1 / factor):
            while (found := self.value(setting, near := _half_power(reg * step))) > value:
                value, reg = found, near
        return value, reg

    def refine(self) -> None:
        """Half a step of reg to either side of the best."""
        for setting, reg in self.ranked()[:1]:
            self.best_reg(setting, reg, 2**0.5)

    def ranked(self) -> list[tuple[dict[str, Any], float]]:
        """(setting, its best reg), best first, of the settings with a usable solve."""
        best: dict[tuple[Any, ...], tuple[float, float]] = {}
        for (*setting, reg), value in self._values.items():
            if value > best.get(tuple(setting), (-np.inf, 0.0))[0]:
                best[tuple(setting)] = value, reg
        order = sorted(best, key=lambda setting: best[setting][0], reverse=True)
        return [(dict(zip(SETTING, setting, strict=True)), best[setting][1]) for setting in order]

    def value(self, setting: dict[str, Any], reg: float) -> float:
        """The metric on what is held out; -inf where the solve fails."""
        key = (*(setting[name] for name in SETTING), reg)
        if key not in self._values:
            begun = time.perf_counter()
            found, residual = self._tried(setting, reg)
            self._values[key] = found.get("value", -np.inf)
            row = {**setting, "reg": reg, "users": self.n_users}
            row |= {name: found.get(name, np.nan) for name in (*self.metrics, "value")}
            self.trials.append({**row, "residual": residual, "seconds": time.perf_counter() - begun})
            self.shown.update()
            self.shown.set_postfix(best=f"{max(self._values.values()):.4f}")
        return self._values[key]

    def _tried(self, setting: dict[str, Any], reg: float) -> tuple[dict[str, float], float]:
        prepared = self._prepared(setting)
        try:
            factored = factor(prepared.gram, reg)
            solution = solve(factored, prepared.labels, strict=True)
        except SingularKernelError:
            return {}, np.nan
        users = self.data.users
        # Without a mesh a factor is of tiles.
        assert isinstance(factored.inverse, SymmetricTiles)
        fitted = ExactFit(users, prepared.inputs, prepared.kernel, prepared.rows, solution, prepared.labels)
        model = HiddenClicks(fitted, factored.inverse) if self.data.hidden else fitted
        return held_out_metrics(model, self.data.split, self.metrics), solution.residual

    def _prepared(self, setting: dict[str, Any]) -> Prepared:
        key = tuple(setting[name] for name in SETTING)
        if self._gram is None or self._gram[0] != key:
            self._gram = None
            self._gram = key, self._made(setting)
        return self._gram[1]

    def _made(self, setting: dict[str, Any]) -> Prepared:
        dtype, power = np.dtype(self.params.get("dtype", "float32")), setting["popularity_power"]
        weighted = InputMap.from_popularity(self.item_popularity, power, 0.0)
        if self._products is None or self._products[0] != power:
            self._products = None
            self._products = power, _Products(Rows(weighted(self.data.users.matrix, dtype), dtype))
        inputs = InputMap(weighted.item_weights, setting["row_power"])
        kernel = ReluNTK(setting["depth"], self.params.get("w_std", 2**0.5), setting["b_std"])
        rows = Rows(inputs(self.data.users.matrix, dtype), dtype)
        gram = self._products[1].gram(kernel, rows)
        return Prepared(kernel, inputs, rows, gram, self.data.users.matrix.astype(dtype))


def held_out_metrics(model: Recommender, split: Split, metrics: Sequence[str]) -> dict[str, float]:
    """Each metric on the validation part, and their mean as `value`."""
    report = evaluate_by(model, split, metrics)
    values = {name: report[name] for name in metrics}
    return {**values, "value": float(np.mean(list(values.values())))}


def _half_power(reg: float) -> float:
    """The power of 2**0.5 that this is but for rounding, so that twice a half step is a whole one's reg."""
    return float(2 ** (round(2 * np.log2(reg)) / 2))


@dataclass(frozen=True)
class Prepared:
    """A setting's kernel, input map, input rows, Gram matrix and labels."""

    kernel: ReluNTK
    inputs: InputMap
    rows: Rows
    gram: SymmetricTiles
    labels: sp.csr_matrix


# Of some rows, what each is to be multiplied by, and the squared lengths that they then have.
_Side = tuple[jax.Array, jax.Array]


class _Products:
    """Inner products of raw rows, of which every row power and network makes its Gram matrix."""

    def __init__(self, rows: Rows):
        n_bytes = rows.n * (rows.n + 1024) // 2 * rows.head.dtype.itemsize
        require_memory(3 * n_bytes, f"inner products, kernel matrix and inverse of {rows.n:,} users")
        with precision(rows.head.dtype):
            self._tiles = symmetric_gram(Linear(), rows)
        self._sq_norms = rows.sq_norms

    def gram(self, kernel: ReluNTK, rows: Rows) -> SymmetricTiles:
        """The kernel of `rows`, which are these, each times a number."""
        tiles, size = self._tiles, self._tiles.size
        missing = (0, tiles.n_tiles * size - tiles.n)
        # Filled up with ones, since zero rows would be divided by.
        new, raw = (np.pad(sq, missing, constant_values=1) for sq in (rows.sq_norms, self._sq_norms))
        scale = np.sqrt(new / raw).reshape(-1, size)
        sq = new.reshape(-1, size)
        with precision(tiles.dtype):
            made = (
                ((i, j), _from_products(kernel, tile, (scale[i], sq[i]), (scale[j], sq[j]), rows.n_columns, i == j))
                for (i, j), tile in tiles.items()
            )
            return SymmetricTiles.build(tiles.n, size, made)


@partial(jax.jit, static_argnums=(0, 4, 5))
def _from_products(kernel: ReluNTK, tile: jax.Array, left: _Side, right: _Side, n_inputs: int, same: bool) -> jax.Array:
    (scale1, sq1), (scale2, sq2) = left, right
    return kernel.from_products(tile * scale1[:, None] * scale2[None, :], sq1, sq2, n_inputs, diagonal=same)
