"""Splits and protocols of distilled recommenders."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import infae
from experiments.kd import data, protocol
from infae.data.synthetic import synthetic

needs_data = pytest.mark.skipif("INFAE_DATA" not in os.environ, reason="needs INFAE_DATA")


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    clicks = infae.Interactions.from_matrix((rng.random((30, 600)) < 0.02).astype(np.float32))
    return infae.data.leave_one_out(clicks, seed=0)


@pytest.fixture(scope="module")
def scores():
    return np.round(np.random.default_rng(1).normal(size=(30, 600)), 1).astype(np.float32)  # with ties


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("drawn", [False, True])
def test_ranks_are_counted_one_by_one(part, drawn, split, scores):
    among = protocol.candidates(split, part, 1) if drawn else None
    found = protocol.ranks(lambda users: scores[users], split, part, among)
    users, items = protocol.held_out(split, part)
    parts = [split.train, *([split.validation] if part == "test" else [])]
    for n, (user, item) in enumerate(zip(users, items, strict=True)):
        seen = {place for each in parts for place in each.matrix[user].indices}
        others = among[n] if drawn else [other for other in range(600) if other not in seen and other != item]
        assert found[n] == sum(scores[user, other] >= scores[user, item] for other in others)


def test_candidates_are_all_different_and_never_clicked(split):
    among = protocol.candidates(split, "test", 0)
    users, items = protocol.held_out(split, "test")
    assert among.shape == (len(users), 499)
    clicked = (split.train.matrix + split.validation.matrix + split.test.matrix).toarray()
    for user, item, drawn in zip(users, items, among, strict=True):
        assert len({*drawn}) == 499
        assert item not in drawn
        assert not clicked[user, drawn].any()
    assert_array_equal(among, protocol.candidates(split, "test", 0))
    assert (among != protocol.candidates(split, "test", 1)).any()
    assert (among != protocol.candidates(split, "validation", 0)).any()


def test_figures_are_of_places():
    found = protocol.figures(np.array([0, 1, 4, 5]), (1, 5))
    expected = {
        "H@1": 1 / 4, "N@1": 1 / 4, "M@1": 1 / 4, "H@5": 3 / 4, "N@5": (1 + 1 / np.log2(3) + 1 / np.log2(6)) / 4,
        "M@5": (1 + 1 / 2 + 1 / 5) / 4,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    assert_allclose([*found.values()], [*expected.values()])


def test_a_model_that_says_nothing_finds_nothing(split):
    places = protocol.ranks(lambda users: np.zeros((len(users), 600)), split, "test")
    assert protocol.figures(places)["H@50"] == 0


def test_all_items_are_those_of_the_librarys_own_evaluation():
    """On scores without ties, of a model that reads the same histories."""
    split = infae.data.leave_one_out(infae.data.load("tiny").train, seed=0)
    model = infae.fit(split.train, 1.0)
    places = protocol.ranks(lambda users: model.predict(split.train.matrix[users]), split, "validation")
    report = infae.evaluate(model, split, "validation", k=(5,))
    assert_allclose([protocol.figures(places)[name] for name in ("H@5", "N@5")], [report["HR@5"], report["NDCG@5"]])


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda users: np.zeros((len(users), 3)), "expected scores"),
        (lambda users: np.full((len(users), 600), np.nan), "NaN or infinite"),
    ],
)
def test_bad_scores_are_refused(score, message, split):
    with pytest.raises(ValueError, match=message):
        protocol.ranks(score, split, "test")


def test_splits_of_several_clicks_or_few_items_are_refused():
    several = infae.data.random_split(infae.data.load("tiny").train, fractions=(0.4, 0.3, 0.3), seed=0)
    with pytest.raises(ValueError, match="expected one test click of a user"):
        protocol.held_out(several, "test")
    few = infae.data.leave_one_out(infae.data.load("tiny").train, seed=0)
    with pytest.raises(ValueError, match="499 candidates are asked for"):
        protocol.candidates(few, "test")
    with pytest.raises(ValueError, match="part must be one of"):
        protocol.held_out(few, "train")


def test_lines_begin_with_how_many_items_there_are(tmp_path):
    (tmp_path / "users.dat").write_text("2 7 8\n\n3 8 9 8\n")
    clicks = data.counted_lines(tmp_path / "users.dat")
    assert_array_equal(clicks.item_ids, [7, 8, 9])
    assert_array_equal(clicks.matrix.toarray(), [[1, 1, 0], [0, 1, 1]])
    (tmp_path / "users.dat").write_text("2 7 8\n3 8 9\n")
    with pytest.raises(ValueError, match="line 2: expected 3 items, by its first number, got 2"):
        data.counted_lines(tmp_path / "users.dat")
    with pytest.raises(ValueError, match="name must be one of"):
        data.split("netflix")


@needs_data
@pytest.mark.parametrize(
    ("name", "n_users", "n_items", "n_clicks"),
    [("citeulike", 5219, 25181, 125_580), ("foursquare", 24_941, 28_593, 717_086), ("ml-100k", 943, 1682, 100_000)],
)
def test_data_sets_have_the_published_sizes(name, n_users, n_items, n_clicks):
    found = data.split(name)
    assert found.train.shape == (n_users, n_items)
    assert sum(part.n_interactions for part in (found.train, found.validation, found.test)) == n_clicks
    users, _ = protocol.held_out(found, "test")
    assert len(users) == n_users


def test_a_closed_form_student_needs_no_pytorch(tmp_path):
    clicks = synthetic(60, 40, mean_clicks=8, n_groups=3, seed=0).interactions
    infae.fit(clicks, reg=1.0).save(tmp_path / "model.npz")
    clicks.to_frame().to_csv(tmp_path / "clicks.csv", index=False)
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from experiments import distil_student as made\n"
        f"made.run(made.Config(teacher={str(tmp_path / 'model.npz')!r}, on={str(tmp_path / 'clicks.csv')!r}, dim=5,"
        f" out={str(tmp_path / 'student')!r}))\n"
        "from experiments.kd.students import load\n"
        f"print(load({str(tmp_path / 'student' / 'student.npz')!r}).encode.shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("(40, 5)\n")
