"""`select`: each trial against a fit of its own, the choice among them, and what they cost."""

import importlib
import io
from itertools import groupby

import jax
import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, random_interactions

import infae
from infae import InfiniteAE, Interactions, Split
from infae.data import Blocks, random_split, user_split
from infae.errors import SingularKernelError
from infae.inputs import InputMap, popularity
from infae.kernels import ReluNTK
from infae.kernels.rows import Rows
from infae.runtime.progress import bar
from infae.tuning.search import SETTING, Data, Search, _Products
from infae.tuning.select import PUBLISHED, SPACE

N_USERS, N_ITEMS = 60, 30
METRIC = "AUC"
SMALL = {"depth": (0, 1, 3), "row_power": (0.0, 0.25, 0.5, 1.0), "popularity_power": (0.0, -0.25, -0.5)}
pytestmark = pytest.mark.filterwarnings("ignore:.*users have no clicks")


@pytest.fixture(scope="module")
def parts():
    """Clicks at random in train or validation; three users have none in train."""
    whole = random_clicks(N_USERS, N_ITEMS, seed=5)
    train = whole * (np.random.default_rng(6).random(whole.shape) < 0.7)
    train[np.arange(N_USERS), whole.argmax(axis=1)] = 1
    train[[0, 20, 59]] = 0
    train, held_out = (Interactions.from_matrix(x, 100 + np.arange(N_USERS)) for x in (train, whole - train))
    return Split(train, held_out, train.emptied())


@pytest.fixture(scope="module")
def others():
    """A split whose validation users are not in train."""
    return user_split(random_interactions(N_USERS, N_ITEMS, seed=5), fractions=(0.7, 0.2, 0.1), seed=1)


def select(X, validation=None, **given):
    return infae.select(X, validation, **{"metric": METRIC, "space": SMALL, "dtype": "float64", **given})


@pytest.fixture(scope="module")
def found(parts):
    return select(parts.train, parts)


@pytest.fixture
def searches(monkeypatch):
    """The searches that `select` makes."""
    made = []

    def recorded(*args):
        made.append(Search(*args))
        return made[-1]

    # By the module itself: `infae.select` is the function.
    monkeypatch.setattr(importlib.import_module("infae.tuning.select"), "Search", recorded)
    return made


def setting_of(row):
    return {name: row[name] for name in SETTING}


def fitted(row, users, **given):
    return infae.fit(users, row["reg"], **{"dtype": "float64", **setting_of(row), **given})


def value_of(model, split, metric=METRIC):
    k = (int(metric.partition("@")[2] or 1),)
    return infae.evaluate(model, split, on="validation", k=k)[metric]


def search_of(split):
    users = split.train.select_users(np.flatnonzero(np.diff(split.train.matrix.indptr)))
    data = Data(users, split, False)
    return Search(data, popularity(users.matrix), (METRIC,), {"dtype": "float64"}, bar("select", False))


def best_of(trials):
    return max(trials, key=lambda row: np.nan_to_num(row[METRIC], nan=-1))


