"""What every recommender of this project must do, and a data set whose right answers are known."""

from importlib.util import find_spec

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

import infae
from experiments.recommenders import EASE, BiasOnly, PopRec
from infae.data.synthetic import tiny

# Makers of unfitted recommenders; the personal ones learn which items go together.
PERSONAL = [
    pytest.param(lambda: infae.InfiniteAE(reg=0.1), id="InfiniteAE"),
    pytest.param(lambda: infae.InfiniteAE(reg=0.1, solver="cg"), id="InfiniteAE, cg", marks=pytest.mark.slow),
    pytest.param(lambda: EASE(reg=1.0), id="EASE"),
]
if find_spec("torch"):
    from experiments.recommenders.lightgcn import LightGCN
    from experiments.recommenders.mf import MF
    from experiments.recommenders.mvae import MVAE
    from experiments.recommenders.neumf import NeuMF

    PERSONAL += [
        pytest.param(lambda: MF(8, learning_rate=0.05, n_epochs=60), id="MF"),
        pytest.param(lambda: NeuMF(8, learning_rate=0.05, n_epochs=60), id="NeuMF"),
        pytest.param(lambda: LightGCN(8, learning_rate=0.05, n_epochs=60), id="LightGCN"),
        pytest.param(lambda: MVAE(8, n_hidden=20, learning_rate=0.02, n_epochs=60), id="MVAE"),
    ]
RECOMMENDERS = [*PERSONAL, pytest.param(PopRec, id="PopRec"), pytest.param(BiasOnly, id="BiasOnly")]


@pytest.fixture(params=RECOMMENDERS)
def recommender(request):
    return request.param()


@pytest.fixture
def fitted(recommender, clicks):
    return recommender.fit(clicks)


def test_fit_returns_the_recommender(recommender, clicks):
    assert recommender.fit(clicks) is recommender


@pytest.mark.parametrize("call", ["predict", "recommend"])
def test_nothing_is_predicted_before_fit(call, recommender, clicks):
    with pytest.raises(infae.NotFittedError):
        getattr(recommender, call)(clicks)


def test_every_user_gets_a_finite_score_of_every_item(fitted, clicks, new_users):
    for histories, n in ((clicks, 24), (clicks.to_frame(), 24), (new_users, 10), (sp.csr_matrix(new_users), 10)):
        scores = fitted.predict(histories)
        assert isinstance(scores, np.ndarray)
        assert scores.shape == (n, 16)
        assert np.isfinite(scores).all()


def test_an_empty_history_is_a_history(fitted):
    assert np.isfinite(fitted.predict(np.zeros((1, 16)))).all()
    items, scores = fitted.recommend(np.zeros((1, 16)), n=16)
    assert_array_equal(np.sort(items[0]), np.arange(16))
    assert np.isfinite(scores).all()


def test_scores_of_a_user_do_not_depend_on_who_else_asks(fitted, new_users):
    together = fitted.predict(new_users)
    for row in range(len(new_users)):
        np.testing.assert_allclose(fitted.predict(new_users[row : row + 1])[0], together[row], rtol=1e-4, atol=1e-5)


def test_unknown_items_are_refused(fitted):
    stranger = infae.Interactions.from_matrix(np.eye(2), item_ids=[3, 99])
    for histories in (stranger, stranger.to_frame(), np.ones((2, 17))):
        with pytest.raises(ValueError, match=r"unknown item id|fitted items"):
            fitted.predict(histories)


def test_seen_items_are_not_recommended(fitted, clicks):
    items, scores = fitted.recommend(clicks, n=5)
    assert items.shape == scores.shape == (24, 5)
    seen = clicks.matrix.toarray() > 0
    for row in range(24):
        left = items[row][items[row] >= 0]
        assert len(set(left)) == len(left) == min(5, (~seen[row]).sum())
        assert not seen[row, left].any()


def test_recommended_scores_descend_and_are_the_predicted_ones(fitted, clicks):
    items, scores = fitted.recommend(clicks, n=6, exclude_seen=False)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert_array_equal(scores, np.take_along_axis(fitted.predict(clicks), items, axis=1))


@pytest.mark.parametrize("make", RECOMMENDERS)
def test_the_same_data_gives_the_same_bits(make, clicks, new_users):
    first, second = (make().fit(clicks).predict(new_users) for _ in range(2))
    assert_array_equal(first, second)


def test_histories_are_not_changed(fitted, clicks):
    before = clicks.matrix.copy()
    fitted.recommend(clicks, n=3)
    assert (before != clicks.matrix).nnz == 0


def test_it_can_be_evaluated(fitted, recommender, split):
    report = infae.evaluate(recommender.fit(split.train), split)
    assert all(0 <= value <= 1 for value in report.values())


@pytest.mark.parametrize("make", PERSONAL)
def test_the_known_answer_is_found_for_every_user(make):
    split = tiny()
    model = make().fit(split.train)
    for on in ("validation", "test"):
        report = infae.evaluate(model, split, on=on, k=(1,))
        assert (report["HR@1"], report["NDCG@1"], report["AUC"]) == (1.0, 1.0, 1.0)
    users = np.flatnonzero(np.diff(split.test.matrix.indptr))
    items, _ = model.recommend(split.train.select_users(users), n=1)
    assert_array_equal(items[:, 0], split.test.item_ids[split.test.matrix[users].indices])
    # The name of a user says which item is missing: B3t0 misses b3.
    assert_array_equal(items[:, 0], [user[:2].lower() for user in split.train.user_ids[users]])
