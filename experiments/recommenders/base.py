"""The part of a recommender that does not depend on its model."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from infae import Interactions, NotFittedError
from infae.data.coerce import as_clicks, as_history_interactions
from infae.ranking.top_n import Recommendations, recommend


class Baseline:
    """Checks input and ranks items; a model fills in `_fit` and `_scores`."""

    item_ids_: np.ndarray

    def _fit(self, clicks: sp.csr_matrix) -> None:
        raise TypeError(f"{type(self).__name__} defines no _fit")

    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} defines no _scores")

    def fit(self, X: Any) -> Self:
        """Fit to clicks; `X` as in `InfiniteAE.fit`."""
        clicks = as_clicks(X)
        self._fit(clicks.matrix)
        self.item_ids_ = clicks.item_ids
        return self

    def predict(self, histories: Any) -> np.ndarray:
        """(n_users, n_items) scores; `histories` as in `InfiniteAE.predict`."""
        return self._scores(self._clicks(histories).matrix)

    def recommend(
        self, histories: Any, n: int = 10, exclude_seen: bool = True, items: Iterable[Any] | None = None
    ) -> Recommendations:
        """The n best items of each user; see `InfiniteAE.recommend`."""
        return recommend(self._scores, self._clicks(histories), n=n, exclude_seen=exclude_seen, items=items)

    def _clicks(self, histories: Any) -> Interactions:
        if not hasattr(self, "item_ids_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit(X) first")
        return as_history_interactions(histories, self.item_ids_)
