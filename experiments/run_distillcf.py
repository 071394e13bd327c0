"""Distil a data set into synthetic users, and see how well ∞-AE does on them.

    python -m experiments.run_distillcf                    # an embedded synthetic set, offline
    python -m experiments.run_distillcf --dataset=ml-1m    # 500 users of the paper's own split

Writes into the output folder, for each seed, `summary_SEED.npz` (for `distillcf.load`) and a
checkpoint while it works; `record.json`, `table.md` and `history.png`. The table compares, on
test, ∞-AE on the soft and on the binary synthetic users, on fresh ones from the same prior, on
equally many random real users (with their own clicks and with solved labels), and on all data.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import distillcf
import infae
from distillcf.batches import Batches
from distillcf.config import Config as Settings
from distillcf.inner import Student, choose_teacher
from distillcf.validate import Fitted, Judge
from experiments.recommenders.registry import SMALL_REGS
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Run, described, load_any
from experiments.study.tables import IN_PERCENT, results_table
from infae.ranking.evaluate import Recommender
from infae.runtime import checks
from infae.tuning.best import Trial, best

METRICS = ("AUC", "HR@10", "NDCG@10", "HR@100", "NDCG@100", "PSP@10")
LABEL_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Config(flags.LoadConfig):
    """Flags of the run; the defaults are those of `distillcf.distill`."""

    seeds: tuple[int, ...] = option((0,), "one run each; the table gives mean and standard deviation")
    n_users: int = option(500, "synthetic users; at most a tenth of the real ones in the embedded set")
    labels: str = option("clicks", "clicks or free")
    sampler: str = option("expected", "expected or gumbel")
    n_draws: int = option(200, "draws a synthetic user, gamma")
    temperature: float = option(0.5, "of the Gumbel sampler, tau")
    objective: str = option("match", "match, squared, softmax or logistic")
    held_out: float = option(0.0, "share of each history that is hidden")
    l1: float = option(0.0, "weight of a synthetic user's mean number of clicks")
    sharpness: str = option("auto", "weight of a hard sample's variance: auto is 0.003, or 0 with free labels")
    label_penalty: float = option(0.01, "ridge penalty of free labels")
    learning_rate: float = option(0.15, "of Adam on the logits")
    reg: str = option("learn", "inner reg: learn, a number, or several to choose from at each validation")
    steps: int = option(400, "outer steps at most")
    batch_size: int = option(1024, "real users a step")
    validate_every: int = option(25, "steps between validations")
    patience: int = option(8, "validations without improvement before stopping, where sharpness is 0")
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    start: str = option("mixed", "mixed, random, head, or the path of a summary to start from")
    model: str = option("auto", "the inner model: auto, chosen on validation, or given, by the next flags")
    model_reg: float = option(1.0, "reg of a given model on all the data")
    depth: int = option(1, "hidden layers of a given model")
    b_std: float = option(0.1, "bias scale of a given model")
    popularity_power: float = option(-0.25, "item weighting of a given model")
    row_power: float = option(0.0, "row power of a given model")
    checkpoint_every: int = option(50, "steps between checkpoints")
    resume: bool = option(True, "continue from a checkpoint of the same run where there is one")
    baselines: bool = option(True, "also fit random users and all the data")
    export: tuple[str, ...] = option(("none",), "also csv, parquet, recbole")
    out: str = option("out/run_distillcf", "output folder")
    plot: bool = option(True, "write history.png")


def run(config: Config) -> dict[str, Any]:
    settings, given = _settings(config), _given_model(config)
    for name in config.export:
        checks.choice("--export", name, ("none", "csv", "parquet", "recbole"))
    job = Run(config, title="A summary by DISTILL-CF, and ∞-AE on it")
    with job.clock("load"):
        split = load_any(config)
    if config.baselines and not split.validation.n_interactions:
        raise ValueError(
            f"{config.dataset} has no validation part to choose the models by that a summary is compared with; pass "
            "--validation_fraction=0.1 to hold one out of train, or --nobaselines"
        )
    if config.dataset == "synthetic":
        # The embedded set is smaller than what the default is for.
        settings["n_users"] = min(config.n_users, split.train.n_users // 10)
    reports: dict[str, list[infae.Report]] = {}

    def test(models: Iterable[tuple[str, Recommender]]) -> None:
        for name, model in models:
            reports.setdefault(name, []).append(infae.evaluate(model, split, k=(10, 100)))

    summaries = {}
    for seed in config.seeds:
        with job.clock("distil"):
            summaries[seed] = _distil(config, settings, given, split, seed, job.folder)
        with job.clock("test"):
            test(_on_summary(summaries[seed]))
    if config.baselines:
        with job.clock("baselines"):
            full = given.fit(split.train) if given else choose_teacher(split.train, split, config.metric, progress=True)
            for seed, summary in summaries.items():
                test(random_users_models(split, full, summary.n_users, seed, config.metric))
            test([(f"all {split.train.n_users:,} users, reg {full.reg_:g}", full)])
    histories = {f"seed {seed}": summary.history for seed, summary in summaries.items()}
    job.draw("history.png", plots.history, histories, config.metric, f"DISTILL-CF on {config.dataset}")
    record = job.write(
        [results_table(f"Test, {IN_PERCENT}", reports, METRICS)],
        notes=[split.note] if split.note else [],
        data=described(split),
        n_users=settings["n_users"],
        runs={seed: _described(summary, split.train) for seed, summary in summaries.items()},
        test={name: [dict(report) for report in found] for name, found in reports.items()},
    )
    # Only now: a run that is killed at a later seed takes the earlier ones from theirs.
    for seed in config.seeds:
        (job.folder / f"checkpoint_{seed}.npz").unlink(missing_ok=True)
    print("  ".join(f"{step} {seconds:.1f} s" for step, seconds in job.clock.seconds.items()))
    print(f"wrote {', '.join(sorted(path.name for path in job.folder.iterdir()))} into {job.folder}")
    return record


def random_users_models(
    split: infae.Split, inner: infae.InfiniteAE, n_users: int, seed: int, metric: str
) -> Iterator[tuple[str, Recommender]]:
    """(name, model) of ∞-AE on random users: with their own clicks as labels, and with labels solved from all data.

    Both with the inputs of `inner` and reg chosen on validation, as the penalty of solved labels; the second
    is Nyström's approximation of all the data with these users as landmarks.
    """
    users = distillcf.CORESETS["random users"](split.train, n_users, seed)
    kernel, inputs = inner.components(split.train)
    params = {name: getattr(inner, name) for name in ("kernel", "depth", "w_std", "b_std", "row_power")}
    own = infae.InfiniteAE(SMALL_REGS, metric=metric, item_weights=inputs.item_weights, **params)
    yield f"{n_users:,} random users", own.fit(users, split)
    student, rows = Student(kernel, inputs), users.matrix.toarray()
    free = Settings(labels="free", objective="squared", metric=metric, reg=(0.1, 1.0, 10.0))

    def judged(penalty: float) -> Trial[tuple[float, Judge, float]]:
        settings = replace(free, label_penalty=penalty)
        judge = Judge(student, settings, Batches(split.train.matrix, settings, None), split.train.item_ids, split)
        value, reg = judge.best(rows, 1.0)
        return Trial({"label_penalty": penalty}, (value, judge, reg))

    _, judge, reg = best(map(judged, LABEL_PENALTIES), lambda found: found[0], metric).candidate
    yield f"{n_users:,} random users, solved labels", Fitted(student, judge.support(rows, reg), split.train.item_ids)


def _given_model(config: Config) -> infae.InfiniteAE | None:
    if checks.choice("--model", config.model, ("auto", "given")) == "auto":
        return None
    params = {name: getattr(config, name) for name in ("depth", "b_std", "popularity_power", "row_power")}
    return infae.InfiniteAE(config.model_reg, **params)


def _distil(
    config: Config,
    settings: dict[str, Any],
    model: infae.InfiniteAE | None,
    split: infae.Split,
    seed: int,
    folder: Path,
) -> distillcf.Summary:
    checkpoint = folder / f"checkpoint_{seed}.npz"
    path = folder / f"summary_{seed}.npz"
    try:
        summary = distillcf.distill(
            split.train,
            validation=split if split.validation.n_interactions else None,
            seed=seed,
            model=model,
            start=config.start if config.start in ("mixed", "random", "head") else distillcf.load(config.start),
            checkpoint=checkpoint,
            checkpoint_every=config.checkpoint_every,
            resume=checkpoint if config.resume and checkpoint.exists() else None,
            progress=True,
            **settings,
        )
    except distillcf.DivergedError as error:
        if error.summary is None:
            raise
        error.summary.save(path)
        raise distillcf.DivergedError(f"{error}. The best state is in {path}", error.summary) from error
    summary.save(path)
    for name in set(config.export) - {"none"}:
        ending = "inter" if name == "recbole" else name
        getattr(summary, f"to_{name}")(folder / f"summary_{seed}.{ending}")
    print(f"seed {seed}: {summary}")
    return summary


def _on_summary(summary: distillcf.Summary) -> Iterator[tuple[str, Recommender]]:
    yield f"{summary.n_users:,} synthetic users, soft", summary.fit("soft")
    yield f"{summary.n_users:,} synthetic users, binary", summary.fit("hard")
    params = {name: value for name, value in summary.model.items() if name != "own_kernel"}
    fresh = infae.fit(summary.sample(seed=1), summary.reg, item_weights=summary.item_weights, **params)
    yield "a fresh sample of them", fresh


def _settings(config: Config) -> dict[str, Any]:
    """The arguments of `distill` that are flags of the same name."""
    names = {field.name for field in fields(Settings)} - {"seed", "reg", "sharpness"}
    sharpness = None if config.sharpness == "auto" else float(config.sharpness)
    return {**{name: getattr(config, name) for name in names}, "reg": _reg(config.reg), "sharpness": sharpness}


def _reg(text: str) -> float | tuple[float, ...] | None:
    if text == "learn":
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"--reg is learn, a number, or several with commas between, got {text!r}") from error
    return values[0] if len(values) == 1 else values


def _described(summary: distillcf.Summary, clicks: infae.Interactions) -> dict[str, Any]:
    """With how many of the binary rows equal a real user's history, and the Jaccard similarity to the nearest one."""
    synthetic, real = summary.to_csr("hard"), clicks.matrix.sign()
    common_clicks = (synthetic @ real.T).toarray()
    either = synthetic.sum(axis=1) + real.sum(axis=1).T - common_clicks
    nearest = np.asarray(common_clicks / np.maximum(either, 1)).max(axis=1)
    near = {"equal": int((nearest == 1).sum()), "median": float(np.median(nearest)), "most": float(nearest.max())}
    described = {name: getattr(summary, name) for name in ("model", "reg", "kept", "history")}
    return {**described, "nearest real users": near}


if __name__ == "__main__":
    flags.main(Config, run)
