"""Conjugate gradients: against NumPy, the exact solve, and themselves with tiles kept or not."""

import dataclasses
import importlib

import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, random_interactions

import infae
from infae import InfiniteAE
from infae.errors import IllConditionedWarning, SingularKernelError
from infae.kernels import ReluNTK
from infae.kernels.grams import RecomputedGram, symmetric_gram
from infae.kernels.rows import Rows
from infae.landmarks import pivoted_cholesky
from infae.linalg import conjugate
from infae.linalg.tiles import SymmetricTiles, precision, product
from infae.runtime.memory import with_margin
from infae.solvers import ConjugateSystem, cg, factor, path, solve, solve_conjugate, solve_dense

N, M = 60, 33


@pytest.fixture(scope="module")
def targets():
    return random_clicks(N, M, density=0.1)


def gram_of(rows, dtype=np.float64, recomputed=False):
    rows = Rows(sp.csr_matrix(rows, dtype=dtype), dtype)
    with precision(dtype):
        return RecomputedGram(ReluNTK(), rows) if recomputed else symmetric_gram(ReluNTK(), rows)


def pivots_of(rows, k, dtype=np.float64):
    return pivoted_cholesky(ReluNTK(), sp.csr_matrix(rows, dtype=dtype), k, np.random.default_rng(0))[1]


def no_pivots(n=N, dtype=np.float64):
    with precision(dtype):
        return jnp.zeros((n, 0), dtype)


def spread(n=N, ratio=1e3):
    """Eigenvalues spread evenly, on a logarithmic scale, from 1 to `ratio`."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    return (basis * np.geomspace(1, ratio, n)) @ basis.T


def as_tiles(matrix, dtype=np.float64):
    return SymmetricTiles.from_dense(np.asarray(matrix, dtype), 16)


# --- the solve ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reg", "k", "form"), [(0.05, 12, np.asarray), (0.05, 0, sp.csr_matrix), (5.0, 12, sp.csr_matrix)]
)
def test_it_solves_the_system(reg, k, form, targets, dtype):
    gram, factored = gram_of(targets, dtype), pivots_of(targets, 12, dtype)[:, :k]
    tolerance = 1e-11 if dtype == np.float64 else 1e-5
    solution = solve_conjugate(gram, factored, form(targets), reg, tolerance=tolerance)
    dense = gram.to_dense().astype(np.float64)
    expected = oracles.ridge(dense, targets, reg)
    assert solution.coef.dtype == dtype
    assert solution.n_landmarks == k
    assert solution.ridge == pytest.approx(reg * np.trace(dense) / N)
    near = {"rtol": 1e-7, "atol": 1e-9} if dtype == np.float64 else {"rtol": 1e-3, "atol": 3e-4}
    assert_allclose(solution.coef, expected, **near)
    if dtype == np.float64:
        with precision(dtype):
            assert_allclose(solution.coef, solve_dense(jnp.asarray(dense), jnp.asarray(targets, dtype), reg), **near)
        assert_allclose(solution.coef, solve(factor(gram, reg), targets).coef, **near)


def test_the_residual_and_the_noise_are_those_of_the_coefficients(targets):
    gram = gram_of(targets)
    for tolerance in (1e-2, 1e-4):
        solution = solve_conjugate(gram, no_pivots(), targets, 1.0, tolerance=tolerance)
        coef = np.asarray(solution.coef)
        wrong = np.linalg.norm(gram.to_dense() @ coef + solution.ridge * coef - targets)
        assert solution.residual == pytest.approx(wrong / np.linalg.norm(targets), rel=1e-6)
        assert solution.noise == pytest.approx(wrong / np.linalg.norm(solution.ridge * coef), rel=1e-6)
        assert 1e-3 * tolerance < solution.residual <= tolerance


def test_every_column_comes_within_the_tolerance(targets):
    labels = targets * np.geomspace(1e-12, 1e12, M)
    gram = gram_of(targets)
    coef = np.asarray(solve_conjugate(gram, no_pivots(), labels, 0.3, tolerance=1e-6).coef)
    left = oracles.ridge(gram.to_dense(), labels, 0.3) - coef
    assert (np.linalg.norm(left, axis=0) <= 1e-5 * np.linalg.norm(coef, axis=0)).all()


def test_columns_of_zeros_stay_zero(targets):
    labels = targets * (np.arange(M) % 2)
    solution = solve_conjugate(gram_of(targets), no_pivots(), labels, 1.0)
    assert not np.asarray(solution.coef)[:, ::2].any()
    assert np.asarray(solution.coef)[:, 1::2].any(axis=0).all()
    with pytest.warns(IllConditionedWarning, match="ill-conditioned"):
        nothing = solve_conjugate(gram_of(targets), no_pivots(), 0 * targets, 1.0)
    assert (nothing.residual, nothing.iterations) == (0.0, 0)


@pytest.mark.slow
def test_the_preconditioner_saves_iterations(targets):
    gram = gram_of(targets)
    found = [
        solve_conjugate(gram, pivots_of(targets, 40)[:, :k], targets, 0.05, tolerance=1e-8).iterations
        for k in (0, 12, 40)
    ]
    assert found[0] > 1.2 * found[1] > 1.2 * 1.2 * found[2]
    # All of K is explained: one iteration, and one to check it.
    exactly = solve_conjugate(gram, pivots_of(targets, N), targets, 0.05, tolerance=1e-6)
    assert exactly.iterations <= 4


@pytest.mark.slow
def test_the_preconditioner_stays_positive_in_single_precision():
    """One direction ten million times as strong as the ridge: without care I - E E' would be rounded below zero."""
    for n in range(40, 60):
        with precision(np.float32):
            half = conjugate.half(jnp.full((n, 1), 1e3, np.float32), 1e-1, 1e6)
        e = np.asarray(half, np.float64)
        assert 0 < 1 - (e.T @ e).item() < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
