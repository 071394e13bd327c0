"""The main job: fit ∞-AE to a data set, choose reg on validation, report on test beside baselines.

    python -m experiments.run_infae                    # an embedded synthetic set, offline
    python -m experiments.run_infae --dataset=ml-1m    # the paper's protocol on the paper's split

Writes into the output folder: `model.npz` (for `infae.load`), `record.json` (flags, versions,
timings, metrics), `table.md` and `reg_path.png`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import infae
from experiments.recommenders import PopRec, select_ease
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.record import Stopwatch, header, output_folder, write_json, write_text
from infae.ranking.evaluate import Recommender


@dataclass(frozen=True)
class Config:
    """Flags of the run; the defaults are the paper's protocol (section 5, appendix B.3)."""

    dataset: str = option("synthetic", "one of infae.data.datasets.names(), or the path of a file of clicks")
    data_dir: str = option("", "folder that holds the data sets; INFAE_DATA where empty")
    download: bool = option(False, "fetch the data set where it has a stable public address")
    validation_fraction: float = option(0.0, "share of train to hold out where the set has no validation part")
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
    """Run the job and return the record that is written."""
    folder = output_folder(config.out)
    record: dict[str, Any] = _checked(config)
    clock = Stopwatch()
    with clock("load"):
        split = infae.data.load(config.dataset, config.data_dir or None, seed=config.seed, download=config.download)
        if config.validation_fraction:
            split = infae.data.with_validation(split, fraction=config.validation_fraction, seed=config.seed)
    print(split, split.note, sep="\n" if split.note else "")
    model = _fit(config, split, clock)
    # What took longest is on disk before anything else can go wrong.
    if config.save_model:
        with clock("write"):
            model.save(folder / "model.npz")
    with clock("test"):
        reports = {f"∞-AE, reg {model.reg_:g}": _test(model, split, config)}
    record |= {
        "split": {"name": split.name, "note": split.note, "shape": split.train.shape},
        "reg": model.reg_,
        "residual": model.residual_,
        "solver": model.solver_,
        "path": model.path_,
        **_baselines(config, split, clock, reports),
        "test": {name: {**report, "users": len(report.users)} for name, report in reports.items()},
        "seconds": clock.seconds,
    }
    write_json(folder / "record.json", record)
    columns = [name for name in reports[next(iter(reports))] if not name.startswith("PSP-printed")]
    text = flags.table(reports, columns)
    write_text(folder / "table.md", text + "\n")
    print(f"\nTest, in percent (AUC as it is):\n\n{text}\n")
    if config.plot and len(config.reg) > 1:
        plots.reg_path(folder / "reg_path.png", model.path_, config.metric, model.reg_, f"∞-AE on {config.dataset}")
    print("  ".join(f"{step} {seconds:.1f} s" for step, seconds in clock.seconds.items()))
    print(f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} into {folder}")
    return record


def _checked(config: Config) -> dict[str, Any]:
    """The record's head; whatever flags or packages are wrong is told now, not after the fit."""
    if unknown := set(config.baselines) - {"popularity", "ease", "none"}:
        raise ValueError(f"unknown baseline {', '.join(sorted(unknown))}; expected popularity, ease or none")
    if not all(k >= 1 for k in config.k):
        raise ValueError(f"--k must be whole numbers of at least 1, got {config.k}")
    if config.plot:
        plots.figure()
    return header(config)


def _test(model: Recommender, split: infae.Split, config: Config) -> infae.Report:
    return infae.evaluate(model, split, k=config.k, seed=config.seed, progress=True)


def _fit(config: Config, split: infae.Split, clock: Stopwatch) -> infae.InfiniteAE:
    with clock("fit"):
        return infae.fit(
            split.train,
            config.reg if len(config.reg) > 1 else config.reg[0],
            validation=split if len(config.reg) > 1 else None,
            progress=True,
            depth=config.depth,
            w_std=config.w_std,
            b_std=config.b_std,
            popularity_power=config.popularity_power,
            row_power=config.row_power,
            solver=config.solver,
            n_anchors=config.n_anchors,
            anchors=config.anchors,
            seed=config.seed,
            dtype=config.dtype,
            metric=config.metric,
        )


def _baselines(
    config: Config, split: infae.Split, clock: Stopwatch, reports: dict[str, infae.Report]
) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if "popularity" in config.baselines:
        with clock("popularity"):
            reports["PopRec"] = _test(PopRec().fit(split.train), split, config)
    if "ease" in config.baselines:
        with clock("ease"):
            try:
                ease, chosen["ease_path"] = select_ease(split, config.ease_lambda, metric=config.metric, progress=True)
                reports[f"EASE, lambda {ease.reg:g}"] = _test(ease, split, config)
            except (MemoryError, ValueError) as error:
                # Too many items, or no validation part: the rest of the run stands without it.
                chosen["ease_failure"] = str(error)
                print(f"EASE left out: {error}")
    return chosen


if __name__ == "__main__":
    flags.main(Config, run)
