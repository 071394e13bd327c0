"""∞-AE, DISTILL-CF + ∞-AE and all competitors, each tuned on validation: table 1 of the paper.

    python -m experiments.infinite.table_1                                      # an embedded synthetic set, offline
    python -m experiments.infinite.table_1 --preset=paper                       # ML-1M
    python -m experiments.infinite.table_1 --preset=paper --dataset=magazine    # or douban, netflix

Beyond the paper's nine columns there is ∞-AE as `infae.select` chooses it. Writes `record.json` (with
all that was tried), `table.md`, `table_1.png` and `cells/`, from which a run that was stopped
goes on. The competitors MF, NeuMF, LightGCN and MVAE need the `torch` extra.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

import infae
from experiments.infinite import wording
from experiments.infinite.published import TABLE_1
from experiments.infinite.sources import Sources, check
from experiments.recommenders import registry
from experiments.recommenders.registry import MODELS, PUBLISHED_INFAE, Chosen, Model, Search
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, every
from experiments.study.flags import option
from experiments.study.runner import Study, Work, each, load_split
from experiments.study.tables import IN_PERCENT, metrics_table
from infae.ranking.evaluate import Recommender

RANKING = ("HR@10", "HR@100", "NDCG@10", "NDCG@100", "PSP@10")
METRICS = ("AUC-sampled", *RANKING, "AUC")
DISTILLED_INFAE, PAPER_USERS = "DISTILL-CF + ∞-AE", 500
REG_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the reg that DISTILL-CF learnt on its training users: regs to choose from on validation, ties to the smallest."""
OFFLINE = ("popularity", "bias", "ease", "infae", "selected", "distilled")
PAPER = ("popularity", "bias", "mf", "neumf", "lightgcn", "ease", "mvae", "infae", "distilled", "selected")


@dataclass(frozen=True)
class Config(flags.SummaryConfig):
    models: tuple[str, ...] = option(OFFLINE, ", ".join(PAPER) + ", or " + registry.OWN_MODEL, axis=True, quick=PAPER)
    n_users: int = option(60, "synthetic users", quick=90, paper=500)
    sharpness: float = option(0.0, "of the summaries, see distillcf.Config; above 0 serves binary rows, unused here")
    out: str = option("out/table_1", "output folder")


def run(config: Config) -> dict[str, Any]:
    split = load_split(config)
    check(split, [config.n_users])
    sources = Sources.of(config, split)
    models = registry.Models(
        {
            **MODELS,
            "distilled": Model(DISTILLED_INFAE, partial(_choose_distilled, config, sources), grid=lambda: REG_FACTORS),
            "selected": Model("∞-AE, selected", _choose_selected),
        }
    )
    registry.check_models(config.models, models)
    # Without what is said of the split: that of the data.
    name = split.name.partition(",")[0]
    study = Study(
        config, split, title=f"All models on {name}", shows="Table 1", version=1, uses=sources.uses,
        grids=registry.grids(config.models, models),
    )  # fmt: skip
    frame = study.run(_work(config, split, sources, models))
    published = _published(config)
    rows = {title: group.to_dict("records") for title, group in frame.groupby("model", sort=False)}
    if len(rows) > 1:
        study.draw("table_1.png", plots.grouped, rows, RANKING, published, f"test, {name}")
    caption = f"Test, {IN_PERCENT}" + ("; the paper's figure in brackets" if published else "")
    tables = [metrics_table(frame, ("model",), METRICS, caption, published)]
    return study.write(tables, [*claims(config, split, frame, published)], _notes(config))