# --- trials ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("power", [0.0, -0.5])
@pytest.mark.parametrize("row_power", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_trial_is_worth_what_a_fit_of_its_own_is(depth, row_power, power, parts):
    search = search_of(parts)
    row = {"depth": depth, "row_power": row_power, "popularity_power": power, "b_std": 0.1 * (depth % 2), "reg": 0.5}
    value = search.value(setting_of(row), 0.5)
    assert_allclose(value, value_of(fitted(row, parts.train), parts), rtol=1e-12)
    (tried,) = search.trials
    assert {name: tried[name] for name in row} == row
    assert (tried["users"], tried[METRIC]) == (57, value)


def test_gram_matrices_from_shared_products_are_those_of_the_rows(parts, dtype, small_tiles):
    """In tiles, the last of them ragged: entry by entry, which a ranking would not tell."""
    users = parts.train.matrix[np.flatnonzero(np.diff(parts.train.matrix.indptr))]
    raw, scaled = (InputMap.from_popularity(popularity(users), -0.25, power)(users, dtype) for power in (0.0, 0.5))
    gram = _Products(Rows(raw, dtype)).gram(ReluNTK(2, b_std=0.3), Rows(scaled, dtype))
    rows = oracles.input_rows(users.toarray(), users.toarray(), -0.25, 0.5)
    assert gram.n_tiles > 1
    full = np.concatenate([np.asarray(gram.column(block)) for block in range(gram.n_tiles)], axis=1)
    expected = oracles.relu_ntk(rows, rows, 2, b_std=0.3)
    assert_allclose(full[:57, :57], expected, **oracles.tolerance(dtype))
    # A row with itself, where rounding would cost half of the digits.
    assert_allclose(np.diagonal(full)[:57], np.diagonal(expected), rtol=2e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.slow
def test_all_trials_of_a_search_are(found, parts):
    assert len(found.trials) > 10
    for row in found.trials:
        model = fitted(row, parts.train)
        assert_allclose(row[METRIC], value_of(model, parts), rtol=1e-12)
        assert row["seconds"] > 0
        assert 0 <= row["residual"] < 1e-9


@pytest.mark.parametrize("metric", ["AUC-sampled", "HR@3", "PSP@5"])
def test_any_metric_of_the_report(metric, parts):
    chosen = select(parts.train, parts, metric=metric, space={"row_power": (0.0, 1.0)})
    for row in chosen.trials[:4]:
        assert_allclose(row[metric], value_of(fitted(row, parts.train), parts, metric), rtol=1e-12)


def test_without_validation_each_user_is_scored_by_the_model_of_the_others(parts, searches):
    chosen = select(parts.train, space={"row_power": (0.0, 0.5)})
    split = searches[0].data.split
    users = searches[0].data.users

    class Refitted:
        def __init__(self, row):
            self.row, self.mean = row, diagonal_mean(row, users, users)

        def predict(self, histories):
            return np.concatenate([self.scores(histories.select_users([i])) for i in range(histories.n_users)])

        def scores(self, history):
            rest = users.select_users(users.user_ids != history.user_ids[0])
            weights = np.maximum(popularity(users.matrix), 1) ** self.row["popularity_power"]
            reg = self.row["reg"] * self.mean / diagonal_mean(self.row, rest, users)
            alone = {**self.row, "reg": reg, "popularity_power": 0.0}
            return fitted(alone, rest, item_weights=weights).predict(history)

    for row in (chosen.trials[0], best_of(chosen.trials)):
        assert_allclose(row[METRIC], value_of(Refitted(row), split), rtol=1e-12)


def diagonal_mean(row, users, whole):
    """Of the users' kernel, by the weights of the whole; what `reg` is relative to."""
    clicks, train = users.matrix.toarray(), whole.matrix.toarray()
    rows = oracles.input_rows(clicks, train, row["popularity_power"], row["row_power"])
    return np.mean([oracles.relu_ntk(x[None], x[None], row["depth"], b_std=row["b_std"])[0, 0] for x in rows])


# --- the choice -----------------------------------------------------------------------------------


def test_the_best_trial_is_chosen_and_fitted_to_all(found, parts):
    best = best_of(found.trials)
    params = found.model.get_params()
    assert {name: params[name] for name in SETTING} == setting_of(best)
    assert found.model.reg_ == best["reg"]
    assert_array_equal(found.model.user_ids_, np.delete(parts.train.user_ids, [0, 20, 59]))
    assert_array_equal(found.model.predict(parts.train), fitted(best, parts.train).predict(parts.train))


@pytest.mark.slow
def test_several_metrics_are_compared_by_their_mean(parts):
    metrics = ("NDCG@5", "HR@20", "AUC-sampled")
    chosen = select(parts.train, parts, metric=metrics, space={"row_power": (0.0, 0.5, 1.0)})
    for row in chosen.trials:
        values = [value_of(fitted(row, parts.train), parts, name) for name in metrics]
        assert_allclose([row[name] for name in metrics], values, rtol=1e-12)
        assert_allclose(row["value"], np.mean(values), rtol=1e-12)
    best = max(chosen.trials, key=lambda row: row["value"])
    assert setting_of(best) == setting_of(chosen.model.get_params())
    with pytest.raises(ValueError, match="metric is an empty sequence"):
        select(parts.train, parts, metric=())


@pytest.mark.parametrize("depth", [0, 3])
def test_a_climb_ends_where_no_neighbour_is_better(depth, parts):
    search = search_of(parts)
    search.climb({"depth": depth, "row_power": 1.0, "popularity_power": -0.5, "b_std": 0.0}, 0.5, SMALL)
    best = best_of(search.trials)
    assert search.ranked()[0] == (setting_of(best), best["reg"])
    for name, choices in SMALL.items():
        place = choices.index(best[name])
        for choice in choices[max(0, place - 1) : place + 2]:
            near = {**best, name: choice}
            assert value_of(fitted(near, parts.train), parts) <= best[METRIC]


@pytest.mark.slow
def test_other_parameters_are_the_models(parts):
    chosen = select(
        parts.train, parts, space={"row_power": (0.0, 0.5)}, solver="nystrom", n_anchors=15, w_std=1.0, dtype="float32"
    )
    params = chosen.model.get_params()
    assert (params["solver"], params["w_std"], params["dtype"]) == ("nystrom", 1.0, "float32")
    assert chosen.model.user_ids_.size == 15
    first = chosen.trials[0]
    assert_allclose(first[METRIC], value_of(fitted(first, parts.train, w_std=1.0), parts), atol=1e-3)


def test_every_form_of_validation_is_the_same_search(found, parts):
    by_clicks = select(parts.train, parts.validation)
    assert values(by_clicks) == values(found)
    assert_array_equal(by_clicks.model.predict(parts.train), found.model.predict(parts.train))


def values(chosen):
    return [{name: row[name] for name in (*SETTING, "reg", "users", METRIC)} for row in chosen.trials]


@pytest.mark.slow
@pytest.mark.parametrize("refit", [False, True])
def test_items_are_matched_by_their_ids(refit, parts):
    given = {"space": {"row_power": (0.0, 0.5)}, "refit": refit}
    train = parts.train
    turned = Interactions(sp.csr_matrix(train.matrix[:, ::-1]), train.user_ids, train.item_ids[::-1])
    turned.matrix.sort_indices()
    chosen, expected = select(turned, parts, **given), select(train, parts, **given)
    assert_allclose([row[METRIC] for row in chosen.trials], [row[METRIC] for row in expected.trials], rtol=1e-12)
    by_id = np.argsort(chosen.model.item_ids_)
    assert_allclose(chosen.model.predict(train)[:, by_id], expected.model.predict(train), rtol=1e-8, atol=1e-10)


def test_refit_adds_the_validation_clicks(parts):
    chosen = select(parts.train, parts, space={"row_power": (0.0, 0.5)}, refit=True)
    both = parts.train.matrix.toarray() + parts.validation.matrix.toarray()
    union = Interactions.from_matrix(both, parts.train.user_ids)
    assert_array_equal(chosen.model.predict(union), fitted(best_of(chosen.trials), union).predict(union))
    assert chosen.model.user_ids_.size == 60


# --- what it costs --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 9, 11])
def test_no_trial_is_made_twice(seed):
    """Nor at a reg that differs in its last digits, as half steps back to a whole one might."""
    split = random_split(random_interactions(40, 20, seed=seed, density=0.4), fractions=(0.5, 0.2, 0.3), seed=3)
    chosen = select(split.train, split, metric="NDCG@5", space={"row_power": (0.0, 0.5)}, depth=1, dtype="float32")
    made = [(*setting_of(row).values(), round(2 * np.log2(row["reg"]), 6)) for row in chosen.trials]
    assert len(set(made)) == len(made)
    assert all(half_steps == int(half_steps) for *_, half_steps in made)


def test_gram_matrices_and_products_are_shared(parts, monkeypatch):
    import infae.tuning.search as module

    kernels, grams, real, real_gram = [], [], module.symmetric_gram, _Products.gram
    monkeypatch.setattr(
        "infae.tuning.search.symmetric_gram", lambda kernel, rows: kernels.append(1) or real(kernel, rows)
    )
    monkeypatch.setattr(_Products, "gram", lambda self, *args: grams.append(1) or real_gram(self, *args))
    trials = select(parts.train, parts).trials
    # One for each run of trials with the same weights, and one for each run with the same setting.
    assert len(kernels) == len(list(groupby(trials, lambda row: row["popularity_power"])))
    assert len(grams) == len(list(groupby(trials, setting_of)))
    assert len(kernels) < len(grams) < len(trials)


@pytest.mark.slow
def test_trials_are_far_fewer_than_the_grid(parts):
    chosen = infae.select(parts.train, parts, metric=METRIC)
    n_regs = len({row["reg"] for row in chosen.trials})
    grid = np.prod([len(choices) for choices in SPACE.values()]) * n_regs
    assert 15 < len(chosen.trials) < min(100, grid / 10)
    for name, choices in SPACE.items():
        assert {row[name] for row in chosen.trials} <= set(choices)


def test_the_published_setting_comes_first(found):
    assert {**PUBLISHED, "reg": 4.0}.items() <= found.trials[0].items()
    published = {name: InfiniteAE().get_params()[name] for name in SETTING}
    assert published == PUBLISHED
    assert found.trials[0][METRIC] <= best_of(found.trials)[METRIC]


def test_too_little_memory_is_said_before_any_trial(parts, monkeypatch):
    monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: 1000)
    with pytest.raises(MemoryError, match="inner products, kernel matrix and inverse of 57 users"):
        select(parts.train, parts)


# --- fixed choices, and one's own -----------------------------------------------------------------


def test_what_is_given_is_fixed(parts):
    chosen = select(parts.train, parts, depth=2, popularity_power=-0.3, b_std=0.2)
    for row in chosen.trials:
        assert (row["depth"], row["popularity_power"], row["b_std"]) == (2, -0.3, 0.2)
    assert {row["row_power"] for row in chosen.trials} <= set(SMALL["row_power"])
    assert chosen.model.get_params()["depth"] == 2


def test_with_all_fixed_it_chooses_reg(parts):
    chosen = select(parts.train, parts, **PUBLISHED)
    assert len({row["reg"] for row in chosen.trials}) == len(chosen.trials) > 2
    assert_allclose(chosen.trials[0][METRIC], value_of(fitted({**PUBLISHED, "reg": 4.0}, parts.train), parts))


def test_a_space_of_ones_own(parts):
    space = {"depth": np.array([4, 3]), "popularity_power": [-1.0, 0.5]}
    trials = select(parts.train, parts, space=space).trials
    climbed = [row for row in trials if setting_of(row) != PUBLISHED]
    assert {row["depth"] for row in climbed} <= {3, 4}
    assert {row["popularity_power"] for row in climbed} <= {-1.0, 0.5}
    # Nothing said of row powers, they stay where the climbs begin.
    assert {row["row_power"] for row in climbed} <= {0.5, 1.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": {"reg": (1, 2), "depth": (1,)}}, "space has reg; it takes some of depth, row_power"),
        ({"space": {"width": (1,), "b_std": (0.0,)}}, "space has b_std, width; it takes"),
        ({"space": {"depth": ()}}, "choices of depth is an empty sequence"),
        ({"space": {"row_power": (0.0, 1.0, 0.5)}}, r"choices of row_power .* got \(0.0, 1.0, 0.5\)"),
        ({"space": {"depth": (1, 2, 2)}}, "choices of depth must be different"),
        ({"space": {"depth": (0.5, 1.5)}}, "depth must be a whole number"),
        ({"space": {"depth": (-1, 0)}}, "depth must be a whole number"),
        ({"reg": 3.0}, "reg is not a parameter of select"),
        ({"kernel": np.dot}, "kernel is not a parameter of select"),
        ({"item_weights": np.ones(N_ITEMS)}, "item_weights is not a parameter of select"),
        ({"metric": "HR"}, "unknown metric 'HR'"),
        ({"n_screen": 0}, "n_screen must be a whole number of at least 1, got 0"),
        ({"refit": True, "validation": None}, "refit needs validation clicks of the users of X"),
        ({"validation": np.eye(3)}, "got ndarray"),
    ],
)
def test_bad_choices_are_refused(given, message, parts):
    with pytest.raises(ValueError, match=message):
        select(parts.train, **{"validation": parts, **given})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"solver": "cholesky"}, "solver must be one of"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"depth": 1.5}, "depth must be a whole number"),
        ({"b_std": -1.0}, "b_std"),
        ({"anchors": "all"}, "anchors must be"),
    ],
)
def test_bad_parameters_are_refused_before_the_search(params, message, parts, searches):
    with pytest.raises(ValueError, match=message):
        select(parts.train, parts, **params)
    assert searches == []


