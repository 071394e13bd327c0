"""What the benchmarks measure with: processes of their own, their peak memory, and this machine's product rate."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


def alone(measure: Callable[..., T], *args: Any, **arguments: Any) -> T:
    """What a fresh process measures: another measurement's memory would hide in its peak."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *args, **arguments).result()


def peak_bytes() -> int:
    """Most memory that this process has held at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def product_rate() -> float:
    """GFLOP/s of a dense float32 product on this machine, now."""
    a = jnp.ones((3000, 3000), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    best = np.inf
    for _ in range(5):
        started = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - started)
    return 2 * 3000**3 / best / 1e9
