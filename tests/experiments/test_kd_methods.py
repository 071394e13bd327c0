"""Ways of distilling, on students of a few clicks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

import infae
import infae.data
from distillcf.errors import CheckpointError
from experiments.kd import architectures, data, listwise
from experiments.kd.distillation import Distilled, suited
from experiments.kd.gdrec import AlsoLists
from experiments.kd.knowledge import Knowledge
from experiments.kd.listwise import targets
from experiments.kd.losses.soft_targets import soft_targets
from experiments.kd.methods import METHODS, RankingDistillation, RelaxedRanking, vectors_of
from experiments.kd.mutual import Bidirectional
from experiments.kd.names import LISTED
from experiments.kd.teachers import value_on
from experiments.recommenders.lightgcn import LightGCN
from experiments.recommenders.mf import MF
from experiments.recommenders.mvae import MVAE
from experiments.recommenders.neumf import NeuMF
from experiments.recommenders.ranking import Ranking
from experiments.recommenders.registry import Search
from infae.data.synthetic import synthetic

CLICKS = synthetic(120, 90, mean_clicks=12, n_groups=6, seed=0).interactions
STUDENT = {"n_factors": 3, "dropout": 0.0, "n_epochs": 20, "batch_size": 256, "learning_rate": 0.02}


def by_id(model):
    """A model's scores of training users."""
    module = model.module
    return lambda users: module(torch.from_numpy(np.asarray(users))).detach().numpy()


@pytest.fixture(scope="module")
def teacher():
    return MF(n_factors=16, n_epochs=40, batch_size=256, learning_rate=0.02).fit(CLICKS)


@pytest.fixture(scope="module")
def knowledge(teacher):
    return Knowledge(by_id(teacher), CLICKS, tuple(part.detach() for part in vectors_of(teacher.module)))


@pytest.fixture(scope="module")
def alone():
    return MF(**STUDENT).fit(CLICKS)


def loss(name, knowledge, student):
    """A method's loss on everything."""
    method = METHODS[name](knowledge, student.module)
    rng = torch.Generator().manual_seed(0)
    method.begin(20, rng)
    with torch.no_grad():
        return float(method(student.module, *map(torch.arange, CLICKS.shape), rng))


@pytest.mark.parametrize("name", ["soft targets", "RD", "CD", "RRD", "IR-RRD", "softmax", "FTD"])
def test_a_student_comes_to_say_what_its_teacher_says(name, knowledge, alone):
    student = MF(**STUDENT).fit(CLICKS, beside=Distilled(name, knowledge))
    assert loss(name, knowledge, student) < 0.98 * loss(name, knowledge, alone)


def test_targets_of_lists_share_a_row_between_clicks_and_the_teachers_first_items(knowledge):
    told, clicks = targets(knowledge, 0.8).toarray(), CLICKS.matrix.toarray()
    assert_allclose(told.sum(1), 1, rtol=1e-5)
    assert_allclose((told * (clicks > 0)).sum(1), 0.2, rtol=1e-5)
    scores = np.where(clicks > 0, -np.inf, knowledge.scores.numpy())
    for user in (0, 7):
        own = told[user][clicks[user] > 0]
        assert_allclose(own, 0.2 / own.size, rtol=1e-5)
        first = np.argsort(-scores[user])[:40]
        listed = told[user][first]
        assert_allclose(listed[1:] / listed[:-1], np.exp(-1 / 50), rtol=1e-4)


def test_a_user_without_clicks_has_the_teachers_items_alone():
    rows = sp.csr_matrix(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32))
    scores = np.array([[0, 3, 2, 1], [4, 1, 2, 3]], np.float32)
    told = targets(Knowledge(lambda users: scores[users], infae.Interactions.from_matrix(rows)), 0.5).toarray()
    assert_allclose(told.sum(1), 1, rtol=1e-5)
    assert_array_equal(np.argsort(-told[1], kind="stable")[:3], [0, 3, 2])


