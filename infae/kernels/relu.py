"""The neural tangent kernel of a fully connected ReLU network, in closed form."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.kernels.grams import checked_rows, finite, gram
from infae.runtime import checks

# Layers beyond these are a loop: 200 of them, written out, take minutes to compile.
_UNROLLED = 8


@dataclass(frozen=True)
class ReluNTK:
    r"""NTK of `depth` hidden ReLU layers of infinite width, NTK parametrisation.

    With d inputs, w = w_std and b = b_std, for two rows x and z:

        S_0 = w^2 x.z / d + b^2,                   T_0 = S_0
        u   = S_l(x,z) / sqrt(S_l(x,x) S_l(z,z))
        S_{l+1} = w^2/2 sqrt(S_l(x,x) S_l(z,z)) k1(u) + b^2
        T_{l+1} = S_{l+1} + w^2/2 k0(u) T_l

    with the arc-cosine functions k0(u) = 1 - arccos(u)/pi and
    k1(u) = (sqrt(1 - u^2) + u (pi - arccos u)) / pi; the kernel is T_depth. One hidden layer is
    the network of the paper (Sachdeva et al. 2022, section 3, Eq. 1, where k1 and k0 are the
    dual activation and its derivative); none is the linear autoencoder, whose kernel S_0 is.

    Attributes:
      depth: hidden layers, 0 or more.
      w_std: standard deviation of the weights, times sqrt(fan-in) (the published 2**0.5).
      b_std: standard deviation of the biases (the published 0.1). It is added to every entry of
        the input kernel, so histories of a few clicks among many items differ little: with rows
        of unit length, 0 serves better.
    """

    depth: int = 1
    w_std: float = 2**0.5
    b_std: float = 0.1

    def __post_init__(self) -> None:
        # A plain number, for the kernel is hashed.
        depth = checks.whole("depth", self.depth, 0, 10_000, remedy="it counts hidden layers")
        object.__setattr__(self, "depth", depth)
        checks.number("w_std", self.w_std, above=0, most=1e6)
        checks.number("b_std", self.b_std, least=0, most=1e6)

    def from_products(
        self, products: jax.Array, sq1: jax.Array, sq2: jax.Array, n_inputs: int, *, diagonal: bool = False
    ) -> jax.Array:
        """The kernel (n1, n2) from inner products x1 x2' (n1, n2) and squared norms (n1,), (n2,).

        `diagonal` says that both sides are the same rows, so that u is exactly 1 on the
        diagonal, where rounding would otherwise cost half of the digits.
        """
        w2, b2 = self.w_std**2, self.b_std**2
        cov, var1, var2 = (w2 / n_inputs * a + b2 for a in (products, sq1, sq2))
        # Rows that are equal stay so in every layer, though rounding would tell them apart in deeper ones.
        equal = (cov == var1[:, None]) & (cov == var2[None, :])
        if diagonal:
            equal = equal | jnp.eye(cov.shape[0], cov.shape[1], dtype=bool)

        def layer(_: int, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            cov, ntk, var1, var2 = state
            scale = _safe_sqrt(var1[:, None] * var2[None, :])
            u = jnp.where(equal, 1, jnp.clip(cov / jnp.where(scale > 0, scale, 1), -1, 1))
            cov = w2 / 2 * scale * arc_cosine_1(u) + b2
            return cov, cov + w2 / 2 * arc_cosine_0(u) * ntk, w2 / 2 * var1 + b2, w2 / 2 * var2 + b2

        # Unrolled as far as is quickly compiled.
        unrolled = min(self.depth, _UNROLLED)
        state: tuple[jax.Array, ...] = (cov, cov, var1, var2)
        for k in range(unrolled):
            state = layer(k, state)
        return jax.lax.fori_loop(unrolled, self.depth, layer, state)[1] if self.depth > unrolled else state[1]

    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        """The (n1, n2) kernel between dense or SciPy sparse rows; see `relu_ntk`."""
        if sp.issparse(x1) or sp.issparse(x2):
            return gram(self, x1, x2)
        x1 = jnp.asarray(checked_rows("x1", x1))
        return finite(_dense(self, x1, None if x2 is None else jnp.asarray(checked_rows("x2", x2))))


def relu_ntk(x1: Any, x2: Any = None, *, depth: int = 1, w_std: float = 2**0.5, b_std: float = 0.1) -> jax.Array:
    """NTK Gram matrix of a fully connected ReLU network; the equations are in `ReluNTK`.

    Equal in value to neural-tangents' `stax.serial(Dense, Relu, ..., Dense)` with `depth` hidden
    layers. Arrays and tracers take one dense product and can be jitted, mapped and
    differentiated, also where rows are equal or empty: at the cusp of k0, where one row meets
    another, the derivative of k0 is taken as 0, which is exact for a Gram matrix's own diagonal.
    SciPy sparse rows go block by block over their non-zeros, in bounded memory beyond the result.

    Args:
      x1: (n1, d) rows, dense or sparse.
      x2: (n2, d) rows, or None for x1 itself, which costs half.
      depth: hidden layers.
      w_std: weight scale.
      b_std: bias scale.

    Returns:
      (n1, n2) array in JAX's version of the inputs' dtype (float64 under `jax.enable_x64`).

    Raises:
      ValueError: for a negative depth, a scale that is negative or not finite, rows of unequal length, and for
        NaN, infinite or very large entries (of a tracer nothing is known yet).
    """
    return ReluNTK(depth, w_std, b_std)(x1, x2)


@partial(jax.jit, static_argnums=0)
def _dense(kernel: ReluNTK, x1: jax.Array, x2: jax.Array | None) -> jax.Array:
    for x in (x1, x2):
        if x is not None and (x.ndim != 2 or x.shape[1] != x1.shape[1]):
            raise ValueError(f"expected rows of {x1.shape[-1]} entries, got shapes {x1.shape} and {x.shape}")
    same = x2 is None
    right = x1 if x2 is None else x2
    dtype = jnp.result_type(x1, right, jnp.float32)
    x1, right = x1.astype(dtype), right.astype(dtype)
    products = jnp.matmul(x1, right.T, precision=jax.lax.Precision.HIGHEST)
    sq1, sq2 = (jnp.sum(x * x, axis=1) for x in (x1, right))
    return kernel.from_products(products, sq1, sq2, x1.shape[1], diagonal=same)


@jax.custom_jvp
def arc_cosine_0(u: jax.Array) -> jax.Array:
    """k0(u) = 1 - arccos(u) / pi for u in [-1, 1] (Cho and Saul 2009, degree 0)."""
    return 1 - _arccos(u) / np.pi


@arc_cosine_0.defjvp
def _arc_cosine_0_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (u,), (du,) = primals, tangents
    sine = _safe_sqrt((1 - u) * (1 + u))
    slope = jnp.where(sine > 0, 1 / (np.pi * jnp.where(sine > 0, sine, 1)), 0)
    return arc_cosine_0(u), slope * du


@jax.custom_jvp
def arc_cosine_1(u: jax.Array) -> jax.Array:
    """k1(u) = (sqrt(1 - u^2) + u (pi - arccos u)) / pi for u in [-1, 1] (degree 1)."""
    return _safe_sqrt((1 - u) * (1 + u)) / np.pi + u * (1 - _arccos(u) / np.pi)


@arc_cosine_1.defjvp
def _arc_cosine_1_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (u,), (du,) = primals, tangents
    return arc_cosine_1(u), arc_cosine_0(u) * du


# arccos(u) = sqrt(1 - u) p(u) on [0, 1] to 2e-8 (Abramowitz and Stegun 4.4.46), highest power first.
_ARCCOS = (
    -0.0012624911, 0.0066700901, -0.0170881256, 0.0308918810,
    -0.0501743046, 0.0889789874, -0.2145988016, 1.5707963050,
)  # fmt: skip


def _arccos(u: jax.Array) -> jax.Array:
    if u.dtype != jnp.float32:
        return jnp.arccos(u)
    # XLA's own takes six times as long on a CPU and is no more accurate in float32.
    size = jnp.abs(u)
    poly = jnp.full_like(size, _ARCCOS[0])
    for coefficient in _ARCCOS[1:]:
        poly = poly * size + np.float32(coefficient)
    angle = jnp.sqrt(1 - size) * poly
    return jnp.where(u < 0, np.pi - angle, angle)


def _safe_sqrt(x: jax.Array) -> jax.Array:
    """Sqrt whose derivative at 0 is 0 instead of infinite, so that 0 * inf never makes a NaN."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