def _notes(config: Config) -> list[str]:
    notes = [
        "HR@k is hits / min(k, held-out), as in the paper's code; AUC-sampled has all users in one pool, as there: "
        "scores of different users are compared, which ranking losses leave undefined.",
        "Models trained in PyTorch have one seed, the first, for their search and their figures; on large data "
        "grids are cut as their modules say, MVAE's everywhere. DISTILL-CF has all seeds, the models in closed form "
        "need none.",
    ]
    if "distilled" in config.models:
        notes.append(
            f"{DISTILLED_INFAE}: {config.n_users} users, sharpness {config.sharpness:g}; the network and item weights "
            "are those that validation chose for all the data, not the published ones, and reg is chosen on validation "
            f"of {', '.join(f'{factor:g}' for factor in REG_FACTORS)} times the one that was learnt."
        )
    if "bias" in config.models:
        notes.append("Bias only ranks by the item's bias alone.")
    return notes


def _published(config: Config) -> Published:
    """The paper's figures of this data set; those of DISTILL-CF only for its number of users."""
    rows = TABLE_1.get(config.dataset, {})
    return {title: row for title, row in rows.items() if title != DISTILLED_INFAE or config.n_users == PAPER_USERS}


def _choose_distilled(
    config: Config, sources: Sources, clicks: infae.Interactions, split: infae.Split, search: Search
) -> Chosen:
    summary = sources.summary(config.n_users, search.seed)
    regs = [factor * summary.reg for factor in REG_FACTORS]
    model = summary.fit("soft", validation=split, reg=regs, metric=search.metric)
    return model, {"reg": model.reg_, "tried": model.path_, **summary.model}


def _choose_selected(clicks: infae.Interactions, split: infae.Split, search: Search) -> Chosen:
    found = infae.select(clicks, split, metric=search.metric, seed=search.seed, progress=True)
    return found.model, {"model": repr(found.model), "tried": [*found.trials]}


def _work(config: Config, split: infae.Split, sources: Sources, models: Mapping[str, Model]) -> list[Work]:
    named = {models[name].title: models[name] for name in config.models}

    def metrics(model: Recommender) -> dict[str, float]:
        report = infae.evaluate(model, split, k=(10, 100))
        return {metric: report[metric] for metric in METRICS}

    def result(model: str, seed: int) -> dict[str, Any]:
        fitted, chosen = named[model].choose(split.train, split, Search.of(config, seed, progress=True))
        matched = {"matched": metrics(sources.teacher)} if model == DISTILLED_INFAE else {}
        return {**metrics(fitted), "chosen": chosen, **matched}

    seeds = {title: config.seeds if title == DISTILLED_INFAE else config.seeds[:1] for title in named}
    return each(({"model": title, "seed": seed} for title in named for seed in seeds[title]), result)


Published = Mapping[str, Mapping[str, float]]


def claims(config: Config, split: infae.Split, frame: pd.DataFrame, published: Published) -> Iterator[Claim]:
    """∞-AE above its competitors; under the full protocol also every model beside the paper's figures for it."""
    models = {str(title): group for title, group in frame.groupby("model", sort=False)}
    full = config.preset == "paper"
    for title in (PUBLISHED_INFAE, DISTILLED_INFAE):
        yield from beats_competitors(title, models, published if full else {})
    if full:
        n_validated = int((np.diff(split.validation.matrix.indptr) > 0).sum())
        yield from beside_published(models, published, config.metric, n_validated)


def beats_competitors(title: str, models: Mapping[str, pd.DataFrame], published: Published) -> Iterator[Claim]:
    """The paper's first claims: ∞-AE, and ∞-AE on synthetic users, above every model that is not ∞-AE."""
    rivals = {t: cells for t, cells in models.items() if "∞-AE" not in t}
    if title not in models or not rivals:
        return
    ours = models[title]
    verdicts = {r: {m: ahead(ours[m], cells[m]) for m in RANKING} for r, cells in rivals.items()}
    behind = {r: missed for r, of in verdicts.items() if (missed := [m for m in RANKING if not of[m]])}
    rows = []
    for rival, missed in behind.items():
        figures = [{"metric": m, "theirs": rivals[rival][m], "ours": ours[m]} for m in missed]
        rows.append({"name": rival, "metrics": wording.BEHIND_BY(figures)})
    found = wording.BEHIND(rows) if rows else wording.AHEAD()
    by_auc = [rival for rival, cells in rivals.items() if not ours["AUC"].mean() > cells["AUC"].mean()]
    if by_auc:
        found += wording.AHEAD_BY_AUC(names=", ".join(by_auc), are="are" if len(by_auc) > 1 else "is")
    against = {rival: every(of.values()) for rival, of in verdicts.items()}
    why = _tuned_ease(models, published, against["EASE"]) if "EASE" in behind else ""
    why = why or _both_figures(title, models, published, behind)
    yield wording.OUTPERFORMS.claim(every(against.values()), why=why, title=title, found=found)


