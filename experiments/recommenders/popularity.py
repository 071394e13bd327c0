"""PopRec: the most clicked items, whoever asks (paper, appendix B.1)."""

import numpy as np
import scipy.sparse as sp

from experiments.recommenders.base import Baseline


class PopRec(Baseline):
    """score(u, i) = train clicks of item i."""

    def _fit(self, clicks: sp.csr_matrix) -> None:
        self._popularity = np.asarray(clicks.sum(axis=0), np.float32).ravel()

    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        return np.tile(self._popularity, (histories.shape[0], 1))