def test_kept_and_recomputed_tiles_give_the_same_bits(targets, dtype):
    kept, anew = (gram_of(targets, dtype, recomputed) for recomputed in (False, True))
    assert_array_equal(kept.diagonal(), anew.diagonal())
    rhs = np.random.default_rng(0).standard_normal((N, 5)).astype(dtype)
    with precision(dtype):
        assert len(list(kept.items())) == len(list(anew.items())) == 10
        assert_array_equal(product(kept, jnp.asarray(rhs)), product(anew, jnp.asarray(rhs)))
    both = [solve_conjugate(gram, pivots_of(targets, 8, dtype), targets, 1.0) for gram in (kept, anew)]
    assert_array_equal(both[0].coef, both[1].coef)


# --- columns that take turns ----------------------------------------------------------------------


def easy_and_hard():
    """Targets that are eigenvectors, solved by one iteration, beside mixtures of all."""
    matrix = spread()
    rng = np.random.default_rng(1)
    targets = np.linalg.eigh(matrix)[1][:, :40].copy()
    targets[:, ::4] = rng.standard_normal((N, 10))
    return matrix, targets


@pytest.mark.slow
@pytest.mark.parametrize("least", [1, 4, 16])
def test_columns_that_wait_are_solved_too(least, monkeypatch):
    matrix, targets = easy_and_hard()
    whole = solve_conjugate(as_tiles(matrix), no_pivots(), targets, 0.01, tolerance=1e-9)
    monkeypatch.setattr(conjugate, "_WORK_BYTES", 0)
    monkeypatch.setattr(conjugate, "_LEAST_WIDTH", least)
    few = solve_conjugate(as_tiles(matrix), no_pivots(), targets, 0.01, tolerance=1e-9)
    assert_allclose(few.coef, oracles.ridge(matrix, targets, 0.01), rtol=1e-5, atol=1e-9)
    assert_allclose(few.coef, whole.coef, rtol=1e-5, atol=1e-9)
    assert abs(few.iterations - whole.iterations) <= 3


@pytest.mark.slow
def test_columns_that_are_solved_cost_nothing_more(monkeypatch):
    matrix, targets = easy_and_hard()
    widths = []
    monkeypatch.setattr(conjugate, "_LEAST_WIDTH", 4)
    monkeypatch.setattr(conjugate, "product", lambda gram, p: widths.append(p.shape[1]) or product(gram, p))
    solution = solve_conjugate(as_tiles(matrix), no_pivots(), targets, 0.01, tolerance=1e-9)
    assert widths[0] == 40
    # Three columns in four are done after two iterations.
    assert len(widths) == solution.iterations > 10
    assert max(widths[4:]) <= 10


