"""How many users does ∞-AE need? On DISTILL-CF's users and on as many of every coreset sampler.

    python -m experiments.infinite.sample_efficiency                    # an embedded synthetic set, offline
    python -m experiments.infinite.sample_efficiency --preset=paper     # ML-1M, figures 1 and 12

For each budget of users and each seed the data is distilled, and as many users are taken by each
coreset sampler. ∞-AE is fitted to each, reg chosen on validation, and tested on all real users.
Writes `record.json`, `table.md`, `sample_efficiency.png` (every metric over budgets) and `cells/`,
from which a run that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

import distillcf
import infae
from experiments.infinite import wording
from experiments.infinite.sources import DISTILLED, EVERYBODY, RANDOM_USERS, SOURCES, Sources, check, drawn
from experiments.recommenders.registry import MODELS, Search, fit_infae
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead_by_budget, at, every
from experiments.study.flags import option
from experiments.study.runner import METRICS, Study, each, load_split, tested
from experiments.study.tables import IN_PERCENT, metrics_table

PAPER_BUDGET = 500


@dataclass(frozen=True)
class Config(flags.SummaryConfig):
    budgets: tuple[int, ...] = option(
        (10, 30, 60), "users", axis=True, quick=(10, 30, 90), paper=(10, 50, 100, 200, 500, 1000, 2000)
    )
    distilled: int = option(
        1000, "most users that are distilled; the samplers go on above", quick=90, paper=1000, axis=True
    )
    sources: tuple[str, ...] = option(SOURCES, "what ∞-AE is fitted to", axis=True)
    out: str = option("out/sample_efficiency", "output folder")


def run(config: Config) -> dict[str, Any]:
    split = load_split(config)
    check(split, config.budgets, config.sources)
    sources = Sources.of(config, split)
    places = [
        at
        for at in drawn(config, split, config.seeds)
        if not (at["source"].startswith(DISTILLED) and at["users"] > config.distilled)
    ]
    study = Study(
        config, split, title="Sample efficiency of ∞-AE", shows="Figures 1 and 12", version=1,
        uses={**sources.uses, "regs": MODELS["infae"].grid()},
    )  # fmt: skip
    frame = study.run(each(places, partial(_result, config, sources)))
    panels = {metric: plots.lines(frame, ["source"], "users", metric) for metric in METRICS}
    study.draw("sample_efficiency.png", plots.curves, panels, "users", "test, %", log=True)
    table = metrics_table(frame, ("source", "users"), METRICS, f"∞-AE, test, {IN_PERCENT}")
    everybody = at(frame, source=EVERYBODY).iloc[0]
    notes = [
        f"Network and item weights are those that validation prefers for all the data: {everybody['model']}.",
        "reg is chosen on validation for each source, of 12 from 0.01 to 20.",
        "The paper's figures have no numbers to compare with; its table 1 has those of 500 users. Ours of table 1 are "
        "of summaries without the penalty that serves binary rows.",
    ]
    claims = [*ahead_of_samplers(frame, split.train.n_users), *_saturation(frame, everybody), *random_users_best(frame)]
    return study.write([table], claims, notes)


def _result(config: Config, sources: Sources, source: str, users: int, seed: int) -> dict[str, Any]:
    model = sources.teacher
    if source != EVERYBODY:
        clicks = sources.interactions(source, users, seed)
        model = fit_infae(clicks, sources.split, Search.of(config, seed, sources.teacher))
    chosen = infae.InfiniteAE(**{**model.get_params(), "reg": model.reg_, "item_weights": None})
    return {**tested(model, sources.split), "model": repr(chosen)}


def ahead_of_samplers(frame: pd.DataFrame, n_users: int) -> Iterator[Claim]:
    """At a tenth of the users and below: DISTILL-CF's worst seed above every sampler's best."""
    few = frame[frame["users"] <= n_users / 10]
    for metric in ("HR@10", "PSP@10"):
        verdicts, rows = ahead_by_budget(at(few, source=DISTILLED), at(few, source=[*distillcf.CORESETS]), metric)
        if rows:
            yield wording.FEW_USERS.claim(every(verdicts), rows, metric=metric)


def _saturation(frame: pd.DataFrame, everybody: pd.Series) -> Iterator[Claim]:
    """Table 1 and figure 1: 500 synthetic users reach 96% to 105% of all the data."""
    ours = at(frame, source=DISTILLED, users=PAPER_BUDGET)
    if len(ours):
        percents = {metric: 100 * ours[metric].mean() / everybody[metric] for metric in METRICS}
        rows = [{"metric": metric, "percent": percent} for metric, percent in percents.items()]
        yield wording.SATURATES.claim(min(percents.values()) >= 96, rows)


def random_users_best(frame: pd.DataFrame) -> Iterator[Claim]:
    """Random users against each other sampler, at every budget."""
    random, others = at(frame, source=RANDOM_USERS), at(frame, source=[*{*distillcf.CORESETS} - {RANDOM_USERS}])
    for metric in ("HR@10", "PSP@10"):
        verdicts, rows = ahead_by_budget(random, others, metric)
        if rows:
            behind = [row["users"] for row, verdict in zip(rows, verdicts, strict=True) if verdict is False]
            of_most = len(rows) > 1 and behind == [max(row["users"] for row in rows)]
            why = wording.ONLY_OF_MOST() if of_most else ""
            yield wording.RANDOM_BEST.claim(every(verdicts), rows, why=why, metric=metric)


if __name__ == "__main__":
    flags.main(Config, run)
