"""What needs PyTorch: data sets made of clicks, and the models trained on them."""

import copy
import dataclasses
import inspect
import itertools
import subprocess
import sys
import textwrap
import tomllib
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge

import distillcf
import infae
from infae.data.synthetic import synthetic

torch = pytest.importorskip("torch")

from torch import nn
from torch.utils.data import DataLoader

from distillcf import torch_data
from distillcf.torch_data import Pairs, Triples, UserRows
from experiments.recommenders import PopRec, layers, neumf, ranking
from experiments.recommenders.layers import Dense, FoldIn, Sparse, initialise
from experiments.recommenders.lightgcn import Graph, LightGCN, Smoothing
from experiments.recommenders.mf import MF, Factors
from experiments.recommenders.mvae import MVAE, Autoencoder, Likelihood, unit
from experiments.recommenders.neumf import Network, NeuMF
from experiments.recommenders.ranking import Ranking
from experiments.recommenders.registry import MODELS, Search
from experiments.training import trainer as training
from experiments.training import tuning
from experiments.training.losses import bpr_loss, elbo_loss


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two are many times slower on such small layers where another process uses the cores."""
    with training.one_thread():
        yield


@pytest.fixture(scope="module")
def soft(clicks):
    """The clicks with values in (0, 1], as a distilled summary may have."""
    matrix = clicks.matrix.copy()
    matrix.data = np.random.default_rng(0).uniform(0.05, 1, matrix.nnz).astype(np.float32)
    return clicks.with_matrix(matrix)


def interactions(rows):
    return infae.Interactions.from_matrix(np.array(rows))


def columns(data):
    """The items of a data set, one after the other, as columns."""
    return [np.array(column) for column in zip(*(data[k] for k in range(len(data))), strict=True)]


def has(clicks, users, items):
    return clicks.matrix.toarray()[users, items] > 0


# --- data sets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [UserRows, Triples, Pairs])
def test_the_example_in_the_docstring_learns(kind):
    # The loader shuffles, and layers start, by the global generator.
    torch.manual_seed(0)
    clicks = synthetic(150, 60, n_groups=4, mean_clicks=12, focus=1.0, seed=1).interactions
    example = textwrap.dedent(inspect.getdoc(kind).split("Example:\n")[1])
    names = {"torch": torch, "nn": nn, "DataLoader": DataLoader, "clicks": clicks, kind.__name__: kind}
    losses = []
    record = "losses.append(float(loss.detach())), optimizer.zero_grad()"
    assert example.count("optimizer.zero_grad()") == 1
    exec(example.replace("optimizer.zero_grad()", record), names | {"losses": losses})
    per_epoch = np.array(losses).reshape(20, -1).mean(axis=1)
    assert per_epoch[-1] < 0.7 * per_epoch[0]


def test_a_summary_trains_a_module_of_ones_own(planted, planted_split):
    """As a user with nothing but the installed packages would."""
    summary = distillcf.distill(planted_split.train, 40, steps=20, seed=0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(planted_split.train.n_items, 16), nn.Tanh(), nn.Linear(16, 120))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(40):
        for rows in DataLoader(UserRows(summary), batch_size=16, shuffle=True):
            loss = -(rows * torch.log_softmax(net(rows), dim=1)).sum(1).mean()
            optimizer.zero_grad(), loss.backward(), optimizer.step()

    class Own:
        def predict(self, histories):
            with torch.no_grad():
                return net(torch.from_numpy(histories.matrix.toarray())).numpy()

    popular = infae.evaluate(PopRec().fit(planted_split.train), planted_split, k=(10,))
    assert infae.evaluate(Own(), planted_split, k=(10,))["NDCG@10"] > 1.5 * popular["NDCG@10"]


def test_without_pytorch_the_error_says_what_to_install():
    code = (
        "import sys, distillcf; print('torch' in sys.modules); sys.modules['torch'] = None; import distillcf.torch_data"
    )
    root = Path(torch_data.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "False"
    assert "ImportError: distillcf.torch_data needs PyTorch: pip install 'infae[torch]'" in done.stderr


def test_the_installed_packages_hold_the_data_sets():
    setuptools = pytest.importorskip("setuptools")
    root = Path(torch_data.__file__).parents[1]
    include = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {"infae", "distillcf"} <= set(setuptools.find_packages(str(root), include=include))
    assert Path(torch_data.__file__) == root / "distillcf" / "torch_data.py"


@pytest.mark.parametrize("kind", [UserRows, Triples, Pairs])
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_workers_hand_over_what_one_process_does(kind, soft):
    data = kind(soft)
    if kind is not UserRows:
        data.set_epoch(4)
    alone, together = (list(DataLoader(data, batch_size=7, num_workers=n, timeout=60 if n else 0)) for n in (0, 2))
    assert len(alone) == len(together) == -(-len(data) // 7)
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [UserRows, Triples, Pairs])
def test_a_summary_is_its_stored_binary_rows(kind, clicks):
    summary = distillcf.distill(clicks, 8, steps=1, objective="softmax", batch_size=32)
    of_summary, of_rows = (kind(source) for source in (summary, summary.interactions("hard")))
    assert len(of_summary) == len(of_rows) > 0
    for one, other in zip(of_summary, of_rows, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", [UserRows, Triples, Pairs])
def test_other_things_than_interactions_are_refused(kind):
    with pytest.raises(ValueError, match=r"expected a Summary or infae.Interactions, got ndarray.*from_matrix"):
        kind(np.eye(3))


def test_user_rows_are_the_rows(soft):
    data = UserRows(soft)
    assert len(data) == soft.n_users
    assert_array_equal(torch.stack([data[u] for u in range(len(data))]), soft.matrix.toarray())
    (batch,) = DataLoader(data, batch_size=len(data))
    assert (batch.dtype, batch.shape) == (torch.float32, soft.shape)
    assert_array_equal(batch, soft.matrix.toarray())


@pytest.mark.parametrize("n_negatives", [1, 3])
def test_triples_hold_every_click_and_no_click(n_negatives, clicks):
    users, positives, negatives = columns(Triples(clicks, n_negatives=n_negatives))
    stored = [(u, i) for u, i in np.argwhere(clicks.matrix.toarray()).tolist() for _ in range(n_negatives)]
    assert sorted(zip(users.tolist(), positives.tolist(), strict=True)) == stored
    assert not has(clicks, users, negatives).any()


def test_triples_come_out_of_a_loader_as_three_columns_of_integers(clicks):
    for batch in DataLoader(Triples(clicks), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(0)):
        assert [column.dtype for column in batch] == [torch.int64] * 3
        user, positive, negative = (column.numpy() for column in batch)
        assert has(clicks, user, positive).all()
        assert not has(clicks, user, negative).any()


def test_negatives_are_uniform_over_the_items_not_clicked():
    clicks = interactions([[1, 1, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 0, 1]])
    data, counts = Triples(clicks, seed=5), np.zeros(clicks.shape)
    for epoch in range(4000):
        data.set_epoch(epoch)
        np.add.at(counts, (data.users, data.negatives), 1)
    dense = clicks.matrix.toarray()
    n_free, n = (dense == 0).sum(1, keepdims=True), 4000 * dense.sum(1, keepdims=True)
    share = (dense == 0) / n_free
    assert_array_equal(counts.sum(1, keepdims=True), n)
    assert (np.abs(counts - n * share) <= 5 * np.sqrt(n * share * (1 - share))).all()


@pytest.mark.parametrize("kind", [Triples, Pairs])
def test_epochs_differ_and_repeat_whatever_came_before(kind, clicks):
    def drawn(seed, *epochs):
        data = kind(clicks, seed=seed)
        for epoch in epochs:
            data.set_epoch(epoch)
        return np.stack(columns(data)[:3])

    first = drawn(1)
    assert_array_equal(drawn(1, 0), first)
    assert_array_equal(drawn(1, 7, 3, 7), drawn(1, 7))
    assert (drawn(1, 7) != first).any()
    assert (drawn(2) != first).any()
    assert (drawn(1, 2) != drawn(2, 1)).any()


@pytest.mark.parametrize("kind", [Triples, Pairs])
def test_nothing_is_drawn_from_a_global_generator(kind, clicks):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    kind(clicks).set_epoch(1)
    assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_triples_carry_the_value_of_the_click(soft):
    data = Triples(soft, n_negatives=2)
    assert data.weights.dtype == np.float32
    assert_array_equal(data.weights, soft.matrix.toarray()[data.users, data.positives])


def test_users_of_every_item_are_left_out_of_triples_with_one_warning():
    with pytest.warns(UserWarning, match="2 of 4 users clicked every item") as caught:
        data = Triples(interactions([[1, 1, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]]))
    assert len(caught) == 1
    assert (data.users.tolist(), data.positives.tolist()) == ([1], [1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Triples(interactions([[1, 0, 1], [0, 0, 0]]))


def test_without_anything_to_draw_there_are_no_triples():
    with pytest.raises(ValueError, match="a user with an item clicked and one not clicked"):
        Triples(interactions([[1, 1], [0, 0]]))


@pytest.mark.parametrize("n", [0, -1, 1.0, True, None])
def test_a_bad_number_of_negatives_is_refused(n, clicks):
    with pytest.raises(ValueError, match="n_negatives must be a whole number of at least 1, got"):
        Triples(clicks, n_negatives=n)


@pytest.mark.parametrize("kind", [Triples, Pairs])
def test_bad_seeds_and_epochs_are_refused(kind, clicks):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to"):
        kind(clicks, seed=-1)
    with pytest.raises(ValueError, match="epoch must be a whole number of at least 0, got -1"):
        kind(clicks).set_epoch(-1)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.0, 5.5])
def test_pairs_are_all_clicks_and_so_many_others_of_each_user(ratio, clicks):
    users, items, labels = columns(Pairs(clicks, ratio, seed=3))
    dense = clicks.matrix.toarray()
    n = len(np.argwhere(dense))
    assert_array_equal(np.column_stack([users[:n], items[:n]]), np.argwhere(dense))
    assert_array_equal(labels, np.repeat([1, 0], [n, len(users) - n]))
    assert not has(clicks, users[n:], items[n:]).any()
    for user, row in enumerate(dense):
        others = items[n:][users[n:] == user]
        n_free = (row == 0).sum()
        assert len(others) == (round(ratio * row.sum()) if n_free else 0)
        assert len(set(others)) == len(others) or len(others) > n_free


def test_pairs_repeat_items_only_where_a_user_has_too_few():
    clicks = interactions([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    data = Pairs(clicks)
    drawn = [data.items[(data.users == user) & (data.labels == 0)].tolist() for user in range(4)]
    assert (len(drawn[0]), set(drawn[0]) <= {4, 5}) == (4, True)
    assert sorted(drawn[1]) == [3, 4, 5]
    assert drawn[2:] == [[], []]


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.5])
def test_every_set_of_items_is_equally_likely_in_pairs(ratio):
    # Of 5 items free, 2, 4 or 6 are drawn: by repeats, by what is left over, with repetition.
    clicks = interactions([[1, 1, 1, 1, 0, 0, 0, 0, 0]])
    data, counts, n = Pairs(clicks, ratio, seed=1), np.zeros((9, 9)), 6000
    for epoch in range(n):
        data.set_epoch(epoch)
        row = np.bincount(data.items[4:], minlength=9)
        counts += np.outer(row, row) if ratio < 1.2 else np.diag(row)
    together = counts[4:, 4:]
    assert not counts[:4].any()
    off = together[~np.eye(5, dtype=bool)]
    k = round(4 * ratio)
    assert_allclose(np.diag(together) / n, k / 5, atol=5 * np.sqrt(k / 5 / n))
    if ratio < 1.2:
        p = k * (k - 1) / 20
        assert_allclose(off / n, p, atol=5 * np.sqrt(p * (1 - p) / n))


def test_labels_are_soft_where_clicks_are_and_never_above_one(soft):
    data = Pairs(soft)
    assert_array_equal(data.labels[: soft.n_interactions], soft.matrix.data)
    batch = next(iter(DataLoader(data, batch_size=32)))
    assert [column.dtype for column in batch] == [torch.int64, torch.int64, torch.float32]
    twice = soft.with_matrix(sp.csr_matrix((soft.matrix > 0).astype(np.float32) * 2))
    assert Pairs(twice).labels.max() == 1


@pytest.mark.parametrize("ratio", [0, -1.0, np.nan, np.inf])
def test_a_bad_ratio_is_refused(ratio, clicks):
    with pytest.raises(ValueError, match="negative_ratio must be a finite number above 0"):
        Pairs(clicks, ratio)


def test_pairs_of_no_clicks_are_refused():
    with pytest.raises(ValueError, match="expected at least one click"):
        Pairs(interactions([[0, 0]]))


# --- MF, and what all share -------------------------------------------------------------------------------------


SMALL = {"n_factors": 8, "learning_rate": 0.02, "batch_size": 512}


@pytest.fixture(scope="module")
def planted():
    return synthetic(300, 120, n_groups=4, mean_clicks=20, seed=2)


@pytest.fixture(scope="module")
def planted_split(planted):
    return infae.data.random_split(planted.interactions, seed=0)


@pytest.fixture(scope="module")
def trained(planted_split):
    return MF(**SMALL, n_epochs=25).fit(planted_split.train)


def drawn(module, scale=1.0):
    """A module in float64, its parameters drawn anew, of that standard deviation."""
    rng = torch.Generator().manual_seed(1)
    for parameter in module.double().parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    return module


def scored(module, histories):
    """What a module makes of dense histories."""
    with torch.no_grad():
        return module.eval()(Sparse.of(sp.csr_matrix(histories))).numpy()


def arrays(*tensors):
    return [tensor.detach().numpy() for tensor in tensors]


def soft_ids(ids, n):
    """One-hot rows."""
    return nn.functional.one_hot(ids, n).float()


TRIPLES = [torch.tensor(column) for column in ([0, 1, 1, 3, 3], [2, 0, 4, 1, 1], [4, 1, 2, 0, 3])]
"""Users, positives and negatives, where users and items repeat."""
PAIRS = TRIPLES[0], torch.stack(TRIPLES[1:])


def test_the_loss_is_as_rendle_prints_it():
    margin, weights = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).abs()
    losses = [-w * np.log(1 / (1 + np.exp(-x))) for x, w in zip(margin.tolist(), weights.tolist(), strict=True)]
    assert_allclose(bpr_loss(margin, weights).item(), np.mean(losses), rtol=1e-12)


def test_mf_scores_pairs_as_it_is_written(clicks):
    module = drawn(Factors(*clicks.shape, 3))
    users, items, bias = arrays(module.users.weight, module.items.weight, module.bias)
    of_pairs = users @ items.T + bias
    found = module(*PAIRS).detach()
    assert_allclose(found, [[of_pairs[u, i] for u, i in zip(TRIPLES[0], of, strict=True)] for of in TRIPLES[1:]])
    assert_allclose(module(TRIPLES[0]).detach(), of_pairs[TRIPLES[0]])


MODULES = [
    pytest.param(lambda clicks: Factors(*clicks.shape, 3), id="MF"),
    pytest.param(lambda clicks: Network(*clicks.shape, 4, 2), id="NeuMF"),
    pytest.param(lambda clicks: Graph(clicks.matrix, 3, 2), id="LightGCN"),
]


@pytest.mark.parametrize("make", MODULES)
def test_soft_ids_serve_wherever_ids_do(make, clicks):
    module, (users, items) = make(clicks), PAIRS
    initialise(module, torch.Generator().manual_seed(0))
    n_users, n_items = clicks.shape
    hard = module(users, items)
    assert torch.equal(module(soft_ids(users, n_users), items), hard)
    assert torch.equal(module(users, soft_ids(items, n_items)), hard)
    assert torch.equal(module(soft_ids(users, n_users)), module(users))
    # Halfway between two ids, and a gradient to move by.
    half = ((soft_ids(users, n_users) + soft_ids(users.flip(0), n_users)) / 2).requires_grad_()
    module(half, items).sum().backward()
    assert half.grad.abs().min() > 0
    if not isinstance(module, Network):
        assert_allclose(module(half).detach(), (module(users) + module(users.flip(0))).detach() / 2, atol=1e-6)


@pytest.mark.parametrize("make", MODULES)
def test_pairs_and_all_items_are_scored_alike(make, clicks):
    module = make(clicks)
    initialise(module, torch.Generator().manual_seed(0))
    every = torch.arange(clicks.n_items)[:, None].expand(-1, 5)
    assert_allclose(module(TRIPLES[0]).detach(), module(TRIPLES[0], every).T.detach(), atol=1e-6)


@pytest.mark.parametrize("make", [*MODULES, pytest.param(lambda clicks: Autoencoder(16, 3, 1, 5), id="MVAE")])
def test_histories_can_be_moved_by_gradients(make, clicks):
    """As a model is inverted: from scores to the values of the clicks."""
    task = make(clicks)
    initialise(task, torch.Generator().manual_seed(0))
    if hasattr(task, "settle"):
        task.settle(torch.arange(clicks.n_users), Sparse.of(clicks.matrix))
    rows = Sparse.of(clicks.matrix)
    values = rows.values.clone().requires_grad_()
    task.eval()(rows.with_values(values)).square().sum().backward()
    assert torch.isfinite(values.grad).all()
    assert values.grad.abs().max() > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda clicks: Ranking(drawn(Factors(*clicks.shape, 3)), clicks, 0, "cpu"),
        lambda clicks: Ranking(drawn(Network(*clicks.shape, 4, 2)), clicks, 0, "cpu"),
        lambda clicks: Smoothing(drawn(Graph(clicks.matrix, 3, 2)), clicks, 0, "cpu", 0.1),
    ],
)
def test_the_gradient_is_that_of_finite_differences(make, clicks):
    task = make(clicks)
    batch = [column[::7] for column in task.examples(0)]

    def loss():
        (found,) = task.losses(torch.Generator(), *batch)
        return found

    loss().backward()
    rng = np.random.default_rng(0)
    for parameter in task.module.parameters():
        toward, step = torch.from_numpy(rng.standard_normal(parameter.shape)), 1e-6
        values, start = [], parameter.data
        for sign in (1, -1):
            parameter.data = start + sign * step * toward
            values.append(loss().item())
        parameter.data = start
        assert_allclose((values[0] - values[1]) / (2 * step), (parameter.grad * toward).sum(), rtol=1e-5, atol=1e-8)


def test_users_are_folded_in_by_ridge_regression_on_mean_item_vectors(soft, new_users):
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 3)).astype(np.float32) for n in soft.shape)

    def means(histories):
        return np.array([sum(x * q for x, q in zip(row, items, strict=True)) / row.sum() for row in histories])

    x, rows = means(soft.matrix.toarray()), np.unique(Triples(soft).users)
    penalty = layers.FOLD_IN_REG * np.trace(np.cov(x[rows].T, bias=True)) * len(rows) / 3
    ridge = Ridge(penalty).fit(x[rows], users[rows])
    fold_in, of_items = FoldIn(3), torch.from_numpy(items)
    fold_in.settle(torch.from_numpy(users[rows]), of_items, Sparse.of(soft.matrix[rows]))
    found = fold_in(Sparse.of(sp.csr_matrix(new_users)), of_items)
    assert_allclose(found[:-1], ridge.predict(means(new_users[:-1])), rtol=1e-4, atol=1e-4)
    # The last has no history.
    assert_allclose(found[-1], users[rows].mean(axis=0), rtol=1e-4, atol=1e-4)


def test_mf_scores_are_products_of_vectors_folded_in(clicks, new_users):
    task = Ranking(Factors(*clicks.shape, 3), clicks, 0, "cpu")
    task.settle()
    module = task.module
    histories = Sparse.of(sp.csr_matrix(new_users))
    vectors, items, bias = arrays(module.of_users(histories), module.items.weight, module.bias)
    wanted = [[p @ q + b for q, b in zip(items, bias, strict=True)] for p in vectors]
    assert_allclose(scored(module, new_users), wanted, rtol=1e-4, atol=1e-5)


def test_users_without_triples_have_no_part_in_the_fold_in():
    clicks = interactions([[1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]])
    with pytest.warns(UserWarning, match="clicked every item"):
        task = Ranking(Factors(5, 3, 3), clicks, 0, "cpu")
    task.settle()
    before = task.module.fold_in.weights.clone()
    task.module.users.weight.data[3:] = 1e6
    task.settle()
    assert torch.equal(task.module.fold_in.weights, before)


def test_planted_tastes_are_learned(planted, planted_split, trained):
    ours = infae.evaluate(trained, planted_split, k=(10,))
    popular = infae.evaluate(PopRec().fit(planted_split.train), planted_split, k=(10,))
    assert ours["NDCG@10"] > 2 * popular["NDCG@10"]
    items, _ = trained.recommend(planted_split.train, n=10)
    rows = planted_split.train.user_ids
    assert (planted.item_group[items] == planted.user_group[rows][:, None]).mean() > 0.8


def test_users_never_seen_are_ranked_too(planted):
    split = infae.data.user_split(planted.interactions, seed=1)
    ours, popular = (
        infae.evaluate(model.fit(split.train), split, k=(10,))["NDCG@10"]
        for model in (MF(**SMALL, n_epochs=25), PopRec())
    )
    assert ours > 1.8 * popular


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_training_depends_on_the_seed_alone(planted_split, trained):
    state, train = torch.get_rng_state(), planted_split.train
    again = MF(**SMALL, n_epochs=25).fit(train)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    assert_array_equal(again.predict(train), trained.predict(train))
    assert again.path_ == trained.path_
    assert (MF(**SMALL, n_epochs=25, seed=1).fit(train).predict(train) != trained.predict(train)).any()


def test_every_epoch_has_negatives_of_its_own_by_the_seed(monkeypatch, clicks):
    asked = []

    class Recorded(Triples):
        def __init__(self, clicks, seed):
            super().__init__(clicks, seed)
            asked[:] = [("seed", seed)]

        def set_epoch(self, epoch):
            asked.append(("epoch", epoch))
            super().set_epoch(epoch)

    monkeypatch.setattr(ranking, "Triples", Recorded)
    MF(**SMALL, n_epochs=3, seed=5).fit(clicks)
    assert asked == [("seed", 5), ("epoch", 0), ("epoch", 1), ("epoch", 2)]


def test_dropout_keeps_the_expected_vector():
    mask = layers.dropped(torch.ones(4000, 8), 0.3, torch.Generator().manual_seed(0))
    assert_allclose(np.unique(mask), [0, 1 / 0.7], rtol=1e-6)
    assert mask.mean().item() == pytest.approx(1, abs=0.02)


def test_the_loss_falls_and_is_recorded(trained):
    losses = [row["loss"] for row in trained.path_]
    assert [row["epoch"] for row in trained.path_] == list(range(1, 26))
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert losses[-1] < 0.6 * losses[0]
    assert trained.epoch_ == 25


def test_dropout_changes_training_and_not_prediction(planted_split, trained):
    plain = MF(**SMALL, n_epochs=25, dropout=0).fit(planted_split.train)
    assert plain.path_[-1]["loss"] < 0.9 * trained.path_[-1]["loss"]
    shown = planted_split.train.select_users(np.arange(5))
    assert_array_equal(trained.predict(shown), trained.predict(shown))


def test_stored_values_weigh_the_loss(planted_split):
    train = planted_split.train
    half, whole = (
        MF(**SMALL, n_epochs=3).fit(train.with_matrix(train.matrix * np.float32(value))) for value in (0.5, 1)
    )
    assert_allclose([row["loss"] for row in half.path_], [row["loss"] / 2 for row in whole.path_], rtol=1e-3)


def test_faint_clicks_count_for_little(planted):
    """Ten items more, each clicked by half of the users: in the lists of the other half, or not, by the value."""
    clicks = planted.interactions
    extra = sp.csr_matrix(np.random.default_rng(0).random((clicks.n_users, 10)) < 0.5, dtype=np.float32)

    def share(value):
        rows = infae.Interactions.from_matrix(sp.hstack([clicks.matrix, extra]))
        rows.matrix.data[rows.matrix.indices >= clicks.n_items] = value
        items, _ = MF(**SMALL, n_epochs=25).fit(rows).recommend(rows, n=5)
        return (items >= clicks.n_items).mean()

    assert share(1.0) > 0.3
    assert share(0.01) < 0.02


@pytest.mark.parametrize("as_interactions", [False, True])
def test_training_stops_early_and_keeps_the_best_state(as_interactions, planted_split):
    # So high a rate that validation soon gets worse.
    params = {"n_factors": 16, "learning_rate": 0.1, "batch_size": 512, "dropout": 0.0, "metric": "NDCG@10"}
    stopping = {"n_epochs": 60, "check_every": 2, "patience": 2}
    validation = planted_split.validation if as_interactions else planted_split
    model = MF(**params, **stopping).fit(planted_split.train, validation)
    looks = {row["epoch"]: row["NDCG@10"] for row in model.path_ if "NDCG@10" in row}
    assert list(looks) == list(range(2, len(model.path_) + 1, 2))
    assert model.epoch_ == max(looks, key=looks.__getitem__)
    assert len(model.path_) == model.epoch_ + 4 < 60
    value = infae.evaluate(model, planted_split, "validation", (10,))["NDCG@10"]
    assert value == looks[model.epoch_] > looks[len(model.path_)]
    # The state kept is that of a training that ended there.
    there = MF(**params, n_epochs=model.epoch_).fit(planted_split.train)
    assert_array_equal(there.predict(planted_split.train), model.predict(planted_split.train))


def test_the_last_epoch_is_looked_at(planted_split):
    model = MF(**SMALL, n_epochs=3).fit(planted_split.train, planted_split)
    assert [row["epoch"] for row in model.path_ if "HR@100" in row] == [model.epoch_] == [3]


def test_validation_items_are_matched_by_id(planted_split):
    order = np.random.default_rng(0).permutation(planted_split.train.n_items)

    def shuffled(clicks):
        moved = sp.csr_matrix(clicks.matrix[:, order])
        moved.sort_indices()
        return infae.Interactions(moved, clicks.user_ids, clicks.item_ids[order])

    other = infae.Split(*(shuffled(getattr(planted_split, part)) for part in ("train", "validation", "test")))
    params = {**SMALL, "n_epochs": 4, "check_every": 2, "metric": "NDCG@10"}
    paths = [MF(**params).fit(planted_split.train, split).path_ for split in (planted_split, other)]
    assert [row.get("NDCG@10") for row in paths[0]] == pytest.approx([row.get("NDCG@10") for row in paths[1]])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_factors": 0}, "n_factors must be a whole number of at least 1, got 0"),
        ({"n_epochs": 1.5}, "n_epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"check_every": 0}, "check_every must be"),
        ({"patience": 0}, "patience must be"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": np.nan}, "learning_rate must be a finite number above 0"),
        ({"dropout": 1.0}, "dropout must be a finite number at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"device": "abacus"}, "device must be a PyTorch device, such as 'cpu' or 'cuda', got 'abacus'"),
        ({"metric": "F1@10"}, "unknown metric 'F1@10'"),
    ],
)
def test_bad_parameters_are_refused(params, message, clicks):
    with pytest.raises(ValueError, match=message):
        MF(**params).fit(clicks)


def test_a_fit_that_fails_leaves_an_earlier_one_in_place(clicks):
    model = MF(**SMALL, n_epochs=2).fit(clicks)
    kept, scores = copy.copy(vars(model)), model.predict(clicks)
    model.learning_rate = 1e30
    with pytest.raises(FloatingPointError, match=r"MF: loss became nan in epoch \d+, float32.*use a smaller one"):
        model.fit(clicks)
    assert_array_equal(model.predict(clicks), scores)
    assert vars(model) == {**kept, "learning_rate": 1e30}


def test_a_metric_that_is_never_defined_is_told():
    # Both users have every item clicked or held out: there is no negative to count for AUC.
    train, held_out = interactions([[1, 1, 0], [0, 1, 1]]), interactions([[0, 0, 1], [1, 0, 0]])
    with pytest.raises(ValueError, match="AUC is not defined on this validation part"):
        MF(2, n_epochs=2, metric="AUC").fit(train, held_out)


def test_a_single_click_is_enough():
    model = MF(4, n_epochs=30, learning_rate=0.05).fit(interactions([[0, 1, 0]]))
    assert model.recommend(np.zeros((1, 3)), n=1)[0].tolist() == [[1]]


# --- NeuMF --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_layers", "widths"), [(1, [4]), (2, [4, 2]), (3, [4, 2, 1])])
def test_neumf_scores_are_its_network_pair_by_pair(n_layers, widths, clicks, new_users, monkeypatch):
    monkeypatch.setattr(neumf, "HIDDEN_VALUES", 3 * 16 * 4)
    task = Ranking(Network(*clicks.shape, 4, n_layers), clicks, 0, "cpu")
    initialise(task.module, torch.Generator().manual_seed(0))
    task.settle()
    module = task.module
    first_and_others = [module.first, *module.others]
    pairs = [arrays(layer.weight, layer.bias) for layer in first_and_others]
    users, items, bias = arrays(module.users.weight, module.items.weight, module.bias)
    h = np.concatenate(arrays(module.h_product, module.h_hidden.weight[:, 0]))
    assert [len(offset) for _, offset in pairs] == widths

    def score(p, i):
        z = np.concatenate([p, items[i]])
        for weights, offset in pairs:
            z = np.maximum(z @ weights + offset, 0)
        return h @ np.concatenate([p * items[i], z]) + bias[i]

    wanted = [[score(users[u], i) for u, i in zip(TRIPLES[0], of, strict=True)] for of in TRIPLES[1:]]
    assert_allclose(module(*PAIRS).detach(), wanted, rtol=1e-4, atol=1e-5)
    (vectors,) = arrays(module.of_users(Sparse.of(sp.csr_matrix(new_users))))
    assert_allclose(
        scored(module, new_users), [[score(p, i) for i in range(16)] for p in vectors], rtol=1e-4, atol=1e-5
    )


# --- LightGCN -----------------------------------------------------------------------------------


def normalised_graph(matrix):
    """He et al. 2020, Eq. 16: the whole adjacency matrix of users and items."""
    x = matrix.toarray().astype(float)
    whole = np.block([[np.zeros((len(x), len(x))), x], [x.T, np.zeros((x.shape[1], x.shape[1]))]])
    degrees = whole.sum(1)
    scale = np.where(degrees > 0, 1 / np.sqrt(np.where(degrees > 0, degrees, 1)), 0)
    return scale[:, None] * whole * scale


def smoothing(clicks, n_layers, l2=0.0):
    """Three factors, drawn and settled."""
    task = Smoothing(Graph(clicks.matrix, 3, n_layers), clicks, 0, "cpu", l2)
    initialise(task.module, torch.Generator().manual_seed(0))
    task.settle()
    return task


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_propagation_is_that_of_the_whole_graph(n_layers, soft):
    module, graph = smoothing(soft, n_layers).module, normalised_graph(soft.matrix)
    wanted = np.concatenate(arrays(module.users.weight, module.items.weight))
    for users, items in zip(*module.layers(), strict=True):
        assert_allclose(torch.cat([users, items]).detach(), wanted, rtol=1e-4, atol=1e-6)
        wanted = graph @ wanted


def test_the_history_of_a_training_user_has_the_trained_layers(soft):
    module = smoothing(soft, 3).module
    users, items = module.layers()
    found = list(module.propagated(Sparse.of(soft.matrix), items[:-1]))
    assert len(found) == len(users) - 1 == 3
    for ours, theirs in zip(found, users[1:], strict=True):
        assert_allclose(ours.detach(), theirs.detach(), rtol=1e-4, atol=1e-7)


def test_lightgcn_scores_are_products_of_mean_layers(soft, new_users):
    module = smoothing(soft, 2).module
    of_users, of_items = (layers.mean(0) for layers in module.layers())
    histories = Sparse.of(sp.csr_matrix(new_users))
    propagated = list(module.propagated(histories, module.layers()[1][:-1]))
    users = sum([module.of_users(histories), *propagated]) / 3
    assert_allclose(scored(module, new_users), (users @ of_items.T).detach(), rtol=1e-4, atol=1e-6)
    assert_allclose(module(TRIPLES[0]).detach(), (of_users[TRIPLES[0]] @ of_items.T).detach(), rtol=1e-4, atol=1e-6)
    # The last has no history.
    assert not any(layer[-1].any() for layer in propagated)
    assert_allclose(module.of_users(histories)[-1].detach(), module.users.weight.detach().mean(0), rtol=1e-4, atol=1e-6)


def test_the_loss_of_lightgcn_is_bpr_and_a_penalty_of_the_triples_vectors(soft):
    task = smoothing(soft, 2, l2=0.3)
    batch = [column[[0, 4, 5, 30]] for column in task.examples(0)]
    u, i, j, weights = (column.numpy() for column in batch)
    p, q = arrays(task.module.users.weight, task.module.items.weight)
    users, items = (layers.mean(0).detach().numpy() for layers in task.module.layers())
    margin = (users[u] * (items[i] - items[j])).sum(1)
    penalty = 0.3 / 2 * (p[u] ** 2 + q[i] ** 2 + q[j] ** 2).sum(1)
    (loss,) = task.losses(torch.Generator(), *batch)
    assert_allclose(loss.item(), (weights * np.log1p(np.exp(-margin)) + penalty).mean(), rtol=1e-5)


def test_items_of_nobody_have_their_own_vector_alone():
    module = smoothing(interactions([[1, 1, 0, 0], [0, 1, 1, 0]]), 2).module
    assert not module.item_layers[1:, 3].any()
    assert np.isfinite(scored(module, np.eye(4))).all()


# --- MVAE ---------------------------------------------------------------------------------------


def test_the_loss_of_mvae_is_that_of_distributions():
    rng = torch.Generator().manual_seed(0)
    logits, mean, log_variance = (torch.randn(5, n, generator=rng, dtype=torch.float64) for n in (7, 3, 3))
    clicks = torch.rand(5, 7, generator=rng).round().double()
    gaussian = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    divergence = torch.distributions.kl_divergence(gaussian, torch.distributions.Normal(0.0, 1.0)).sum(1)
    # But for the number of orders in which the clicks could have come.
    n = clicks.sum(1)
    orders = torch.lgamma(n + 1) - torch.lgamma(clicks + 1).sum(1)
    likelihood = [
        torch.distributions.Multinomial(int(n[u]), logits=logits[u]).log_prob(clicks[u]) - orders[u] for u in range(5)
    ]
    wanted = (0.3 * divergence - torch.stack(likelihood)).mean()
    assert_allclose(elbo_loss(logits, clicks, mean, log_variance, 0.3), wanted, rtol=1e-10)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_mvae_scores_by_the_mean(n_layers, new_users):
    module = Autoencoder(16, 3, n_layers, 5)
    initialise(module, torch.Generator().manual_seed(0))
    dense = [layer for part in (module.encoder, module.decode) for layer in part if isinstance(layer, Dense)]
    pairs = [arrays(layer.weight, layer.bias) for layer in dense]
    assert [weights.shape[1] for weights, _ in pairs] == [*[5] * n_layers, 6, *[5] * n_layers, 16]
    z = new_users / np.maximum(np.linalg.norm(new_users, axis=1, keepdims=True), 1e-9)
    for k, (weights, offset) in enumerate(pairs):
        z = z @ weights + offset
        if k == n_layers:
            z = z[:, :3]
        elif k < len(pairs) - 1:
            z = np.tanh(z)
    assert_allclose(scored(module, new_users), z, rtol=1e-4, atol=1e-5)
    assert_allclose(module(torch.from_numpy(new_users).float()).detach(), z, rtol=1e-4, atol=1e-5)


def test_mvae_trains_on_what_it_scores_by(soft):
    """Without dropout and noise, and at beta 0, its loss is the likelihood of its own scores."""
    task = Likelihood(soft, MVAE(3, n_hidden=5, dropout=0, beta=0))
    initialise(task.module, torch.Generator().manual_seed(0))
    variance = task.module.encoder[-1]
    variance.weight.data[:, 3:], variance.bias.data[3:] = 0, -200
    rows = soft.matrix.toarray()
    logits = scored(task.module, rows)
    wanted = -(rows * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean()
    (loss,) = task.losses(torch.Generator(), *task.examples(0))
    assert_allclose(loss.item(), wanted, rtol=1e-4)


def test_mvae_draws_the_clicks_to_hide_last_item_first(soft):
    """As for the records: SciPy's product, by which rows get length 1, turns their items around."""
    inputs = Likelihood(soft, MVAE(2, n_hidden=3))._inputs
    assert all((np.diff(row.indices) < 0).all() for row in inputs)
    assert_allclose(inputs.toarray(), unit(torch.from_numpy(soft.matrix.toarray())), rtol=1e-6)


