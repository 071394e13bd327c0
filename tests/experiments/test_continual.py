"""Periods of a log, ADER's exemplars, and the study on them; and EASE on users made by others."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

import infae
from experiments.infinite import augmentation, continual
from experiments.infinite.exemplars import choose_exemplars, herd, seated_items
from experiments.infinite.periods import drifting_log, in_periods, stacked
from experiments.recommenders import registry as models
from experiments.study.runner import METRICS
from infae.data import random_split
from infae.data.synthetic import synthetic

# Three periods of four clicks: user, item, time.
BY_HAND = pd.DataFrame(
    [("a", 1, 10), ("a", 2, 11), ("b", 1, 12), ("b", 3, 13), ("a", 3, 20), ("a", 4, 21), ("c", 1, 22), ("c", 2, 23),
     ("c", 3, 30), ("d", 1, 31), ("d", 2, 32), ("b", 2, 33)],
    columns=["user_id", "item_id", "timestamp"],
)  # fmt: skip


def pairs(clicks):
    """{(user, item)} in original ids."""
    return set(clicks.to_frame().itertuples(index=False, name=None))


def test_periods_have_equally_many_clicks_in_order_of_time_however_the_log_is_ordered():
    shuffled = BY_HAND.sample(frac=1, random_state=0)
    periods = in_periods(shuffled, 3, shown=0.5)
    assert periods.period.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    both = [pairs(periods.clicks(periods.period == at)) for at in range(3)]
    assert both[0] == {("a", 1), ("a", 2), ("b", 1), ("b", 3)}
    assert both[2] == {("c", 3), ("d", 1), ("d", 2), ("b", 2)}


def test_the_last_clicks_in_the_next_period_are_found_from_everything_before_them():
    task = in_periods(BY_HAND, 3, shown=0.5).task(1)
    # c and b have a past and one click: it is found. d is new: the first is shown.
    assert pairs(task.test) == {("c", 3), ("d", 2), ("b", 2)}
    assert pairs(task.context("test")) == {*pairs(in_periods(BY_HAND, 3).clicks(np.arange(12) < 8)), ("d", 1)}


def test_with_nothing_shown_only_users_with_a_past_are_tested():
    task = in_periods(BY_HAND, 3, shown=0).task(1)
    assert pairs(task.test) == {("c", 3), ("b", 2)}


def test_equal_times_go_by_the_users_own_order():
    log = pd.DataFrame(
        {"user_id": 1, "item_id": [5, 6, 7, 8], "timestamp": 100, "time_rank": [3, 0, 2, 1]}, index=range(4)
    )
    assert in_periods(log, 2).item_ids[in_periods(log, 2).items].tolist() == [6, 8, 7, 5]


def test_a_repeated_click_counts_at_its_first_time():
    log = pd.concat([BY_HAND, BY_HAND.iloc[:2].assign(timestamp=99)])
    assert_array_equal(in_periods(log, 3).period, in_periods(BY_HAND, 3).period)


@pytest.fixture(scope="module")
def periods():
    return in_periods(drifting_log(120, 60, mean_clicks=10), 4, held_out=0.2)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_nothing_of_the_next_period_nor_of_validation_is_trained_on(at, periods):
    task, times = periods.task(at), {}
    for user, item, period in zip(periods.users, periods.items, periods.period, strict=True):
        times[user, item] = period
    held_out = pairs(task.validation)
    assert held_out
    for trained in (periods.current(at), periods.so_far(at), periods.own(at).train, task.context("validation")):
        assert max(times[click] for click in pairs(trained)) == at
        assert not pairs(trained) & (held_out | pairs(task.test))
    assert not pairs(task.context("test")) & pairs(task.test)
    assert {times[click] for click in pairs(task.test)} == {at + 1}
    assert pairs(periods.current(at)) | held_out == pairs(periods.clicks(periods.period == at))


def test_sessions_are_all_clicks(periods):
    split = periods.sessions()
    parts = (split.train, split.validation, split.test)
    assert sum(part.n_interactions for part in parts) == periods.users.size
    assert split.train.n_users == len(set(zip(periods.period.tolist(), periods.users.tolist(), strict=True)))


def test_the_made_log_drifts():
    log = drifting_log()
    early, late = (
        np.bincount(log["item_id"][part], minlength=160)
        for part in np.array_split(np.argsort(log["timestamp"]), 4)[::3]
    )
    halves = [np.bincount(log["item_id"][np.arange(len(log)) % 2 == k], minlength=160) for k in range(2)]
    assert np.corrcoef(early, late)[0, 1] < 0.8 * np.corrcoef(*halves)[0, 1]


@pytest.mark.parametrize(
    ("log", "settings", "message"),
    [
        (BY_HAND.drop(columns="timestamp"), {}, "no column timestamp"),
        (BY_HAND.assign(timestamp=[np.nan, *range(11)]), {}, "1 of 12 rows have no timestamp; fill them in"),
        (BY_HAND, {"n_periods": 1}, "n_periods must be a whole number of at least 2"),
        (BY_HAND, {"n_periods": 13}, "too few for 13"),
        (BY_HAND, {"shown": 1}, "shown must be"),
    ],
)
def test_logs_without_time_and_bad_shares_are_refused(log, settings, message):
    with pytest.raises(ValueError, match=message):
        in_periods(log, **{"n_periods": 3, **settings})


def slow_herd(unit, n):
    """All subsets grown one by one: the row that brings the mean of those chosen closest to all's."""
    chosen = []
    while len(chosen) < n:
        gaps = {
            row: np.linalg.norm(unit.mean(axis=0) - unit[[*chosen, row]].mean(axis=0))
            for row in range(len(unit))
            if row not in chosen
        }
        chosen.append(min(gaps, key=gaps.get))
    return chosen


