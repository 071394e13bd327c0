"""Train a click-through model on a table, or on rows that were made out of another model, and test it.

    python -m experiments.ctr                                           # made clicks, offline
    python -m experiments.ctr --dataset=ml-1m --model=deepfm --out=out/teacher
    python -m experiments.inversion --model=out/teacher/model.pt --fields=out/teacher/fields.json --out=out/rows.parquet
    python -m experiments.ctr --dataset=ml-1m --rows=out/rows.parquet --fields=out/teacher/fields.json --out=out/student

With `--rows` the table gives validation and test rows alone, encoded by `--fields`: of the teacher's own split only
with the teacher's `--seed`, and with another one the student is tested on what the teacher has seen.

Writes `model.pt`, `fields.json`, `record.json`, `table.md` and `calibration.png`.
"""

from dataclasses import dataclass, replace
from typing import Any

from experiments.ctr import store, tables
from experiments.ctr.fields import Fields
from experiments.ctr.metrics import calibration
from experiments.ctr.models import MODELS
from experiments.ctr.rows import Rows
from experiments.ctr.train import LOSSES, METRICS, Training, evaluate, fit, logits
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Run
from experiments.study.tables import Table
from infae.runtime import checks


@dataclass(frozen=True)
class Config:
    dataset: str = option("made", f"one of {', '.join(tables.TABLES)}, or the path of a CSV or Parquet file")
    kinds: tuple[str, ...] = option(("",), "fields of such a file, as field:kind; see experiments.ctr.fields")
    label: str = option(tables.LABEL, "column of such a file with labels 0 and 1")
    data_dir: str = option("", flags.DATA_DIR)
    rows: str = option("", "train on these rows instead, Parquet as Rows.save writes it")
    fields: str = option("", "with --rows: fields.json of the model that they were made out of")
    model: str = option("fm", f"one of {', '.join(MODELS)}")
    n_factors: int = option(16, "width of the vectors")
    n_layers: int = option(2, "hidden layers of a network")
    width: int = option(64, "of a hidden layer")
    batch_norm: bool = option(False, "normalise hidden layers by batches")
    dropout: float = option(0.0, "share of hidden values dropped in training")
    learning_rate: float = option(0.003, "of Adam")
    weight_decay: float = option(1e-5, "of Adam")
    batch_size: int = option(4096, "rows a step")
    n_epochs: int = option(30, "at most")
    check_every: int = option(1, "epochs from one look at validation to the next")
    patience: int = option(3, "looks without a better value before training stops")
    loss: str = option("cross_entropy", f"one of {', '.join(LOSSES)}")
    metric: str = option("AUC", f"what training stops by: one of {', '.join(METRICS)}")
    seed: int = option(0, "of the split and of all that is drawn")
    out: str = option("out/ctr", "output folder")
    plot: bool = option(True, "write calibration.png")


def run(config: Config) -> dict[str, Any]:
    checks.choice("--model", config.model, MODELS)
    if bool(config.rows) != bool(config.fields):
        raise ValueError("--rows and --fields go together: rows, and the fields.json of the model that they are of")
    job = Run(config, title=f"{config.model}, trained and tested")
    with job.clock("load"):
        table = tables.table(config.dataset, config.data_dir or None, config.kinds, config.label)
        data = tables.random_parts(table, config.seed, fields=Fields.load(config.fields) if config.fields else None)
        train = Rows.load(config.rows, data.fields) if config.rows else data.train
    print(
        f"{data.name}: {len(train):,} rows to train on, {len(data.validation):,} to choose by, {len(data.test):,} left"
    )
    names = ("n_factors", "n_layers", "width", "batch_norm", "dropout")
    model = MODELS[config.model](data.fields, **{name: getattr(config, name) for name in names})
    settings = {name: getattr(config, name) for name in vars(Training()) if hasattr(config, name)}
    with job.clock("fit"):
        done = fit(model, train, data.validation, replace(Training(), **settings), progress=True)
    store.save(model, job.folder / "model.pt")
    data.fields.save(job.folder / "fields.json")
    with job.clock("test"):
        found = evaluate(model, data.test)
    labels, scores = data.test.known_labels, logits(model, data.test)
    job.draw("calibration.png", plots.calibration, {config.model: calibration(labels, scores)}, data.name)
    assert done.best is not None
    row = [config.model, *(f"{value:.4f}" for value in found.values()), str(done.best["epoch"])]
    written = job.write(
        [Table("Test", ["", *found, "epochs"], [row])], data=data.name, test=found, epoch=done.best["epoch"],
        validation={config.metric: done.best["value"]}, path=done.path,
    )  # fmt: skip
    print(f"wrote {', '.join(sorted(path.name for path in job.folder.iterdir()))} into {job.folder}")
    return written


if __name__ == "__main__":
    flags.main(Config, run)