def test_beta_grows_linearly_and_then_stays(clicks):
    task = Likelihood(clicks, MVAE(2, n_hidden=3, beta=0.4, anneal_epochs=4))
    betas = []
    for epoch in range(6):
        task.examples(epoch)
        betas.append(task.beta)
    assert betas == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4])


def test_users_without_clicks_have_no_part_in_mvae():
    clicks = interactions([[1, 1, 0], [0, 0, 0], [0, 1, 1]])
    fits = [MVAE(2, n_hidden=3, n_epochs=2).fit(rows) for rows in (clicks, clicks.select_users(np.array([0, 2])))]
    assert_array_equal(*(model.predict(np.eye(3)) for model in fits))
    with pytest.raises(ValueError, match="no clicks: all 2 users have empty rows"):
        MVAE(2).fit(interactions([[0, 0], [0, 0]]))


# --- all of them --------------------------------------------------------------------------------

OTHERS = [
    pytest.param(partial(NeuMF, 8, learning_rate=0.02, batch_size=512), id="NeuMF"),
    pytest.param(partial(LightGCN, 8, learning_rate=0.02, batch_size=512), id="LightGCN"),
    pytest.param(partial(MVAE, 8, n_hidden=40, learning_rate=0.005, batch_size=32), id="MVAE"),
]


