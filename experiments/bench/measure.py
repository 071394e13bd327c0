"""What the benchmarks measure with: processes of their own, their memory, seconds, and this machine's product rate."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.study.tables import Table

T = TypeVar("T")


def alone(measure: Callable[..., T], *args: Any, **arguments: Any) -> T:
    """What a fresh process measures: another measurement's memory would hide in its peak."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *args, **arguments).result()


def peak_bytes() -> int:
    """Most memory that this process has held at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table(caption: str, columns: str, cells: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    """A row of `cells` for each of `rows`, as `str.format` fills them in; cells have | between, as columns have."""
    return Table(caption, columns.split("|"), [cells.format(**row).split("|") for row in rows])


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds that a call takes until its result is there, and the result."""
    started = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - started, result


def best_seconds(*sides: Callable[[], Any], repeats: int) -> list[float]:
    """Best time of each call, timed in turns after one warm-up of each."""
    for side in sides:
        jax.block_until_ready(side())
    return np.min([[timed(side)[0] for side in sides] for _ in range(repeats)], axis=0).tolist()


def product_rate() -> float:
    """GFLOP/s of a dense float32 product on this machine, now."""
    a = jnp.ones((3000, 3000), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    return 2 * 3000**3 / best_seconds(lambda: product(a), repeats=5)[0] / 1e9
