"""Clicks that are read in blocks of rows, from files larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from infae.data.interactions import Interactions


class Blocks:
    """Users who come some at a time, read anew on every pass.

        def read():
            for path in paths:
                yield scipy.sparse.load_npz(path)

        infae.fit(Blocks(read, item_ids), solver="nystrom", n_anchors=2000)

    Args:
      read: called once a pass; gives the blocks in the same order each time: SciPy sparse or
        dense matrices, or `Interactions` whose item ids are `item_ids`. A fit takes two passes.
      item_ids: (n_items,) of the columns; a number stands for 0, 1, 2, ...

    Raises ValueError, while it is read, for a block with other columns.
    """

    def __init__(self, read: Callable[[], Iterable[Any]], item_ids: np.ndarray | int):
        if not callable(read):
            raise ValueError(
                f"read must be a function that gives the blocks anew each time it is called, got "
                f"{type(read).__name__}: an iterator ends after one pass, and a fit takes two"
            )
        self._read = read
        self.item_ids = np.arange(item_ids) if isinstance(item_ids, (int, np.integer)) else np.asarray(item_ids)

    def __iter__(self) -> Iterator[Interactions]:
        """The blocks, without users who have no clicks; users are numbered through."""
        n_seen = 0
        for block in self._read():
            clicks = block if isinstance(block, Interactions) else self._clicks(block, n_seen)
            if not np.array_equal(clicks.item_ids, self.item_ids):
                raise ValueError(f"a block has {clicks.n_items:,} other items than the {self.item_ids.size:,} expected")
            n_seen += clicks.n_users
            kept = np.flatnonzero(np.diff(clicks.matrix.indptr))
            yield clicks if kept.size == clicks.n_users else clicks.select_users(kept)

    def _clicks(self, block: Any, n_seen: int) -> Interactions:
        n_items = self.item_ids.size
        if np.ndim(block) != 2 or block.shape[1] != n_items:
            raise ValueError(f"expected blocks of {n_items:,} columns, one an item, got shape {np.shape(block)}")
        return Interactions.from_matrix(block, user_ids=n_seen + np.arange(block.shape[0]), item_ids=self.item_ids)
