"""What a step of DISTILL-CF costs: seconds and memory against draws, users, items and batch.

    python -m experiments.bench.distillcf

On made data of ML-1M's shape and density (no data set is read). Each row is measured in a process
of its own: seconds are the median of a few steps after compilation, memory is what XLA plans for
the step beyond its arguments, and the peak of the whole process. Writes `record.json`, `table.md`
and `bench_distillcf.png`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distillcf import prior
from distillcf.batches import Batches
from distillcf.config import Config as Settings
from distillcf.inner import Student
from distillcf.losses import LOSSES, Objective
from distillcf.prior import initial_logits
from distillcf.step import outer_loss
from experiments.bench.measure import alone, peak_bytes, product_rate, timed
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Run
from experiments.study.tables import Table, label
from infae.data.synthetic import synthetic
from infae.linalg.tiles import precision
from infae.model import InfiniteAE


@dataclass(frozen=True)
class Config:
    """Flags of the benchmark; the defaults are ML-1M's shape."""

    n_real: int = option(6040, "real users")
    n_items: int = option(3706, "items")
    mean_clicks: float = option(131.0, "clicks a real user")
    n_users: int = option(500, "synthetic users")
    batch_size: int = option(1024, "real users a step")
    n_draws: tuple[int, ...] = option((50, 200, 700), "gamma")
    stored_draws: tuple[int, ...] = option((10, 50), "gamma for stored samples, which take memory in proportion")
    users: tuple[int, ...] = option((100, 250, 500, 1000), "synthetic users to compare")
    items: tuple[int, ...] = option((1000, 3706, 10000), "items to compare")
    batches: tuple[int, ...] = option((256, 1024, 6040), "batches to compare")
    repeats: int = option(3, "steps to time")
    out: str = option("out/bench_distillcf", "output folder")
    plot: bool = option(True, "write bench_distillcf.png")


def run(config: Config) -> dict[str, Any]:
    job = Run(config, title="Seconds and memory of a distillation step")
    rate = product_rate()
    with job.clock("measure"):
        draws = dict(zip(SAMPLERS, (config.n_draws, config.stored_draws, config.n_draws), strict=True))
        rows = [alone(_sampler, config, form=form, n_draws=n) for form, counts in draws.items() for n in counts]
        rows += [alone(_step, config, **changes) for changes in _steps(config)]
    job.draw("bench_distillcf.png", _draw, rows)
    notes = [f"Matrix products run at {rate:.0f} GFLOP/s."]
    return job.write([_table(rows)], notes=notes, product_gflops=rate, rows=rows)


