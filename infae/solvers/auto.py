"""What a fit would take, before it is begun, and which solver to choose by that.

Operations are counted as those of large matrix products, whose rate on this machine is measured
once; what runs slower counts as more of them. Factors are from two CPU cores, see BUILD_NOTES.md:
seconds are within a factor of two or so there, and bytes on the safe side.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infae.kernels.rows import HEAD_SHARE
from infae.linalg.tiles import precision, tile_size
from infae.runtime import memory
from infae.solvers import cg as conjugate
from infae.solvers import nystrom as landmarks

# Elementwise work of a kernel entry, and of an entry of a CG iteration, in operations.
_KERNEL_ENTRY = 1000
_CG_ENTRY = 1500
# A scattered addition between two tails of clicks; one along rows of the inverse, or of the kernel.
_TAIL_PAIR = 800
_TAIL_ENTRY = 40
# The sweep reaches some 0.75 of a product's rate, float64 half of float32's.
_SWEEP = 1.3
_FLOAT64 = 2
# Iterations of conjugate gradients: 7 on ML-1M at reg 5, 13 at 1, 31 at 0.1.
_ITERATIONS = 12
# Compiling.
_BASE_SECONDS = 1.0
# An exact solve is preferred to landmarks up to this long, in seconds.
_PATIENCE = 600


class Cost(NamedTuple):
    """Of one solver: bytes at its peak beside the data, with a margin, and seconds."""

    solver: str
    n_bytes: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.solver}: {self.n_bytes / 2**30:.2g} GiB, about {self.seconds:.2g} s"


def costs(
    popularity: np.ndarray, n: int, *, n_regs: int = 1, n_anchors: int = 1000, dtype: np.dtype | type = np.float32
) -> list[Cost]:
    """Of "exact", "cg" and "nystrom", for n users whose clicks on each item are `popularity` (m,)."""
    dtype, m, several = np.dtype(dtype), popularity.size, n_regs > 1
    size, a = dtype.itemsize, min(n_anchors, n)
    popular = popularity > HEAD_SHARE * n
    head, tail = int(popular.sum()), popularity[~popular].astype(float)
    entry = 2 * head + _KERNEL_ENTRY + _TAIL_PAIR * float(np.sum((tail / n) ** 2))
    gram = n * n / 2 * entry
    # A row of the inverse, or of the landmarks' kernel, times the clicks.
    click_product = 2 * n * head + _TAIL_ENTRY * float(tail.sum())
    rows = 2 * size * n * head + int(popularity.sum()) * (size + 4)

    exact = gram + n_regs * (_SWEEP * n**3 + n * click_product)
    exact_bytes = size * (n * (n + tile_size(n)) + (2 if several else 1) * n * m)

    k = conjugate.n_landmarks(n)
    iteration = n * m * (2 * n + 4 * k + _CG_ENTRY)
    kept = conjugate.required_bytes(n, m, size, keep=True, several_regs=several)
    bare = conjugate.required_bytes(n, m, size, keep=False, several_regs=several)
    fits = memory.fits(memory.with_margin(kept + rows))
    grams = 1 if fits else n_regs * _ITERATIONS * -(-m // conjugate.width(n, m, size))
    cg = grams * gram + 2 * n * k**2 + n_regs * _ITERATIONS * iteration

    wide = _FLOAT64 if size == 4 else 1
    nystrom = n * a * (entry + 3 * a) + a * click_product + wide * (2 * a**3 + n_regs * (3 * a**3 + 2 * a**2 * m))
    nystrom_bytes = landmarks.required_bytes(a, m, size) + (size * a * m if several else 0)

    rate = matrix_rate(dtype.name)
    counted = (("exact", exact_bytes, exact), ("cg", kept if fits else bare, cg), ("nystrom", nystrom_bytes, nystrom))
    return [
        Cost(name, memory.with_margin(n_bytes + rows), _BASE_SECONDS + operations / rate)
        for name, n_bytes, operations in counted
    ]


def decide(
    popularity: np.ndarray, n: int, *, n_regs: int = 1, n_anchors: int = 1000, dtype: np.dtype | type = np.float32
) -> tuple[list[Cost], str]:
    """The costs, and the solver chosen by them and by the memory that is available.

    Raises MemoryError where no solver fits, with the number of landmarks that would.
    """
    available = memory.available_bytes()
    estimated = partial(costs, popularity, n, n_regs=n_regs, dtype=dtype)
    found = estimated(n_anchors=n_anchors)
    if chosen := choose(found, available):
        return found, chosen
    assert available is not None
    fewer = range(1, min(n_anchors, n))
    largest = bisect_right(fewer, available, key=lambda a: estimated(n_anchors=a)[-1].n_bytes)
    raise MemoryError(
        f"no solver fits into the {available / 2**30:.2g} GiB available ({'; '.join(map(str, found))}); "
        + (f"use solver='nystrom' with n_anchors={largest}" if largest else "use fewer items, or a larger machine")
    )


def choose(found: list[Cost], available: int | None) -> str:
    """The solver that serves best of those that fit into `available` bytes (all do if None); "" where none does.

    The faster of "exact" and "cg", which give the same, unless it is estimated at more than ten
    minutes and "nystrom" fits and is faster; else "nystrom".
    """
    fitting = [cost for cost in found if available is None or cost.n_bytes <= available]
    full = min((cost for cost in fitting if cost.solver != "nystrom"), key=lambda cost: cost.seconds, default=None)
    nystrom = next((cost for cost in fitting if cost.solver == "nystrom"), None)
    if nystrom is None or (full is not None and full.seconds <= max(_PATIENCE, nystrom.seconds)):
        return full.solver if full else ""
    return nystrom.solver


@cache
def matrix_rate(dtype: str) -> float:
    """Operations a second of a matrix product in "float32" or "float64", measured once, in a tenth of a second."""
    edge = 1024
    with precision(dtype):
        a = jnp.ones((edge, edge), dtype)
        jax.block_until_ready(_product(a))
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(_product(a))
            taken.append(time.perf_counter() - start)
    return 2 * edge**3 / float(np.median(taken))


_product = jax.jit(lambda a: a @ a)
