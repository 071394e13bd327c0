"""Checkpoints: continued to the same bits, whole at any moment, and refused where they are not of this run."""

import json
import multiprocessing
import pickle
import shutil
import time
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_distill import (  # noqa: F401 - a fixture for this module too
    assert_same_bits,
    compiled_once,
    distil,
    planted_split,
    scripted,
    steps_of,
    teacher,
)

import distillcf
import infae
from distillcf import CheckpointError, checkpoint
from distillcf.coresets import random_users
from infae import InfiniteAE, Interactions
from infae.data import Split
from infae.data.synthetic import synthetic
from infae.kernels import ReluNTK

STEPS = 12


@pytest.fixture(scope="module")
def planted():
    return planted_split()


def run(planted, **settings):
    return distil(
        settings.pop("X", planted.train), **{"validation": planted, "patience": 0, "steps": STEPS, **settings}
    )


@pytest.fixture(scope="module")
def recorded(planted, tmp_path_factory):
    """(summary, folder with the checkpoint of every step) of an uninterrupted run."""
    return record(planted, tmp_path_factory.mktemp("recorded"))


def record(planted, folder, **settings):
    real = checkpoint.save

    def save(path, progress, identity):
        real(path, progress, identity)
        shutil.copy(path, path.with_name(f"{progress.step}.npz"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        summary = run(planted, checkpoint=folder / "run.npz", checkpoint_every=1, **settings)
    return summary, folder


@pytest.fixture
def saved(recorded, tmp_path):
    """A checkpoint of half the run, to be spoilt."""
    return shutil.copy(recorded[1] / "6.npz", tmp_path / "run.npz")


def rewrite(path, **changes):
    """Write the fields of a checkpoint again with some of them changed; None leaves one out."""
    with np.load(path) as archive:
        fields = {**archive, **changes}
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})


def about(path, **changes):
    """The JSON of a checkpoint with some entries changed."""
    with np.load(path) as archive:
        return np.array(json.dumps({**json.loads(str(archive["about"])), **changes}))


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_writes_gives_the_bits_of_one_that_does_not(planted, recorded):
    assert_same_bits(run(planted), recorded[0])


@pytest.mark.parametrize("step", [1, 4, 12, *(pytest.param(step, marks=pytest.mark.slow) for step in (3, 5, 8, 11))])
def test_a_resumed_run_gives_the_bits_of_an_uninterrupted_one(step, planted, recorded):
    whole, folder = recorded
    assert_same_bits(run(planted, resume=folder / f"{step}.npz"), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": "gumbel"},
        {"labels": "free", "held_out": 0.3},
        {"reg": (0.1, 1.0, 10.0)},
        {"batch_size": 37, "sharpness": 0.02, "l1": 0.001},
        {"validation": None, "objective": "softmax", "metric": "AUC"},
        {"seed": 5, "model": None, "start": "head"},
    ],
    ids=str,
)
def test_so_it_does_whatever_the_settings(settings, planted, tmp_path):
    whole, folder = record(planted, tmp_path, **settings)
    for step in (3, 9):
        assert_same_bits(run(planted, resume=folder / f"{step}.npz", **settings), whole)


@pytest.mark.slow
def test_a_chain_of_interruptions_gives_the_bits_of_none(planted, recorded, tmp_path):
    """Ctrl-C at the writing of a checkpoint, again and again, and the same file to read and to write."""
    path, real = tmp_path / "run.npz", checkpoint.save
    for stop in (2, 3, 7, 8, None):

        def save(path, progress, identity, stop=stop):
            real(path, progress, identity)
            if progress.step == stop:
                raise KeyboardInterrupt

        resume = path if path.exists() else None
        with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(checkpoint, "save", save)
            summary = run(planted, checkpoint=path, checkpoint_every=1, resume=resume)
    assert_same_bits(summary, recorded[0])


def test_a_finished_run_is_resumed_to_the_same_summary_without_a_step(planted, recorded, monkeypatch):
    whole, folder = recorded

    def no_step(*args):
        raise AssertionError("a step was taken")

    monkeypatch.setattr("distillcf.step.jax.value_and_grad", no_step)
    assert_same_bits(run(planted, resume=folder / "run.npz"), whole)


def early_end(planted, path, validate_every, monkeypatch):
    """A run that ended by patience after 4 validations of 50, and the same resumed."""
    settings = {"steps": 50, "validate_every": validate_every, "patience": 2}
    values = [0.1, 0.4, 0.3, 0.3, 0.9]
    scripted(monkeypatch, values)
    ended = run(planted, checkpoint=path, checkpoint_every=3, **settings)
    assert steps_of(ended) == [validate_every * n for n in (1, 2, 3, 4)]
    scripted(monkeypatch, values[4:])
    return ended, run(planted, resume=path, **settings)


