"""The distillation binaries' `run` on tiny data: what they write, that they go on, and what they refuse."""

import dataclasses
import json
import os

import numpy as np
import oracles
import pytest

import distillcf
import infae
from experiments import run_distillcf
from experiments.bench import distillcf as bench_distillcf
from experiments.bench import measure
from experiments.bench import scale as bench_scale
from experiments.infinite import transfer
from experiments.recommenders import registry as models
from experiments.study import flags
from infae.data import random_split
from infae.data.synthetic import synthetic

SMALL = {"n_users": 6, "steps": 6, "validate_every": 2, "batch_size": 64, "checkpoint_every": 2, "metric": "HR@10"}


@pytest.fixture(scope="module")
def split():
    return random_split(synthetic(120, 60, n_groups=4, mean_clicks=10, seed=3).interactions, seed=0)


@pytest.fixture(autouse=True)
def small_data(split, monkeypatch):
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: split)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, split):
    folder = tmp_path_factory.mktemp("distil")
    config = run_distillcf.Config(dataset="made", seeds=(0, 1), export=("csv", "recbole"), out=str(folder), **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infae.data, "load", lambda *args, **kwargs: split)
        return folder, run_distillcf.run(config)


@pytest.mark.slow
def test_run_distillcf_writes_all_it_promises_and_no_checkpoint_stays(finished):
    folder, _ = finished
    each = {f"summary_{seed}.{ending}" for seed in (0, 1) for ending in ("npz", "csv", "inter")}
    assert {path.name for path in folder.iterdir()} == each | {"record.json", "table.md", "history.png"}
    assert distillcf.load(folder / "summary_1.npz").config["seed"] == 1


@pytest.mark.slow
def test_its_table_compares_the_summary_with_random_users_and_all_data(finished):
    folder, record = finished
    table = (folder / "table.md").read_text()
    for name in (
        "6 synthetic users, soft",
        "6 synthetic users, binary",
        "a fresh sample",
        "6 random users, solved labels",
    ):
        assert f"| {name}" in table
    assert "±" in table
    assert json.loads((folder / "record.json").read_text())["test"].keys() == record["test"].keys()


@pytest.mark.slow
def test_its_figures_are_those_of_the_saved_summary(finished, split):
    folder, record = finished
    report = infae.evaluate(distillcf.load(folder / "summary_1.npz").fit("hard"), split)
    assert record["test"]["6 synthetic users, binary"][1]["NDCG@10"] == pytest.approx(report["NDCG@10"], abs=1e-6)


