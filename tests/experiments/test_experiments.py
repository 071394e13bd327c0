"""The binaries' `run` on tiny data, their flags, and the baselines' closed forms."""

import json
import subprocess
import sys

import numpy as np
import oracles
import pytest

import infae
from experiments import run_infae
from experiments.bench import infae as bench_infae
from experiments.infinite import compare
from experiments.recommenders import EASE, PopRec, select_ease
from experiments.study import record
from infae.data.synthetic import synthetic, tiny


@pytest.fixture(scope="module")
def clicks():
    return synthetic(80, 40, n_groups=4, mean_clicks=8, seed=3).interactions


def test_ease_is_the_constrained_least_squares_solution(clicks):
    model = EASE(20.0).fit(clicks)
    weights = oracles.ease_weights(clicks.matrix.toarray(), 20.0)
    np.testing.assert_allclose(model._weights, weights, atol=1e-6)
    np.testing.assert_allclose(model.predict(clicks), clicks.matrix @ weights, atol=1e-5)


def test_ease_by_users_where_they_are_fewer_than_items(clicks):
    train, histories = clicks.matrix[:12], clicks.matrix[5:40]
    assert train.shape[0] < train.shape[1]
    scores = EASE(3.0).fit(train).predict(histories)
    np.testing.assert_allclose(scores, histories @ oracles.ease_weights(train.toarray(), 3.0), rtol=1e-4, atol=1e-5)


def test_ease_refuses_a_lambda_that_is_not_positive(clicks):
    with pytest.raises(ValueError, match=r"lambda.* must be a finite number above 0"):
        EASE(0.0).fit(clicks)


def test_select_ease_keeps_the_best_on_validation(clicks):
    split = infae.data.random_split(clicks, seed=1)
    found = select_ease(split, (0.1, 10.0, 1000.0), metric="NDCG@10")
    separate = {
        reg: infae.evaluate(EASE(reg).fit(split.train), split, on="validation")["NDCG@10"]
        for reg in (0.1, 10.0, 1000.0)
    }
    assert {row["lambda"]: row["NDCG@10"] for row in found.tried} == pytest.approx(separate)
    assert found.candidate.reg == max(separate, key=separate.__getitem__)


def test_poprec_scores_by_clicks(clicks):
    scores = PopRec().fit(clicks).predict(clicks.select_users(np.arange(3)))
    np.testing.assert_array_equal(scores, np.tile(clicks.matrix.toarray().sum(axis=0), (3, 1)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = run_infae.Config(dataset="tiny", reg=(0.0, 0.1, 1.0), ease_lambda=(1.0, 10.0), k=(2,), out=str(folder))
    with pytest.warns(infae.IllConditionedWarning, match="passed over: reg = 0 in float32"):
        run_infae.run(config)
    return folder


def test_run_infae_writes_all_it_promises(finished):
    assert sorted(path.name for path in finished.iterdir()) == ["model.npz", "record.json", "reg_path.png", "table.md"]


def test_run_infae_records_flags_versions_timings_and_metrics(finished):
    written = json.loads((finished / "record.json").read_text())
    assert written["config"]["reg"] == [0.0, 0.1, 1.0]
    assert {"jax", "infae", "python"} <= set(written["versions"])
    assert {"fit", "test", "ease", "popularity"} <= set(written["steps"])
    assert written["path"][0]["reg"] == 0.0
    assert "reg = 0 in float32" in written["path"][0]["failure"]
    assert "HR@100" not in written["path"][0]
    ours = next(report for name, report in written["test"].items() if name.startswith("∞-AE"))
    assert ours["NDCG@2"] == 1.0


def test_run_infae_model_loads_and_gives_the_recorded_metrics(finished):
    model = infae.load(finished / "model.npz")
    written = json.loads((finished / "record.json").read_text())
    assert model.reg_ == written["reg"]
    assert infae.evaluate(model, tiny(), k=(2,))["HR@2"] == written["test"][f"∞-AE, reg {model.reg_:g}"]["HR@2"]


def test_run_infae_with_one_reg_needs_no_validation(tmp_path):
    split = run_infae.run(
        run_infae.Config(dataset="tiny", reg=(1.0,), k=(2,), out=str(tmp_path), baselines=("none",), save_model=False)
    )
    assert split["reg"] == 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["record.json", "table.md"]


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["cg", "auto"])
def test_run_infae_takes_the_name_of_a_solver(solver, tmp_path):
    flags = {"dataset": "tiny", "reg": (1.0,), "k": (2,), "baselines": ("none",), "out": str(tmp_path)}
    record = run_infae.run(run_infae.Config(solver=solver, **flags))
    assert record["solver"] == ("exact" if solver == "auto" else solver)


def test_run_infae_refuses_an_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="output folder"):
        run_infae.run(run_infae.Config(dataset="tiny", out=str(tmp_path / "taken")))