def test_an_unknown_parameter_is_refused(parts):
    with pytest.raises(TypeError, match="alpha"):
        select(parts.train, parts, alpha=1)


def test_blocks_are_refused(parts):
    with pytest.raises(ValueError, match="clicks in memory"):
        select(Blocks(lambda: [parts.train.matrix], N_ITEMS), parts)


def test_refit_is_refused_where_the_users_are_others(parts, others):
    with pytest.raises(ValueError, match="refit needs validation clicks"):
        select(others.train, others, refit=True)
    turned = parts.train.select_users(np.arange(N_USERS)[::-1])
    with pytest.raises(ValueError, match="row by row"):
        select(turned, parts, refit=True)


# --- more users than are searched on --------------------------------------------------------------


@pytest.fixture(scope="module")
def screened(parts):
    return select(parts.train, parts, n_screen=25)


@pytest.mark.slow
def test_the_search_is_on_some_users_and_the_two_best_are_fitted_to_all(screened, parts):
    few, whole = screened.trials[:-6], screened.trials[-6:]
    assert {row["users"] for row in few} == {25}
    assert {row["users"] for row in whole} == {57}
    best = {}
    for row in few:
        key = tuple(setting_of(row).values())
        best[key] = max(best.get(key, (-1, 0)), (row[METRIC], -row["reg"]))
    two = sorted(best.values(), reverse=True)[:2]
    for finalist, (value, reg) in zip((whole[:3], whole[3:]), two, strict=True):
        (setting,) = {tuple(setting_of(row).values()) for row in finalist}
        assert best[setting] == (value, reg)
        assert_allclose([row["reg"] for row in finalist], -reg * np.array([0.5, 1, 2]))
    for row in whole:
        assert_allclose(row[METRIC], value_of(fitted(row, parts.train), parts), rtol=1e-12)
        assert row["residual"] < 1e-9


