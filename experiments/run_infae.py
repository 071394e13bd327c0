"""The main job: fit ∞-AE to a data set, choose reg on validation, report on test beside baselines.

    python -m experiments.run_infae                    # an embedded synthetic set, offline
    python -m experiments.run_infae --dataset=ml-1m    # the paper's protocol on the paper's split

Writes into the output folder: `model.npz` (for `infae.load`), `record.json` (flags, versions,
timings, metrics), `table.md` and `reg_path.png`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import infae
from experiments.recommenders import PopRec, select_ease
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Run, described, load_any
from experiments.study.tables import IN_PERCENT, results_table
from infae.runtime import checks

_PARAMETERS = (
    "metric", "depth", "w_std", "b_std", "popularity_power", "row_power", "solver", "n_anchors", "anchors", "seed",
    "dtype",
)  # fmt: skip
"""Flags that `infae.fit` takes by the same names."""


@dataclass(frozen=True)
class Config(flags.LoadConfig):
    """Flags of the run; the defaults are the paper's protocol (section 5, appendix B.3)."""

    reg: tuple[float, ...] = option((0.0, 1.0, 5.0, 20.0, 50.0, 100.0), "reg to try, relative to the mean diagonal")
    metric: str = option("HR@100", "what reg and EASE's lambda are chosen by, on validation")
    depth: int = option(1, "hidden layers")
    w_std: float = option(2**0.5, "weight scale")
    b_std: float = option(0.1, "bias scale")
    popularity_power: float = option(0.0, "inputs times item popularity to this power; 0 as published")
    row_power: float = option(0.0, "input rows are divided by their length to this power; 1 is unit length")
    solver: str = option("exact", "exact; cg, the same by iteration; nystrom, all users on landmarks; or auto")
    n_anchors: int = option(1000, "landmarks of --solver=nystrom, and of auto where that chooses it")
    anchors: str = option("uniform", "how landmarks are made: uniform, rpcholesky or kmeans")
    dtype: str = option("float32", "float32 or float64")
    k: tuple[int, ...] = option((10, 100), "cut-offs of the metrics")
    baselines: tuple[str, ...] = option(("popularity", "ease"), "popularity, ease, or none")
    ease_lambda: tuple[float, ...] = option(
        (1.0, 10.0, 100.0, 300.0, 500.0, 1000.0, 3000.0, 10000.0), "lambda to try for EASE"
    )
    seed: int = option(0, "of made splits, synthetic data, landmarks and sampled negatives")
    out: str = option("out/run_infae", "output folder")
    save_model: bool = option(True, "write model.npz")
    plot: bool = option(True, "write reg_path.png")


def run(config: Config) -> dict[str, Any]:
    for name in config.baselines:
        checks.choice("--baselines", name, ("popularity", "ease", "none"))
    for k in config.k:
        checks.whole("--k", k)
    job = Run(config, title="∞-AE, tuned and tested")
    with job.clock("load"):
        split = load_any(config, config.seed)
    with job.clock("fit"):
        regs: Any = {"reg": config.reg, "validation": split} if len(config.reg) > 1 else {"reg": config.reg[0]}
        parameters = {name: getattr(config, name) for name in _PARAMETERS}
        model = infae.fit(split.train, progress=True, **regs, **parameters)
    # What took longest is on disk before anything else can go wrong.
    if config.save_model:
        with job.clock("write"):
            model.save(job.folder / "model.npz")
    test = partial(infae.evaluate, split=split, k=config.k, seed=config.seed, progress=True)
    with job.clock("test"):
        reports = {f"∞-AE, reg {model.reg_:g}": test(model)}
    found: dict[str, Any] = {}
    if "popularity" in config.baselines:
        with job.clock("popularity"):
            reports["PopRec"] = test(PopRec().fit(split.train))
    if "ease" in config.baselines:
        with job.clock("ease"):
            try:
                chosen = select_ease(split, config.ease_lambda, metric=config.metric, progress=True)
                found["ease_path"] = chosen.tried
                reports[f"EASE, lambda {chosen.candidate.reg:g}"] = test(chosen.candidate)
            except (MemoryError, ValueError) as error:
                # Too many items, or no validation part: the rest of the run stands without it.
                found["ease_failure"] = str(error)
                print(f"EASE left out: {error}")
    if len(config.reg) > 1:
        title = f"∞-AE on {config.dataset}"
        job.draw("reg_path.png", plots.reg_path, model.path_, config.metric, model.reg_, title)
    columns = [name for name in next(iter(reports.values())) if not name.startswith("PSP-printed")]
    table = results_table(f"Test, {IN_PERCENT}", {name: [report] for name, report in reports.items()}, columns)
    record = job.write(
        [table], notes=[split.note] if split.note else [], data=described(split), reg=model.reg_,
        residual=model.residual_, solver=model.solver_, path=model.path_, **found,
        test={name: {**report, "users": len(report.users)} for name, report in reports.items()},
    )  # fmt: skip
    print("  ".join(f"{step} {seconds:.1f} s" for step, seconds in job.clock.seconds.items()))
    print(f"wrote {', '.join(sorted(path.name for path in job.folder.iterdir()))} into {job.folder}")
    return record


if __name__ == "__main__":
    flags.main(Config, run)
