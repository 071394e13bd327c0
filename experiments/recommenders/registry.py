"""Models that studies train, by name: each is tuned on validation clicks over a grid of its preset."""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import infae
from distillcf.inner import CANDIDATES, REGS
from experiments.recommenders import EASE, BiasOnly, PopRec, select_ease
from infae.ranking.evaluate import Recommender
from infae.tuning.best import Trial, best
from infae.tuning.search import held_out_metrics

EASE_LAMBDAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
UNTUNED_LAMBDA = 100.0
"""Of the paper's grid the one nearest its own figures for EASE on ML-1M: NDCG@10 30.81, where it prints 29.88."""
BIAS_RIDGES = (100.0, 10.0, 1.0, 0.1)
PUBLISHED_REGS = (1.0, 5.0, 20.0, 50.0, 100.0)
SMALL_REGS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""For models of a few hundred users, whose best reg is smaller than that of all the data."""

OWN_MODEL = "module:attribute for one of your own, see experiments.recommenders.registry"


@dataclass(frozen=True)
class Search:
    """How a model is chosen: by `metric` of the validation part, out of a grid of the preset.

    `inner` is a fitted ∞-AE whose network and item weights ∞-AE takes over; it has the published ones without.
    """

    metric: str = "HR@100"
    preset: str = "smoke"  # or "quick", or "paper"
    seed: int = 0  # of models that are trained
    inner: infae.InfiniteAE | None = None
    shared: str = ""  # folder that keeps what a search over a grid found, for the next study; none where empty
    tune: bool = True  # PyTorch models; else they are trained once, at their defaults
    n_trials: int = 0  # of a PyTorch model's whole grid, by TPE, in place of what the preset tries; 0 for the preset's
    prune: bool = False  # end trainings that are below the median of the earlier ones; it may change what is found
    progress: bool = False  # show bars

    @classmethod
    def of(cls, config: Any, seed: int, inner: infae.InfiniteAE | None = None, **other: Any) -> Search:
        """With the metric, preset and shared folder of a study's Config."""
        return cls(config.metric, config.preset, seed, inner, config.shared, **other)


Chosen = tuple[Recommender, dict[str, Any]]
PUBLISHED_INFAE, CHOSEN_INFAE = "∞-AE", "∞-AE, chosen"
"""The published network, and that of `Search.inner`: two models, two names."""


@dataclass(frozen=True)
class Model:
    """A name for tables, and `choose(clicks, split, search)`: the best on validation, and its parameters.

    Where there were several to choose from, "tried" has a row of each: parameters, and its value of `search.metric`
    unless it failed. `grid()` is all that it is chosen from, as plain data: cells of another grid are others.
    """

    title: str
    choose: Callable[[infae.Interactions, infae.Split, Search], Chosen]
    needs_torch: bool = False
    grid: Callable[[], Any] = tuple


def choose_ease(clicks: infae.Interactions, split: infae.Split, search: Search) -> Chosen:
    found = select_ease(split, EASE_LAMBDAS, metric=search.metric, clicks=clicks)
    return found.candidate, {**found.params, "tried": found.tried}


def choose_infae(clicks: infae.Interactions, split: infae.Split, search: Search) -> Chosen:
    model = fit_infae(clicks, split, search)
    return model, {"reg": model.reg_, "tried": model.path_}


def fit_infae(clicks: infae.Interactions, split: infae.Split, search: Search) -> infae.InfiniteAE:
    """Regs of table 3 but 0 with the published network; more of them, down to a hundredth, with a given one."""
    params: dict[str, Any] = {}
    regs: Sequence[float] = PUBLISHED_REGS
    if search.inner is not None:
        params = {name: getattr(search.inner, name) for name in ("kernel", "depth", "w_std", "b_std", "row_power")}
        params["item_weights"] = search.inner.inputs_.item_weights
        regs = sorted({*SMALL_REGS, *REGS})
    return infae.fit(clicks, regs, validation=split, metric=search.metric, **params)


def choose_bias(clicks: infae.Interactions, split: infae.Split, search: Search) -> Chosen:
    """Of equal ridges, as on few clicks they are, the largest: it says least about items hardly seen."""
    trials = (Trial({"ridge": ridge}, BiasOnly(ridge).fit(clicks)) for ridge in BIAS_RIDGES)
    found = best(trials, lambda m: held_out_metrics(m, split, [search.metric])["value"], search.metric)
    return found.candidate, {**found.params, "tried": found.tried}


