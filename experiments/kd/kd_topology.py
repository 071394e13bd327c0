"""A deep neural collaborative filter taught to a shallow one by topology: the RecPress proposal.

    python -m experiments.kd.kd_topology                    # made clicks, offline
    python -m experiments.kd.kd_topology --preset=quick     # MovieLens-100K, reduced
    python -m experiments.kd.kd_topology --preset=paper     # MovieLens-100K and CiteULike, three seeds

A NeuMF of 7 layers, and students of 2: alone, and by FTD and HTD, and by FitNet, DE and RRD beside. "searched" is the
student that a search over widths and depths finds, with as many parameters at most. Weights and epochs are chosen on
validation clicks. The proposal's authors report precision within batches of 64 pairs, in which teacher and student are
the same to four digits: there is no figure to compare with. Writes `record.json`, `table.md`, a picture of each set and
`cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from experiments.kd import data
from experiments.kd.architectures import searched, space
from experiments.kd.distillation import tried
from experiments.kd.methods import MOST_COMPARED
from experiments.kd.names import ALONE
from experiments.kd.protocol import by_position
from experiments.kd.study import SetsConfig, begin, places
from experiments.kd.teachers import BPR, METRIC, Teacher, value_on
from experiments.kd.workshop import AMONG, Workshop
from experiments.recommenders.neumf import Network, NeuMF
from experiments.recommenders.registry import Search
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table
from experiments.training.trainer import n_parameters
from infae.tuning.best import Trial, best

TEACHER, SEARCHED, BY = "teacher", "searched", "FTD"
"""`BY` is the method of the searched student."""
METHODS = (TEACHER, ALONE, "FTD", "HTD", "FitNet", "DE", "RRD", SEARCHED)
NETWORK = NeuMF(n_epochs=300, check_every=20, **BPR)
NOTES = (
    "H@50 and N@50: a user's one test click among all items not clicked; of 499: among 499 of them, drawn.",
    "The searched student learns by FTD, and has no more parameters than the other students.",
)


@dataclass(frozen=True)
class Config(SetsConfig):
    data: tuple[str, ...] = option(("made",), f"some of {', '.join(data.DATASETS)}", axis=True, quick=("ml-100k",),
        paper=("ml-100k", "citeulike"))  # fmt: skip
    methods: tuple[str, ...] = option(
        (TEACHER, ALONE, "FTD", SEARCHED), f"some of {', '.join(METHODS)}", axis=True, paper=METHODS
    )
    dim: int = option(8, "of the teacher", quick=128)
    student_dim: int = option(4, "of students", quick=32)
    layers: int = option(3, "of the teacher", quick=7)
    student_layers: int = option(1, "of students", quick=2)
    trials: int = option(2, "of the search over students", quick=4, paper=20)
    shared: str = option("out/shared", "folder in which the search goes on")
    out: str = option("out/kd_topology", "output folder")


def run(config: Config) -> dict[str, Any]:
    title = "A deep filter taught to a shallow one"
    uses = {"network": vars(NETWORK), "searched": [BY, space(BY), MOST_COMPARED]}
    study, workshop = begin(config, title=title, choices={"methods": METHODS}, uses=uses)
    frame = study.run(each(places(config, method=config.methods), partial(cell, workshop, config, {})))
    shown = []
    for name, part in frame.groupby("data", sort=False):
        columns = ("H@50", "N@50", "H@5" + AMONG)
        shown.append(metrics_table(part, ("method", "parameters"), columns, f"{name}, test"))
        rows = {method: cells.to_dict("records") for method, cells in part.groupby("method", sort=False)}
        study.draw(f"{name}.png", plots.grouped, rows, ["H@50", "H@5" + AMONG], {}, name)
    return study.write(shown, [], NOTES, data=", ".join(config.data))


def cell(
    workshop: Workshop, config: Config, kept: dict[Any, Teacher], method: str, data: str, seed: int
) -> dict[str, Any]:
    """Test figures of the teacher, or of the best student of a method by validation."""
    split = workshop.split(data, seed)
    value = value_on(split)

    def network(dim: int, n_layers: int) -> NeuMF:
        n_epochs = workshop.n_epochs or NETWORK.n_epochs
        return replace(NETWORK, n_factors=dim, n_layers=n_layers, dropout=0.0, seed=seed, n_epochs=n_epochs)

    def teacher() -> Teacher:
        if (data, seed) not in kept:
            kept.clear()
            model = network(config.dim, config.layers).fit(split.train, value=value, progress=True)
            kept[data, seed] = Teacher(model, split.train, n_parameters(model.module))
        return kept[data, seed]

    student = network(config.student_dim, config.student_layers)

    def trials() -> Iterator[Trial[tuple[float, NeuMF]]]:
        for params, beside in tried(method, lambda: teacher().knowledge()):
            model = replace(student).fit(split.train, value=value, beside=beside, progress=True)
            yield Trial({**params, "epoch": model.epoch_}, (value(model), model))

    params: Mapping[str, Any]
    if method == TEACHER:
        model, params = teacher().model, {}
    elif method == SEARCHED:
        most = n_parameters(Network(*split.train.shape, config.student_dim, config.student_layers))
        search = Search(METRIC, config.preset, seed, shared=config.shared, n_trials=config.trials, progress=True)
        model, row = searched(student, split, teacher().knowledge(), BY, most, search)
        params = {name: row[name] for name in ("n_layers", "n_factors", "weight", "epoch")}
    else:
        found = best(trials(), lambda found: found[0], METRIC)
        model, params = found.candidate[1], found.params
    tested = workshop.tested(by_position(model, split.train), data, seed)
    return {**tested, **params, "parameters": n_parameters(model.module), "validation": value(model)}


if __name__ == "__main__":
    flags.main(Config, run)