def test_herding_is_the_greedy_choice():
    vectors = np.random.default_rng(0).standard_normal((15, 4))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert herd(unit, 6, np.ones(15, bool)).tolist() == slow_herd(unit, 6)
    assert 3 not in herd(unit, 14, np.arange(15) != 3)


def test_seats_are_proportional_to_frequency_up_or_down():
    matrix = sp.random_array((200, 12), density=0.3, rng=np.random.default_rng(1), format="csr")
    matrix = sp.csr_matrix((matrix > 0).astype(np.float32).multiply(np.linspace(0.1, 1, 12)))
    for n in (5, 40):
        due = n * np.asarray(matrix.sum(axis=0)).ravel() / matrix.sum()
        seats = np.bincount(seated_items(matrix, n), minlength=12)
        assert seats.sum() == n
        assert np.abs(seats - due).max() < 1


def test_exemplars_are_rows_with_their_item_all_different_and_the_budget_is_met():
    rows = sp.csr_matrix(np.random.default_rng(2).random((30, 8)) < 0.3, dtype=np.float32)
    vectors = np.random.default_rng(3).standard_normal((30, 5))
    for n in (0, 1, 7, 30):
        chosen = choose_exemplars(rows, vectors, n)
        assert len(set(chosen.tolist())) == n == chosen.size
    # One seat: its item, and the row nearest to the mean of those that have it.
    (only,) = choose_exemplars(rows, vectors, 1)
    (item,) = seated_items(rows, 1)
    members = np.flatnonzero(rows[:, [item]].toarray())
    unit = vectors[members] / np.linalg.norm(vectors[members], axis=1, keepdims=True)
    assert only == members[slow_herd(unit, 1)[0]]
    with pytest.raises(ValueError, match="at most the 30 rows"):
        choose_exemplars(rows, vectors, 31)


def test_rows_over_other_items_are_not_stacked(periods):
    with pytest.raises(ValueError, match="other items"):
        stacked(periods.current(0), infae.Interactions.from_matrix(np.eye(3)))


SMALL = {"periods": 3, "budget": 5, "steps": 3, "metric": "HR@10", "plot": False}
CONTINUAL = continual.Config(strategies=continual.STRATEGIES, **SMALL)


