"""Students as they are served: closed-form ones, files, exports, and the command that makes one."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

import infae
from experiments import distil_student
from experiments.kd.names import LISTED
from experiments.kd.protocol import by_history
from experiments.kd.served import Served, export
from experiments.kd.students import Student, StudentFileError, factorised, load, truncated_svd
from experiments.recommenders.mf import MF
from experiments.recommenders.neumf import NeuMF
from infae.data.synthetic import synthetic

CLICKS = synthetic(120, 90, mean_clicks=12, n_groups=6, seed=0).interactions


@pytest.fixture(scope="module")
def teacher():
    return infae.fit(CLICKS, reg=1.0)


@pytest.fixture(scope="module")
def student(teacher):
    return factorised(by_history(teacher, CLICKS), CLICKS, 8)


def test_a_truncated_svd_is_numpys():
    # A spectrum that falls: at a flat one no subspace iteration ends where the exact method does.
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 40)))[0] for n in (80, 60))
    matrix = (left * 0.7 ** np.arange(40) @ right.T).astype(np.float32)
    users, items = truncated_svd(matrix, 5)
    exact = np.linalg.svd(matrix, full_matrices=False)
    best = (exact[0][:, :5] * exact[1][:5]) @ exact[2][:5]
    assert_allclose(users @ items.T, best, atol=1e-5)
    assert_allclose(items.T @ items, np.eye(5), atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_a_closed_form_student_is_an_svd_and_a_ridge_regression(shape):
    rng = np.random.default_rng(1)
    clicks = infae.Interactions.from_matrix(sp.csr_matrix(rng.random(shape) < 0.2, dtype=np.float32))
    scores = (rng.normal(size=(shape[0], 4)) @ rng.normal(size=(4, shape[1]))).astype(np.float32)
    found = factorised(lambda users: scores[users], clicks, 3, reg=0.5)

    rows = scores - scores.mean(1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    u, s, vt = np.linalg.svd(rows, full_matrices=False)
    users = u[:, :3] * s[:3]
    x = clicks.matrix.toarray()
    x /= np.maximum(x.sum(1, keepdims=True), 1)
    strength = 0.5 * (x**2).sum() / shape[0]
    encode = np.linalg.solve(x.T @ x + strength * np.eye(shape[1]), x.T @ (users - users.mean(0)))
    wanted = (users.mean(0) + x @ encode) @ vt[:3]
    assert_allclose(found.predict(clicks), wanted, atol=2e-5)


def test_a_trained_mf_is_served_with_the_same_scores():
    model = MF(n_factors=5, n_epochs=5).fit(CLICKS)
    served = Student.of(model)
    assert_allclose(served.predict(CLICKS), model.predict(CLICKS), atol=1e-4)
    empty = sp.csr_matrix((2, CLICKS.n_items), dtype=np.float32)
    assert_allclose(served.predict(empty), model.predict(empty), atol=1e-5)
    empty_row = torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3)
    assert_allclose(Served(served)(*empty_row)[0].numpy(), model.predict(empty)[0], atol=1e-5)
    with pytest.raises(TypeError, match="NeuMF"):
        Student.of(NeuMF(n_factors=4, n_epochs=1).fit(CLICKS))


def test_a_student_is_near_its_teacher_and_nearer_the_wider_it_is(teacher):
    score = by_history(teacher, CLICKS)
    shares = [distil_student.overlap(score, by_history(factorised(score, CLICKS, rank, 0.01), CLICKS), CLICKS)
              for rank in (2, 8, 60)]  # fmt: skip
    assert shares[0] < shares[1] < shares[2] > 0.9


def test_a_file_holds_a_student_and_eight_bits_are_a_quarter_of_it(student, tmp_path):
    paths = {bits: tmp_path / f"{bits}.npz" for bits in (32, 8)}
    for bits, path in paths.items():
        student.save(path, bits)
    assert_array_equal(load(paths[32]).predict(CLICKS), student.predict(CLICKS))
    rounded = load(paths[8])
    for name in ("encode", "decode"):
        table = getattr(student, name)
        steps = np.abs(table).max(1, keepdims=True) / 127
        assert (np.abs(getattr(rounded, name) - table) <= steps / 2 + 1e-7).all()
    n_bytes = {
        bits: sum(part.nbytes for part in np.load(path).values() if part.ndim == 2) for bits, path in paths.items()
    }
    assert n_bytes[8] < 0.4 * n_bytes[32]
    with pytest.raises(ValueError, match="bits"):
        student.save(tmp_path / "4.npz", 4)


def test_a_file_that_is_no_students_is_refused(student, teacher, tmp_path):
    teacher.save(tmp_path / "teacher.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    for name in ("teacher", "text"):
        with pytest.raises(StudentFileError):
            load(tmp_path / f"{name}.npz")
    student.save(tmp_path / "student.npz")
    parts = dict(np.load(tmp_path / "student.npz"))
    for damaged in ({"offset": parts["offset"][:-1]}, {"encode": parts["encode"][:-1]}, {"item_ids": np.zeros(90)}):
        np.savez(tmp_path / "damaged.npz", **{**parts, **damaged})
        with pytest.raises(StudentFileError):
            load(tmp_path / "damaged.npz")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


def padded(histories):
    """Items and values of rows, filled up to the longest."""
    items = torch.zeros(histories.shape[0], max(np.diff(histories.indptr)), dtype=torch.int64)
    values = torch.zeros(items.shape)
    for row in range(histories.shape[0]):
        own = histories[row].indices
        items[row, : own.size], values[row, : own.size] = torch.from_numpy(own.astype(np.int64)), 1.0
    return items, values


def test_an_onnx_model_scores_as_the_student_does(student, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    session = runtime.InferenceSession(export(student, "onnx", tmp_path))
    for n in (1, 5):
        items, values = padded(CLICKS.matrix[:n])
        (scores,) = session.run(["scores"], {"items": items.numpy(), "values": values.numpy()})
        assert_allclose(scores, student.predict(CLICKS.matrix[:n]), atol=1e-5)


def test_exported_programs_score_rows_of_any_length_as_the_student_does(student, tmp_path):
    exported = torch.export.load(export(student, "torch", tmp_path)).module()
    for n in (1, 3, 7):
        histories = CLICKS.matrix[:n]
        items, values = padded(histories)
        for module in (exported, Served(student)):
            assert_allclose(module(items, values).numpy(), student.predict(histories), atol=1e-5)


@pytest.mark.parametrize(
    ("rank", "reg", "says"), [(0, 0.1, "rank"), (90, 0.1, "below 90"), (3, 0.0, "reg"), (3, float("nan"), "reg")]
)
def test_bad_ranks_and_regs_are_refused(teacher, rank, reg, says):
    with pytest.raises(ValueError, match=says):
        factorised(by_history(teacher, CLICKS), CLICKS, rank, reg)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        factorised(lambda users: np.full((len(users), CLICKS.n_items), np.nan, np.float32), CLICKS, 3)


@pytest.fixture
def files(teacher, tmp_path):
    teacher.save(tmp_path / "model.npz")
    CLICKS.to_frame().to_csv(tmp_path / "clicks.csv", index=False)
    return {
        "teacher": str(tmp_path / "model.npz"),
        "on": str(tmp_path / "clicks.csv"),
        "out": str(tmp_path / "student"),
    }


@pytest.mark.parametrize("loss", [distil_student.FACTORISED, "RRD", LISTED])
def test_the_command_writes_a_student(files, tmp_path, loss):
    config = distil_student.Config(**files, loss=loss, dim=8, n_epochs=5, bits=8, export="torch")
    report = distil_student.run(config)
    assert json.loads((tmp_path / "student" / "report.json").read_text())["parameters"] == report["parameters"]
    student = load(tmp_path / "student" / "student.npz")
    assert report["bytes"] == (tmp_path / "student" / "student.npz").stat().st_size
    assert student.recommend(CLICKS, n=3).items.shape == (120, 3)
    exported = torch.export.load(tmp_path / "student" / "student.pt2").module()
    scores = exported(*padded(CLICKS.matrix[:4]))
    assert_allclose(scores.numpy(), student.predict(CLICKS.matrix[:4]), atol=1e-5)


def test_what_the_command_refuses(files, tmp_path):
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [10**6, 10**6 + 1]})
    frame.to_csv(tmp_path / "others.csv", index=False)
    for flags, says in (
        ({"teacher": ""}, "--teacher is missing"),
        ({"loss": "DE"}, "--loss"),
        ({"dim": 90}, "--dim"),
        ({"loss": "none"}, "--loss"),
        ({"bits": 4}, "--bits"),
        ({"loss": LISTED, "weight": 1.0}, "--weight"),
        ({"export": "pickle"}, "--export"),
        ({"on": str(tmp_path / "others.csv")}, "other items"),
        ({"on": files["teacher"]}, "--on"),
    ):
        with pytest.raises(ValueError, match=says):
            distil_student.run(distil_student.Config(**{**files, **flags}))
    assert not (tmp_path / "student" / "student.npz").exists()


def test_a_student_larger_than_its_teacher_is_told(files, capsys):
    distil_student.run(distil_student.Config(**files, dim=8))
    assert "larger than its teacher" not in capsys.readouterr().out
    distil_student.run(distil_student.Config(**files, dim=89))
    assert "larger than its teacher" in capsys.readouterr().out
