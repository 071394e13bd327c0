"""What a fit would take, and the solver chosen by it."""

import numpy as np
import pytest

import infae
from infae.data import Blocks
from infae.solvers import auto as estimate
from infae.solvers.auto import Cost, choose, costs, decide

GIB = 1 << 30


@pytest.fixture(autouse=True)
def rate(monkeypatch):
    """A machine of 100 GFLOP/s, whatever this one is."""
    monkeypatch.setattr(estimate, "matrix_rate", lambda dtype: 1e11)


@pytest.fixture
def available(monkeypatch):
    def set_to(n_bytes):
        monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: n_bytes)

    return set_to


def popularity(m, n, clicks_each=50):
    share = np.linspace(1, 0.01, m) ** 4
    return np.minimum(n, share / share.sum() * n * clicks_each)


def found(*figures):
    return [Cost(name, n_bytes, seconds) for name, (n_bytes, seconds) in zip(NAMES, figures, strict=True)]


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
        (((4, 10), (3, 90), (2, 2)), 1, ""),
    ],
)
def test_the_rule(figures, available, expected):
    assert choose(found(*figures), available) == expected


def test_costs_grow_as_their_solvers_do():
    small, large = (costs(popularity(2000, n), n, n_anchors=500) for n in (20_000, 40_000))
    ratio = {a.solver: ((b.n_bytes / a.n_bytes), (b.seconds / a.seconds)) for a, b in zip(small, large, strict=True)}
    assert 3 < ratio["exact"][0] < 4.1
    assert 6 < ratio["exact"][1] < 8
    assert 3.5 < ratio["cg"][1] < 4.5
    assert ratio["nystrom"][0] < 2
    assert ratio["nystrom"][1] < 2.1


def test_bytes_hold_what_must_be_there():
    n, m = 30_000, 5_000
    exact, cg, nystrom = costs(popularity(m, n), n)
    assert exact.n_bytes > 4 * n * (n + m)
    assert cg.n_bytes > 4 * n * (n / 2 + m)
    assert nystrom.n_bytes < GIB
    wide = costs(popularity(m, n), n, dtype=np.float64)
    assert 1.5 < wide[0].n_bytes / exact.n_bytes < 2.1
    several = costs(popularity(m, n), n, n_regs=5)
    assert several[0].n_bytes - exact.n_bytes > 4 * n * m
    assert 3 < several[0].seconds / exact.seconds < 5


def test_tiles_computed_anew_are_counted(available):
    available(None)
    kept = costs(popularity(500, 100_000), 100_000)[1]
    available(4 * GIB)
    anew = costs(popularity(500, 100_000), 100_000)[1]
    assert anew.n_bytes < 4 * GIB < kept.n_bytes
    assert anew.seconds > 1.2 * kept.seconds


def test_an_estimate_is_one_line():
    assert str(Cost("exact", int(3.1 * GIB), 25.2)) == "exact: 3.1 GiB, about 25 s"


def test_the_rate_of_this_machine_is_measured(monkeypatch):
    monkeypatch.undo()
    assert 1e8 < estimate.matrix_rate("float32") < 1e15
    assert estimate.matrix_rate("float64") == estimate.matrix_rate("float64")


# --- solver="auto" --------------------------------------------------------------------------------


def test_auto_fits_by_what_it_chose_and_says_so(clicks, capsys):
    model = infae.fit(clicks, 2.0, solver="auto")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["exact", "cg", "nystrom", "chosen"]
    assert all("GiB, about" in line for line in lines[:3])
    assert lines[3] == "chosen: exact"
    assert model.solver_ == "exact"
    np.testing.assert_array_equal(model.predict(clicks), infae.fit(clicks, 2.0).predict(clicks))


@pytest.mark.parametrize("solver", NAMES)
def test_auto_can_choose_each(solver, clicks, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(estimate, "choose", lambda found, available: solver)
    model = infae.fit(clicks, 2.0, solver="auto", n_anchors=9)
    assert model.solver_ == solver
    assert f"chosen: {solver}" in capsys.readouterr().err
    model.save(tmp_path / "model.npz")
    loaded = infae.load(tmp_path / "model.npz")
    assert (loaded.solver, loaded.solver_) == ("auto", solver)


def test_memory_decides(available):
    n, m = 60_000, 200
    clicked = popularity(m, n)
    chosen = {}
    for gib in (1, 4, 12, 40):
        available(gib * GIB)
        chosen[gib] = decide(clicked, n, n_anchors=500)[1]
    assert chosen == {1: "nystrom", 4: "cg", 12: "cg", 40: "cg"}
    available(64 * GIB)
    assert decide(popularity(20_000, 20_000), 20_000)[1] == "exact"


def test_what_would_fit_is_named(available, clicks):
    n, m = 100_000, 50_000
    clicked = popularity(m, n)
    available(3 * GIB)
    with pytest.raises(MemoryError, match=r"no solver fits into the 3 GiB available .*nystrom: 1\d GiB") as raised:
        decide(clicked, n, n_anchors=8000)
    largest = int(str(raised.value).rsplit("n_anchors=")[1])
    assert (
        costs(clicked, n, n_anchors=largest)[2].n_bytes <= 3 * GIB < costs(clicked, n, n_anchors=largest + 1)[2].n_bytes
    )
    available(1000)
    with pytest.raises(MemoryError, match="use fewer items, or a larger machine"):
        infae.fit(clicks, solver="auto")


def test_blocks_are_fitted_on_landmarks(clicks, capsys):
    model = infae.fit(Blocks(lambda: [clicks.matrix], 16), 2.0, solver="auto", n_anchors=9)
    assert model.solver_ == "nystrom"
    assert capsys.readouterr().err == ""
