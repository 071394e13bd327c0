"""Progress bars on standard error, for people: silent unless asked for, and in logs."""

from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm


def bar(
    description: str, show: bool, steps: Iterable[Any] | None = None, unit: str = "it", total: int | None = None
) -> tqdm:
    """A bar over `steps`, or one to be moved by `onto`; never drawn where no terminal is watching."""
    return tqdm(steps, desc=description, unit=unit, total=total, disable=None if show else True, leave=False)


def onto(shown: tqdm) -> Callable[[int, int], None] | None:
    """A callback (done, total) that moves a bar; None where the bar is not drawn."""
    if shown.disable:
        return None

    def move(done: int, total: int) -> None:
        shown.total = total
        shown.n = done
        shown.refresh()

    return move