@pytest.fixture(autouse=True)
def small_log(monkeypatch):
    monkeypatch.setattr(continual, "drifting_log", lambda: drifting_log(120, 60, mean_clicks=10))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("continual")
    config = dataclasses.replace(CONTINUAL, out=str(folder), shared=str(folder / "summaries"), plot=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(continual, "drifting_log", lambda: drifting_log(120, 60, mean_clicks=10))
        return folder, config, continual.run(config)


@pytest.mark.slow
def test_the_study_has_a_cell_for_every_strategy_and_period(finished):
    folder, _, record = finished
    places = [(cell["strategy"], cell["period"], cell["seed"]) for cell in record["cells"]]
    assert sorted(places) == sorted((s, p, 0) for s in continual.STRATEGIES for p in (1, 2))
    assert {"means.png", "periods.png", "table.md", "record.json", "cells"} <= {p.name for p in folder.iterdir()}
    assert len(record["claims"]) == 4
    assert not any("exemplars" in cell for cell in record["cells"])


@pytest.mark.slow
def test_strategies_are_equal_without_a_past_and_have_the_same_budget_with_one(finished):
    cells = {(cell["strategy"], cell["period"]): cell for cell in finished[2]["cells"]}
    assert len({cells[s, 1]["NDCG@10"] for s in continual.STRATEGIES}) == 1
    own = cells[continual.INDIVIDUAL, 2]["rows"]
    for strategy in set(continual.STRATEGIES) - {continual.JOINT, continual.INDIVIDUAL}:
        assert cells[strategy, 2]["rows"] == own + 5


@pytest.mark.slow
def test_the_study_goes_on_where_it_was_stopped(finished, tmp_path, monkeypatch):
    _, config, record = finished
    config, calls = dataclasses.replace(config, out=str(tmp_path), strategies=(continual.ADER,), plot=False), []
    real = models.MODELS["ease"].choose

    def killed(clicks, split, search):
        calls.append(1)
        assert not search.tune
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(clicks, split, search)

    monkeypatch.setitem(models.MODELS, "ease", dataclasses.replace(models.MODELS["ease"], choose=killed))
    with pytest.raises(KeyboardInterrupt):
        continual.run(config)
    again = continual.run(config)["cells"]
    assert len(calls) == 3
    # The exemplars of the first period came from the file.
    wanted = [cell for cell in record["cells"] if cell["strategy"] == continual.ADER]
    assert [cell["NDCG@10"] for cell in again] == [cell["NDCG@10"] for cell in wanted]


@pytest.mark.slow
def test_other_settings_strategies_and_budgets_are_refused(finished, tmp_path):
    _, config, _ = finished
    with pytest.raises(ValueError, match=r"other settings \(budget\)"):
        continual.run(dataclasses.replace(config, budget=6))
    with pytest.raises(ValueError, match="unknown strategy other"):
        continual.run(dataclasses.replace(CONTINUAL, strategies=("other",), out=str(tmp_path)))
    with pytest.raises(ValueError, match="--budget"):
        continual.run(dataclasses.replace(CONTINUAL, budget=0, out=str(tmp_path)))
    with pytest.raises(ValueError, match="--periods must be a whole number of at least 3"):
        continual.run(dataclasses.replace(CONTINUAL, periods=2, out=str(tmp_path)))
    with pytest.raises(ValueError, match="unknown metric"):
        continual.run(dataclasses.replace(CONTINUAL, metric="HR", out=str(tmp_path)))
    with pytest.raises(ValueError, match="no raw log"):
        continual.run(dataclasses.replace(CONTINUAL, dataset="gowalla", out=str(tmp_path)))


def test_no_name_of_a_strategy_holds_a_comma():
    assert not any("," in name for name in continual.STRATEGIES)


@pytest.mark.slow
def test_a_budget_cut_to_a_periods_users_is_told(finished):
    _, config, _ = finished
    periods = in_periods(drifting_log(120, 60, mean_clicks=10), 3)
    n = periods.current(0).n_users
    assert "cut" not in " ".join(continual._notes(dataclasses.replace(config, budget=n), periods))
    *_, told = continual._notes(dataclasses.replace(config, budget=n + 1), periods)
    assert told == f"The budget of {n + 1} is cut to a period's users where they are fewer: {n} rows of period 1."


@pytest.mark.slow
def test_models_of_pytorch_are_told_to_be_at_their_defaults(finished):
    periods = in_periods(drifting_log(120, 60, mean_clicks=10), 3)
    for model, told in (("ease", False), ("mvae", True)):
        notes = " ".join(continual._notes(dataclasses.replace(finished[1], model=model), periods))
        assert ("No strategy is searched over a grid" in notes) is told


def claims_of_continual(by_strategy):
    """The study's claims where NDCG@10 is so in periods 1, 2, ...; a row a seed."""
    cells = [
        {"strategy": s, "period": at + 1, "seed": seed, **dict.fromkeys(METRICS, value)}
        for s, rows in by_strategy.items()
        for seed, row in enumerate(rows)
        for at, value in enumerate(row)
    ]
    return [*continual.claims(pd.DataFrame(cells))]


def test_claims_of_continual_hold_seed_by_seed():
    # Seeds are far apart, but of each seed the summary is ahead.
    ours = {continual.DISTILLED: [(0.1, 0.2, 0.3, 0.2), (0.1, 0.6, 0.7, 0.6)]}
    ader, ahead_in_mean = claims_of_continual({**ours, continual.ADER: [(0.1, 0.1, 0.2, 0.3), (0.1, 0.5, 0.6, 0.6)]})
    assert [ader.holds, ahead_in_mean.holds] == [True, True]
    assert ader.found.startswith("NDCG@10 35.00 ± 21.21 against 31.25 ± 19.45")
    assert "ahead in 2 of the 3 periods" in ader.found
    (joint,) = claims_of_continual({**ours, continual.JOINT: [(0.1, 0.1, 0.2, 0.1), (0.1, 0.6, 0.7, 0.7)]})
    assert joint.holds is None
    (alone,) = claims_of_continual({**ours, continual.INDIVIDUAL: ours[continual.DISTILLED]})
    assert alone.holds is False
    assert "may" in alone.why


@pytest.mark.slow
def test_augmentation_without_ar_cf(tmp_path, monkeypatch):
    split = random_split(synthetic(60, 40, n_groups=4, mean_clicks=8).interactions, seed=0)
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: split)
    config = augmentation.Config(
        budgets=(5,), steps=3, metric="HR@10", out=str(tmp_path), shared=str(tmp_path / "summaries")
    )
    record = augmentation.run(config)
    places = {(cell["source"], cell["users"]) for cell in record["cells"]}
    assert places == {(s, b) for s in config.sources for b in (5,)} | {("all users", 60)}
    assert augmentation.AUGMENTED not in config.sources
    assert (tmp_path / "augmentation.png").exists()
    for flags, message in (
        ({"sources": ("other",)}, "unknown source other"),
        ({"epochs": 0}, "--epochs must be"),
        ({"budgets": (5, 61)}, "from 1 to the 60"),
    ):
        with pytest.raises(ValueError, match=message):
            augmentation.run(dataclasses.replace(config, **flags))


