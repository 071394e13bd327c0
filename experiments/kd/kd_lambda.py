"""How much of a student's loss should be its teacher's? Figure 4 of GD-REC.

    python -m experiments.kd.kd_lambda                    # made clicks, offline
    python -m experiments.kd.kd_lambda --preset=quick     # MovieLens-100K, reduced
    python -m experiments.kd.kd_lambda --preset=paper     # CiteULike, NeuMF, three seeds

Students of half of a teacher's parameters learn from generated lists, and from the teacher's scores of them by a
weight (Eq. 5). The paper finds 0.7 best and 1 not. Temperatures and epochs are chosen on validation clicks. Writes
`record.json`, `table.md`, a picture of each set and `cells/`, from which a run that was stopped goes on.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from experiments.kd.generated import SHARES, TEMPERATURES, ListsConfig, Made, begin_lists, best_student
from experiments.kd.study import places
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table
from infae.runtime import checks

NOTES = ("H@50 and N@50: a user's one test click among all items not clicked. A weight of 0 is of lists alone.",)


@dataclass(frozen=True)
class Config(ListsConfig):
    data: tuple[str, ...] = option(("made",), "see kd_table_2", axis=True, quick=("ml-100k",), paper=("citeulike",))
    models: tuple[str, ...] = option(("BPR",), "see kd_table_2", axis=True, paper=("NeuMF",))
    shares: tuple[float, ...] = option((0.5,), SHARES, axis=True, quick=(0.5,))
    weights: tuple[float, ...] = option((0.0, 0.7), "of the teacher's scores", axis=True,
        quick=(0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0))  # fmt: skip
    out: str = option("out/kd_lambda", "output folder")


def run(config: Config) -> dict[str, Any]:
    for weight in config.weights:
        checks.number("--weights", weight, least=0)
    made, study = begin_lists(config, "The weight of a teacher's scores", "Figure 4 of GD-REC", {})
    cells = places(config, model=config.models, share=config.shares, weight=config.weights)
    frame = study.run(each(cells, partial(cell, made)))
    shown = []
    for name, part in frame.groupby("data", sort=False):
        columns = ("H@50", "N@50")
        shown.append(metrics_table(part, ("model", "share", "weight"), columns, f"{name}, test"))
        panels = {metric: plots.lines(part, ["model", "share"], "weight", metric) for metric in columns}
        study.draw(f"{name}.png", plots.curves, panels, "weight", f"test on {name}, %")
    return study.write(shown, [], NOTES, data=", ".join(config.data))


def cell(made: Made, model: str, weight: float, share: float, data: str, seed: int) -> dict[str, Any]:
    """Test figures of the best student by validation, of several temperatures."""
    return best_student(made, model, share, data, seed, made.of_lists(model, data, seed, weight, TEMPERATURES))


if __name__ == "__main__":
    flags.main(Config, run)
