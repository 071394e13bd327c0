"""Loads a data set by its name: finds its files, or says what is missing and where to get it. Or a log by its path."""

import difflib
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from os import PathLike
from pathlib import Path

import pandas as pd

from infae.data import recipes
from infae.data.download import fetch
from infae.data.readers import read_log
from infae.data.registry import DATASETS, Dataset, Form
from infae.data.splits import Split, random_split
from infae.errors import DataNotFoundError
from infae.runtime import checks

DataDir = str | PathLike[str] | None
PACKED = ("", ".gz", ".xz")


def names() -> list[str]:
    """The names that `load` knows."""
    return sorted(DATASETS)


def load(
    name: str | PathLike[str],
    data_dir: DataDir = None,
    *,
    seed: int = 0,
    download: bool = False,
    min_interactions: int = 3,
) -> Split:
    """A data set by name, with its published split where there is one, or clicks of your own.

    Args:
      name: one of `names()`, or the path of a file that `readers.read_log` reads, of which every
        line is a click; its split is `random_split`'s, with users in ascending order of id.
      data_dir: the folder that holds one folder a data set; $INFAE_DATA where None.
      seed: of a random split and of made-up data; published splits take no seed.
      download: fetch what is missing, for sets with a public address.
      min_interactions: of a file of your own and of raw ratings: users with fewer clicks than
        this are dropped, which `split.note` says, and of a file of your own a UserWarning too. At
        least 3, one click a part.

    Returns:
      The split. Where only raw ratings are found of a set whose published split they are not,
      it is a random one: a UserWarning and `split.note` say so.

    Raises:
      ValueError: unknown name, nothing to download from, or `min_interactions` of a set that is
        not split here.
      DataNotFoundError: files missing; the message lists them and says where to get them.
      DataFormatError: files found that are not what they should be.
    """
    checks.seed("seed", seed)
    checks.whole("min_interactions", min_interactions, 3, remedy="each part gets one click")
    checks.flag("download", download)
    if path := _own_file(name, data_dir):
        split = random_split(recipes.by_user_id(read_log(path)), seed=seed, min_interactions=min_interactions)
        if split.note:
            warnings.warn(f"{path.name}: {split.note}", stacklevel=2)
        return replace(split, name=f"{path.name}, {split.name}")
    dataset = _dataset(name := str(name))
    if dataset.make is not None:
        _refuse_least(name, min_interactions)
        split = dataset.make(seed)
        return replace(split, name=f"{name}, {split.name}")
    form, paths = _find(name, dataset, dataset.forms, data_dir, download)
    if not form.raw:
        _refuse_least(name, min_interactions)
    read = form.read(*paths)
    split = recipes.random(read, seed, min_interactions) if form.raw else read
    if form.stands_in:
        instead = f"{name}: the published split was not found, so this is a {split.name}, of {paths[0].name}."
        split = replace(split, note=f"{instead} {split.note}".strip())
        warnings.warn(split.note, stacklevel=2)
    return replace(split, name=f"{name}, {split.name}")


def load_log(name: str | PathLike[str], data_dir: DataDir = None) -> pd.DataFrame:
    """A data set's raw log, where it has one: `user_id`, `item_id`, `rating`, `timestamp`, in file order.

    Of a file of your own it is the columns that it has. A rebuilt MovieLens log has `time_rank`
    too, see `read_movielens`.
    Raises as `load`; ValueError also for a set that is published only as a split.
    """
    if path := _own_file(name, data_dir):
        return read_log(path)
    dataset = _dataset(name := str(name))
    forms = tuple(form for form in dataset.forms if form.raw)
    if not forms:
        others = ", ".join(n for n in names() if any(form.raw for form in DATASETS[n].forms))
        raise ValueError(f"{name} has no raw log; those that have one: {others}")
    form, paths = _find(name, dataset, forms, data_dir)
    return form.read(*paths)


