"""Coldness and depth: bins and hits counted by hand, and the studies' `run` on tiny data."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import infae
from experiments.infinite import coldness, depth
from experiments.infinite.bins import coldness_bins, held_out_ranks, items_served, users_served
from experiments.recommenders import PopRec
from experiments.recommenders import registry as models
from experiments.study.runner import METRICS
from infae.data import random_split
from infae.data.synthetic import synthetic


@pytest.fixture(scope="module")
def split():
    return random_split(synthetic(120, 60, n_groups=4, mean_clicks=10, seed=3).interactions, seed=0)


@pytest.fixture(autouse=True)
def small_data(split, monkeypatch):
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: split)


def test_bins_are_of_one_size_coldest_first_and_apart_from_the_never_seen():
    counts = np.array([5, 0, 1, 9, 2, 2, 0, 7, 3, 3])
    assert coldness_bins(counts, 4).tolist() == [3, 0, 1, 4, 1, 2, 0, 4, 2, 3]
    assert coldness_bins(counts, 8).tolist() == [6, 0, 1, 8, 2, 3, 0, 7, 4, 5]
    assert coldness_bins(counts, 1).tolist() == [1, 0, 1, 1, 1, 1, 0, 1, 1, 1]
    for n in (0, 9):
        with pytest.raises(ValueError, match="1 to 8 bins"):
            coldness_bins(counts, n)


def test_ranks_are_those_that_evaluate_counts(split, monkeypatch):
    monkeypatch.setattr("infae.machine.batch_size", lambda n: 32)
    model = infae.fit(split.train, 2.0)
    ranks, report = held_out_ranks(model, split), infae.evaluate(model, split, k=(5,))
    np.testing.assert_allclose(infae.metrics.hit_rate(ranks, 5)[report.users], report.per_user["HR@5"])
    assert ranks.n_held_out.sum() == split.test.n_interactions


def test_bins_are_served_as_counted_click_by_click(split):
    model = PopRec().fit(split.train)
    n_bins, k = 3, 8
    context, test = split.train.union(split.validation).matrix.toarray(), split.test.matrix.toarray()
    popularity = split.train.matrix.toarray().sum(axis=0)
    of_user = coldness_bins(split.train.matrix.toarray().sum(axis=1).astype(int), n_bins)
    of_item = coldness_bins(popularity.astype(int), n_bins)
    users, items = ([[] for _ in range(n_bins + 1)] for _ in range(2))
    for u in range(split.train.n_users):
        unseen = [i for i in range(60) if not context[u, i]]
        best = sorted(unseen, key=lambda i: (-popularity[i], i))[:k]
        wanted = np.flatnonzero(test[u])
        for item in wanted:
            items[of_item[item]].append(item in best)
        if wanted.size:
            users[of_user[u]].append(len(set(wanted) & set(best)) / min(k, wanted.size))
    ranks = held_out_ranks(model, split)
    for served, counted in ((users_served(ranks, of_user, k), users), (items_served(ranks, of_item, k), items)):
        np.testing.assert_allclose(served, [np.mean(c) if c else np.nan for c in counted[: served.size]])


def cold(folder, **settings):
    return coldness.Config(
        **{"dataset": "made", "bins": 3, "k": 10, "metric": "HR@10", "out": str(folder), **settings}
    )  # fmt: skip


@pytest.fixture(scope="module")
def chilled(tmp_path_factory, split):
    folder = tmp_path_factory.mktemp("coldness")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infae.data, "load", lambda *args, **kwargs: split)
        return cold(folder), coldness.run(cold(folder))


@pytest.mark.slow
def test_coldness_has_every_model_and_the_chosen_one(chilled, split):
    config, record = chilled
    assert [cell["model"] for cell in record["cells"]] == ["PopRec", "EASE", "∞-AE", "∞-AE, chosen"]
    assert {"coldness.png", "table.md", "record.json"} <= {path.name for path in Path(config.out).iterdir()}
    ranks = held_out_ranks(PopRec().fit(split.train), split)
    of_user = coldness_bins(np.diff(split.train.matrix.indptr), 3)
    assert record["cells"][0]["users 2"] == pytest.approx(users_served(ranks, of_user, 10)[2])
    sizes = [row[1] for row in record["tables"][0].rows if row[0].startswith("users")]
    assert sizes == ["40", "40", "40"]


def test_coldness_goes_on_where_it_was_stopped_and_refuses_other_settings(chilled, monkeypatch):
    config, record = chilled
    again = dataclasses.replace(models.MODELS["ease"], choose=lambda *args: pytest.fail("trained again"))
    monkeypatch.setitem(models.MODELS, "ease", again)
    assert coldness.run(dataclasses.replace(config, models=("ease",)))["cells"][0] == record["cells"][1]
    with pytest.raises(ValueError, match=r"other settings \(bins\)"):
        coldness.run(dataclasses.replace(config, bins=4))
    with pytest.raises(ValueError, match="expected some of popularity"):
        coldness.run(dataclasses.replace(config, models=("other",)))


@pytest.mark.parametrize("flag", ["k", "bins"])
def test_coldness_refuses_none_of_a_list_or_of_bins(flag, tmp_path):
    with pytest.raises(ValueError, match=f"--{flag} must be a whole number of at least 1"):
        coldness.run(cold(tmp_path, **{flag: 0}))


def test_models_trained_by_chance_have_a_cell_a_seed(tmp_path, split, monkeypatch):
    seeds = []

    def choose(clicks, split, search):
        assert search.shared == "shared"
        seeds.append(search.seed)
        return PopRec().fit(clicks), {"epoch": 3}

    monkeypatch.setitem(models.MODELS, "mf", models.Model("MF", choose, needs_torch=True))
    monkeypatch.setattr(models, "check_models", lambda names: None)
    record = coldness.run(
        cold(tmp_path, models=("popularity", "mf"), seeds=(3, 4), chosen=False, plot=False, shared="shared")
    )
    assert [(cell["model"], cell["seed"]) for cell in record["cells"]] == [("PopRec", 3), ("MF", 3), ("MF", 4)]
    assert seeds == [3, 4]
    assert record["claims"] == []


def claims_of_coldness(config, *rows):
    """The study's claims where a model's bins 0, 1, ... are served so, users and items alike; a row a seed."""
    cells = [
        {"model": model, **{f"{side} {b}": v for side in ("users", "items") for b, v in enumerate(values)}}
        for model, values in rows
    ]
    return list(coldness.claims(config, pd.DataFrame(cells)))


def test_claims_of_coldness_hold_or_not_as_the_figures_say(tmp_path):
    def holds(ours):
        rows = [("EASE", (9, 0.5, 0.4, 0.3)), ("∞-AE", ours), ("∞-AE, chosen", (9, 0.9, 0.9, 0.9))]
        return [claim.holds for claim in claims_of_coldness(cold(tmp_path), *rows)]

    assert holds((0, 0.6, 0.1, 0.4)) == [True, False, True, True]
    assert holds((0, 0.1, 0.5, 0.4)) == [False, True, True, True]


def test_competitors_hardly_ahead_are_called_level(tmp_path):
    def why(ours):
        rows = [("EASE", (9, 0.5, 0.4, 0.3)), ("MF", (9, 0.1, 0.4, 0.3)), ("∞-AE", ours)]
        return claims_of_coldness(cold(tmp_path), *rows)[0].why

    assert why((0, 0.6, 0.1, 0.298)) == "The models are level: no competitor is ahead by more than 0.20 points."
    assert why((0, 0.6, 0.1, 0.29)) == why((0, 0.6, 0.1, 0.4)) == ""


def test_claims_of_coldness_are_not_decided_where_a_rivals_seeds_reach_higher(tmp_path):
    rivals = [("MF", (9, 0.3, 0.1, 0.1)), ("MF", (9, 0.5, 0.1, 0.1)), ("EASE", (9, 0.1, 0.1, 0.1))]
    users, items = claims_of_coldness(cold(tmp_path), *rivals, ("∞-AE", (9, 0.45, 0.2, 0.2)))
    assert (users.holds, items.holds) == (None, True)
    assert users.found.startswith("bin 1 45.00 against 40.00 ± 14.14 of MF; bin 3 20.00")


def test_nothing_is_claimed_of_bins_that_are_empty_or_too_few(tmp_path):
    nothing = [("EASE", (0.5, *[np.nan] * 3)), ("∞-AE", (0.6, *[np.nan] * 3))]
    claims = claims_of_coldness(cold(tmp_path), *nothing)
    assert [claim.holds for claim in claims] == [None, None]
    assert {claim.found for claim in claims} == {"Nothing is held out there."}
    assert claims_of_coldness(cold(tmp_path, bins=2), ("EASE", (0, 0.1, 0.2)), ("∞-AE", (0, 0.2, 0.3))) == []


def shallow(folder, **settings):
    return depth.Config(
        **{
            "dataset": "made", "depths": (0, 1, 2, 3), "splits": (0, 5), "regs": (1.0, 5.0), "metric": "HR@10",
            "out": str(folder), **settings,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def deepened(tmp_path_factory, split):
    folder = tmp_path_factory.mktemp("depth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infae.data, "load", lambda *args, **kwargs: split)
        return shallow(folder), depth.run(shallow(folder))


@pytest.mark.slow
def test_depth_has_every_model_depth_and_split(deepened):
    _, record = deepened
    found = {(cell["model"], cell["depth"], cell["split"]) for cell in record["cells"]}
    assert found == {(m, d, s) for m in depth.POWERS for d in (0, 1, 2, 3) for s in (0, 5)}
    regs = {(cell["model"], cell["depth"], cell["split"]): cell["reg"] for cell in record["cells"]}
    assert all(regs[depth.SAME_REG, d, s] == regs[depth.PUBLISHED, 1, s] for d in (0, 1, 2, 3) for s in (0, 5))
    assert len(record["claims"]) == 6


def test_its_figures_are_those_of_a_fit(deepened, split):
    _, record = deepened
    cell = next(c for c in record["cells"] if (c["model"], c["depth"], c["split"]) == (depth.WEIGHTED, 2, 5))
    again = depth.resplit(split, 5)
    report = infae.evaluate(infae.fit(again.train, cell["reg"], depth=2, popularity_power=-0.25), again)
    assert cell["NDCG@10"] == pytest.approx(report["NDCG@10"], abs=1e-6)


def test_a_split_drawn_again_has_the_same_clicks_elsewhere(split):
    again = depth.resplit(split, 5)
    whole = [s.train.union(s.validation).union(s.test).matrix for s in (split, again)]
    assert not (whole[0] != whole[1]).nnz
    assert (split.train.matrix != again.train.matrix).nnz
    assert depth.resplit(split, 0) is split


def test_depth_goes_on_where_it_was_stopped_and_refuses_other_settings(deepened, monkeypatch):
    config, record = deepened
    monkeypatch.setattr(infae, "fit", lambda *args, **kwargs: pytest.fail("fitted again"))
    assert depth.run(dataclasses.replace(config, splits=(5,)))["cells"] == [
        cell for cell in record["cells"] if cell["split"] == 5
    ]
    with pytest.raises(ValueError, match=r"other settings \(regs\)"):
        depth.run(dataclasses.replace(config, regs=(1.0,)))


def cells_of(by_depth):
    return pd.DataFrame(
        [
            {"model": "some", "depth": d, "split": s, **dict.fromkeys(METRICS, v * (1 + s)), "reg": 1.0}
            for d, v in by_depth.items()
            for s in (0, 1)
        ]
    )


def test_figures_are_relative_to_the_best_depth_split_by_split():
    relative = depth.relative_to_best(cells_of({0: 0.4, 1: 0.2, 2: 0.1}))
    for metric in METRICS:
        np.testing.assert_allclose(relative[metric], [2, 2, 1, 1, 0.5, 0.5])


@pytest.mark.parametrize(
    ("by_depth", "holds"),
    [
        ({0: 0.9, 1: 0.2, 2: 0.3, 3: 0.1}, [True, True]),
        ({1: 0.2, 2: 0.1, 3: 0.3}, [False, False]),
        ({1: 0.3, 2: 0.1, 3: 0.2}, [True, False]),
        ({1: 0.3, 2: 0.1}, []),
    ],
)
def test_claims_of_depth_hold_or_not_as_the_figures_say(by_depth, holds):
    assert [claim.holds for claim in depth.claims(depth.relative_to_best(cells_of(by_depth)))] == holds


def test_claims_of_depth_are_not_decided_where_splits_differ():
    by_split = {0: {1: 0.30, 2: 0.29, 3: 0.31}, 1: {1: 0.40, 2: 0.38, 3: 0.35}}
    cells = pd.concat([cells_of(depths).query("split == 0").assign(split=s) for s, depths in by_split.items()])
    assert [claim.holds for claim in depth.claims(depth.relative_to_best(cells))] == [None, None]


def test_depths_are_called_alike_only_where_they_are():
    def why(by_depth, model="some"):
        (_, claim) = depth.claims(depth.relative_to_best(cells_of(by_depth).assign(model=model)))
        return claim.why

    assert why({1: 0.99, 2: 0.98, 3: 1.0}).startswith("Depths are nearly alike, each with a reg of its own: the worst")
    assert "2.00% below the best" in why({1: 0.99, 2: 0.98, 3: 1.0})
    assert "of its own" not in why({1: 0.99, 2: 0.98, 3: 1.0}, depth.SAME_REG)
    assert why({1: 0.99, 2: 0.96, 3: 1.0}) == ""


def test_metrics_by_which_deeper_is_better_are_named_where_they_are_few():
    def why(**other):
        cells = cells_of({1: 1.0, 2: 0.9, 3: 0.8})
        for metric, by_depth in other.items():
            cells[metric] = cells["depth"].map(by_depth)
        return next(depth.claims(depth.relative_to_best(cells))).why

    assert why(AUC={1: 0.9, 2: 0.9, 3: 1.0}) == (
        "Deeper is better by these metrics alone: AUC, by 10.000% of the best depth."
    )
    assert why(AUC={1: 1.0, 2: 0.9, 3: 1.0}) == ""
    assert why() == why(**{metric: {1: 0.1, 2: 0.1, 3: 1.0} for metric in METRICS}) == ""


def test_no_name_of_a_model_of_depth_holds_a_comma():
    assert not any("," in name for name in depth.POWERS)
