"""∞-AE, DISTILL-CF + ∞-AE and all competitors, each tuned on validation: table 1 of the paper.

    python -m experiments.infinite.table_1                                      # an embedded synthetic set, offline
    python -m experiments.infinite.table_1 --preset=paper                       # ML-1M
    python -m experiments.infinite.table_1 --preset=paper --dataset=magazine    # or douban, netflix

Beyond the paper's nine columns there is ∞-AE as `infae.select` chooses it. Writes `record.json` (with
all that was tried), `table.md`, `table_1.png` and `cells/`, from which a run that was stopped
goes on. The competitors MF, NeuMF, LightGCN and MVAE need the `torch` extra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

import infae
from experiments.infinite.published import TABLE_1
from experiments.infinite.sources import Sources, check_budgets
from experiments.recommenders.registry import (
    MODELS,
    OWN_MODEL,
    PUBLISHED_INFAE,
    Chosen,
    Model,
    Models,
    Search,
    check_models,
)
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import Claim, Study, Work, ahead, every, load_split, metrics_table
from infae.ranking.evaluate import Recommender

RANKING = ("HR@10", "HR@100", "NDCG@10", "NDCG@100", "PSP@10")
METRICS = ("AUC-sampled", *RANKING, "AUC")
DISTILLED_INFAE, PAPER_USERS = "DISTILL-CF + ∞-AE", 500
REG_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the reg that DISTILL-CF learnt on its training users: regs to choose from on validation, ties to the smallest."""
OFFLINE = ("popularity", "bias", "ease", "infae", "selected", "distilled")
PAPER = ("popularity", "bias", "mf", "neumf", "lightgcn", "ease", "mvae", "infae", "distilled", "selected")


@dataclass(frozen=True)
class Config:
    """Flags of the table."""

    preset: str = flags.preset_option()
    dataset: str = flags.dataset_option()
    data_dir: str = flags.data_dir_option()
    models: tuple[str, ...] = option(OFFLINE, ", ".join(PAPER) + ", or " + OWN_MODEL, axis=True, quick=PAPER)
    n_users: int = option(60, "synthetic users", quick=90, paper=500)
    steps: int = option(100, "outer steps of the summaries", quick=150, paper=400)
    sharpness: float = option(0.0, "of the summaries, see distillcf.Config; above 0 serves binary rows, unused here")
    seeds: tuple[int, ...] = flags.seeds_option()
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    shared: str = flags.shared_option()
    out: str = option("out/table_1", "output folder")
    plot: bool = option(True, "write table_1.png")


def run(config: Config) -> dict[str, Any]:
    """Tune, fit and test every model, and return the record that is written."""
    split = load_split(config)
    check_budgets([config.n_users], split)
    sources = Sources(split, config.shared, config.metric, config.steps, config.sharpness)
    models = _models(config, sources)
    check_models(config.models, models)
    study = Study(config, split, title=f"All models on {_name(split)}", shows="Table 1")
    frame = study.run(_work(config, split, sources, models))
    published = _published(config)
    pictures = []
    if config.plot:
        rows = {title: group.to_dict("records") for title, group in frame.groupby("model", sort=False)}
        if len(rows) > 1:
            plots.grouped(study.folder / "table_1.png", rows, RANKING, published, f"test, {_name(split)}")
            pictures = ["table_1.png"]
    caption = "Test, in percent (AUC as it is)" + ("; the paper's figure in brackets" if published else "")
    tables = [metrics_table(frame, ("model",), METRICS, caption, published)]
    return study.write(tables, _claims(config, split, frame, published), pictures, _notes(config))


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


def _name(split: infae.Split) -> str:
    """Without what is said of the split: that of the data."""
    return split.name.partition(",")[0]


def _published(config: Config) -> Mapping[str, Mapping[str, float]]:
    """The paper's figures of this data set; those of DISTILL-CF only for its number of users."""
    rows = dict(TABLE_1.get(config.dataset, {}))
    if config.n_users != PAPER_USERS:
        rows.pop(DISTILLED_INFAE, None)
    return rows


def _models(config: Config, sources: Sources) -> Mapping[str, Model]:
    return Models(
        {
            **MODELS,
            "distilled": Model(DISTILLED_INFAE, partial(_choose_distilled, config, sources)),
            "selected": Model("∞-AE, selected", _choose_selected),
        }
    )


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
    return [
        (
            {"model": models[name].title, "seed": seed},
            partial(_result, config, split, sources, models[name], seed),
        )
        for name in config.models
        for seed in (config.seeds if name == "distilled" else config.seeds[:1])
    ]


def _result(config: Config, split: infae.Split, sources: Sources, model: Model, seed: int) -> dict[str, Any]:
    search = Search(config.metric, config.preset, seed, shared=config.shared, progress=True)
    fitted, chosen = model.choose(split.train, split, search)
    result = {**_metrics(fitted, split), "chosen": chosen}
    if model.title == DISTILLED_INFAE:
        result["matched"] = _metrics(sources.teacher, split)
    return result


def _metrics(model: Recommender, split: infae.Split) -> dict[str, float]:
    report = infae.evaluate(model, split, k=(10, 100))
    return {metric: report[metric] for metric in METRICS}


def _claims(
    config: Config, split: infae.Split, frame: pd.DataFrame, published: Mapping[str, Mapping[str, float]]
) -> list[Claim]:
    models = {str(title): group for title, group in frame.groupby("model", sort=False)}
    ours = (PUBLISHED_INFAE, DISTILLED_INFAE)
    if config.preset != "paper":
        return [claim for title in ours for claim in _beats_competitors(title, models, {})]
    claims = [claim for title in ours for claim in _beats_competitors(title, models, published)]
    n_validated = int((np.diff(split.validation.matrix.indptr) > 0).sum())
    return claims + _beside_published(models, published, config.metric, n_validated)


