"""How does noise in the clicks hurt? EASE and ∞-AE on all the data, on DISTILL-CF's users, on samplers' users.

    python -m experiments.infinite.noise                    # an embedded synthetic set, offline
    python -m experiments.infinite.noise --preset=paper     # ML-1M, figures 3, 4, 13 and 14

Of every user, x% of all items are flipped in train: clicked becomes not clicked, and the other way
round. The noisy train part is distilled or sampled, models are fitted to it with their regularisation
chosen on validation, and tested on clean test clicks, with histories as noisy as train, or clean
ones. Writes `record.json`, `table.md`, `drop.png` (figures 3 and 13), `budgets.png` (4 and 14) and
`cells/`, from which a run that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

import distillcf
import infae
from experiments.infinite.flips import flip
from experiments.infinite.sources import (
    DISTILLED,
    EVERYBODY,
    HEAD_USERS,
    RANDOM_USERS,
    SOURCES,
    Sources,
    check_budgets,
    check_sources,
)
from experiments.recommenders.registry import CHOSEN_INFAE, MODEL_NAMES, MODELS, Search, check_models, title_with_inner
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import METRICS, Claim, Study, Work, ahead, ahead_of_each, lines, load_split, metrics_table


@dataclass(frozen=True)
class Config:
    """Flags of the study."""

    preset: str = flags.preset_option()
    dataset: str = flags.dataset_option()
    data_dir: str = flags.data_dir_option()
    noise: tuple[float, ...] = option(
        (0.0, 5.0), "percent of all items that are flipped, of each user", axis=True, paper=(0.0, 1.0, 5.0)
    )
    histories: str = option("noisy", "what users are scored by: noisy, train as it is learned from; or clean")
    budgets: tuple[int, ...] = option((20, 60), "users", axis=True, quick=(30, 90), paper=(50, 100, 500))
    seeds: tuple[int, ...] = flags.seeds_option()
    sources: tuple[str, ...] = option(SOURCES, "what models are fitted to", axis=True)
    models: tuple[str, ...] = option(
        ("ease", "infae"), "some of " + MODEL_NAMES, axis=True, paper=("ease", "infae", "ease_untuned")
    )
    steps: int = option(100, "outer steps of the summaries", quick=150, paper=400)
    # The penalty keeps the noise in: with 500 users of ML-1M at 5%, validation HR@100 falls from 50.5 to 37.9 with it.
    sharpness: float = option(0.0, "of the summaries, see distillcf.Config; above 0 their binary rows gain")
    metric: str = option("HR@100", "what everything is chosen by, on validation")
    shared: str = flags.shared_option()
    out: str = option("out/noise", "output folder")
    plot: bool = option(True, "write the pictures")


def run(config: Config) -> dict[str, Any]:
    """Run the study and return the record that is written."""
    check_models(config.models)
    check_sources(config.sources)
    _check_noise(config)
    split = load_split(config)
    check_budgets(config.budgets, split)
    study = Study(config, split, title="Noise in the clicks", shows="Figures 3, 4, 13 and 14")
    frame = study.run(_work(config, split))
    pictures = ["drop.png", "budgets.png"] if config.plot else []
    if config.plot:
        plots.curves(study.folder / "drop.png", _drops(frame), "items flipped, %", "change of HR@10, %")
        plots.curves(study.folder / "budgets.png", _budgets(frame), "users", "test HR@10, %", log=True)
    axes = ("model", "noise", "source", "users")
    table = metrics_table(
        frame,
        axes,
        METRICS,
        "Test on clean clicks, in percent (AUC as it is); noise is the percentage of items flipped",
    )
    notes = [
        f"Users are scored by {config.histories} histories, for validation and test. Held-out clicks are clean; those "
        "that noise put into a noisy history are left out. The paper does not say which histories it used.",
        f"{CHOSEN_INFAE}, has the network, item weights and reg that validation prefers, for each level of noise anew; "
        "EASE's lambda is chosen likewise.",
        "The paper's figures have no numbers to compare with.",
    ]
    return study.write([table], _claims(frame), pictures, notes)


def _check_noise(config: Config) -> None:
    if not all(0 <= percent <= 100 for percent in config.noise) or 0.0 not in config.noise:
        raise ValueError(
            f"--noise takes percentages from 0 to 100, and 0, which drops are measured from; got {config.noise}"
        )
    if config.histories not in ("noisy", "clean"):
        raise ValueError(f"--histories is noisy or clean, got {config.histories!r}")


def _work(config: Config, split: infae.Split) -> list[Work]:
    # The data of one noise and seed serve many cells, one after the other.
    @lru_cache(maxsize=1)
    def noisy(percent: float, seed: int) -> Sources:
        parts = _noisy(config, split, percent, seed)
        return Sources(parts, config.shared, config.metric, config.steps, config.sharpness)

    places = [
        (percent, seed, source, n_users)
        for seed in config.seeds
        for percent in config.noise
        for source, n_users in [
            *((source, n) for n in config.budgets for source in config.sources),
            (EVERYBODY, split.train.n_users),
        ]
    ]
    return [
        (
            {"model": title_with_inner(name), "noise": percent, "source": source, "users": n_users, "seed": seed},
            partial(_result, config, noisy, name, percent, seed, source, n_users),
        )
        for percent, seed, source, n_users in places
        for name in config.models
    ]


def _noisy(config: Config, split: infae.Split, percent: float, seed: int) -> infae.Split:
    """The split with noise in train, and in the histories that users are scored by or not there.

    What noise puts into a history is no longer to be found: held-out clicks that are in it are left out.
    """
    if not percent:
        return split
    train = flip(split.train, percent / 100, np.random.default_rng([seed, round(1000 * percent)]))
    if config.histories == "clean":
        contexts = {"validation_context": split.context("validation"), "test_context": split.context("test")}
        return dataclasses.replace(split, train=train, **contexts)  # type: ignore[arg-type]
    return dataclasses.replace(
        split, train=train, validation=_without(split.validation, train), test=_without(split.test, train)
    )


def _without(held_out: infae.Interactions, history: infae.Interactions) -> infae.Interactions:
    left = held_out.matrix - held_out.matrix.multiply(history.matrix.sign())
    left.eliminate_zeros()
    left.sort_indices()
    return held_out.with_matrix(left)


def _result(
    config: Config,
    noisy: Callable[[float, int], Sources],
    name: str,
    percent: float,
    seed: int,
    source: str,
    n_users: int,
) -> dict[str, float]:
    sources = noisy(percent, seed)
    search = Search(config.metric, config.preset, seed, sources.teacher if name == "infae" else None, config.shared)
    model, _ = MODELS[name].choose(sources.interactions(source, n_users, seed), sources.split, search)
    report = infae.evaluate(model, sources.split, k=(10, 100), n_negatives=0)
    return {metric: report[metric] for metric in METRICS}


def _at(frame: pd.DataFrame, **at: Any) -> pd.DataFrame:
    for name, value in at.items():
        frame = frame[frame[name] == value]
    return frame


def _claims(frame: pd.DataFrame) -> list[Claim]:
    most = frame["noise"].max()
    if most == 0:
        return []
    there = set(frame["model"])
    claims = []
    for ease in (EASE, UNTUNED):
        why = _WHY if ease == EASE and UNTUNED in there else ""
        for percent in sorted(set(frame["noise"]) - {0.0}):
            claims += _distilled_beats_all(ease, frame, percent, why)
        claims += _lead_grows(ease, frame, most, why)
    for model, cells in frame.groupby("model", sort=False):
        claims += [*_best_at_most_noise(str(model), cells, most), *_gap_grows(str(model), cells, most)]
        claims += [*_compounds(str(model), cells, most), *_head_users_catch_up(str(model), cells, most)]
    return claims


EASE, UNTUNED = MODELS["ease"].title, MODELS["ease_untuned"].title
_WHY = (
    f"Its lambda is chosen on the noisy data here. See the same of {UNTUNED}, which of the paper's grid comes nearest "
    "its own figures for EASE."
)


def _distilled_beats_all(ease: str, frame: pd.DataFrame, percent: float, why: str) -> list[Claim]:
    ours = dict(list(_at(frame, model=ease, noise=percent, source=DISTILLED).groupby("users")["HR@10"]))
    if not ours:
        return []
    least, largest = min(ours), max(ours)
    shown = ", ".join(f"{flags.spread(values, 'HR@10')} with {n:,}" for n, values in ours.items())
    cells = {n: _at(frame, model=ease, noise=percent, source=DISTILLED, users=n) for n in ours}
    all_noisy = _at(frame, model=ease, noise=percent, source=EVERYBODY)
    claims = [
        Claim(
            f"At {percent:g}% noise {ease} is better on {n:,} users of DISTILL-CF than on all that data, by {metric}.",
            ahead(cells[n][metric], all_noisy[metric]),
            f"{flags.spread(cells[n][metric], metric)} against {flags.spread(all_noisy[metric], metric)}.",
            why,
        )
        for n in ours
        for metric in ("HR@10", "HR@100")
    ]
    if least < largest and percent == frame["noise"].max():
        says = f"At {percent:g}% noise {ease} does better on the smallest summary than on the largest."
        # A seed's summaries are all of the same noisy data, so that they differ by less than seeds do.
        few, many = (cells[n].set_index("seed")["HR@10"] for n in (least, largest))
        gained = ", ".join(f"{100 * x:+.2f}" for x in many - few)
        why = f"Seed by seed the largest has {gained} points more; the cause is not known."
        claims.append(Claim(says, ahead(ours[least], ours[largest]), f"HR@10 {shown} synthetic users.", why))
    return claims


def _lead_grows(ease: str, frame: pd.DataFrame, most: float, why: str) -> list[Claim]:
    """∞-AE over EASE on all the data, seed by seed, without noise and with the most."""
    everybody = _at(frame, source=EVERYBODY).pivot_table(index="seed", columns=["model", "noise"], values="HR@10")
    if not {ease, CHOSEN_INFAE} <= set(frame["model"]):
        return []
    before, after = (100 * (everybody[CHOSEN_INFAE][x] - everybody[ease][x]) for x in (0.0, most))
    return [
        Claim(
            f"On all the data the lead of ∞-AE over {ease} grows with noise.",
            ahead(after, before),
            f"HR@10, ∞-AE less EASE, means: {before.mean():+.2f} without noise, {after.mean():+.2f} at {most:g}%.",
            why,
        )
    ]


def _best_at_most_noise(model: str, cells: pd.DataFrame, most: float) -> list[Claim]:
    claims = []
    for users, group in _at(cells, noise=most).groupby("users"):
        ours, theirs = _distilled_and_sampled(group)
        if not theirs:
            continue
        verdict, found = ahead_of_each(ours, theirs, "HR@10", named=True)
        says = f"At {most:g}% noise {model} does better on {users:,} users of DISTILL-CF than of any sampler."
        claims.append(Claim(says, verdict, f"HR@10 {found}."))
    return claims


def _gap_grows(model: str, cells: pd.DataFrame, most: float) -> list[Claim]:
    """How much more of its clean result the best sampler loses than DISTILL-CF, at the most noise."""
    claims = []
    for users, group in cells.groupby("users"):
        (ours, theirs), (noisy, their_noisy) = (_distilled_and_sampled(_at(group, noise=x)) for x in (0.0, most))
        if not theirs:
            continue
        best = max(theirs, key=lambda source: theirs[source].mean())
        before = 100 * (ours.to_numpy() / theirs[best].to_numpy() - 1)
        after = 100 * (noisy.to_numpy() / their_noisy[best].to_numpy() - 1)
        claims.append(
            Claim(
                f"The lead of {users:,} users of DISTILL-CF over the best sampler's grows with noise, for {model}.",
                ahead(after, before),
                f"HR@10 above {best}, means: {before.mean():+.1f}% without noise, {after.mean():+.1f}% at {most:g}%.",
                f"With noise HR@10 changes by {_change(ours, noisy)} on DISTILL-CF, by "
                f"{_change(theirs[best], their_noisy[best])} on {best}.",
            )
        )
    return claims


def _compounds(model: str, cells: pd.DataFrame, most: float) -> list[Claim]:
    """The share of all the data's HR@10 that random users keep, without noise and with the most, seed by seed.

    The paper says "compounds" of figure 3, where each loss is from clean data. Read as more than a
    sum of both: noise costs a sample a larger share than it costs all the data.
    """
    claims = []
    for users, group in _at(cells, source=RANDOM_USERS).groupby("users"):
        sampled, everybody = (
            [_at(part, noise=percent).set_index("seed")["HR@10"] for percent in (0.0, most)]
            for part in (group, _at(cells, source=EVERYBODY))
        )
        before, after = (100 * some / whole for some, whole in zip(sampled, everybody, strict=True))
        claims.append(
            Claim(
                f"Sampling noisy data compounds the loss: {users:,} random users keep less of what {model} learns "
                "from all of them.",
                ahead(before - after, [0]),
                f"HR@10 of all users', means: {before.mean():.1f}% without noise, {after.mean():.1f}% at {most:g}%.",
                f"With noise HR@10 changes by {_change(*everybody)} with all users, "
                f"by {_change(*sampled)} with {users:,}.",
            )
        )
    return claims


def _head_users_catch_up(model: str, cells: pd.DataFrame, most: float) -> list[Claim]:
    """HR@10 on head users over the mean of the other samplers', on the fewest users and on the most, seed by seed."""
    sampled = cells[cells["source"].isin(list(distillcf.CORESETS))]
    clean, ratio = (_head_over_others(_at(sampled, noise=percent)) for percent in (0.0, most))
    if ratio.shape[1] < 2:
        return []
    few, many = ratio.columns.min(), ratio.columns.max()
    both = {few, many} <= set(clean)
    return [
        Claim(
            f"At {most:g}% noise head users gain on the other samplers from {many:,} users to {few:,}, for {model}.",
            ahead(ratio[few] - ratio[many], [0]),
            f"HR@10 above the others' mean: {ratio[few].mean():+.1f}% with {few:,}, {ratio[many].mean():+.1f}% with "
            f"{many:,} users.",
            f"Without noise it is {clean[few].mean():+.1f}% and {clean[many].mean():+.1f}%." if both else "",
        )
    ]


