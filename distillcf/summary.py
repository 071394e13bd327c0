"""`Summary`: a few hundred synthetic users, what they were made with, and the forms they are exported in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from distillcf import export
from distillcf.checkpoint import checked_history
from distillcf.config import Config
from distillcf.errors import SummaryFileError
from distillcf.prior import hard_sample
from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.kernels.base import Kernel
from infae.model import InfiniteAE
from infae.runtime import checks
from infae.storage import npz
from infae.storage.paths import readable, writable

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "distillcf.Summary"
VERSION = 1
# At 0.001 MF and LightGCN learn less: 1 to 2 points of HR@100 on ML-1M. EASE and ∞-AE learn the same there.
SOFT_LEAST = 0.01


@dataclass(frozen=True, eq=False)
class Summary:
    """A distilled data set.

    Attributes:
      logits: (n_synthetic, n_items) the prior: a synthetic user's clicks are what
        config["n_draws"] draws from softmax(logits), with replacement, hit.
      soft: (n_synthetic, n_items) in [0, 1], the support that was optimised: each click's
        probability, or the paper's relaxed sample.
      hard: (n_synthetic, n_items) uint8, one binary sample: the one of a few, and of the most
        probable rows, that is best on validation. No row equals a real user's history.
      labels, hard_labels: (n_synthetic, n_items) real-valued labels of the soft and of the hard
        rows; None where these are their own labels.
      item_ids: (n_items,) of the source data.
      item_weights: (n_items,) by which clicks enter the inner model, None for raw clicks.
      model: the inner ∞-AE's depth, w_std, b_std, row_power, and whether its kernel was the
        caller's own.
      reg: the inner ridge penalty, relative.
      config: the settings of `distill`, with its seed.
      fingerprint: SHA-256 of the source's clicks and item ids.
      kept: step of the state that was kept.
      history: one dict a validation: step, loss, the metric (with sharpness also of the most
        probable binary rows, as "... hard"), reg, clicks (a synthetic user's mean), variance (of
        a hard sample's row), seconds since `distill` was called.
    """

    logits: np.ndarray
    soft: np.ndarray
    hard: np.ndarray
    labels: np.ndarray | None
    hard_labels: np.ndarray | None
    item_ids: np.ndarray
    item_weights: np.ndarray | None
    model: dict[str, Any]
    reg: float
    config: dict[str, Any]
    fingerprint: str
    kept: int
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def n_users(self) -> int:
        return self.soft.shape[0]

    def __repr__(self) -> str:
        labels = "free labels" if self.labels is not None else "their clicks for labels"
        return (
            f"Summary({self.n_users:,} synthetic users x {self.item_ids.size:,} items, {labels}, "
            f"{self.soft.sum() / self.n_users:.0f} clicks each, {self.hard.sum() / self.n_users:.0f} in the sample)"
        )

    def sample(self, seed: int) -> Interactions:
        """Fresh binary users drawn from the prior; the same seed gives the same ones.

        They have no labels but their clicks, and serve less well than `hard`: with free labels,
        or on sparse data, worse than real users drawn at random. Users drawn this way are not
        compared with the source, which a summary does not hold.
        """
        rng = np.random.default_rng([self.config["seed"], 6, checks.seed("seed", seed)])
        return self._interactions(hard_sample(self.logits, self.config["n_draws"], rng))

    def interactions(self, form: str = "hard") -> Interactions:
        """The stored sample ("hard"), or the soft rows with their values as weights ("soft"); users are 0, 1, 2, ...

        Of the soft rows, values below 0.01 are left out: most cells, and 2% to 3% of the weight. `fit` takes all of
        them, which on sparse data serves ∞-AE better.
        """
        rows = self._form(form)
        return self._interactions(np.where(rows >= SOFT_LEAST, rows, 0))

    def fit(
        self,
        form: str = "soft",
        *,
        validation: Split | Interactions | None = None,
        kernel: Kernel | None = None,
        **params: Any,
    ) -> InfiniteAE:
        """The inner ∞-AE, fitted on the soft rows or on the hard sample, with the labels of either.

        Args:
          form: "soft" or "hard".
          validation: as in `InfiniteAE.fit`, to choose by where `reg` is several.
          kernel: the caller's own, where one was used.
          params: of `InfiniteAE`, in place of those the summary was made with, such as `reg`.
        """
        rows = self._interactions(self._form(form))
        if bool(self.model["own_kernel"]) != (kernel is not None):
            raise ValueError("give the kernel that the summary was made with, and none where it was a built-in one")
        settings = {name: value for name, value in self.model.items() if name != "own_kernel"}
        model = InfiniteAE(
            **{"reg": self.reg, "item_weights": self.item_weights, "kernel": kernel, **settings, **params}
        )
        labels = self.labels if form == "soft" else self.hard_labels
        return model.fit(rows, validation, targets=labels)

    def to_csr(self, form: str = "hard") -> sp.csr_matrix:
        """(n_synthetic, n_items) SciPy CSR."""
        return self.interactions(form).matrix

    def to_frame(self, form: str = "hard") -> pd.DataFrame:
        """One row a click: `user_id`, `item_id` (the source's own) and `rating`, 1 or the soft value."""
        return export.to_frame(self.interactions(form))

    def to_csv(self, path: str | os.PathLike[str], form: str = "hard") -> None:
        """`to_frame` as CSV."""
        export.to_csv(self.interactions(form), path)

    def to_parquet(self, path: str | os.PathLike[str], form: str = "hard") -> None:
        """`to_frame` as Parquet; needs the `parquet` extra."""
        export.to_parquet(self.interactions(form), path)

    def to_recbole(self, path: str | os.PathLike[str], form: str = "hard") -> None:
        """RecBole's atomic interaction file; `path` ends in `.inter` and the name before is the data set's."""
        export.to_recbole(self.interactions(form), path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the summary to an `.npz` without pickles.

        Three lines of NumPy read it:

            file = np.load("summary.npz")
            clicks = file["hard"]          # (n_synthetic, n_items) of 0 and 1
            items = file["item_ids"]       # the columns

        Beside them are `soft`, `logits`, `labels`, `hard_labels` and `item_weights` (empty where
        there are none), `format` and `version` of the schema, and `about`, a JSON of the rest.
        """
        about = {name: getattr(self, name) for name in _ABOUT}
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, *_OPTIONAL)}
        about["optional"] = [name for name, array in arrays.items() if name in _OPTIONAL and array is not None]
        stored = {name: np.zeros(0, np.float32) if array is None else array for name, array in arrays.items()}
        npz.write(writable("path", path), FORMAT, VERSION, **stored, about=np.array(json.dumps(about)))

    def _form(self, form: str) -> np.ndarray:
        return self.soft if checks.choice("form", form, ("soft", "hard")) == "soft" else self.hard

    def _interactions(self, rows: np.ndarray | sp.csr_matrix) -> Interactions:
        matrix = sp.csr_matrix(rows, dtype=np.float32)
        return Interactions(matrix, np.arange(matrix.shape[0]), self.item_ids)


_ARRAYS = ("logits", "soft", "hard", "item_ids")
_OPTIONAL = ("labels", "hard_labels", "item_weights")
_ABOUT = ("model", "reg", "config", "fingerprint", "kept", "history")


def load(path: str | os.PathLike[str]) -> Summary:
    """The summary that `Summary.save` wrote.

    Raises FileNotFoundError, IsADirectoryError, or SummaryFileError where the file is foreign,
    damaged or of another version.
    """
    path = readable("path", path)
    fields = npz.read(path, FORMAT, VERSION, SummaryFileError, "distill again")
    try:
        about = json.loads(str(fields["about"]))
        if missing := [name for name in _OPTIONAL if (fields[name].size > 0) != (name in about["optional"])]:
            raise ValueError(f"{', '.join(missing)} should be there, or should not")
        stored: dict[str, Any] = {name: fields[name] for name in _ARRAYS}
        stored |= {name: fields[name] if fields[name].size else None for name in _OPTIONAL}
        summary = Summary(**stored, **{name: about[name] for name in _ABOUT})
        _check(summary)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SummaryFileError(f"{path} is damaged: {error!r}") from error
    return summary


def _check(summary: Summary) -> None:
    shape = (len(summary.logits), summary.item_ids.size)
    for name in ("logits", "soft", "hard", "labels", "hard_labels"):
        array = getattr(summary, name)
        if array is not None and (array.shape != shape or array.dtype.kind not in "uf" or not np.isfinite(array).all()):
            raise ValueError(f"{name} of shape {array.shape} should be finite numbers of shape {shape}")
    if not ((summary.soft >= 0).all() and (summary.soft <= 1).all() and np.isin(summary.hard, (0, 1)).all()):
        raise ValueError("soft should lie in [0, 1] and hard be 0 or 1")
    ids, weights = summary.item_ids, summary.item_weights
    if ids.shape != shape[1:] or ids.dtype.kind not in "iuU" or np.unique(ids).size != ids.size:
        raise ValueError("item_ids should be distinct whole numbers or texts")
    if weights is not None and not (weights.shape == ids.shape and np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(f"item_weights of shape {weights.shape} should be positive and finite, one an item")
    _check_about(summary, shape[0])


def _check_about(summary: Summary, n_users: int) -> None:
    model, config = summary.model, Config(**summary.config)
    if model.keys() != {"depth", "w_std", "b_std", "row_power", "own_kernel"}:
        raise ValueError(f"the inner model has unknown settings: {model}")
    checks.whole("depth", model["depth"])
    checks.flag("own_kernel", model["own_kernel"])
    for name in ("w_std", "b_std", "row_power"):
        checks.number(name, model[name])
    checks.number("reg", summary.reg, above=0)
    if config.n_users != n_users:
        raise ValueError(f"the settings are of {config.n_users} users, the rows of {n_users}")
    if (summary.labels is None) != (summary.hard_labels is None):
        raise ValueError("labels and hard_labels should both be there, or neither")
    checks.whole("kept", summary.kept, 0, config.steps)
    checked_history(summary.history)
    if len(summary.fingerprint) != 64 or not set(summary.fingerprint) <= set("0123456789abcdef"):
        raise ValueError(f"{summary.fingerprint!r} is no SHA-256")
