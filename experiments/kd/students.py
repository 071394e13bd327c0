"""Students as they are served: two tables of items, and a user made of a history by a mean and a product.

    student = Student.of(MF(n_factors=20).fit(clicks))      # a trained one
    student = factorised(score, clicks, 20)                 # a closed-form one
    student.save("student.npz", bits=8)                     # a quarter of the bytes
    load("student.npz").recommend(histories, n=10)

`experiments.kd.served` has the same as an `nn.Module`, for `torch.export` and ONNX.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp

import infae
from experiments.kd.protocol import Score
from experiments.recommenders.base import Baseline
from infae.data.ids import known_ids
from infae.machine import batches
from infae.runtime import checks
from infae.runtime.memory import require_memory
from infae.storage import npz
from infae.storage.paths import readable, writable

FORMAT, VERSION = "infae.student", 1
BITS = (8, 32)
"""Of a stored number: int8 with a float32 scale a row, or float32."""


class StudentFileError(ValueError):
    """A file that is no student's, or a damaged one."""


@dataclass(eq=False, repr=False)
class Student(Baseline):
    """score(x, i) = (offset + sum_j x_j E_j / sum_j x_j) . V_i + b_i, of a history x.

    An empty history has `empty` in the bracket's place. `encode` E and `decode` V are (n_items, D),
    `offset` and `empty` (D,) and `bias` b (n_items,), float32.
    """

    encode: np.ndarray
    decode: np.ndarray
    offset: np.ndarray
    empty: np.ndarray
    bias: np.ndarray
    item_ids_: np.ndarray

    @classmethod
    def of(cls, model: Any) -> "Student":
        """A fitted `MF`'s; TypeError for another model, whose score is no such product."""
        from experiments.recommenders.mf import MF

        if not isinstance(model, MF):
            raise TypeError(f"an MF scores by two tables of items, got {type(model).__name__}")
        parts = {name: part.detach().cpu().numpy() for name, part in model.module.state_dict().items()}
        weights, items = parts["fold_in.weights"], parts["items.weight"]
        offset = parts["fold_in.user_mean"] - parts["fold_in.history_mean"] @ weights
        # A mean of q_i @ W is the mean of q_i, times W.
        return cls(items @ weights, items, offset, parts["fold_in.user_mean"], parts["bias"], model.item_ids_)

    def narrowed(self, rank: int) -> "Student":
        """The first columns: of a `factorised` student that of this rank; ValueError for more than there are."""
        checks.whole("rank", rank, most=self.offset.size)
        encode, decode = (np.ascontiguousarray(table[:, :rank]) for table in (self.encode, self.decode))
        return Student(encode, decode, self.offset[:rank], self.empty[:rank], self.bias, self.item_ids_)

    @property
    def n_parameters(self) -> int:
        return sum(part.size for part in (self.encode, self.decode, self.offset, self.empty, self.bias))

    def _scores(self, histories: sp.csr_matrix) -> np.ndarray:
        known = np.asarray(histories.sum(axis=1)).reshape(-1, 1) > 0
        users = np.where(known, self.offset + mean_rows(histories) @ self.encode, self.empty)
        return users @ self.decode.T + self.bias

    def save(self, path: str | os.PathLike[str], bits: int = 32) -> None:
        """Write an `.npz`; 8 bits round every row of a table to 255 steps of its largest entry.

        Raises ValueError for other bits, and OSError where the file cannot be written.
        """
        if bits not in BITS:
            raise ValueError(f"bits must be one of {BITS}, got {bits!r}")
        tables = {"encode": self.encode, "decode": self.decode}
        if bits == 8:
            rounded = {name: _rounded(table) for name, table in tables.items()}
            tables = {name: table for name, (table, _) in rounded.items()}
            tables |= {f"{name}_scale": scale for name, (_, scale) in rounded.items()}
        npz.write(
            writable("path", path), FORMAT, VERSION, **tables, offset=self.offset, empty=self.empty, bias=self.bias,
            item_ids=self.item_ids_,
        )  # fmt: skip


def load(path: str | os.PathLike[str]) -> Student:
    """What `Student.save` wrote; FileNotFoundError, or StudentFileError for anything else than a student's file."""
    found = npz.read(readable("path", path), FORMAT, VERSION, StudentFileError, "distil again")
    try:
        tables = []
        for name in ("encode", "decode"):
            scale = found.get(f"{name}_scale", np.ones((), np.float32))
            tables.append(found[name].astype(np.float32) * scale)
        item_ids = known_ids(found["item_ids"], "item_ids")
        student = Student(tables[0], tables[1], found["offset"], found["empty"], found["bias"], item_ids)
    except (KeyError, ValueError) as error:
        raise StudentFileError(f"{path} is damaged: {error!r}") from error
    shapes = [part.shape for part in (*tables, student.offset, student.empty, student.bias)]
    n_items, width = student.item_ids_.size, student.offset.size
    if shapes != [(n_items, width), (n_items, width), (width,), (width,), (n_items,)]:
        raise StudentFileError(f"{path} is damaged: {n_items} items and parts of {shapes}")
    return student


