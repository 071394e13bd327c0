"""What needs PyTorch: data sets made of clicks, and BPR-MF."""

import copy
import inspect
import subprocess
import sys
import textwrap
import warnings
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

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from experiments import torch_data  # noqa: E402
from experiments.baselines import PopRec, bpr  # noqa: E402
from experiments.baselines.bpr import BPRMF, Factors, Tables, bpr_loss, select_bpr  # noqa: E402
from experiments.torch_data import Pairs, Triples, UserRows  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two are many times slower on such small layers where another process uses the cores."""
    with bpr.one_thread():
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
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, got -1"):
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
    with pytest.raises(ValueError, match="negative_ratio must be positive and finite"):
        Pairs(clicks, ratio)


def test_pairs_of_no_clicks_are_refused():
    with pytest.raises(ValueError, match="expected at least one click"):
        Pairs(interactions([[0, 0]]))


# --- BPR-MF -------------------------------------------------------------------------------------


SMALL = {"n_factors": 8, "learning_rate": 0.02, "batch_size": 512}


@pytest.fixture(scope="module")
def planted():
    return synthetic(300, 120, n_groups=4, mean_clicks=20, seed=2)


@pytest.fixture(scope="module")
def planted_split(planted):
    return infae.data.random_split(planted.interactions, seed=0)


@pytest.fixture(scope="module")
def trained(planted_split):
    return BPRMF(**SMALL, n_epochs=25).fit(planted_split.train)


def random_tables(n_users, n_items, n_factors=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    shapes = ((n_users, n_factors), (n_items, n_factors), (n_items,))
    return Tables(*(torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_() for shape in shapes))


def some_triples():
    """Users, positives, negatives and weights, where users and items repeat; and a dropout mask."""
    indices = [torch.tensor(column) for column in ([0, 1, 1, 3, 3], [2, 0, 4, 1, 1], [4, 1, 2, 0, 3])]
    rng = torch.Generator().manual_seed(1)
    weights, mask = torch.rand(5, generator=rng).double(), torch.rand(5, 3, generator=rng).double()
    return *indices, weights, mask


@pytest.mark.parametrize("dropped", [False, True])
def test_the_loss_is_as_rendle_prints_it(dropped):
    tables, (*batch, mask) = random_tables(4, 5), some_triples()
    users, items, bias = (table.detach().numpy() for table in tables)
    losses = []
    for k, (u, i, j, weight) in enumerate(zip(*(column.tolist() for column in batch), strict=True)):
        p = users[u] * (mask[k].numpy() if dropped else 1)
        x_uij = (p @ items[i] + bias[i]) - (p @ items[j] + bias[j])
        losses.append(-weight * np.log(1 / (1 + np.exp(-x_uij))))
    assert_allclose(bpr_loss(tables, *batch, mask if dropped else None).item(), np.mean(losses), rtol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    tables, batch = random_tables(4, 5), some_triples()
    assert torch.autograd.gradcheck(lambda *t: bpr_loss(Tables(*t), *batch), tuple(tables))


def test_users_are_folded_in_by_ridge_regression_on_mean_item_vectors(soft, new_users):
    tables, triples = random_tables(*soft.shape), Triples(soft)
    tables = Tables(*(table.detach().float() for table in tables))
    users, items, bias = (table.double().numpy() for table in tables)

    def means(histories):
        return np.array([sum(x * q for x, q in zip(row, items, strict=True)) / row.sum() for row in histories])

    x, rows = means(soft.matrix.toarray()), np.unique(triples.users)
    penalty = bpr.FOLD_IN_REG * np.trace(np.cov(x[rows].T, bias=True)) * len(rows) / 3
    ridge = Ridge(penalty).fit(x[rows], users[rows])
    scores = Factors.of(tables, soft, triples).predict(infae.Interactions.from_matrix(new_users))
    assert_allclose(scores[:-1], ridge.predict(means(new_users[:-1])) @ items.T + bias, rtol=1e-4, atol=1e-4)
    # The last has no history.
    assert_allclose(scores[-1], items @ users[rows].mean(axis=0) + bias, rtol=1e-4, atol=1e-4)


def test_users_without_triples_have_no_part_in_the_fold_in():
    clicks = interactions([[1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]])
    tables = Tables(*(table.detach().float() for table in random_tables(5, 3)))
    with pytest.warns(UserWarning, match="clicked every item"):
        triples = Triples(clicks)
    factors = Factors.of(tables, clicks, triples)
    tables.users[3:] = 1e6
    assert_array_equal(Factors.of(tables, clicks, triples).weights, factors.weights)


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
        for model in (BPRMF(**SMALL, n_epochs=25), PopRec())
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
    again = BPRMF(**SMALL, n_epochs=25).fit(train)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    assert_array_equal(again.predict(train), trained.predict(train))
    assert again.path_ == trained.path_
    assert (BPRMF(**SMALL, n_epochs=25, seed=1).fit(train).predict(train) != trained.predict(train)).any()


def test_every_epoch_has_negatives_of_its_own_by_the_seed(monkeypatch, clicks):
    asked = []

    class Recorded(Triples):
        def __init__(self, clicks, seed):
            super().__init__(clicks, seed)
            asked[:] = [("seed", seed)]

        def set_epoch(self, epoch):
            asked.append(("epoch", epoch))
            super().set_epoch(epoch)

    monkeypatch.setattr(bpr, "Triples", Recorded)
    BPRMF(**SMALL, n_epochs=3, seed=5).fit(clicks)
    assert asked == [("seed", 5), ("epoch", 0), ("epoch", 1), ("epoch", 2)]


def test_dropout_keeps_the_expected_vector():
    mask = BPRMF(8, dropout=0.3)._mask(4000, torch.Generator().manual_seed(0))
    assert_allclose(np.unique(mask), [0, 1 / 0.7], rtol=1e-6)
    assert mask.mean().item() == pytest.approx(1, abs=0.02)


def test_the_loss_falls_and_is_recorded(trained):
    losses = [row["loss"] for row in trained.path_]
    assert [row["epoch"] for row in trained.path_] == list(range(1, 26))
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert losses[-1] < 0.6 * losses[0]
    assert trained.epoch_ == 25


def test_dropout_changes_training_and_not_prediction(planted_split, trained):
    plain = BPRMF(**SMALL, n_epochs=25, dropout=0).fit(planted_split.train)
    assert plain.path_[-1]["loss"] < 0.9 * trained.path_[-1]["loss"]
    shown = planted_split.train.select_users(np.arange(5))
    assert_array_equal(trained.predict(shown), trained.predict(shown))


def test_stored_values_weigh_the_loss(planted_split):
    train = planted_split.train
    half, whole = (
        BPRMF(**SMALL, n_epochs=3).fit(train.with_matrix(train.matrix * np.float32(value))) for value in (0.5, 1)
    )
    assert_allclose([row["loss"] for row in half.path_], [row["loss"] / 2 for row in whole.path_], rtol=1e-3)


def test_faint_clicks_count_for_little(planted):
    """Ten items more, each clicked by half of the users: in the lists of the other half, or not, by the value."""
    clicks = planted.interactions
    extra = sp.csr_matrix(np.random.default_rng(0).random((clicks.n_users, 10)) < 0.5, dtype=np.float32)

    def share(value):
        rows = infae.Interactions.from_matrix(sp.hstack([clicks.matrix, extra]))
        rows.matrix.data[rows.matrix.indices >= clicks.n_items] = value
        items, _ = BPRMF(**SMALL, n_epochs=25).fit(rows).recommend(rows, n=5)
        return (items >= clicks.n_items).mean()

    assert share(1.0) > 0.3
    assert share(0.01) < 0.02


@pytest.mark.parametrize("as_interactions", [False, True])
def test_training_stops_early_and_keeps_the_best_state(as_interactions, planted_split):
    # So high a rate that validation soon gets worse.
    params = {"n_factors": 16, "learning_rate": 0.1, "batch_size": 512, "dropout": 0.0, "metric": "NDCG@10"}
    stopping = {"n_epochs": 60, "check_every": 2, "patience": 2}
    validation = planted_split.validation if as_interactions else planted_split
    model = BPRMF(**params, **stopping).fit(planted_split.train, validation)
    looks = {row["epoch"]: row["NDCG@10"] for row in model.path_ if "NDCG@10" in row}
    assert list(looks) == list(range(2, len(model.path_) + 1, 2))
    assert model.epoch_ == max(looks, key=looks.__getitem__)
    assert len(model.path_) == model.epoch_ + 4 < 60
    value = infae.evaluate(model, planted_split, "validation", (10,))["NDCG@10"]
    assert value == looks[model.epoch_] > looks[len(model.path_)]
    # The state kept is that of a training that ended there.
    there = BPRMF(**params, n_epochs=model.epoch_).fit(planted_split.train)
    assert_array_equal(there.predict(planted_split.train), model.predict(planted_split.train))


def test_the_last_epoch_is_looked_at(planted_split):
    model = BPRMF(**SMALL, n_epochs=3).fit(planted_split.train, planted_split)
    assert [row["epoch"] for row in model.path_ if "HR@100" in row] == [model.epoch_] == [3]


def test_validation_items_are_matched_by_id(planted_split):
    order = np.random.default_rng(0).permutation(planted_split.train.n_items)

    def shuffled(clicks):
        moved = sp.csr_matrix(clicks.matrix[:, order])
        moved.sort_indices()
        return infae.Interactions(moved, clicks.user_ids, clicks.item_ids[order])

    other = infae.Split(*(shuffled(getattr(planted_split, part)) for part in ("train", "validation", "test")))
    params = {**SMALL, "n_epochs": 4, "check_every": 2, "metric": "NDCG@10"}
    paths = [BPRMF(**params).fit(planted_split.train, split).path_ for split in (planted_split, other)]
    assert [row.get("NDCG@10") for row in paths[0]] == pytest.approx([row.get("NDCG@10") for row in paths[1]])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_factors": 0}, "n_factors must be a whole number of at least 1, got 0"),
        ({"n_epochs": 1.5}, "n_epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"check_every": 0}, "check_every must be"),
        ({"patience": 0}, "patience must be"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite"),
        ({"learning_rate": np.nan}, "learning_rate must be positive and finite"),
        ({"dropout": 1.0}, "dropout is a share, from 0 to below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout is a share"),
        ({"metric": "F1@10"}, "unknown metric 'F1@10'"),
    ],
)
def test_bad_parameters_are_refused(params, message, clicks):
    with pytest.raises(ValueError, match=message):
        BPRMF(**params).fit(clicks)


def test_a_fit_that_fails_leaves_an_earlier_one_in_place(clicks):
    model = BPRMF(**SMALL, n_epochs=2).fit(clicks)
    kept, scores = copy.copy(vars(model)), model.predict(clicks)
    model.learning_rate = 1e30
    with pytest.raises(FloatingPointError, match=r"loss became nan in epoch \d+, float32.*use a smaller one"):
        model.fit(clicks)
    assert_array_equal(model.predict(clicks), scores)
    assert vars(model) == {**kept, "learning_rate": 1e30}


def test_a_metric_that_is_never_defined_is_told():
    # Both users have every item clicked or held out: there is no negative to count for AUC.
    train, held_out = interactions([[1, 1, 0], [0, 1, 1]]), interactions([[0, 0, 1], [1, 0, 0]])
    with pytest.raises(ValueError, match="AUC is not defined on this validation part"):
        BPRMF(2, n_epochs=2, metric="AUC").fit(train, held_out)


def test_a_single_click_is_enough():
    model = BPRMF(4, n_epochs=30, learning_rate=0.05).fit(interactions([[0, 1, 0]]))
    assert model.recommend(np.zeros((1, 3)), n=1)[0].tolist() == [[1]]


def test_select_bpr_keeps_the_best_of_the_grid(planted_split):
    grid, fixed = {"n_factors": (1, 8), "dropout": (0.0, 0.5)}, {**SMALL, "n_epochs": 6, "metric": "NDCG@10"}
    del fixed["n_factors"]
    model, tried = select_bpr(planted_split, grid, **fixed)
    assert [(row["n_factors"], row["dropout"]) for row in tried] == [(1, 0.0), (1, 0.5), (8, 0.0), (8, 0.5)]
    best = max(tried, key=lambda row: row["NDCG@10"])
    assert (model.n_factors, model.dropout, model.epoch_) == (best["n_factors"], best["dropout"], best["epoch"])
    assert infae.evaluate(model, planted_split, "validation", (10,))["NDCG@10"] == best["NDCG@10"]
    separate = BPRMF(n_factors=8, dropout=0.5, **fixed).fit(planted_split.train, planted_split)
    assert tried[-1]["NDCG@10"] == max(row.get("NDCG@10", 0) for row in separate.path_)


def test_select_bpr_refuses_an_empty_list(planted_split):
    with pytest.raises(ValueError, match="the grid has an empty list"):
        select_bpr(planted_split, {"dropout": ()})


def test_the_baselines_do_without_pytorch():
    code = "import sys, experiments.baselines, experiments.run_infae; print('torch' in sys.modules)"
    root = Path(torch_data.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