def _head_over_others(sampled: pd.DataFrame) -> pd.DataFrame:
    """(seeds, numbers of users): HR@10 on head users above the mean of the other samplers', in percent."""
    of_head = _at(sampled, source=HEAD_USERS).pivot(index="seed", columns="users", values="HR@10")
    others = sampled[sampled["source"] != HEAD_USERS].groupby(["seed", "users"])["HR@10"].mean().unstack()
    return 100 * (of_head / others - 1).dropna(axis=1)


def _change(clean: pd.Series, noisy: pd.Series) -> str:
    return f"{100 * (noisy.mean() / clean.mean() - 1):+.1f}%"


def _distilled_and_sampled(group: pd.DataFrame) -> tuple[pd.Series, dict[str, pd.Series]]:
    """HR@10 of DISTILL-CF, and of each sampler where DISTILL-CF is there."""
    by_source = {str(source): values for source, values in group.groupby("source")["HR@10"]}
    ours = by_source.get(DISTILLED, pd.Series(dtype=float))
    return ours, {name: by_source[name] for name in distillcf.CORESETS if name in by_source and len(ours)}


def _drops(frame: pd.DataFrame) -> dict[str, dict[str, dict[float, tuple[float, float]]]]:
    """Of each model and budget: the change of HR@10 against the model on all the clean data, over noise."""
    panels = {}
    for model, cells in frame.groupby("model", sort=False):
        everybody = _at(cells, source=EVERYBODY)
        clean = _at(everybody, noise=0.0)["HR@10"].mean()
        for n_users in sorted(set(cells["users"]) - set(everybody["users"])):
            shown = pd.concat([cells[cells["users"] == n_users], everybody])
            change = shown.assign(change=shown["HR@10"] / clean - 1)
            panels[f"{model}, {n_users:,} users"] = lines(change, ["source"], "noise", "change")
    return panels


def _budgets(frame: pd.DataFrame) -> dict[str, dict[str, dict[float, tuple[float, float]]]]:
    """Of each noise: HR@10 over budgets, of DISTILL-CF and random users."""
    shown = frame[frame["source"].isin([DISTILLED, RANDOM_USERS, EVERYBODY])]
    return {
        f"{percent:g}% noise": lines(cells, ["model", "source"], "users", "HR@10")
        for percent, cells in shown.groupby("noise", sort=False)
    }


if __name__ == "__main__":
    flags.main(Config, run)