def _beats_competitors(
    title: str, models: Mapping[str, pd.DataFrame], published: Mapping[str, Mapping[str, float]]
) -> list[Claim]:
    """The paper's first claims: ∞-AE, and ∞-AE on synthetic users, above every model that is not ∞-AE."""
    rivals = {t: cells for t, cells in models.items() if "∞-AE" not in t}
    if title not in models or not rivals:
        return []
    ours = models[title]
    behind = {}
    for rival, cells in rivals.items():
        for metric in RANKING:
            if not ahead(ours[metric], cells[metric]):
                both = [flags.spread(model[metric], metric) for model in (cells, ours)]
                behind[rival, metric] = f"{metric} {' against '.join(both)}"
    found = "It is ahead of all of them in HR, NDCG and PSP."
    by_auc = [rival for rival, cells in rivals.items() if not ours["AUC"].mean() > cells["AUC"].mean()]
    if behind:
        names = dict.fromkeys(rival for rival, _ in behind)
        parts = [f"{n}, {', '.join(line for (rival, _), line in behind.items() if rival == n)}" for n in names]
        found = f"Not behind it, theirs against ours: {'; '.join(parts)}."
    if by_auc:
        found += f" By AUC, which does not count here, {', '.join(by_auc)} {'are' if len(by_auc) > 1 else 'is'} ahead."
    verdict = every(ahead(ours[metric], cells[metric]) for cells in rivals.values() for metric in RANKING)
    why = _tuned_ease(models, published) if any(rival == "EASE" for rival, _ in behind) else ""
    if why:
        against_ease = every(ahead(ours[metric], rivals["EASE"][metric]) for metric in RANKING)
        why += f" Against EASE so tuned the claim {'does not stand' if against_ease is False else 'is not decided'}."
    else:
        why = _both_figures(title, models, published, list(behind))
    return [Claim(f"{title} outperforms every competitor.", verdict, found, why)]


def _both_figures(
    title: str,
    models: Mapping[str, pd.DataFrame],
    published: Mapping[str, Mapping[str, float]],
    behind: Sequence[tuple[str, str]],
) -> str:
    """Where ours and the competitors that it is not ahead of stand beside what the paper prints for them."""
    if title not in published:
        return ""
    told = []
    for metric in RANKING:
        names = [rival for rival, by in behind if by == metric and rival in published]
        figures = (f"{m} {100 * models[m][metric].mean():.2f} ({published[m][metric]:.2f})" for m in (title, *names))
        told += [f"{metric} of {', '.join(figures)}"] if names else []
    return f"Here, with the paper's figure in brackets: {'; '.join(told)}." if told else ""


def _tuned_ease(models: Mapping[str, pd.DataFrame], published: Mapping[str, Mapping[str, float]]) -> str:
    """How far EASE got, where that is clearly above what the paper prints for it."""
    if "EASE" not in published:
        return ""
    ease = 100 * models["EASE"]["NDCG@10"].mean()
    if ease < 1.02 * published["EASE"]["NDCG@10"]:
        return ""
    return (
        f"EASE has NDCG@10 {ease:.2f} here, {published['EASE']['NDCG@10']:.2f} in the paper's table: its lambda was "
        "chosen on the same validation clicks as everything else."
    )


def _beside_published(
    models: Mapping[str, pd.DataFrame], published: Mapping[str, Mapping[str, float]], metric: str, n_validated: int
) -> list[Claim]:
    """Whether each model reaches what the paper prints for it: less 1% for its own, 5% for the others."""
    claims = []
    for title, cells in models.items():
        if title not in published:
            continue
        allowed = 0.01 if "∞-AE" in title else 0.05
        ratios = {
            name: cells[name].mean() * (1 if name.startswith("AUC") else 100) / theirs
            for name, theirs in published[title].items()
        }
        found = ", ".join(f"{name} {100 * (ratio - 1):+.1f}%" for name, ratio in ratios.items())
        says = f"{title} reaches the paper's own figures, less {allowed:.0%}."
        first = cells.iloc[0]
        told = [_ties(first["chosen"].get("tried", []), metric, n_validated), _matched(title, first)]
        why = " ".join(filter(None, told))
        claims.append(Claim(says, bool(min(ratios.values()) >= 1 - allowed), f"Ours against theirs: {found}.", why))
    return claims


def _ties(tried: Sequence[Mapping[str, Any]], metric: str, n_users: int) -> str:
    """How many settings came near the best on validation, where several did; failed ones have no figure.

    A mean over n users of values in [0, 1] has a standard error of at most sqrt(mean (1 - mean) / n). Differences
    between settings may have a smaller one, for the users are the same. Pooled AUC is no such mean.
    """
    known = [row[metric] for row in tried if row.get(metric) is not None]
    values = [value for value in known if np.isfinite(value)]
    if not values or metric == "AUC-sampled":
        return ""
    best = max(values)
    error = (best * (1 - best) / n_users) ** 0.5
    near = sum(value >= best - error for value in values)
    if near < 2:
        return ""
    return (
        f"On the {n_users:,} users of validation {near} of the {len(values)} settings tried come within a standard "
        f"error, at most {100 * error:.1f}, of the best {metric}, {100 * best:.1f}."
    )


def _matched(title: str, cell: pd.Series) -> str:
    """What a summary was distilled to match."""
    if title != DISTILLED_INFAE:
        return ""
    shown = ", ".join(f"{name} {100 * cell['matched'][name]:.2f}" for name in RANKING)
    return f"The full-data model that it was distilled to match, as validation chose it, has {shown}."


if __name__ == "__main__":
    flags.main(Config, run)
