"""AR-CF's user generator in PyTorch, and EASE on its users."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

import infae
from infae.data import random_split
from infae.data.synthetic import synthetic

torch = pytest.importorskip("torch")

from experiments.infinite import augmentation, continual
from experiments.infinite.periods import drifting_log
from experiments.recommenders.arcf import ARCF, highest, nearest_users


@pytest.fixture(scope="module")
def planted():
    return synthetic(200, 80, n_groups=4, mean_clicks=10, seed=1)


@pytest.fixture(scope="module")
def trained(planted):
    return ARCF(64, n_epochs=40, batch_size=32, learning_rate=0.02).fit(planted.interactions)


def test_virtual_users_are_binary_rows_over_the_same_items(trained, planted):
    made = trained.generate(30, seed=2)
    assert made.shape == (30, 80)
    assert set(made.matrix.data) == {1.0}
    counts = np.diff(planted.interactions.matrix.indptr)
    assert np.isin(np.diff(made.matrix.indptr), counts).all()
    assert_array_equal(made.matrix.toarray(), trained.generate(30, seed=2).matrix.toarray())
    assert (made.matrix != trained.generate(30, seed=3).matrix).nnz
    assert trained.generate(500).n_users == 500


def test_a_repeated_click_counts_once(planted):
    repeated = planted.interactions.with_matrix(planted.interactions.matrix.multiply(2).tocsr())
    repeated.matrix.data[::3] = 1
    once, twice = (ARCF(8, n_epochs=2).fit(clicks) for clicks in (planted.interactions, repeated))
    assert once.path_ == twice.path_
    assert set(twice._clicks.matrix.data) == {1.0}
    assert not (once.generate(9).matrix != twice.generate(9).matrix).nnz
    assert set(repeated.matrix.data) == {1.0, 2.0}


def purity(clicks, item_group):
    """Mean share of a row's clicks in the group it has most of."""
    by_group = np.asarray([clicks.matrix[:, np.flatnonzero(item_group == g)].sum(axis=1) for g in range(4)])[..., 0]
    return (by_group.max(axis=0) / by_group.sum(axis=0)).mean()


def test_virtual_users_have_tastes_as_real_ones(trained, planted):
    untrained = ARCF(64, n_epochs=1, learning_rate=1e-9).fit(planted.interactions)
    real, made, none = (
        purity(clicks, planted.item_group)
        for clicks in (planted.interactions, trained.generate(100), untrained.generate(100))
    )
    assert made > none + 0.3 * (real - none)


def test_training_repeats_and_leaves_the_global_generator_alone(planted):
    state = torch.random.get_rng_state()
    first, second = (ARCF(8, n_epochs=2, seed=4).fit(planted.interactions) for _ in range(2))
    assert first.path_ == second.path_
    assert [row["epoch"] for row in first.path_] == [1, 2]
    assert torch.equal(state, torch.random.get_rng_state())


def test_nearest_users_are_those_of_highest_cosine():
    rows = (np.random.default_rng(0).random((20, 12)) < 0.4).astype(np.float32)
    rows[:, 0] = 1
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = unit @ unit.T - 9 * np.eye(20)
    for user, near in enumerate(nearest_users(sp.csr_matrix(rows), 3)):
        assert user not in near
        np.testing.assert_allclose(np.sort(similar[user, near]), np.sort(similar[user])[-3:], rtol=1e-6)


def test_highest_marks_as_many_as_asked():
    rows = highest(torch.tensor([[0.1, 0.9, 0.5], [3.0, 2.0, 1.0]]), torch.tensor([2, 1]))
    assert rows.tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("params", "message"),
    [({"n_epochs": 0}, "n_epochs"), ({"learning_rate": -1.0}, "learning_rate"), ({"seed": -1}, "seed")],
)
def test_bad_parameters_are_refused(params, message, planted):
    with pytest.raises(ValueError, match=message):
        ARCF(**params).fit(planted.interactions)


def test_what_cannot_be_generated_is_told(trained):
    with pytest.raises(infae.NotFittedError, match="call fit"):
        ARCF().generate(3)
    with pytest.raises(ValueError, match="n_users"):
        trained.generate(0)
    with pytest.raises(ValueError, match="at least two users"):
        ARCF().fit(np.ones((1, 3)))


def test_augmentation_trains_on_virtual_users(tmp_path, planted, monkeypatch):
    split = random_split(planted.interactions.select_users(np.arange(60)), seed=0)
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: split)
    config = augmentation.Config(
        sources=("AR-CF", "DISTILL-CF"), budgets=(5,), seeds=(0, 1), epochs=2, steps=3, metric="HR@10", plot=False,
        out=str(tmp_path), shared=str(tmp_path / "summaries"),
    )  # fmt: skip
    record = augmentation.run(config)
    assert sum(cell["source"] == "AR-CF" for cell in record["cells"]) == 2
    # With a single budget the most of AR-CF's users are no more than the fewest of DISTILL-CF's.
    assert len(record["claims"]) == 1
    assert "arcf.py" in " ".join(record["notes"])


def test_exemplars_by_the_code_of_mvae(tmp_path, monkeypatch):
    monkeypatch.setattr(continual, "drifting_log", lambda: drifting_log(60, 40, mean_clicks=8))
    seen = []
    real = continual.representation
    monkeypatch.setattr(continual, "representation", lambda *args: seen.append(real(*args)) or seen[-1])
    config = continual.Config(
        model="mvae", strategies=("ADER",), periods=3, budget=4, metric="HR@10", plot=False, out=str(tmp_path)
    )
    assert len(continual.run(config)["cells"]) == 2
    assert {vectors.shape[1] for vectors in seen} == {128}