@pytest.mark.slow
def test_a_run_that_ended_early_is_resumed_to_the_same_summary(planted, tmp_path, monkeypatch):
    assert_same_bits(*early_end(planted, tmp_path / "run.npz", 2, monkeypatch))


def test_so_it_is_where_each_step_is_validated(planted, tmp_path, monkeypatch):
    assert_same_bits(*early_end(planted, tmp_path / "run.npz", 1, monkeypatch))


@pytest.mark.slow
def test_checkpoints_are_written_at_the_interval_and_at_the_end(planted, tmp_path, monkeypatch):
    steps, real = [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda path, done, who: steps.append(done.step) or real(path, done, who))
    run(planted, steps=10, checkpoint=tmp_path / "run.npz", checkpoint_every=4)
    assert steps == [4, 8, 10]
    steps.clear()
    run(planted, steps=10, checkpoint=str(tmp_path / "run.npz"), checkpoint_every=4, resume=str(tmp_path / "run.npz"))
    assert steps == []


def test_seconds_go_on_from_those_before(planted, recorded, tmp_path):
    whole, folder = recorded
    past = [{**row, "seconds": 1000.0} for row in whole.history[:2]]
    path = shutil.copy(folder / "9.npz", tmp_path / "run.npz")
    rewrite(path, about=about(path, history=past))
    assert 1000 < run(planted, resume=path).history[-1]["seconds"] < 1100


@pytest.mark.slow
def test_a_checkpoint_of_version_0_1_is_gone_on_from():
    """Of step 3 of 4; its two validations are one and the run's own."""
    clicks = synthetic(30, 10, n_groups=2, mean_clicks=4, seed=0).interactions
    settings = {"labels": "free", "objective": "softmax", "reg": (0.5, 2), "model": teacher()}
    settings |= {"n_users": 3, "steps": 4, "validate_every": 2, "n_draws": 5, "seed": 0}
    path = Path(__file__).parent / "files" / "checkpoint_of_0.1.npz"
    resumed, whole = (distillcf.distill(clicks, resume=resume, **settings) for resume in (path, None))
    assert steps_of(resumed) == [2, 4]
    with np.load(path) as archive:
        assert resumed.history[0] == pytest.approx(json.loads(str(archive["about"]))["history"][0], nan_ok=True)
    assert_allclose(resumed.logits, whole.logits, rtol=1e-3, atol=1e-3)


# --- whole at any moment --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_finished_run_leaves_one_file(planted, tmp_path):
    run(planted, steps=3, checkpoint=tmp_path / "run.npz", checkpoint_every=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.parametrize("written", [0, 1000])
def test_a_write_that_fails_leaves_the_last_checkpoint(written, planted, recorded, tmp_path, monkeypatch):
    path, real = tmp_path / "run.npz", np.savez
    calls = []

    def full(file, **fields):
        calls.append(file)
        if len(calls) < 5:
            return real(file, **fields)
        file.write(b"P" * written)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            run(planted, checkpoint=path, checkpoint_every=1)
    assert list(tmp_path.iterdir()) == [path]
    with np.load(path) as archive:
        assert json.loads(str(archive["about"]))["step"] == 4
    assert_same_bits(run(planted, resume=path), recorded[0])


@pytest.mark.slow
def test_what_is_renamed_is_whole_and_on_disk(planted, tmp_path, monkeypatch):
    """Before the file takes its place it can be read, and has been flushed to the disk."""
    import os

    order, replace, fsync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: order.append("fsync") or fsync(fd))

    def checked(aside, path):
        with np.load(aside) as archive:
            assert all(archive[name] is not None for name in archive.files)
        order.append("replace")
        replace(aside, path)

    monkeypatch.setattr(os, "replace", checked)
    run(planted, steps=2, checkpoint=tmp_path / "run.npz", checkpoint_every=1)
    assert order == ["fsync", "replace"] * 2


KILLED = {"steps": 300, "validate_every": 50, "checkpoint_every": 1}


def worker(folder, cache, pipe):
    """Go on with the run, and tell of each checkpoint that is written."""
    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    path, real = folder / "run.npz", checkpoint.save

    def save(path, progress, identity):
        real(path, progress, identity)
        pipe.send(progress.step)

    checkpoint.save = save
    run(planted_split(), checkpoint=path, resume=path if path.exists() else None, **KILLED)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 14])
