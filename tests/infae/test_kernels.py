import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import random_clicks, tolerance

import infae
from infae.kernels import DotProductKernel, Linear, ReluNTK, gram, relu_ntk
from infae.kernels.relu import arc_cosine_0, arc_cosine_1
from infae.kernels.rows import Rows
from infae.linalg.tiles import precision

SCALES = [(2**0.5, 0.1), (2**0.5, 0.0), (1.0, 0.5), (0.7, 2.0)]


def rows(n, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def ntk(x1, x2=None, *, dtype=np.float64, **network):
    """relu_ntk computed in `dtype`."""
    cast = [x if x is None else x.astype(dtype) for x in (x1, x2)]
    with precision(dtype):
        return np.asarray(relu_ntk(*cast, **network))


def linear(x1, x2=None):
    return x1 @ (x1 if x2 is None else x2).T


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
def test_equals_the_recursion_pair_by_pair(depth, dtype):
    x1, x2 = rows(7), rows(5, seed=1)
    kernel = ntk(x1, x2, depth=depth, dtype=dtype)
    assert kernel.dtype == dtype
    assert_allclose(kernel, oracles.relu_ntk(x1, x2, depth), **tolerance(dtype))


@pytest.mark.parametrize(("w_std", "b_std"), SCALES)
def test_scales_of_weights_and_biases(w_std, b_std):
    x1, x2 = rows(4), rows(5, seed=1)
    network = {"depth": 2, "w_std": w_std, "b_std": b_std}
    assert_allclose(ntk(x1, x2, **network), oracles.relu_ntk(x1, x2, **network), **tolerance("float64"))


@pytest.mark.parametrize(
    ("depth", "w_std", "b_std"), [(0, *SCALES[3]), (1, *SCALES[0]), (2, *SCALES[3]), (3, *SCALES[0]), (4, *SCALES[0])]
)
def test_equals_neural_tangents(depth, w_std, b_std, dtype):
    from infae.kernels.stax import fully_connected

    x1, x2 = rows(7).astype(dtype), rows(5, seed=1).astype(dtype)
    with precision(dtype):
        reference = np.asarray(fully_connected(depth, w_std, b_std)(x1, x2))
    kernel = ntk(x1, x2, depth=depth, w_std=w_std, b_std=b_std, dtype=dtype)
    assert_allclose(kernel, reference, **tolerance(dtype))


@pytest.mark.slow
@pytest.mark.parametrize(("w_std", "b_std"), SCALES)
def test_no_hidden_layer_is_the_linear_network(w_std, b_std, dtype, small_tiles):
    x1, x2 = random_clicks(40, 6), random_clicks(35, 6, seed=1)
    network = {"depth": 0, "w_std": w_std, "b_std": b_std}
    for others in (x1, x2):
        expected = w_std**2 * (x1.astype(np.float64) @ others.T) / 6 + b_std**2
        given = None if others is x1 else others
        assert_allclose(ntk(x1, given, dtype=dtype, **network), expected, rtol=1e-6)
        with precision(dtype):
            sparse = gram(ReluNTK(**network), *(x if x is None else sp.csr_matrix(x) for x in (x1, given)))
        assert_allclose(sparse, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("b_std", [0.0, 0.1])
def test_equal_rows_and_empty_rows_lose_no_digits(depth, b_std):
    x = random_clicks(6, 5)
    x = np.concatenate([x, x[:2], np.zeros((2, 5), np.float32)])
    expected = oracles.relu_ntk(x, x, depth, b_std=b_std)
    equal_or_empty = np.eye(10, dtype=bool) | (x[:, None] == x[None]).all(axis=2) | ~x.any(axis=1)
    for kernel in (
        ntk(x, dtype=np.float32, depth=depth, b_std=b_std),
        relu_ntk(sp.csr_matrix(x), b_std=b_std, depth=depth),
    ):
        assert_allclose(kernel, expected, **tolerance("float32"))
        assert_allclose(np.asarray(kernel)[equal_or_empty], expected[equal_or_empty], rtol=2e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_row_with_itself_is_exact_also_where_products_round(sparse):
    x = rows(9, seed=2).astype(np.float32)
    kernel = np.asarray(relu_ntk(sp.csr_matrix(x) if sparse else x, depth=2))
    assert_allclose(np.diagonal(kernel), np.diagonal(oracles.relu_ntk(x, x, 2)), rtol=2e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_gram_matrix_is_symmetric_and_the_cross_kernel_of_its_rows(sparse):
    x = random_clicks(30, 8)
    x = sp.csr_matrix(x) if sparse else x
    kernel = np.asarray(relu_ntk(x))
    assert_allclose(kernel, kernel.T, rtol=1e-6)
    assert_allclose(kernel, relu_ntk(x, x), rtol=1e-5)


# --- sparse rows, block by block ------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_tailed():
    """(50, 60) weighted clicks, two items with everyone and most with one or two users."""
    rng = np.random.default_rng(4)
    x = np.where(rng.random((50, 60)) < 0.03, rng.random((50, 60)), 0)
    x[:, 7], x[::2, 30] = 0.3, 1.5
    return x


def test_the_long_tail_stays_sparse(long_tailed):
    kept = Rows(sp.csr_matrix(long_tailed), np.float32)
    assert {7, 30} <= set(kept.head_columns)
    assert len(kept.head_columns) < 30
    assert kept.tail.nnz > 0
    assert_allclose(kept.sq_norms, (long_tailed**2).sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("forms", [(1, None), (1, 1), (1, 0), (0, 1)], ids=["gram", "both", "first", "second"])
def test_sparse_rows_equal_dense_rows(forms, long_tailed, small_tiles):
    parts = [long_tailed, None if forms[1] is None else rows(21, 60, seed=1)]
    given = [sp.csr_matrix(x) if is_sparse else x for x, is_sparse in zip(parts, forms, strict=True)]
    with precision(np.float64):
        kernel = np.asarray(relu_ntk(*given, depth=2))
    assert_allclose(kernel, ntk(*parts, depth=2), **tolerance("float64"))


@pytest.mark.parametrize("form", [sp.csc_matrix, sp.coo_matrix, sp.csr_array])
def test_any_sparse_format(form):
    x = random_clicks(9, 7)
    assert_allclose(relu_ntk(form(x)), relu_ntk(x), rtol=1e-5)


@pytest.mark.slow
def test_several_tiles_of_the_real_size_and_a_ragged_one():
    x = random_clicks(1037, 9)
    kernel = relu_ntk(sp.csr_matrix(x))
    assert kernel.shape == (1037, 1037)
    assert_allclose(kernel, relu_ntk(x), rtol=1e-5)
    assert_allclose(relu_ntk(sp.csr_matrix(x[:600]), sp.csr_matrix(x)), kernel[:600], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 16, 17, 40])
def test_blocks_of_a_cross_kernel(n, small_tiles):
    x1, x2 = random_clicks(n, 8), random_clicks(35, 8, seed=1)
    assert_allclose(gram(ReluNTK(), sp.csr_matrix(x1), sp.csr_matrix(x2)), relu_ntk(x1, x2), rtol=1e-5)


# --- any kernel -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_a_callable_kernel_is_given_dense_rows(form, long_tailed, small_tiles):
    with precision(np.float64):
        assert_allclose(gram(linear, form(long_tailed)), long_tailed @ long_tailed.T, atol=1e-12)
        assert_allclose(
            gram(linear, form(long_tailed[:20]), form(long_tailed)), (long_tailed @ long_tailed.T)[:20], atol=1e-12
        )


def test_product_kernels_and_callables_agree(long_tailed, small_tiles):
    assert isinstance(ReluNTK(), DotProductKernel)
    assert isinstance(Linear(), DotProductKernel)
    assert not isinstance(linear, DotProductKernel)
    x = sp.csr_matrix(long_tailed)
    with precision(np.float64):
        for kernel in (Linear(), linear):
            assert_allclose(gram(kernel, x), long_tailed @ long_tailed.T, atol=1e-12)
            assert_allclose(kernel(long_tailed[:3], long_tailed), long_tailed[:3] @ long_tailed.T, atol=1e-12)
        by_rows = gram(lambda x1, x2=None: relu_ntk(x1, x2, depth=3), x)
        assert_allclose(gram(ReluNTK(3), x), by_rows, **tolerance("float64"))


@pytest.mark.slow
def test_other_architectures_fit(clicks, new_users):
    from infae.kernels.stax import ntk_kernel, stax

    layers = [stax.Dense(1), stax.Erf(), stax.Dense(1), stax.Relu(), stax.Dense(1)]
    _, _, kernel_fn = stax.serial(*layers)
    model = infae.fit(clicks, reg=0.5, kernel=ntk_kernel(kernel_fn), dtype="float64")
    train = clicks.matrix.toarray().astype(np.float64)
    with precision(np.float64):
        gram_train = np.asarray(kernel_fn(train, None, "ntk"))
        gram_new = np.asarray(kernel_fn(new_users.astype(np.float64), train, "ntk"))
    expected = gram_new @ oracles.ridge(gram_train, train, 0.5)
    assert_allclose(model.predict(new_users), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_a_gaussian_process_kernel_by_name():
    from infae.kernels.stax import ntk_kernel, stax

    kernel_fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))[2]
    x = rows(4).astype(np.float32)
    assert_allclose(ntk_kernel(kernel_fn, "nngp")(x), kernel_fn(x, None, "nngp"), rtol=1e-6)
    with pytest.raises(ValueError, match="'ntk' or 'nngp'"):
        ntk_kernel(kernel_fn, "both")


@pytest.mark.slow
def test_neural_tangents_comes_without_tensorflow():
    code = "import sys, infae.kernels.stax; print([m for m in ('tensorflow', 'tf2jax', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- derivatives ----------------------------------------------------------------------------------


def finite_difference(f, x, step=1e-6):
    slope = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        slope[place] = (f(x + moved) - f(x - moved)) / (2 * step)
    return slope


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_gradients_of_a_cross_kernel(depth):
    x1, x2, weights = rows(3, 4), rows(2, 4, seed=1), rows(3, 2, seed=2)

    @jax.jit
    def total(a, b):
        return jnp.sum(weights * relu_ntk(a, b, depth=depth))

    with precision(np.float64):
        by_first, by_second = jax.jit(jax.grad(total, argnums=(0, 1)))(x1, x2)
        assert_allclose(by_first, finite_difference(lambda a: float(total(a, x2)), x1), rtol=1e-6, atol=1e-8)
        assert_allclose(by_second, finite_difference(lambda b: float(total(x1, b)), x2), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_gradient_of_a_gram_matrix_with_equal_and_empty_rows(depth):
    x = random_clicks(3, 4).astype(np.float64)
    x = np.concatenate([x, x[:2], np.zeros((1, 4))])
    weights = rows(6, 6, seed=2)
    total = jax.jit(lambda x: jnp.sum(weights * relu_ntk(x, depth=depth)))
    with precision(np.float64):
        # At the cusp of k0 the central difference is the mean of both sides, as the derivative is.
        expected = finite_difference(lambda x: float(total(x)), x, step=1e-5)
        assert_allclose(jax.jit(jax.grad(total))(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("b_std", [0.0, 0.1])
@pytest.mark.parametrize("own", [True, False])
def test_gradients_are_finite_where_rows_are_equal_or_empty(own, b_std):
    x = random_clicks(3, 4)
    x = np.concatenate([x, x, np.zeros((2, 4), np.float32)])
    slope = jax.jit(jax.grad(lambda a: jnp.sum(relu_ntk(a, None if own else x, depth=2, b_std=b_std))))
    assert np.isfinite(slope(x)).all()


@pytest.mark.slow
def test_derivatives_of_the_arc_cosine_functions():
    u = np.array([-0.99, -0.3, 0.0, 0.5, 0.999])
    with precision(np.float64):
        slope_0, slope_1 = (jax.vmap(jax.grad(f))(u) for f in (arc_cosine_0, arc_cosine_1))
        at_the_ends = jax.vmap(jax.grad(arc_cosine_0))(np.array([-1.0, 1.0]))
    assert_allclose(slope_0, 1 / (np.pi * np.sqrt(1 - u**2)), rtol=1e-12)
    assert_allclose(slope_1, 1 - np.arccos(u) / np.pi, rtol=1e-12)
    assert_array_equal(at_the_ends, [0, 0])


@pytest.mark.slow
def test_arc_cosines_in_single_precision():
    u = np.linspace(-1, 1, 2001, dtype=np.float32)
    assert_allclose(arc_cosine_0(u), 1 - np.arccos(u.astype(np.float64)) / np.pi, atol=2e-7)
    assert arc_cosine_0(u)[-1] == arc_cosine_1(u)[-1] == 1


def test_under_jit_and_vmap():
    batch = np.stack([random_clicks(4, 5, seed=s) for s in range(3)])
    others = random_clicks(6, 5, seed=9)
    kernels = jax.jit(jax.vmap(lambda x: relu_ntk(x, others)))(batch)
    assert_allclose(kernels, [relu_ntk(x, others) for x in batch], rtol=1e-5)
    assert_allclose(jax.vmap(relu_ntk)(batch), [relu_ntk(x) for x in batch], rtol=1e-5)
    x = batch[0]
    for known in (x, jnp.asarray(x), x.tolist()):
        assert_allclose(jax.jit(lambda scale, x=known: scale * relu_ntk(x))(1.0), relu_ntk(x), rtol=1e-5)
        assert_allclose(jax.jit(lambda y, x=known: relu_ntk(x, y))(others), relu_ntk(x, others), rtol=1e-5)
    with pytest.raises(ValueError, match="x1 holds NaN"):
        jax.jit(lambda y: relu_ntk(np.full((2, 5), np.nan), y))(others)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ({"depth": -1}, "depth"),
        ({"depth": True}, "depth"),
        ({"depth": 1.5}, "depth"),
        ({"depth": 2.0}, "depth"),
        ({"depth": np.nan}, "depth"),
        ({"depth": "2"}, "depth"),
        ({"b_std": -0.1}, "b_std"),
        ({"b_std": np.nan}, "b_std"),
        ({"w_std": 0.0}, "w_std"),
        ({"w_std": np.inf}, "w_std"),
    ],
)
def test_impossible_networks_are_refused(network, named):
    with pytest.raises(ValueError, match=named):
        relu_ntk(random_clicks(2, 3), **network)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_rows_of_unequal_length_are_refused(form):
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        relu_ntk(form(random_clicks(2, 3)), form(random_clicks(2, 4)))
