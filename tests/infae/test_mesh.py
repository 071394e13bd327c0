"""Fits over several devices and several processes, against the same fit on one device."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import mesh_worker
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

import infae
from infae.runtime.mesh import UserMesh

pytestmark = pytest.mark.filterwarnings("ignore:.*users have no clicks")

TIMEOUT = 120
TESTS = Path(__file__).parents[1]
# Where devices and processes differ; a case more on eight devices is compiled eight times.
ON_DEVICES = (
    *("float32", "float64", "blocks", "added", "few"),
    *("exact float32", "exact float64", "exact few", "exact chosen"),
)
ON_PROCESSES = [name for name in mesh_worker.CASES if name not in ("few", "exact few")]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run_processes(folder, commands, n_devices):
    """Run Python with these arguments, all at a time, in the folder; none outlives this call."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices}",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    }
    logs, running = [folder / f"{rank}.log" for rank in range(len(commands))], []
    until = time.monotonic() + TIMEOUT
    try:
        for command, path in zip(commands, logs, strict=True):
            with open(path, "w") as log:
                arguments = [sys.executable, "-X", "faulthandler", "-W", "ignore::UserWarning", *command]
                running.append(subprocess.Popen(arguments, env=environment, cwd=folder, stdout=log, stderr=log))
        # The others wait for one that has failed.
        while None in (codes := [p.poll() for p in running]) and not any(codes) and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        for process in running:
            # With a traceback of every thread that still waits for something.
            process.send_signal(signal.SIGABRT)
            process.wait()
    assert codes == [0] * len(commands), "\n".join(log.read_text() for log in logs)


def run(folder, names, n_processes, n_devices):
    """Results of the workers' cases, as "case/what": a dictionary for each process."""
    outs, port = [folder / f"{rank}.npz" for rank in range(n_processes)], free_port()
    worker = str(TESTS / "mesh_worker.py")
    commands = [
        [worker, str(out), ",".join(names), str(n_processes), str(rank), str(port)] for rank, out in enumerate(outs)
    ]
    run_processes(folder, commands, n_devices)
    return [dict(np.load(out)) for out in outs]


def asked_for(request):
    """Names of the cases of all selected tests that use the fixture."""
    users = [test for test in request.session.items if request.fixturename in test.fixturenames]
    return list(dict.fromkeys(test.callspec.params["name"] for test in users))


@pytest.fixture(scope="session")
def on_devices(request, tmp_path_factory):
    return run(tmp_path_factory.mktemp("devices"), asked_for(request), 1, 8)


@pytest.fixture(scope="session")
def on_processes(request, tmp_path_factory):
    return run(tmp_path_factory.mktemp("processes"), asked_for(request), 2, 1)


def assert_as_on_one_device(name, found):
    expected = mesh_worker.CASES[name](mesh_worker.Part(), None)
    single = expected["scores"].dtype == np.float32
    # Rounding in the sums, magnified by the condition number of the system.
    near = {"rtol": 1e-4, "atol": 2e-5} if single else {"rtol": 1e-6, "atol": 1e-8}
    found = {key.removeprefix(f"{name}/"): value for key, value in found.items() if key.startswith(f"{name}/")}
    assert found.keys() == expected.keys(), found.get("error")
    assert found["scores"].dtype == expected["scores"].dtype
    assert_allclose(found["scores"], expected["scores"], **near)
    for key in ("anchors", "ids", "n_users", "reg"):
        assert_array_equal(found.get(key), expected.get(key))
    for key in ("metric", "left_out"):
        if key in expected:
            assert_allclose(found[key], expected[key], **near)
    top = [np.argsort(-scores, axis=1, kind="stable")[:, :10] for scores in (found["scores"], expected["scores"])]
    assert_array_equal(*top)
    assert found["residual"] < (1e-3 if single else 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_DEVICES)