def test_progress_is_told(targets):
    seen = []
    solve_conjugate(
        gram_of(targets), no_pivots(), targets, 1.0, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (0, M)
    assert seen[-1] == (M, M)
    assert seen == sorted(seen)


# --- a path ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_path_equals_separate_solves(targets, monkeypatch):
    monkeypatch.setattr(cg, "TOLERANCE", 1e-9)
    gram, pivots = gram_of(targets), pivots_of(targets, 8)
    for step in path(ConjugateSystem(gram, pivots, targets), [0.5, 1.0, 10.0]):
        assert step.failure == ""
        assert_allclose(step.solved.coef, oracles.ridge(gram.to_dense(), targets, step.reg), rtol=1e-6, atol=1e-9)


def test_a_near_start_saves_iterations(targets):
    gram = gram_of(targets)
    before = solve_conjugate(gram, no_pivots(), targets, 0.1).coef
    cold = solve_conjugate(gram, no_pivots(), targets, 0.101, tolerance=1e-3)
    warm = solve_conjugate(gram, no_pivots(), targets, 0.101, tolerance=1e-3, start=before)
    assert warm.iterations < cold.iterations / 2
    assert warm.residual <= 1e-3


def test_a_useless_start_does_no_harm(targets):
    start = jnp.asarray(np.random.default_rng(0).standard_normal(targets.shape) * 1e3)
    start = start.at[:, ::3].set(0)
    solution = solve_conjugate(gram_of(targets), no_pivots(), targets, 1.0, start=start)
    assert solution.residual <= cg.TOLERANCE


def test_a_path_goes_on_past_what_cannot_be_solved(targets):
    gram = as_tiles(spread(ratio=1e9))
    steps = list(path(ConjugateSystem(gram, no_pivots(), targets), [0.0, 1e-12, 100.0]))
    assert [step.solved is None for step in steps] == [True, True, False]
    assert "the fit interpolates" in steps[0].failure
    assert "at reg = 1e-12 in float64: relative residual" in steps[1].failure


# --- what is said of a bad solve ------------------------------------------------------------------


def test_too_few_iterations_are_told(targets):
    gram = as_tiles(spread(ratio=30))
    with pytest.warns(IllConditionedWarning, match=r"reg = 0.1 in float64: .*33 of 33 targets .* 1e-10 in 9 iter"):
        solution = solve_conjugate(gram, no_pivots(), targets, 0.1, tolerance=1e-10, max_iterations=8)
    assert 1e-10 < solution.residual < 0.1
    with pytest.raises(SingularKernelError, match=r"failed at reg = 1e-05 in float64: relative residual \d\.\d+; 33"):
        solve_conjugate(as_tiles(spread()), no_pivots(), targets, 1e-5, max_iterations=3)


def test_one_bad_column_among_many_is_told(targets):
    matrix, labels = easy_and_hard()
    labels[:, ::4] = 0
    labels[:, 0] = 1e-6 * np.random.default_rng(0).standard_normal(N)
    with pytest.warns(IllConditionedWarning, match="1 of 40 targets did not come within"):
        solution = solve_conjugate(as_tiles(matrix), no_pivots(), labels, 0.001, max_iterations=6)
    assert solution.residual < cg.TOLERANCE


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.full((N, N), np.nan), "the kernel's diagonal holds NaN or infinity in {}; use smaller inputs"),
        *(
            (m, "reg = 0 in {}: relative residual .* larger reg")
            for m in (-np.eye(N), np.diag(np.linspace(1, -1, N)), np.ones((N, N)))
        ),
    ],
)
def test_a_hopeless_kernel_is_an_error(matrix, message, targets, dtype):
    with pytest.raises(SingularKernelError, match=message.format(dtype)):
        solve_conjugate(as_tiles(matrix, dtype), no_pivots(dtype=dtype), targets, 0.0)


def test_nan_in_one_place_is_an_error(targets):
    matrix = spread()
    matrix[40, 3] = matrix[3, 40] = np.nan
    with pytest.raises(SingularKernelError, match="relative residual nan"):
        solve_conjugate(as_tiles(matrix), no_pivots(), targets, 1.0)


def test_interpolation_comes_with_a_warning(targets):
    gram = as_tiles(spread(ratio=10))
    with pytest.warns(IllConditionedWarning, match="reg = 0 in float64.*all of the difference"):
        solution = solve_conjugate(gram, no_pivots(), targets, 0.0, tolerance=1e-11)
    assert_allclose(solution.coef, np.linalg.solve(gram.to_dense(), targets), rtol=1e-8, atol=1e-10)


def test_single_precision_stops_where_rounding_does(targets):
    solved = []
    with pytest.warns(IllConditionedWarning, match="did not come within 1e-12"):
        solved.append(solve_conjugate(gram_of(targets, np.float32), no_pivots(dtype=np.float32), targets, 1.0,
                                      tolerance=1e-12))  # fmt: skip
    assert solved[0].residual < 1e-6
    assert solved[0].iterations < cg.MAX_ITERATIONS / 2


def test_what_does_not_fit_together_is_refused(targets):
    gram = gram_of(targets)
    with pytest.raises(ValueError, match="targets have 59 rows, the factor 60 and the kernel matrix 60"):
        solve_conjugate(gram, no_pivots(), targets[1:], 1.0)
    with pytest.raises(ValueError, match="the factor 9 and"):
        solve_conjugate(gram, no_pivots(9), targets, 1.0)
    with pytest.raises(ValueError, match="reg must be"):
        solve_conjugate(gram, no_pivots(), targets, -1.0)


# --- the model ------------------------------------------------------------------------------------

