"""Other implementations of the PyTorch competitors; skipped where they are not installed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("cornac", reason="needs the peers extra")
pytest.importorskip("torch_geometric", reason="needs the peers extra")

import infae
from experiments.recommenders import PopRec, peers
from experiments.recommenders.registry import Search
from experiments.training.trainer import one_thread
from infae.data import random_split
from infae.data.synthetic import synthetic

SHORT = [
    pytest.param(peers.bpr, {"max_iter": 100, "learning_rate": 0.05}, id="bpr"),
    pytest.param(peers.neumf, {"num_epochs": 15, "lr": 0.005}, id="neumf"),
    pytest.param(peers.vaecf, {"n_epochs": 60}, id="vaecf"),
    pytest.param(peers.lightgcn, {"n_epochs": 60, "learning_rate": 0.02, "num_layers": 2}, id="lightgcn"),
]


@pytest.fixture(scope="module")
def split():
    log = synthetic(200, 60, mean_clicks=12, n_groups=4, seed=0).interactions
    return random_split(log, seed=0)


@pytest.mark.parametrize(("train", "params"), SHORT)
def test_every_peer_learns_more_than_popularity(train, params, split):
    scores, _ = train(split.train, 0, **params)
    model = peers.Trained(scores, split.train.user_ids, split.train.item_ids)
    ours = infae.evaluate(model, split, k=(10,))["NDCG@10"]
    assert np.isfinite(scores).all()
    assert ours > 1.1 * infae.evaluate(PopRec().fit(split.train), split, k=(10,))["NDCG@10"]


@pytest.mark.parametrize(("train", "params"), SHORT)
def test_a_peer_depends_on_its_seed_and_leaves_torchs_generator_alone(train, params, split):
    before = torch.random.get_rng_state()
    params = {name: 1 if name in ("max_iter", "num_epochs", "n_epochs") else value for name, value in params.items()}
    with one_thread():  # as `choose` trains: sums over edges come out in one order
        first, again, other = (train(split.train, seed, **params)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_items_that_nobody_clicked_come_last(split):
    matrix = split.train.matrix.tolil()
    matrix[:, 7] = 0
    clicks = split.train.with_matrix(matrix.tocsr())
    scores, _ = peers.bpr(clicks, 0, max_iter=1)
    np.testing.assert_array_equal(scores[:, 7], scores.min(axis=1))


def test_rows_are_found_by_user_and_other_users_are_refused(split):
    users = split.train
    model = peers.Trained(np.arange(users.n_users)[:, None] * np.ones(users.n_items), users.user_ids, users.item_ids)
    some = users.select_users(np.array([5, 3]))
    np.testing.assert_array_equal(model.predict(some)[:, 0], [5, 3])
    fewer = peers.Trained(model.scores[:4], users.user_ids[:4], users.item_ids)
    with pytest.raises(ValueError, match="1 users were not trained on"):
        fewer.predict(some)


def test_the_best_on_validation_is_kept(split, tmp_path):
    made = []

    def train(clicks, seed, value, shift):
        made.append(shift)
        scores = np.tile(np.roll(np.arange(clicks.n_items, dtype=float), shift), (clicks.n_users, 1))
        return scores, {"n_epochs": 10 * shift}

    search = Search("NDCG@10", shared=str(tmp_path))
    model, chosen = peers.choose(train, {"shift": (1, 17, 30)}, split.train, split, search)
    values = [row["NDCG@10"] for row in chosen["tried"]]
    assert [(row["shift"], row["n_epochs"]) for row in chosen["tried"]] == [(1, 10), (17, 170), (30, 300)]
    assert chosen["NDCG@10"] == max(values)
    assert infae.evaluate(model, split, "validation", k=(10,))["NDCG@10"] == pytest.approx(max(values))
    # Kept: only the best is made once more.
    again, chosen_again = peers.choose(train, {"shift": (1, 17, 30)}, split.train, split, search)
    assert chosen_again == chosen
    assert made == [1, 17, 30, chosen["shift"]]
    np.testing.assert_array_equal(again.scores, model.scores)


def test_lightgcn_keeps_the_epoch_that_is_best_on_validation(split):
    values = iter([0.2, 0.5, 0.4, 0.5])
    _, settled = peers.lightgcn(
        split.train, 0, lambda scores: next(values), n_epochs=100, learning_rate=0.02, num_layers=1
    )
    assert settled == {"n_epochs": 50}
