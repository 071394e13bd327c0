"""The outer loop: what it learns, where it starts and ends, which state it keeps, and what it refuses."""

import importlib
import io
import math
import re
import sys
import warnings
from itertools import combinations

import jax
import numpy as np
import oracles
import pandas as pd
import pytest
from jax.experimental.compilation_cache import compilation_cache
from numpy.testing import assert_allclose, assert_array_equal

import distillcf
import infae
from distillcf import Config, DivergedError
from distillcf.batches import Batches
from distillcf.coresets import head_users, random_users
from distillcf.distill import required_bytes
from distillcf.inner import Batch, Student
from distillcf.losses import LOSSES, Objective
from distillcf.prior import initial_logits, mixtures
from distillcf.step import init, make_update
from distillcf.validate import Judge
from infae import InfiniteAE, Interactions
from infae.data import Split, random_split, user_split
from infae.data.synthetic import synthetic
from infae.inputs import InputMap
from infae.kernels import ReluNTK
from infae.linalg.tiles import precision

# By the module itself: `distillcf.distill` is the function.
outer_loop = importlib.import_module("distillcf.distill")

ARRAYS = ("logits", "soft", "hard", "labels", "hard_labels", "item_weights", "item_ids")
LABELS = ("clicks", "free")


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Programs compiled in this module are kept on disk: the same run again need not compile."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for chosen in (settings, before):
        for name, value in chosen.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if chosen is settings:
            yield


def planted_split() -> Split:
    """120 users x 60 items in four groups of taste; nobody without training clicks."""
    planted = synthetic(120, 60, n_groups=4, mean_clicks=14, seed=3)
    return random_split(planted.interactions, fractions=(0.6, 0.2, 0.2), seed=1)


@pytest.fixture(scope="module")
def planted():
    return planted_split()


def teacher() -> InfiniteAE:
    """What is chosen without validation; given, it spares the choice where there is some."""
    return InfiniteAE(1.0, popularity_power=-0.25)


def distil(X, **settings):
    """A few steps on a few users, without a sharpness, which would forbid an early end."""
    few = {"n_users": 8, "steps": 12, "validate_every": 4, "metric": "HR@10", "n_draws": 20, "sharpness": 0.0}
    if "validation" in settings and settings.get("objective", "match") == "match" and "scores" not in settings:
        few["model"] = teacher()
    return distillcf.distill(X, **{**few, **settings})


def assert_same_bits(first, second):
    for name in ARRAYS:
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype
            assert_array_equal(a, b, err_msg=name)
    assert (first.reg, first.model, first.fingerprint) == (second.reg, second.model, second.fingerprint)
    assert_same_history(first.history, second.history)


def assert_same_history(first, second):
    untimed = [[{k: v for k, v in row.items() if k != "seconds"} for row in history] for history in (first, second)]
    pd.testing.assert_frame_equal(*map(pd.DataFrame, untimed), check_exact=True)


def steps_of(summary):
    return [row["step"] for row in summary.history]


def caught(call):
    """(result, texts of the warnings)"""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in shown]


# --- learning -------------------------------------------------------------------------------------


def best_of_random_users(split, n_users):
    """Test HR@10 of random users with their own labels, inputs and reg by validation; the luckiest of three draws."""

    def served(users):
        models = [
            infae.fit(users, (0.1, 0.5, 2.0, 10.0), validation=split, metric="HR@10", popularity_power=power)
            for power in (0.0, -0.25)
        ]
        best = max(models, key=lambda model: max(row["HR@10"] for row in model.path_))
        return infae.evaluate(best, split)["HR@10"]

    return max(served(random_users(split.train, n_users, seed)) for seed in range(3))


@pytest.mark.parametrize("labels", ["clicks", pytest.param("free", marks=pytest.mark.slow)])
def test_distilled_users_serve_better_than_as_many_random_ones(labels):
    split = random_split(synthetic(200, 80, mean_clicks=12, n_groups=4, seed=5).interactions, fractions=(0.6, 0.2, 0.2))
    summary = distil(split.train, n_users=10, validation=split, steps=80, validate_every=20, labels=labels)
    served = infae.evaluate(summary.fit(), split)["HR@10"]
    assert served > best_of_random_users(split, 10) + 0.1