def test_the_best_finalist_is_chosen(screened, parts):
    best = best_of(screened.trials[-6:])
    assert_array_equal(screened.model.predict(parts.train), fitted(best, parts.train).predict(parts.train))


def test_the_users_searched_on_are_drawn_from_all(parts, searches):
    chosen = select(parts.train, parts, n_screen=25, space={"popularity_power": (0.0, -0.5)}, depth=1)
    data = searches[0].data
    ids = data.users.user_ids
    assert np.unique(ids).size == 25
    rows = ids - 100
    for part, whole in (
        (data.users, parts.train),
        (data.split.train, parts.train),
        (data.split.validation, parts.validation),
    ):
        assert_array_equal(part.user_ids, ids)
        assert_array_equal(part.matrix.toarray(), whole.matrix.toarray()[rows])
    # By the weights that all users' clicks give.
    row = next(row for row in chosen.trials if row["popularity_power"] == -0.5)
    weights = np.maximum(popularity(parts.train.matrix), 1) ** -0.5
    model = fitted({**row, "popularity_power": 0.0}, data.users, item_weights=weights)
    assert_allclose(row[METRIC], value_of(model, data.split), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("validated", [True, False])
def test_the_draw_is_the_seeds(validated, parts):
    first, again, other = (
        select(parts.train, parts if validated else None, n_screen=25, space={"row_power": (0.0, 0.5)}, seed=seed)
        for seed in (0, 0, 1)
    )
    assert values(first) == values(again)
    assert first.trials[0][METRIC] != other.trials[0][METRIC]
    assert_array_equal(first.model.predict(parts.train), again.model.predict(parts.train))


@pytest.mark.slow
def test_other_users_validate_the_search_on_some(others, searches):
    chosen = select(others.train, others, n_screen=25, space={"row_power": (0.0, 0.5)})
    assert searches[0].data.split is others
    for row, users in ((chosen.trials[0], searches[0].data.users), (chosen.trials[-1], others.train)):
        assert row["users"] == users.n_users
        assert_allclose(row[METRIC], value_of(fitted(row, users), others), rtol=1e-12)


def test_without_validation_the_best_of_some_users_is_fitted_to_all(parts):
    chosen = select(parts.train, n_screen=25, space={"row_power": (0.0, 0.5)})
    assert {row["users"] for row in chosen.trials} == {25}
    model = fitted(best_of(chosen.trials), parts.train)
    assert_array_equal(chosen.model.predict(parts.train), model.predict(parts.train))


# --- solves that fail -----------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    """Makes the search's solves at some regs fail, by an error or by a warning."""
    import infae.tuning.search as module

    real = module.solve

    def fail(error):
        def solve(factored, targets, *, strict):
            if error(factored.reg):
                raise SingularKernelError("no")
            return real(factored, targets, strict=strict)

        monkeypatch.setattr("infae.tuning.search.solve", solve)

    return fail


def test_a_reg_whose_solve_fails_is_never_chosen(found, parts, failing):
    # Among them the best, so that it would be chosen.
    failed = found.model.reg_
    failing(lambda reg: reg >= failed)
    chosen = select(parts.train, parts)
    bad = [row for row in chosen.trials if row["reg"] >= failed]
    assert bad
    assert np.isnan([[row[METRIC], row["residual"]] for row in bad]).all()
    assert all(np.isfinite(row[METRIC]) for row in chosen.trials if row["reg"] < failed)
    assert chosen.model.reg_ < failed
    assert chosen.model.reg_ == best_of(chosen.trials)["reg"]
    assert "nan" not in chosen.table(3)


def test_a_start_that_fails_is_left_for_a_larger_reg(parts, failing):
    failing(lambda reg: reg < 6)
    chosen = select(parts.train, parts, space={})
    assert np.isnan(chosen.trials[0][METRIC])
    assert chosen.model.reg_ >= 8


def test_no_usable_trial_is_an_error(parts, failing):
    failing(lambda reg: True)
    with pytest.raises(SingularKernelError, match=r"none of \d+ trials gave a usable model"):
        select(parts.train, parts)


@pytest.fixture
def failing_finalists(monkeypatch):
    """Makes the first so many solves of all users fail."""
    import infae.solvers.exact as module

    real, calls = module._residual, []

    def fail(n):
        def checked(factored, targets):
            if factored.gram.n == 57 and len(calls) < n:
                calls.append(1)
                raise SingularKernelError("no")
            return real(factored, targets)

        monkeypatch.setattr(module, "_residual", checked)

    return fail


def test_a_finalist_that_fails_leaves_the_other(screened, parts, failing_finalists):
    failing_finalists(3)
    chosen = select(parts.train, parts, n_screen=25)
    assert np.isnan([row[METRIC] for row in chosen.trials[-6:-3]]).all()
    assert [row["reg"] for row in chosen.trials] == [row["reg"] for row in screened.trials]
    assert setting_of(chosen.model.get_params()) == setting_of(screened.trials[-1])


def test_finalists_that_all_fail_are_an_error(parts, failing_finalists):
    failing_finalists(6)
    with pytest.raises(SingularKernelError, match="no finalist gave a usable model"):
        select(parts.train, parts, n_screen=25)


# --- what is told ---------------------------------------------------------------------------------


def test_the_table_is_markdown_best_first(found, screened):
    header, rule, *rows = found.table(4).splitlines()
    names = [cell.strip() for cell in header.strip("|").split("|")]
    assert names == [*SETTING, "reg", "users", METRIC, "value", "seconds"]
    assert rule == "|" + "---:|" * len(names)
    cells = [dict(zip(names, (cell.strip() for cell in row.strip("|").split("|")), strict=True)) for row in rows]
    assert len(cells) == 4
    in_order = [float(row[METRIC]) for row in cells]
    assert in_order == sorted(in_order, reverse=True)
    best = best_of(found.trials)
    assert all(float(cells[0][name]) == float(f"{best[name]:.4g}") for name in (*SETTING, "reg", METRIC))
    assert len(found.table(1000).splitlines()) == len(found.trials) + 2
    # Those of all users before those of some, whatever their values.
    assert [row.split("|")[6].strip() for row in screened.table(7).splitlines()[2:]] == ["57"] * 6 + ["25"]


def test_of_equal_trials_the_chosen_one_is_listed_first():
    trials = tuple({"reg": reg, "users": 1000, "value": 0.5, "residual": 0.0} for reg in (4.0, 8.0))
    table = infae.Selection(InfiniteAE(), trials).table()
    assert table.splitlines()[2:] == ["| 4 | 1,000 | 0.5 |", "| 8 | 1,000 | 0.5 |"]


def test_the_same_search_twice_gives_the_same(found, parts):
    again = select(parts.train, parts)
    assert values(again) == values(found)
    assert_array_equal(again.model.predict(parts.train), found.model.predict(parts.train))


def test_progress_is_shown_where_it_is_asked_for(parts, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for asked in (False, True):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        select(parts.train, parts, space={}, progress=asked)
        assert ("select" in terminal.getvalue()) == asked
        assert bool(terminal.getvalue()) == asked


def test_validation_clicks_are_matched_by_item(parts):
    turned = parts.validation.item_ids[::-1]
    moved = Interactions(parts.validation.matrix[:, ::-1].sorted_indices(), parts.validation.user_ids, turned)
    space = {"row_power": (0.0, 0.5, 1.0)}
    one, other = (select(parts.train, held_out, space=space) for held_out in (parts.validation, moved))
    assert [row[METRIC] for row in one.trials] == [row[METRIC] for row in other.trials]


def test_a_mesh_is_refused_and_the_space_respected(parts):
    with pytest.raises(ValueError, match="one device; leave out mesh"):
        select(parts.train, parts, mesh=jax.make_mesh((1,), ("users",)))
    assert {row["depth"] for row in select(parts.train, parts, space={"depth": (2, 3)}).trials} == {2, 3}


def test_the_seed_is_the_models_too(parts):
    assert select(parts.train, parts, space={"row_power": (0.5,)}, seed=3).model.seed == 3
