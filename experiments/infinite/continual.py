"""What to keep of the past: everything, nothing, ADER's exemplars, or users distilled from the last period?

    python -m experiments.infinite.continual                   # a made log whose tastes drift, offline
    python -m experiments.infinite.continual --preset=paper    # ML-1M in 17 periods, figures 5 and 11

The log is parted into periods of equally many clicks. In each, a model is trained from scratch on
what a strategy gives it: the period's rows alone (Individual), one row a user of all clicks so far
(Joint), or the period's rows and beside them `budget` more: real rows by ADER's choice out of the last
period and the exemplars it was trained with, or the rows of a summary that DISTILL-CF made of the
last period. It is chosen by a tenth of the period's clicks, held out of training for every
strategy, and tested on the next period: a user's whole past and first clicks there are shown, the last
ones are to be found. Writes `record.json`, `table.md`, `means.png`, `periods.png` and `cells/`, from which a
run that was stopped goes on.

The paper is silent on all but the number of periods, the model and the strategies; what was chosen
instead is said here, in `experiments.infinite.periods` and in `experiments.infinite.exemplars`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import infae
from experiments.infinite import wording
from experiments.infinite.exemplars import choose_exemplars, representation
from experiments.infinite.periods import Periods, drifting_log, in_periods, stacked
from experiments.infinite.sources import DISTILLED, DISTILLED_BINARY, RANDOM_USERS, Sources
from experiments.recommenders.registry import MODEL_NAMES, MODELS, Search, check_models
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead
from experiments.study.flags import option
from experiments.study.runner import METRICS, Study, each, tested
from experiments.study.tables import IN_PERCENT, Table, metrics_table, spread
from infae.ranking.evaluate import metric_k
from infae.runtime import checks

JOINT, INDIVIDUAL, ADER = "Joint", "Individual", "ADER"
STRATEGIES = (JOINT, INDIVIDUAL, ADER, DISTILLED, DISTILLED_BINARY, RANDOM_USERS)
MADE = "synthetic"
"""The name of the made log, `experiments.infinite.periods.drifting_log`."""


@dataclass(frozen=True)
class Config(flags.SummaryConfig):
    dataset: str = option(
        MADE,
        f"name of a data set with a raw log, or the path of a file of one; {MADE} is a made one that drifts",
        quick="ml-100k",
        paper="ml-1m",
    )
    model: str = option("ease", "one of " + MODEL_NAMES, quick="mvae")
    strategies: tuple[str, ...] = option(
        (JOINT, INDIVIDUAL, ADER, DISTILLED, RANDOM_USERS), "some of " + ", ".join(STRATEGIES), axis=True
    )
    periods: int = option(4, "periods of equally many clicks, at least 3", quick=4, paper=17)
    budget: int = option(20, "rows injected beside the period's own", quick=30, paper=100)
    shown: float = option(0.8, "share of a user's clicks in the next period that is shown; 0: the past alone")
    held_out: float = option(0.1, "share of a row's clicks held out as validation while it is learned from")
    steps: int = option(60, "outer steps of a period's summary", quick=100, paper=200)
    out: str = option("out/continual", "output folder")


def run(config: Config) -> dict[str, Any]:
    check_models((config.model,))
    if unknown := [name for name in config.strategies if name not in STRATEGIES]:
        raise ValueError(f"unknown strategy {', '.join(unknown)}; expected some of {', '.join(STRATEGIES)}")
    metric_k(config.metric)
    checks.whole("--periods", config.periods, 3, remedy="with fewer none that is learned from has one before it")
    checks.whole("--budget", config.budget)
    made = config.dataset == MADE
    log = drifting_log() if made else infae.data.datasets.load_log(config.dataset, config.data_dir or None)
    name = Path(config.dataset).name
    periods = in_periods(log, config.periods, shown=config.shown, held_out=config.held_out, name=name)
    sessions, model = periods.sessions(), MODELS[config.model]
    study = Study(
        config, sessions, title=f"Continual learning, {model.title}", shows="Figures 5 and 11", version=1,
        uses={**Sources.of(config, sessions).uses, "grid": model.grid()},
    )  # fmt: skip
    drawn = product(config.seeds, range(1, periods.n_periods), config.strategies)
    places = ({"strategy": strategy, "period": period, "seed": seed} for seed, period, strategy in drawn)
    frame = study.run(each(places, Learner(config, periods, study).result))
    study.frame = frame = frame.drop(columns="exemplars", errors="ignore")
    means = frame.groupby(["strategy", "seed"], sort=False)[list(METRICS)].mean().reset_index()
    tables = [
        metrics_table(means, ("strategy",), METRICS, f"Test, mean over the periods, {IN_PERCENT}"),
        _by_period(frame, "NDCG@10"),
    ]
    # Individual is last: all others are drawn relative to it.
    by_strategy = sorted(means.groupby("strategy", sort=False), key=lambda found: found[0] == INDIVIDUAL)
    of_each = {strategy: group.to_dict("records") for strategy, group in by_strategy}
    study.draw("means.png", plots.bars, of_each, METRICS, f"{model.title}, mean over periods")
    panels = {metric: plots.lines(frame, ["strategy"], "period", metric) for metric in ("NDCG@10", "HR@100")}
    study.draw("periods.png", plots.curves, panels, "period learned from", "test on the next period, %")
    return study.write(tables, [*claims(frame)], [*_notes(config, periods)])


class Learner:
    """Trains a strategy's model of a period and tests it on the next."""

    def __init__(self, config: Config, periods: Periods, study: Study):
        self.config, self.periods, self.study = config, periods, study

    def result(self, strategy: str, period: int, seed: int) -> dict[str, Any]:
        """Test metrics; for ADER also the `exemplars` that the next period is given, as period:user positions."""
        config, at = self.config, period - 1
        task, (clicks, drawn_from) = self.periods.task(at), self.training(strategy, at, seed)
        model, chosen = MODELS[config.model].choose(clicks, task, Search.of(config, seed, tune=False))
        shown = {name: value for name, value in chosen.items() if name != "tried"}
        n_tested = int((np.diff(task.test.matrix.indptr) > 0).sum())
        found = {**tested(model, task), "tested": n_tested, "rows": clicks.n_users, "chosen": str(shown)}
        if strategy != ADER:
            return found
        kept = choose_exemplars(clicks.matrix, representation(model, clicks), min(config.budget, clicks.n_users))
        return found | {"exemplars": " ".join(drawn_from[row] for row in kept)}

    def training(self, strategy: str, at: int, seed: int) -> tuple[infae.Interactions, list[str]]:
        """What a period's model is trained on, and the period:user of each real row of it."""
        if strategy == JOINT:
            return self.periods.so_far(at), []
        current = self.periods.current(at)
        places = [f"{at}:{user}" for user in np.searchsorted(self.periods.user_ids, current.user_ids)]
        if at == 0 or strategy == INDIVIDUAL:
            return current, places
        if strategy == ADER:
            stored = self.study.cells[{"strategy": ADER, "period": at, "seed": seed}]["exemplars"].split()
            return stacked(current, self.rows(stored)), places + stored
        # Rows made of the last period alone: a summary's, or its own, drawn at random.
        last = self.periods.own(at - 1)
        n_made = min(self.config.budget, last.train.n_users)
        return stacked(current, Sources.of(self.config, last).interactions(strategy, n_made, seed)), places

    def rows(self, places: Sequence[str]) -> infae.Interactions:
        """Rows by period:user, as they were trained on when their period was the current one."""
        found = []
        for place in places:
            at, user = map(int, place.split(":"))
            rows = self.periods.current(at)
            found.append(rows.select_users(rows.user_ids == self.periods.user_ids[user]))
        return reduce(stacked, found)