def test_killed_at_random_moments_the_run_goes_on_to_the_same_bits(kills, planted, tmp_path):
    """Processes in a row, each killed with SIGKILL; the first compiles for itself."""
    path, cache = tmp_path / "run.npz", jax.config.jax_compilation_cache_dir
    whole = run(planted, **KILLED)
    # A server that has imported the library and started no thread forks the processes.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["distillcf", "pandas", "pytest"])
    rng = np.random.default_rng(0)
    for kill in range(kills):
        pipe, child_end = context.Pipe(duplex=False)
        process = context.Process(target=worker, args=(tmp_path, cache if kill else None, child_end))
        process.start()
        child_end.close()
        told = [pipe.recv() for _ in range(rng.integers(1, 18))]
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.join()
        assert process.exitcode == -9
        with np.load(path, allow_pickle=False) as archive:
            fields = {**archive}
        assert json.loads(str(fields["about"]))["step"] >= told[-1]
        if kill in (3, 9):
            assert_same_bits(run(planted, resume=path, **KILLED), whole)
    assert_same_bits(run(planted, resume=path, checkpoint=path, **{**KILLED, "checkpoint_every": 300}), whole)


# --- of another run -------------------------------------------------------------------------------


def other_clicks(part):
    """The same but for one click more."""
    matrix = part.matrix.tolil()
    matrix[0, int(np.flatnonzero(matrix.toarray()[0] == 0)[0])] = 1
    return part.with_matrix(matrix.tocsr())


def other_validation(planted):
    return Split(planted.train, other_clicks(planted.validation), planted.test)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda planted: {"n_users": 9}, "n_users was 8 and is 9"),
        (lambda planted: {"learning_rate": 0.2}, "learning_rate was 0.15 and is 0.2"),
        (lambda planted: {"steps": 13}, "steps was 12 and is 13"),
        (lambda planted: {"seed": 1}, "seed was 0 and is 1"),
        (lambda planted: {"labels": "free"}, "labels was 'clicks' and is 'free'"),
        (lambda planted: {"reg": (0.1, 1.0)}, r"reg was None and is \[0\.1, 1\.0\]"),
        (lambda planted: {"metric": "AUC"}, "metric was 'HR@10' and is 'AUC'"),
        (lambda planted: {"model": InfiniteAE(1.0, popularity_power=-0.25, depth=2)}, "depth was 1 and is 2"),
        (lambda planted: {"model": InfiniteAE(1.0, popularity_power=-0.25, row_power=1.0)}, "row_power was 0.0"),
        (lambda planted: {"validation": None}, "the validation data differs$"),
        (lambda planted: {"validation": other_validation(planted)}, "the validation data differs$"),
        (lambda planted: {"start": "head"}, "start was 'mixed' and is 'head'"),
        (lambda planted: {"scores": np.zeros((120, 60)), "model": teacher()}, "the scores data differs$"),
        (lambda planted: {"n_draws": 21, "l1": 0.5}, "l1 was 0.0 and is 0.5; n_draws was 20 and is 21"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(change, message, planted, recorded):
    with pytest.raises(CheckpointError, match=f"6.npz is a checkpoint of another run: {message}"):
        run(planted, resume=recorded[1] / "6.npz", **change(planted))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["users", "summary"])
def test_so_is_one_of_another_start_of_the_same_form(form, planted, tmp_path):
    starts = [random_users(planted.train, 8, seed) for seed in range(2)]
    if form == "summary":
        starts = [run(planted, start=users, steps=1) for users in starts]
    run(planted, start=starts[0], checkpoint=tmp_path / "run.npz")
    with pytest.raises(CheckpointError, match=r"the start data differs$"):
        run(planted, start=starts[1], resume=tmp_path / "run.npz")


@pytest.mark.slow
def test_so_is_one_of_other_scores_of_any_user(planted, tmp_path):
    scores = np.tile(np.linspace(0, 1, 60), (120, 1))
    run(planted, scores=scores, model=teacher(), checkpoint=tmp_path / "run.npz")
    scores[-1, -1] = 2
    with pytest.raises(CheckpointError, match=r"the scores data differs$"):
        run(planted, scores=scores, model=teacher(), resume=tmp_path / "run.npz")


@pytest.mark.slow
def test_so_is_one_of_another_kernel_of_the_callers_own(planted, tmp_path):
    settings = {"objective": "softmax"}
    run(planted, model=InfiniteAE(kernel=ReluNTK(1)), checkpoint=tmp_path / "run.npz", **settings)
    with pytest.raises(CheckpointError, match=r"the kernel data differs$"):
        run(planted, model=InfiniteAE(kernel=ReluNTK(2)), resume=tmp_path / "run.npz", **settings)


