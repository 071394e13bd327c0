"""Users, real or of a DISTILL-CF summary, as history models read them: two questions about a table's clicks.

implicit: was this item clicked, or is it one of those that were not, drawn uniformly? What is distilled are the clicks.

explicit: was this item rated well, given that it was rated? What is distilled are the rated items with what was said of
them: a matrix with two columns an item, one for "rated well" and one for "rated badly", (n_users, 2 n_items). So a
synthetic user rates an item well by a share of the time: its history has the difference of both columns, and its label
is the first one's part of both.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

import distillcf
import infae
from experiments.ctr.fields import Fields
from experiments.ctr.histories import Users, history_rows, item_fields
from experiments.ctr.rows import Rows
from experiments.ctr.tables import Data
from infae.data.ops import row_of, unclicked
from infae.runtime import checks

QUESTIONS = ("implicit", "explicit")
FORMS = ("soft", "hard", "free")


@dataclass(frozen=True, eq=False)
class Question:
    """A question about rows of users and items, and all that it takes to train and to test.

    Args:
      name: one of `QUESTIONS`.
      data: rows of two category fields, users and items, with labels 0 and 1.
      seed: of items that were not clicked, and of what is read of long histories.

    Raises ValueError for another name, or data of other fields.
    """

    name: str
    data: Data
    seed: int = 0

    def __post_init__(self) -> None:
        checks.choice("question", self.name, QUESTIONS)
        if [field.kind for field in self.data.fields] != ["category"] * 2:
            raise ValueError(
                f"{self.data.name}: questions are about a user and an item, got {', '.join(self.data.fields.names)}"
            )

    @cached_property
    def fields(self) -> Fields:
        return item_fields(self._n_items)

    @cached_property
    def split(self) -> infae.Split:
        """What is sampled and distilled, with held-out parts of the same users."""
        parts = (self._clicks(part) for part in (self.data.train, self.data.validation, self.data.test))
        train, validation, test = map(infae.Interactions.from_matrix, parts)
        return infae.Split(train, validation, test, name=f"{self.data.name}, {self.name}")

    def held_out(self, part: str) -> Rows:
        """Of "validation" or "test": each user's rows, beside the user's history in training rows.

        implicit: items that were not clicked are drawn among those that neither training rows nor this part have, nor,
        for the test, validation; users who clicked every item have no rows.
        """
        rows = getattr(self.data, checks.choice("part", part, ("validation", "test")))
        users, items, labels = self._known(rows)
        rng = np.random.default_rng([self.seed, 1, int(part == "test")])
        if self.name == "implicit":
            users, items = (ids[labels == 1] for ids in (users, items))
            known = (self.data.train, self.data.validation, *([self.data.test] if part == "test" else []))
            anywhere = sum(self._clicks(each) for each in known)
            free = self._n_items - np.diff(anywhere.indptr)[users]
            users, items, free = (each[free > 0] for each in (users, items, free))
            others = unclicked(anywhere, users, rng.integers(0, free))
            labels = np.repeat([1.0, 0.0], len(users))
            users, items = np.tile(users, 2), np.concatenate([items, others])
        return history_rows(self.fields, self._users(self.split.train.matrix).past, users, items, labels, rng)

    def users(self, source: infae.Interactions | distillcf.Summary, form: str = "hard") -> Users:
        """Of real clicks, or of a summary's "soft" or "hard" rows, or of its soft rows and "free" labels."""
        checks.choice("form", form, FORMS)
        if isinstance(source, infae.Interactions):
            return self._users(source.matrix)
        asked = None
        if form == "free":
            if source.labels is None:
                raise ValueError("this summary was made without free labels; distil with labels='free'")
            asked = sp.csr_matrix(np.clip(source.labels, 0, 1))
        return self._users(source.to_csr("hard" if form == "hard" else "soft"), asked)

    def _users(self, clicks: sp.csr_matrix, asked: sp.csr_matrix | None = None) -> Users:
        """`asked` has the columns of clicks."""
        asked = clicks if asked is None else asked
        if self.name == "implicit":
            return Users(clicks, asked, np.ones(asked.nnz, np.float32), negatives=True)
        (well, badly), (good, bad) = ((each[:, : self._n_items], each[:, self._n_items :]) for each in (clicks, asked))
        both = sp.csr_matrix(good + bad)
        return Users(
            sp.csr_matrix(well - badly), both, np.asarray(good[row_of(both), both.indices]).ravel() / both.data
        )

    @property
    def _n_items(self) -> int:
        return self.data.fields.fields[1].size - 1

    def _known(self, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, items and labels of rows of which training rows know both."""
        users, items = rows.values
        known = (users > 0) & (items > 0)
        return users[known] - 1, items[known] - 1, rows.known_labels[known]

    def _clicks(self, rows: Rows) -> sp.csr_matrix:
        users, items, labels = self._known(rows)
        n_users = self.data.fields.fields[0].size - 1
        if self.name == "implicit":
            clicked = labels == 1
            places, width = (users[clicked], items[clicked]), self._n_items
        else:
            places, width = (users, items + self._n_items * (labels == 0)), 2 * self._n_items
        return sp.csr_matrix((np.ones(len(places[0]), np.float32), places), shape=(n_users, width))
