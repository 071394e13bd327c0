"""How the files of each published data set become a `Split`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from infae.data.interactions import Interactions
from infae.data.readers import read_lightgcn, read_prefix_targets, read_sessions, read_triples
from infae.data.splits import Split, random_split

PAIR = ["user_id", "item_id"]


def lightgcn(*paths: Path) -> Split:
    """LightGCN's (`train.txt`, `test.txt`) as published; validation is empty."""
    return _published("LightGCN's own split", *map(read_lightgcn, paths))


def lastfm(*paths: Path) -> Split:
    """LightGCN's lastfm (`data1.txt`, `test1.txt`) as published; validation is empty, counts are clicks."""
    return _published("LightGCN's own split", *map(read_triples, paths))


def citeulike(*paths: Path) -> Split:
    """The leave-one-out (`train.txt`, `valid.txt`, `test.txt`) of the knowledge-distillation papers."""
    train, validation, test = map(read_lightgcn, paths)
    return _published("published leave-one-out", train, test, validation)


def diginetica(sessions_path: Path, targets_path: Path) -> Split:
    """Sessions as users: (`train_sessions.txt`, `test_prefix_target.txt`); validation is empty.

    A test prefix is a context and its target the click to be found. Items that no train session
    has are left out of both, and so is a test session that this leaves without either; `note`
    counts them. A target that is also in its own prefix stays, though it is never recommended.
    """
    train = _clicks(read_sessions(sessions_path))
    halves = read_prefix_targets(targets_path)
    sessions = np.union1d(halves[0]["user_id"], halves[1]["user_id"])
    known = [half[half["item_id"].isin(train.item_ids)] for half in halves]
    whole = np.intersect1d(known[0]["user_id"], known[1]["user_id"])
    n_unknown = sum(len(half) for half in halves) - sum(len(half) for half in known)
    halves_of = (half[half["user_id"].isin(whole)] for half in known)
    context, test = (_clicks(half, user_ids=whole, item_ids=train.item_ids) for half in halves_of)
    n_repeated = context.matrix.multiply(test.matrix).nnz
    note = (
        f"{n_unknown:,} test items unknown to train left out, and with them {sessions.size - whole.size:,} of "
        f"{sessions.size:,} test sessions; {n_repeated:,} targets are in their own prefix."
    )
    return Split(train, train.emptied(), test, test_context=context, name="published sessions", note=note)


def random(log: pd.DataFrame, seed: int, min_interactions: int = 3) -> Split:
    """A seeded random 80/10/10 of a raw log, over the users with enough clicks and their items."""
    pairs = log.drop_duplicates(PAIR)
    active = pairs.groupby("user_id")["item_id"].transform("size") >= min_interactions
    n_repeats, n_dropped = len(log) - len(pairs), pairs.loc[~active, "user_id"].nunique()
    kept = by_user_id(pairs[active] if active.any() else pairs)
    split = random_split(kept, min_interactions=min_interactions, seed=seed)
    repeats = f"{n_repeats:,} repeats of a pair count once." if n_repeats else ""
    dropped = f"{n_dropped:,} users with fewer than {min_interactions} clicks dropped." if n_dropped else ""
    return replace(split, note=f"{repeats} {dropped}".strip())


def by_user_id(log: pd.DataFrame) -> Interactions:
    """Users in ascending order of id: what a seed draws then does not depend on the order of the lines."""
    return Interactions.from_frame(log, user_ids=sorted(log["user_id"].unique()))


def _published(name: str, train: pd.DataFrame, test: pd.DataFrame, validation: pd.DataFrame | None = None) -> Split:
    """A split whose parts are given; its users and items are those of any part, in order of id."""
    frames = [train, test] if validation is None else [train, test, validation]
    ids = {f"{c}s": np.unique(np.concatenate([f[c].to_numpy() for f in frames])) for c in PAIR}
    parts = [_clicks(frame, **ids) for frame in frames]
    return Split(parts[0], parts[2] if validation is not None else parts[0].emptied(), parts[1], name=name)


def _clicks(log: pd.DataFrame, **ids: np.ndarray) -> Interactions:
    return Interactions.from_frame(log.drop_duplicates(PAIR), **ids)