def factorised(score: Score, clicks: infae.Interactions, rank: int, reg: float = 0.1) -> Student:
    """The closed-form student of a teacher's scores: a truncated SVD, and a ridge regression of users on histories.

        S = U diag(s) V' + ...,  rows of S of mean 0 and length 1;   E = X' (X X' + c I)^-1 (U diag(s) - offset)

    X are the clicks, rows of sum 1; c is `reg` times the mean diagonal entry of X X', and `offset` the mean of
    U diag(s) (Eckart and Young 1936; Hoerl and Kennard 1970). A row of S may be scaled and moved with no change in its
    order.

    Args:
      score: the teacher's, of users by position.
      clicks: the histories that it is asked of: real users' or synthetic ones'.
      rank: D, width of the tables.
      reg: of the regression, in parts of the mean diagonal entry of X X'.

    Raises:
      ValueError: a rank that is not below the numbers of users and of items; a reg that is not above 0; scores that
        are not finite.
      MemoryError: scores of all pairs, or the regression's matrix, do not fit.
    """
    return next(factorisations(score, clicks, rank, [reg]))


def factorisations(score: Score, clicks: infae.Interactions, rank: int, regs: Sequence[float]) -> Iterator[Student]:
    """`factorised` of each reg in turn, with one SVD."""
    n_users, n_items = clicks.shape
    checks.whole("rank", rank)
    if rank >= min(n_users, n_items):
        raise ValueError(f"rank must be below {min(n_users, n_items):,}, the fewer of users and items, got {rank:,}")
    for reg in regs:
        checks.number("reg", reg, above=0)
    require_memory(4 * n_users * n_items, f"a teacher's scores of {n_users:,} users and {n_items:,} items")
    scores = np.empty((n_users, n_items), np.float32)
    for at in batches(n_users, n_items):
        scores[at] = unit_rows(score(np.arange(n_users)[at]))
    if not np.isfinite(scores).all():
        raise ValueError("the teacher's scores are NaN or infinite")
    users, decode = (np.ascontiguousarray(part, np.float32) for part in truncated_svd(scores, rank))
    offset, inputs = users.mean(0), mean_rows(clicks.matrix)
    for reg in regs:
        encode = np.ascontiguousarray(_regressed(inputs, users - offset, reg), np.float32)
        yield Student(encode, decode, offset, offset, np.zeros(n_items, np.float32), clicks.item_ids)


def truncated_svd(matrix: np.ndarray, rank: int, n_more: int = 20, n_rounds: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """U diag(s) (n, rank) and V (m, rank) of U diag(s) V' + ..., by subspace iteration (Halko et al. 2011, Alg. 4.4).

    It begins with `rank + n_more` drawn vectors, and passes over the matrix twice a round. SciPy's ARPACK passes over
    it for each vector that it finds. scikit-learn has this method, and is no dependency.
    """
    n_drawn = min(rank + n_more, *matrix.shape)
    basis = np.random.default_rng(0).standard_normal((matrix.shape[1], n_drawn), np.float32)
    for _ in range(n_rounds):
        basis = np.linalg.qr(matrix.T @ np.linalg.qr(matrix @ basis)[0])[0]
    left, sizes, right = np.linalg.svd(matrix @ basis, full_matrices=False)
    return left[:, :rank] * sizes[:rank], basis @ right[:rank].T


def unit_rows(scores: np.ndarray) -> np.ndarray:
    """Rows less their mean, of length 1; a constant row is zeros."""
    centred = scores - scores.mean(1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(lengths > 0, lengths, 1)


def mean_rows(histories: sp.csr_matrix) -> sp.csr_matrix:
    """Rows of sum 1; an empty one stays."""
    totals = np.asarray(histories.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags_array(1 / np.where(totals > 0, totals, 1)) @ histories, dtype=np.float32)


def _regressed(inputs: sp.csr_matrix, wanted: np.ndarray, reg: float) -> np.ndarray:
    """(n_inputs, D) ridge regression, by the smaller of its two systems."""
    n, m = inputs.shape
    # Sparse, dense in float32 and float64, and the solver's copy.
    require_memory(28 * min(n, m) ** 2, f"a regression of {n:,} users on {m:,} items")
    strength = reg * inputs.multiply(inputs).sum() / n
    system = (inputs @ inputs.T if n <= m else inputs.T @ inputs).toarray().astype(np.float64)
    system[np.diag_indices(len(system))] += strength
    if n <= m:
        return inputs.T @ scipy.linalg.solve(system, wanted, assume_a="pos")
    return scipy.linalg.solve(system, inputs.T @ wanted, assume_a="pos")


def _rounded(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Int8 rows, and a float32 scale of each."""
    scale = np.abs(table).max(1, keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.rint(table / scale).astype(np.int8), scale
