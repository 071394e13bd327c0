"""EASE: a linear autoencoder with a zero diagonal, in closed form (Steck 2019; paper, appendix B.1)."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import jax
import numpy as np
import scipy.sparse as sp

from experiments.recommenders.base import Baseline
from infae import Interactions, SingularKernelError, Split
from infae.kernels import Linear
from infae.kernels.grams import symmetric_gram
from infae.kernels.rows import Rows
from infae.linalg.tiles import SymmetricTiles, precision
from infae.machine import batches
from infae.runtime import checks
from infae.runtime.memory import require_memory
from infae.solvers import inverse
from infae.tuning.best import Best, Trial, best
from infae.tuning.search import held_out_metrics


@dataclass(eq=False, repr=False)
class EASE(Baseline):
    r"""argmin_B |X - X B|^2 + reg |B|^2 with diag(B) = 0, and scores(history) = history @ B.

    With P = (X'X + reg I)^-1 the minimum is B_ij = -P_ij / P_jj for i != j (Steck 2019, Eq. 8).
    Where users are fewer than items the inverse is that of users instead: with
    W = X' (X X' + reg I)^-1 X = I - reg P it is B_ij = W_ij / (1 - W_jj).
    """

    reg: float = 500.0  # lambda, positive, **absolute**: in clicks, as Steck's, not relative as `infae`'s reg
    _: KW_ONLY
    gram: SymmetricTiles | None = None  # `ease_gram(X)`, where it is at hand from another fit to the same clicks

    def _fit(self, clicks: sp.csr_matrix) -> None:
        checks.number("reg (lambda)", self.reg, above=0)
        gram = ease_gram(clicks) if self.gram is None else self.gram
        inverted = inverse(gram, self.reg)
        if not np.isfinite(inverted.diagonal()).all():
            raise SingularKernelError(f"EASE's X'X + {self.reg:g} I could not be inverted; use a larger lambda")
        if _by_users(clicks):
            self._from_users(clicks, inverted)
            return
        weights = inverted.to_dense()
        weights /= -np.diagonal(weights).copy()
        np.fill_diagonal(weights, 0)
        self._users, self._weights = None, jax.numpy.asarray(weights, np.float32)

    def _from_users(self, clicks: sp.csr_matrix, inverted: SymmetricTiles) -> None:
        n_users, n_items = clicks.shape
        coef, own = np.empty((n_users, n_items), np.float32), np.zeros(n_items)
        items = sp.csr_matrix(clicks.T, dtype=np.float64)
        for block in range(inverted.n_tiles):
            at = inverted.rows_of(block)
            part = (items @ np.asarray(inverted.column(block))).T
            rows, columns = (shown := clicks[at]).nonzero()
            own += np.bincount(columns, shown.data * part[rows, columns], minlength=n_items)
            coef[at] = part
        coef /= 1 - own
        self._users, self._own = sp.csr_matrix(clicks.T, dtype=np.float32), own / (1 - own)
        self._weights = jax.numpy.asarray(coef)

    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        scores = np.empty(histories.shape, np.float32)
        with precision(np.float32):
            for at in batches(*histories.shape):
                shown = histories[at] if self._users is None else histories[at] @ self._users
                scores[at] = shown.toarray() @ self._weights
        if self._users is not None:
            # diag(B) = 0: an item's own click says nothing of it.
            rows, columns = histories.nonzero()
            scores[rows, columns] -= histories.data * self._own[columns]
        return scores


def ease_gram(clicks: sp.csr_matrix) -> SymmetricTiles:
    """X'X, or XX' where users are fewer, in float64: lambda may be a thousandth of its diagonal's spread."""
    n = min(clicks.shape)
    require_memory(3 * 8 * n**2 + 8 * n * clicks.shape[1], f"EASE's {n:,} x {n:,} matrix, its inverse and weights")
    side = clicks if _by_users(clicks) else sp.csr_matrix(clicks.T)
    with precision(np.float64):
        return symmetric_gram(Linear(), Rows(side, np.float64))


def _by_users(clicks: sp.csr_matrix) -> bool:
    return clicks.shape[0] < clicks.shape[1]


def select_ease(
    split: Split,
    regs: Sequence[float],
    *,
    metric: str | Sequence[str] = "HR@100",
    clicks: Interactions | None = None,
    progress: bool = False,
) -> Best[EASE]:
    """The EASE whose lambda does best on the split's validation part, by `metric` or the mean of several.

    It is fitted to `clicks`, or to the split's train part where None.

    Raises ValueError where no lambda has a finite value.
    """
    clicks = split.train if clicks is None else clicks
    gram = ease_gram(clicks.matrix)
    names = [metric] if isinstance(metric, str) else [*metric]
    trials = (Trial({"lambda": reg}, EASE(reg, gram=gram).fit(clicks)) for reg in regs)
    return best(
        trials, lambda model: held_out_metrics(model, split, names)["value"], " + ".join(names),
        description="EASE lambda", progress=progress, total=len(regs),
    )  # fmt: skip
