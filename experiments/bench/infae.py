"""Speed and memory of ∞-AE, as ratios within one run: `python -m experiments.bench.infae`.

(a) the fused Gram matrix against neural-tangents' compiled kernel, on clicks of ML-1M's shape
    and of Gowalla's sparsity; (b) a whole grid search with evaluation against the paper's
    pseudo-code done plainly; (c) Gram and solve as shares of this machine's float32
    matrix-product rate; (d) time and peak memory over user counts.

Writes `record.json`, `table.md` and `bench_infae.png`. Machines are shared and noisy:
the sides of (a) and (c) are timed in turns and the best counts; (b) runs once a side, each
with its own compilation, as a person would run it.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

import infae
from experiments.bench.measure import best_seconds, peak_bytes, table, timed
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Run, described
from experiments.study.tables import Table
from infae.data import Interactions, Split
from infae.data.synthetic import synthetic
from infae.kernels.grams import symmetric_gram
from infae.kernels.relu import ReluNTK
from infae.kernels.rows import Rows
from infae.kernels.stax import fully_connected
from infae.linalg.tiles import precision
from infae.solvers import factor, inverse, solve

REGS = (0.0, 1.0, 5.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True)
class Config:
    """Flags; smaller numbers make a quick look."""

    data_dir: str = option("", "folder that holds the data sets; INFAE_DATA where empty; synthetic data without")
    users: tuple[int, ...] = option((1000, 2000, 4000, 8000, 16000), "user counts of (d)")
    n_items: int = option(3706, "items of (d) and of synthetic data in place of ML-1M")
    mean_clicks: int = option(131, "clicks a user of the same")
    sparse_users: int = option(10_000, "users of the sparse comparison in (a)")
    sparse_items: int = option(40_981, "its items: Gowalla's")
    repeats: int = option(3, "timings of each side, of which the best counts")
    seed: int = option(0, "of synthetic data")
    out: str = option("out/bench_infae", "output folder")
    plot: bool = option(True, "write bench_infae.png")


def run(config: Config) -> dict[str, Any]:
    job = Run(config, title="Speed and memory of ∞-AE")
    with job.clock("measure"):
        # (d) goes first: the process's peak memory only ever rises.
        scaling = [_scaling_row(config, n) for n in sorted(config.users)]
        split = _split(config)
        sparse = synthetic(config.sparse_users, config.sparse_items, mean_clicks=27, seed=config.seed).interactions
        found: dict[str, Any] = {
            "gram": {
                split.name: _compare_grams(split.train, config.repeats),
                f"Gowalla's sparsity, {sparse.n_users:,} users": _compare_grams(sparse, max(1, config.repeats - 2)),
            },
            "grid_search": _compare_searches(split, REGS),
            # Ours passes over reg 0, where the plain way solves: this one has both solve as often.
            "grid_search_above_0": _compare_searches(split, REGS[1:]),
            "rates": _rates(split.train.matrix, config.repeats),
            "scaling": scaling,
        }
    job.draw("bench_infae.png", _draw, found, config.n_items)
    return job.write(_tables(found, split.name), data=described(split), **found)


def plain_search(split: Split, regs: tuple[float, ...]) -> list[float]:
    """Validation HR@100 for each reg, plainly: kernel, solve, kernel again and a full sort each time.

    Algorithms 1 and 2 as printed, on neural-tangents' compiled kernel; the users ranked have
    held-out items. At reg = 0 this ranks rounding error.
    """
    kernel = fully_connected()
    context, held_out = split.train.matrix.toarray(), split.validation.matrix.toarray()
    n_held_out = held_out.sum(axis=1)
    known, values = n_held_out > 0, []
    for reg in regs:
        train = jnp.asarray(context)
        gram = kernel(train, None)
        ridge = reg * jnp.trace(gram) / len(gram)
        alpha = jnp.linalg.solve(gram + ridge * jnp.eye(len(gram)), train)
        scores = np.array(kernel(jnp.asarray(context), None) @ alpha)
        scores[context > 0] = -np.inf
        best = np.argsort(-scores, axis=1)[:, :100]
        hits = np.take_along_axis(held_out, best, axis=1).sum(axis=1)
        values.append(float(np.mean(hits[known] / np.minimum(100, n_held_out[known]))))
    return values


def _split(config: Config) -> Split:
    try:
        return infae.data.load("ml-1m", config.data_dir or None)
    except infae.DataNotFoundError:
        return infae.data.random_split(_clicks(config, 6040), seed=config.seed, name="synthetic, ML-1M's shape")


def _clicks(config: Config, n_users: int) -> Interactions:
    return synthetic(n_users, config.n_items, mean_clicks=config.mean_clicks, seed=config.seed).interactions


def _compare_grams(interactions: Interactions, repeats: int) -> dict[str, float]:
    theirs, clicks = fully_connected(), interactions.matrix
    dense = jnp.asarray(clicks.toarray())
    # With one argument: neural-tangents takes 2.7 times as long when given the same rows twice.
    one, ours = best_seconds(lambda: theirs(dense, None), lambda: _gram(clicks), repeats=repeats)
    gap = float(jnp.abs(jnp.asarray(_gram(clicks[:2000]).to_dense()) - theirs(dense[:2000], None)).max())
    return {"neural_tangents_s": one, "fused_s": ours, "times_as_fast": one / ours, "largest_difference": gap}


def _gram(clicks: sp.csr_matrix) -> Any:
    with precision(np.float32):
        gram = symmetric_gram(ReluNTK(), Rows(clicks, np.float32))
        jax.block_until_ready(gram.tiles)
    return gram


def _compare_searches(split: Split, regs: tuple[float, ...]) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", infae.IllConditionedWarning)
        # Compilation is part of both: a search is run once, not in a loop.
        jax.clear_caches()
        ours, model = timed(lambda: infae.fit(split.train, regs, validation=split))
    jax.clear_caches()
    theirs, plain = timed(lambda: plain_search(split, regs))
    pairs = [(row["HR@100"], value) for row, value in zip(model.path_, plain, strict=True) if "HR@100" in row]
    return {
        "plain_s": theirs,
        "ours_s": ours,
        "times_as_fast": theirs / ours,
        "reg": model.reg_,
        "largest_difference_in_HR@100": max(abs(a - b) for a, b in pairs),
    }


def _rates(clicks: sp.csr_matrix, repeats: int) -> dict[str, float]:
    n, m = clicks.shape
    square = jnp.asarray(np.random.default_rng(0).standard_normal((4096, 4096), np.float32))
    product = jax.jit(jnp.matmul)
    gram = _gram(clicks)
    factored = factor(gram, 5.0)
    seconds = best_seconds(
        lambda: product(square, square),
        lambda: _gram(clicks),
        lambda: inverse(gram, factored.ridge).tiles,
        lambda: solve(factored, clicks).coef,
        repeats=repeats,
    )
    rate = 2 * 4096**3 / seconds[0]
    return {
        "product_gflops": rate / 1e9,
        "gram_share": n**2 * m / seconds[1] / rate,
        "factor_share": n**3 / seconds[2] / rate,
        "coefficients_share": 2 * n**2 * m / seconds[3] / rate,
        "factor_and_coefficients_share": (n**3 + 2 * n**2 * m) / (seconds[2] + seconds[3]) / rate,
        "gram_s": seconds[1],
        "factor_s": seconds[2],
        "coefficients_s": seconds[3],
    }


def _scaling_row(config: Config, n_users: int) -> dict[str, float]:
    clicks = _clicks(config, n_users)
    fit_s, model = timed(lambda: infae.fit(clicks, 5.0))
    seconds, _ = timed(lambda: model.recommend(clicks.select_users(np.arange(min(1000, n_users))), n=10))
    return {"users": n_users, "fit_s": fit_s, "recommend_1000_s": seconds, "peak_gib": peak_bytes() / 2**30}


def _tables(found: dict[str, Any], data: str) -> list[Table]:
    rates = found["rates"]
    parts = {
        "Gram, as a dense symmetric product": "gram",
        "inverse, n^3": "factor",
        "coefficients, as a dense product": "coefficients",
    }
    return [
        table(
            "(a) Gram matrix",
            "|neural-tangents|fused|times as fast",
            "{what}|{neural_tangents_s:.2f} s|{fused_s:.2f} s|{times_as_fast:.1f}",
            [{"what": name, **row} for name, row in found["gram"].items()],
        ),
        table(
            f"(b) Grid search with evaluation, {data}",
            "|plain|ours|times as fast",
            "{what}|{plain_s:.1f} s|{ours_s:.1f} s|{times_as_fast:.1f}",
            [
                {"what": "6 regs; ours passes over reg 0 unsolved", **found["grid_search"]},
                {"what": "the 5 regs above 0; both solve 5 times", **found["grid_search_above_0"]},
            ],
        ),
        table(
            f"(c) Of {rates['product_gflops']:.0f} GFLOP/s in a float32 matrix product",
            "|seconds|share",
            "{what}|{seconds:.2f}|{share:.0%}",
            [{"what": x, "seconds": rates[f"{p}_s"], "share": rates[f"{p}_share"]} for x, p in parts.items()],
        ),
        table(
            "(d) As users grow",
            "users|fit|1,000 recommendation lists|peak memory of the process",
            "{users:,}|{fit_s:.1f} s|{recommend_1000_s:.1f} s|{peak_gib:.2f} GiB",
            found["scaling"],
        ),
    ]


def _draw(path: Path, record: dict[str, Any], n_items: int) -> None:
    drawn, (left, right) = plots.figure(2)
    searches = {"the same above reg 0": record["grid_search_above_0"], "grid search": record["grid_search"]}
    bars = searches | dict(reversed(record["gram"].items()))
    factors = [row["times_as_fast"] for row in bars.values()]
    left.barh([*bars], factors, color=plots.INK, height=0.5)
    left.axvline(1, color=plots.ACCENT)
    left.bar_label(left.containers[0], [f"{x:.1f}x" for x in factors], padding=4)
    left.set(xscale="log", xlabel="times as fast as neural-tangents, done plainly")
    left.grid(visible=False)
    left.margins(x=0.2)
    users = [row["users"] for row in record["scaling"]]
    right.plot(users, [row["fit_s"] for row in record["scaling"]], "o-", color=plots.INK, label="fit, s")
    right.plot(users, [row["peak_gib"] for row in record["scaling"]], "s--", color=plots.ACCENT, label="peak, GiB")
    right.set(xscale="log", yscale="log", xlabel="users", title=f"{n_items:,} items")
    right.set_xticks(users, [f"{n:,}" for n in users], minor=False)
    right.minorticks_off()
    right.legend(frameon=False)
    plots.save(drawn, path)


if __name__ == "__main__":
    flags.main(Config, run)
