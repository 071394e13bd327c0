"""Transfer sets: whose histories a teacher is asked of, so that a student learns from what it says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

import distillcf
import infae
from distillcf.config import Config as Settings
from experiments.infinite.sources import DISTILLED, DISTILLED_BINARY, EVERYBODY, Sources
from experiments.kd.gdrec import GDREC, N_LISTED, N_NEGATIVE, ZERO_WEIGHT
from experiments.recommenders.arcf import ARCF
from infae.runtime import checks

FRESH = "DISTILL-CF fresh"
GENERATED, VIRTUAL, POPULAR = "GD-REC", "AR-CF", "by popularity"
MANY = 10
"""Fresh users and histories by popularity are so many times as many: they cost nothing."""
USES = {"fresh": MANY, "lists": N_LISTED, "generated": [N_NEGATIVE, ZERO_WEIGHT], "summaries": Settings()}
"""What decides the sets beside a study's flags."""


@dataclass
class TransferSets:
    """Users by the name of a source; GD-REC's and AR-CF's networks learn for `n_epochs`, or for as many as they say."""

    sources: Sources
    n_epochs: int = 0
    _made: dict[str, Any] = field(default_factory=dict)

    def clicks(self, name: str, n_users: int, seed: int) -> infae.Interactions:
        """So many users of a source, or all real ones, or `MANY` times as many where they cost nothing."""
        made = OURS.get(checks.choice("source", name, SETS))
        return self.sources.interactions(name, n_users, seed) if made is None else made(self, n_users, seed)

    def _generator(self, kind: type[GDREC] | type[ARCF], seed: int) -> Any:
        if kind.title not in self._made:
            model = kind(seed=seed)
            model.n_epochs = self.n_epochs or model.n_epochs
            self._made[kind.title] = model.fit(self.sources.split.train, progress=True)
        return self._made[kind.title]

    def _generated(self, n_users: int, seed: int) -> infae.Interactions:
        train = self.sources.split.train
        lists = self._generator(GDREC, seed).lists(min(N_LISTED, train.n_items), seed)
        chosen = np.random.default_rng(seed).permutation(lists.n_users)[:n_users]
        return infae.Interactions.from_matrix(lists.matrix[np.sort(chosen)], None, train.item_ids)

    def _virtual(self, n_users: int, seed: int) -> infae.Interactions:
        return self._generator(ARCF, seed).generate(n_users, seed)

    def _fresh(self, n_users: int, seed: int) -> infae.Interactions:
        summary = self.sources.summary(n_users, seed)
        rows = [summary.sample(seed * MANY + k).matrix for k in range(MANY)]
        return infae.Interactions.from_matrix(sp.csr_matrix(sp.vstack(rows)), None, summary.item_ids)

    def _popular(self, n_users: int, seed: int) -> infae.Interactions:
        return by_popularity(self.sources.split.train, MANY * n_users, seed)


OURS: Mapping[str, Callable[[TransferSets, int, int], infae.Interactions]] = {
    FRESH: TransferSets._fresh, GENERATED: TransferSets._generated, VIRTUAL: TransferSets._virtual,
    POPULAR: TransferSets._popular,
}  # fmt: skip
SETS = (EVERYBODY, DISTILLED, DISTILLED_BINARY, *OURS, *distillcf.CORESETS)


def by_popularity(clicks: infae.Interactions, n_users: int, seed: int) -> infae.Interactions:
    """Users as long as drawn real ones, whose different items are drawn by their numbers of clicks."""
    rng = np.random.default_rng(checks.seed("seed", seed))
    matrix = clicks.matrix
    lengths = np.diff(matrix.indptr)
    counts = np.bincount(matrix.indices, minlength=clicks.n_items)
    chance = np.log(np.where(counts > 0, counts, 1e-12))
    columns = []
    for length in rng.choice(lengths[lengths > 0], n_users):
        # Without replacement, by the Gumbel top-k trick.
        keys = chance + rng.gumbel(size=chance.size)
        columns.append(np.argpartition(-keys, length - 1)[:length])
    rows = np.repeat(np.arange(n_users), [len(each) for each in columns])
    places = (rows, np.concatenate(columns))
    drawn = sp.csr_matrix((np.ones(rows.size, np.float32), places), shape=(n_users, clicks.n_items))
    return infae.Interactions.from_matrix(drawn, None, clicks.item_ids)