@pytest.mark.parametrize("make", OTHERS)
def test_every_model_learns_planted_tastes(make, planted_split):
    model = make(n_epochs=25).fit(planted_split.train)
    ours = infae.evaluate(model, planted_split, k=(10,))
    popular = infae.evaluate(PopRec().fit(planted_split.train), planted_split, k=(10,))
    assert ours["NDCG@10"] > 2 * popular["NDCG@10"]
    losses = [row["loss"] for row in model.path_]
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("make", OTHERS)
def test_every_training_depends_on_the_seed_alone(make, planted_split):
    state, train = torch.get_rng_state(), planted_split.train
    one, same, other = (make(n_epochs=2, seed=seed).fit(train).predict(train) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("make", [pytest.param(partial(MF, 8, batch_size=512), id="MF"), *OTHERS])
def test_a_killed_training_of_every_model_goes_on_to_the_same_bits(make, planted_split, tmp_path):
    model, train = make(n_epochs=6, check_every=2), planted_split.train

    def killed(epoch, value):
        if epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(train, planted_split, checkpoint=tmp_path / "half.npz", report=killed)
    assert not hasattr(model, "module")
    looks = []
    model.fit(train, planted_split, checkpoint=tmp_path / "half.npz", report=lambda *look: looks.append(look[0]))
    whole = make(n_epochs=6, check_every=2).fit(train, planted_split)
    assert looks == [4, 6]
    assert (model.path_, model.epoch_) == (whole.path_, whole.epoch_)
    assert_array_equal(model.predict(train), whole.predict(train))


@pytest.mark.parametrize("make", [pytest.param(partial(MF, 8), id="MF"), *OTHERS])
def test_predictions_are_what_the_module_kept_gives(make, planted_split):
    train = planted_split.train
    model = make(n_epochs=1).fit(train)
    assert not model.module.training
    assert_array_equal(model.predict(train), scored(model.module, train.matrix))


@pytest.mark.parametrize("make", OTHERS)
def test_values_of_clicks_matter_to_every_model(make, planted_split):
    train = planted_split.train
    half = train.with_matrix(train.matrix * np.float32(0.5))
    # At the first epoch: what changes after it is more than the weight.
    losses = [make(n_epochs=1).fit(rows).path_[0]["loss"] for rows in (half, train)]
    assert losses[0] == pytest.approx(losses[1] / 2, rel=0.02)


@pytest.mark.parametrize("make", OTHERS)
def test_every_model_names_the_rate_at_which_it_diverged(make, clicks):
    with pytest.raises(FloatingPointError, match=r"became (nan|inf) in epoch \d+.*learning_rate = 1e\+30"):
        make(n_epochs=5, learning_rate=1e30).fit(clicks)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(NeuMF, 0), "n_factors must be a whole number of at least 1, got 0"),
        (partial(NeuMF, n_layers=0), "n_layers must be"),
        (partial(NeuMF, dropout=1), "dropout must be"),
        (partial(LightGCN, 0), "n_factors must be"),
        (partial(LightGCN, n_layers=0), "n_layers must be"),
        (partial(LightGCN, l2=-1.0), "l2 must be a finite number at least 0, got -1.0"),
        (partial(MVAE, 0), "n_factors must be"),
        (partial(MVAE, n_layers=1.5), "n_layers must be"),
        (partial(MVAE, n_hidden=0), "n_hidden must be"),
        (partial(MVAE, anneal_epochs=0), "anneal_epochs must be"),
        (partial(MVAE, dropout=-0.1), "dropout must be"),
        (partial(MVAE, beta=np.nan), "beta must be a finite number at least 0, got nan"),
    ],
)
def test_bad_parameters_of_every_model_are_refused(make, message, clicks):
    with pytest.raises(ValueError, match=message):
        make().fit(clicks)


