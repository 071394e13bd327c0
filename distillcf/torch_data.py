"""Clicks as PyTorch data sets: user rows, ranking triples, and (user, item, label) pairs.

They take a `Summary`, of which they use the stored binary rows, or any `Interactions`, such as real
clicks, `summary.interactions("soft")` or `summary.sample(seed)`, as it is: sorted, without
stored zeros, with values in (0, 1] where the support is soft. Users and items are row and column
positions. Nothing here draws from a global generator.

A `DataLoader` takes any of them; with `set_epoch`, call it before the epoch's first batch, and leave
`persistent_workers` off, since workers copy the data set when they start.
"""

import warnings

import numpy as np
import scipy.sparse as sp

try:
    import torch
    from torch.utils.data import Dataset
except ModuleNotFoundError as error:
    raise ImportError("distillcf.torch_data needs PyTorch: pip install 'infae[torch]'") from error

from distillcf.summary import Summary
from infae.data.interactions import Interactions
from infae.data.ops import row_of, unclicked
from infae.runtime import checks


class UserRows(Dataset):
    """Item u is the click row of user u, (n_items,) float32, soft values kept: for autoencoders.

    Raises ValueError for anything but a `Summary` or `Interactions`.

    Example:
        net = nn.Sequential(nn.Linear(clicks.n_items, 64), nn.Tanh(), nn.Linear(64, clicks.n_items))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for epoch in range(20):
            for x in DataLoader(UserRows(clicks), batch_size=128, shuffle=True):
                loss = nn.functional.binary_cross_entropy_with_logits(net(x), x)
                optimizer.zero_grad(), loss.backward(), optimizer.step()
    """

    def __init__(self, clicks: Interactions | Summary):
        self._matrix = _checked(clicks).matrix

    def __len__(self) -> int:
        return self._matrix.shape[0]

    def __getitem__(self, user: int) -> torch.Tensor:
        return self.__getitems__([user])[0]

    def __getitems__(self, users: list[int]) -> list[torch.Tensor]:
        """The rows of a whole batch, taken out of the CSR at once; a `DataLoader` calls this."""
        return list(torch.from_numpy(self._matrix[users].toarray()).unbind())