def stored_gumbel_inclusion(logits: jax.Array, key: jax.Array, n_draws: int, temperature: float) -> jax.Array:
    """`prior.gumbel_inclusion` by ordinary autodiff, with all samples stored: what it is compared with."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n_draws))
    noise = jax.vmap(lambda k: jax.random.gumbel(k, logits.shape))(keys)
    return jnp.minimum(jnp.sum(jax.nn.softmax((logits + noise) / temperature, axis=2), axis=0), 1)


SAMPLERS: dict[str, Callable[..., jax.Array]] = {
    "custom gradient": lambda x, key, n_draws: prior.gumbel_inclusion(x, key, n_draws, 0.5),
    "stored samples": lambda x, key, n_draws: stored_gumbel_inclusion(x, key, n_draws, 0.5),
    "expected inclusion": lambda x, key, n_draws: prior.expected_inclusion(x, n_draws),
}


def _sampler(config: Config, form: str, n_draws: int) -> dict[str, Any]:
    """The sampler alone, forward and backward."""
    rng = np.random.default_rng(0)
    logits, cotangent = (jnp.asarray(rng.standard_normal((config.n_users, config.n_items)), jnp.float32) for _ in "lc")
    step = jax.jit(jax.grad(lambda x, key: jnp.sum(cotangent * SAMPLERS[form](x, key, n_draws))))
    return {"what": f"sampler alone, {form}", "n_draws": n_draws, **_measure(config, step, logits, jax.random.key(0))}


def _steps(config: Config) -> list[dict[str, Any]]:
    gumbel = {"sampler": "gumbel", "batch_size": min(config.n_real, max(config.batches))}
    return [
        *({"what": "full batch, Gumbel", "n_draws": n, **gumbel} for n in config.n_draws),
        *({"what": "by draws", "n_draws": n} for n in config.n_draws),
        *({"what": "by synthetic users", "n_users": n} for n in config.users),
        *({"what": "by batch", "batch_size": n} for n in config.batches),
        {"what": "free labels", "labels": "free"},
        *({"what": "by items", "n_items": n} for n in config.items),
    ]


def _step(config: Config, what: str, n_items: int = 0, **changes: Any) -> dict[str, Any]:
    """A whole step: loss and gradient of the outer objective."""
    n_items = n_items or config.n_items
    clicks = synthetic(config.n_real, n_items, mean_clicks=min(config.mean_clicks, n_items / 4)).interactions
    defaults = {"n_users": config.n_users, "batch_size": config.batch_size, "objective": "softmax"}
    settings = Settings(**{**defaults, **changes})
    student = Student(*InfiniteAE(popularity_power=-0.25).components(clicks))
    objective = Objective(student, LOSSES[settings.objective])
    batch = Batches(clicks.matrix, settings, None)(0)
    start = initial_logits(clicks.matrix[: settings.n_users].toarray(), settings.n_draws)
    parameters = {"logits": jnp.asarray(start), "log_reg": jnp.float32(0)}
    step = jax.jit(jax.value_and_grad(outer_loss(settings, objective)))
    return {
        "what": f"step, {what}",
        "sampler": settings.sampler,
        "n_draws": settings.n_draws,
        "n_users": settings.n_users,
        "n_items": clicks.n_items,
        "batch": len(batch.shown),
        **_measure(config, step, parameters, batch, jnp.int32(0)),
    }


def _measure(config: Config, step: Any, *args: Any) -> dict[str, float]:
    """Seconds (median), bytes that XLA plans beyond the arguments, and the process's peak."""
    with precision(np.float32):
        compiled = step.lower(*args).compile()
        jax.block_until_ready(compiled(*args))
        seconds = [timed(lambda: compiled(*args))[0] for _ in range(config.repeats)]
    return {
        "seconds": float(np.median(seconds)),
        "planned_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "peak_bytes": peak_bytes(),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = "what", "sampler", "draws", "users", "items", "batch", "seconds", "planned MiB", "process peak MiB"
    shown = []
    for row in rows:
        settings = [label(row.get(name, "")) for name in ("what", "sampler", "n_draws", "n_users", "n_items", "batch")]
        memory = [f"{row[name] / 2**20:,.0f}" for name in ("planned_bytes", "peak_bytes")]
        shown.append([*settings, f"{row['seconds']:.3f}", *memory])
    return Table("A step, or the sampler alone", columns, shown, n_labels=2)


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    drawn, (left, right) = plots.figure(2)
    for name, style in zip(SAMPLERS, ("o-", "s--", "^-"), strict=True):
        found = [row for row in rows if row["what"] == f"sampler alone, {name}"]
        draws, seconds, planned = ([row[key] for row in found] for key in ("n_draws", "seconds", "planned_bytes"))
        left.plot(draws, seconds, style, label=name)
        right.plot(draws, np.divide(planned, 2**20), style, label=name)
    for panel in (left, right):
        panel.set(xscale="log", yscale="log", xlabel="draws a synthetic user")
    left.set(ylabel="seconds, forward and backward", title="The sampler alone")
    right.set(ylabel="planned memory, MiB")
    left.legend(frameon=False, fontsize=8)
    plots.save(drawn, path)


if __name__ == "__main__":
    flags.main(Config, run)