def test_run_infae_refuses_an_unknown_baseline(tmp_path):
    with pytest.raises(ValueError, match="--baselines must be one of 'popularity', 'ease', 'none', got 'svd'"):
        run_infae.run(run_infae.Config(dataset="tiny", baselines=("svd",), out=str(tmp_path)))


@pytest.mark.slow
def test_the_command_line_reads_lists_and_explains_mistakes(tmp_path):
    def call(*flags):
        command = [sys.executable, "-m", "experiments.run_infae", "--dataset=tiny", f"--out={tmp_path}", *flags]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = call("--reg=1,2", "--k=2", "--baselines=popularity", "--noplot", "--nosave_model")
    assert good.returncode == 0, good.stderr
    assert json.loads((tmp_path / "record.json").read_text())["config"]["reg"] == [1.0, 2.0]
    bad = call("--reg=one")
    assert bad.returncode == 1
    assert "--reg takes a comma-separated list of float" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_records_hold_no_nan_and_are_never_half_written(tmp_path):
    record.write_json(tmp_path / "a.json", {"x": float("nan"), "y": (np.float32(0.5), np.int64(2))})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [0.5, 2]}
    with pytest.raises(TypeError):
        record.write_json(tmp_path / "a.json", {"x": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.slow
def test_bench_infae_measures_all_four_parts(tmp_path, monkeypatch):
    monkeypatch.delenv("INFAE_DATA", raising=False)
    # The tests after this one would compile everything again.
    monkeypatch.setattr("jax.clear_caches", lambda: None)
    monkeypatch.setattr(bench_infae, "REGS", (0.0, 1.0))
    monkeypatch.setattr(bench_infae, "_split", lambda config: infae.data.random_split(bench_infae._clicks(config, 60)))
    config = bench_infae.Config(
        users=(20, 40), n_items=400, mean_clicks=8, sparse_users=40, sparse_items=80, repeats=1, out=str(tmp_path)
    )
    written = bench_infae.run(config)
    assert [row["users"] for row in written["scaling"]] == [20, 40]
    assert all(row["largest_difference"] < 1e-3 for row in written["gram"].values())
    assert written["grid_search"]["largest_difference_in_HR@100"] < 0.02
    assert (tmp_path / "bench_infae.png").stat().st_size > 0


@pytest.mark.slow
def test_compare_tests_each_choice_and_the_same_fitted_on_validation_too(tmp_path, clicks, monkeypatch):
    split = infae.data.random_split(clicks, seed=1)
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: split)
    config = compare.Config(
        dataset="made", splits=(0, 2), models=("published", "ease"), metric=("NDCG@10",), k=(10,), out=str(tmp_path)
    )
    record = compare.run(config)
    [table] = record["tables"]
    names = ["∞-AE, published", "EASE"]
    assert [row[0] for row in table.rows] == [f"{name}{more}" for name in names for more in ("", compare.REFIT)]
    assert all("±" in cell for row in table.rows for cell in row[1:])
    ease = next(cell for cell in record["cells"] if (cell["model"], cell["split"]) == ("ease", 0))
    reg, everything = ease["chosen"]["lambda"], split.train.union(split.validation)
    again = infae.evaluate(EASE(reg).fit(everything), split, k=(10,))["NDCG@10"]
    assert ease["test"]["EASE" + compare.REFIT]["NDCG@10"] == pytest.approx(again, abs=1e-6)
    assert max(row["NDCG@10"] for row in ease["chosen"]["tried"]) == next(
        row["NDCG@10"] for row in ease["chosen"]["tried"] if row["lambda"] == reg
    )
    monkeypatch.setattr(compare, "MODELS", dict.fromkeys(compare.MODELS, lambda *args: pytest.fail("fitted again")))
    assert compare.run(config)["cells"] == record["cells"]
    with pytest.raises(ValueError, match="--models must be one of 'select', 'published', 'ease', got 'other'"):
        compare.run(compare.Config(models=("other",), out=str(tmp_path)))
