"""What studies of click-through rows train on, and how: real rows, and rows out of teachers, by the paper's names."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from experiments.ctr import tables
from experiments.ctr.models import MODELS, Model
from experiments.ctr.rows import Rows
from experiments.ctr.tables import Data
from experiments.ctr.train import Training, evaluate, fit, labelled
from experiments.inversion import designed, drawn, generated, inverted, learned, membership, queried
from infae.data.fingerprint import fingerprint
from infae.runtime import checks
from infae.tuning.best import Best, Trial, best

LEARNERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "LR": ("lr", {}),
    "FM": ("fm", {}),
    "DeepFM": ("deepfm", {"n_factors": 32, "dropout": 0.5}),
    "DeepFM-BN": ("deepfm", {"n_factors": 32, "dropout": 0.5, "batch_norm": True}),
}
"""Title -> name and parameters of a model; each is a teacher too."""

NORM_WEIGHT = 0.05
"""Of the batch-normalisation term, one of the paper's."""
INVERSION: dict[str, Mapping[str, float]] = {"yahoo-uniform": {"positives": 0.1, "threshold": 0.25}}
"""Of Algorithm 1, by table, where other than as `inverted.synthesise` has it; chosen on validation.

Of yahoo-uniform 9% are clicks. A batch with half of its labels 1 never reaches a loss of 0.3 there: its rows go to the
one item of the highest weight.
"""


class Source(NamedTuple):
    """Rows to train on: made out of a teacher; where there is none, out of training rows; or those themselves."""

    teacher: str | None
    make: Callable[..., Rows] | None  # (teacher or training rows, n_rows, seed) -> Rows
    n_rows: int | None = None  # None: as many as the study's flag says; of real rows all
    hard: bool = False  # soft rows of labels 0 and 1


SOURCES: Mapping[str, Source] = {
    "raw (all)": Source(None, None),
    "raw": Source(None, None),
    "raw (2K)": Source(None, None, 2_000),
    "raw (10K)": Source(None, None, 10_000),
    "IRGAN": Source(None, generated.synthesise, 10_000),
    "AugCF": Source(None, partial(generated.synthesise, kind="augcf"), 10_000),
    "herded": Source(None, learned.herded),
    "CGM": Source(None, learned.by_gradients, hard=True),
    "learned by NTK": Source(None, learned.by_kernel),
    "LRSD": Source("LR", inverted.synthesise, hard=True),
    "FMSD": Source("FM", inverted.synthesise, hard=True),
    "DeepFMSD": Source("DeepFM", inverted.synthesise, hard=True),
    "DeepFMSD-BN": Source("DeepFM-BN", partial(inverted.synthesise, norm_weight=NORM_WEIGHT), hard=True),
    "DeepFMSD-BN (no term)": Source("DeepFM-BN", inverted.synthesise, hard=True),
    "FMSD (teacher's labels)": Source("FM", partial(inverted.synthesise, labels="teacher")),
    "mixtures by FM": Source("FM", partial(drawn.synthesise, kind="mixture")),
    "pairs by FM": Source("FM", drawn.synthesise),
    "pairs by FM (10K)": Source("FM", drawn.synthesise, 10_000),
    "pairs by FM (100K)": Source("FM", drawn.synthesise, 100_000),
    "pairs by FM (800K)": Source("FM", drawn.synthesise, 800_000),
    "LRME": Source("LR", queried.synthesise, 10_000),
    "FMME": Source("FM", queried.synthesise, 10_000),
    "DeepFMME": Source("DeepFM", queried.synthesise, 10_000),
    "designed LR": Source("LR", designed.synthesise),
    "designed FM": Source("FM", designed.synthesise),
    "designed DeepFM": Source("DeepFM", designed.synthesise),
}
"""By title. Those that end in SD or ME are the paper's: of Algorithm 1, and of data-free model extraction. IRGAN and
AugCF, herded, CGM and learned by NTK saw the data."""