# --- choosing -----------------------------------------------------------------------------------

STAGES = {"paper": {"n_factors": (1, 4), "dropout": (0.0, 0.5)}, "quick": {"n_factors": (1,)}, "smoke": {}}
WHOLE_GRID = {"learning_rate": (0.01, 0.02), "n_factors": (1, 4), "dropout": (0.0, 0.5)}
FIXED = {"learning_rate": 0.02, "batch_size": 512, "n_epochs": 5}


@pytest.fixture
def large(monkeypatch):
    """Data that are too large for the whole grid."""
    monkeypatch.setattr(tuning, "WHOLE_GRID_CLICKS", 0)


@pytest.mark.usefixtures("large")
def test_parameters_are_chosen_one_after_the_other(planted_split):
    search = Search("NDCG@10", "paper")
    model, found = tuning.choose(MF, STAGES, WHOLE_GRID, planted_split.train, planted_split, search, **FIXED)
    tried = found.pop("tried")
    assert [(row["n_factors"], row["dropout"]) for row in tried[:3]] == [(64, 0.5), (1, 0.5), (4, 0.5)]
    n_factors = max(tried[:3], key=lambda row: row["NDCG@10"])["n_factors"]
    assert [(row["n_factors"], row["dropout"]) for row in tried[3:]] == [(n_factors, 0.0)]
    assert found == max(tried, key=lambda row: row["NDCG@10"])
    assert (model.n_factors, model.dropout, model.epoch_, model.seed) == (*list(found.values())[:3], 0)
    assert infae.evaluate(model, planted_split, "validation", (10,))["NDCG@10"] == found["NDCG@10"]