@pytest.mark.slow
def test_random_users_with_solved_labels_are_kernel_ridge_regression_on_landmarks(split):
    inner = infae.InfiniteAE(popularity_power=-0.25)
    (_, _), (_, solved) = run_distillcf.random_users_models(split, inner, 30, 0, "HR@10")
    train = split.train.matrix.toarray()
    weights = np.maximum(train.sum(axis=0), 1) ** -0.25
    users = distillcf.CORESETS["random users"](split.train, 30, 0).matrix.toarray()
    kernel = np.asarray(infae.kernels.relu_ntk(train * weights, users * weights), float)
    own = np.asarray(infae.kernels.relu_ntk(users * weights), float)
    found = []
    for penalty in run_distillcf.LABEL_PENALTIES:
        for reg in (0.1, 1.0, 10.0):
            smoother = kernel @ oracles.ridge(own, np.eye(30), reg)
            labels = oracles.ridge(smoother.T @ smoother, smoother.T @ train, penalty)
            found.append(np.abs(smoother @ labels - solved.predict(split.train)).max())
    # One of the penalties and regs that are chosen from, and no other.
    assert sorted(found)[0] < 2e-3 < sorted(found)[1]


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, split, monkeypatch):
    config = run_distillcf.Config(dataset="made", out=str(tmp_path), baselines=False, plot=False, **SMALL)
    real = distillcf.Summary.save

    def stopped(self, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(distillcf.Summary, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_distillcf.run(config)
    assert (tmp_path / "checkpoint_0.npz").exists()
    monkeypatch.setattr(distillcf.Summary, "save", real)
    called = []
    distil = distillcf.distill
    monkeypatch.setattr(distillcf, "distill", lambda *a, **k: called.append(k["resume"]) or distil(*a, **k))
    run_distillcf.run(config)
    assert called == [tmp_path / "checkpoint_0.npz"]


@pytest.mark.slow
def test_finished_seeds_are_not_distilled_again(tmp_path, split, monkeypatch):
    config = run_distillcf.Config(
        dataset="made", out=str(tmp_path), baselines=False, plot=False, **{**SMALL, "seeds": (0, 1)}
    )
    real = distillcf.Summary.save

    def killed(self, path):
        if path.name == "summary_1.npz":
            raise KeyboardInterrupt
        real(self, path)

    monkeypatch.setattr(distillcf.Summary, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run_distillcf.run(config)
    monkeypatch.setattr(distillcf.Summary, "save", real)
    before = distillcf.load(tmp_path / "summary_0.npz").history
    run_distillcf.run(config)
    # With the seconds of the first time.
    assert distillcf.load(tmp_path / "summary_0.npz").history == before
    assert not list(tmp_path.glob("checkpoint*"))


@pytest.mark.slow
def test_the_best_state_of_a_run_that_diverged_is_saved(tmp_path, split, monkeypatch):
    summary = distillcf.distill(split.train, 6, seed=0, **{k: v for k, v in SMALL.items() if k in ("steps", "metric")})

    def diverge(*args, **kwargs):
        raise distillcf.DivergedError("the loss is not finite", summary)

    monkeypatch.setattr(distillcf, "distill", diverge)
    with pytest.raises(distillcf.DivergedError, match=r"The best state is in .*summary_0\.npz"):
        run_distillcf.run(run_distillcf.Config(dataset="made", out=str(tmp_path), **SMALL))
    assert distillcf.load(tmp_path / "summary_0.npz").n_users == 6


def test_without_a_validation_part_the_flag_to_make_one_is_named(tmp_path, split, monkeypatch):
    bare = infae.Split(split.train, split.validation.with_matrix(0 * split.validation.matrix), split.test)
    bare.validation.matrix.eliminate_zeros()
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: bare)
    with pytest.raises(ValueError, match=r"--validation_fraction=0\.1"):
        run_distillcf.run(run_distillcf.Config(dataset="made", out=str(tmp_path), **SMALL))
    with pytest.raises(ValueError, match="no validation part"):
        transfer.run(transfer.Config(dataset="made", models=("ease", "infae"), out=str(tmp_path), plot=False))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"reg": "some"}, "learn, a number"),
        ({"model": "other"}, "--model must be one of"),
        ({"export": ("xlsx",)}, "--export must be one of"),
        ({"n_draws": 0}, "n_draws"),
    ],
)
def test_wrong_flags_are_told(flags, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_distillcf.run(run_distillcf.Config(dataset="made", out=str(tmp_path), **{**SMALL, **flags}))


SHOWN = ["DISTILL-CF", "DISTILL-CF binary", "random users", "random interactions"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory, split):
    folder = tmp_path_factory.mktemp("transfer")
    config = transfer.Config(
        dataset="made", budgets=(5, 10), models=("ease", "infae"), steps=4, metric="HR@10", out=str(folder),
        sources=tuple(SHOWN), shared=str(folder / "summaries"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infae.data, "load", lambda *args, **kwargs: split)
        return folder, config, transfer.run(config)


def places(record):
    return {(cell["model"], cell["source"], cell["users"], cell["seed"]) for cell in record["cells"]}


@pytest.mark.slow
def test_transfer_has_a_cell_for_every_model_source_and_budget(studied):
    folder, _, record = studied
    wanted = {(m, s, b, 0) for m in ("EASE", "∞-AE, chosen") for s in SHOWN for b in (5, 10)}
    assert places(record) == wanted | {(m, "all users", 120, 0) for m in ("EASE", "∞-AE, chosen")}
    assert {"transfer.png", "table.md", "record.json", "cells"} <= {path.name for path in folder.iterdir()}


def no_training(monkeypatch):
    again = dataclasses.replace(models.MODELS["ease"], choose=lambda *args: pytest.fail("trained again"))
    monkeypatch.setitem(models.MODELS, "ease", again)


@pytest.mark.slow
def test_transfer_goes_on_where_it_was_stopped_and_refuses_other_settings(studied, monkeypatch):
    _, config, record = studied
    no_training(monkeypatch)
    again = transfer.run(dataclasses.replace(config, budgets=(5,)))
    assert places(again) == {place for place in places(record) if place[2] != 10}
    assert transfer.run(config)["cells"] == record["cells"]
    with pytest.raises(ValueError, match=r"other settings \(metric\)"):
        transfer.run(dataclasses.replace(config, metric="NDCG@10"))


@pytest.mark.slow
def test_transfer_refuses_other_data_in_the_same_folder(studied, monkeypatch):
    other = random_split(synthetic(120, 60, n_groups=4, mean_clicks=10, seed=4).interactions, seed=0)
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: other)
    with pytest.raises(ValueError, match=r"other settings \(data\)"):
        transfer.run(studied[1])


def test_transfer_refuses_unknown_models_and_sources(tmp_path):
    with pytest.raises(ValueError, match="expected some of popularity"):
        transfer.run(transfer.Config(models=("other",), out=str(tmp_path)))
    with pytest.raises(ValueError, match="unknown source other"):
        transfer.run(transfer.Config(sources=("other",), out=str(tmp_path)))


def test_a_preset_gives_defaults_and_flags_given_stay():
    quick = flags.configure(transfer.Config, preset="quick", seeds=(3,))
    assert (quick.dataset, quick.seeds, quick.steps) == ("ml-100k", (3,), 150)
    assert flags.configure(transfer.Config) == transfer.Config()
    with pytest.raises(ValueError, match="--preset must be one of"):
        flags.configure(transfer.Config, preset="fast")


def test_the_command_of_a_config_makes_it_again():
    config = flags.configure(transfer.Config, preset="paper", seeds=(1, 2), plot=False, data_dir="/somewhere")
    command = flags.command(config)
    assert command == "python -m experiments.infinite.transfer --preset=paper --noplot --seeds=1,2"


def test_a_measurement_has_a_process_of_its_own():
    assert measure.alone(os.getpid) != os.getpid()


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["here", "alone"])
def measured(request, monkeypatch):
    """Benchmarks measure in this process, or as people run them."""
    if not request.param:
        for module in (bench_distillcf, bench_scale):
            monkeypatch.setattr(module, "alone", lambda work, *args, **also: work(*args, **also))
            monkeypatch.setattr(module, "product_rate", lambda: 100.0)