def test_so_is_one_of_another_validation_context(planted, tmp_path):
    held_out = [
        Split(planted.train, planted.validation, planted.test, validation_context=context)
        for context in (planted.train, other_clicks(planted.train))
    ]
    run(planted, validation=held_out[0], checkpoint=tmp_path / "run.npz")
    with pytest.raises(CheckpointError, match=r"the validation data differs$"):
        run(planted, validation=held_out[1], resume=tmp_path / "run.npz")


@pytest.mark.parametrize(
    "params",
    [{"popularity_power": -0.5}, {"item_weights": np.linspace(1, 2, 60)}, {"reg": 9.0, "popularity_power": -0.25}],
    ids=str,
)
def test_so_is_one_of_other_inputs_or_another_full_data_model(params, planted, recorded):
    with pytest.raises(CheckpointError, match="another run"):
        run(planted, resume=recorded[1] / "6.npz", model=InfiniteAE(**{"reg": 1.0, **params}))


def test_a_checkpoint_of_other_data_is_refused(planted, recorded):
    renamed = Interactions(planted.train.matrix, planted.train.user_ids, planted.train.item_ids[::-1])
    for train in (other_clicks(planted.train), planted.train.select_users(np.arange(119)), renamed):
        part = train.with_matrix(planted.validation.matrix[: train.n_users])
        with pytest.raises(CheckpointError, match="the source data differs"):
            run(planted, resume=recorded[1] / "6.npz", X=train, validation=Split(train, part, part))


def test_who_the_users_are_does_not_matter(planted, recorded):
    named = [
        Interactions(part.matrix, np.array([f"user {i}" for i in range(120)]), part.item_ids)
        for part in (planted.train, planted.validation, planted.test)
    ]
    assert_same_bits(run(planted, resume=recorded[1] / "6.npz", X=named[0], validation=Split(*named)), recorded[0])


# --- files that are no checkpoint -----------------------------------------------------------------


def refused(planted, path, match=r"run\.npz"):
    with pytest.raises(CheckpointError, match=match):
        run(planted, resume=path)


@pytest.fixture
def like(planted, recorded, monkeypatch):
    """(state, identity) that the outer loop reads checkpoints with: thousands are read in these tests."""
    asked = []

    def load(path, *like):
        asked.append(like)
        raise CheckpointError

    with monkeypatch.context() as patch, suppress(CheckpointError):
        patch.setattr(checkpoint, "load", load)
        run(planted, resume=recorded[1] / "6.npz")
    return asked[0]


def values_of(progress):
    leaves = [np.asarray(leaf).tobytes() for leaf in [*jax.tree.leaves(progress.state), progress.best.logits]]
    return leaves, repr(progress._replace(state=None, best=progress.best._replace(logits=None)))


def test_truncated_files(saved, like):
    whole = saved.read_bytes()
    for length in [0, 1, 4, 30, 100, *range(200, len(whole), 199), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"run\.npz"):
            checkpoint.load(saved, *like)


def flips(whole, stride):
    return [
        whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :] for i in range(0, len(whole), stride) for bit in (1, 64)
    ]


def test_a_flipped_bit_is_found_or_harmless(saved, like):
    expected, whole, found = values_of(checkpoint.load(saved, *like)), saved.read_bytes(), 0
    for spoilt in flips(whole, 41):
        saved.write_bytes(spoilt)
        try:
            loaded = checkpoint.load(saved, *like)
        except CheckpointError:
            found += 1
        else:
            assert values_of(loaded) == expected
    assert found > 400


def flip(path, place_of, bit):
    whole = bytearray(path.read_bytes())
    whole[place_of(whole)] ^= bit
    path.write_bytes(whole)


def test_a_flipped_bit_in_the_header_of_a_long_array_is_found(saved, like):
    whole = saved.read_bytes()
    place = whole.index(b"{'descr'", whole.index(b"about.npy"))
    saved.write_bytes(whole[:place] + b"z" + whole[place + 1 :])
    with pytest.raises(CheckpointError):
        checkpoint.load(saved, *like)


class Bomb:
    went_off = False

    def __setstate__(self, state):
        Bomb.went_off = True


@pytest.mark.parametrize("field", ["format", "about", "state_0", "best_logits"])
def test_a_pickle_inside_is_never_opened(field, planted, saved):
    bomb = Bomb()
    bomb.fuse = 1
    rewrite(saved, **{field: np.array([bomb], object)})
    refused(planted, saved)
    assert not Bomb.went_off


