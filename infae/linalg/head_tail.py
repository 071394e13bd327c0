"""Products with sparse matrices whose columns differ: the popular ones (the head) densely, the long tail sparsely."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.runtime.parallel import in_parallel

# A column that a share s of n rows holds costs s n scattered multiply-adds, or n dense ones at some 12 times the rate.
HEAD_SHARE = 1 / 12
_N_PARTS = 16


class HeadTail:
    """T' R for one (n, m) matrix T and any number of dense (n, k) R.

    Args:
      matrix: T, sparse; or dense, of which all columns are head.
      dtype: of the products.
      head: (m,) boolean, the columns taken densely; those that hold more than a twelfth of the rows where None.
      height: rows that the head is filled up to with zeros, so that one compilation serves blocks of any size.
    """

    def __init__(
        self,
        matrix: sp.csr_matrix | np.ndarray,
        dtype: np.dtype,
        *,
        head: np.ndarray | None = None,
        height: int | None = None,
    ):
        self._tail: list[tuple[np.ndarray, sp.csr_matrix]] = []
        if not sp.issparse(matrix):
            self._head, self._columns = jnp.asarray(matrix, dtype), np.arange(matrix.shape[1])
        else:
            csc = sp.csc_matrix(matrix, dtype=dtype)
            head = popular(csc) if head is None else head
            dense = np.zeros((height or csc.shape[0], int(head.sum())), dtype)
            dense[: csc.shape[0]] = csc[:, head].toarray()
            self._head, self._columns = jnp.asarray(dense), np.flatnonzero(head)
            held = np.flatnonzero(~head & (np.diff(csc.indptr) > 0))
            # The transpose of a CSC is a CSR of columns, which are shared out to threads by their entries.
            rows = csc[:, held].T
            cuts = np.unique(
                [0, *np.searchsorted(rows.indptr, np.linspace(0, rows.nnz, _N_PARTS + 1)[1:-1]), held.size]
            )
            self._tail = [(held[a:b], rows[a:b]) for a, b in pairwise(cuts)]
        # Columns that hold nothing come last, as one of zeros.
        columns = np.concatenate([self._columns, *(columns for columns, _ in self._tail)])
        place = np.full(matrix.shape[1], columns.size)
        place[columns] = np.arange(columns.size)
        self._place = jnp.asarray(place)

    def transposed(self, right: jax.Array) -> jax.Array:
        """R' T, (k, m)."""
        whole = np.asarray(right)
        parts = [np.zeros((0, whole.shape[1]), whole.dtype)]
        parts += in_parallel([partial(_product, rows, whole) for _, rows in self._tail])
        return _assembled(right, self._head, np.concatenate(parts), self._place)

    def add_to(self, total: np.ndarray, right: jax.Array, n_columns: int) -> None:
        """Add T' R to a (m, n_columns) array, for R whose first columns count, and of whose rows T has the first."""
        dense = _head_product(self._head, right)
        values = np.asarray(right)

        def add(columns: np.ndarray, rows: sp.csr_matrix) -> None:
            total[columns] += rows @ values[: rows.shape[1], :n_columns]

        tasks: list[Callable[[], None]] = [partial(add, columns, rows) for columns, rows in self._tail]
        list(in_parallel(tasks))
        total[self._columns] += np.asarray(dense)[:, :n_columns]


def popular(columns: sp.csc_matrix) -> np.ndarray:
    """(m,) whether a column holds more than a twelfth of the rows."""
    return np.diff(columns.indptr) > HEAD_SHARE * columns.shape[0]


def _product(rows: sp.csr_matrix, right: np.ndarray) -> np.ndarray:
    return rows @ right


@jax.jit
def _assembled(right: jax.Array, head: jax.Array, tail: jax.Array, place: jax.Array) -> jax.Array:
    nothing = jnp.zeros((right.shape[1], 1), right.dtype)
    return jnp.take(jnp.concatenate([right.T @ head, tail.T, nothing], axis=1), place, axis=1)


_head_product = jax.jit(lambda head, right: head.T @ right)