def first_loss(clicks, targets, config):
    """The loss before any step, by float64 NumPy: all users are one batch, reg is 1 and the start is random."""
    real = clicks.matrix.toarray().astype(np.float64)
    weights = np.maximum(real.sum(axis=0), 1) ** -0.25
    chosen = random_users(clicks, config.n_users, config.seed).matrix.toarray()
    share = np.exp(initial_logits(chosen, config.n_draws).astype(np.float64))
    soft = 1 - (1 - share / share.sum(axis=1, keepdims=True)) ** config.n_draws
    k_soft_soft = oracles.relu_ntk(soft * weights, soft * weights)
    k_real_soft = oracles.relu_ntk(real * weights, soft * weights)
    smoother = k_real_soft @ oracles.ridge(k_soft_soft, np.eye(config.n_users), 1.0)
    labels = soft
    if config.labels == "free":
        labels = oracles.ridge(smoother.T @ smoother, smoother.T @ targets, config.label_penalty)
    scores = smoother @ labels
    counts = np.ones_like(real)
    if config.objective == "match" and config.labels == "clicks":
        counts = 1 - real
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    cells = {
        "match": (scores - targets) ** 2,
        "squared": (scores - targets) ** 2,
        "softmax": -targets * np.log(p),
        "logistic": -targets * np.log(p) - (1 - targets) * np.log(1 - p),
    }[config.objective]
    scale = (counts * targets**2).sum() / len(real) if config.objective in ("match", "squared") else 1
    return (counts * cells).sum() / len(real) / scale + config.l1 * soft.sum() / config.n_users


def losses_samplers_labels():
    """(objective, sampler, labels): all, of which each objective once is not slow."""
    for n, objective in enumerate(LOSSES):
        for sampler in ("expected", "gumbel"):
            for labels in LABELS:
                quick = sampler == ("expected", "gumbel")[n % 2] and labels == LABELS[n // 2 % 2]
                yield pytest.param(objective, sampler, labels, marks=() if quick else pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "sampler", "labels"), list(losses_samplers_labels()))
def test_the_loss_begins_at_its_formula_and_falls(objective, sampler, labels, planted):
    settings = {"objective": objective, "sampler": sampler, "labels": labels, "l1": 0.001, "sharpness": 0.001}
    summary = distil(planted.train, start="random", steps=30, validate_every=1, **settings)
    loss = [row["loss"] for row in summary.history]
    assert np.mean(loss[-5:]) < np.mean(loss[:5])
    assert np.isfinite(summary.logits).all()
    assert summary.soft.min() >= 0
    assert summary.soft.max() <= 1
    assert set(np.unique(summary.hard)) == {0, 1}
    assert (summary.labels is None) == (summary.hard_labels is None) == (labels == "clicks")
    if sampler == "expected":
        clicks = planted.train
        targets = clicks.matrix.toarray()
        if objective == "match":
            targets = infae.fit(clicks, 1.0, popularity_power=-0.25).leave_one_out(np.arange(clicks.n_users))
        config = Config(**summary.config)
        assert_allclose(loss[0], first_loss(clicks, targets.astype(np.float64), config), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "labels"), [("match", "clicks"), ("match", "free"), ("squared", "clicks")])
def test_held_out_clicks_are_learnt_from(objective, labels, planted):
    settings = {"objective": objective, "labels": labels, "steps": 24, "validate_every": 6, "batch_size": 40}
    loss = [row["loss"] for row in distil(planted.train, held_out=0.5, **settings).history]
    assert loss[-1] < loss[0]


@pytest.mark.slow
def test_l1_makes_for_fewer_clicks_and_sharpness_for_surer_ones(planted):
    plain, few, sharp = (
        distil(planted.train, start="random", **settings).history[-1]
        for settings in ({}, {"l1": 0.5}, {"sharpness": 3.0})
    )
    assert few["clicks"] < plain["clicks"] - 1
    assert sharp["variance"] < 0.9 * plain["variance"]


@pytest.mark.slow
def test_one_user_of_one_draw(planted):
    one = planted.train.select_users(np.array([7]))
    summary = distil(one, n_users=1, n_draws=1, steps=1, objective="softmax")
    assert summary.soft.shape == (1, 60)
    assert summary.hard.sum() == 1
    assert np.isfinite(summary.fit().predict(one)).all()


# --- reg ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_number_holds_reg_fixed(planted):
    for validation in (None, planted):
        summary = distil(planted.train, reg=0.3, validation=validation)
        assert_allclose([summary.reg, *(row["reg"] for row in summary.history)], 0.3, rtol=1e-6)


@pytest.mark.slow
def test_none_learns_reg(planted):
    regs = [row["reg"] for row in distil(planted.train).history]
    assert np.isfinite(regs).all()
    assert min(regs) > 0
    assert len(set(regs)) == len(regs)


def test_of_several_regs_each_validation_takes_the_best(planted):
    grid = (0.01, 1.0, 100.0)
    summary = distil(planted.train, validation=planted, metric="AUC", patience=0, reg=grid)
    assert {row["reg"] for row in summary.history} <= set(grid)
    best = max(summary.history, key=lambda row: row["AUC"])
    values = {reg: infae.evaluate(summary.fit(reg=reg), planted, "validation")["AUC"] for reg in grid}
    assert summary.reg == best["reg"] == max(values, key=values.get)
    assert_allclose(best["AUC"], max(values.values()), atol=1e-4)