def test_small_data_get_the_whole_grid_and_are_trained_with_patience(planted_split, tmp_path):
    search = Search("NDCG@10", "paper", shared=str(tmp_path))
    model, found = tuning.choose(MF, STAGES, WHOLE_GRID, planted_split.train, planted_split, search, **FIXED)
    tried = found.pop("tried")
    places = [tuple(row[name] for name in WHOLE_GRID) for row in tried]
    assert sorted(places) == sorted(itertools.product(*WHOLE_GRID.values()))
    assert found == max(tried, key=lambda row: row["NDCG@10"])
    assert infae.evaluate(model, planted_split, "validation", (10,))["NDCG@10"] == found["NDCG@10"]
    assert model.patience == tuning.WHOLE_GRID_PATIENCE
    other, found_other = tuning.choose(
        MF, STAGES, WHOLE_GRID, planted_split.train, planted_split, dataclasses.replace(search, seed=2), **FIXED
    )
    assert (other.seed, other.patience, found_other["tried"]) == (2, tuning.WHOLE_GRID_PATIENCE, tried)
    assert [getattr(other, name) for name in WHOLE_GRID] == [found[name] for name in WHOLE_GRID]
    # No other preset has so much time.
    quick = dataclasses.replace(search, preset="quick")
    *_, found = tuning.choose(MF, STAGES, WHOLE_GRID, planted_split.train, planted_split, quick, **FIXED)
    assert len(found["tried"]) == 2


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (MF, ("learning_rate", "n_factors", "dropout")),
        (neumf.NeuMF, ("learning_rate", "n_factors", "n_layers", "dropout")),
        (LightGCN, ("learning_rate", "n_factors", "n_layers")),
        (MVAE, ("learning_rate", "n_factors", "n_layers", "dropout")),
    ],
)
def test_every_whole_grid_is_table_3s(make, names):
    whole_grid = sys.modules[make.__module__].WHOLE_GRID
    table_3 = {
        "learning_rate": {0.001, 0.006, 0.01},
        "n_factors": {4, 8, 16, 32, 50, 64, 128},
        "n_layers": {1, 2, 3},
        "dropout": {0.0, 0.3, 0.5},
    }
    expected = {name: table_3[name] for name in names}
    if make is MVAE:
        expected["learning_rate"] = {0.001}
    assert {name: set(values) for name, values in whole_grid.items()} == expected
    largest = {name: max(values) for name, values in whole_grid.items()}
    assert make(**largest).n_factors == 128


