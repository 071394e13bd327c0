"""Distillation without data: a DeepFM learns from teachers on rows made out of them. Table 3 of model inversion.

    python -m experiments.inversion.ctr_data_free_kd                    # made clicks, offline
    python -m experiments.inversion.ctr_data_free_kd --preset=quick     # Yahoo! R3 uniform, reduced
    python -m experiments.inversion.ctr_data_free_kd --preset=paper     # Yahoo! R3 and ML-1M, three splits

Rows are made out of each teacher, and the student learns the teacher's probabilities on them at a temperature that is
chosen, like all else, on validation rows. Writes `record.json`, `table.md`, a picture of each table and `cells/`, from
which a run that was stopped goes on.
"""

from dataclasses import dataclass
from typing import Any

from experiments.inversion.ctr_table_2 import above_inverted
from experiments.inversion.sources import LEARNERS, SOURCES
from experiments.inversion.study import NOTES, TablesConfig, begin, beside_published, places
from experiments.study import flags
from experiments.study.flags import option
from experiments.study.runner import each

EXTRACTED = (
    "LRME, FMME and DeepFMME are 10,000 rows by queries, after data-free model extraction (Yue et al. 2021), which is "
    "of sequences; how it carries over is in experiments.inversion.queried."
)


@dataclass(frozen=True)
class Config(TablesConfig):
    sources: tuple[str, ...] = option(
        ("LRME", "LRSD", "designed FM"), f"some of {', '.join(n for n, s in SOURCES.items() if s.teacher)}", axis=True,
        quick=("LRME", "FMME", "LRSD", "FMSD", "designed LR", "designed FM"),
        paper=(
            "LRME", "FMME", "DeepFMME", "LRSD", "FMSD", "DeepFMSD", "DeepFMSD-BN", "designed LR", "designed FM",
            "designed DeepFM",
        ),
    )  # fmt: skip
    learners: tuple[str, ...] = option(("DeepFM",), f"students, some of {', '.join(LEARNERS)}", axis=True)
    n_rows: int = option(500, "of a synthetic set, but for those by queries", quick=2000)
    out: str = option("out/ctr_data_free_kd", "output folder")


def run(config: Config) -> dict[str, Any]:
    if without := [name for name in config.sources if name in SOURCES and not SOURCES[name].teacher]:
        raise ValueError(f"--sources must be made out of a teacher, got {', '.join(without)}")
    study, workshop = begin(config, title="Distillation without data", shows="Table 3 of model inversion", version=1)
    frame = study.run(each(places(config, source=config.sources, learner=config.learners), workshop.distilled))
    shown = beside_published(study, config, frame, "table_3")
    return study.write(shown, [*above_inverted(frame)], [*NOTES, EXTRACTED], data=", ".join(config.tables))


if __name__ == "__main__":
    flags.main(Config, run)