def test_the_reg_that_a_validation_took_is_the_next_steps(planted, monkeypatch):
    losses = []
    for reg in (7.0, 0.5):
        monkeypatch.setattr(Judge, "best", lambda self, clicks, _, reg=reg: (0.5, reg))
        summary = distil(planted.train, validation=planted, reg=(0.5, 7.0), validate_every=1)
        losses.append([row["loss"] for row in summary.history])
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]


def test_without_validation_the_first_reg_is_used(planted):
    several, one = (distil(planted.train, reg=reg) for reg in ((0.3, 7.0), 0.3))
    assert_array_equal(several.logits, one.logits)


def test_a_number_holds_reg_fixed_whatever_the_start(planted):
    earlier = distil(planted.train, reg=3.0)
    again = distil(planted.train, reg=0.3, start=earlier)
    assert_allclose(again.reg, 0.3, rtol=1e-6)


def test_an_empty_sequence_of_regs_is_refused(planted):
    with pytest.raises(ValueError, match="reg"):
        distil(planted.train, reg=(), steps=1)


# --- start ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "draw"), [("random", random_users), ("head", head_users)])
def test_named_starts_are_those_users(name, draw, planted):
    by_name, by_users = (distil(planted.train, start=start) for start in (name, draw(planted.train, 8, 0)))
    assert_array_equal(by_name.logits, by_users.logits)


