"""∞-AE on landmarks as users grow: seconds and memory, and a set of Netflix's shape.

    python -m experiments.bench.scale

On made clicks (no data set is read), in memory before the clock starts; each size in a process of
its own. Writes `record.json`, `table.md` and `bench_scale.png`. With --largest=480000 the last row is
Netflix's shape: 480,000 users x 17,770 items, 100 million clicks, with --largest_anchors landmarks,
its blocks made anew on each of the fit's two passes, as if read from files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import infae
from experiments.bench.measure import alone, peak_bytes, product_rate, table, timed
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Run
from infae.data import Blocks

BLOCK = 8192


@dataclass(frozen=True)
class Config:
    users: tuple[int, ...] = option((10_000, 20_000, 40_000, 80_000, 160_000), "users to compare")
    n_items: int = option(17_770, "items")
    mean_clicks: float = option(208.0, "clicks a user")
    n_anchors: int = option(1000, "landmarks")
    largest: int = option(0, "users of one run more, with --largest_anchors; 0 for none")
    largest_anchors: int = option(5000, "landmarks of that run")
    out: str = option("out/bench_scale", "output folder")
    plot: bool = option(True, "write bench_scale.png")


def run(config: Config) -> dict[str, Any]:
    job = Run(config, title="Seconds and memory as users grow")
    rate = product_rate()
    with job.clock("measure"):
        rows = [alone(_fit, config, n, config.n_anchors) for n in config.users]
        users, seconds = (np.log([row[name] for row in rows]) for name in ("users", "fit_s"))
        slope = float(np.polyfit(users, seconds, 1)[0])
        if config.largest:
            rows.append(alone(_fit, config, config.largest, config.largest_anchors, streamed=True))
    job.draw("bench_scale.png", _draw, rows[: len(config.users)], slope)
    notes = [f"Matrix products run at {rate:.0f} GFLOP/s. Seconds of a fit grow as users to the power {slope:.2f}."]
    columns = "users|landmarks|clicks|fit|of these to make the clicks|1,000 users scored|peak"
    cells = "{users:,}|{anchors:,}|{clicks:,}|{fit_s:.1f} s|{made_s:.1f} s|{predict_1000_s:.2f} s|{peak_gib:.2f} GiB"
    fits = table("Fits on landmarks", columns, cells, rows)
    return job.write([fits], notes=notes, product_gflops=rate, rows=rows, slope=slope)


def made_clicks(n_users: int, n_items: int, mean_clicks: float) -> Blocks:
    """Users whose numbers of clicks are log-normal and whose items are drawn by a Zipf law; the same at every pass."""
    # Offset as in Zipf-Mandelbrot, or the first items would be everybody's.
    weight = 1 / (np.arange(n_items) + 100.0)
    cumulative = np.cumsum(weight / weight.sum())

    def blocks() -> Iterator[sp.csr_matrix]:
        for block, start in enumerate(range(0, n_users, BLOCK)):
            rng = np.random.default_rng([0, block])
            n = min(BLOCK, n_users - start)
            # Of a log-normal with this spread the mean is 1.65; an item drawn twice is one click.
            drawn = rng.poisson(mean_clicks * 1.12 / np.exp(0.5) * rng.lognormal(0, 1, n)) + 1
            rows = np.repeat(np.arange(n), np.minimum(drawn, n_items // 4))
            items = np.minimum(np.searchsorted(cumulative, rng.random(rows.size)), n_items - 1)
            cells = np.unique(rows * n_items + items)
            yield sp.csr_matrix((np.ones(cells.size, np.float32), np.divmod(cells, n_items)), shape=(n, n_items))

    return Blocks(blocks, n_items)


def _fit(config: Config, n_users: int, n_anchors: int, streamed: bool = False) -> dict[str, Any]:
    blocks = made_clicks(n_users, config.n_items, config.mean_clicks)
    clicks: Any = blocks
    if streamed:
        made_s, n_clicks = timed(lambda: sum(block.n_interactions for block in blocks))
    else:
        clicks = infae.Interactions.from_matrix(sp.vstack([block.matrix for block in blocks]))
        made_s, n_clicks = 0.0, clicks.n_interactions
    # Compiled on the first of them, whose blocks have the same shapes.
    first = made_clicks(min(n_users, 2 * BLOCK), config.n_items, config.mean_clicks)
    infae.fit(first, solver="nystrom", n_anchors=n_anchors)
    fit_s, model = timed(lambda: infae.fit(clicks, 5.0, solver="nystrom", n_anchors=n_anchors, progress=True))
    histories = next(iter(blocks)).matrix[:1000]
    predict_s, scores = timed(lambda: model.predict(histories))
    assert np.isfinite(scores).all()
    return {
        "users": n_users,
        "anchors": n_anchors,
        "clicks": n_clicks,
        "made_s": 2 * made_s,
        "fit_s": fit_s,
        "predict_1000_s": predict_s,
        "residual": model.residual_,
        "peak_gib": peak_bytes() / 2**30,
    }


def _draw(path: Path, rows: list[dict[str, Any]], slope: float) -> None:
    drawn, (left, right) = plots.figure(2)
    users = [row["users"] for row in rows]
    left.plot(users, [row["fit_s"] for row in rows], "o-", color=plots.INK)
    left.set(xscale="log", yscale="log", xlabel="users", ylabel="seconds to fit", title=f"slope {slope:.2f}")
    right.plot(users, [row["peak_gib"] for row in rows], "s-", color=plots.ACCENT)
    right.set(xscale="log", xlabel="users", ylabel="peak memory, GiB", ylim=(0, None))
    plots.save(drawn, path)


if __name__ == "__main__":
    flags.main(Config, run)
