"""Clicks that are read in blocks of rows, from files larger than memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from infae.data.ids import known_ids
from infae.data.interactions import Interactions
from infae.runtime.checks import shown, whole


class Blocks:
    """Users who come some at a time, read anew on every pass.

        def read():
            for path in paths:
                yield scipy.sparse.load_npz(path)

        infae.fit(Blocks(read, item_ids), solver="nystrom", n_anchors=2000)

    Args:
      read: called once a pass; gives the blocks in the same order each time: SciPy sparse or
        dense matrices, or `Interactions` whose item ids are `item_ids`. A fit takes two passes.
      item_ids: (n_items,) of the columns, unique; a number stands for 0, 1, 2, ...

    Raises ValueError for ids that are none, and, while it is read, for a block with other columns.
    """

    def __init__(self, read: Callable[[], Iterable[Any]], item_ids: Any):
        if not callable(read):
            raise ValueError(
                f"read must be a function that gives the blocks anew each time it is called, got "
                f"{type(read).__name__}: an iterator ends after one pass, and a fit takes two"
            )
        self._read = read
        if isinstance(item_ids, (int, np.integer)):
            self.item_ids = np.arange(whole("item_ids", item_ids, 1, 2**31 - 1, remedy="or the ids themselves"))
        else:
            self.item_ids = known_ids(item_ids, "item_ids")

    def __iter__(self) -> Iterator[Interactions]:
        """The blocks, without users who have no clicks; users are numbered through."""
        n_seen = 0
        blocks = self._read()
        if not isinstance(blocks, Iterable) or hasattr(blocks, "shape"):
            raise ValueError(f"read must give blocks one by one, as a generator or a list does, got {shown(blocks)}")
        for block in blocks:
            clicks = block if isinstance(block, Interactions) else self._clicks(block, n_seen)
            if not np.array_equal(clicks.item_ids, self.item_ids):
                raise ValueError(f"a block has {clicks.n_items:,} other items than the {self.item_ids.size:,} expected")
            n_seen += clicks.n_users
            kept = np.flatnonzero(np.diff(clicks.matrix.indptr))
            yield clicks if kept.size == clicks.n_users else clicks.select_users(kept)

    def _clicks(self, block: Any, n_seen: int) -> Interactions:
        n_items = self.item_ids.size
        if getattr(block, "shape", ())[1:] != (n_items,):
            raise ValueError(f"expected blocks of {n_items:,} columns, one an item, got {shown(block)}")
        return Interactions.from_matrix(block, user_ids=n_seen + np.arange(block.shape[0]), item_ids=self.item_ids)