@pytest.mark.parametrize("content", [b"", b"step,loss\n1,2\n", b"PK\x03\x04 no zip", pickle.dumps({"step": 1})])
def test_foreign_bytes(content, planted, tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    refused(planted, path)


def test_foreign_archives(planted, recorded, tmp_path):
    path = tmp_path / "run.npz"
    np.savez(path, data=np.zeros(3))
    refused(planted, path, "not a file of distillcf.checkpoint")
    recorded[0].save(path)
    refused(planted, path, "not a file of distillcf.checkpoint")
    infae.fit(planted.train).save(path)
    refused(planted, path, "not a file of distillcf.checkpoint")


def test_versions(planted, saved):
    rewrite(saved, version=np.array(99))
    refused(planted, saved, "version 99 and this infae reads 1; upgrade")
    rewrite(saved, version=np.array(0))
    refused(planted, saved, "start again without resume")


@pytest.mark.parametrize(
    "changes",
    [
        {"about": None},
        {"best_logits": None},
        {"state_0": None},
        {"about": np.array("{")},
        {"about": np.array("[]")},
        {"about": np.array("{}")},
        {"about": {"identity": []}},
        {"about": {"step": "six"}},
        {"about": {"step": 13}},
        {"about": {"best": {"value": 0.5}}},
        {"about": {"best": {"value": "good", "reg": 1.0, "step": 4}}},
        {"about": {"best": {"value": 0.5, "reg": -1.0, "step": 4}}},
        {"about": {"best": {"value": 0.5, "reg": 1.0, "step": 7}}},
        {"about": {"losses": [0.1, None]}},
        {"about": {"losses": 3}},
        {"about": {"history": [{"loss": 0.1}]}},
        {"about": {"history": [{"step": 4, "loss": "low"}]}},
        {"state_0": np.zeros((8, 61), np.float32)},
        {"state_0": np.zeros((8, 60), np.float64)},
        {"state_0": np.full((8, 60), np.nan, np.float32)},
        {"best_logits": np.zeros((0, 60), np.float32)},
        {"best_logits": np.full((8, 60), np.nan, np.float32)},
    ],
    ids=lambda changes: f"{next(iter(changes))}={next(iter(changes.values()))!r:.30}",
)
def test_damaged_fields(changes, planted, saved):
    if isinstance(changes.get("about"), dict):
        changes = {"about": about(saved, **changes["about"])}
    rewrite(saved, **changes)
    refused(planted, saved, "damaged")


def test_a_missing_file_is_a_missing_file(planted, tmp_path):
    with pytest.raises(FileNotFoundError):
        run(planted, resume=tmp_path / "none.npz")


def test_a_folder_is_no_checkpoint(planted, tmp_path):
    with pytest.raises(IsADirectoryError):
        run(planted, resume=tmp_path)


def no_work(*args, **kwargs):
    raise AssertionError("work was begun")


@pytest.fixture
def idle(monkeypatch):
    """No model may be fitted and no step taken."""
    monkeypatch.setattr(InfiniteAE, "fit", no_work)
    monkeypatch.setattr("distillcf.step.jax.value_and_grad", no_work)


@pytest.mark.usefixtures("idle")
def test_a_checkpoint_that_cannot_be_written_is_told_before_any_work(planted, tmp_path):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for path, error, message in [
        (tmp_path / "missing" / "run.npz", OSError, "directory"),
        (tmp_path / "file" / "run.npz", OSError, "directory"),
        (tmp_path, IsADirectoryError, "checkpoint must be a file, and .* is a folder"),
        (tmp_path / "link", FileNotFoundError, "link to .*nothing"),
        ("/dev/null", ValueError, "device"),
        (3, ValueError, "checkpoint must be the path of a file, got 3"),
        ("", ValueError, "checkpoint must be the path"),
    ]:
        with pytest.raises(error, match=message):
            run(planted, checkpoint=path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.usefixtures("idle")
def test_a_checkpoint_that_cannot_be_read_is_told_before_any_work(planted, tmp_path):
    (tmp_path / "file").write_text("no checkpoint")
    for path, error, message in [
        (tmp_path, IsADirectoryError, "resume must be a file, and .* is a folder"),
        (tmp_path / "none.npz", FileNotFoundError, "resume must be a file, and there is no .*none"),
        (tmp_path / "file", CheckpointError, "not a file of distillcf.checkpoint"),
        ("/dev/null", ValueError, "device"),
        (True, ValueError, "resume must be the path of a file, got True"),
    ]:
        with pytest.raises(error, match=message):
            run(planted, resume=path)


def test_settings_that_are_numpys_numbers_can_be_written(planted, tmp_path):
    run(planted, n_users=np.int64(8), seed=np.int64(0), steps=1, checkpoint=tmp_path / "run.npz")