@pytest.mark.usefixtures("measured")
@pytest.mark.slow
def test_bench_distillcf_measures_every_shape(tmp_path):
    config = bench_distillcf.Config(
        n_real=60, n_items=40, mean_clicks=6, n_users=5, batch_size=16, n_draws=(3,), stored_draws=(2,),
        users=(4, 5), items=(30,), batches=(8,), repeats=1, out=str(tmp_path),
    )  # fmt: skip
    rows = bench_distillcf.run(config)["rows"]
    assert len(rows) == 1 + 1 + 1 + 1 + 1 + 2 + 1 + 1 + 1
    assert all(row["seconds"] > 0 and row["planned_bytes"] >= 0 for row in rows)
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", "table.md", "bench_distillcf.png"}


@pytest.mark.slow
def test_the_benchmarks_stored_samples_are_the_samplers_own():
    import jax

    from distillcf.prior import gumbel_inclusion

    logits, key = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32), jax.random.key(5)
    stored = bench_distillcf.stored_gumbel_inclusion(logits, key, 7, 0.5)
    np.testing.assert_allclose(stored, gumbel_inclusion(logits, key, 7, 0.5), atol=1e-5)


@pytest.mark.usefixtures("measured")
@pytest.mark.slow
def test_bench_scale_measures_each_size(tmp_path):
    config = bench_scale.Config(
        users=(200, 400), n_items=100, mean_clicks=10, n_anchors=20, largest=300, largest_anchors=30, out=str(tmp_path)
    )
    record = bench_scale.run(config)
    assert [(row["users"], row["anchors"]) for row in record["rows"]] == [(200, 20), (400, 20), (300, 30)]
    assert all(row["fit_s"] > 0 and row["residual"] < 1e-3 and row["peak_gib"] > 0 for row in record["rows"])
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", "table.md", "bench_scale.png"}


def test_the_made_clicks_are_zipfs_and_the_same_at_every_pass():
    blocks = bench_scale.made_clicks(20_000, 500, 30.0)
    first, second = (np.concatenate([block.matrix.indices for block in blocks]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert sum(block.n_users for block in blocks) == 20_000
    assert 25 < first.size / 20_000 < 35
    popularity = np.bincount(first, minlength=500)
    # A Zipf-Mandelbrot law with offset 100, flattened where items are drawn twice.
    assert 3 < popularity[:20].mean() / popularity[-20:].mean() < 600 / 110
