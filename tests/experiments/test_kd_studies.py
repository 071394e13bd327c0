"""Generators, transfer sets and studies of knowledge distillation, in their smallest form."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

import infae
from experiments.infinite.sources import EVERYBODY, Sources
from experiments.kd import (
    data,
    kd_lambda,
    kd_methods,
    kd_privacy,
    kd_sizes,
    kd_table_2,
    kd_teachers,
    kd_topology,
    kd_transfer_sets,
    published,
)  # fmt: skip
from experiments.kd.gdrec import GDREC, N_NEGATIVE
from experiments.kd.kd_methods import TEACHER
from experiments.kd.names import ALONE, FACTORISED, LISTED
from experiments.kd.protocol import held_out
from experiments.kd.several import learned_weights, several, standard
from experiments.kd.teachers import Teacher
from experiments.kd.transfer import FRESH, MANY, POPULAR, SETS, TransferSets, by_popularity
from experiments.kd.workshop import ITSELF
from experiments.recommenders.arcf import ARCF
from infae.data.synthetic import synthetic

PLANTED = synthetic(200, 80, n_groups=4, mean_clicks=10, seed=1)
CLICKS = PLANTED.interactions


@pytest.fixture(scope="module")
def generator():
    return GDREC(64, n_epochs=40, batch_size=32, learning_rate=0.02).fit(CLICKS)


def share_of_clicked(lists):
    return lists.matrix.multiply(CLICKS.matrix).nnz / lists.matrix.nnz


def test_lists_are_of_the_same_users_and_of_one_length(generator):
    lists = generator.lists(7, seed=1)
    assert_array_equal(lists.user_ids, CLICKS.user_ids)
    assert_array_equal(np.diff(lists.matrix.indptr), 7)
    assert set(lists.matrix.data) == {1.0}
    assert not (lists.matrix != generator.lists(7, seed=1).matrix).nnz
    with pytest.raises(ValueError, match="n_items"):
        generator.lists(81)
    with pytest.raises(infae.NotFittedError):
        GDREC().lists(3)


def test_a_generator_learns_what_users_clicked(generator):
    untrained = GDREC(64, n_epochs=1, learning_rate=1e-9).fit(CLICKS)
    assert share_of_clicked(generator.lists(5)) > share_of_clicked(untrained.lists(5)) + 0.05


def test_a_discriminator_sees_clicks_and_a_share_of_the_rest():
    """What is generated is masked: of items neither clicked nor drawn the discriminator sees none."""
    model = GDREC(8)
    rng = torch.Generator().manual_seed(0)
    game = model._game(CLICKS.matrix, rng)
    seen = []
    game.module["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    losses = game.losses(rng, torch.arange(200))
    next(losses), next(losses)
    real, fake, again = seen
    clicked = CLICKS.matrix.toarray() > 0
    assert_array_equal(real.numpy() > 0, clicked)
    assert_array_equal(fake, again)
    assert (fake.numpy()[clicked] > 0).all()
    assert abs((fake.numpy()[~clicked] > 0).mean() - N_NEGATIVE) < 0.02


@pytest.mark.parametrize("kind", [GDREC, ARCF])
def test_a_generator_that_diverges_keeps_its_last_good_state(kind, monkeypatch):
    model, good = kind(8, n_epochs=5, seed=3), kind(8, n_epochs=2, seed=3).fit(CLICKS)
    played = kind._game

    def poisoned(self, matrix, rng):
        game = played(self, matrix, rng)
        examples = game.examples

        def at(epoch):
            found = examples(epoch)
            if epoch == 2:
                with torch.no_grad():
                    game.module["generator"].out.weight.fill_(torch.nan)
            return found

        game.examples = at
        return game

    monkeypatch.setattr(kind, "_game", poisoned)
    with pytest.warns(RuntimeWarning, match="after epoch 2"):
        model.fit(CLICKS)
    for name, tensor in good.module.state_dict().items():
        assert_array_equal(model.module.state_dict()[name], tensor)
    monkeypatch.setattr(kind, "_game", lambda self, matrix, rng: nan_from_the_start(played(self, matrix, rng)))
    with pytest.raises(FloatingPointError):
        model.fit(CLICKS)


def nan_from_the_start(game):
    torch.nn.init.constant_(game.module["generator"].out.weight, torch.nan)
    return game


def test_histories_by_popularity_are_as_long_and_as_popular_as_real_ones():
    drawn = by_popularity(CLICKS, 4000, 0)
    counts, lengths = (np.bincount(CLICKS.matrix.indices, minlength=80), np.diff(CLICKS.matrix.indptr))
    assert set(np.diff(drawn.matrix.indptr)) <= set(lengths)
    assert abs(np.diff(drawn.matrix.indptr).mean() - lengths.mean()) < 0.3
    assert np.corrcoef(np.bincount(drawn.matrix.indices, minlength=80), counts)[0, 1] > 0.98
    assert set(drawn.matrix.data) == {1.0}


def test_every_transfer_set_has_users_over_the_same_items(tmp_path):
    split = data.split("made")
    sets = TransferSets(Sources(split, str(tmp_path), steps=2), n_epochs=1)
    for name in SETS:
        clicks = sets.clicks(name, 40, 0)
        assert_array_equal(clicks.item_ids, split.train.item_ids)
        many = MANY if name in (FRESH, POPULAR) else 1
        if name == EVERYBODY:
            assert clicks.n_users == split.train.n_users
        elif name != "random interactions":  # of as many clicks, from any users
            assert clicks.n_users == 40 * many


def test_a_study_of_methods_has_every_student_that_a_teacher_can_have(tmp_path):
    config = kd_methods.Config(
        teachers=("BPR", "EASE"), methods=("RRD", "FTD", LISTED, FACTORISED), n_epochs=10, out=str(tmp_path / "a"),
        shared=str(tmp_path / "shared"), plot=False,
    )  # fmt: skip
    record = kd_methods.run(config)
    models = [row[0] for row in record["tables"][0].rows]
    assert models == [
        "BPR, the teacher", "EASE, the teacher", ALONE, "RRD of BPR", "FTD of BPR", f"{LISTED} of BPR",
        f"{FACTORISED} of BPR", "RRD of EASE", f"{LISTED} of EASE", f"{FACTORISED} of EASE",
    ]  # fmt: skip
    assert len([*(tmp_path / "shared").glob("teacher_*.npz")]) == 1
    again = kd_methods.run(config)
    assert again["tables"] == record["tables"]
    with pytest.raises(ValueError, match="--methods"):
        kd_methods.run(kd_methods.Config(methods=("none",), out=str(tmp_path / "b"), plot=False))


def test_a_study_of_transfer_sets_compares_with_real_users(tmp_path):
    config = kd_transfer_sets.Config(
        sources=(EVERYBODY, POPULAR), losses=(FACTORISED, LISTED, "FTD"), n_epochs=2, out=str(tmp_path / "a"),
        shared=str(tmp_path / "shared"), plot=False,
    )  # fmt: skip
    record = kd_transfer_sets.run(config)
    rows = {(row[0], row[1]): row for row in record["tables"][0].rows}
    for loss in config.losses:
        hits = [float(rows[loss, source][3]) for source in config.sources]
        assert float(rows[loss, POPULAR][-1]) == pytest.approx(100 * hits[1] / hits[0], abs=0.05)


def test_a_study_of_lists_has_teachers_and_students_of_shares(tmp_path):
    config = kd_table_2.Config(n_epochs=2, shares=(0.5, 0.25), out=str(tmp_path / "a"), plot=False)
    rows = kd_table_2.run(config)["tables"][0].rows
    assert [row[:2] for row in rows[:2]] == [["teacher KD", "1"], ["teacher GD", "1"]]
    assert [row[0] for row in rows[2:]] == [*np.repeat(kd_table_2.METHODS[2:], 2)]
    assert set(published.beside("table_2", "yelp NeuMF")) <= set(kd_table_2.METHODS)
    with pytest.raises(ValueError, match="--shares"):
        kd_table_2.run(kd_table_2.Config(shares=(1.5,), out=str(tmp_path / "b"), plot=False))


@pytest.mark.parametrize(
    ("module", "config", "labels"),
    [
        (kd_lambda, kd_lambda.Config, ["BPR", "BPR"]),
        (kd_teachers, kd_teachers.Config, ["BPR, teacher KD", "BPR, teacher GD", "EASE", "∞-AE"]),
        (kd_topology, kd_topology.Config, [kd_topology.TEACHER, ALONE, "FTD", kd_topology.SEARCHED]),
        (kd_privacy, kd_privacy.Config, [*kd_privacy.MODELS]),
    ],
)
def test_a_study_has_its_rows(tmp_path, module, config, labels):
    shared = {"shared": str(tmp_path / "shared")} if hasattr(config, "shared") else {}
    record = module.run(config(n_epochs=2, out=str(tmp_path / "a"), plot=False, **shared))
    assert [row[0] for row in record["tables"][0].rows] == labels


def test_rows_of_a_study_of_privacy_are_of_one_model_and_share(tmp_path):
    config = kd_privacy.Config(
        models=("BPR", "NeuMF"), shares=(0.5, 0.25), methods=(ALONE, EVERYBODY), n_epochs=1, out=str(tmp_path / "a"),
        shared=str(tmp_path / "shared"), plot=False,
    )  # fmt: skip
    rows = [row[:3] for row in kd_privacy.run(config)["tables"][0].rows]
    assert rows == [
        [ALONE, "BPR", "0.5"], [ALONE, "BPR", "0.25"], [ALONE, "NeuMF", "0.5"], [ALONE, "NeuMF", "0.25"],
        [EVERYBODY, "", "1"],
    ]  # fmt: skip


def test_an_attack_tells_training_clicks_by_their_scores():
    split = data.split("made")
    clicked = split.train.matrix.toarray()
    assert kd_privacy.attack(lambda users: clicked[users], split) == {"AUC of the attack": 1.0}
    assert kd_privacy.attack(lambda users: 0 * clicked[users], split) == {"AUC of the attack": 0.5}
    noise = np.random.default_rng(0).random(clicked.shape)
    held = (split.validation.matrix + split.test.matrix).toarray()
    told = []
    for user in range(len(clicked)):
        pairs = [
            noise[user, i] > noise[user, j] for i in np.flatnonzero(clicked[user]) for j in np.flatnonzero(held[user])
        ]
        told.append(np.mean(pairs))
    assert kd_privacy.attack(lambda users: noise[users], split)["AUC of the attack"] == pytest.approx(np.mean(told))


def test_sizes_are_of_files_and_figures_of_what_is_read_back(tmp_path):
    record = kd_sizes.run(kd_sizes.Config(out=str(tmp_path / "a"), plot=False))
    teacher, full, eight = record["rows"]
    assert (teacher["model"], full["bits"], eight["bits"]) == (kd_sizes.TEACHER, 32, 8)
    assert eight["bytes"] < full["bytes"] < teacher["bytes"]
    assert all(0 < row["p50_ms"] <= row["p99_ms"] and row["per_second"] > 0 for row in record["rows"])
    assert abs(full["H@50"] - eight["H@50"]) < 0.02


def test_published_figures_are_of_rows_that_a_study_has():
    rows = {kd_methods.called(*at) for at in [(TEACHER, "BPR"), (ALONE, ""), *((m, "BPR") for m in kd_methods.METHODS)]}
    for name in ("citeulike", "foursquare"):
        assert set(published.beside("methods", name)) <= rows
    assert published.beside("methods", "citeulike")["HTD of BPR"]["H@50"] == pytest.approx(27.44)


def test_several_teachers_say_their_mean_or_what_validation_clicks_tell_of_them():
    split = data.split("made")
    rng = np.random.default_rng(0)
    good, noise = rng.normal(size=(2, *split.train.shape)).astype(np.float32)
    users, items = held_out(split, "validation")
    good[users, items] += 3

    class Table:
        def __init__(self, scores):
            self.scores = scores

        def score_users(self, users):
            return self.scores[users]

    members = [Teacher(Table(scores), split.train, 1) for scores in (noise, good)]
    learned = learned_weights(members, split)
    assert learned[1] > 10 * learned[0] >= 0
    of_all = several(members, learned)
    wanted = sum(w * standard(table) for w, table in zip(learned, (noise, good), strict=True))
    assert_allclose(of_all.score(users[:9]), wanted[users[:9]], rtol=1e-4, atol=1e-4)
    assert of_all.n_parameters == 2
    assert_allclose(several(members).score(users), (standard(noise) + standard(good))[users] / 2, rtol=1e-4, atol=1e-4)
    for bad, says in (([], "at least one"), ([1.0], "2 weights"), ([0.0, 0.0], "not all"), ([-1.0, 2.0], "weights")):
        with pytest.raises(ValueError, match=says):
            several(members if bad else [], bad)


def test_a_study_of_methods_takes_several_teachers_and_a_student_itself(tmp_path):
    config = kd_methods.Config(
        teachers=("EASE + ∞-AE", "EASE + ∞-AE (learned)", ITSELF), methods=("RRD", "FTD"), n_epochs=10, plot=False,
        out=str(tmp_path / "a"), shared=str(tmp_path / "shared"),
    )  # fmt: skip
    rows = [row[0] for row in kd_methods.run(config)["tables"][0].rows]
    assert rows == [
        "EASE + ∞-AE, the teacher", "EASE + ∞-AE (learned), the teacher", ALONE, "RRD of EASE + ∞-AE",
        "RRD of EASE + ∞-AE (learned)", f"RRD of {ITSELF}", f"FTD of {ITSELF}",
    ]  # fmt: skip
    for teachers in ("EASE + none", "EASE + EASE"):
        with pytest.raises(ValueError, match="--teachers"):
            kd_methods.run(kd_methods.Config(teachers=(teachers,), out=str(tmp_path / "b"), plot=False))
