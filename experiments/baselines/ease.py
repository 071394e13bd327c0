"""EASE: a linear autoencoder with a zero diagonal, in closed form (Steck 2019; paper, appendix B.1)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
import scipy.sparse as sp

from experiments.baselines.base import Baseline
from infae import SingularKernelError, Split, evaluate
from infae.evaluate import metric_k
from infae.kernels import Linear
from infae.kernels.rows import Rows
from infae.kernels.tiles import symmetric_gram
from infae.memory import require_memory
from infae.progress import bar
from infae.solvers import inverse
from infae.tiles import SymmetricTiles, precision


class EASE(Baseline):
    r"""argmin_B |X - X B|^2 + reg |B|^2 with diag(B) = 0, and scores(history) = history @ B.

    With P = (X'X + reg I)^-1 the minimum is B_ij = -P_ij / P_jj for i != j (Steck 2019, Eq. 8).

    Args:
      reg: lambda, positive, **absolute**: in clicks, as Steck's, not relative as `infae`'s reg.
      gram: X'X by `item_gram(X)`, where it is at hand from another fit to the same clicks.
    """

    def __init__(self, reg: float = 500.0, *, gram: SymmetricTiles | None = None):
        self.reg = reg
        self.gram = gram

    def _fit(self, clicks: sp.csr_matrix) -> None:
        if not (np.isfinite(self.reg) and self.reg > 0):
            raise ValueError(f"reg (lambda) must be positive and finite, got {self.reg!r}")
        gram = item_gram(clicks) if self.gram is None else self.gram
        weights = inverse(gram, self.reg).to_dense()
        if not np.isfinite(weights).all():
            raise SingularKernelError(f"EASE's X'X + {self.reg:g} I could not be inverted; use a larger lambda")
        weights /= -np.diagonal(weights).copy()
        np.fill_diagonal(weights, 0)
        self._weights = jax.numpy.asarray(weights, np.float32)

    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        scores = np.empty(histories.shape, np.float32)
        with precision(np.float32):
            for start in range(0, histories.shape[0], 512):
                block = histories[start : start + 512].toarray()
                scores[start : start + 512] = block @ self._weights
        return scores


def item_gram(clicks: sp.csr_matrix) -> SymmetricTiles:
    """X'X in float64: lambda may be a thousandth of its diagonal's spread."""
    n_items = clicks.shape[1]
    require_memory(4 * 8 * n_items**2, f"EASE's {n_items:,} x {n_items:,} item matrix, its inverse and weights")
    with precision(np.float64):
        return symmetric_gram(Linear(), Rows(sp.csr_matrix(clicks.T), np.float64))


def select_ease(
    split: Split, regs: Sequence[float], *, metric: str = "HR@100", progress: bool = False
) -> tuple[EASE, list[dict[str, float]]]:
    """The EASE whose lambda does best by `metric` on the split's validation part, and all that was tried."""
    gram = item_gram(split.train.matrix)
    best: tuple[float, EASE] | None = None
    path = []
    for reg in bar("EASE lambda", progress, regs):
        model = EASE(reg, gram=gram)
        model.fit(split.train)
        n_negatives = 50 if metric == "AUC-sampled" else 0
        value = evaluate(model, split, on="validation", k=metric_k(metric), n_negatives=n_negatives)[metric]
        path.append({"reg": reg, metric: value})
        if np.isfinite(value) and (best is None or value > best[0]):
            best = value, model
    if best is None:
        raise ValueError(f"no lambda for EASE gave a finite {metric}: {path}")
    return best[1], path
