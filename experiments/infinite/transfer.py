"""Do other models learn from a summary too? EASE, ∞-AE and PyTorch models on summaries, coresets and all data.

    python -m experiments.infinite.transfer                    # an embedded synthetic set, offline
    python -m experiments.infinite.transfer --preset=paper     # ML-1M, figure 2 and beyond it

For each budget of users and each seed the data is distilled, and as many users are taken by each
coreset sampler (as many clicks as they have, for random interactions). Every model is trained on
each, its regularisation (for those in PyTorch the epoch to stop at, and on all the data the rest)
chosen on validation clicks, and tested on all real users. Writes `record.json`, `table.md`,
`transfer.png` and `cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

import distillcf
from experiments.infinite import wording
from experiments.infinite.sources import DISTILLED, RANDOM_INTERACTIONS, RANDOM_USERS, SOURCES, Sources, check, drawn
from experiments.recommenders.registry import CHOSEN_INFAE, MODEL_NAMES, check_models, grids, title_with_inner
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, ahead_by_budget, at, every
from experiments.study.flags import option
from experiments.study.runner import METRICS, Study, load_split
from experiments.study.tables import IN_PERCENT, metrics_table

NOTES = (
    f"{CHOSEN_INFAE}, has the network and item weights of DISTILL-CF's teacher, which validation prefers for all the "
    "data; reg is chosen for each source.",
    "Models in PyTorch are tuned over their preset's grid on all the data alone. On summaries and coresets they are "
    "trained once, at their defaults, and the epoch to stop at is chosen.",
)


@dataclass(frozen=True)
class Config(flags.SummaryConfig):
    budgets: tuple[int, ...] = option(
        (20, 60), "users of the summary and of each coreset", axis=True, quick=(30, 90), paper=(50, 100, 200, 500)
    )
    sources: tuple[str, ...] = option(SOURCES, "what is trained on", axis=True)
    models: tuple[str, ...] = option(
        ("ease", "infae"), "some of " + MODEL_NAMES, axis=True, paper=("ease", "infae", "mf", "lightgcn", "mvae")
    )
    full: bool = option(True, "also train each model on all data", axis=True)
    out: str = option("out/transfer", "output folder")


def run(config: Config) -> dict[str, Any]:
    check_models(config.models)
    split = load_split(config)
    check(split, config.budgets, config.sources)
    sources = Sources.of(config, split)
    study = Study(
        config, split, title="Other models on summaries and coresets", shows="Figure 2", version=1, uses=sources.uses,
        grids=grids(config.models),
    )  # fmt: skip
    frame = study.run(
        [
            ({"model": title_with_inner(name), **at}, partial(sources.learnt, config, name, **at))
            for at in drawn(config, split, config.seeds, full=config.full)
            for name in config.models
        ]
    )
    tables = [metrics_table(frame, ("model", "source", "users"), METRICS, f"Test, {IN_PERCENT}")]
    panels = {m: plots.lines(part, ["source"], "users", "NDCG@10") for m, part in frame.groupby("model", sort=False)}
    study.draw("transfer.png", plots.curves, panels, "users", "test NDCG@10, %", log=True)
    return study.write(tables, [*ahead_of_samplers(frame), *interactions_scale_slower(frame)], NOTES)


def ahead_of_samplers(frame: pd.DataFrame) -> Iterator[Claim]:
    """For each model: DISTILL-CF above every coreset at every budget, by HR@10."""
    for model, cells in frame.groupby("model", sort=False):
        sampled = at(cells, source=[*distillcf.CORESETS])
        verdicts, rows = ahead_by_budget(at(cells, source=DISTILLED), sampled, "HR@10")
        if rows:
            yield wording.LEARNS_MORE.claim(every(verdicts), rows, model=model)


def interactions_scale_slower(frame: pd.DataFrame) -> list[Claim]:
    """HR@10 on the most over that on the fewest: EASE's growth over ∞-AE's, of interactions and of users, by seed."""
    sources = [RANDOM_INTERACTIONS, RANDOM_USERS]
    cells = at(frame, source=sources, model=["EASE", CHOSEN_INFAE])
    hits = cells.pivot(index="seed", columns=["users", "model", "source"], values="HR@10")
    if cells["users"].nunique() < 2 or not hits.all(axis=None):
        return []
    few, many = cells["users"].min(), cells["users"].max()
    gains = (hits[many] / hits[few]).dropna(axis=1)
    if gains.shape[1] < 4:
        return []
    rows = [{"source": s, "ease": gains["EASE"][s].mean(), "infae": gains[CHOSEN_INFAE][s].mean()} for s in sources]
    interactions, users = (gains["EASE"][source] / gains[CHOSEN_INFAE][source] for source in sources)
    fewest = 100 * at(cells, source=RANDOM_INTERACTIONS, users=few).groupby("model")["HR@10"].mean()
    why = ""
    if ahead(-interactions, [-1]) is False and fewest["EASE"] < fewest[CHOSEN_INFAE]:
        why = wording.BEGINS_LOWER(few=few, ease=fewest["EASE"], infae=fewest[CHOSEN_INFAE])
    holds = every([ahead(-interactions, [-1]), ahead(users - interactions, [0])])
    return [wording.GAINS_SLOWER.claim(holds, rows, why=why, many=many, few=few)]


if __name__ == "__main__":
    flags.main(Config, run)
