"""The leave-one-out splits that papers on distilled recommenders are tested on: of each user one click is held out."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

import infae
from infae.data import leave_one_out, recipes
from infae.data._tables import open_text
from infae.data.datasets import load, load_log, located
from infae.data.readers import read_lightgcn
from infae.data.synthetic import synthetic
from infae.runtime import checks

DataDir = str | PathLike[str] | None


def split(name: str, seed: int = 0, data_dir: DataDir = None) -> infae.Split:
    """A split of `DATASETS`; ValueError for another name, and as the reader of its files for damaged ones."""
    checks.seed("seed", seed)
    return DATASETS[checks.choice("name", name, DATASETS)](seed, data_dir)


def _citeulike(seed: int, data_dir: DataDir) -> infae.Split:
    """CiteULike in the one split of DE-RRD's authors, whatever the seed.

    GD-REC's and BD's figures are of the same file with the number that begins a line read as an item.
    """
    return load("citeulike", data_dir=data_dir)


def _foursquare(seed: int, data_dir: DataDir) -> infae.Split:
    """Foursquare, of HyperKDMA's authors; two clicks of each user are drawn by the seed."""
    (path,) = located("foursquare", "foursquare-kd/users.dat*", data_dir=data_dir)
    return leave_one_out(counted_lines(path), seed=seed, name="foursquare")


def _yelp(seed: int, data_dir: DataDir) -> infae.Split:
    """The base block of CCD's Yelp, all its parts as one, in place of He's Yelp, which cannot be had.

    Two clicks of each user are drawn by the seed.
    """
    files = (f"ccd-yelp/task0_{part}.txt*" for part in ("train", "valid", "test"))
    log = pd.concat([read_lightgcn(path) for path in located("yelp", *files, data_dir=data_dir)])
    return leave_one_out(recipes.by_user_id(log.drop_duplicates()), seed=seed, name="yelp")


def _ml_100k(seed: int, data_dir: DataDir) -> infae.Split:
    """MovieLens-100K; of each user the last rating is held out, and the one before for validation."""
    return leave_one_out(load_log("ml-100k", data_dir=data_dir), name="ml-100k")


def _made(seed: int, data_dir: DataDir) -> infae.Split:
    """Made clicks, offline; two of each user are drawn by the seed."""
    return leave_one_out(synthetic(300, 700, mean_clicks=12, n_groups=6, seed=0).interactions, seed=seed, name="made")


DATASETS: Mapping[str, Callable[[int, DataDir], infae.Split]] = {
    "made": _made, "citeulike": _citeulike, "foursquare": _foursquare, "yelp": _yelp, "ml-100k": _ml_100k,
}  # fmt: skip


def counted_lines(path: Path) -> infae.Interactions:
    """Users 0, 1, ..., one a line: how many clicks, and the items; a click that is repeated is one.

    Raises ValueError for a line whose number is not that of its items.
    """
    with open_text(path) as file:
        numbered = [(n, np.array(line.split(), np.int64)) for n, line in enumerate(file, 1) if line.strip()]
    for place, line in numbered:
        if line[0] != line.size - 1:
            raise ValueError(
                f"{path}, line {place}: expected {line[0]:,} items, by its first number, got {line.size - 1:,}"
            )
    lines = [line for _, line in numbered]
    users = np.repeat(np.arange(len(lines)), [line.size - 1 for line in lines])
    frame = pd.DataFrame({"user_id": users, "item_id": np.concatenate([line[1:] for line in lines])})
    return infae.Interactions.from_frame(frame.drop_duplicates())
