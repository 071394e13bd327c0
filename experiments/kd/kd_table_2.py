"""GD-REC's tables 2 and 4: a student of generated lists and its teacher's scores alone, beside CD, RD and BD.

    python -m experiments.kd.kd_table_2                    # made clicks, offline
    python -m experiments.kd.kd_table_2 --preset=quick     # MovieLens-100K, reduced
    python -m experiments.kd.kd_table_2 --preset=paper     # the paper's three sets, three seeds

For BPR and NeuMF: the teacher, of clicks alone (KD) and with generated lists too (GD, Eq. 4), and students of a share
of its parameters: alone, by CD, RD and BD from the first teacher, and GD (Eq. 5 and 6, weight 0.7) from the second, who
never sees a click. Temperatures, weights and epochs are chosen on validation clicks. Writes `record.json`, `table.md`,
a picture of each set and model, and `cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import infae
from experiments.kd import data, published
from experiments.kd.distillation import Distilled
from experiments.kd.gdrec import GDREC, AlsoLists
from experiments.kd.knowledge import Knowledge
from experiments.kd.mutual import Bidirectional
from experiments.kd.protocol import by_position, figures, ranks
from experiments.kd.teachers import BPR, METRIC, Teacher, value_on
from experiments.kd.workshop import ALONE, WEIGHTS, Workshop
from experiments.recommenders.mf import MF
from experiments.recommenders.neumf import NeuMF
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Study, each
from experiments.study.tables import metrics_table
from infae.runtime import checks
from infae.tuning.best import Trial, best

MODELS: dict[str, Any] = {
    "BPR": partial(MF, n_epochs=300, check_every=20, **BPR),
    "NeuMF": partial(NeuMF, n_layers=2, n_epochs=300, check_every=20, **BPR),
}
TEACHERS = ("teacher, KD", "teacher, GD")
GD = "GD"
METHODS = (*TEACHERS, ALONE, "CD", "RD", "BD", GD)
GD_WEIGHT, TEMPERATURES = 0.7, (1.0, 2.0, 5.0, 10.0)
BD_WEIGHTS = (0.1, 0.5)
N_LISTED = 50
"""Items of a list: as many as are looked at."""
NOTES = (
    "H@50 and N@50: a user's one test click among all items not clicked.",
    "Figures in brackets are the paper's: students of half of the teacher's parameters, and teachers of its table 4. "
    "Its CiteULike has each user's number of items as an item; for its Yelp ccd-yelp's base block stands in.",
    "A list has a user's 50 items of highest generated score; those that the user clicked are among them.",
)


@dataclass(frozen=True)
class Config:
    preset: str = option("smoke", f"which defaults the other flags have: {', '.join(flags.PRESETS)}")
    data: tuple[str, ...] = option(("made",), f"some of {', '.join(data.DATASETS)}", quick=("ml-100k",),
        paper=("citeulike", "yelp", "foursquare"), axis=True)  # fmt: skip
    data_dir: str = option("", flags.DATA_DIR)
    models: tuple[str, ...] = option(("BPR",), f"some of {', '.join(MODELS)}", axis=True, paper=tuple(MODELS))
    methods: tuple[str, ...] = option(METHODS, f"some of {', '.join(METHODS)}", axis=True)
    dim: int = option(8, "of teachers", quick=50, paper=200)
    shares: tuple[float, ...] = option((0.5,), "of the teacher's parameters that students have", axis=True,
        paper=(0.5, 0.3, 0.1))  # fmt: skip
    seeds: tuple[int, ...] = option((0,), "of splits and of all that is drawn", axis=True, quick=(0,), paper=(0, 1, 2))
    n_epochs: int = option(10, "of a training at most; 0 for as many as models say", quick=10, paper=0)
    out: str = option("out/kd_table_2", "output folder")
    plot: bool = option(True, "draw pictures")


def run(config: Config) -> dict[str, Any]:
    for name, known in (("data", data.DATASETS), ("models", MODELS), ("methods", METHODS)):
        for value in getattr(config, name):
            checks.choice(f"--{name}", value, known)
    for share in config.shares:
        checks.share("--shares", share)
    workshop = Workshop(config.data_dir, checks.whole("--n_epochs", config.n_epochs, 0))
    uses = {
        **workshop.uses, "clicks": workshop.fingerprint(config.data, config.seeds),
        "models": {name: vars(made()) for name, made in MODELS.items()},
        "tried": [GD_WEIGHT, TEMPERATURES, BD_WEIGHTS, N_LISTED, WEIGHTS["CD"], WEIGHTS["RD"]],
    }  # fmt: skip
    study = Study(
        config, None, title="Students of generated lists", shows="Tables 2 and 4 of GD-REC", version=1, uses=uses
    )
    frame = study.run(each([*places(config)], partial(cell, Made(workshop, config))))
    shown = []
    for (name, model), part in frame.groupby(["data", "model"], sort=False):
        theirs = published.beside("table_2", f"{name} {model}")
        columns = ("H@50", "N@50")
        shown.append(metrics_table(part, ("method", "share"), columns, f"{name}, {model}, test", theirs))
        labels = part["method"] + part["share"].map(lambda share: "" if share == 1 else f" {share:.0%}")
        rows = {label: cells.to_dict("records") for label, cells in part.groupby(labels, sort=False)}
        study.draw(f"{name}_{model}.png", plots.grouped, rows, columns, {}, f"{name}, {model}")
    return study.write(shown, [], NOTES, data=", ".join(config.data))


def places(config: Config) -> Iterator[dict[str, Any]]:
    """Where the cells are; a teacher has all of its own parameters."""
    for name in config.data:
        for seed in config.seeds:
            for model in config.models:
                for method in config.methods:
                    for share in (1.0,) if method in TEACHERS else config.shares:
                        yield {"model": model, "method": method, "share": share, "data": name, "seed": seed}


@dataclass
class Made:
    """Lists and teachers of a split, made once."""

    workshop: Workshop
    config: Config
    kept: dict[Any, Any] = field(default_factory=dict)

    def lists(self, data: str, seed: int) -> infae.Interactions:
        """Of all training users; ValueError for one without clicks."""
        split, n_epochs = self.workshop.split(data, seed), self.workshop.n_epochs
        generator = GDREC(seed=seed)
        generator.n_epochs = n_epochs or generator.n_epochs
        lists = generator.fit(split.train, progress=True).lists(N_LISTED, seed)
        if lists.n_users != split.train.n_users:
            raise ValueError(f"{data}: {split.train.n_users - lists.n_users} users have no clicks to make lists of")
        return lists

    def teacher(self, model: str, method: str, data: str, seed: int) -> Teacher:
        train = self.workshop.split(data, seed).train
        beside = AlsoLists(self.once("lists", data, seed)) if method == TEACHERS[1] else None
        made = self.fitted(model, self.config.dim, train, data, seed, beside)
        return Teacher(made, train, sum(part.numel() for part in made.module.parameters()))

    def fitted(self, model: str, dim: int, clicks: Any, data: str, seed: int, beside: Any = None) -> Any:
        """A model of this size, of clicks, stopped by validation."""
        made = MODELS[model](n_factors=dim, seed=seed)
        made.n_epochs = self.workshop.n_epochs or made.n_epochs
        split = self.workshop.split(data, seed)
        return made.fit(clicks, value=value_on(split), beside=beside, progress=True)

    def once(self, what: str, *at: Any) -> Any:
        """`what` is the name of a method here."""
        if (what, *at) not in self.kept:
            self.kept = {key: made for key, made in self.kept.items() if key[-2:] == at[-2:]}
            self.kept[what, *at] = getattr(self, what)(*at)
        return self.kept[what, *at]


def cell(made: Made, model: str, method: str, share: float, data: str, seed: int) -> dict[str, Any]:
    """Test figures of a teacher, or of the best student of a method by validation."""
    split = made.workshop.split(data, seed)
    value = value_on(split)
    if method in TEACHERS:
        teacher = made.once("teacher", model, method, data, seed)
        tested = figures(ranks(teacher.score, split, "test"), (50,))
        return {**tested, "parameters": teacher.n_parameters, "validation": value(teacher.model)}
    dim = max(1, round(share * made.config.dim))

    def trials() -> Iterator[Trial[tuple[float, Any]]]:
        for params, clicks, beside in ways(made, model, method, data, seed):
            student = made.fitted(model, dim, clicks, data, seed, beside)
            yield Trial(params, (value(student), student))

    found = best(trials(), lambda found: found[0], METRIC)
    student = found.candidate[1]
    n_parameters = sum(part.numel() for part in student.module.parameters())
    tested = figures(ranks(by_position(student, split.train), split, "test"), (50,))
    return {**tested, **found.params, "parameters": n_parameters, "validation": found.value}


def ways(made: Made, model: str, method: str, data: str, seed: int) -> Iterator[tuple[dict[str, float], Any, Any]]:
    """What is tried: parameters for the record, what a student is fitted to, and what it learns beside."""
    train = made.workshop.split(data, seed).train
    if method == ALONE:
        yield {}, train, None
        return
    if method == GD:
        lists = made.once("lists", data, seed)
        teacher = made.once("teacher", model, TEACHERS[1], data, seed)
        knowledge = Knowledge(teacher.score, lists)
        for temperature in TEMPERATURES:
            yield {"temperature": temperature}, lists, Distilled(GD, knowledge, GD_WEIGHT, temperature)
        return
    teacher = made.once("teacher", model, TEACHERS[0], data, seed)
    for weight in BD_WEIGHTS if method == "BD" else WEIGHTS[method]:
        beside = (
            Bidirectional(teacher.model, weight) if method == "BD" else Distilled(method, teacher.knowledge, weight)
        )
        yield {"weight": weight}, train, beside


if __name__ == "__main__":
    flags.main(Config, run)
