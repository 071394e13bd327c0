"""The registry: for every data set where it comes from, its files, and the split they make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from infae.data import readers, recipes
from infae.data.download import Source
from infae.data.splits import Split, random_split
from infae.data.synthetic import synthetic, tiny


@dataclass(frozen=True)
class Form:
    """One set of files that a data set may come as."""

    files: tuple[str, ...]  # names below the data folder, all needed; a `*` stands for several
    read: Callable[..., Any]  # of the paths: the published split, or
    raw: bool = False  # the log, of which one is drawn
    stands_in: bool = False  # the set has a published split, and these files are not it


@dataclass(frozen=True)
class Dataset:
    """A registry entry: the forms are tried in order. One that is made up has `make` and no files."""

    where: str
    terms: str
    forms: tuple[Form, ...] = ()
    sources: tuple[Source, ...] = ()
    make: Callable[[int], Split] | None = None


def _published(recipe: Callable[..., Split], folder: str, *files: str) -> Form:
    return Form(tuple(f"{folder}/{file}" for file in files), recipe)


def _paper(name: str) -> list[Form]:
    files = "total_data.hdf5", "index.npz"
    return [_published(readers.read_paper, folder, *files) for folder in (f"paper-{name}", name)]


def _raw(file: str, reader: Callable[..., pd.DataFrame] = readers.read_movielens, *, stands_in: bool = True) -> Form:
    return Form((file,), reader, raw=True, stands_in=stands_in)


def _movielens(name: str, md5: str, *files: str) -> Source:
    return Source(f"{MOVIELENS}/{name}.zip", f"md5:{md5}", tuple(f"{name}/{file}" for file in files))


def _lightgcn(name: str, recipe: Callable[..., Split], checksums: dict[str, str], terms: str) -> Dataset:
    """A data set of LightGCN's repository, whose files have these checksums."""
    return Dataset(
        where=f"https://github.com/gusye1234/LightGCN-PyTorch (folder data/{name})",
        terms=terms,
        forms=tuple(_published(recipe, folder, *checksums) for folder in (f"lightgcn-{name}", name)),
        sources=tuple(
            Source(f"{LIGHTGCN}/{name}/{file}", checksum, (f"lightgcn-{name}/{file}",))
            for file, checksum in checksums.items()
        ),
    )


PAPER = "https://github.com/noveens/infinite_ae_cf (folder data)"
GROUPLENS = "research use, no redistribution without permission (GroupLens)"
LIGHTGCN = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data"
MOVIELENS = "https://files.grouplens.org/datasets/movielens"

DATASETS: dict[str, Dataset] = {
    "ml-1m": Dataset(
        where=f"{PAPER} for the paper's split; https://grouplens.org/datasets/movielens/1m/ for the ratings",
        terms=GROUPLENS,
        forms=(
            *_paper("ml-1m"),
            *map(_raw, ("ml-1m/ratings.dat", "ml-1m/ratings.csv", "ml-1m/ratings_rebuilt.csv")),
        ),
        sources=(_movielens("ml-1m", "c4d9eecfca2ab87c1945afe126590906", "ratings.dat", "users.dat", "movies.dat"),),
    ),
    "ml-100k": Dataset(
        where="https://grouplens.org/datasets/movielens/100k/",
        terms=GROUPLENS,
        forms=(_raw("ml-100k/u.data", stands_in=False),),
        sources=(_movielens("ml-100k", "0e33842e24a9c977be4e0107933c0723", "u.data", "u.item", "u.user"),),
    ),
    "magazine": Dataset(
        where=f"{PAPER} for the paper's split; https://nijianmo.github.io/amazon/ (Magazine Subscriptions, "
        "ratings only) for the ratings",
        terms="Amazon review data (2018), for research; cite Ni et al. 2019",
        forms=(
            *_paper("magazine"),
            _raw("magazine/Magazine_Subscriptions.csv", readers.read_amazon_ratings),
        ),
    ),
    "douban": Dataset(
        where=f"{PAPER}, or its authors; put a ratings log of your own in douban/ratings.csv",
        terms="those of whoever you have it from",
        forms=(*_paper("douban"), _raw("douban/ratings.csv", readers.read_csv)),
    ),
    "netflix": Dataset(
        where=f"the authors of {PAPER} for the paper's split; "
        "https://www.kaggle.com/datasets/netflix-inc/netflix-prize-data for the ratings",
        terms="Netflix Prize rules: research use, no redistribution",
        forms=(
            *_paper("netflix"),
            _raw("netflix/combined_data_*.txt", lambda *paths: readers.read_netflix(paths)),
        ),
    ),
    "gowalla": _lightgcn(
        "gowalla",
        recipes.lightgcn,
        {
            # Of the pairs: the order of items in a line is not the same in every copy.
            "train.txt": "pairs-sha256:2ddf160a77f38b0018bd6c77cf3dcb40dd98bb50518b17d599732301f8541e75",
            "test.txt": "sha256:099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3",
        },
        "SNAP location data, for research; cite Cho et al. 2011 and He et al. 2020",
    ),
    "lastfm": _lightgcn(
        "lastfm",
        recipes.lastfm,
        {
            "data1.txt": "sha256:c82af3228cbbda2f55a39244de09ed93292894f1d0d9f1908ebb57e27598fded",
            "test1.txt": "sha256:de4417c0e6123284ce59a0934bcf5288ec1ec8774a18a1eef453c9952dfa48f9",
        },
        "HetRec 2011 Last.fm data, for research; cite Cantador et al. 2011",
    ),
    "citeulike": Dataset(
        where="https://github.com/SeongKu-Kang/DE-RRD_CIKM20, as train.txt, valid.txt and test.txt",
        terms="CiteULike data, for research; cite Kang et al. 2020",
        forms=(_published(recipes.citeulike, "citeulike-kd", "train.txt", "valid.txt", "test.txt"),),
    ),
    "diginetica": Dataset(
        where="CIKM Cup 2016, track 2: https://competitions.codalab.org/competitions/11161, made into "
        "train_sessions.txt (a session a line) and test_prefix_target.txt (prefix, tab, target)",
        terms="CIKM Cup 2016 rules: research use",
        forms=(_published(recipes.diginetica, "sessions-diginetica", "train_sessions.txt", "test_prefix_target.txt"),),
    ),
    "synthetic": Dataset(
        where="made by infae.data.synthetic",
        terms="none",
        make=lambda seed: random_split(synthetic(seed=seed).interactions, seed=seed),
    ),
    "tiny": Dataset(where="made by infae.data.synthetic", terms="none", make=lambda seed: tiny()),
}