def _by_period(frame: pd.DataFrame, metric: str) -> Table:
    strategies = frame["strategy"].unique().tolist()
    rows = []
    for period, group in frame.groupby("period"):
        values = [spread(group.loc[group["strategy"] == s, metric].to_list(), metric) for s in strategies]
        rows.append([f"{period} (next: {group['tested'].iloc[0]:,} users)", *values])
    return Table(f"Test {metric} of the period after, in percent", ["period", *strategies], rows)


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """DISTILL-CF above each of the others by the mean over periods, and above ADER in most of them.

    Seeds are compared one by one: periods, and what is held out in them, are the same for both.
    """
    means = frame.groupby(["seed", "strategy"])["NDCG@10"].mean().unstack()
    if DISTILLED not in means:
        return
    # The first period has no past: all strategies are the same there.
    later = frame[frame["period"] > frame["period"].min()]
    by_period = later.pivot(index="seed", columns=["strategy", "period"], values="NDCG@10")
    for other, what in wording.OTHERS.items():
        if other not in means:
            continue
        ours, theirs = means[DISTILLED], means[other]
        won = by_period[DISTILLED] > by_period[other]
        n_won = int((by_period[DISTILLED].mean() > by_period[other].mean()).sum())
        told = {"why": wording.WHY_NOT_BETTER[other], "won": n_won, "periods": won.shape[1]}
        yield wording.SERVES_BETTER.claim(ahead(ours - theirs, [0]), ours=ours, theirs=theirs, what=what, **told)
        if other == ADER:
            share = won.mean(axis=1)
            yield wording.IN_MOST_PERIODS.claim(ahead(share, [0.5]), share=share, **told)


def _notes(config: Config, periods: Periods) -> Iterator[str]:
    shown = "the first clicks there" if config.shown else "nothing else"
    yield (
        f"{config.periods} periods of equally many clicks; a model of period i is tested on users of period i + 1, "
        f"shown their past and {shown} (share {config.shown:g})."
    )
    yield (
        "Models are trained from scratch in every period; ADER's loss on the old model's scores is left out, so that "
        "strategies differ by their rows alone."
    )
    if MODELS[config.model].needs_torch:
        yield "No strategy is searched over a grid: models are at their defaults, and stop where validation is best."
    sizes = [periods.current(at).n_users for at in range(periods.n_periods - 2)]
    if few := [f"{n:,} rows of period {period}" for period, n in enumerate(sizes, 1) if n < config.budget]:
        listed = ", ".join(few)
        yield f"The budget of {config.budget:,} is cut to a period's users where they are fewer: {listed}."


if __name__ == "__main__":
    flags.main(Config, run)
