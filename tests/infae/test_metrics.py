import importlib

import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks

import infae
from infae.data import Interactions, user_split
from infae.ranking import metrics
from infae.ranking.top_n import recommend

SHAPE = (5, 9)
# Few values, so that most scores are tied; both zeros among them.
SCORES = arrays(np.float32, SHAPE, elements=st.sampled_from([-1.5, -0.0, 0.0, 0.5, 2.0]))
# Each item is neither in the context nor held out, one of these, or both.
PLACES = arrays(np.int8, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 2, 3]))
WEIGHTS = np.linspace(1, 4, SHAPE[1])
KS = (1, 3, 9, 20)


def context_and_targets(places):
    return (sp.csr_matrix(part.astype(np.float32)) for part in (places & 1, places >> 1))


def items_of(row):
    return set(np.flatnonzero(row).tolist())


class Fixed:
    """Recommends by a table of scores, whatever the history; rows are found by user id."""

    def __init__(self, scores):
        self.scores, self.shown = scores, []

    def predict(self, histories):
        self.shown.append(histories)
        return self.scores[histories.user_ids]


@pytest.fixture
def scorer(split):
    rng = np.random.default_rng(5)
    return Fixed(rng.integers(0, 6, split.train.shape).astype(np.float32))


# --- against loops over sorted lists --------------------------------------------------------------


@given(SCORES, PLACES)
def test_list_metrics_equal_loops_over_sorted_lists(scores, places):
    context, targets = context_and_targets(places)
    ranks = metrics.held_out_ranks(scores, context, targets)
    for k in KS:
        expected = {"hit_rate": [], "recall": [], "ndcg": [], "psp": [], "psp_printed": []}
        for row, place in zip(scores, places, strict=True):
            ranked, held_out = oracles.ranking(row, items_of(place & 1)), items_of(place & 2)
            for name, values in expected.items():
                weights = (WEIGHTS,) if name.startswith("psp") else ()
                values.append(getattr(oracles, name)(ranked, held_out, k, *weights))
        for name, values in expected.items():
            weights = (WEIGHTS,) if name.startswith("psp") else ()
            assert_allclose(getattr(metrics, name)(ranks, k, *weights), values, rtol=1e-12, err_msg=f"{name}@{k}")


@given(SCORES, PLACES)
def test_auc_equals_counting_pairs(scores, places):
    context, targets = context_and_targets(places)
    expected = [
        oracles.auc(row, items_of(place & 1), items_of(place & 2)) for row, place in zip(scores, places, strict=True)
    ]
    assert_allclose(metrics.auc(metrics.held_out_ranks(scores, context, targets)), expected, rtol=1e-12)


@given(SCORES, PLACES)
def test_ranks_are_places_in_the_recommended_list(scores, places):
    context, targets = context_and_targets(places)
    ranks = metrics.held_out_ranks(scores, context, targets)
    histories = Interactions(context, np.arange(SHAPE[0]), np.arange(SHAPE[1]))
    items, _ = recommend(lambda shown: scores[: shown.shape[0]], histories, n=SHAPE[1], exclude_seen=True, items=None)
    for user, item, rank in zip(ranks.user, ranks.item, ranks.rank, strict=True):
        if places[user, item] & 1:
            assert item not in items[user]
            assert rank >= SHAPE[1]
        else:
            assert items[user, rank] == item


@given(arrays(np.float64, 12, elements=st.sampled_from([0.0, 1.0, 2.0])), st.integers(1, 11))
def test_pooled_auc_equals_counting_pairs(scores, n):
    assert metrics.pooled_auc(scores[:n], scores[n:]) == pytest.approx(oracles.pair_auc(scores[:n], scores[n:]))


def test_auc_equals_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, (6, 50)).astype(np.float32)
    targets = random_clicks(6, 50, density=0.2)
    ranks = metrics.held_out_ranks(scores, sp.csr_matrix((6, 50), dtype=np.float32), sp.csr_matrix(targets))
    assert_allclose(metrics.auc(ranks), [roc_auc_score(t, s) for t, s in zip(targets, scores, strict=True)], rtol=1e-12)
    pooled = metrics.pooled_auc(scores[targets == 1], scores[targets == 0])
    assert pooled == pytest.approx(roc_auc_score(targets.ravel(), scores.ravel()))


def test_an_auc_without_pairs_is_undefined():
    assert np.isnan(metrics.pooled_auc(np.zeros(0), np.ones(3)))
    assert np.isnan(metrics.pooled_auc(np.ones(3), np.zeros(0)))


# --- known values ---------------------------------------------------------------------------------


