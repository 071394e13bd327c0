"""How does noise in the clicks hurt? EASE and ∞-AE on all the data, on DISTILL-CF's users, on samplers' users.

    python -m experiments.infinite.noise                    # an embedded synthetic set, offline
    python -m experiments.infinite.noise --preset=paper     # ML-1M, figures 3, 4, 13 and 14

Of every user, x% of all items are flipped in train: clicked becomes not clicked, and the other way
round. The noisy train part is distilled or sampled, models are fitted to it with their regularisation
chosen on validation, and tested on clean test clicks, with histories as noisy as train, or clean
ones. Writes `record.json`, `table.md`, `drop.png` (figures 3 and 13), `budgets.png` (4 and 14) and
`cells/`, from which a run that was stopped goes on.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

import distillcf
import infae
from experiments.infinite import wording
from experiments.infinite.flips import flip
from experiments.infinite.sources import DISTILLED, EVERYBODY, HEAD_USERS, RANDOM_USERS, SOURCES, Sources, check, drawn
from experiments.recommenders.registry import CHOSEN_INFAE, MODEL_NAMES, MODELS, check_models, grids, title_with_inner
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, ahead_of_each, at
from experiments.study.flags import option
from experiments.study.runner import METRICS, Study, Work, load_split
from experiments.study.tables import IN_PERCENT, metrics_table
from infae.data.ops import row_of
from infae.runtime import checks

EASE, UNTUNED = MODELS["ease"].title, MODELS["ease_untuned"].title


@dataclass(frozen=True)
class Config(flags.SummaryConfig):
    noise: tuple[float, ...] = option(
        (0.0, 5.0), "percent of all items that are flipped, of each user", axis=True, paper=(0.0, 1.0, 5.0)
    )
    histories: str = option("noisy", "what users are scored by: noisy, train as it is learned from; or clean")
    budgets: tuple[int, ...] = option((20, 60), "users", axis=True, quick=(30, 90), paper=(50, 100, 500))
    sources: tuple[str, ...] = option(SOURCES, "what models are fitted to", axis=True)
    models: tuple[str, ...] = option(
        ("ease", "infae"), "some of " + MODEL_NAMES, axis=True, paper=("ease", "infae", "ease_untuned")
    )
    # The penalty keeps the noise in: with 500 users of ML-1M at 5%, validation HR@100 falls from 50.5 to 37.9 with it.
    sharpness: float = option(0.0, "of the summaries, see distillcf.Config; above 0 their binary rows gain")
    out: str = option("out/noise", "output folder")


def run(config: Config) -> dict[str, Any]:
    check_models(config.models)
    checks.choice("--histories", config.histories, ("noisy", "clean"))
    if not all(0 <= percent <= 100 for percent in config.noise) or 0.0 not in config.noise:
        raise ValueError(
            f"--noise takes percentages from 0 to 100, and 0, which drops are measured from; got {config.noise}"
        )
    split = load_split(config)
    check(split, config.budgets, config.sources)
    study = Study(
        config, split, title="Noise in the clicks", shows="Figures 3, 4, 13 and 14", version=1,
        uses=Sources.of(config, split).uses, grids=grids(config.models),
    )  # fmt: skip
    frame = study.run(_work(config, split))
    study.draw("drop.png", plots.curves, _drops(frame), "items flipped, %", "change of HR@10, %")
    shown = at(frame, source=[DISTILLED, RANDOM_USERS, EVERYBODY]).groupby("noise", sort=False)
    budgets = {
        f"{percent:g}% noise": plots.lines(part, ["model", "source"], "users", "HR@10") for percent, part in shown
    }
    study.draw("budgets.png", plots.curves, budgets, "users", "test HR@10, %", log=True)
    caption = f"Test on clean clicks, {IN_PERCENT}; noise is the percentage of items flipped"
    table = metrics_table(frame, ("model", "noise", "source", "users"), METRICS, caption)
    notes = [
        f"Users are scored by {config.histories} histories, for validation and test. Held-out clicks are clean; those "
        "that noise put into a noisy history are left out. The paper does not say which histories it used.",
        f"{CHOSEN_INFAE}, has the network, item weights and reg that validation prefers, for each level of noise anew; "
        "EASE's lambda is chosen likewise.",
        "The paper's figures have no numbers to compare with.",
    ]
    return study.write([table], [*claims(frame)], notes)


def _work(config: Config, split: infae.Split) -> list[Work]:
    # The data of one noise and seed serve many cells, one after the other.
    @lru_cache(maxsize=1)
    def sources(percent: float, seed: int) -> Sources:
        return Sources.of(config, noisy(config, split, percent, seed))

    def learnt(name: str, percent: float, source: str, users: int, seed: int) -> dict[str, float]:
        return sources(percent, seed).learnt(config, name, source, users, seed)

    return [
        ({"model": title_with_inner(name), "noise": percent, **at}, partial(learnt, name, percent, **at))
        for seed, percent in product(config.seeds, config.noise)
        for at in drawn(config, split, [seed])
        for name in config.models
    ]


def noisy(config: Config, split: infae.Split, percent: float, seed: int) -> infae.Split:
    """The split with noise in train, and in the histories that users are scored by or not there.

    What noise puts into a history is no longer to be found: held-out clicks that are in it are left out.
    """
    if not percent:
        return split
    train = flip(split.train, percent / 100, np.random.default_rng([seed, round(1000 * percent)]))
    if config.histories == "clean":
        contexts = {"validation_context": split.context("validation"), "test_context": split.context("test")}
        return dataclasses.replace(split, train=train, **contexts)  # type: ignore[arg-type]

    def left(held_out: infae.Interactions) -> infae.Interactions:
        cells = row_of(held_out.matrix), held_out.matrix.indices
        return held_out.masked(np.asarray(train.matrix[cells]).ravel() == 0)

    return dataclasses.replace(split, train=train, validation=left(split.validation), test=left(split.test))


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """Of EASE on noisy data, and of each model on what samplers and DISTILL-CF make of it; none without noise."""
    most, there = frame["noise"].max(), set(frame["model"])
    if most == 0:
        return
    for ease in (EASE, UNTUNED):
        why = wording.LAMBDA_ON_NOISE(model=UNTUNED) if ease == EASE and UNTUNED in there else ""
        for percent in sorted(set(frame["noise"]) - {0.0}):
            yield from _distilled_beats_all(ease, at(frame, noise=percent, model=ease), percent, percent == most, why)
        if {ease, CHOSEN_INFAE} <= there:
            # On all the data, seed by seed.
            hits = at(frame, source=EVERYBODY).pivot(index="seed", columns=["model", "noise"], values="HR@10")
            lead = 100 * (hits[CHOSEN_INFAE] - hits[ease])
            grows = ahead(lead[most], lead[0.0])
            yield wording.LEAD_GROWS.claim(grows, why=why, model=ease, **_means(lead, most))
    for model, cells in frame.groupby("model", sort=False):
        yield from _best_at_most_noise(str(model), cells, most)
        yield from _gap_grows(str(model), cells, most)
        yield from compounds(str(model), cells, most)
        yield from head_users_gain(str(model), cells, most)


def _distilled_beats_all(ease: str, cells: pd.DataFrame, percent: float, most: bool, why: str) -> Iterator[Claim]:
    """Summaries against all the data at this noise; at the most of it the smallest summary against the largest."""
    told: dict[str, Any] = {"model": ease, "percent": percent}
    everybody, summaries = at(cells, source=EVERYBODY), at(cells, source=DISTILLED)
    for users, group in summaries.groupby("users"):
        for metric in ("HR@10", "HR@100"):
            figures = {"ours": group[metric], "theirs": everybody[metric]}
            place = {"users": users, "metric": metric}
            yield wording.BETTER_THAN_ALL.claim(ahead(**figures), why=why, **place, **figures, **told)
    if most and summaries["users"].nunique() > 1:
        # A seed's summaries are all of the same noisy data, so that they differ by less than seeds do.
        values = summaries.pivot(index="seed", columns="users", values="HR@10")
        few, many = values.iloc[:, 0], values.iloc[:, -1]
        gained = wording.LARGEST_GAINS({"points": 100 * x} for x in many - few)
        rows = [{"users": users, "values": values[users]} for users in values]
        yield wording.SMALLEST_BEST.claim(ahead(few, many), rows, why=gained, **told)


def _best_at_most_noise(model: str, cells: pd.DataFrame, most: float) -> Iterator[Claim]:
    for users, group in at(cells, noise=most).groupby("users"):
        ours, sampled = at(group, source=DISTILLED)["HR@10"], at(group, source=[*distillcf.CORESETS])
        if len(ours) and len(sampled):
            holds, figures = ahead_of_each(ours, dict(list(sampled.groupby("source", sort=False)["HR@10"])))
            yield wording.BEST_AT_NOISE.claim(holds, percent=most, model=model, users=users, **figures)


def _gap_grows(model: str, cells: pd.DataFrame, most: float) -> Iterator[Claim]:
    """How much more of its clean result the best sampler loses than DISTILL-CF, at the most noise."""
    for users, group in cells.groupby("users"):
        by_source = group.pivot(index="seed", columns=["source", "noise"], values="HR@10")
        sampled = [source for source in distillcf.CORESETS if (source, 0.0) in by_source]
        if not sampled or (DISTILLED, 0.0) not in by_source:
            continue
        best = max(sampled, key=lambda source: by_source[source, 0.0].mean())
        lead = 100 * (by_source[DISTILLED] / by_source[best] - 1)
        why = _changes(by_source[DISTILLED], by_source[best], most, where="on DISTILL-CF", elsewhere=f"on {best}")
        told = {"users": users, "model": model, "best": best, **_means(lead, most)}
        yield wording.GAP_GROWS.claim(ahead(lead[most], lead[0.0]), why=why, **told)


def compounds(model: str, cells: pd.DataFrame, most: float) -> Iterator[Claim]:
    """The share of all the data's HR@10 that random users keep, without noise and with the most, seed by seed.

    The paper says "compounds" of figure 3, where each loss is from clean data. Read as more than a
    sum of both: noise costs a sample a larger share than it costs all the data.
    """
    everybody = at(cells, source=EVERYBODY).pivot(index="seed", columns="noise", values="HR@10")
    for users, group in at(cells, source=RANDOM_USERS).groupby("users"):
        sampled = group.pivot(index="seed", columns="noise", values="HR@10")
        kept = 100 * sampled / everybody
        why = _changes(everybody, sampled, most, where="with all users", elsewhere=f"with {users:,}")
        told = {"users": users, "model": model, **_means(kept, most)}
        yield wording.COMPOUNDS.claim(ahead(kept[0.0] - kept[most], [0]), why=why, **told)


def head_users_gain(model: str, cells: pd.DataFrame, most: float) -> Iterator[Claim]:
    """HR@10 on head users over the mean of the other samplers', on the fewest users and on the most, seed by seed."""
    sampled = at(cells, source=[*distillcf.CORESETS])
    clean, ratio = (_head_over_others(at(sampled, noise=percent)) for percent in (0.0, most))
    if ratio.shape[1] < 2:
        return
    few, many = ratio.columns.min(), ratio.columns.max()
    told = {"percent": most, "few": few, "many": many, "model": model}
    means = {"on_few": ratio[few].mean(), "on_many": ratio[many].mean()}
    there = {few, many} <= set(clean)
    why = wording.WITHOUT_NOISE(on_few=clean[few].mean(), on_many=clean[many].mean()) if there else ""
    yield wording.HEAD_USERS_GAIN.claim(ahead(ratio[few] - ratio[many], [0]), why=why, **means, **told)