@pytest.mark.parametrize("at_most", [0, 10**6])
def test_a_search_that_was_stopped_goes_on_and_finds_the_same(planted_split, tmp_path, monkeypatch, at_most):
    monkeypatch.setattr(tuning, "WHOLE_GRID_CLICKS", at_most)
    trainings = []

    def choose(folder, stop_at):
        class Counted(MF):
            def fit(self, *args, **options):
                if len(trainings) == stop_at:
                    raise KeyboardInterrupt
                trainings.append(dict(vars(self)))
                return super().fit(*args, **options)

        search = Search("NDCG@10", "paper", shared=str(tmp_path / folder))
        _, found = tuning.choose(Counted, STAGES, WHOLE_GRID, planted_split.train, planted_split, search, **FIXED)
        return found

    with pytest.raises(KeyboardInterrupt):
        choose("stopped", 3)
    found = choose("stopped", -1)
    made, trainings[:] = [*trainings], []
    assert found == choose("whole", -1)
    # The same ones, once each; the best is trained again where it was found before the stop.
    assert made[: len(trainings)] == trainings
    assert len(made) - len(trainings) == (found["tried"].index(max(found["tried"], key=lambda r: r["NDCG@10"])) < 3)


@pytest.mark.usefixtures("large")
def test_a_search_is_kept_for_the_next_study_and_other_seeds_train_with_what_it_found(planted_split, tmp_path):
    def choose(seed, **fixed):
        trainings = []

        class Counted(MF):
            def fit(self, *args, **options):
                trainings.append(self.seed)
                return super().fit(*args, **options)

        search = Search("NDCG@10", "paper", seed, shared=str(tmp_path))
        fixed = {**FIXED, **fixed}
        chosen = tuning.choose(Counted, STAGES, WHOLE_GRID, planted_split.train, planted_split, search, **fixed)
        return *chosen, len(trainings)

    first, found, n = choose(0)
    assert n == 4
    again, found_again, n = choose(0)
    assert n == 1
    assert found_again == found
    np.testing.assert_array_equal(again.predict(planted_split.train), first.predict(planted_split.train))
    other, found_other, n = choose(3)
    assert n == 1
    assert (other.seed, other.n_factors, found_other["tried"]) == (3, first.n_factors, found["tried"])
    # Another setting is another search.
    *_, n = choose(0, n_epochs=2)
    assert n == 4


