"""Work on several cores where neither JAX nor NumPy spreads it by itself."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_WINDOW = 8
_POOL = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="infae")


def in_parallel(tasks: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Results of the calls, in order, a few of them computed ahead on other threads.

    For work that releases the interpreter lock: SciPy's sparse products, compiled JAX code. JAX's
    configuration contexts do not reach other threads; a task that needs one enters it itself.
    """
    pending = [_POOL.submit(task) for task in tasks[:_WINDOW]]
    for task in tasks[_WINDOW:]:
        yield pending.pop(0).result()
        pending.append(_POOL.submit(task))
    while pending:
        yield pending.pop(0).result()