def test_lists_are_as_long_as_is_said_where_a_user_has_so_many_items_left(monkeypatch):
    monkeypatch.setattr(listwise, "N_FIRST", 2)
    rows = np.array([[1, 0, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], np.float32)
    scores = np.array([[9, 1, 4, 3, 2]] * 3, np.float32)
    clicks = infae.Interactions.from_matrix(sp.csr_matrix(rows))
    told = targets(Knowledge(lambda users: scores[users], clicks), 0.5).toarray()
    w = np.exp(-np.arange(2) / 50)
    expected = [[0.5, 0, *(0.5 * w / w.sum()), 0], [*[0.125] * 4, 0.5], [0.2] * 5]
    assert_allclose(told, expected, rtol=1e-5)


@pytest.mark.parametrize(("n_users", "size"), [(100, 16), (943, 94), (10_000, 512)])
def test_a_student_of_lists_has_settings_of_its_own(n_users, size):
    model = MF(n_factors=7, n_epochs=1000, batch_size=3)
    assert suited(model, "RRD", (n_users, 50)) is model
    made = suited(model, LISTED, (n_users, 50))
    assert (made.n_factors, made.batch_size, made.n_epochs) == (7, size, 60)
    assert suited(replace(model, n_epochs=5), LISTED, (n_users, 50)).n_epochs == 5
    assert suited(model, LISTED, (n_users, 2**23)).batch_size == 8


def test_a_student_of_lists_ranks_as_its_teacher_does(knowledge, alone):
    """A wide one nearly so: of the teacher's first 10 of 90 items it has most, and one that learned alone few."""
    student = suited(MF(**{**STUDENT, "n_factors": 24, "n_epochs": 60}), LISTED, CLICKS.shape)
    student.fit(CLICKS, beside=Distilled(LISTED, knowledge, 0.8))

    def shared(model):
        scores = torch.from_numpy(by_id(model)(np.arange(CLICKS.n_users)))
        scores[CLICKS.matrix.nonzero()] = -torch.inf
        pairs = zip(scores.topk(10).indices.tolist(), knowledge.first_items(10).tolist(), strict=True)
        return np.mean([len({*own} & {*theirs}) for own, theirs in pairs])

    assert shared(student) > 7 > 6 > shared(alone)


def test_a_share_of_lists_leaves_some_to_clicks(knowledge):
    with pytest.raises(ValueError, match="below 1"):
        Distilled(LISTED, knowledge)


@pytest.mark.parametrize("name", ["FitNet", "DE", "HTD"])
def test_a_students_vectors_come_to_tell_its_teachers(name, knowledge, alone):
    """Better than those of a student that learned alone, whose experts learn for as many steps."""
    everything, rng = [*map(torch.arange, CLICKS.shape)], torch.Generator().manual_seed(0)
    made = []

    def beside(own, rng):
        made.append(Distilled(name, knowledge)(own, rng))
        return made[0]

    student = MF(**STUDENT).fit(CLICKS, beside=beside)
    together = made[0].module[1]
    apart = METHODS[name](knowledge, alone.module)
    apart.initialise(rng)
    optimizer = torch.optim.Adam(apart.parameters(), lr=STUDENT["learning_rate"])
    for _ in range(STUDENT["n_epochs"] * (1 + CLICKS.n_interactions // STUDENT["batch_size"])):
        optimizer.zero_grad()
        apart(alone.module, *everything, rng).backward()
        optimizer.step()
    with torch.no_grad():
        assert together(student.module, *everything, rng) < 0.9 * apart(alone.module, *everything, rng)


@pytest.mark.parametrize("make", [NeuMF, LightGCN])
@pytest.mark.parametrize("name", ["RRD", "FTD"])
def test_students_of_other_kinds_learn_too(make, name, knowledge):
    params = {"n_factors": 3, "n_epochs": 15, "batch_size": 256, "learning_rate": 0.02}
    alone = make(**params).fit(CLICKS)
    student = make(**params).fit(CLICKS, beside=Distilled(name, knowledge))
    assert loss(name, knowledge, student) < loss(name, knowledge, alone)


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_is_all_chance_and_a_killed_training_goes_on(name, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(RankingDistillation, "warm_up", 1)
    split = infae.data.leave_one_out(CLICKS, seed=0)
    knowledge = Knowledge(by_id(teacher), split.train, tuple(part.detach() for part in vectors_of(teacher.module)))
    settings = {**STUDENT, "n_epochs": 4, "check_every": 1, "patience": 10}

    class Killed(Exception):
        pass

    def kill(epoch, value):
        if epoch == 2:
            raise Killed

    def fitted(**given):
        return MF(**settings).fit(split.train, split, beside=Distilled(name, knowledge), **given)

    whole = fitted()
    with pytest.raises(Killed):
        fitted(checkpoint=tmp_path / "training.npz", report=kill)
    resumed = fitted(checkpoint=tmp_path / "training.npz")
    for other in (fitted(), resumed):
        for ours, theirs in zip(whole.module.parameters(), other.module.parameters(), strict=True):
            assert_array_equal(ours.detach(), theirs.detach())
    with pytest.raises(CheckpointError, match="another training"):
        MF(**settings).fit(
            split.train, split, beside=Distilled(name, knowledge, weight=2.0), checkpoint=tmp_path / "training.npz"
        )


def test_lists_leave_out_what_was_clicked(knowledge):
    clicked = CLICKS.matrix.toarray() > 0
    scores = knowledge.scores.numpy().copy()
    scores[clicked] = -np.inf
    assert_array_equal(knowledge.first_items(5), np.argsort(-scores, axis=1)[:, :5])
    assert_array_equal(knowledge.first_users(5), np.argsort(-scores.T, axis=1)[:, :5])


@pytest.mark.parametrize("tied", [False, True])
def test_others_are_in_no_list_and_not_clicked(tied, knowledge, alone):
    if tied:  # by score nothing is below the list's end
        knowledge = Knowledge(lambda users: np.zeros((len(users), 90)), CLICKS)
    method = RelaxedRanking(knowledge, alone.module)
    method.begin(0, torch.Generator().manual_seed(0))
    scores, first = knowledge.unclicked, method._of_users._first
    interesting, drawn = method._of_users.of(torch.arange(120))
    assert (scores.gather(1, interesting).diff(dim=1) <= 0).all()
    assert drawn.shape == (120, 40)
    for user in range(120):
        others = {*drawn[user].tolist()}
        assert not others & {*first[user].tolist()}
        assert not others & {*CLICKS.matrix[user].indices}


def test_what_cannot_be_distilled_is_refused(teacher, knowledge):
    plain = Knowledge(by_id(teacher), CLICKS)
    with pytest.raises(ValueError, match=r"FTD compares vectors, and this teacher has none; .* RD, CD, RRD"):
        MF(**STUDENT).fit(CLICKS, beside=Distilled("FTD", plain))
    with pytest.raises(ValueError, match="method must be one of"):
        Distilled("AT", plain)
    with pytest.raises(ValueError, match="weight"):
        Distilled("RD", plain, 0)
    with pytest.raises(ValueError, match="other clicks than the student learns from"):
        MF(**STUDENT).fit(infae.data.leave_one_out(CLICKS).train, beside=Distilled("RD", plain))
    with pytest.raises(ValueError, match="rank by vectors of users and items"):
        MVAE(n_epochs=1).fit(CLICKS, beside=Distilled("RD", plain))
    with pytest.raises(ValueError, match=r"finite scores \(120, 90\) of these users and items, got NaN"):
        Knowledge(lambda users: np.full((len(users), 90), np.nan), CLICKS)
    with pytest.raises(ValueError, match=r"got \(120, 3\)"):
        Knowledge(lambda users: np.zeros((len(users), 3)), CLICKS)
    with pytest.raises(ValueError, match="expected vectors of 120 users and 90 items, got 2, 3"):
        Knowledge(by_id(teacher), CLICKS, (torch.zeros(2, 1), torch.zeros(3, 1)))
    with pytest.raises(ValueError, match="the first 90 items are asked for"):
        knowledge.first_items(90)


def test_gd_asks_for_the_items_of_a_users_list_alone(teacher, alone):
    """Its loss is that of soft targets on them, at the temperature that is asked for."""
    lists = CLICKS.with_matrix(sp.csr_matrix(CLICKS.matrix.multiply(np.arange(90) % 3 == 0), dtype=np.float32))
    knowledge = Knowledge(by_id(teacher), lists)
    method = Distilled("GD", knowledge, temperature=5.0)(Ranking(alone.module, lists, 0, "cpu"), torch.Generator())
    users = torch.arange(CLICKS.n_users)
    with torch.no_grad():
        found = np.mean([float(method._method(alone.module, users, users, torch.Generator().manual_seed(k)))
                         for k in range(40)])  # fmt: skip
        wanted = []
        for user in users:
            items = torch.from_numpy(lists.matrix[int(user)].indices.astype(np.int64))
            if len(items):
                scores = (module(user[None])[0, items] for module in (alone.module, teacher.module))
                wanted.append(float(soft_targets(*scores, 5.0)))
    assert abs(found - np.mean(wanted)) < 0.01 * np.mean(wanted)


def test_items_that_all_have_clicked_have_no_list_of_users(teacher):
    matrix = CLICKS.matrix.tolil()
    matrix[:, 0] = 1
    knowledge = Knowledge(by_id(teacher), CLICKS.with_matrix(sp.csr_matrix(matrix)))
    with pytest.raises(ValueError, match="IR-RRD ranks users for every item, and all but 0 of 120 clicked one"):
        METHODS["IR-RRD"](knowledge, teacher.module)


def test_the_identity_of_bd_is_its_teachers_weights(teacher):
    assert repr(Bidirectional(teacher)) == repr(Bidirectional(teacher))
    assert repr(Bidirectional(teacher)) != repr(Bidirectional(MF(**STUDENT).fit(CLICKS)))


def test_only_methods_with_a_temperature_take_one(knowledge):
    with pytest.raises(ValueError, match="RRD has no temperature; those that have one are soft targets, GD, softmax"):
        Distilled("RRD", knowledge, temperature=2.0)


def test_teacher_and_student_of_bd_both_move_towards_each_other(teacher):
    beside = Bidirectional(teacher, 5.0)
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    student, alone = (MF(**{**STUDENT, "n_epochs": 30}).fit(CLICKS, beside=each) for each in (beside, None))
    for name, tensor in teacher.module.state_dict().items():
        assert_array_equal(tensor, before[name])  # a copy learns
    users = torch.arange(CLICKS.n_users)

    def gap(one, other):
        with torch.no_grad():
            return float((torch.sigmoid(one(users) / 5) - torch.sigmoid(other(users) / 5)).abs().mean())

    assert gap(student.module, beside.teacher) < 0.9 * gap(alone.module, teacher.module)
    with pytest.raises(ValueError, match="users and items"):
        MF(**STUDENT).fit(CLICKS.select_users(np.arange(50)), beside=Bidirectional(teacher))
    with pytest.raises(ValueError, match="weight"):
        Bidirectional(teacher, 0.0)


def test_lists_add_their_own_triples_to_a_teachers():
    """A teacher that also learns from lists ranks what is in them higher than one that does not."""
    rng = np.random.default_rng(0)
    lists = CLICKS.with_matrix(sp.csr_matrix(rng.random(CLICKS.shape) < 0.1, dtype=np.float32))
    both, own = (MF(**STUDENT).fit(CLICKS, beside=beside) for beside in (AlsoLists(lists), None))
    listed = lists.matrix.toarray() > CLICKS.matrix.toarray()

    def lift(model):
        scores = by_id(model)(np.arange(CLICKS.n_users))
        return scores[listed].mean() - scores.mean()

    assert lift(both) > lift(own) + 0.1
    first, again = (MF(**STUDENT).fit(CLICKS, beside=AlsoLists(lists)) for _ in range(2))
    assert_array_equal(first.module.users.weight.detach(), again.module.users.weight.detach())
    with pytest.raises(ValueError, match="lists of"):
        MF(**STUDENT).fit(CLICKS, beside=AlsoLists(lists.select_users(np.arange(50))))


# --- architectures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", architectures.LAYERS)
def test_the_widest_student_fits_and_one_wider_does_not(n_layers):
    """A NeuMF learns p and q, W_1 to W_L with their offsets, h of both parts, and an offset an item; an MF p, q, b."""
    n_users, n_items = 120, 90

    def size(d):
        if not n_layers:
            return (n_users + n_items) * d + n_items
        widths = [max(d // 2**k, 1) for k in range(n_layers)]
        layers = 2 * d * d + d + sum((a + 1) * b for a, b in itertools.pairwise(widths))
        return (n_users + n_items) * d + n_items + layers + d + widths[-1]

    width = architectures.widest(n_layers, (n_users, n_items), 3000)
    assert size(width) <= 3000 < size(width + 1)


def test_a_search_tries_no_depth_that_does_not_fit(knowledge):
    split = data.split("made")
    told = Knowledge(lambda users: np.zeros((len(users), split.train.n_items), np.float32), split.train)
    n_users, n_items = split.train.shape
    # An inner product of width 1.
    most = n_users + 2 * n_items
    network, search = NeuMF(n_epochs=1, batch_size=512), Search(metric="H@50", n_trials=3)
    model, row = architectures.searched(network, split, told, "RD", most, search)
    assert isinstance(model, MF)
    assert row["n_layers"] == 0
    with pytest.raises(ValueError, match="allow more"):
        architectures.searched(network, split, told, "RD", most - 1, search)
    with pytest.raises(ValueError, match="metric"):
        architectures.searched(network, split, told, "RD", most, Search(metric="HR@100", n_trials=3))


def test_a_search_stays_within_its_parameters_and_goes_on(tmp_path, monkeypatch):
    """Of 3 trials after 2 one is trained, and the best again; of 3 after 3 the best alone."""
    trained = []
    monkeypatch.setattr(architectures, "Distilled", lambda *told: trained.append(told) or Distilled(*told))
    split = data.split("made")
    scores = np.random.default_rng(0).random(split.train.shape).astype(np.float32)
    knowledge = Knowledge(lambda users: scores[users], split.train)
    network = NeuMF(dropout=0.0, n_epochs=2, check_every=1, batch_size=512)
    place = {"metric": "H@50", "shared": str(tmp_path)}
    found, counts = [], []
    for n_trials in (2, 3, 3):
        found.append(architectures.searched(network, split, knowledge, "RD", 5000, Search(**place, n_trials=n_trials)))
        counts.append(len(trained))
    assert counts[0] == 2
    assert counts[1] in (3, 4)
    assert counts[2] == counts[1] + 1
    for model, row in found:
        assert sum(part.numel() for part in model.module.parameters()) <= 5000
        assert row["H@50"] == value_on(split)(model)
    values = [row["H@50"] for _, row in found]
    assert values[0] <= values[1] == values[2]