@pytest.mark.usefixtures("large")
def test_another_grid_is_another_search(planted_split, tmp_path):
    search = Search("NDCG@10", "paper", shared=str(tmp_path))
    stages = {**STAGES, "paper": {"n_factors": (2, 4), "dropout": (0.0,)}}
    for tried in (STAGES, stages):
        _, found = tuning.choose(MF, tried, WHOLE_GRID, planted_split.train, planted_split, search, **FIXED)
    assert [(row["n_factors"], row["dropout"]) for row in found["tried"][:3]] == [(64, 0.5), (2, 0.5), (4, 0.5)]


def test_as_many_settings_as_asked_are_drawn_by_tpe_and_more_go_on(planted_split, tmp_path):
    def choose(n_trials):
        search = Search("NDCG@10", "quick", shared=str(tmp_path), n_trials=n_trials)
        return tuning.choose(MF, STAGES, WHOLE_GRID, planted_split.train, planted_split, search, **FIXED)

    _, few = choose(3)
    assert len(few["tried"]) == 3
    assert all(row[name] in WHOLE_GRID[name] for row in few["tried"] for name in WHOLE_GRID)
    model, more = choose(5)
    assert more["tried"][:3] == few["tried"]
    assert more["NDCG@10"] == max(row["NDCG@10"] for row in more["tried"])
    assert infae.evaluate(model, planted_split, "validation", (10,))["NDCG@10"] == more["NDCG@10"]


