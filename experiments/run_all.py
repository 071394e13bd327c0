"""All studies of the papers, one after the other, and the page of their results.

    python -m experiments.run_all                    # embedded synthetic data, offline
    python -m experiments.run_all --preset=quick     # all of them on ml-100k, within 15 minutes on two cores
    python -m experiments.run_all --preset=paper     # the full protocol: hours

Each study writes into its own folder, and goes on there where it was stopped; at the end there is
`report.html`. A study that fails is told at the end, and the others are done nevertheless.
"""

import importlib
import time
from dataclasses import dataclass
from typing import Any

from experiments import report
from experiments.study import flags
from experiments.study.flags import option
from experiments.study.page import check_installed
from experiments.study.record import output_folder
from infae.runtime import checks

STUDIES = (
    "table_1", "sample_efficiency", "transfer", "noise", "continual", "depth", "coldness", "deanonymise",
    "augmentation", "ctr_table_2", "ctr_data_free_kd", "ctr_retraining", "ctr_freezing", "ctr_size",
    "ctr_summaries", "ctr_models", "kd_table_2", "kd_teachers", "kd_privacy", "kd_sizes", "kd_lambda", "kd_methods",
    "kd_transfer_sets", "kd_topology",
)  # fmt: skip
"""In the order of the papers and their figures."""


@dataclass(frozen=True)
class Config:
    preset: str = option("smoke", f"which defaults the studies have: {', '.join(flags.PRESETS)}")
    data_dir: str = option("", flags.DATA_DIR)
    studies: tuple[str, ...] = option(STUDIES, "which")
    out: str = option("out/all", "output folder, with a folder for each study")
    plot: bool = option(True, "draw pictures")


def study(name: str) -> Any:
    """A study's module."""
    package = {"ctr": "inversion", "kd": "kd"}.get(name.split("_")[0], "infinite")
    return importlib.import_module(f"experiments.{package}.{name}")


def run(config: Config) -> dict[str, float]:
    """Run the studies, write the page, and return the seconds that each took.

    Raises ValueError for an unknown study, and `flags.StudiesFailedError` at the end where one failed.
    """
    checks.choice("--preset", config.preset, flags.PRESETS)
    for name in config.studies:
        checks.choice("--studies", name, STUDIES)
    check_installed()
    folder = output_folder(config.out)
    seconds, failures = {}, []
    for name in config.studies:
        started = time.perf_counter()
        try:
            module = study(name)
            settings = flags.configure(
                module.Config,
                preset=config.preset,
                data_dir=config.data_dir,
                out=str(folder / name),
                plot=config.plot,
                # Studies of one run share summaries and searches, where they make any.
                **({"shared": f"{config.out}/shared"} if hasattr(module.Config, "shared") else {}),
            )
            module.run(settings)
        except Exception as error:
            # Whatever it is, PyTorch that is missing too, the others are worth having; it is told below.
            failures.append(f"{name}: {type(error).__name__}: {error}")
        seconds[name] = time.perf_counter() - started
    print("  ".join(f"{name} {taken:.0f} s" for name, taken in seconds.items()))
    try:
        report.run(report.Config(results=str(folder), out=str(folder)))
    except (ValueError, OSError) as error:
        failures.append(f"report: {error}")
    if failures:
        raise flags.StudiesFailedError("failed; the others are done:\n" + "\n".join(failures))
    return seconds


if __name__ == "__main__":
    flags.main(Config, run)
