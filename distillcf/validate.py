"""How good a support is on held-out clicks, and its free labels from all the data."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from distillcf.batches import Batches
from distillcf.config import Config
from distillcf.inner import LabelSystem, Student, Support
from distillcf.prior import hard_sample, most_probable, soft_clicks
from infae.data.coerce import as_histories
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.errors import NonFiniteScoresError, NoUsableSettingError
from infae.linalg.tiles import precision
from infae.machine import KernelMachine, batches
from infae.ranking.evaluate import evaluate_by
from infae.tuning.best import Trial, best

T = TypeVar("T")

# Candidates for the stored binary rows, beside the most probable ones.
_HARD_SAMPLES = 4


class Fitted:
    """A student fitted on a support, as a recommender for `infae.evaluate`."""

    def __init__(self, student: Student, support: Support, item_ids: np.ndarray):
        self.item_ids_ = item_ids
        self._student = student
        with precision(np.float32):
            self._anchors, self._coef = _fit(student, support)

    def predict(self, histories: Interactions, /) -> np.ndarray:
        """(n_users, n_items) scores."""
        shown = as_histories(histories, self.item_ids_)
        scores, parts = np.empty(shown.shape, np.float32), [*batches(*shown.shape)]
        for at in parts:
            rows = shown[at]
            # One shape for all batches, so that one compilation serves them.
            rows.resize(parts[0].stop, shown.shape[1])
            with precision(np.float32):
                found = _predict(self._student, self._anchors, self._coef, rows.toarray())
            scores[at] = found[: at.stop - at.start]
        return scores


class Judge:
    """Validation of supports in the outer loop; free labels are solved for the real users of `batches`."""

    def __init__(self, student: Student, config: Config, batches: Batches, item_ids: np.ndarray, split: Split | None):
        self._student, self._config, self._batches = student, config, batches
        self._item_ids, self._split = item_ids, split

    def soft(self, logits: jax.Array | np.ndarray) -> jax.Array:
        """The support rows of a prior that are judged: from the Gumbel sampler always those of the same noise."""
        with precision(np.float32):
            key = jax.random.fold_in(jax.random.key(self._config.seed), self._config.steps)
            return soft_clicks(self._config, jnp.asarray(logits), key)

    def support(self, rows: jax.Array | np.ndarray, reg: float) -> Support:
        """With the labels that belong to the clicks: themselves, or solved from all real users."""
        clicks, reg_array = jnp.asarray(rows), jnp.float32(reg)
        if self._config.labels == "clicks":
            return Support(clicks, clicks, reg_array)
        with precision(np.float32):
            blocks = map(self._batches.of, self._batches.blocks(1024))
            total = reduce(add, (_label_system(self._student, clicks, reg_array, block) for block in blocks))
            return Support(clicks, _solve_labels(total, self._config.label_penalty), reg_array)

    def best(self, clicks: jax.Array | np.ndarray, reg: float) -> tuple[float, float]:
        """(metric on validation, reg): at the given reg, or at the best of the grid where there is one.

        NaN for the metric where nothing is held out.
        """
        if self._split is None:
            return float("nan"), reg
        regs = self._config.reg_grid or (reg,)
        return self._best(regs, lambda each: self.value(self.support(clicks, each)))[::-1]

    def best_hard(self, logits: np.ndarray, soft: np.ndarray, reg: float) -> Support:
        """Binary rows with their labels: on validation the best of some samples and of the most probable rows."""
        rng = np.random.default_rng([self._config.seed, 4])
        samples = [hard_sample(logits, self._config.n_draws, rng).toarray() for _ in range(_HARD_SAMPLES)]
        supports = [self.support(self._nobodys(rows, soft), reg) for rows in (*samples, most_probable(soft))]
        return self._best(supports, self.value)[0]

    def value(self, support: Support) -> float:
        """The metric on validation; -inf where the student has no finite scores, NaN where nothing is held out."""
        if self._split is None:
            return float("nan")
        fitted = Fitted(self._student, support, self._item_ids)
        try:
            return evaluate_by(fitted, self._split, [self._config.metric])[self._config.metric]
        except NonFiniteScoresError:
            return float("-inf")

    def _best(self, candidates: Sequence[T], value: Callable[[T], float]) -> tuple[T, float]:
        """The best on validation and its metric; the first where nothing is held out, or none has a finite metric."""
        try:
            found = best((Trial({}, candidate) for candidate in candidates), value, self._config.metric)
        except NoUsableSettingError:
            return candidates[0], value(candidates[0])
        return found.candidate, found.value

    def _nobodys(self, rows: np.ndarray, soft: np.ndarray) -> np.ndarray:
        """The rows, those that equal a real user's history with their likeliest further click until they do not."""
        rows = rows.copy()
        while True:
            found = self._batches.index.find(sp.csr_matrix(rows)) >= 0
            equal = np.flatnonzero(found & (rows == 0).any(axis=1))
            if not equal.size:
                return rows
            rows[equal, np.where(rows[equal] > 0, -1, soft[equal]).argmax(axis=1)] = 1


# Compiled once a student: it holds arrays, and is compared by identity.
@partial(jax.jit, static_argnums=0)
def _fit(student: Student, support: Support) -> tuple[Any, jax.Array]:
    dual = student.fit(support)
    return dual.anchors, dual.coef


_label_system = jax.jit(LabelSystem.of, static_argnums=0)
_solve_labels = jax.jit(LabelSystem.solve, static_argnums=1)


@partial(jax.jit, static_argnums=0)
def _predict(student: Student, anchors: jax.Array, coef: jax.Array, shown: jax.Array) -> jax.Array:
    return student.predict(KernelMachine(student.kernel, anchors, coef), shown)