def test_a_list_worked_out_by_hand():
    scores = np.array([[9, 8, 7, 6, 5, 4]], np.float32)
    context, targets = sp.csr_matrix([[1, 0, 0, 0, 0, 0]]), sp.csr_matrix([[0, 0, 1, 0, 0, 1]])
    ranks = metrics.held_out_ranks(scores, context, targets)
    assert_array_equal(ranks.rank, [1, 4])
    assert_array_equal(metrics.hit_rate(ranks, 1), [0])
    assert_array_equal(metrics.hit_rate(ranks, 2), [1 / 2])
    assert_array_equal(metrics.recall(ranks, 5), [1])
    assert_allclose(metrics.ndcg(ranks, 2), [(1 / np.log2(3)) / (1 + 1 / np.log2(3))])
    assert_allclose(metrics.auc(ranks), [(2 / 3 + 0) / 2])


def test_scores_that_differ_in_double_precision_only():
    scores = np.array([[1.0, 1.0 + 1e-12, 0.0, 1.0 - 1e-12]])
    ranks = metrics.held_out_ranks(scores, sp.csr_matrix((1, 4)), sp.csr_matrix(np.array([[1.0, 1.0, 0, 0]])))
    assert_array_equal(ranks.rank, [1, 0])
    assert_array_equal(metrics.auc(ranks), [1.0])


def test_a_held_out_item_in_the_context_is_never_found():
    seen = sp.csr_matrix(np.array([[1.0, 0, 0]]))
    ranks = metrics.held_out_ranks(np.zeros((1, 3), np.float32), seen, seen)
    assert_array_equal(metrics.hit_rate(ranks, 100), [0])


