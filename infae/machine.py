"""The one model behind everything here: anchors, a coefficient row each, and a kernel between."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from infae.kernels.grams import Kernel, cross_gram
from infae.kernels.rows import Rows
from infae.linalg.tiles import precision


@dataclass(frozen=True, eq=False)
class Dual:
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
        if not isinstance(self.anchors, Rows):
            raise TypeError("block-wise scores need anchors in `Rows`; call the Dual itself on dense arrays")
        with precision(self.coef.dtype):
            rows = self.anchors.like(inputs)
            scores = np.empty((rows.n, self.coef.shape[1]), self.coef.dtype)
            for block, k_block_anchor in cross_gram(self.kernel, rows, self.anchors):
                scores[block] = _product(k_block_anchor, self.coef)[: block.stop - block.start]
            return scores


_product = jax.jit(lambda k_rows_anchors, coef: k_rows_anchors[:, : coef.shape[0]] @ coef)
