"""What relaxed ranking asks of at a step: interesting ones in order, and others below them."""

import torch

from experiments.kd.losses import cd


class Lists:
    """Of each row of scores (n, m) 40 of its `first`, in order, and 40 others below them, drawn anew every epoch.

    Lists are shorter where `first` is. Others are finite and not among the first; one may be drawn again.
    """

    N_DRAWN, SPREAD = 40, 10.0

    def __init__(self, scores: torch.Tensor, first: torch.Tensor):
        self._scores, self._first = scores, first

    @classmethod
    def length(cls, n_first: int, least: int) -> int:
        """Of the first, where a row has `least` finite scores: as many others as are drawn are left, or half of all."""
        return max(1, min(n_first, least - min(cls.N_DRAWN, least // 2)))

    def draw(self, rng: torch.Generator) -> None:
        first, scores = self._first, self._scores
        n_drawn = min(self.N_DRAWN, first.shape[1])
        self._interesting = first.gather(1, cd.by_rank(len(first), n_drawn, first.shape[1], self.SPREAD, rng))
        found = torch.randint(scores.shape[1], (len(first), 4 * self.N_DRAWN), generator=rng)
        told = scores.gather(1, found)
        # One that scores as the last of the list does may be in it.
        fit = (told < scores.gather(1, first[:, -1:])) & told.isfinite()
        order = fit.float().argsort(dim=1, descending=True, stable=True)[:, : self.N_DRAWN]
        self._others = found.gather(1, order)
        few = (fit.sum(1) < self.N_DRAWN).nonzero()[:, 0]
        for some in few.split(1024):
            left = scores[some].isfinite().scatter_(1, first[some], False)
            self._others[some] = torch.multinomial(left.float(), self.N_DRAWN, replacement=True, generator=rng)

    def of(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, k) interesting ones, the best first, and (n, 40) others."""
        return self._interesting[rows], self._others[rows]