def test_eight_devices_fit_as_one(name, on_devices):
    assert_as_on_one_device(name, on_devices[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_PROCESSES)
def test_two_processes_fit_as_one(name, on_processes):
    assert_as_on_one_device(name, on_processes[0])
    assert_same(name, *on_processes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["drawn"])
def test_landmarks_drawn_by_several_processes_are_the_same_on_all(name, on_processes):
    assert on_processes[0][f"{name}/anchors"] == 30
    assert_same(name, *on_processes)


def assert_same(name, first, second):
    for key in [key for key in first if key.startswith(f"{name}/")]:
        assert_array_equal(first[key], second[key], err_msg=key)


@pytest.mark.slow
def test_processes_with_several_devices_each(tmp_path):
    names = ["float64", "exact float64"]
    for found in run(tmp_path, names, 2, 2):
        for name in names:
            assert_as_on_one_device(name, found)


@pytest.mark.slow
def test_the_readme_tells_how_to_start(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (TESTS.parent / "README.md").read_text(), re.DOTALL)
    (script,) = (block for block in blocks if "jax.distributed" in block)
    (tmp_path / "fit_mesh.py").write_text(script)
    clicks = mesh_worker.all_clicks()
    for rank, part in enumerate(np.split(clicks, [mesh_worker.FIRST])):
        sp.save_npz(tmp_path / f"users-{rank}.npz", sp.csr_matrix(part))
    coordinator = f"127.0.0.1:{free_port()}"
    run_processes(tmp_path, [["fit_mesh.py", coordinator, "2", str(rank)] for rank in range(2)], 1)
    expected = infae.fit(clicks, solver="nystrom", n_anchors=2000).predict(clicks)
    assert_allclose(infae.load(tmp_path / "model.npz").predict(clicks), expected, rtol=1e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("other items", ["ValueError: processes 0 and 1 were given different item ids"] * 2),
        ("other params", ["ValueError: processes 0 and 1 were given different parameters"] * 2),
        ("other anchors", ["ValueError: processes 0 and 1 were given different landmarks or weights"] * 2),
        (
            "other solver",
            [
                "RuntimeError: process 1 failed: ValueError: solver='cg' takes no mesh",
                "ValueError: solver='cg' takes no",
            ],
        ),
        ("bad block", ["RuntimeError: process 1 failed: OSError: the disk is gone", "OSError: the disk is gone"]),
        ("empty", ["RuntimeError: process 1 failed: ValueError: no clicks", "ValueError: no clicks"]),
    ],
)
def test_what_one_process_refuses_all_refuse(name, messages, on_processes):
    for found, message in zip(on_processes, messages, strict=True):
        assert str(found[f"{name}/error"]).startswith(message)


def test_a_mesh_of_one_device_and_a_model_file(clicks, new_users, tmp_path):
    mesh = jax.make_mesh((1,), ("anything",))
    model = infae.fit(clicks, 1.0, mesh=mesh)
    assert model.get_params()["mesh"] is mesh
    assert_allclose(model.predict(new_users), infae.fit(clicks, 1.0).predict(new_users), rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "model.npz")
    loaded = infae.load(tmp_path / "model.npz")
    assert loaded.mesh is None
    assert_array_equal(loaded.predict(new_users), model.predict(new_users))
    assert_array_equal(loaded.set_params(mesh=mesh).predict(new_users), model.predict(new_users))


def test_bad_meshes_are_refused(clicks):
    two_axes = jax.make_mesh((1, 1), ("users", "items"))
    with pytest.raises(ValueError, match=r"Mesh with one axis.*got axes \('users', 'items'\); make one by") as refused:
        infae.fit(clicks, mesh=two_axes)
    assert "jax.sharding.Mesh" in str(refused.value)
    with pytest.raises(ValueError, match="got list"):
        infae.fit(clicks, mesh=jax.devices())


@pytest.mark.parametrize(("solver", "remedy"), [("cg", "use 'exact' or 'nystrom'"), ("auto", "use 'exact' or 'ny")])
def test_solvers_of_one_device_refuse_a_mesh(solver, remedy, clicks):
    mesh = jax.make_mesh((1,), ("users",))
    users = infae.data.Blocks(lambda: iter([clicks.matrix]), clicks.n_items)
    for X in (clicks, users):
        with pytest.raises(ValueError, match=f"solver='{solver}' takes no mesh.*{remedy}"):
            infae.fit(X, solver=solver, mesh=mesh)


def test_a_model_by_conjugate_gradients_predicts_over_a_mesh(clicks, new_users):
    model = infae.fit(clicks, 1.0, solver="cg")
    expected = model.predict(new_users)
    assert_array_equal(model.set_params(mesh=jax.make_mesh((1,), ("users",))).predict(new_users), expected)


def test_without_a_mesh_there_is_nothing_to_exchange():
    alone = UserMesh(None)
    assert alone.devices == [None]
    array = np.arange(3)
    assert alone.exchange(array)[0][0] is array
    assert alone.total([array]) is array
