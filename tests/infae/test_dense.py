"""The dense solve that the inner fit is made of, and its gradients."""

from functools import partial

import jax
import numpy as np
import oracles
import pytest
from made_batches import check_reverse, soft
from numpy.testing import assert_allclose
from oracles import tolerance

from infae.linalg.tiles import precision
from infae.solvers.dense import solve_dense


def spd(n, seed=0):
    root = np.random.default_rng(seed).standard_normal((n, n)) / np.sqrt(n)
    return root @ root.T + np.eye(n)


@pytest.mark.parametrize("n", [1, 7, 97])
def test_the_dense_solve_equals_numpy(n, dtype):
    gram, targets = spd(n), np.random.default_rng(1).standard_normal((n, 5))
    with precision(dtype):
        coef = jax.jit(solve_dense)(gram.astype(dtype), targets.astype(dtype), 0.3)
    assert coef.dtype == dtype
    assert_allclose(coef, oracles.ridge(gram, targets, 0.3), **tolerance(dtype))


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3, 70])
def test_gradient_of_the_dense_solve(n):
    targets = np.random.default_rng(1).standard_normal((n, 2))

    @jax.jit
    def solved(root, targets, reg):
        # Symmetric matrices only: of others half is never read.
        return solve_dense((root + root.T) / 2, targets, reg)

    with precision(np.float64):
        check_reverse(solved, (spd(n), targets, 0.3))


def test_gradients_by_targets_and_reg_equal_their_formulas():
    gram, targets, cotangent = spd(6), soft(6, 3), soft(6, 3, seed=4)
    with precision(np.float64):
        _, pull_back = jax.vjp(jax.jit(partial(solve_dense, gram)), targets, 0.3)
        by_targets, by_reg = pull_back(cotangent)
    inverse = np.linalg.inv(gram + 0.3 * np.trace(gram) / 6 * np.eye(6))
    assert_allclose(by_targets, inverse @ cotangent, rtol=1e-10)
    assert_allclose(by_reg, -np.trace(gram) / 6 * np.sum(cotangent * (inverse @ inverse @ targets)), rtol=1e-10)


@pytest.mark.parametrize("matrix", [np.diag([1.0, -1.0, 2.0]), -np.eye(3), np.zeros((3, 3)), -np.eye(70)])
def test_a_matrix_that_is_not_positive_definite_gives_nan(matrix):
    coef = jax.jit(solve_dense)(matrix.astype(np.float32), np.ones((len(matrix), 2), np.float32), 0.0)
    assert np.isnan(coef).any()
