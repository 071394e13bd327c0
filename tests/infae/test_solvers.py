import dataclasses

import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, tolerance

import infae
from infae.errors import IllConditionedWarning, SingularKernelError
from infae.linalg.tiles import SymmetricTiles, tile_size
from infae.runtime import memory
from infae.solvers import InverseSystem, factor, inverse, path, solve


def positive_definite(n, seed=0, smallest=1.0):
    """Eigenvalues from about `smallest` to 5."""
    root = np.random.default_rng(seed).standard_normal((n, n)) / np.sqrt(n)
    return root @ root.T + smallest * np.eye(n)


def as_tiles(matrix, dtype=np.float64, size=8):
    return SymmetricTiles.from_dense(np.asarray(matrix, dtype), size)


def linear(x1, x2=None):
    return x1 @ (x1 if x2 is None else x2).T


# --- tiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(1, 8), (8, 8), (9, 8), (37, 16), (64, 16)])
def test_tiles_hold_the_matrix(n, size, dtype):
    matrix = positive_definite(n).astype(dtype)
    tiles = as_tiles(matrix, dtype, size)
    assert tiles.dtype == dtype
    assert_array_equal(tiles.to_dense(), matrix)
    assert_array_equal(tiles.diagonal(), np.diagonal(matrix))
    columns = [np.asarray(tiles.column(block)) for block in range(tiles.n_tiles)]
    assert_array_equal(np.concatenate(columns, axis=1), matrix)


def test_product_of_tiles_with_a_few_columns(dtype):
    matrix, rhs = positive_definite(37), np.random.default_rng(1).standard_normal((37, 3))
    assert_allclose(as_tiles(matrix, dtype, 16) @ rhs.astype(dtype), matrix @ rhs, **tolerance(dtype))


def test_padding_is_apart_from_the_matrix_and_on_its_scale():
    tiles = as_tiles(100 * positive_definite(11), size=8)
    last = np.asarray(tiles.tiles[1, 1])
    assert not last[3:, :3].any()
    assert not np.asarray(tiles.tiles[1, 0])[3:].any()
    assert_allclose(last[3:, 3:], np.diagonal(last)[:3].mean() * np.eye(5))