def _head_over_others(sampled: pd.DataFrame) -> pd.DataFrame:
    """(seeds, numbers of users): HR@10 on head users above the mean of the other samplers', in percent."""
    of_head = at(sampled, source=HEAD_USERS).pivot(index="seed", columns="users", values="HR@10")
    others = sampled[sampled["source"] != HEAD_USERS].groupby(["seed", "users"])["HR@10"].mean().unstack()
    return 100 * (of_head / others - 1).dropna(axis=1)


def _means(by_noise: pd.DataFrame, most: float) -> dict[str, Any]:
    """Over seeds, without noise and with the most."""
    return {"before": by_noise[0.0].mean(), "after": by_noise[most].mean(), "percent": most}


def _changes(ours: pd.DataFrame, theirs: pd.DataFrame, most: float, **places: str) -> str:
    """By how many percent two means over seeds change with the most noise."""
    changes = [100 * (by_noise[most].mean() / by_noise[0.0].mean() - 1) for by_noise in (ours, theirs)]
    return wording.CHANGES(ours=changes[0], theirs=changes[1], **places)


def _drops(frame: pd.DataFrame) -> dict[str, plots.Panel]:
    """Of each model and budget: the change of HR@10 against the model on all the clean data, over noise."""
    panels = {}
    for model, cells in frame.groupby("model", sort=False):
        everybody = at(cells, source=EVERYBODY)
        clean = at(everybody, noise=0.0)["HR@10"].mean()
        for n_users in sorted(set(cells["users"]) - set(everybody["users"])):
            shown = pd.concat([at(cells, users=n_users), everybody])
            change = shown.assign(change=shown["HR@10"] / clean - 1)
            panels[f"{model}, {n_users:,} users"] = plots.lines(change, ["source"], "noise", "change")
    return panels


if __name__ == "__main__":
    flags.main(Config, run)