@pytest.mark.slow
def test_a_mixed_start_is_halves_of_two_users(planted):
    real = planted.train.matrix.toarray() > 0
    rows = mixtures(planted.train, 50, seed=3) > 0
    assert_array_equal(rows, mixtures(planted.train, 50, seed=3) > 0)
    halves = -(-real.sum(axis=1) // 2)
    for row in rows:
        shared = (real & row).sum(axis=1)
        pairs = [
            (a, b)
            for a, b in combinations(np.flatnonzero(shared >= halves), 2)
            if not (row & ~real[a] & ~real[b]).any() and row.sum() <= halves[a] + halves[b]
        ]
        assert pairs
    summary = distil(planted.train, steps=1)
    assert summary.soft[mixtures(planted.train, 8, seed=0) > 0].min() > 2 * np.median(summary.soft)


def test_a_mixed_start_of_one_user_is_half_of_it():
    rows = mixtures(infae.Interactions.from_matrix(np.ones((1, 5))), 1, seed=0)
    assert rows.sum() == 3


def test_no_binary_row_is_a_real_users_history(planted):
    """A prior as sure of eight users' clicks as can be: each sample and the most probable rows are those users'."""
    real = planted.train.matrix.toarray()
    rows = real[:8]
    config = Config(n_users=8, n_draws=5000)
    student = Student(ReluNTK(), InputMap(None, 0.0))
    batches = Batches(planted.train.matrix, config, None)
    judge = Judge(student, config, batches, planted.train.item_ids, None)
    # Of the items that nobody clicked the last ones are likelier.
    soft = np.where(rows > 0, 1, np.linspace(0.1, 0.4, 60)).astype(np.float32)
    hard = np.asarray(judge.best_hard(np.where(rows > 0, 50.0, -50.0), soft, 1.0).clicks)
    assert not {tuple(row) for row in real.tolist()} & {tuple(row) for row in hard.tolist()}
    assert (hard[rows > 0] == 1).all()
    for before, after in zip(rows, hard, strict=True):
        (added,) = np.nonzero(after > before)
        assert added.tolist() == np.flatnonzero(before == 0)[-added.size :].tolist()
        assert added.size >= 1


def test_a_run_begins_at_the_clicks_of_its_start(planted):
    users = head_users(planted.train, 8)
    clicked = users.matrix.toarray() > 0
    soft = distil(planted.train, steps=1, start=users).soft
    assert soft[clicked].min() > 2 * soft[~clicked].max()


@pytest.mark.slow
@pytest.mark.parametrize("labels", LABELS)
def test_a_run_goes_on_from_another_summary(labels, planted):
    earlier = distil(planted.train, labels=labels, validate_every=1)
    again = distil(planted.train, labels=labels, validate_every=1, start=earlier)
    # All users are one batch, so that a loss is a function of logits and reg alone; the last learning rate is small.
    assert_allclose(again.history[0]["loss"], earlier.history[-1]["loss"], rtol=0.01)
    assert again.history[0]["loss"] < earlier.history[0]["loss"]
    assert_allclose(again.history[0]["reg"], earlier.reg, rtol=0.04)


def test_wrong_starts_are_refused(planted):
    X = planted.train
    summary = distil(X, steps=1)
    users = random_users(X, 8, 0)
    renamed = Interactions(users.matrix, users.user_ids, users.item_ids + 1)
    turned = Interactions(users.matrix[:, ::-1].tocsr(), users.user_ids, users.item_ids[::-1])
    for start, settings, message in [
        ("tail", {}, "Summary or Interactions.*'mixed', 'random', 'head', got 'tail'"),
        (None, {}, "got None"),
        (np.ones((8, 60)), {}, "'mixed', 'random', 'head'.*got a ndarray"),
        (random_users(X, 9, 0), {}, r"start must have 8 users over X's own 60 items.*got 9 users x 60 items"),
        (summary, {"n_users": 9}, "start must have 9 users.*got 8 users"),
        (renamed, {}, "in the same order"),
        (turned, {}, "in the same order"),
    ]:
        with pytest.raises(ValueError, match=message):
            distil(X, start=start, **settings)


# --- the state that is kept, and the end ----------------------------------------------------------


def scripted(monkeypatch, values):
    """Validations give these values; returns the supports that were validated."""
    seen = []

    def best(self, clicks, reg):
        seen.append(np.asarray(clicks))
        return values[len(seen) - 1], reg

    monkeypatch.setattr(Judge, "best", best)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([0.1, 0.4, 0.3, 0.2], 1),
        ([0.4, 0.3, 0.2, 0.1], 0),
        ([0.1, 0.2, 0.3, 0.4], 3),
        ([0.2, 0.4, 0.4, 0.1], 1),
        ([-math.inf, 0.1, -math.inf, -math.inf], 1),
        ([math.nan, math.nan, math.nan, math.nan], 3),
    ],
)
def test_the_best_state_is_kept_and_of_equals_the_first(values, kept, planted, monkeypatch):
    seen = scripted(monkeypatch, values)
    summary = distil(planted.train, validation=planted, validate_every=3, patience=0)
    assert_array_equal(summary.soft, seen[kept])
    assert summary.reg == summary.history[kept]["reg"]
    assert not any(np.array_equal(summary.soft, other) for i, other in enumerate(seen) if i != kept)
    assert_array_equal([row["HR@10"] for row in summary.history], values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patience", "n_validations"),
    [(1, 3), (2, 4), (3, 5), (4, 10), (5, 11), (6, 12), (0, 12)],
)
def test_patience_counts_validations_since_the_best(patience, n_validations, planted, monkeypatch):
    values = [0.1, 0.3, 0.2, 0.3, 0.2, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    seen = scripted(monkeypatch, values)
    summary = distil(planted.train, validation=planted, validate_every=1, patience=patience)
    assert steps_of(summary) == list(range(1, n_validations + 1))
    assert_array_equal(summary.soft, seen[int(np.argmax(values[:n_validations]))])


def test_patience_is_in_validations_not_in_steps(planted):
    """HR@100 is 1 from the start: there are 60 items."""
    summary = distil(planted.train, validation=planted, metric="HR@100", validate_every=2, patience=3)
    assert steps_of(summary) == [2, 4, 6, 8]
    assert_allclose(summary.soft.sum(axis=1).mean(), summary.history[0]["clicks"], rtol=1e-6)


def test_without_validation_all_steps_are_taken_and_the_last_state_is_kept(planted):
    summary = distil(planted.train, validate_every=5, patience=1)
    assert steps_of(summary) == [5, 10, 12]
    assert all(math.isnan(row["HR@10"]) for row in summary.history)
    assert_allclose(summary.soft.sum(axis=1).mean(), summary.history[-1]["clicks"], rtol=1e-6)
    assert summary.reg == summary.history[-1]["reg"]


@pytest.mark.slow
@pytest.mark.parametrize(("values", "n_steps", "kept"), [([0.1, 0.3, 0.2], 12, 10), ([0.3, 0.2], 11, 9)])
def test_with_sharpness_the_best_of_the_last_quarter_is_kept_and_patience_counts_there(
    values, n_steps, kept, planted, monkeypatch
):
    seen = scripted(monkeypatch, [0.9] * 9 + values)
    settings = {"validate_every": 1, "patience": 1, "sharpness": 3.0}
    summary = distil(planted.train, validation=planted, **settings)
    assert steps_of(summary) == list(range(1, n_steps + 1))
    assert_array_equal(summary.soft, seen[kept])


def test_patience_waits_for_the_first_validation_of_the_last_quarter(planted, monkeypatch):
    seen = scripted(monkeypatch, [0.9, 0.1, 0.2])
    summary = distil(planted.train, validation=planted, validate_every=4, patience=1, sharpness=3.0)
    assert steps_of(summary) == [4, 8, 12]
    assert_array_equal(summary.soft, seen[2])


@pytest.mark.slow
def test_the_binary_rows_serve_at_least_as_well_as_the_most_probable_ones(planted):
    summary = distil(planted.train, validation=planted, validate_every=12, metric="AUC", sharpness=3.0)
    (row,) = summary.history
    likely = (summary.soft > 0.5) | (summary.soft == summary.soft.max(axis=1, keepdims=True))
    model = infae.fit(likely, summary.reg, item_weights=summary.item_weights)
    assert_allclose(infae.evaluate(model, planted, "validation")["AUC"], row["AUC hard"], atol=1e-4)
    assert infae.evaluate(summary.fit("hard"), planted, "validation")["AUC"] > row["AUC hard"] - 1e-4


def linear(x1, x2=None):
    return x1 @ (x1 if x2 is None else x2).T


@pytest.mark.slow
@pytest.mark.parametrize(
    ("params", "settings"),
    [
        ({}, {}),
        ({}, {"labels": "free"}),
        ({}, {"sampler": "gumbel"}),
        ({}, {"metric": "HR@10", "reg": (0.1, 5.0)}),
        ({}, {"metric": "AUC-sampled", "labels": "free"}),
        ({"popularity_power": -0.5, "depth": 2}, {}),
        (
            {"item_weights": np.linspace(0.5, 2, 60), "row_power": 1.0, "w_std": 1.0, "b_std": 0.0},
            {"objective": "softmax"},
        ),
        ({"kernel": linear, "dtype": "float64"}, {"labels": "free"}),
    ],
    ids=str,
)
def test_the_fit_of_a_summary_is_what_was_validated(params, settings, planted):
    model = InfiniteAE(1.0, **params)
    settings = {"metric": "AUC", "patience": 0, "validate_every": 1, **settings}
    summary = distil(planted.train, validation=planted, model=model, **settings)
    fitted = summary.fit(kernel=params.get("kernel"))
    best = max(row[settings["metric"]] for row in summary.history)
    assert_allclose(infae.evaluate(fitted, planted, "validation")[settings["metric"]], best, atol=1e-4)
    assert {name: getattr(fitted, name) for name in ("depth", "w_std", "b_std", "row_power")} == {
        name: getattr(model, name) for name in ("depth", "w_std", "b_std", "row_power")
    }
    assert not hasattr(model, "machine_")


@pytest.mark.slow
def test_own_kernels_are_asked_for(planted):
    own = distil(planted.train, model=InfiniteAE(1.0, kernel=linear))
    with pytest.raises(ValueError, match="give the kernel that the summary was made with"):
        own.fit()
    with pytest.raises(ValueError, match="none where it was a built-in one"):
        distil(planted.train).fit(kernel=linear)


def test_a_history_is_a_table(planted):
    table = pd.DataFrame(distil(planted.train, validation=planted).history)
    assert {"step", "loss", "HR@10", "reg", "clicks", "variance", "seconds"} <= set(table)
    assert table["step"].tolist() == [4, 8, 12]
    assert table["seconds"].is_monotonic_increasing
    assert table["seconds"][0] > 0
    assert np.isfinite(table.to_numpy(float)).all()


@pytest.mark.slow
def test_the_full_data_model_is_chosen_on_validation(planted, monkeypatch):
    candidates = ({"row_power": 1.0, "b_std": 0.0}, {"b_std": 0.3, "popularity_power": -0.5})
    monkeypatch.setattr("distillcf.inner.CANDIDATES", candidates)
    monkeypatch.setattr("distillcf.inner.REGS", (1.0,))
    models = [infae.fit(planted.train, (1.0,), validation=planted, metric="HR@10", **inputs) for inputs in candidates]
    best = max(models, key=lambda model: model.path_[0]["HR@10"])
    chosen = distil(planted.train, validation=planted, model=None)
    assert (chosen.model["row_power"], chosen.model["b_std"]) == (best.row_power, best.b_std)
    assert_array_equal(chosen.item_weights is None, best.inputs_.item_weights is None)


# --- chance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["expected", "gumbel"])
def test_the_same_seed_gives_the_same_bits(sampler, planted):
    first, again = (distil(planted.train, validation=planted, sampler=sampler) for _ in range(2))
    assert_same_bits(first, again)


def test_another_seed_gives_other_users(planted):
    first, other = (distil(planted.train, seed=seed) for seed in (0, 1))
    assert not np.allclose(first.soft, other.soft, atol=0.01)
    assert not np.array_equal(first.hard, other.hard)


def test_the_global_state_of_chance_is_neither_used_nor_moved(planted):
    np.random.seed(0)  # noqa: NPY002 - it is what is under test
    first = distil(planted.train)
    position = np.random.get_state()[2]  # noqa: NPY002
    again = distil(planted.train)
    assert np.random.get_state()[2] == position  # noqa: NPY002
    assert_same_bits(first, again)


@pytest.mark.slow
@pytest.mark.parametrize("labels", LABELS)
def test_a_session_in_64_bits_gives_the_same_bits(labels, planted):
    expected = distil(planted.train, validation=planted, labels=labels)
    with jax.enable_x64(True):
        assert_same_bits(distil(planted.train, validation=planted, labels=labels), expected)


# --- clicks, scores and validation ----------------------------------------------------------------


@pytest.mark.slow
def test_every_form_of_the_same_clicks_gives_the_same_bits(planted):
    expected = distil(planted.train)
    for X in (planted.train.matrix.toarray(), planted.train.matrix.tocoo(), planted.train.to_frame()):
        assert_same_bits(distil(X), expected)


def test_held_out_clicks_serve_for_a_split(planted):
    by_split, by_clicks = (distil(planted.train, validation=v) for v in (planted, planted.validation))
    assert_same_bits(by_split, by_clicks)


@pytest.mark.slow
def test_new_users_serve_for_validation():
    log = synthetic(90, 30, n_groups=3, mean_clicks=8, seed=1).interactions
    split = user_split(log, fractions=(0.6, 0.2, 0.2))
    summary = distil(split.train, validation=split, patience=0)
    value = infae.evaluate(summary.fit(), split, "validation")["HR@10"]
    assert_allclose(value, max(row["HR@10"] for row in summary.history), atol=1e-4)


def test_validation_is_matched_by_item_id(planted):
    turned = [
        Interactions(part.matrix[:, ::-1].tocsr(), part.user_ids, part.item_ids[::-1])
        for part in (planted.train, planted.validation, planted.test)
    ]
    rows = [distil(planted.train, validation=v, metric="AUC").history for v in (planted, Split(*turned))]
    assert_allclose(*([row["AUC"] for row in history] for history in rows), atol=1e-6)


def with_gaps(planted):
    """Three users without clicks, among and after the others."""
    return np.insert(planted.train.matrix.toarray(), [0, 50, 120], 0, axis=0)


def test_users_without_clicks_are_left_out_with_one_warning(planted):
    summary, messages = caught(lambda: distil(with_gaps(planted)))
    assert [m for m in messages if "no clicks" in m] == ["3 of 123 users have no clicks and are left out of the fit"]
    assert_same_bits(summary, distil(planted.train))


@pytest.mark.slow
def test_scores_are_row_by_row_with_the_clicks_handed_in(planted):
    scores = np.random.default_rng(0).random((123, 60))
    kept = np.flatnonzero(with_gaps(planted).any(axis=1))
    summary, _ = caught(lambda: distil(with_gaps(planted), scores=scores))
    assert_same_bits(summary, distil(planted.train, scores=scores[kept]))


@pytest.mark.slow
def test_repeated_clicks_are_told_once(planted):
    twice = pd.concat([planted.train.to_frame()] * 2)
    _, messages = caught(lambda: distil(twice, steps=1, scores=np.zeros((120, 60))))
    assert len([m for m in messages if "repeats" in m]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("labels", LABELS)
def test_the_default_scores_are_those_of_users_left_out(labels, planted):
    full = infae.fit(planted.train, 1.0, popularity_power=-0.25)
    scores = full.leave_one_out(np.arange(planted.train.n_users))
    default = distil(planted.train, labels=labels)
    assert_same_bits(distil(planted.train, labels=labels, scores=scores), default)
    if labels == "free":
        echo = distil(planted.train, labels=labels, scores=full.predict(planted.train))
        assert not np.array_equal(echo.logits, default.logits)


@pytest.mark.slow
def test_reg_of_the_model_is_the_full_data_models(planted):
    usual, large = (
        distil(planted.train, validate_every=1, model=model).history[0]
        for model in (teacher(), InfiniteAE(50.0, popularity_power=-0.25))
    )
    assert usual["loss"] != large["loss"]
    assert_allclose(usual["reg"], large["reg"], rtol=0.1)


# --- the bar --------------------------------------------------------------------------------------


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal


def test_the_bar_shows_loss_metric_reg_clicks_and_time(planted, monkeypatch):
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    row = distil(planted.train, validation=planted, progress=True).history[-1]
    drawn = [line for line in screen.getvalue().split("\r") if line.startswith("distilling")]
    assert "12/12" in drawn[-1]
    for shown in (
        f"loss={row['loss']:.4f}",
        f"HR@10={row['HR@10']:.4f}",
        f"reg={row['reg']:.3g}",
        f"clicks={row['clicks']:.1f}",
        "[00:0",
    ):
        assert shown in drawn[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("terminal", "progress"), [(True, False), (False, True)])
def test_nothing_is_drawn_unasked_or_in_logs(terminal, progress, planted, monkeypatch, capfd):
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    distil(planted.train, validation=planted, steps=1, progress=progress)
    assert screen.getvalue() == ""
    assert capfd.readouterr().out == ""


# --- a loss that is not finite --------------------------------------------------------------------


def poison(monkeypatch, at_step):
    """The targets of one step, counted from 1, are NaN."""

    class Poisoned(Batches):
        def __call__(self, step):
            batch = super().__call__(step)
            return batch._replace(targets=batch.targets * np.nan) if step + 1 == at_step else batch

    monkeypatch.setattr(outer_loop, "Batches", Poisoned)


@pytest.mark.slow
@pytest.mark.parametrize("labels", LABELS)
def test_a_loss_that_is_not_finite_stops_the_run_with_the_best_state(labels, planted, monkeypatch, tmp_path):
    settings = {"validation": planted, "labels": labels, "steps": 12, "checkpoint_every": 1, "patience": 0}
    whole = distil(planted.train, **settings)
    checkpoint = tmp_path / "run.npz"
    with monkeypatch.context() as patch:
        poison(patch, 11)
        with pytest.raises(DivergedError) as raised:
            distil(planted.train, checkpoint=checkpoint, **settings)
    message = str(raised.value)
    best = max(whole.history[:2], key=lambda row: row["HR@10"])
    assert re.search(r"not finite at step 11 \(learning_rate 0\.15, reg [\d.]+\)", message)
    assert f"the best state, of step {best['step']}, is kept" in message
    assert "Lower the learning_rate" in message
    assert_same_history(raised.value.summary.history, whole.history[:2])
    value = infae.evaluate(raised.value.summary.fit(), planted, "validation")["HR@10"]
    assert_allclose(value, best["HR@10"], atol=1e-4)
    resumed = distil(planted.train, resume=checkpoint, **settings)
    assert_array_equal(resumed.logits, whole.logits)
    assert_same_history(resumed.history[:2], whole.history[:2])


def test_the_checkpoint_of_a_run_that_stopped_holds_finite_losses(planted, monkeypatch, tmp_path):
    settings = {"checkpoint_every": 1}
    whole = distil(planted.train, **settings)
    with monkeypatch.context() as patch:
        poison(patch, 7)
        with pytest.raises(DivergedError):
            distil(planted.train, checkpoint=tmp_path / "run.npz", **settings)
    assert_same_bits(distil(planted.train, resume=tmp_path / "run.npz", **settings), whole)


def test_before_any_validation_there_is_no_state_to_keep(planted, monkeypatch):
    poison(monkeypatch, 3)
    with pytest.raises(DivergedError, match=r"at step 3 .*no validation was passed") as raised:
        distil(planted.train, validation=planted)
    assert raised.value.summary is None


def test_without_held_out_clicks_the_last_recorded_state_is_kept(planted, monkeypatch):
    poison(monkeypatch, 10)
    with pytest.raises(DivergedError, match="of step 8, is kept") as raised:
        distil(planted.train)
    assert steps_of(raised.value.summary) == [4, 8]


@pytest.mark.slow
def test_a_huge_learning_rate_ends_in_finite_users(planted):
    """Adam's steps are bounded, and so are probabilities."""
    summary = distil(planted.train, validation=planted, learning_rate=1e30)
    assert np.isfinite(summary.soft).all()
    assert set(np.unique(summary.hard)) <= {0, 1}


# --- memory ---------------------------------------------------------------------------------------


def no_work(*args, **kwargs):
    raise AssertionError("work was begun")


def test_too_little_memory_is_said_before_any_work(planted, monkeypatch):
    monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: 1000)
    monkeypatch.setattr(InfiniteAE, "fit", no_work)
    with pytest.raises(MemoryError, match=r"8 synthetic users x 60 items and batches of 120 users.*0\.0 GiB are avail"):
        distil(planted.train, validation=planted)


def test_enough_memory_is_no_error(planted, monkeypatch):
    monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: 50_000_000)
    distil(planted.train, steps=1)