SETTINGS = [{}, {"popularity_power": -0.5, "row_power": 1.0, "b_std": 0.0}, {"targets": True}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_model_is_the_exact_one(settings, clicks, new_users):
    labels = np.random.default_rng(3).standard_normal(clicks.shape) if settings.get("targets") else None
    params = {name: value for name, value in settings.items() if name != "targets"}
    models = [
        InfiniteAE(2.0, solver=solver, dtype="float64", **params).fit(clicks, targets=labels)
        for solver in ("exact", "cg")
    ]
    assert [(m.solver_, m.n_iter_ is None) for m in models] == [("exact", True), ("cg", False)]
    for histories in (new_users, clicks):
        assert_allclose(models[1].predict(histories), models[0].predict(histories), atol=1e-3)
    assert models[1].path_[0].keys() == models[0].path_[0].keys()


def test_own_scores_need_no_kernel(clicks):
    model = infae.fit(clicks, 2.0, solver="cg", dtype="float64")
    solution = model._fitted.solution
    assert_array_equal(
        model.predict(clicks), clicks.matrix.toarray() - np.float64(solution.ridge) * np.asarray(solution.coef)
    )
    new = dataclasses.replace(model._fitted.machine)
    assert_allclose(model.predict(clicks), new.scores(model.inputs_(clicks.matrix, np.float64)), atol=1e-3)


@pytest.mark.slow
def test_reg_is_chosen_as_by_the_exact_solver(split):
    regs = (0.1, 1.0, 10.0)
    exact, cg = (infae.fit(split.train, regs, validation=split, solver=solver) for solver in ("exact", "cg"))
    assert cg.reg_ == exact.reg_
    assert [row["reg"] for row in cg.path_] == list(regs)
    assert_allclose([row["HR@100"] for row in cg.path_], [row["HR@100"] for row in exact.path_], atol=0.02)
    with pytest.warns(IllConditionedWarning, match="passed over: reg = 0 in float32"):
        assert infae.fit(split.train, (0.0, 1.0), validation=split, solver="cg").reg_ == 1.0


@pytest.mark.parametrize("labels", [None, np.random.default_rng(4).standard_normal((24, 16))])
def test_a_loaded_model_predicts_the_same_bits(labels, clicks, new_users, tmp_path):
    model = InfiniteAE(2.0, solver="cg").fit(clicks, targets=labels)
    model.save(tmp_path / "model.npz")
    loaded = infae.load(tmp_path / "model.npz")
    for histories in (new_users, clicks):
        assert_array_equal(loaded.predict(histories), model.predict(histories))
    assert (loaded.solver_, loaded.n_iter_, loaded.path_) == ("cg", model.n_iter_, model.path_)
    assert loaded._fitted.solution.n_landmarks == model._fitted.solution.n_landmarks == 2
    assert_array_equal(loaded.fit(clicks, targets=labels).predict(new_users), model.predict(new_users))


def test_what_needs_the_inverse_or_landmarks_is_refused(clicks):
    model = infae.fit(clicks, solver="cg")
    with pytest.raises(ValueError, match="solver='cg' has not; fit the model with solver='exact'"):
        model.leave_one_out([0])
    with pytest.raises(ValueError, match="solver='nystrom'"):
        model.partial_fit(clicks)


@pytest.mark.slow
def test_short_of_memory_the_tiles_are_computed_anew(monkeypatch):
    train = random_interactions(150, 8)
    kept = infae.fit(train, solver="cg")
    used = []
    real = RecomputedGram.items
    monkeypatch.setattr(RecomputedGram, "items", lambda self: used.append(1) or real(self))
    needed = [cg.required_bytes(150, 8, keep=keep) for keep in (False, True)]
    assert needed[0] < needed[1]
    monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: with_margin(needed[1]) - 1)
    assert_array_equal(infae.fit(train, solver="cg").predict(train), kept.predict(train))
    assert len(used) >= kept.n_iter_
    monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: needed[0] - 1)
    with pytest.raises(MemoryError, match="150 users x 8 items takes"):
        infae.fit(train, solver="cg")


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
def test_a_kernel_of_the_callers_own(clicks, new_users, monkeypatch):
    def kernel(x1, x2=None):
        return (1 + x1 @ (x1 if x2 is None else x2).T) ** 2

    exact = infae.fit(clicks, 1.0, kernel=kernel, dtype="float64").predict(new_users)
    for keep in (True, False):
        monkeypatch.setattr("infae.runtime.memory.fits", lambda n_bytes, keep=keep: keep)
        scores = infae.fit(clicks, 1.0, kernel=kernel, dtype="float64", solver="cg").predict(new_users)
        assert_allclose(scores, exact, atol=1e-3)


def test_the_module_of_tiles_is_what_small_tiles_changes():
    assert importlib.import_module("infae.kernels.grams").RecomputedGram is RecomputedGram