def in_torch(title: str, module: str) -> Model:
    """A model of `experiments.recommenders` that is imported when it is chosen, for PyTorch may be missing."""
    imported = partial(importlib.import_module, f"experiments.recommenders.{module}")

    def grid() -> dict[str, Any]:
        """All its constants, whatever they are called; `KW_ONLY` is none, and has its address in its `repr`."""
        constants = {name: value for name, value in vars(imported()).items() if name.isupper()}
        return {name: repr(value) for name, value in constants.items() if value is not KW_ONLY}

    return Model(title, lambda *given: imported().choose(*given), needs_torch=True, grid=grid)


class Models(dict[str, Model]):
    """Models by name; of any other name, as `module:attribute`, a model of your own."""

    def __missing__(self, name: str) -> Model:
        module, _, attribute = name.partition(":")
        try:
            made = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            expected = "expected module:attribute, of a module that can be imported here"
            raise ValueError(f"model {name} was not found: {error}; {expected}") from error
        if isinstance(made, Model):
            return made
        if not callable(made):
            raise ValueError(f"model {name} is {made!r}; expected a `registry.Model`, a class or a function")

        def choose(clicks: infae.Interactions, split: infae.Split, search: Search) -> Chosen:
            model = made()
            if missing := [method for method in ("fit", "predict") if not hasattr(model, method)]:
                raise TypeError(f"model {name} gave {model!r} without {' and '.join(missing)}")
            model.fit(clicks)
            return model, {}

        return Model(attribute, choose)


MODELS: Mapping[str, Model] = Models(
    {
        "popularity": Model("PopRec", lambda clicks, *_: (PopRec().fit(clicks), {})),
        "bias": Model("Bias only", choose_bias, grid=lambda: BIAS_RIDGES),
        "mf": in_torch("MF", "mf"),
        "neumf": in_torch("NeuMF", "neumf"),
        "lightgcn": in_torch("LightGCN", "lightgcn"),
        "mvae": in_torch("MVAE", "mvae"),
        "ease": Model("EASE", choose_ease, grid=lambda: EASE_LAMBDAS),
        "ease_untuned": Model(
            f"EASE, lambda {UNTUNED_LAMBDA:g}",
            lambda clicks, *_: (EASE(UNTUNED_LAMBDA).fit(clicks), {"lambda": UNTUNED_LAMBDA}),
        ),
        "infae": Model(PUBLISHED_INFAE, choose_infae, grid=lambda: (PUBLISHED_REGS, SMALL_REGS, REGS, CANDIDATES)),
    }
)
"""Those known by name; `MODELS["module:attribute"]` is one of your own.

The attribute is a `Model`, which chooses by validation what it wants to; or a class, or function,
that is called without arguments and gives a recommender: fit(clicks), where clicks are
`Interactions`, and predict(histories), see `infae.ranking.evaluate.Recommender`.
"""
MODEL_NAMES = ", ".join(MODELS) + ", or " + OWN_MODEL


def grids(names: Iterable[str], known: Mapping[str, Model] = MODELS) -> dict[str, Any]:
    """What each model is chosen from, by title, for `Study`; ∞-AE's by both of its."""
    found = {known[name].title: known[name].grid() for name in names}
    return {**found, **({CHOSEN_INFAE: found[PUBLISHED_INFAE]} if PUBLISHED_INFAE in found else {})}


def title_with_inner(name: str) -> str:
    """Of a model's cells where ∞-AE takes over the network of `Search.inner`."""
    return CHOSEN_INFAE if name == "infae" else MODELS[name].title


def check_models(names: Sequence[str], known: Mapping[str, Model] = MODELS) -> None:
    """ValueError for a name that is no model, or two of one title; ImportError where PyTorch is needed and missing."""
    if unknown := [name for name in names if name not in known and ":" not in name]:
        expected = f"expected some of {', '.join(known)}, or module:attribute for your own"
        raise ValueError(f"unknown model {', '.join(unknown)}; {expected}")
    for title, times in Counter(known[name].title for name in names).items():
        if times > 1:
            raise ValueError(f"{times} models have the title {title}, by which results are told apart; rename one")
    missing = [name for name in names if known[name].needs_torch]
    if missing and importlib.util.find_spec("torch") is None:
        raise ImportError(f"{', '.join(missing)} need PyTorch: pip install 'infae[torch]', or leave them out")
