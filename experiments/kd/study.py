"""What the studies of knowledge distillation share: flags, their checks, and where cells are."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.kd import data
from experiments.kd.workshop import Workshop
from experiments.study import flags
from experiments.study.flags import option
from experiments.study.runner import Study
from infae.data.fingerprint import split_fingerprint
from infae.runtime import checks


@dataclass(frozen=True)
class SetsConfig:
    """Flags that every such study has."""

    preset: str = option("smoke", f"which defaults the other flags have: {', '.join(flags.PRESETS)}")
    data: tuple[str, ...] = option(("made",), f"some of {', '.join(data.DATASETS)}", axis=True, quick=("ml-100k",),
        paper=("citeulike",))  # fmt: skip
    data_dir: str = option("", flags.DATA_DIR)
    seeds: tuple[int, ...] = option(
        (0,),
        "of all that is drawn: also of splits, but of CiteULike and ML-100K, which have one",
        axis=True,
        quick=(0,),
        paper=(0, 1, 2),
    )
    n_epochs: int = option(10, "of a training at most; 0 for as many as models say", quick=10, paper=0)
    out: str = option("out/kd", "output folder")
    plot: bool = option(True, "draw pictures")


def begin(
    config: Any, *, title: str, shows: str = "", choices: Mapping[str, Sequence[str]], uses: Mapping[str, Any]
) -> tuple[Study, Workshop]:
    """The study and the workshop of a Config; ValueError for flags that are none, before any work.

    `choices` are those of flags that list names, and `uses` the constants that every cell depends on.
    """
    for name, known in {"data": tuple(data.DATASETS), **choices}.items():
        for value in getattr(config, name):
            checks.choice(f"--{name}", value, known)
    for seed in config.seeds:
        checks.seed("--seeds", seed)
    n_epochs = checks.whole("--n_epochs", config.n_epochs, 0)
    workshop = Workshop(config.data_dir, n_epochs, getattr(config, "shared", ""))
    # Of a set's own cells: runs of other sets and seeds may share a folder.
    grids = {**workshop.grids, **{name: split_fingerprint(workshop.split(name, 0)) for name in config.data}}
    return Study(
        config, None, title=title, shows=shows, version=1, uses={**workshop.uses, **uses}, grids=grids
    ), workshop


def places(config: Any, **axes: Sequence[Any]) -> list[dict[str, Any]]:
    """Where the cells are: every combination of values on the axes, for each set and seed."""
    combined = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [{**at, "data": name, "seed": seed} for name in config.data for seed in config.seeds for at in combined]