def _both_figures(
    title: str, models: Mapping[str, pd.DataFrame], published: Published, behind: Mapping[str, Sequence[str]]
) -> str:
    """Where ours and the competitors that it is not ahead of stand beside what the paper prints for them."""
    told = []
    for metric in RANKING if title in published else ():
        names = [rival for rival, metrics in behind.items() if metric in metrics and rival in published]
        figures = [
            {"name": m, "ours": 100 * models[m][metric].mean(), "theirs": published[m][metric]} for m in (title, *names)
        ]
        told += [{"metric": metric, "models": wording.BESIDE(figures)}] if names else []
    return wording.BOTH_FIGURES(told) if told else ""


def _tuned_ease(models: Mapping[str, pd.DataFrame], published: Published, verdict: bool | None) -> str:
    """How far EASE got, where that is clearly above what the paper prints for it, and the verdict against it."""
    theirs = published.get("EASE", {}).get("NDCG@10", np.inf)
    ours = 100 * models["EASE"]["NDCG@10"].mean()
    stands = "does not stand" if verdict is False else "is not decided"
    return "" if ours < 1.02 * theirs else wording.TUNED_EASE(ours=ours, theirs=theirs, stands=stands)


def beside_published(
    models: Mapping[str, pd.DataFrame], published: Published, metric: str, n_validated: int
) -> Iterator[Claim]:
    """Whether each model reaches what the paper prints for it: less 1% for its own, 5% for the others."""
    for title, cells in models.items():
        if title not in published:
            continue
        allowed = 0.01 if "∞-AE" in title else 0.05
        theirs = pd.Series(published[title])
        ratios = cells[theirs.index].mean() * np.where(theirs.index.str.startswith("AUC"), 1, 100) / theirs
        rows = [{"name": name, "percent": 100 * (ratio - 1)} for name, ratio in ratios.items()]
        first = cells.iloc[0]
        told = [_ties(first["chosen"].get("tried", []), metric, n_validated)]
        if title == DISTILLED_INFAE:
            matched = ({"name": name, "percent": 100 * first["matched"][name]} for name in RANKING)
            told.append(wording.MATCHED(matched))
        holds = bool(ratios.min() >= 1 - allowed)
        yield wording.REACHES.claim(holds, rows, why=" ".join(filter(None, told)), title=title, allowed=allowed)


def _ties(tried: Sequence[Mapping[str, Any]], metric: str, n_users: int) -> str:
    """How many settings came near the best on validation, where several did; failed ones have no figure.

    A mean over n users of values in [0, 1] has a standard error of at most sqrt(mean (1 - mean) / n). Differences
    between settings may have a smaller one, for the users are the same. Pooled AUC is no such mean.
    """
    values = pd.Series([row.get(metric) for row in tried], dtype=float).dropna()
    best = values.max()
    error = (best * (1 - best) / n_users) ** 0.5
    near = int((values >= best - error).sum())
    if near < 2 or metric == "AUC-sampled":
        return ""
    percents = {"error": 100 * error, "best": 100 * best}
    return wording.TIES(n_users=n_users, near=near, tried=len(values), metric=metric, **percents)


if __name__ == "__main__":
    flags.main(Config, run)
