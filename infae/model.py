"""∞-AE: an infinitely wide autoencoder for click histories, fitted in closed form."""

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from functools import partial
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from jax.sharding import Mesh

from infae.data import ops
from infae.data.blocks import Blocks
from infae.data.coerce import as_clicks, as_history_interactions, as_split, drop_empty_users
from infae.data.interactions import Interactions, dense_matrix
from infae.data.splits import Split
from infae.errors import (
    ModelFileError,
    NotFittedError,
    NoUsableSettingError,
    SingularKernelError,
)
from infae.inputs import InputMap, popularity
from infae.kernels.base import Kernel
from infae.kernels.relu import ReluNTK
from infae.ranking.evaluate import evaluate_by, metric_k
from infae.ranking.top_n import Recommendations, recommend
from infae.runtime import checks
from infae.runtime.mesh import UserMesh
from infae.runtime.progress import bar
from infae.solvers import Solver, named
from infae.solvers.base import Fitted, Job, check_reg
from infae.solvers.exact import ExactFit
from infae.solvers.nystrom import NystromFit
from infae.storage import model_file
from infae.storage.paths import readable, writable
from infae.tuning.best import Trial, best


@dataclass(repr=False, eq=False)
class InfiniteAE:
    r"""Kernel ridge regression of click histories on themselves, with a neural tangent kernel.

    With X the (n_users, n_items) 0/1 training clicks, Z their input rows and K = kernel(Z, Z):

        coef = (K + reg * trace(K)/n_users * I)^-1 X
        scores(history) = kernel(z, Z) coef

    (Sachdeva et al. 2022, Eq. 1 and algorithms 1 and 2; their softmax keeps the order and is
    left out.) The exact fit takes n_users^3 operations and two n_users x n_users triangles of memory
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
      item_weights: (n_items,) positive weights instead, such as those of the data that X is a
        summary of.
      row_power: each input row is divided by its length to this power: 0 is the published input,
        1 makes all rows equally long. Half-way, 0.5 with b_std = 0, does well on dense and sparse sets.
      solver: how the coefficients are solved for: "exact", "cg", "nystrom", "auto", or an object of
        `infae.solvers`, such as `Nystrom(n_anchors=2000)`; each is described there.
      n_anchors, anchors: of "nystrom", and of "auto" where that chooses it; see
        `infae.solvers.Nystrom`. An object has its own.
      seed: of the draw, of the preconditioner's too.
      dtype: "float32" or "float64", of the kernel, the solve and the scores.
      metric: what `fit` chooses `reg` by, a name of `infae.evaluate`'s report.
      mesh: a `jax.sharding.Mesh` of one axis, to whose devices users are shared out in `fit`,
        `partial_fit` and `predict`; None for JAX's default device alone. The solvers "exact", whose K
        is sharded over it, and "nystrom" take one. Where its devices belong to several processes,
        each is given its own users, and all of them call `fit` and `partial_fit`: the result is
        that of one process with all users, one process's after another's. Model files leave it out.

    Attributes (after fit):
      reg_: the relative regularisation used.
      residual_: relative residual of the solve.
      solver_: the solver used.
      n_iter_: iterations of "cg", None for the others.
      path_: one dict for each reg tried: `reg`, `residual`, `noise` and `metric`'s value on
        validation, or `reg` and `failure`.
      user_ids_, item_ids_: ids of the anchors (users with clicks) and of the items.
      inputs_: the map from clicks to input rows.
      machine_: the fitted `KernelMachine`.
    """

    reg: float | Sequence[float] = 5.0
    _: KW_ONLY
    depth: int = 1
    w_std: float = 2**0.5
    b_std: float = 0.1
    kernel: Kernel | None = None
    popularity_power: float = 0.0
    item_weights: np.ndarray | Sequence[float] | None = None
    row_power: float = 0.0
    solver: str | Solver = "exact"
    n_anchors: int = 1000
    anchors: str | Interactions = "uniform"
    seed: int = 0
    dtype: str = "float32"
    metric: str = "HR@100"
    mesh: Mesh | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments by name, as scikit-learn's; `deep` has nothing to descend into."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments; they take effect at the next `fit`. ValueError for unknown names."""
        if unknown := sorted(set(params) - set(_PARAMETERS)):
            raise ValueError(f"unknown parameter(s) {', '.join(unknown)}; expected some of {', '.join(_PARAMETERS)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = {k: v for k, v in self.get_params().items() if repr(v) != repr(_PARAMETERS[k])}
        return f"InfiniteAE({', '.join(f'{k}={v!r}' for k, v in changed.items())})"

    def fit(
        self,
        X: Any,
        validation: Split | Interactions | None = None,
        *,
        targets: np.ndarray | sp.csr_matrix | None = None,
        progress: bool = False,
    ) -> Self:
        """Fit to clicks: `Interactions`, a SciPy sparse or dense matrix, or a frame of user_id, item_id.

        Args:
          X: (n_users, n_items) clicks. Users without any are left out, with one warning. Stored
            values other than 1 (soft clicks) count only in `Interactions`, which are taken as is.
          validation: needed where `reg` is a sequence: a `Split` whose validation part is
            ranked, or `Interactions` held out from the users of X, row by row. With a single
            `reg` its `metric` is recorded in `path_`.
          targets: (n_users, n_items) labels to fit instead of X itself, row by row with X, real
            numbers, dense or sparse.
          progress: show progress bars on standard error.

        Raises:
          ValueError: bad parameters or data; `reg` a sequence without `validation`.
          SingularKernelError: no reg tried gave a usable solve. An earlier fit stays in place.
          MemoryError: the solver's matrices do not fit, or with "auto" no solver's; said before
            they are begun.

        Warns:
          IllConditionedWarning: rounding error is a visible part of the scores, as at reg = 0; in
            a sequence such a reg is passed over.
        """
        mesh = UserMesh(self.mesh)
        with mesh.together():
            solver, job = self._checked(), self._job(mesh, checks.flag("progress", progress))
            clicks = X if isinstance(X, Blocks) else as_clicks(X)
            split = None if validation is None else as_split(clicks, validation)
            if split is None and len(job.regs) > 1:
                raise ValueError("reg is a sequence, to be chosen from on held-out clicks: pass validation=split")
            if isinstance(clicks, Blocks):
                if not solver.takes_blocks or targets is not None:
                    raise ValueError("Blocks of users are fitted by solver='nystrom', to their own clicks")
                trials = solver.fits(job, clicks, None)
            else:
                labels = None if targets is None else _labels(targets, clicks, job.dtype)
                trials = solver.fits(job, drop_empty_users(clicks), labels)
        mesh.require_same("item ids", clicks.item_ids)
        told = {name: value for name, value in self.get_params().items() if name not in ("kernel", "mesh")}
        mesh.require_same("parameters", np.array(repr([told, split is None, targets is None])))
        self._adopt(*self._chosen(trials, split, mesh, progress))
        return self

    def partial_fit(self, X: Any, *, progress: bool = False) -> Self:
        """Add users to a model fitted on landmarks, whose anchors, input weights and `reg_` stay.

        The result is that of one fit to all users, at the cost of the new ones and of one solve.

        Args:
          X: clicks over the fitted items, as `predict` takes histories, or `Blocks`.
          progress: show progress bars on standard error.

        Raises:
          NotFittedError: before `fit`.
          ValueError: the model has no landmarks (solver="exact" or "cg"), or X has other items.
          SingularKernelError: the solve failed; the model stays as it was.
        """
        mesh = UserMesh(self.mesh)
        with mesh.together():
            fitted = self._checked_fitted()
            if not isinstance(fitted, NystromFit):
                raise ValueError("only a model on landmarks takes more users; fit it with solver='nystrom'")
            if isinstance(X, Blocks):
                blocks: Iterable[sp.csr_matrix] = (block.matrix for block in X)
                if not np.array_equal(X.item_ids, self.item_ids_):
                    raise ValueError(f"the blocks have other items than the {self.item_ids_.size:,} fitted ones")
            else:
                blocks = [drop_empty_users(as_history_interactions(X, self.item_ids_)).matrix]
        with bar("users", progress, unit="user") as shown:
            added = fitted.with_users(blocks, mesh, progress=shown.update)
        self._adopt(added, [*self.path_, added.solution.row()])
        return self

    def predict(self, histories: Any) -> np.ndarray:
        """(n_users, n_items) scores of any click histories, of users never seen too.

        Beyond the result itself, memory is bounded by a few batches of 512 users. A history
        that is a training user's own needs no kernel: there K coef = X - ridge * coef.

        Args:
          histories: `Interactions` (matched by item id), a matrix with the fitted items as
            columns, or a frame of user_id, item_id.

        Raises:
          NotFittedError: before `fit`.
          ValueError: other columns than the fitted items, unknown item ids, or bad values.
        """
        fitted = self._checked_fitted()
        return fitted.predict(as_history_interactions(histories, self.item_ids_), UserMesh(self.mesh).devices)

    def leave_one_out(self, rows: Any) -> np.ndarray:
        """(n, n_items) scores of training users by the model that all *other* training users fit.

        With A = K + ridge * I and user i's own row and label left out of the fit, the scores of
        its history are targets_i - coef_i / (A^-1)_ii: no second fit (Craven and Wahba 1979).
        Unlike `predict`, they do not echo the user's own clicks.

        Args:
          rows: (n,) positions in `user_ids_`, whole numbers from 0.

        Raises:
          NotFittedError: before `fit`.
          ValueError: the model was not fitted by solver="exact", or there are no such rows.

        Warns:
          IllConditionedWarning: reg is so large that rounding shows in the scores.
        """
        fitted = self._checked_fitted()
        if not isinstance(fitted, ExactFit):
            needed = f"leave-one-out scores need the system's inverse, which solver={fitted.solver!r} has not"
            raise ValueError(f"{needed}; fit the model with solver='exact'")
        at = np.asarray(rows)
        if at.ndim != 1 or (at.size and (at.dtype.kind not in "iu" or at.min() < 0 or at.max() >= self.user_ids_.size)):
            wanted = f"positions from 0 to {self.user_ids_.size - 1:,} in user_ids_, one-dimensional whole numbers"
            raise ValueError(f"rows must be {wanted}, got {checks.shown(rows)}")
        return fitted.leave_one_out(at.astype(np.int64))

    def recommend(
        self, histories: Any, n: int = 10, exclude_seen: bool = True, items: Iterable[Any] | None = None
    ) -> Recommendations:
        """The n best items of each user, best first: `items, scores = model.recommend(...)`, both (n_users, n).

        The result has `user_ids`, whose row is whose: the ids of a frame in the order in which each
        first appears there, those of `Interactions` in theirs. Its `to_frame()` is a row a recommendation.
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
        fitted, clicks = self._checked_fitted(), as_history_interactions(histories, self.item_ids_)
        return recommend(fitted.scores, clicks, n=n, exclude_seen=exclude_seen, items=items)

    def save(self, path: Any) -> None:
        """Write the fitted model to an `.npz` that `infae.load` reads without pickle."""
        fitted = self._checked_fitted()
        model_file.save(fitted, self._params, self.path_, writable("path", path))

    def components(self, clicks: Interactions) -> tuple[Kernel, InputMap]:
        """The kernel and the map from clicks to input rows that `fit` would use on these clicks; nothing is solved."""
        self._checked()
        return self._kernel(), self._input_map(popularity(clicks.matrix))

    @property
    def _several_regs(self) -> bool:
        return isinstance(self.reg, (list, tuple, range)) or (isinstance(self.reg, np.ndarray) and self.reg.ndim > 0)

    def _checked(self) -> Solver:
        """The solver; ValueError for parameters that are no such thing."""
        dtype = self.dtype.name if isinstance(self.dtype, np.dtype) else getattr(self.dtype, "__name__", self.dtype)
        checks.choice("dtype", dtype, ("float32", "float64"))
        checks.seed("seed", self.seed)
        metric_k(self.metric)
        checks.number("popularity_power", self.popularity_power)
        checks.number("row_power", self.row_power, least=-10, most=10)
        if self.item_weights is not None and self.popularity_power:
            raise ValueError("give popularity_power or item_weights, not both")
        for reg in checks.sequence("reg", self.reg, "number") if self._several_regs else (self.reg,):
            check_reg(reg)
        self._kernel()
        solver = named(self.solver, self.n_anchors, self.anchors)
        if self.mesh is not None and not solver.takes_mesh:
            remedy = "use 'exact' or 'nystrom', which are shared out to it"
            raise ValueError(f"solver={solver.name!r} takes no mesh; {remedy}")
        return solver

    def _kernel(self) -> Kernel:
        if self.kernel is None:
            return ReluNTK(self.depth, self.w_std, self.b_std)
        if not callable(self.kernel) or isinstance(self.kernel, type):
            raise ValueError(f"kernel must be callable as kernel(x1, x2), got {checks.shown(self.kernel)}")
        return self.kernel

    def _job(self, mesh: UserMesh, progress: bool) -> Job:
        regs, dtype = tuple(map(float, np.atleast_1d(np.asarray(self.reg)))), np.dtype(self.dtype)
        return Job(regs, self._several_regs, self._kernel(), self._input_map, dtype, self.seed, mesh, progress)

    def _input_map(self, popularity: np.ndarray) -> InputMap:
        if self.item_weights is None:
            return InputMap.from_popularity(popularity, self.popularity_power, self.row_power)
        return InputMap.from_weights(self.item_weights, popularity.size, self.row_power)

    def _adopt(self, fitted: Fitted, path: list[dict[str, Any]]) -> None:
        # Last, and at once: a `fit` that fails leaves an earlier one in place.
        self._fitted, self._params = fitted, self.get_params()
        self.reg_, self.residual_, self.path_ = fitted.solution.reg, fitted.solution.residual, path
        self.user_ids_, self.item_ids_ = fitted.clicks.user_ids, fitted.clicks.item_ids
        self.inputs_, self.machine_ = fitted.inputs, fitted.machine
        self.solver_, self.n_iter_ = fitted.solver, getattr(fitted.solution, "iterations", None)

    def _chosen(
        self, trials: Iterator[Trial[Fitted]], split: Split | None, mesh: UserMesh, progress: bool
    ) -> tuple[Fitted, list[dict[str, Any]]]:
        """The best fit on validation (the only one, where there is one reg), and a row for each."""
        if split is None or not self._several_regs:
            ((row, fitted, failure),) = trials
            if fitted is None:
                raise SingularKernelError(failure)
            reached = {} if split is None else {self.metric: self._value(fitted, split, mesh, progress)}
            return fitted, [{**row, **reached}]
        measure = partial(self._value, split=split, mesh=mesh, progress=progress)
        try:
            found = best(trials, measure, self.metric, description="reg path", progress=progress)
        except NoUsableSettingError as error:
            tried = np.asarray(self.reg).tolist()
            raise SingularKernelError(f"no reg of {tried} gave a usable model: {error}") from error
        return found.candidate, found.tried

    def _value(self, fitted: Fitted, split: Split, mesh: UserMesh, progress: bool) -> float:
        trial = copy.copy(self)
        trial._adopt(fitted, [])
        with mesh.together():
            report = evaluate_by(trial, split, [self.metric], progress=progress)
        if mesh.n_processes == 1:
            return report[self.metric]
        values = report.per_user.get(self.metric, np.full(report.users.size, report[self.metric]))
        return float(np.nanmean(mesh.all_rows(values)))

    def _checked_fitted(self) -> Fitted:
        if not hasattr(self, "_fitted"):
            raise NotFittedError("this InfiniteAE is not fitted; call fit(X) first, or infae.load(path)")
        return self._fitted


def fit(
    X: Any,
    reg: float | Sequence[float] = 5.0,
    *,
    validation: Split | Interactions | None = None,
    targets: np.ndarray | sp.csr_matrix | None = None,
    progress: bool = False,
    **params: Any,
) -> InfiniteAE:
    """A fitted `InfiniteAE`; `params` are its constructor's, the rest is its `fit`'s."""
    return InfiniteAE(reg, **params).fit(X, validation, targets=targets, progress=progress)


def load(path: str | os.PathLike[str], *, kernel: Kernel | None = None) -> InfiniteAE:
    """The model that `InfiniteAE.save` wrote; it predicts the same to the bit.

    Args:
      path: the `.npz` file.
      kernel: the kernel that the model was fitted with, where it was one of the caller's own:
        code is not saved.

    Raises:
      FileNotFoundError: no such file.
      ModelFileError: not a model, truncated or damaged, or written by a newer version; or a
        `kernel` is missing or superfluous.
    """
    params, fitted, tried = model_file.read(readable("path", path), kernel)
    try:
        model = InfiniteAE(kernel=kernel, **params)
        model._checked()
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    model._adopt(fitted, tried)
    return model


def predict(model: InfiniteAE, histories: Any) -> np.ndarray:
    """(n_users, n_items) scores of any click histories; see `InfiniteAE.predict`."""
    if not isinstance(model, InfiniteAE):
        raise ValueError(f"model must be a fitted InfiniteAE, got {checks.shown(model)}; infae.fit and .load give one")
    return model.predict(histories)


_PARAMETERS = {field.name: field.default for field in fields(InfiniteAE)}


def _labels(targets: np.ndarray | sp.csr_matrix, clicks: Interactions, dtype: np.dtype) -> np.ndarray | sp.csr_matrix:
    """The labels of the users with clicks, checked, in `dtype`."""
    if sp.issparse(targets):
        ops.check_sparse(targets, "targets")
        labels: Any = sp.csr_matrix(targets)
    else:
        labels = dense_matrix(targets, "targets")
    if labels.shape != clicks.shape or labels.dtype.kind not in "biuf":
        raise ValueError(f"targets must be numbers of X's shape {clicks.shape}, got {labels.dtype} {labels.shape}")
    if not np.isfinite(labels.data if sp.issparse(labels) else labels).all():
        raise ValueError("targets hold NaN or infinity; every label is a finite number")
    return labels[np.flatnonzero(np.diff(clicks.matrix.indptr))].astype(dtype)