def step_bytes(n_users, n_items, batch_size, **settings):
    """Arguments and temporary arrays of the compiled step, as XLA tells them."""
    config = Config(n_users=n_users, n_draws=20, **settings)
    student = Student(ReluNTK(1, 2**0.5, 0.1), InputMap(np.ones(n_items), 0.0))
    update = make_update(config, Objective(student, LOSSES[config.objective]))
    (step,) = (cell.cell_contents for cell in update.__closure__ if hasattr(cell.cell_contents, "lower"))
    rows = jax.ShapeDtypeStruct((batch_size, n_items), np.float32)
    with precision(np.float32):
        state = init(config, np.zeros((n_users, n_items), np.float32), 1.0)
        batch = Batch(rows, rows, rows)
        used = step.lower(state, batch, np.int32(0)).compile().memory_analysis()
    return used.temp_size_in_bytes + used.argument_size_in_bytes


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((100, 500, 256), {}),
        ((200, 200, 256), {"objective": "logistic", "labels": "free"}),
    ],
)
@pytest.mark.slow
def test_the_estimate_is_near_what_the_compiled_step_takes(shape, settings):
    assert 0.7 < required_bytes(*shape, 20) / step_bytes(*shape, **settings) < 2.5


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_users": 121}, "at most as many synthetic users as there are real ones with clicks, 120, got n_users=121"),
        ({"n_users": 0}, "n_users must be a whole number from 1 .*, got 0"),
        ({"n_users": 8.0}, "n_users must be a whole number"),
        ({"n_users": True}, "n_users must be a whole number"),
        ({"n_draws": 0}, "n_draws must be a whole number from 1 .*, got 0"),
        ({"n_draws": 0.5, "sampler": "gumbel"}, "n_draws must be a whole number"),
        ({"temperature": 0}, "temperature must be .* at least 1e-12 .*got 0"),
        ({"temperature": -0.5, "sampler": "gumbel"}, "temperature must be .*at least 1e-12"),
        ({"temperature": math.nan}, "temperature must be a finite number"),
        ({"learning_rate": 0.0}, "learning_rate must be .*at least 1e-12"),
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"patience": -1}, "patience must be a whole number from 0"),
        ({"seed": -1}, "seed must be"),
        ({"seed": None}, "seed must be"),
        ({"held_out": 1.0}, "held_out must be .*below 1"),
        ({"l1": -1.0}, "l1 must be .*at least 0"),
        ({"reg": 0.0}, "reg must be .*at least 1e-12"),
        ({"reg": (1.0, -1.0)}, "reg must be .*at least 1e-12"),
        ({"reg": "auto"}, "reg must be a finite number"),
        ({"labels": "soft"}, "labels must be one of 'clicks', 'free'"),
        ({"objective": "hinge"}, "objective must be one of"),
        ({"sampler": "hard"}, "sampler must be one of 'expected', 'gumbel'"),
        ({"metric": "accuracy"}, "unknown metric 'accuracy'"),
        ({"checkpoint_every": 0}, "checkpoint_every must be a whole number of at least 1, got 0"),
        ({"checkpoint_every": True}, "checkpoint_every must be"),
        ({"scores": np.zeros((3, 3))}, r"scores must be numbers of X's shape \(120, 60\), got float64 \(3, 3\)"),
        ({"scores": np.full((120, 60), np.nan)}, "scores hold NaN or infinity"),
        ({"scores": np.zeros((120, 60)), "objective": "squared"}, "scores are matched by objective='match'"),
        ({"validation": np.ones((120, 60))}, "validation must be a Split or Interactions, got ndarray"),
        ({"scores": np.full((120, 60), 1e38)}, "scores hold .*beyond"),
        ({"scores": np.ma.masked_array(np.ones((120, 60)), mask=np.eye(120, 60))}, "scores are a masked array"),
        ({"scores": [[1.0], [1.0, 2.0]]}, "scores must be a matrix"),
        ({"model": InfiniteAE((1.0, 2.0))}, "reg is a sequence"),
        ({"model": InfiniteAE}, "model must be an InfiniteAE or None, got"),
        ({"model": np.eye(60)}, r"model must be .*ndarray of shape \(60, 60\)"),
        ({"progress": "yes"}, "progress must be True or False"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_settings_are_refused_before_any_work(settings, message, planted, monkeypatch):
    monkeypatch.setattr("infae.solvers.exact.symmetric_gram", no_work)
    with pytest.raises(ValueError, match=message):
        distil(planted.train, **settings)


def test_unknown_settings_are_refused(planted):
    with pytest.raises(TypeError, match="gamma"):
        distil(planted.train, gamma=3)


def test_only_users_with_clicks_count(planted):
    with pytest.raises(ValueError, match="with clicks, 120, got n_users=121"), pytest.warns(match="no clicks"):
        distil(with_gaps(planted), n_users=121)


def test_validation_of_other_items_users_or_nothing_is_refused_before_any_work(planted, monkeypatch):
    monkeypatch.setattr(InfiniteAE, "fit", no_work)
    part = planted.validation
    other = Interactions(part.matrix, part.user_ids, part.item_ids + 1000)

    nothing = part.with_matrix(type(part.matrix)(part.shape, dtype=np.float32))
    for validation, message in [
        (Split(other, other, other), "over other items than X"),
        (part.select_users(np.arange(5)), "row by row"),
        (nothing, "no clicks to rank"),
    ]:
        with pytest.raises(ValueError, match=message):
            distil(planted.train, validation=validation)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((5, 5)), "no clicks: all 5 users"),
        (np.full((9, 9), np.nan), "NaN or infinite"),
        (-np.ones((9, 9)), "negative"),
        ("clicks.csv", "got str"),
    ],
)
def test_bad_clicks_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        distil(X)


@pytest.mark.parametrize("every", [2.5, "5"])
def test_checkpoint_every_is_a_whole_number(every, planted):
    with pytest.raises(ValueError, match="checkpoint_every"):
        distil(planted.train, steps=1, checkpoint_every=every)
