"""∞-AE: an infinitely wide autoencoder for click histories, fitted in closed form."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.dual import Dual
from infae.errors import NotFittedError, SingularKernelError
from infae.evaluate import batch_size, evaluate, metric_k
from infae.histories import RowIndex, as_clicks, as_histories, drop_empty_users
from infae.inputs import InputMap
from infae.kernels.gram import Kernel, symmetric_gram
from infae.kernels.relu import ReluNTK
from infae.kernels.rows import Rows
from infae.memory import require_memory
from infae.progress import bar, onto
from infae.ranking import recommend
from infae.solvers.ridge import NOISE_LIMIT, Solution, check_reg, factor, solve
from infae.tiles import SymmetricTiles, precision


class InfiniteAE:
    r"""Kernel ridge regression of click histories on themselves, with a neural tangent kernel.

    With X the (n_users, n_items) 0/1 training clicks, Z their input rows and K = kernel(Z, Z):

        coef = (K + reg * trace(K)/n_users * I)^-1 X
        scores(history) = kernel(z, Z) coef

    (Sachdeva et al. 2022, Eq. 1 and algorithms 1 and 2; their softmax keeps the order and is
    left out.) Fitting takes n_users^3 operations and two n_users x n_users triangles of memory
    beside the (n_users, n_items) coefficients: some 30,000 users on a 16 GiB machine.

    Args:
      reg: ridge penalty, zero or more, **relative to the kernel's mean diagonal**: as in the
        papers' code, reg * trace(K) / n_users is added to the diagonal. A sequence is tried in
        full on the `validation` given to `fit`, and the best by `metric` is kept.
      depth, w_std, b_std: hidden layers, weight and bias scale of the ReLU network; see
        `infae.kernels.ReluNTK`.
      kernel: a kernel instead of these: `kernel(x1, x2) -> (n1, n2)` on dense input rows, with
        x2 None for x1 itself, such as `infae.kernels.stax.ntk_kernel(...)`.
      popularity_power: each clicked item enters with max(its clicks, 1) ** popularity_power
        instead of 1. 0 is the published input; -0.25 to -0.5 is more accurate on most sets.
      unit_rows: scale input rows to length 1; then b_std = 0 serves best on sparse sets.
      dtype: "float32" or "float64", of the kernel, the solve and the scores.
      metric: what `fit` chooses `reg` by, a name of `infae.evaluate`'s report.

    Attributes (after fit):
      reg_: the relative regularisation used.
      residual_: relative residual of the solve.
      path_: one dict for each reg tried: `reg`, `residual`, `noise`, and `metric`'s value on validation.
      user_ids_, item_ids_: ids of the anchors (users with clicks) and of the items.
      dual_: the fitted `Dual`.
    """

    def __init__(
        self,
        reg: float | Sequence[float] = 5.0,
        *,
        depth: int = 1,
        w_std: float = 2**0.5,
        b_std: float = 0.1,
        kernel: Kernel | None = None,
        popularity_power: float = 0.0,
        unit_rows: bool = False,
        dtype: str = "float32",
        metric: str = "HR@100",
    ):
        self.reg = reg
        self.depth = depth
        self.w_std = w_std
        self.b_std = b_std
        self.kernel = kernel
        self.popularity_power = popularity_power
        self.unit_rows = unit_rows
        self.dtype = dtype
        self.metric = metric

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments by name, as scikit-learn's; `deep` has nothing to descend into."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> InfiniteAE:
        """Change constructor arguments; they take effect at the next `fit`. ValueError for unknown names."""
        if unknown := sorted(set(params) - set(_PARAMETERS)):
            raise ValueError(f"unknown parameter(s) {', '.join(unknown)}; expected some of {', '.join(_PARAMETERS)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = {k: v for k, v in self.get_params().items() if repr(v) != repr(_PARAMETERS[k])}
        return f"InfiniteAE({', '.join(f'{k}={v!r}' for k, v in changed.items())})"

    def fit(self, X: Any, validation: Split | Interactions | None = None, *, progress: bool = False) -> InfiniteAE:
        """Fit to clicks: `Interactions`, a SciPy sparse or dense matrix, or a frame of user_id, item_id.

        Args:
          X: (n_users, n_items) clicks. Users without any are left out, with one warning.
          validation: needed where `reg` is a sequence: a `Split` whose validation part is
            ranked, or `Interactions` held out from the users of X, row by row.
          progress: show progress bars on standard error.

        Raises:
          ValueError: bad parameters or data; `reg` a sequence without `validation`.
          SingularKernelError: no reg tried gave a usable solve.
          MemoryError: the kernel matrix does not fit, said before it is begun.

        Warns:
          IllConditionedWarning: rounding error is a visible part of the scores, as at reg = 0.
        """
        regs, kernel = self._checked()
        clicks = as_clicks(X)
        split = _as_split(clicks, validation) if self._several_regs else None
        anchors = drop_empty_users(clicks)
        self._forget()
        self._set_rows(anchors, InputMap.from_clicks(anchors.matrix, self.popularity_power, self.unit_rows), kernel)
        gram = _gram(kernel, self._anchors, progress)
        if split is None:
            self._adopt(_solution(gram, anchors.matrix, regs[0], progress))
            self.path_ = [_path_row(self._solution)]
        else:
            self._choose(gram, regs, split, progress)
        return self

    def predict(self, histories: Any) -> np.ndarray:
        """(n_users, n_items) scores of any click histories, of users never seen too.

        Beyond the result itself, memory is bounded by a few batches of 512 users. A history
        that is a training user's own needs no kernel: there K coef = X - ridge * coef.

        Args:
          histories: `Interactions` (matched by item id), a matrix with the fitted items as
            columns, or a frame of user_id and item_id (rows are then the sorted user ids).

        Raises:
          NotFittedError: before `fit`.
          ValueError: other columns than the fitted items, unknown item ids, or bad values.
        """
        clicks = self._clicks(histories)
        scores = np.empty(clicks.shape, self.dual_.coef.dtype)
        step = batch_size(clicks.shape[1])
        for start in range(0, clicks.shape[0], step):
            scores[start : start + step] = self._scores(clicks[start : start + step])
        return scores

    def recommend(
        self, histories: Any, n: int = 10, exclude_seen: bool = True, items: Iterable[Any] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The n best items of each user, best first: (item ids, scores), both (n_users, n).

        Of equal scores the item that comes first in `item_ids_` is listed first. Where a user
        has fewer than n items left to choose from, the places left over hold the score -inf and
        the item -1 (or "" where ids are strings).

        Args:
          histories: as in `predict`.
          n: items a user.
          exclude_seen: leave out the items of the history.
          items: choose among these item ids only.

        Raises:
          NotFittedError, ValueError: as `predict`; also for an n beyond the items there are, and
            for unknown ids in `items`.
        """
        clicks = self._clicks(histories)
        return recommend(self._scores, clicks, self.item_ids_, n=n, exclude_seen=exclude_seen, items=items)

    def save(self, path: Any) -> None:
        """Write the fitted model to an `.npz` that `infae.load` reads without pickle; see `infae.files`."""
        from infae.files import save

        self._check_fitted()
        save(self, path)

    @property
    def _several_regs(self) -> bool:
        return np.ndim(self.reg) > 0

    def _checked(self) -> tuple[tuple[float, ...], Kernel]:
        if getattr(self.dtype, "__name__", str(self.dtype)) not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        metric_k(self.metric)
        if not np.isfinite(self.popularity_power):
            raise ValueError(f"popularity_power must be finite, got {self.popularity_power!r}")
        if self.kernel is not None and not callable(self.kernel):
            raise ValueError(f"kernel must be callable as kernel(x1, x2), got {self.kernel!r}")
        regs: Any = self.reg if self._several_regs else (self.reg,)
        if len(regs) == 0:
            raise ValueError("reg is an empty sequence; give at least one number")
        return tuple(map(check_reg, regs)), self.kernel or ReluNTK(self.depth, self.w_std, self.b_std)

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_") or name.startswith("_")]:
            delattr(self, name)

    def _set_rows(self, anchors: Interactions, inputs: InputMap, kernel: Kernel) -> None:
        self._params = self.get_params()
        self._train, self._inputs, self._kernel = anchors.matrix, inputs, kernel
        self._anchors = Rows(inputs(anchors.matrix, np.dtype(self.dtype)), np.dtype(self.dtype))
        self._index = RowIndex(anchors.matrix)
        self.user_ids_, self.item_ids_ = anchors.user_ids, anchors.item_ids

    def _adopt(self, solution: Solution) -> None:
        self._solution = solution
        self.dual_ = Dual(self._kernel, self._anchors, solution.coef)
        self.reg_, self.residual_ = solution.reg, solution.residual

    def _restore(self, anchors: Interactions, inputs: InputMap, solution: Solution, path: list[dict[str, Any]]) -> None:
        self._set_rows(anchors, inputs, self._checked()[1])
        self._adopt(solution)
        self.path_ = path

    def _choose(self, gram: SymmetricTiles, regs: Sequence[float], split: Split, progress: bool) -> None:
        self.path_ = []
        best: tuple[float, Solution] | None = None
        for reg in bar("reg path", progress, regs):
            try:
                solution = _solution(gram, self._train, reg, progress)
            except SingularKernelError as error:
                self.path_.append({"reg": reg, "failure": str(error)})
                continue
            row = _path_row(solution)
            self.path_.append(row)
            if solution.noise > NOISE_LIMIT:
                row["failure"] = "rounding error ranks the unclicked items"
                continue
            self._adopt(solution)
            n_negatives = 50 if self.metric == "AUC-sampled" else 0
            report = evaluate(self, split, on="validation", k=metric_k(self.metric), n_negatives=n_negatives)
            row[self.metric] = report[self.metric]
            if best is None or row[self.metric] > best[0]:
                best = row[self.metric], solution
        if best is None:
            raise SingularKernelError(f"no reg of {list(regs)} gave a usable model in {self.dtype}: {self.path_}")
        self._adopt(best[1])

    def _scores(self, clicks: sp.csr_matrix) -> np.ndarray:
        known = self._index.find(clicks)
        if (known < 0).all():
            return self.dual_.scores(self._inputs(clicks, self._anchors.head.dtype))
        scores = self._own_scores(clicks, known)
        if len(new := np.flatnonzero(known < 0)):
            scores[new] = self.dual_.scores(self._inputs(clicks[new], self._anchors.head.dtype))
        return scores

    def _own_scores(self, clicks: sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
        # (K + ridge I) coef = X, so K coef = X - ridge coef: exact, and no product with K.
        with precision(self.dual_.coef.dtype):
            taken = np.asarray(_take(self.dual_.coef, np.pad(rows, (0, batch_size(clicks.shape[1]) - rows.size))))
        return clicks.toarray() - taken.dtype.type(self._solution.ridge) * taken[: rows.size]

    def _clicks(self, histories: Any) -> sp.csr_matrix:
        self._check_fitted()
        return as_histories(histories, self.item_ids_)

    def _check_fitted(self) -> None:
        if not hasattr(self, "dual_"):
            raise NotFittedError("this InfiniteAE is not fitted; call fit(X) first, or infae.load(path)")


def fit(
    X: Any,
    reg: float | Sequence[float] = 5.0,
    *,
    validation: Split | Interactions | None = None,
    progress: bool = False,
    **params: Any,
) -> InfiniteAE:
    """A fitted `InfiniteAE`; `params` are its constructor's, the rest is its `fit`'s."""
    return InfiniteAE(reg, **params).fit(X, validation, progress=progress)


def predict(model: InfiniteAE, histories: Any) -> np.ndarray:
    """(n_users, n_items) scores of any click histories; see `InfiniteAE.predict`."""
    return model.predict(histories)


_PARAMETERS = {
    name: parameter.default
    for name, parameter in inspect.signature(InfiniteAE.__init__).parameters.items()
    if name != "self"
}

_take = jax.jit(lambda coef, rows: jnp.take(coef, rows, axis=0))


def _as_split(clicks: Interactions, validation: Split | Interactions | None) -> Split:
    if isinstance(validation, Split):
        return validation
    if isinstance(validation, Interactions):
        return Split(clicks, validation, clicks.with_matrix(sp.csr_matrix(clicks.shape, dtype=np.float32)))
    if validation is None:
        raise ValueError("reg is a sequence, to be chosen from on held-out clicks: pass validation=split, or one reg")
    raise ValueError(f"validation must be a Split or Interactions, got {type(validation).__name__}")


def _gram(kernel: Kernel, anchors: Rows, progress: bool) -> SymmetricTiles:
    n = anchors.n
    require_memory(n * (n + 1024) // 2 * anchors.head.dtype.itemsize, f"the kernel matrix of {n:,} users")
    with precision(anchors.head.dtype), bar("kernel", progress, unit="block") as shown:
        return symmetric_gram(kernel, anchors, progress=onto(shown))


def _solution(gram: SymmetricTiles, targets: sp.csr_matrix, reg: float, progress: bool) -> Solution:
    with bar(f"solve, reg {reg:g}", progress, unit="block") as shown:
        return solve(factor(gram, reg, progress=onto(shown)), targets)


def _path_row(solution: Solution) -> dict[str, Any]:
    return {"reg": solution.reg, "residual": solution.residual, "noise": solution.noise}