def test_inverse_propensity_equals_the_formula(clicks):
    assert_allclose(metrics.inverse_propensity(clicks.matrix), oracles.inverse_propensity(clicks.matrix), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_cannot_be_ranked(bad):
    scores = np.zeros((1, 3), np.float32)
    scores[0, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        metrics.held_out_ranks(scores, sp.csr_matrix((1, 3)), sp.csr_matrix((1, 3)))


def test_ranks_need_arrays_of_one_shape():
    with pytest.raises(ValueError, match=r"context \(1, 4\), targets \(1, 3\)"):
        metrics.held_out_ranks(np.zeros((1, 3)), sp.csr_matrix((1, 4)), sp.csr_matrix((1, 3)))


# --- sampled negatives ----------------------------------------------------------------------------


@given(PLACES)
def test_sampled_negatives_were_never_clicked(places):
    context, targets = context_and_targets(places)
    rows, items = metrics.sample_negatives(context, targets, 7, np.random.default_rng(0))
    assert not places[rows, items].any()
    assert_array_equal(np.bincount(rows, minlength=SHAPE[0]), 7 * (places == 0).any(axis=1))


def test_sampled_negatives_go_by_the_generator():
    context, targets = (sp.csr_matrix(random_clicks(6, 30, seed=s)) for s in range(2))
    draws = [metrics.sample_negatives(context, targets, 9, np.random.default_rng(seed))[1] for seed in (1, 1, 2)]
    assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


# --- evaluate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["validation", "test"])
def test_evaluate_equals_loops_over_users(on, split, scorer):
    report = infae.evaluate(scorer, split, on=on, k=(3, 50))
    train = split.train.matrix.toarray()
    context = train if on == "validation" else train + split.validation.matrix.toarray()
    targets = split.targets(on).matrix.toarray()
    weights = oracles.inverse_propensity(train)
    expected = {name: [] for name in report if name != "AUC-sampled"}
    for scores, seen, held_out in zip(scorer.scores, map(items_of, context), map(items_of, targets), strict=True):
        ranked = oracles.ranking(scores, seen)
        for k in (3, 50):
            expected[f"HR@{k}"].append(oracles.hit_rate(ranked, held_out, k))
            expected[f"Recall@{k}"].append(oracles.recall(ranked, held_out, k))
            expected[f"NDCG@{k}"].append(oracles.ndcg(ranked, held_out, k))
            expected[f"PSP@{k}"].append(oracles.psp(ranked, held_out, k, weights))
            expected[f"PSP-printed@{k}"].append(oracles.psp_printed(ranked, held_out, k, weights))
        expected["AUC"].append(oracles.auc(scores, seen, held_out))
    for name, values in expected.items():
        assert_allclose(report.per_user[name], values, rtol=1e-12, err_msg=name)
        assert report[name] == pytest.approx(np.mean(values))


def test_a_report_is_a_mapping_of_shares(split, scorer):
    report = infae.evaluate(scorer, split, k=[2])
    assert list(report) == ["HR@2", "Recall@2", "NDCG@2", "PSP@2", "PSP-printed@2", "AUC", "AUC-sampled"]
    assert len(report) == 7
    assert all(0 <= value <= 1 for value in report.values())
    assert repr(report).startswith("40 users")
    assert "NDCG@2" in repr(report)


def test_the_sampled_auc_is_near_the_pooled_one_and_goes_by_the_seed(split, scorer):
    shown = split.context("test").matrix.toarray() > 0
    wanted = split.test.matrix.toarray() > 0
    pooled = oracles.pair_auc(scorer.scores[wanted], scorer.scores[~wanted & ~shown])
    sampled = [infae.evaluate(scorer, split, n_negatives=200, seed=seed)["AUC-sampled"] for seed in (0, 0, 1)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert sampled[0] == pytest.approx(pooled, abs=0.05)


def test_users_with_nothing_held_out_are_counted_apart(split, scorer):
    test = split.test.matrix.toarray()
    test[[0, 7, 39]] = 0
    fewer = infae.Split(split.train, split.validation, split.test.with_matrix(sp.csr_matrix(test)))
    report, full = (infae.evaluate(scorer, s, k=(3,)) for s in (fewer, split))
    assert report.n_skipped == 3
    assert_array_equal(report.users, np.setdiff1d(np.arange(40), [0, 7, 39]))
    assert_array_equal(report.per_user["NDCG@3"], full.per_user["NDCG@3"][report.users])
    assert report["NDCG@3"] == pytest.approx(report.per_user["NDCG@3"].mean())


def test_blocks_of_users_change_nothing(split, scorer, monkeypatch):
    whole = infae.evaluate(scorer, split, k=(3,))
    monkeypatch.setattr(importlib.import_module("infae.machine"), "batch_size", lambda n_items: 16)
    blocks = infae.evaluate(scorer, split, k=(3,))
    assert max(shown.n_users for shown in scorer.shown[1:]) == 16
    for name, values in whole.per_user.items():
        assert_array_equal(blocks.per_user[name], values)


@pytest.mark.parametrize("n_items", [1, 20, 100_000, 1 << 25, 1 << 30])
def test_blocks_of_users_are_bounded(n_items):
    size = importlib.import_module("infae.machine").batch_size(n_items)
    assert size in (8, 16, 32, 64, 128, 256, 512)
    assert size * n_items <= 1 << 26 or size == 8


def test_held_out_users_are_scored_from_their_own_context():
    split = user_split(oracles.random_interactions(40, 12, density=0.5), seed=2)
    scorer = Fixed(np.random.default_rng(0).random((40, 12)))
    report = infae.evaluate(scorer, split, on="test", k=(3,))
    shown = scorer.shown[0]
    assert_array_equal(shown.user_ids, split.test.user_ids)
    assert_array_equal(shown.matrix.toarray(), split.test_context.matrix.toarray())
    assert len(report.users) == split.test.n_users


def test_whole_numbers_are_scores(split, scorer):
    counts = Fixed(scorer.scores.astype(np.int64))
    assert dict(infae.evaluate(counts, split)) == dict(infae.evaluate(scorer, split))


@pytest.mark.parametrize("k", [10, np.int64(10), (), (0,), (2.5,), "10", ("10",)])
def test_bad_cut_offs(k, split, scorer):
    with pytest.raises(ValueError, match=r"^k (must be a|is an empty)"):
        infae.evaluate(scorer, split, k=k)


def test_an_array_of_cut_offs(split, scorer):
    assert "HR@5" in infae.evaluate(scorer, split, k=np.array([5]))


def test_a_bad_part(split, scorer):
    with pytest.raises(ValueError, match="'validation', 'test', got 'train'"):
        infae.evaluate(scorer, split, on="train")


def test_nothing_to_find(split, scorer):
    nothing = split.test.emptied()
    with pytest.raises(ValueError, match="no test clicks to find"):
        infae.evaluate(scorer, infae.Split(split.train, split.validation, nothing))


def test_a_model_that_predicts_another_shape(split):
    with pytest.raises(ValueError, match=r"shape \(40, 19\) for histories of shape \(40, 20\)"):
        infae.evaluate(Fixed(np.zeros((40, 19))), split)


def test_a_model_that_predicts_nan(split):
    with pytest.raises(ValueError, match="NaN or infinity"):
        infae.evaluate(Fixed(np.full((40, 20), np.nan)), split)


@pytest.mark.parametrize(("name", "k"), [("HR@100", (100,)), ("PSP-printed@5", (5,)), ("AUC", (1,))])
def test_metric_names(name, k):
    assert importlib.import_module("infae.ranking.evaluate").metric_k(name) == k


def test_evaluate_aligns_items_by_id(split):
    turned = np.arange(split.train.n_items)[::-1]
    moved = infae.Interactions(split.train.matrix[:, turned], split.train.user_ids, split.train.item_ids[turned])
    moved.matrix.sort_indices()
    straight, crossed = infae.fit(split.train, 1.0), infae.fit(moved, 1.0)
    assert infae.evaluate(crossed, split, k=(3,))["NDCG@3"] == pytest.approx(
        infae.evaluate(straight, split, k=(3,))["NDCG@3"], abs=1e-6
    )