def located(name: str, *files: str, data_dir: DataDir = None) -> list[Path]:
    """The paths of a data set's files, packed or not, in `data_dir` or INFAE_DATA.

    `files` may have wildcards, of which the first found is taken. Raises DataNotFoundError where one is missing.
    """
    folder = data_dir or os.environ.get("INFAE_DATA")
    root = Path(folder).expanduser() if folder else None
    found = [_located(root, file)[:1] if root else [] for file in files]
    if missing := [file for file, paths in zip(files, found, strict=True) if not paths]:
        where = f"not found in {root}" if root else "nowhere to look: pass data_dir, or set INFAE_DATA"
        raise DataNotFoundError(f"{name}: {', '.join(missing)} {where}")
    return [path for (path,) in found]


def _own_file(name: str | PathLike[str], data_dir: DataDir) -> Path | None:
    if not isinstance(data_dir, str | PathLike | None):
        raise ValueError(f"data_dir must be the path of a folder, got {checks.shown(data_dir)}")
    if not isinstance(name, (str, PathLike)):
        raise ValueError(f"expected the name of a data set or the path of a file, got {checks.shown(name)}")
    path = Path(name).expanduser()
    return path if name not in DATASETS and path.is_file() else None


def _refuse_least(name: str, min_interactions: int) -> None:
    if min_interactions != 3:
        own = f"{name} comes as a split of its own, so min_interactions has no part in it"
        raise ValueError(f"{own}, got {min_interactions}; it is for files of your own and raw ratings")


def _dataset(name: str) -> Dataset:
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(str(name), DATASETS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown data set {name!r}, expected one of {', '.join(names())}, or the path of a file{hint}")


def _find(
    name: str, dataset: Dataset, forms: Sequence[Form], data_dir: DataDir, download: bool = False
) -> tuple[Form, list[Path]]:
    """The first form whose files are all there, and their paths."""
    folder = data_dir or os.environ.get("INFAE_DATA")
    root = Path(folder).expanduser() if folder else None
    found = root and _first_whole(forms, root)
    if not found and download:
        root = _downloaded(name, dataset, root)
        found = _first_whole(forms, root)
    if not found:
        raise DataNotFoundError(_what_is_missing(name, dataset, forms, root))
    return found


def _first_whole(forms: Sequence[Form], root: Path) -> tuple[Form, list[Path]] | None:
    for form in forms:
        located = [_located(root, file) for file in form.files]
        if all(located):
            return form, list(chain.from_iterable(located))
    return None


def _located(root: Path, file: str) -> list[Path]:
    found = ([path for path in sorted(root.glob(file + ending)) if path.is_file()] for ending in PACKED)
    return next(filter(None, found), [])


def _downloaded(name: str, dataset: Dataset, root: Path | None) -> Path:
    if not dataset.sources:
        raise ValueError(f"{name} has no stable address to download from. Where people get it: {dataset.where}")
    if root is None:
        raise ValueError(f"download of {name} needs a folder: pass data_dir, or set INFAE_DATA")
    for source in dataset.sources:
        if not all(_located(root, file) for file in source.files):
            fetch(source, root)
    return root


def _what_is_missing(name: str, dataset: Dataset, forms: Sequence[Form], root: Path | None) -> str:
    def line(file: str) -> str:
        return f"  {root / file if root else file}{'  (found)' if root and _located(root, file) else ''}"

    looked = "\n  or\n".join("\n".join(line(file) for file in form.files) for form in forms)
    folder = f"in {root}" if root else "nowhere, as neither data_dir nor INFAE_DATA is set"
    return (
        f"the files of {name} were not found. Looked {folder}, for these, as they are or with .gz or .xz:\n{looked}\n"
        "Pass the folder that holds them as data_dir, or set the environment variable INFAE_DATA to it.\n"
        f"Where people get it: {dataset.where}\nTerms: {dataset.terms}"
        + ("\nOr pass download=True to fetch it." if dataset.sources else "")
    )