ON_TABLES = [Training(0.003, decay, n_epochs=60) for decay in (1e-5, 3e-5)]
"""What is tried on as many rows as a table has."""
OF_LEARNERS = {"LR": [Training(0.003, decay, n_epochs=60) for decay in (1e-6, 1e-5)]}
"""The same of learners that need other weight decay."""
ON_FEW = [Training(0.01, decay, 250, 100) for decay in (1e-4, 1e-3, 1e-2)]
"""What is tried on a few thousand real ones, of which any model has too many parameters."""
ON_HARD = [Training(rate, decay, 250, 100) for rate in (0.001, 0.01) for decay in (0.0, 1e-4)]
"""What is tried on made rows of labels 0 and 1, on which all figures fall again after some epochs."""
MANY = 50_000
"""More rows than this are trained on as a table is."""
TEMPERATURES = (2.0, 3.0, 4.0)
"""Of distillation; the paper's."""
ON_MADE = [Training(rate, 0.0, 250, 600, check_every=20) for rate in (0.01, 0.03)]
"""What is tried on rows out of a model."""


def _maker(make: Any) -> list[Any]:
    """The name of what makes rows, and the constants of its file, which decide them."""
    if make is None:
        return []
    made_by = getattr(make, "func", make)
    constants = {name: value for name, value in vars(sys.modules[made_by.__module__]).items() if name.isupper()}
    return [made_by.__qualname__, {name: value for name, value in constants.items() if not callable(value)}]


def on_tables(learner: str) -> list[Training]:
    """What is tried of a learner on as many rows as a table has."""
    return OF_LEARNERS.get(learner, ON_TABLES)