@pytest.mark.parametrize("prune", [False, True])
def test_trainings_below_the_median_are_ended_where_asked(planted_split, prune):
    def train(params, report=lambda epoch, value: None):
        for epoch in range(1, 4):
            report(epoch, params["value"] * epoch)
        return params["value"], {"epoch": 3, "NDCG@10": params["value"] * 3}

    search = Search("NDCG@10", prune=prune)
    space = {"value": (0.3, 0.4, 0.5, 0.6, 0.7, 0.1, 0.8)}
    trials = tuning.Trials(train, space, planted_split.train, planted_split, search, "made up", {})
    trials.over_grid()
    assert [row["value"] for row in trials.rows] == list(space["value"])
    assert [row["epoch"] for row in trials.rows] == [3, 3, 3, 3, 3, 1 if prune else 3, 3]
    assert [row["value"] for row in trials.rows if "pruned" in row] == ([0.1] if prune else [])
    assert (trials.best["value"], trials.best_model()) == (0.8, 0.8)


def test_a_search_whose_metric_is_never_defined_is_told(planted_split):
    search = Search("NDCG@10")
    train, space = lambda params, report: (None, {"NDCG@10": np.nan}), {"x": (1,)}
    trials = tuning.Trials(train, space, planted_split.train, planted_split, search, "made up", {})
    with pytest.raises(ValueError, match="NDCG@10 is not defined on this validation part"):
        trials.over_grid()


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.needs_torch])
def test_a_summary_is_one_training_that_learns(name, planted, planted_split):
    # As many as it takes to know four tastes.
    few = planted_split.train.select_users(np.arange(80))
    model, found = MODELS[name].choose(few, planted_split, Search("NDCG@10", "quick"))
    assert len(found["tried"]) == 1
    popular = infae.evaluate(PopRec().fit(few), planted_split, k=(10,))["NDCG@10"]
    assert infae.evaluate(model, planted_split, k=(10,))["NDCG@10"] > 1.5 * popular


def test_smoke_is_one_short_training(planted_split):
    model, found = MODELS["mf"].choose(planted_split.train, planted_split, Search())
    assert len(found["tried"]) == 1
    assert len(model.path_) <= tuning.SMOKE_EPOCHS


def test_cells_of_a_model_are_found_by_another_process():
    assert " at 0x" not in str([model.grid() for model in MODELS.values()])


def test_models_are_known_without_pytorch():
    code = "import sys, experiments.recommenders.registry; print('torch' in sys.modules)"
    root = Path(torch_data.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"


def test_the_baselines_do_without_pytorch():
    code = "import sys, experiments.recommenders, experiments.run_infae; print('torch' in sys.modules)"
    root = Path(torch_data.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