def test_what_augmentation_searched_is_shared(tmp_path, monkeypatch):
    split = random_split(synthetic(60, 40, n_groups=4, mean_clicks=8).interactions, seed=0)
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: split)
    real, folders = models.MODELS["ease"].choose, []

    def choose(clicks, split, search):
        folders.append(search.shared)
        return real(clicks, split, search)

    monkeypatch.setitem(models.MODELS, "ease", models.Model("EASE", choose))
    config = {"sources": ("random users",), "budgets": (5,), "metric": "HR@10", "out": str(tmp_path), "plot": False}
    augmentation.run(augmentation.Config(shared="shared", **config))
    assert folders == ["shared", "shared"]


def claims_of_augmentation(budgets, **by_source):
    """The study's claims where HR@10 of seeds is so at each budget."""
    names = {"made": augmentation.AUGMENTED, "distilled": augmentation.DISTILLED, "random": augmentation.RANDOM_USERS}
    cells = [
        {"source": names[s], "users": n, "seed": seed, "HR@10": value}
        for s, rows in by_source.items()
        for n, row in zip(budgets, rows, strict=True)
        for seed, value in enumerate(row)
    ]
    config = augmentation.Config(sources=tuple(names[s] for s in by_source), budgets=budgets)
    return list(augmentation.claims(config, pd.DataFrame(cells)))


def test_claims_of_augmentation_are_decided_over_seeds():
    ours = [(0.3, 0.32), (0.5, 0.52)]
    found = claims_of_augmentation((5, 9), distilled=ours, made=[(0.2, 0.2), (0.2, 0.31)], random=[(0.4, 0.1)] * 2)
    assert [claim.holds for claim in found] == [True, None, None]
    assert "31.00 ± 1.41 against 20.00 ± 0.00 at 5" in found[0].found
    assert [c.holds for c in claims_of_augmentation((5, 9), distilled=ours, made=ours)] == [False, False]


def test_a_single_budget_claims_no_less_than_more_users():
    assert len(claims_of_augmentation((5,), distilled=[(0.3,)], made=[(0.2,)])) == 1
    assert claims_of_augmentation((5,), made=[(0.2,)], random=[(0.2,)]) == []


def test_ar_cf_without_pytorch_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(augmentation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="AR-CF needs PyTorch"):
        augmentation.run(augmentation.Config(sources=("AR-CF",), out=str(tmp_path)))