class Triples(Dataset):
    """(user, item clicked, item not clicked) for pairwise ranking, such as BPR.

    Every stored click comes `n_negatives` times an epoch, each time with another item drawn
    uniformly from those that its user has not clicked (Rendle et al. 2009, section 4.2, but
    every click once instead of clicks at random).

    Attributes:
      users, positives, negatives: (n,) int64, n = clicks * n_negatives; clicks in CSR order.
      weights: (n,) float32, the stored value of the click: below 1 on a soft support.

    Raises:
      ValueError: neither `Summary` nor `Interactions`, a bad `seed` or `n_negatives`, or nothing to draw: no clicks, or
        every user who clicked has clicked every item. Where only some have, one warning
        says that they are left out.

    Example:
        data, users, items = Triples(clicks), nn.Embedding(clicks.n_users, 32), nn.Embedding(clicks.n_items, 32)
        optimizer = torch.optim.Adam([*users.parameters(), *items.parameters()], lr=0.05)
        for epoch in range(20):
            data.set_epoch(epoch)
            for user, clicked, other in DataLoader(data, batch_size=1024, shuffle=True):
                margin = (users(user) * (items(clicked) - items(other))).sum(1)
                loss = nn.functional.softplus(-margin).mean()
                optimizer.zero_grad(), loss.backward(), optimizer.step()
    """

    def __init__(self, clicks: Interactions | Summary, seed: int = 0, n_negatives: int = 1):
        clicks = _checked(clicks)
        self._matrix, self._seed = clicks.matrix, checks.seed("seed", seed)
        n = checks.whole("n_negatives", n_negatives)
        self._n_free = _n_free(self._matrix)
        users = row_of(self._matrix)
        usable = np.flatnonzero(self._n_free[users])
        if not usable.size:
            raise ValueError(f"no triples in {clicks}: expected a user with an item clicked and one not clicked")
        if full := int(((self._n_free == 0) & (np.diff(self._matrix.indptr) > 0)).sum()):
            warnings.warn(f"{full:,} of {clicks.n_users:,} users clicked every item and are left out", stacklevel=2)
        self.users = np.repeat(users[usable], n)
        self.positives = np.repeat(self._matrix.indices[usable].astype(np.int64), n)
        self.weights = np.repeat(self._matrix.data[usable].astype(np.float32), n)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw all negatives anew: the same for the same (seed, epoch), whatever came before."""
        rng = _generator(self._seed, epoch)
        self.negatives = unclicked(self._matrix, self.users, rng.integers(0, self._n_free[self.users]))

    def __len__(self) -> int:
        return self.users.size

    def __getitem__(self, index: int) -> tuple[int, int, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, index: list[int]) -> list[tuple[int, int, int]]:
        """The triples of a whole batch; a `DataLoader` calls this and makes three int64 tensors of them."""
        columns = (self.users, self.positives, self.negatives)
        return list(zip(*(column[index].tolist() for column in columns), strict=True))


class Pairs(Dataset):
    """(user, item, label) for click-through models: every click, and items not clicked with label 0.

    A click's label is 1, or its value where that is below 1 (a soft support). A user with n
    clicks gets round(negative_ratio * n) items not clicked, every set of them equally likely:
    all different, or drawn with repeats where the user has fewer to offer, and none where the
    user has clicked every item.

    Attributes:
      users, items: (n,) int64. All clicks in CSR order, then the items not clicked.
      labels: (n,) float32.

    Raises ValueError for neither `Summary` nor `Interactions`, no clicks, a bad `negative_ratio` or `seed`.

    Example:
        data, users, items = Pairs(clicks), nn.Embedding(clicks.n_users, 32), nn.Embedding(clicks.n_items, 32)
        optimizer = torch.optim.Adam([*users.parameters(), *items.parameters()], lr=0.05)
        for epoch in range(20):
            data.set_epoch(epoch)
            for user, item, label in DataLoader(data, batch_size=1024, shuffle=True):
                logit = (users(user) * items(item)).sum(1)
                loss = nn.functional.binary_cross_entropy_with_logits(logit, label)
                optimizer.zero_grad(), loss.backward(), optimizer.step()
    """

    def __init__(self, clicks: Interactions, negative_ratio: float = 1.0, seed: int = 0):
        ratio = checks.number("negative_ratio", negative_ratio, above=0, remedy="1 is one a click")
        clicks = _checked(clicks)
        self._matrix, self._seed = clicks.matrix, checks.seed("seed", seed)
        if not self._matrix.nnz:
            raise ValueError(f"no pairs in {clicks}: expected at least one click")
        wanted = np.rint(ratio * np.diff(self._matrix.indptr)).astype(np.int64)
        self._counts = np.where(_n_free(self._matrix) > 0, wanted, 0)
        self.labels = np.zeros(self._matrix.nnz + self._counts.sum(), np.float32)
        self.labels[: self._matrix.nnz] = np.minimum(self._matrix.data, 1)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the items not clicked anew: the same for the same (seed, epoch), whatever came before."""
        users, places = _draw(self._counts, _n_free(self._matrix), _generator(self._seed, epoch))
        self.users = np.concatenate([row_of(self._matrix), users])
        self.items = np.concatenate([self._matrix.indices, unclicked(self._matrix, users, places)]).astype(np.int64)

    def __len__(self) -> int:
        return self.labels.size

    def __getitem__(self, index: int) -> tuple[int, int, np.float32]:
        return self.__getitems__([index])[0]

    def __getitems__(self, index: list[int]) -> list[tuple[int, int, np.float32]]:
        """The pairs of a whole batch; a `DataLoader` makes two int64 tensors and a float32 one of them."""
        # Labels stay NumPy's: of Python's floats a loader makes float64.
        return list(zip(self.users[index].tolist(), self.items[index].tolist(), self.labels[index], strict=True))


def _checked(clicks: Interactions | Summary) -> Interactions:
    if isinstance(clicks, Summary):
        return clicks.interactions()
    if not isinstance(clicks, Interactions):
        raise ValueError(
            f"expected a Summary or infae.Interactions, got {type(clicks).__name__}; make them with "
            "Interactions.from_matrix or .from_frame"
        )
    return clicks


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed, checks.whole("epoch", epoch, 0)])


def _n_free(matrix: sp.csr_matrix) -> np.ndarray:
    """(n_rows,) int64 columns that a row does not store."""
    return matrix.shape[1] - np.diff(matrix.indptr).astype(np.int64)


def _draw(counts: np.ndarray, room: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(rows, places): counts[row] places below room[row], all different where there is room for them."""
    places = [rng.choice(free, n, replace=n > free, shuffle=False) for free, n in zip(room, counts, strict=True)]
    return np.repeat(np.arange(counts.size), counts), np.concatenate(places)
