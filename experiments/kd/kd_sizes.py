"""How small and how fast is a student, and what does it cost in accuracy? Bytes, memory and times on one core.

    python -m experiments.kd.kd_sizes                    # made clicks, offline
    python -m experiments.kd.kd_sizes --preset=quick     # MovieLens-100K
    python -m experiments.kd.kd_sizes --preset=paper     # CiteULike, and catalogues of up to a million items

A teacher, ∞-AE, and its closed-form students of several ranks, of 32 and of 8 bits a number: test accuracy, bytes on
disk, and in a process of its own on one core the peak memory, the time of one user (p50 and p99) and users a second, a
thousand at a time. Then the time of one user in catalogues of made items, by dimensions. Times are to be compared
within a record: machines differ. Writes `record.json`, `table.md` and a picture of accuracy over bytes and over
milliseconds.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import scipy.sparse as sp

import infae
from experiments.bench.measure import alone, peak_bytes, table
from experiments.kd import data
from experiments.kd.protocol import by_history, figures, ranks
from experiments.kd.students import BITS, Student, factorised, load
from experiments.kd.teachers import closed
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Run
from infae.runtime import checks
from infae.runtime.progress import bar

TEACHER = "∞-AE"
REG = 0.1
"""Of students' regressions; the best on CiteULike's validation clicks, of 0.1, 1 and 10."""
NOTES = (
    "One core: a process of its own, bound to it. p50 and p99 are of 200 single users, whose scores of all items are "
    "worked out; throughput is the median of 5 thousands.",
    "Peak memory is that of the whole process, with Python and its libraries.",
    "Students of 8 bits are read back as float32, so that they differ from those of 32 on disk alone.",
)


@dataclass(frozen=True)
class Config:
    preset: str = option("smoke", f"which defaults the other flags have: {', '.join(flags.PRESETS)}")
    data: str = option("made", f"one of {', '.join(data.DATASETS)}", quick="ml-100k", paper="citeulike")
    data_dir: str = option("", flags.DATA_DIR)
    ranks: tuple[int, ...] = option((8,), "of students", quick=(10, 20, 50, 100), paper=(20, 50, 100, 200, 400, 800))
    items: tuple[int, ...] = option((1000,), "catalogues of made items", quick=(10_000, 100_000),
        paper=(10_000, 100_000, 1_000_000))  # fmt: skip
    dims: tuple[int, ...] = option((8,), "dimensions in those", quick=(20, 200))
    seed: int = option(0, "of the split")
    out: str = option("out/kd_sizes", "output folder")
    plot: bool = option(True, "draw pictures")


def run(config: Config) -> dict[str, Any]:
    checks.choice("--data", config.data, data.DATASETS)
    split = data.split(config.data, config.seed, config.data_dir or None)
    for name in ("ranks", "items", "dims"):
        for value in getattr(config, name):
            checks.whole(f"--{name}", value)
    job = Run(config, title="Sizes and times of students", shows="Figures 2 and 3 of GD-REC")
    with job.clock("students"), TemporaryDirectory() as folder:
        rows = [*models(config, split, Path(folder))]
    with job.clock("catalogues"):
        catalogues = [
            {"items": n_items, "dim": dim, **bound(of_catalogue, n_items, dim)}
            for n_items in config.items
            for dim in config.dims
        ]
    job.draw("pareto.png", _draw, rows)
    columns = "model|bits|H@50|N@50|share of the teacher's N@50|parameters|bytes|of the teacher's|peak memory"
    columns += "|one user, p50|p99|users a second|times the teacher's"
    cells = "{model}|{bits}|{H@50:.2%}|{N@50:.2%}|{kept:.1%}|{parameters:,}|{bytes:,}|{size:.1%}|{peak_mib:,.0f} MiB"
    cells += "|{p50_ms:.2f} ms|{p99_ms:.2f} ms|{per_second:,.0f}|{faster:.1f}"
    times = table(
        "Catalogues of made items", "items|dimensions|one user, p50|p99",
        "{items:,}|{dim}|{p50_ms:.2f} ms|{p99_ms:.2f} ms", catalogues,
    )  # fmt: skip
    shown = [table(f"{config.data}, test", columns, cells, rows), times]
    return job.write(shown, notes=NOTES, data=config.data, rows=rows, catalogues=catalogues)


def models(config: Config, split: infae.Split, folder: Path) -> Any:
    """A row of the teacher and of each student."""
    teacher = closed(TEACHER, split).candidate[1]
    wide = factorised(by_history(teacher, split.train), split.train, max(config.ranks), REG)
    histories = split.train.matrix[:1000]
    path = folder / "teacher.npz"
    teacher.save(path)
    n_users = teacher.user_ids_.size
    first = {
        "model": TEACHER, "bits": 32, "parameters": n_users * split.train.n_items,
        **measured(path, infae.load, teacher, split, histories),
    }  # fmt: skip
    rows = [first]
    for rank in bar("students", True, config.ranks, "student"):
        for bits in BITS[::-1]:
            path = folder / "student.npz"
            wide.narrowed(rank).save(path, bits)
            student = load(path)
            found = measured(path, load, student, split, histories)
            rows.append({"model": f"rank {rank}", "bits": bits, "parameters": student.n_parameters, **found})
    for row in rows:
        yield {
            **row, "kept": row["N@50"] / first["N@50"], "size": row["bytes"] / first["bytes"],
            "faster": row["per_second"] / first["per_second"],
        }  # fmt: skip


def measured(path: Path, read: Any, model: Any, split: infae.Split, histories: sp.csr_matrix) -> dict[str, Any]:
    tested = figures(ranks(by_history(model, split.train), split, "test"), (50,))
    return {**tested, "bytes": path.stat().st_size, **bound(on_one_core, read, path, histories)}


def on_one_core(read: Any, path: Path, histories: sp.csr_matrix) -> dict[str, float]:
    """Times of a model that is read from its file, in a fresh process."""
    model = read(path)
    found = times(model, [histories[k] for k in range(min(200, histories.shape[0]))])
    model.predict(histories)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        np.asarray(model.predict(histories))
        seconds.append(time.perf_counter() - started)
    return {**found, "per_second": histories.shape[0] / float(np.median(seconds)), "peak_mib": peak_bytes() / 2**20}


def of_catalogue(n_items: int, dim: int, n_clicks: int = 20) -> dict[str, float]:
    """Times of a student of random tables, in a fresh process."""
    rng = np.random.default_rng(0)
    encode, decode = (rng.standard_normal((n_items, dim), np.float32) for _ in range(2))
    student = Student(encode, decode, encode[0], encode[0], decode[:, 0], np.arange(n_items))
    shape = (1, n_items)
    rows = [rng.choice(n_items, n_clicks, replace=False) for _ in range(50)]
    ones = np.ones(n_clicks, np.float32)
    return times(student, [sp.csr_matrix((ones, (0 * items, items)), shape=shape) for items in rows])


def times(model: Any, users: Sequence[sp.csr_matrix]) -> dict[str, float]:
    """Milliseconds of one user's scores, after one that is not counted."""
    np.asarray(model.predict(users[0]))
    found = []
    for user in users:
        started = time.perf_counter()
        np.asarray(model.predict(user))
        found.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.percentile(found, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def bound(measure: Callable[..., dict[str, float]], *args: Any) -> dict[str, float]:
    """What a fresh process measures that is bound to one core, with all of its threads, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return alone(measure, *args)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # which the process inherits
    try:
        return alone(measure, *args)
    finally:
        os.sched_setaffinity(0, cores)


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Accuracy over bytes, and over milliseconds, whose noise no line should join."""
    drawn, panels = plots.figure(2)
    for panel, name, line, label in (
        (panels[0], "bytes", "-", "bytes on disk"), (panels[1], "p50_ms", "", "ms a user, p50"),
    ):  # fmt: skip
        for bits, marker in zip(BITS, "os", strict=True):
            students = [row for row in rows if row["bits"] == bits and row["model"] != TEACHER]
            panel.plot([row[name] for row in students], [100 * row["N@50"] for row in students], f"{marker}{line}",
                color=plots.ACCENT if bits == BITS[0] else plots.INK, label=f"students, {bits} bits")  # fmt: skip
            for row in students if bits == BITS[0] else ():
                at = (row[name], 100 * row["N@50"])
                panel.annotate(row["model"], at, (6, -8), textcoords="offset points", fontsize=6)
        panel.plot(rows[0][name], 100 * rows[0]["N@50"], "*", color="#e67e22", ms=12, label=rows[0]["model"])
        panel.set(xlabel=label, ylabel="test N@50, %")
    panels[0].set_xscale("log")
    panels[1].set_xlim(left=0)
    panels[0].legend(frameon=False, fontsize=7, loc="lower right")
    plots.save(drawn, path)


if __name__ == "__main__":
    flags.main(Config, run)
