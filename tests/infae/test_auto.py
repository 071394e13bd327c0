"""What a fit would take, and the solver chosen by it."""

import numpy as np
import pytest

import infae
from infae.data import Blocks
from infae.solvers import CG, Auto, Exact, Nystrom
from infae.solvers import auto as module
from infae.solvers.auto import choose
from infae.solvers.base import Cost, Problem

GIB = 1 << 30


@pytest.fixture
def available(monkeypatch):
    def set_to(n_bytes):
        monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: n_bytes)

    return set_to


def popularity(m, n, clicks_each=50):
    share = np.linspace(1, 0.01, m) ** 4
    return np.minimum(n, share / share.sum() * n * clicks_each)


SOLVERS = (Exact(), CG(), Nystrom())
NAMES = ("exact", "cg", "nystrom")


@pytest.mark.parametrize(
    ("figures", "available", "expected"),
    [
        (((4, 10), (3, 90), (1, 2)), 8, "exact"),
        (((4, 10), (3, 90), (1, 2)), None, "exact"),
        (((4, 90), (3, 10), (1, 2)), 8, "cg"),
        (((4, 10), (3, 90), (1, 2)), 3, "cg"),
        (((4, 10), (3, 9000), (1, 2)), 3, "nystrom"),
        (((4, 10), (3, 90), (1, 2)), 1, "nystrom"),
        (((4, 5000), (3, 9000), (1, 2)), 8, "nystrom"),
        (((4, 5000), (3, 9000), (9, 2)), 8, "exact"),
        (((4, 5000), (3, 9000), (1, 6000)), 8, "exact"),
        (((4, 10), (3, 90), (2, 2)), 1, None),
    ],
)
def test_the_rule(figures, available, expected):
    """Bytes, and seconds of a machine of 100 GFLOP/s."""
    costs = {s: Cost(n_bytes, 1e11 * seconds) for s, (n_bytes, seconds) in zip(SOLVERS, figures, strict=True)}
    chosen = choose(costs, available)
    assert (chosen and chosen.name) == expected


def costs(n, m=2000, n_anchors=1000, **more):
    found = Auto(Nystrom(n_anchors)).costs(Problem(popularity(m, n), n, **more))
    return {solver.name: cost for solver, cost in found.items()}


def test_costs_grow_as_their_solvers_do():
    small, large = (costs(n, n_anchors=500) for n in (20_000, 40_000))
    n_bytes, operations = ({k: large[k][part] / small[k][part] for k in NAMES} for part in (0, 1))
    assert 3 < n_bytes["exact"] < 4.1
    assert 6 < operations["exact"] < 8
    assert 3.5 < operations["cg"] < 4.5
    assert n_bytes["nystrom"] < 2
    assert operations["nystrom"] < 2.1


def test_bytes_hold_what_must_be_there():
    n, m = 30_000, 5_000
    found = costs(n, m)
    assert found["exact"].n_bytes > 4 * n * (n + m)
    assert found["cg"].n_bytes > 4 * n * (n / 2 + m)
    assert found["nystrom"].n_bytes < GIB
    wide = costs(n, m, itemsize=8)
    assert 1.5 < wide["exact"].n_bytes / found["exact"].n_bytes < 2.1
    several = costs(n, m, n_regs=5)
    assert several["exact"].n_bytes - found["exact"].n_bytes > 4 * n * m
    assert 3 < several["exact"].operations / found["exact"].operations < 5


def test_tiles_computed_anew_are_counted(available):
    available(None)
    kept = costs(100_000, 500)["cg"]
    available(4 * GIB)
    anew = costs(100_000, 500)["cg"]
    assert anew.n_bytes < 4 * GIB < kept.n_bytes
    assert anew.operations > 1.2 * kept.operations


def test_the_rate_of_this_machine_is_measured():
    assert 1e8 < module.matrix_rate("float32") < 1e15
    assert module.matrix_rate("float64") == module.matrix_rate("float64")


def test_how_busy_the_machine_is_changes_no_choice_and_is_told(clicks, monkeypatch):
    monkeypatch.setattr(module, "matrix_rate", lambda dtype: 1e-3)
    with pytest.warns(UserWarning, match="minutes on this machine"):
        model = infae.fit(clicks, 2.0, solver="auto", n_anchors=9)
    assert model.solver_ == "exact"


# --- solver="auto" --------------------------------------------------------------------------------


def test_auto_fits_by_what_it_chose_and_says_so(clicks, capsys):
    model = infae.fit(clicks, 2.0, solver="auto")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["exact", "cg", "nystrom", "chosen"]
    assert all("GiB, about" in line for line in lines[:3])
    assert lines[3] == "chosen: exact"
    assert model.solver_ == "exact"
    np.testing.assert_array_equal(model.predict(clicks), infae.fit(clicks, 2.0).predict(clicks))


@pytest.mark.slow
@pytest.mark.parametrize("solver", NAMES)
def test_auto_can_choose_each(solver, clicks, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(module, "choose", lambda costs, available: next(s for s in costs if s.name == solver))
    model = infae.fit(clicks, 2.0, solver="auto", n_anchors=9)
    assert model.solver_ == solver
    assert f"chosen: {solver}" in capsys.readouterr().err
    model.save(tmp_path / "model.npz")
    loaded = infae.load(tmp_path / "model.npz")
    assert (loaded.solver, loaded.solver_) == ("auto", solver)


def test_memory_decides(available):
    def chosen(n, m, n_anchors=1000):
        return Auto(Nystrom(n_anchors)).chosen(Problem(popularity(m, n), n)).name

    found = {}
    for gib in (1, 4, 12, 40):
        available(gib * GIB)
        found[gib] = chosen(60_000, 200, 500)
    assert found == {1: "nystrom", 4: "cg", 12: "cg", 40: "cg"}
    available(64 * GIB)
    assert chosen(20_000, 20_000) == "exact"


def test_what_would_fit_is_named(available, clicks):
    n, m = 100_000, 50_000
    available(3 * GIB)
    with pytest.raises(MemoryError, match=r"no solver fits into the 3 GiB available .*nystrom: 1\d GiB") as raised:
        Auto(Nystrom(8000)).chosen(Problem(popularity(m, n), n))
    largest = int(str(raised.value).rsplit("n_anchors=")[1])
    fits, does_not = (costs(n, m, n_anchors)["nystrom"].n_bytes for n_anchors in (largest, largest + 1))
    assert fits <= 3 * GIB < does_not
    available(1000)
    with pytest.raises(MemoryError, match="use fewer items, or a larger machine"):
        infae.fit(clicks, solver="auto")


def test_blocks_are_fitted_on_landmarks(clicks, capsys):
    model = infae.fit(Blocks(lambda: [clicks.matrix], 16), 2.0, solver="auto", n_anchors=9)
    assert model.solver_ == "nystrom"
    assert capsys.readouterr().err == ""
