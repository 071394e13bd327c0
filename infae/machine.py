"""The one model behind everything here: anchors, a coefficient row each, and a kernel between."""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from infae.kernels.base import Kernel
from infae.kernels.grams import cross_gram
from infae.kernels.rows import Rows
from infae.linalg.tiles import precision


@dataclass(frozen=True, eq=False)
class KernelMachine:
    """scores(x) = kernel(x, anchors) @ coef.

    Attributes:
      kernel: between input rows.
      anchors: (n_anchors, n_items) input rows: `Rows` for `scores`, an array (or a tracer) for
        a call.
      coef: (n_anchors, n_items), one row an anchor.
    """

    kernel: Kernel
    anchors: Rows | jax.Array
    coef: jax.Array

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """(n, n_items) scores of dense (n, n_items) input rows, all at once; jitted and differentiated as it is."""
        return _product(self.kernel(inputs, self.anchors), self.coef)

    def scores(self, inputs: object) -> np.ndarray:
        """(n, n_items) scores of (n, n_items) input rows, sparse or dense, in bounded memory."""
        scores = np.empty((inputs.shape[0], self.coef.shape[1]), self.coef.dtype)  # type: ignore[attr-defined]
        for at, _, of_block in self.blocks(inputs):
            scores[at] = of_block[: at.stop - at.start]
        return scores

    def blocks(self, inputs: object) -> Iterator[tuple[slice, jax.Array, jax.Array]]:
        """(rows of the block, their kernel with the anchors, their scores), both padded with further rows."""
        if not isinstance(self.anchors, Rows):
            raise TypeError("block-wise scores need anchors in `Rows`; call the machine itself on dense arrays")
        with precision(self.coef.dtype):
            for at, k_block_anchor in cross_gram(self.kernel, self.anchors.like(inputs), self.anchors):
                yield at, k_block_anchor[:, : self.anchors.n], _product(k_block_anchor, self.coef)


def batches(n_users: int, n_items: int, n_turns: int = 1) -> Iterator[slice]:
    """The users a batch at a time, as many as are scored at once, and at most their `n_turns`-th part."""
    step = min(batch_size(n_items), max(1, -(-n_users // n_turns)))
    return (slice(start, min(start + step, n_users)) for start in range(0, n_users, step))


def batch_size(n_items: int) -> int:
    """Users to score at once: a power of two, at most 512 and at most 256 MiB of float32 scores."""
    return max(8, min(512, 1 << ((1 << 26) // n_items).bit_length() - 1)) if n_items < 1 << 26 else 8


_product = jax.jit(lambda k_rows_anchors, coef: k_rows_anchors[:, : coef.shape[0]] @ coef)
