"""Training rows out of a click-through model alone.

    python -m experiments.inversion --model=model.pt --fields=fields.json --n_rows=2000 --out=rows.parquet
    python -m experiments.inversion --model=my_module:build --fields=fields.json --way=inverted

`model.pt` and `fields.json` are as `python -m experiments.ctr` writes them; weights alone are read. What is written is
read by `pandas.read_parquet`, and `python -m experiments.ctr --rows=rows.parquet --fields=fields.json` trains on it.
A run that was stopped goes on from `rows.partial` beside it, which is removed at the end.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.ctr import store
from experiments.ctr.fields import Fields
from experiments.ctr.rows import Rows
from experiments.inversion import designed, drawn, inverted
from experiments.study import flags
from experiments.study.flags import option
from experiments.study.record import output_folder
from infae.runtime import checks

WAYS: Mapping[str, Callable[..., Rows]] = {
    "designed": partial(designed.synthesise, progress=True),
    "inverted": partial(inverted.synthesise, labels="teacher", progress=True),
    "one-hot": drawn.synthesise,
    "mixture": partial(drawn.synthesise, kind="mixture"),
}
LONG = ("designed", "inverted")
"""Ways that may take minutes, and keep what is done."""

INVERTED = ("positives", "threshold", "freeze", "norm_weight")
"""Flags of one way; see `inverted.synthesise`."""


@dataclass(frozen=True)
class Config:
    model: str = option("", "a model's file, or my_module:build, called as build(fields)")
    fields: str = option("", "its fields.json")
    n_rows: int = option(2000, "how many rows")
    way: str = option("designed", f"one of {', '.join(WAYS)}; see the files of experiments/inversion")
    positives: float = option(0.5, "inverted: share of labels that are 1; at most that of clicks where they are rare")
    threshold: float = option(0.3, "inverted: cross-entropy below which a batch is done")
    freeze: str = option("half", "inverted: half, none, or a field that stays as it was drawn")
    norm_weight: float = option(0.0, "inverted: of the term of batch-normalisation statistics")
    seed: int = option(0, "of all that is drawn")
    out: str = option("out/rows.parquet", "the file to write")


def run(config: Config) -> Rows:
    way = WAYS[checks.choice("--way", config.way, WAYS)]
    for name in ("model", "fields"):
        if not getattr(config, name):
            raise ValueError(f"--{name} is missing; see --help")
    of_inverted = {name: getattr(config, name) for name in INVERTED}
    if config.way != "inverted":
        if other := [f"--{name}" for name, value in of_inverted.items() if value != getattr(Config, name)]:
            raise ValueError(f"{', '.join(other)} {'is' if len(other) == 1 else 'are'} of --way=inverted")
        of_inverted = {}
    path = Path(config.out)
    if path.suffix != ".parquet":
        raise ValueError(f"--out must end in .parquet, got {config.out}")
    output_folder(str(path.parent))
    model = store.load(config.model, Fields.load(config.fields))
    started = time.perf_counter()
    partly = path.with_suffix(".partial")
    kept = {"checkpoint": partly} if config.way in LONG else {}
    rows = way(model, config.n_rows, config.seed, **kept, **of_inverted)
    rows.save(path)
    if config.way in LONG:
        for piece in partly.glob("*.npz"):
            piece.unlink()
        partly.rmdir()
    size = path.stat().st_size / 2**20
    print(f"wrote {len(rows):,} rows, {size:.1f} MiB, into {path}, after {time.perf_counter() - started:.0f} s")
    return rows


if __name__ == "__main__":
    flags.main(Config, run)
