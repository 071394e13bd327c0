"""`select`: reg and the input's few other choices in one call, on held-out clicks or without any."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infae.data.blocks import Blocks
from infae.data.coerce import as_clicks, as_history_interactions, as_split, drop_empty_users
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.errors import NoUsableSettingError, SingularKernelError
from infae.inputs import popularity
from infae.model import InfiniteAE
from infae.ranking.evaluate import metric_k
from infae.runtime import checks
from infae.runtime.progress import bar
from infae.tuning.best import Trial
from infae.tuning.best import best as best_of
from infae.tuning.holdout import hide
from infae.tuning.search import SETTING, Data, Search, held_out_metrics

SPACE: dict[str, tuple[float, ...]] = {
    "depth": (0, 1, 2, 3, 4),
    "row_power": (0.0, 0.25, 0.5, 0.75, 1.0),
    "popularity_power": (0.0, -0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7),
}
PUBLISHED = {"depth": 1, "row_power": 0.0, "popularity_power": 0.0, "b_std": 0.1}
_PUBLISHED_REG = 4.0
# Where climbs begin, at the nearest the space has, and at which reg: dense sets and sparse ones.
_STARTS = (
    ({"depth": 2, "row_power": 0.5, "popularity_power": -0.2, "b_std": 0.0}, 2.0),
    ({"depth": 1, "row_power": 1.0, "popularity_power": 0.0, "b_std": 0.0}, 8.0),
)
# Settings that are fitted to all users, where the search was on some of them.
_N_FINALISTS = 2


@dataclass(frozen=True)
class Selection:
    """What `select` found.

    Attributes:
      model: fitted to all users with the best choices.
      trials: one row a trial, in their order: the choices, `users` fitted, each metric on what was
        held out and their mean, the `value` (NaN where the solve failed), the solve's `residual` and
        the `seconds` taken.
    """

    model: InfiniteAE
    trials: tuple[dict[str, Any], ...]

    def table(self, n: int = 10) -> str:
        """The n best trials as Markdown, best first; those of more users before those of fewer."""
        names = [name for name in self.trials[0] if name != "residual"]
        lines = ["| " + " | ".join(names) + " |", "|" + "---:|" * len(names)]
        for row in sorted(self.trials, key=lambda row: (-row["users"], -np.nan_to_num(row["value"], nan=-1)))[:n]:
            cells = [f"{row[name]:,}" if name == "users" else f"{row[name]:.4g}" for name in names]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def select(
    X: Any,
    validation: Split | Interactions | None = None,
    *,
    metric: str | Sequence[str] = ("NDCG@10", "HR@100"),
    space: Mapping[str, Sequence[float]] | None = None,
    n_screen: int | None = None,
    refit: bool = False,
    seed: int = 0,
    progress: bool = False,
    **params: Any,
) -> Selection:
    """Choose reg, depth and the scaling of the input on validation, and fit with the best.

    After the published setting it climbs from two that do well, one on dense and one on sparse sets:
    to a neighbour in one of the choices, with the best reg near the present one, as long as that
    is better. Settings with the same item weights share their inner products, and all regs of a
    setting its Gram matrix. Some 50 to 80 trials stand for the 1,600 of the full grid.

    Each trial takes n_users^3 operations.

    Args:
      X: clicks, as in `InfiniteAE.fit`; not `Blocks`, whose users are too many to search on.
      validation: as in `InfiniteAE.fit`. None: a fifth of the clicks of up to 2,048 users is hidden from
        the input, and each is scored by the model that all *other* users fit, in closed form
        from the same factorisation (see `infae.tuning.holdout`); nothing is left out of the fit.
      metric: a name of `infae.evaluate`'s report, or several, whose mean is compared.
      space: choices by name, in order, instead of `SPACE`: some of depth, row_power and
        popularity_power; one left out stays where a climb begins. The published setting is tried
        where it is in the space. reg is searched in powers of 2, at the end of their root.
      n_screen: users searched on, drawn alike; None for all. Where there are validation clicks, the two
        best settings are then fitted to all users, at reg and its neighbours, and the best is kept.
        That serves dense sets: of a sparse one few users say little (BUILD_NOTES.md, Gowalla).
      refit: fit the chosen model on training and validation clicks together.
      seed: of the draw of users and of hidden clicks, and the model's own.
      progress: show a progress bar on standard error.
      **params: other parameters of the `InfiniteAE`, such as solver or dtype, but no mesh: the search
        is on one device. One of the choices given here is fixed.

    Raises:
      ValueError: bad data, parameters or choices; `refit` without validation clicks of X's own users.
      SingularKernelError: no trial gave a usable solve.
      MemoryError: the kernel matrices of a trial do not fit.
    """
    if isinstance(X, Blocks):
        raise ValueError("select needs clicks in memory: choose on some of the users, then fit the Blocks")
    metrics = (metric,) if isinstance(metric, str) else checks.sequence("metric", metric, "name")
    for name in metrics:
        metric_k(name)
    seed = checks.seed("seed", seed)
    axes, params = _axes(space, params), {**params, "seed": seed}
    n_screen = None if n_screen is None else checks.whole("n_screen", n_screen)
    for name, value in (("refit", refit), ("progress", progress)):
        checks.flag(name, value)
    clicks = as_clicks(X)
    # What `fit` would say of the parameters, before the search and not after it.
    InfiniteAE(**params).components(clicks)
    split = None if validation is None else as_split(clicks, validation)
    ordered = clicks if split is None else as_history_interactions(clicks, split.train.item_ids)
    own_users = split is not None and split.validation_context is None and split.train.user_ids
    if refit and not np.array_equal(own_users, clicks.user_ids):
        raise ValueError("refit needs validation clicks of the users of X, row by row; there are none to add")
    users = drop_empty_users(ordered)
    rng = np.random.default_rng([seed, 9])
    with bar("select", progress, unit="trial") as shown:
        screened = _screen(users, split, n_screen or users.n_users, rng)
        search = Search(screened, popularity(users.matrix), metrics, params, shown)
        fixed = {name: value for name, value in params.items() if name in SETTING}
        if all(PUBLISHED[name] in choices for name, choices in axes.items()):
            search.best_reg(PUBLISHED | fixed, _PUBLISHED_REG)
        for start, reg in _STARTS:
            nearest = {
                name: min(axes.get(name, (value,)), key=lambda choice: abs(choice - value))
                for name, value in start.items()
            }
            search.climb(nearest | fixed, reg, axes)
        search.refine()
        found = search.ranked()
        if not found:
            raise SingularKernelError(f"none of {len(search.trials)} trials gave a usable model; see the data, or reg")
        (chosen, reg), trials = found[0], list(search.trials)
        if search.n_users < users.n_users and split is not None:
            finalists = _finalists(found, users, metrics, params)
            try:
                best = best_of(finalists, lambda model: held_out_metrics(model, split, metrics), "value")
            except NoUsableSettingError as error:
                raise SingularKernelError(f"no finalist gave a usable model of all users: {error}") from error
            chosen, reg = {name: best.params[name] for name in SETTING}, best.params["reg"]
            trials += best.tried
        if refit:
            assert split is not None
            clicks = ordered.union(split.validation)
        model = InfiniteAE(reg, **{**params, **chosen}).fit(clicks, progress=progress)
    return Selection(model, tuple(trials))


def _axes(space: Mapping[str, Sequence[float]] | None, params: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    if not isinstance(space, Mapping | None):
        raise ValueError(f"space must be a dict of choices by name, got {checks.shown(space)}")
    given = SPACE if space is None else dict(space)
    if unknown := sorted(set(given) - set(SPACE)):
        raise ValueError(f"space has {', '.join(unknown)}; it takes some of {', '.join(SPACE)}")
    if params.get("mesh") is not None:
        raise ValueError("select searches on one device; leave out mesh, and fit what it chose with mesh=")
    for name in ("reg", "kernel", "item_weights"):
        if params.get(name) is not None:
            raise ValueError(f"{name} is not a parameter of select: it chooses reg, for the ReLU network, by metric=")
    axes: dict[str, Sequence[float]] = {
        name: checks.sequence(f"the choices of {name}", choices, "number")
        for name, choices in given.items()
        if name not in params
    }
    for name, choices in axes.items():
        for choice in choices:
            checks.whole(name, choice, 0) if name == "depth" else checks.number(name, choice)
        if list(choices) != sorted(set(choices), reverse=bool(choices[0] > choices[-1])):
            raise ValueError(f"the choices of {name} must be different numbers in order, got {choices}")
    return axes


def _screen(users: Interactions, split: Split | None, n: int, rng: np.random.Generator) -> Data:
    """At most n of the users, and what is held out from them."""
    some = users if users.n_users <= n else users.select_users(np.sort(rng.permutation(users.n_users)[:n]))
    if split is None:
        return Data(some, hide(some, rng), True)
    if some is users or split.validation_context is not None:
        return Data(some, split, False)
    rows = np.flatnonzero(np.isin(split.train.user_ids, some.user_ids))
    if not split.validation.matrix[rows].nnz:
        raise ValueError(
            f"none of the {n:,} users searched on has validation clicks; raise n_screen, "
            "and give X the user ids of the split"
        )
    train = split.train.select_users(rows)
    return Data(some, Split(train, split.validation.select_users(rows), train.emptied()), False)


def _finalists(
    found: list[tuple[dict[str, Any], float]], users: Interactions, metrics: Sequence[str], params: Mapping[str, Any]
) -> Iterator[Trial[InfiniteAE]]:
    """The best settings on all users, each at its reg and the neighbours of that."""
    for setting, reg in found[:_N_FINALISTS]:
        for tried in (reg / 2, reg, 2 * reg):
            row, begun = {**setting, "reg": tried, "users": users.n_users}, time.perf_counter()
            try:
                model = InfiniteAE(tried, **{**params, **setting}).fit(users)
            except SingularKernelError as error:
                unknown = dict.fromkeys((*metrics, "value", "residual", "seconds"), np.nan)
                yield Trial({**row, **unknown}, None, str(error))
                continue
            yield Trial({**row, "residual": model.residual_, "seconds": time.perf_counter() - begun}, model)
            del model
