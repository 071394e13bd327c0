"""Made-up clicks with a known structure: planted taste groups, and a tiny set with a known answer."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from infae.data.interactions import Interactions
from infae.data.splits import Split
from infae.runtime import checks

MIN_CLICKS = 3
CELLS = 4_000_000
"""Random keys held at one time, as float32."""


# What NumPy can permute.
_MOST = 2**31 - 1


class Planted(NamedTuple):
    """Clicks and the groups they were drawn from."""

    interactions: Interactions  # (n_users, n_items), ids 0, 1, 2, ...
    user_group: np.ndarray  # (n_users,) each user's taste group
    item_group: np.ndarray  # (n_items,) each item's group


def synthetic(
    n_users: int = 600,
    n_items: int = 400,
    *,
    n_groups: int = 8,
    mean_clicks: float = 25,
    focus: float = 0.8,
    zipf: float = 1.0,
    seed: int = 0,
) -> Planted:
    """Users who mostly click items of their own taste group, popular items more often.

    A user makes 3 + Poisson(mean_clicks - 3) clicks, at most one an item. Each is in the user's
    own group with probability `focus`, as far as that has items, and falls there on an item
    with weight rank ** -zipf, zipf from -4 to 4; ranks are a random order of all items. Groups are
    of one size.

    Raises ValueError for numbers that no such data can have.
    """
    fewest = min(checks.whole("n_users", n_users, 1, _MOST), checks.whole("n_items", n_items, 1, _MOST))
    checks.whole("n_groups", n_groups, 1, fewest, remedy="a group has a user and an item")
    checks.number("mean_clicks", mean_clicks, least=MIN_CLICKS, most=n_items)
    checks.share("focus", focus, least=0, most=1)
    checks.number("zipf", zipf, least=-4, most=4)
    rng = checks.generator(seed)
    user_group = rng.permutation(np.arange(n_users) % n_groups)
    item_group = rng.permutation(np.arange(n_items) % n_groups)
    weight = (rng.permutation(n_items) + 1.0) ** -zipf
    n_clicks = np.minimum(MIN_CLICKS + rng.poisson(mean_clicks - MIN_CLICKS, n_users), n_items)
    pairs = [_clicks_of_group(g, user_group, item_group, n_clicks, weight, focus, rng) for g in range(n_groups)]
    users, items = (np.concatenate(column) for column in zip(*pairs, strict=True))
    matrix = sp.csr_matrix((np.ones(users.size, np.float32), (users, items)), shape=(n_users, n_items))
    return Planted(Interactions.from_matrix(matrix), user_group, item_group)


def tiny() -> Split:
    """A hand-made split whose right answer is known for every user.

    Three blocks of taste share no user and no item. A user has clicked every item of the own
    block but one; that one is the test click of users `...t` and the validation click of users
    `...v`. No click joins two blocks, and within a block the missing item is the only one not
    seen: whatever learns from clicks made together ranks it first. Popularity alone fails: to
    users of the small blocks, items of the big one have more clicks.

    42 users, 15 items. Ids are strings unlike their positions: user `B3t0` misses item `b3`.
    """
    # Name, items, users a missing item and part. The blocks are not in order of size or name.
    blocks = (("C", 4, 1), ("A", 6, 2), ("B", 5, 1))
    cells = [
        (f"{block}{missing}{part}{copy}", f"{block.lower()}{k}", part if k == missing else "train")
        for block, n_items, n_copies in blocks
        for missing in range(n_items)
        for part in "tv"
        for copy in range(n_copies)
        for k in range(n_items)
    ]
    user_ids = np.array(list(dict.fromkeys(user for user, _, _ in cells)))
    item_ids = np.array(list(dict.fromkeys(item for _, item, _ in cells)))

    def clicks(label: str) -> Interactions:
        users, items = zip(*((user, item) for user, item, part in cells if part == label), strict=True)
        return Interactions.from_pairs(users, items, user_ids=user_ids, item_ids=item_ids)

    return Split(clicks("train"), clicks("v"), clicks("t"), name="hand-made blocks")


def _clicks_of_group(
    group: int,
    user_group: np.ndarray,
    item_group: np.ndarray,
    n_clicks: np.ndarray,
    weight: np.ndarray,
    focus: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) of the clicks that the users of one group make inside and outside of it."""
    users = np.flatnonzero(user_group == group)
    inside, outside = np.flatnonzero(item_group == group), np.flatnonzero(item_group != group)
    n = n_clicks[users]
    n_inside = np.clip(rng.binomial(n, focus), n - outside.size, inside.size)
    row_in, col_in = _draw(weight[inside], n_inside, rng)
    row_out, col_out = _draw(weight[outside], n - n_inside, rng)
    return users[np.concatenate([row_in, row_out])], np.concatenate([inside[col_in], outside[col_out]])


def _draw(weight: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) of counts[row] distinct columns for every row, in proportion to `weight`.

    The columns that come first where column j comes after an exponential time of rate
    weight[j]: Gumbel top-k without the logarithms.
    """
    k = int(counts.max(initial=0))
    if k == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    drawn = []
    step = max(1, CELLS // weight.size)
    for start in range(0, counts.size, step):
        n = counts[start : start + step]
        times = rng.standard_exponential((n.size, weight.size), dtype=np.float32) / weight.astype(np.float32)
        first = np.argpartition(times, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(times, first, axis=1), axis=1)
        row, place = np.nonzero(np.arange(k) < n[:, None])
        drawn.append((start + row, np.take_along_axis(first, order, axis=1)[row, place]))
    rows, cols = zip(*drawn, strict=True)
    return np.concatenate(rows), np.concatenate(cols)