@pytest.mark.parametrize("n", [1, 8, 511, 512, 513, 1037, 6040, 12_001, 100_000])
def test_tile_size_covers_any_matrix_with_little_waste(n):
    size = tile_size(n)
    n_tiles = -(-n // size)
    assert size % 8 == 0
    assert size <= 1024
    assert n_tiles * size - n < 8 * n_tiles


def test_only_square_matrices_are_tiled():
    with pytest.raises(ValueError, match="square"):
        SymmetricTiles.from_dense(np.zeros((3, 4)))


# --- inverse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(1, 8), (7, 8), (8, 8), (9, 8), (50, 24), (137, 136), (300, 152)])
def test_inverse_equals_numpy(n, size):
    matrix = positive_definite(n)
    expected = np.linalg.inv(matrix + 0.3 * np.eye(n))
    assert_allclose(inverse(as_tiles(matrix, size=size), 0.3).to_dense(), expected, rtol=1e-9, atol=1e-11)


def test_inverse_in_single_precision_leaves_its_argument_alone():
    matrix = positive_definite(50)
    tiles = as_tiles(matrix, np.float32, 16)
    assert_allclose(inverse(tiles).to_dense(), np.linalg.inv(matrix), **tolerance("float32"))
    assert_array_equal(tiles.to_dense(), matrix.astype(np.float32))


def test_inverse_tells_its_progress():
    seen = []
    inverse(as_tiles(positive_definite(20)), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


# --- ridge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_solve_equals_numpy(form, dtype):
    gram, targets = positive_definite(37), random_clicks(37, 90, density=0.1)
    solution = solve(factor(as_tiles(gram, dtype), 0.2), form(targets))
    assert solution.coef.dtype == dtype
    assert_allclose(solution.coef, oracles.ridge(gram, targets, 0.2), **tolerance(dtype))


@pytest.mark.slow
def test_popular_and_rare_targets_keep_their_columns(monkeypatch):
    gram, targets = positive_definite(37), random_clicks(37, 90, density=0.1)
    expected = oracles.ridge(gram, targets, 0.2)
    for share in (-1.0, 0.2, 2.0):
        monkeypatch.setattr("infae.linalg.head_tail.HEAD_SHARE", share)
        solution = solve(factor(as_tiles(gram), 0.2), sp.csr_matrix(targets))
        assert_allclose(solution.coef, expected, **tolerance("float64"))


def test_reg_is_relative_to_the_mean_diagonal():
    gram, targets = positive_definite(20), random_clicks(20, 6)
    factored = factor(as_tiles(gram), 0.7)
    assert factored.ridge == pytest.approx(0.7 * np.trace(gram) / 20)
    scaled = solve(factor(as_tiles(1000 * gram), 0.7), targets)
    assert_allclose(1000 * np.asarray(scaled.coef), solve(factored, targets).coef, rtol=1e-9)


def test_a_path_equals_separate_solves():
    gram, targets = as_tiles(positive_definite(20)), sp.csr_matrix(random_clicks(20, 6))
    for step, reg in zip(path(InverseSystem(gram, targets), [0.1, 1.0, 10.0]), [0.1, 1.0, 10.0], strict=True):
        assert step.reg == step.solved.reg == reg
        assert step.failure == ""
        assert_array_equal(step.solved.coef, solve(factor(gram, reg), targets).coef)


def test_a_path_goes_on_past_what_cannot_be_solved():
    steps = list(path(InverseSystem(as_tiles(np.ones((6, 6))), random_clicks(6, 4)), [0.0, 1e-30, 1.0]))
    assert [step.solved is None for step in steps] == [True, True, False]
    assert "the fit interpolates" in steps[0].failure
    assert "reg = 1e-30 in float64: relative residual" in steps[1].failure


def full_residual(gram, solution, targets):
    gram, coef = np.asarray(gram, np.float64), np.asarray(solution.coef, np.float64)
    wrong = gram @ coef + solution.ridge * coef - targets
    return np.linalg.norm(wrong) / np.linalg.norm(targets), np.linalg.norm(wrong) / np.linalg.norm(
        solution.ridge * coef
    )


def test_the_residual_is_measured():
    gram, targets = positive_definite(40), random_clicks(40, 12)
    factored = factor(as_tiles(gram), 0.2)
    good = solve(factored, targets)
    assert good.residual < 1e-12
    wrong_tiles = {ij: np.asarray(tile) * (1.02 if ij == (2, 1) else 1) for ij, tile in factored.inverse.tiles.items()}
    wrong_inverse = SymmetricTiles(40, 8, wrong_tiles)
    bad = solve(dataclasses.replace(factored, inverse=wrong_inverse), targets)
    assert bad.residual > 1e-4
    assert_allclose((bad.residual, bad.noise), full_residual(gram, bad, targets), rtol=0.5)


def test_the_residual_of_single_precision_is_no_guess():
    gram = (positive_definite(40, smallest=1e-4)).astype(np.float32)
    targets = random_clicks(40, 12)
    solution = solve(factor(as_tiles(gram, np.float32), 1e-4), targets)
    full, noise = full_residual(gram, solution, targets)
    assert 1e-7 < full < 1e-2
    assert full / 4 < solution.residual < 4 * full
    assert noise / 4 < solution.noise < 4 * noise


def test_a_useless_inverse_is_an_error():
    factored = factor(as_tiles(positive_definite(20)), 0.2)
    doubled = {ij: 2 * np.asarray(tile) for ij, tile in factored.inverse.tiles.items()}
    with pytest.raises(SingularKernelError):
        solve(dataclasses.replace(factored, inverse=SymmetricTiles(20, 8, doubled)), random_clicks(20, 6))


@pytest.mark.parametrize("matrix", [np.ones((20, 20)), -np.eye(20), np.diag(np.linspace(1, -1, 20))])
def test_a_singular_kernel_names_what_to_change(matrix, dtype):
    with pytest.raises(SingularKernelError, match=f"reg = 0 in {dtype}: relative residual .* larger reg"):
        solve(factor(as_tiles(matrix, dtype), 0.0), random_clicks(20, 6))


def test_interpolation_comes_with_a_warning():
    gram, targets = positive_definite(20), random_clicks(20, 6)
    with pytest.warns(IllConditionedWarning, match="reg = 0 in float64.*all of the difference"):
        solution = solve(factor(as_tiles(gram), 0.0), targets)
    assert_allclose(solution.coef, np.linalg.solve(gram, targets), rtol=1e-9)


def test_rounding_beside_a_tiny_ridge_comes_with_a_warning():
    with pytest.warns(IllConditionedWarning):
        solve(factor(as_tiles(positive_definite(20), np.float32), 1e-9), random_clicks(20, 6))


@pytest.mark.parametrize("reg", [-1.0, np.nan, np.inf, "5", None, True, 1j, [1.0]])
def test_bad_reg_values(reg):
    with pytest.raises(ValueError, match="reg must be"):
        factor(as_tiles(np.eye(4)), reg)


@pytest.mark.parametrize("reg", [1, np.int64(1), np.float32(1)])
def test_any_real_number_is_a_reg(reg):
    assert factor(as_tiles(np.eye(4)), reg).ridge == 1.0


def test_targets_of_other_users_are_refused():
    with pytest.raises(ValueError, match="5 rows and the kernel matrix 4"):
        solve(factor(as_tiles(np.eye(4)), 1.0), random_clicks(5, 3))


# --- memory ---------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_it_is_begun(monkeypatch, clicks):
    gram = as_tiles(np.eye(20))
    factored = factor(gram, 1.0)
    monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: 1000)
    with pytest.raises(MemoryError, match=r"kernel matrix of 20 users takes .* GiB"):
        factor(gram, 1.0)
    with pytest.raises(MemoryError, match="20 users x 7 items"):
        solve(factored, random_clicks(20, 7))
    with pytest.raises(MemoryError, match="kernel matrix of 24 users"):
        infae.fit(clicks)


def test_an_unknown_memory_refuses_nothing(monkeypatch):
    monkeypatch.setattr("infae.runtime.memory.available_bytes", lambda: None)
    assert factor(as_tiles(np.eye(4)), 1.0).reg == 1.0


def test_this_machine_has_memory():
    available = memory.available_bytes()
    assert available is None or available > 0


# --- against scikit-learn -------------------------------------------------------------------------


def test_a_linear_kernel_is_ridge_regression(clicks, new_users):
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.linear_model import Ridge

    train = clicks.matrix.toarray().astype(np.float64)
    model = infae.fit(clicks, reg=0.4, kernel=linear, dtype="float64")
    alpha = 0.4 * (train**2).sum() / len(train)
    scores = model.predict(new_users)
    assert_allclose(scores, KernelRidge(alpha=alpha).fit(train, train).predict(new_users), atol=1e-10)
    assert_allclose(scores, Ridge(alpha=alpha, fit_intercept=False).fit(train, train).predict(new_users), atol=1e-10)