@dataclass
class Workshop:
    """Teachers, rows and students of tables, each made once.

    Args:
      data_dir: folder of the tables.
      n_rows: of a synthetic set.
      n_epochs: most epochs of a training; 0 for as many as `ON_TABLES`, `ON_FEW` and `ON_MADE` say.
    """

    data_dir: str = ""
    n_rows: int = 2000
    n_epochs: int = 0
    _made: dict[Any, Any] = field(default_factory=dict)

    @property
    def uses(self) -> dict[str, Any]:
        """What decides every cell beside flags, for `Study`."""
        return {"training": [ON_TABLES, ON_FEW, ON_HARD, ON_MADE, TEMPERATURES], "learners": LEARNERS}

    @property
    def grids(self) -> dict[str, Any]:
        """What decides the cells of a source or a learner, by its title, for `Study`."""
        of_sources = {
            title: [
                s.teacher, s.n_rows, s.hard, _maker(s.make), getattr(s.make, "keywords", {}),
                OF_LEARNERS.get(s.teacher or ""), *([MANY] if (s.n_rows or 0) > MANY else []),
            ]
            for title, s in SOURCES.items()
        }  # fmt: skip
        return {**of_sources, **OF_LEARNERS, **INVERSION}

    def fingerprint(self, names: Sequence[str]) -> str:
        """Of what is in tables."""
        frames = (self._table(name).frame for name in names)
        return fingerprint([pd.util.hash_pandas_object(frame, index=False).to_numpy() for frame in frames])

    def data(self, table: str, seed: int) -> Data:
        """A random split of a table."""
        return self._once("data", table, seed, lambda: tables.random_parts(self._table(table), seed))

    def _table(self, name: str) -> tables.Table:
        return self._once("table", name, 0, lambda: tables.table(name, self.data_dir or None))

    def teacher(self, title: str, table: str, seed: int) -> Model:
        """A model of all training rows."""
        return self._teacher(title, table, seed).candidate[1]

    def _teacher(self, title: str, table: str, seed: int) -> Best[tuple[float, Model]]:
        data = self.data(table, seed)
        tried = [(training, data.train) for training in on_tables(title)]
        return self._once(("teacher", title), table, seed, lambda: self._best(title, tried, data, seed))

    def rows(self, title: str, table: str, seed: int, n_rows: int | None = None) -> Rows:
        """The rows of a source: so many, or as many as it has itself, or else as `self.n_rows` says."""
        source = SOURCES[checks.choice("source", title, SOURCES)]
        data = self.data(table, seed)
        if source.make is not None:
            n = n_rows or source.n_rows or self.n_rows
            of = self.teacher(source.teacher, table, seed) if source.teacher else data.train
            make: Any = partial(source.make, of, n, seed)
            if getattr(source.make, "func", source.make) is inverted.synthesise:
                make = partial(make, **INVERSION.get(table, {}))
            return self._once(("rows", title, n), table, seed, make)
        if n_rows is None and source.n_rows is None:
            return data.train
        chosen = checks.generator(seed).permutation(len(data.train))[: n_rows or source.n_rows]
        return data.train[chosen]

    def taught(self, source: str, learner: str, table: str, seed: int, n_rows: int | None = None) -> dict[str, Any]:
        """Test figures of a learner on a source's rows, everything chosen on validation rows.

        And how well its loss tells training rows from test rows; see `membership.by_loss`.
        """
        data = self.data(table, seed)
        rows = self.rows(source, table, seed, n_rows)
        if rows is data.train:
            found = self._teacher(learner, table, seed)
        else:
            many = on_tables(learner) if len(rows) > MANY else None
            tried = many or (ON_HARD if SOURCES[source].hard else ON_MADE if rows.soft_labels else ON_FEW)
            found = self._best(learner, [(training, rows) for training in tried], data, seed)
        # Of real rows, those that were trained on are members.
        members = data.train if SOURCES[source].make else rows
        attack = membership.by_loss(found.candidate[1], members, data.test)
        return {**_tested(found, data), "attack": attack}

    def told(self, source: str, table: str, seed: int) -> dict[str, float]:
        """How well a source's rows tell training rows from test rows, of two fields; see `membership.by_rows`."""
        data, rows = self.data(table, seed), self.rows(source, table, seed)
        if len(data.fields) > 2:
            return {}
        attack = partial(membership.by_rows, rows, data.train, data.test)
        return {"attack on rows": self._once(("told", source), table, seed, attack)}

    def distilled(self, source: str, learner: str, table: str, seed: int) -> dict[str, Any]:
        """As `taught`, by the teacher's probabilities at one of several temperatures (Hinton et al. 2015)."""
        teacher = SOURCES[source].teacher
        if teacher is None:
            raise ValueError(f"{source} has no teacher to distil")
        rows, model = self.rows(source, table, seed), self.teacher(teacher, table, seed)
        tried = [
            (replace(training, temperature=temperature), labelled(model, rows, temperature))
            for temperature in TEMPERATURES
            for training in ON_MADE[1:]
        ]
        return self.student(learner, tried, self.data(table, seed), seed)

    def student(
        self, learner: str, tried: Sequence[tuple[Training, Rows]], data: Data, seed: int, begin: Model | None = None
    ) -> dict[str, Any]:
        """Test figures of the best of several trainings by validation AUC; they go on with a model that is given."""
        return _tested(self._best(learner, tried, data, seed, begin), data)

    def _best(
        self, title: str, tried: Sequence[tuple[Training, Rows]], data: Data, seed: int, begin: Model | None = None
    ) -> Best[tuple[float, Model]]:
        """The model of the best validation AUC, and that."""
        name, network = LEARNERS[checks.choice("learner", title, LEARNERS)]

        def trials() -> Iterator[Trial[tuple[float, Model]]]:
            for training, rows in tried:
                training = replace(training, seed=seed, n_epochs=self.n_epochs or training.n_epochs)
                model = MODELS[name](data.fields, **network)
                if begin is not None:
                    model.load_state_dict(begin.state_dict())
                done = fit(model, rows, data.validation, training, go_on=begin is not None)
                assert done.best is not None
                names = ("learning_rate", "weight_decay", "temperature")
                params = {name: getattr(training, name) for name in names}
                yield Trial({**params, "epoch": done.best["epoch"]}, (done.best["value"], model))

        return best(trials(), lambda found: found[0], "AUC")

    def _once(self, what: Any, table: str, seed: int, make: Any) -> Any:
        if (what, table, seed) not in self._made:
            # Of one table and split at a time: at scale each takes hundreds of megabytes.
            self._made = {
                key: made for key, made in self._made.items() if key[1:] == (table, seed) or key[0] == "table"
            }
            self._made[what, table, seed] = make()
        return self._made[what, table, seed]


def _tested(found: Best[tuple[float, Model]], data: Data) -> dict[str, Any]:
    return {**evaluate(found.candidate[1], data.test), **found.params, "validation": found.value}
