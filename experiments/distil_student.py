"""A small student of a recommender of one's own, learned on synthetic users or on clicks.

    python -m experiments.distil_student --teacher=model.npz --on=summary.npz --dim=20 --out=student
    python -m experiments.distil_student --teacher=model.npz --on=clicks.csv --dim=20 --loss=RRD --bits=8

The teacher is what `InfiniteAE.save` wrote. The student learns from its scores on the users of `--on`: a DISTILL-CF
summary, or a data set's name or file. Into `--out` come `student.npz`, which `experiments.kd.students.load` reads, the
same as `student.pt2` or `student.onnx` with `--export`, and `report.json`: sizes, and how far its lists are the
teacher's.

    from experiments.kd.students import load
    load("student/student.npz").recommend(histories, n=10)
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import distillcf
import infae
from distillcf.errors import SummaryFileError
from experiments.kd.names import EXPORTS, FACTORISED, LISTED, OF_VECTORS, WEIGHTS
from experiments.kd.protocol import Score, by_history
from experiments.kd.students import BITS, Student, factorised, load
from experiments.study import flags
from experiments.study.flags import option
from experiments.study.record import output_folder, write_json
from infae.data.coerce import as_history_interactions, drop_empty_users
from infae.data.datasets import load_log
from infae.machine import batches
from infae.runtime import checks

LOSSES = (FACTORISED, *(loss for loss in WEIGHTS if loss not in OF_VECTORS))
"""Without those that compare vectors, of which ∞-AE has none."""
N_FIRST = 10


@dataclass(frozen=True)
class Config:
    teacher: str = option("", "file of an InfiniteAE")
    on: str = option("", "whose users the teacher is asked of: a summary's .npz, or a data set's name or file")
    data_dir: str = option("", flags.DATA_DIR)
    form: str = option("hard", "of a summary: hard or soft")
    dim: int = option(20, "width of the student's tables")
    loss: str = option(FACTORISED, f"one of {', '.join(LOSSES)}; all but the first train by gradients")
    weight: float = option(0.0, "of the loss beside the student's own, on the clicks of --on; 0 for a usual one. Of "
        f"{LISTED} the teacher's share beside these clicks, below 1")  # fmt: skip
    reg: float = option(0.1, f"of the regression of users on histories of {FACTORISED}")
    n_epochs: int = option(100, f"of a training; of {LISTED} 60 at most")
    learning_rate: float = option(0.005, f"of a training; {LISTED} has its own")
    bits: int = option(32, "of a stored number: 8 or 32")
    export: str = option("", "also write student.pt2 (torch) or student.onnx (onnx, which needs the onnx extra)")
    seed: int = option(0, "of a training")
    out: str = option("out/student", "output folder")


def run(config: Config) -> dict[str, Any]:
    checks.choice("--loss", config.loss, LOSSES)
    if config.export:
        checks.choice("--export", config.export, EXPORTS)
    if config.bits not in BITS:
        raise ValueError(f"--bits must be one of {BITS}, got {config.bits}")
    if config.loss == LISTED and config.weight >= 1:
        raise ValueError(f"--weight is the teacher's share by {LISTED}, and must be below 1, got {config.weight}")
    for name in ("teacher", "on"):
        if not getattr(config, name):
            raise ValueError(f"--{name} is missing; see --help")
    teacher = infae.load(config.teacher)
    clicks = transfer_set(config, teacher.item_ids_)
    checks.whole("--dim", config.dim, most=min(clicks.shape) - 1, remedy="there are no more users, or items")
    folder = output_folder(config.out)
    started = time.perf_counter()
    score = by_history(teacher, clicks)
    student = made(config, score, clicks)
    seconds = time.perf_counter() - started
    path = folder / "student.npz"
    student.save(path, config.bits)
    served = load(path)
    if config.export:
        from experiments.kd.served import export

        export(served, config.export, folder)
    report: dict[str, Any] = {
        "loss": config.loss, "dim": config.dim, "users": clicks.n_users, "items": clicks.n_items, "seconds": seconds,
        "parameters": student.n_parameters, "bytes": path.stat().st_size,
        "bytes of the teacher": Path(config.teacher).stat().st_size,
        f"of the teacher's first {N_FIRST}": overlap(score, by_history(served, clicks), clicks),
    }  # fmt: skip
    write_json(folder / "report.json", report)
    print(json.dumps(report, indent=2))
    if report["bytes"] > report["bytes of the teacher"]:
        print("the student is larger than its teacher: ask for a smaller --dim, or for --bits=8")
    return report


def transfer_set(config: Config, item_ids: np.ndarray) -> infae.Interactions:
    """The users of `--on`, over the teacher's items; ValueError where none has clicked, or items are others."""
    path = Path(config.on)
    try:
        clicks = distillcf.load(path).interactions(config.form) if path.suffix == ".npz" else None
    except SummaryFileError as error:
        raise ValueError(f"--on: {error}") from error
    if clicks is None:
        clicks = infae.Interactions.from_frame(load_log(config.on, data_dir=config.data_dir or None))
    try:
        clicks = drop_empty_users(as_history_interactions(clicks, item_ids))
    except ValueError as error:
        raise ValueError(f"--on has other items than the teacher was fitted to: {error}") from error
    if not clicks.n_users:
        raise ValueError(f"nobody in {config.on} has clicked anything: there is nothing to ask the teacher of")
    return clicks


def made(config: Config, score: Score, clicks: infae.Interactions) -> Student:
    """The student that the flags ask for."""
    if config.loss == FACTORISED:
        return factorised(score, clicks, config.dim, config.reg)
    from experiments.kd.distillation import Distilled, suited
    from experiments.kd.knowledge import Knowledge
    from experiments.recommenders.mf import MF
    from experiments.training.tuning import batch_of

    model = MF(
        n_factors=config.dim, dropout=0.0, learning_rate=config.learning_rate, n_epochs=config.n_epochs,
        batch_size=batch_of(clicks.n_interactions, 256, 4096), seed=config.seed,
    )  # fmt: skip
    beside = Distilled(config.loss, Knowledge(score, clicks), config.weight or WEIGHTS[config.loss][0])
    return Student.of(suited(model, config.loss, clicks.shape).fit(clicks, beside=beside, progress=True))


def overlap(teacher: Score, student: Score, clicks: infae.Interactions) -> float:
    """Share of the teacher's first `N_FIRST` items, of those not clicked, that are among the student's."""
    n = min(N_FIRST, clicks.n_items)
    found = 0
    for at in batches(*clicks.shape):
        users = np.arange(clicks.n_users)[at]
        both = []
        for score in (teacher, student):
            scores = np.array(score(users), np.float32)
            scores[clicks.matrix[users].nonzero()] = -np.inf
            both.append(np.argpartition(-scores, n - 1, axis=1)[:, :n])
        found += sum(np.intersect1d(*rows).size for rows in zip(*both, strict=True))
    return found / (n * clicks.n_users)


if __name__ == "__main__":
    flags.main(Config, run)
