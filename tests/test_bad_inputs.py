# ruff: noqa: E501  (a row of the table a line)
"""Bad inputs over the whole surface: each is refused in words, before any work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from bad_inputs_distillcf import CASES as DISTILLCF
from bad_inputs_distillcf import NAMES, NUMBERS, PATHS, SEEDS, WHOLES, M, N, clicks, folder, made, split

import infae
from infae import InfiniteAE, Interactions
from infae.data import Blocks, readers, synthetic
from infae.kernels import Linear, ReluNTK, gram, relu_ntk
from infae.ranking import metrics
from infae.solvers import CG, Auto, Nystrom

REFUSALS = (ValueError, OSError, TypeError, MemoryError)
NO_MATRICES = [
    ("text", "clicks.csv", "Interactions|numeric"), ("none", None, "Interactions|numeric"),
    ("number", 5, "Interactions|numeric|2-D"), ("complex", np.ones((N, M), complex), "numeric"),
    ("cube", np.ones((2, 2, M)), "2-D"), ("nan", np.full((N, M), np.nan), "NaN or infinite"),
    ("negative", -np.ones((N, M)), "negative"), ("masked", np.ma.masked_array(np.ones((N, M)), np.eye(N, M)), "masked"),
    ("sparse vector", sp.coo_array(np.ones(M)), "2-D"), ("texts", np.full((N, M), "a"), "numeric"),
]  # fmt: skip


def damaged(kind: str) -> sp.csr_matrix:
    """Clicks whose indices or row ends point elsewhere."""
    matrix = clicks().matrix.copy()
    if kind == "row ends that descend":
        matrix.indptr[3], matrix.indptr[4] = matrix.indptr[4] + 40, matrix.indptr[3]
    elif kind == "last end beyond the values":
        matrix.indptr[-1] = 10**9
    elif kind == "last end zero":
        matrix.indptr[-1] = 0
    elif kind == "index beyond the columns":
        matrix.indices[5] = 10**8
    elif kind == "negative index":
        matrix.indices[5] = -7
    elif kind == "fractions as indices":
        matrix.indices = matrix.indices + 0.5
    elif kind == "too few values":
        matrix.data = matrix.data[:5]
    return matrix


DAMAGES = (
    "row ends that descend", "last end beyond the values", "last end zero", "index beyond the columns",
    "negative index", "fractions as indices", "too few values",
)  # fmt: skip


def fitted(solver: str = "exact") -> InfiniteAE:
    if solver not in _FITTED:
        _FITTED[solver] = infae.fit(clicks(), 1.0, solver=solver, **({"n_anchors": 5} if solver == "nystrom" else {}))
    return _FITTED[solver]


_FITTED: dict[str, InfiniteAE] = {}


def ranks() -> metrics.Ranks:
    parts = split()
    return metrics.held_out_ranks(np.ones(parts.train.shape), parts.train.matrix, parts.test.matrix)


def weights() -> np.ndarray:
    return metrics.inverse_propensity(split().train.matrix)


class Gives:
    """A recommender that gives whatever it is told to."""

    def __init__(self, scores: Any):
        self._scores = scores

    def predict(self, histories: Interactions) -> Any:
        return self._scores


Row = tuple[str, Callable[[], Any], str]

TAKES_CLICKS: list[tuple[str, Callable[[Any], Any]]] = [
    ("from_matrix", Interactions.from_matrix),
    ("fit X", infae.fit),
    ("predict", lambda value: fitted().predict(value)),
    ("recommend", lambda value: fitted().recommend(value, 3)),
    ("partial_fit", lambda value: fitted("nystrom").partial_fit(value)),
]
TAKES_SPARSE = [
    *TAKES_CLICKS,
    ("Interactions", lambda value: Interactions(value, clicks().user_ids, clicks().item_ids)),
    ("fit targets", lambda value: infae.fit(clicks(), targets=value)),
    ("gram", lambda value: gram(Linear(), value)),
    ("relu_ntk", relu_ntk),
    ("inverse_propensity", metrics.inverse_propensity),
    ("held_out_ranks context", lambda value: metrics.held_out_ranks(np.ones((N, M)), value, split().test.matrix)),
    ("held_out_ranks targets", lambda value: metrics.held_out_ranks(np.ones((N, M)), split().train.matrix, value)),
]

INFAE: list[Row] = [
    # --- clicks ---
    *((f"{name} {kind}", lambda call=call, value=value: call(value), words)
      for name, call in TAKES_CLICKS for kind, value, words in NO_MATRICES),
    *((f"{name} {kind}", lambda call=call, kind=kind: call(damaged(kind)), "damaged")
      for name, call in TAKES_SPARSE for kind in DAMAGES),
    ("Interactions negative", lambda: Interactions(-clicks().matrix, clicks().user_ids, clicks().item_ids), "negative"),
    ("from_pairs lengths", lambda: Interactions.from_pairs([1, 2], [1]), "equally long"),
    ("from_pairs none", lambda: Interactions.from_pairs([], []), "at least one"),
    *((f"from_pairs users {kind}", lambda value=value: Interactions.from_pairs(value, [1, 2]), "user")
      for kind, value in [
          ("text", "ab"), ("none", None), ("nan", [1, np.nan]), ("mixture", [1, "a"]), ("past 64 bits", [2**63, -1]),
          ("floats past 2^53", [2.0**53, 1.0]), ("trailing nul", ["a", "a\0"]), ("bool", [True, False]),
          ("masked", np.ma.masked_array([1, 2], [0, 1])), ("unsigned", np.array([2**63, 1], np.uint64)), ("bytes", [b"a", b"b"])]),
    ("from_frame columns", lambda: Interactions.from_frame(pd.DataFrame({"user": [1], "item": [1]})), "user_id and item_id"),
    ("from_frame column twice", lambda: Interactions.from_frame(pd.DataFrame([[1, 1, 2]], columns=["user_id", "user_id", "item_id"])), "each once"),
    ("from_frame missing id", lambda: Interactions.from_frame(pd.DataFrame({"user_id": [1, None], "item_id": [1, 2]})), "no user_id"),
    *((f"select_users {kind}", lambda value=value: clicks().select_users(value), "rows must be positions")
      for kind, value in [("beyond", [N]), ("negative", [-1]), ("number", 1), ("parts", [0.5]), ("short mask", [True]), ("text", "a"), ("none", None)]),
    *((f"masked {kind}", lambda value=value: clicks().masked(value), "keep must be")
      for kind, value in [("short", np.array([True])), ("list", [True]), ("numbers", np.ones(clicks().n_interactions))]),
    # --- readers and load ---
    *((f"{name} path {kind}", lambda name=name, value=value: getattr(readers, name)(value), "path must be the path of a file")
      for name in readers.__all__ if name != "read_paper" for kind, value in PATHS
      if (name, kind) != ("read_netflix", "list")),
    *((f"{name} missing", lambda name=name: getattr(readers, name)(folder() / "none"), "no such file")
      for name in readers.__all__ if name != "read_paper"),
    *((f"data.load {kind}", lambda value=value: infae.data.load(value), "data set") for kind, value in [("none", None), ("number", 3), ("other", "ml-2m"), ("list", ["ml-1m"])]),
    *((f"data.load data_dir {kind}", lambda value=value: infae.data.load("ml-1m", value), "data_dir must be") for kind, value in [("number", 3), ("list", []), ("bytes", b"x")]),
    *((f"data.load seed {kind}", lambda value=value: infae.data.load("synthetic", seed=value), "^seed must be") for kind, value in SEEDS),
    ("data.load download", lambda: infae.data.load("synthetic", download="yes"), "download must be True or False"),
    ("data.load min_interactions", lambda: infae.data.load("synthetic", min_interactions=5), "min_interactions has no part"),
    *((f"synthetic {name} {kind}", lambda name=name, value=value: synthetic.synthetic(**{name: value}), f"^{name} must be")
      for name in ("n_users", "n_items", "n_groups") for kind, value in WHOLES if kind != "huge"),
    *((f"synthetic zipf {value}", lambda value=value: synthetic.synthetic(zipf=value), "^zipf must be") for value in (1e300, -5, np.nan)),
    *((f"from_pairs users {type(value).__name__}", lambda value=value: Interactions.from_pairs(value, [1, 2]), "users must be a sequence of ids")
      for value in ({1, 2}, {1: 0, 2: 0}, sp.coo_matrix(np.eye(2)), clicks().matrix)),
    ("select_users ragged", lambda: clicks().select_users([[1, 2], [3]]), "rows must be positions"),
    *((f"{make.__name__} name", lambda make=make: make(clicks(), name=np.arange(3)), "name must be a text")
      for make in (infae.data.random_split, infae.data.user_split, infae.data.leave_one_out)),
    ("Blocks one matrix", lambda: infae.fit(Blocks(lambda: clicks().matrix, M), solver="nystrom"), "read must give blocks"),
    ("Blocks nothing", lambda: infae.fit(Blocks(lambda: None, M), solver="nystrom"), "read must give blocks"),
    *((f"relu_ntk {kind}", lambda value=value: relu_ntk(value), words)
      for kind, value, words in [
          ("infinite", np.full((2, 3), np.inf), "NaN or infinity"), ("too large", np.full((2, 3), 1e30), "scale the rows down"),
          ("texts", [["a", "b"]], "numeric"), ("vector", np.ones(3), "2-D"), ("none", None, "numeric")]),
    ("relu_ntk second infinite", lambda: relu_ntk(np.ones((2, 3)), np.full((2, 3), np.nan)), "x2 holds NaN"),
    ("inverse_propensity nan", lambda: metrics.inverse_propensity(sp.csr_matrix(np.full((2, 3), np.nan))), "train holds NaN"),
    *((f"sample_negatives {kind}", lambda kind=kind: metrics.sample_negatives(clicks().matrix, damaged(kind), 3, np.random.default_rng(0)), "damaged")
      for kind in DAMAGES),
    ("sample_negatives rng", lambda: metrics.sample_negatives(clicks().matrix, clicks().matrix, 3, 0), "rng must be"),
    ("mask damaged", lambda: metrics.mask(np.ones((N, M)), damaged("index beyond the columns")), "damaged"),
    ("mask sparse scores", lambda: metrics.mask(clicks().matrix, clicks().matrix), "scores must be an array"),
    ("fit validation of the same clicks", lambda: infae.fit(clicks(), [1.0, 2.0], validation=clicks()), "hold some out"),
    ("item_weights ragged", lambda: infae.fit(clicks(), item_weights=[[1, 2], [3]]), "item_weights must be"),
    *((f"select {name}", lambda name=name, value=value: infae.select(clicks(), split(), **{name: value}), f"^{name} must be")
      for name, value in [("seed", np.array([1, 2])), ("progress", np.arange(2)), ("progress", "yes")]),
    # --- splits ---
    *((f"{make.__name__} fractions {kind}", lambda make=make, value=value: make(clicks(), fractions=value), "fractions")
      for make in (infae.data.random_split, infae.data.user_split)
      for kind, value in [("nan", (np.nan, 0.1, 0.1)), ("two", (0.5, 0.5)), ("none", None), ("sum", (0.5, 0.1, 0.1)), ("text", "0.8"), ("zero", (1, 0, 0))]),
    *((f"{make.__name__} seed {kind}", lambda make=make, value=value: make(clicks(), seed=value), "^seed must be")
      for make in (infae.data.random_split, infae.data.user_split, infae.data.leave_one_out) for kind, value in SEEDS),
    *((f"Split {part} of {kind}", lambda part=part, other=other: infae.Split(**{"train": clicks(), "validation": clicks(), "test": clicks(), part: other()}), "same ids|Interactions")
      for part in ("train", "validation", "test")
      for kind, other in [
          ("other users", lambda: Interactions(clicks().matrix, clicks().user_ids + 1, clicks().item_ids)),
          ("other items", lambda: Interactions(clicks().matrix, clicks().user_ids, clicks().item_ids[::-1])),
          ("a matrix", lambda: clicks().matrix), ("none", lambda: None)]),
    *((f"Split.targets {kind}", lambda value=value: split().targets(value), "^on must be one of") for kind, value in NAMES),
    # --- kernels ---
    *((f"ReluNTK depth {kind}", lambda value=value: ReluNTK(depth=value), "^depth must be") for kind, value in WHOLES if kind != "zero"),
    *((f"ReluNTK {name} {kind}", lambda name=name, value=value: ReluNTK(**{name: value}), f"^{name} must be")
      for name in ("w_std", "b_std") for kind, value in NUMBERS),
    ("gram nan", lambda: gram(Linear(), np.full((2, 2), np.nan)), "NaN or infinity"),
    ("gram kernel", lambda: gram("ntk", np.ones((2, 2))), "kernel must be callable"),
    ("gram texts", lambda: gram(Linear(), np.full((2, 2), "a")), "numeric"),
    *((f"kernel gives {kind}", lambda value=value: infae.fit(clicks(), kernel=lambda x, y=None: value), "kernel")
      for kind, value in [("none", None), ("text", "a"), ("number", 1.0), ("nan", np.nan), ("dates", np.array(["2020"], "M8[Y]")), ("ragged", [[1], [1, 2]])]),
    # --- InfiniteAE ---
    *((f"fit {name} {kind}", lambda name=name, value=value: infae.fit(clicks(), **{name: value}), f"{name} (must|is)")
      for name in ("popularity_power", "row_power", "reg") for kind, value in NUMBERS if not (kind == "negative" and name != "reg")),
    *((f"fit seed {kind}", lambda value=value: infae.fit(clicks(), seed=value), "^seed must be") for kind, value in SEEDS),
    *((f"fit {name} {kind}", lambda name=name, value=value: infae.fit(clicks(), **{name: value}), name)
      for name in ("solver", "dtype", "metric") for kind, value in NAMES),
    *((f"fit anchors {kind}", lambda value=value: infae.fit(clicks(), solver="nystrom", anchors=value), "anchors must be") for kind, value in NAMES),
    *((f"fit n_anchors {kind}", lambda value=value: infae.fit(clicks(), solver="nystrom", n_anchors=value), "n_anchors must be") for kind, value in WHOLES if kind != "huge"),
    ("fit reg too large", lambda: infae.fit(clicks(), 1e12), "reg must be"),
    ("fit solver class", lambda: infae.fit(clicks(), solver=CG), "solver must be one of"),
    ("Auto of a name", lambda: Auto("nystrom"), "nystrom must be"),
    ("Nystrom anchors", lambda: Nystrom(5, np.ones((2, 2))), "anchors must be"),
    ("fit item_weights", lambda: infae.fit(clicks(), item_weights=["a"] * M), "item_weights must be"),
    ("fit kernel", lambda: infae.fit(clicks(), kernel="ntk"), "kernel must be callable"),
    ("fit kernel type", lambda: infae.fit(clicks(), kernel=dict), "kernel must be callable"),
    ("gram kernel type", lambda: gram(Linear, np.ones((2, 2))), "kernel must be callable"),
    ("fit mesh", lambda: infae.fit(clicks(), mesh=2), "mesh must be"),
    ("fit regs without validation", lambda: infae.fit(clicks(), (1.0, 2.0)), "reg is a sequence"),
    ("fit validation matrix", lambda: infae.fit(clicks(), validation=np.ones((N, M))), "validation must be"),
    ("fit targets masked", lambda: infae.fit(clicks(), targets=np.ma.masked_array(np.ones((N, M)), np.eye(N, M))), "masked"),
    ("fit targets nan", lambda: infae.fit(clicks(), targets=np.full((N, M), np.nan)), "NaN"),
    ("fit targets shape", lambda: infae.fit(clicks(), targets=np.ones((N, M + 1))), "shape"),
    ("predict transposed", lambda: fitted().predict(np.ones((M, N))), "looks transposed"),
    ("predict function", lambda: infae.predict(None, clicks()), "model must be"),
    ("unfitted", lambda: InfiniteAE().predict(clicks()), "not fitted"),
    *((f"recommend n {kind}", lambda value=value: fitted().recommend(clicks(), value), "^n must be") for kind, value in WHOLES),
    ("recommend unknown items", lambda: fitted().recommend(clicks(), 1, items=[99]), "unknown item"),
    *((f"leave_one_out {kind}", lambda value=value: fitted().leave_one_out(value), "rows must be")
      for kind, value in [("text", "a"), ("none", None), ("beyond", [N]), ("negative", [-1]), ("parts", [0.5]), ("number", 3), ("mask", [True])]),
    *((f"save {kind}", lambda value=value: fitted().save(value), "^path must be the path of a file") for kind, value in PATHS),
    *((f"infae.load {kind}", lambda value=value: infae.load(value), "^path must be the path of a file") for kind, value in PATHS),
    ("infae.load folder", lambda: infae.load(folder()), "is a folder"),
    ("infae.load text", lambda: infae.load(folder() / "text"), "not a file of"),
    ("infae.load summary", lambda: infae.load(folder() / "summary.npz"), "not a file of"),
    # --- evaluate, metrics, select, Blocks ---
    *((f"evaluate model {kind}", lambda value=value: infae.evaluate(value, split()), "model must have") for kind, value in NAMES),
    *((f"evaluate split {kind}", lambda value=value: infae.evaluate(fitted(), value), "split must be") for kind, value in NAMES),
    *((f"evaluate on {kind}", lambda value=value: infae.evaluate(fitted(), split(), value), "on must be") for kind, value in NAMES),
    *((f"evaluate k {kind}", lambda value=value: infae.evaluate(fitted(), split(), k=(value,)), "k must be") for kind, value in WHOLES),
    *((f"evaluate n_negatives {kind}", lambda value=value: infae.evaluate(fitted(), split(), n_negatives=value), "n_negatives must be") for kind, value in WHOLES if kind != "zero"),
    *((f"evaluate scores {kind}", lambda value=value: infae.evaluate(Gives(value), split()), words)
      for kind, value, words in [("nan", np.full(split().train.shape, np.nan), "NaN"), ("shape", np.ones((N, 3)), "shape"), ("none", None, "shape")]),
    *((f"{metric.__name__} k {kind}", lambda metric=metric, value=value: metric(ranks(), value), "^k must be")
      for metric in (metrics.hit_rate, metrics.recall, metrics.ndcg) for kind, value in WHOLES),
    *((f"{metric.__name__} ranks", lambda metric=metric: metric(np.ones(3), 3), "ranks must be") for metric in (metrics.hit_rate, metrics.recall, metrics.ndcg)),
    *((f"{metric.__name__} weights {kind}", lambda metric=metric, value=value: metric(ranks(), 3, value), "inverse_propensity")
      for metric in (metrics.psp, metrics.psp_printed)
      for kind, value in [("nan", np.full(M, np.nan)), ("few", np.ones(2)), ("text", "a"), ("none", None), ("negative", -np.ones(M))]),
    *((f"pooled_auc {kind}", lambda value=value: metrics.pooled_auc(value, np.ones(3)), "positives")
      for kind, value in [("nan", np.array([np.nan])), ("complex", np.array([1j])), ("none", None), ("matrix", np.ones((2, 2))), ("masked", np.ma.masked_array([1.0], [True]))]),
    *((f"select metric {kind}", lambda value=value: infae.select(clicks(), split(), metric=value), "metric") for kind, value in NAMES if kind != "empty"),
    *((f"select space {kind}", lambda value=value: infae.select(clicks(), split(), space=value), "space") for kind, value in NAMES if kind != "none"),
    *((f"select n_screen {kind}", lambda value=value: infae.select(clicks(), split(), n_screen=value), "n_screen must be") for kind, value in WHOLES if kind not in ("none", "huge")),
    ("select depth", lambda: infae.select(clicks(), split(), space={"depth": (1.5,)}), "depth must be"),
    ("Blocks read", lambda: Blocks([clicks()], M), "read must be a function"),
    *((f"Blocks item_ids {kind}", lambda value=value: Blocks(list, value), "item_ids") for kind, value in WHOLES if kind not in ("list", "huge")),
    ("Blocks of other columns", lambda: list(Blocks(lambda: [np.ones((2, 3))], M)), "columns"),
]  # fmt: skip


def adapters() -> list[Row]:
    """Of the torch data sets; none where torch is not installed."""
    try:
        from distillcf.torch_data import Pairs, Triples
    except ImportError:
        return []
    return [
        *((f"{make.__name__} seed {kind}", lambda make=make, value=value: make(made(), seed=value), "^seed must be")
          for make in (Pairs, Triples) for kind, value in SEEDS),
        *((f"{make.__name__} of {kind}", lambda make=make, value=value: make(value), "expected a Summary")
          for make in (Pairs, Triples) for kind, value in [("none", None), ("matrix", np.ones((2, 2))), ("text", "a")]),
        *((f"Triples n_negatives {kind}", lambda value=value: Triples(made(), n_negatives=value), "n_negatives must be") for kind, value in WHOLES if kind != "huge"),
        *((f"Pairs negative_ratio {kind}", lambda value=value: Pairs(clicks(), value), "negative_ratio must be") for kind, value in NUMBERS),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("call", "words"), [pytest.param(call, words, id=name) for name, call, words in [*INFAE, *DISTILLCF, *adapters()]]
)
def test_is_refused_in_words(call, words):
    with pytest.raises(REFUSALS, match=words):
        call()
