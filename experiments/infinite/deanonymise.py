"""Who is given away by a sample of the clicks, and who by a distilled summary? Figures 8 and 9.

    python -m experiments.infinite.deanonymise                    # an embedded synthetic set, offline
    python -m experiments.infinite.deanonymise --preset=paper     # ML-1M; --dataset=magazine for the other

D' is what is known of people by name: a share of each one's train clicks, with noise: so many
percent of all items flipped. Where a sample of D is public, its users are looked for in D (`attacks.match`).
Where only a summary is public, ∞-AE trained on it predicts each user's missing clicks, being told
how many they are, and must name all of them exactly (`attacks.complete`). The same is asked of ∞-AE
of as many real users, of ∞-AE of all the data and of popularity, which say how hard it is.

Figure 8 varies the noise with the share `revealed_with_noise` revealed, figure 9 the share revealed
without noise. Writes `record.json`, `table.md`, `deanonymise.png` and `cells/`, from which a stopped run goes on.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

import distillcf
import infae
from experiments.infinite import wording
from experiments.infinite.attacks import complete, match, reveal, revealed_of
from experiments.infinite.flips import flip
from experiments.infinite.periods import active
from experiments.infinite.sources import DISTILLED, DISTILLED_BINARY, RANDOM_USERS, Sources, check
from experiments.recommenders import PopRec
from experiments.recommenders.registry import MODELS, Search, choose_infae
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead, at, every
from experiments.study.flags import option
from experiments.study.runner import Study, each, load_split
from experiments.study.tables import Table, spread
from infae.data.interactions import item_positions
from infae.ranking.evaluate import Recommender
from infae.runtime import checks

REAL_USERS, ALL_DATA, POPULARITY = "∞-AE of as many real users", "∞-AE of all data", "popularity"
COMPLETED = (DISTILLED, DISTILLED_BINARY, REAL_USERS, ALL_DATA, POPULARITY)
RANDOM_CLICKS = "random interactions"
HIDDEN, GIVEN_AWAY = 0.01, 0.1
"""Rates that the claims speak of: "under 1%", and "tens of percent"."""


@dataclass(frozen=True)
class Config(flags.SummaryConfig):
    samplers: tuple[str, ...] = option(tuple(distillcf.CORESETS), "that D' is sampled by", axis=True)
    completed: tuple[str, ...] = option(COMPLETED, "whose predictions complete D'", axis=True)
    noise: tuple[float, ...] = option(
        (0.0, 1.0, 5.0), "percent of all items that are flipped, of each user, figure 8", axis=True,
        quick=(0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0),
    )  # fmt: skip
    revealed: tuple[float, ...] = option(
        (0.1, 0.5, 0.9), "shares of each user's clicks in D', figure 9", axis=True, quick=(0.1, 0.3, 0.5, 0.7, 0.9)
    )
    revealed_with_noise: float = option(0.9, "the share in figure 8, of which the paper does not speak")
    sampled: float = option(0.1, "share of the users sampled (of the clicks, for random interactions)")
    budget: int = option(60, "users of the summary", quick=90, paper=500)
    eccentricity: float = option(1.5, "how clear a match must be, in standard deviations of the scores")
    out: str = option("out/deanonymise", "output folder")


def run(config: Config) -> dict[str, Any]:
    _check(config)
    split = load_split(config)
    check(split, (config.budget,))
    _check_missing(config, split)
    attacks = Attacks(config, split)
    study = Study(
        config, split, title="De-anonymisation", shows="Figures 8 and 9", version=1,
        uses={**attacks.sources.uses, "regs": MODELS["infae"].grid()},
    )  # fmt: skip
    figure_8, figure_9 = product([config.revealed_with_noise], config.noise), product(config.revealed, [0.0])
    drawn = product(config.seeds, [*config.samplers, *config.completed], dict.fromkeys([*figure_8, *figure_9]))
    places = ({"attack": name, "revealed": share, "noise": x, "seed": seed} for seed, name, (share, x) in drawn)
    frame = study.run(each(places, attacks.result))
    # None in all cells where nobody lacks so much, which pandas takes for no number.
    frame = frame.astype({column: float for column in ("2 or more", "5 or more") if column in frame})
    noisy = at(frame, revealed=config.revealed_with_noise, noise=config.noise)
    clean = at(frame, noise=0.0, revealed=config.revealed)
    clean = clean.assign(revealed=100 * clean["revealed"])
    by_noise = "by items flipped"
    tables = [
        _curve(noisy, "noise", f"Users de-anonymised, %, {config.revealed_with_noise:.0%} revealed, {by_noise}"),
        _curve(clean, "revealed", "Users de-anonymised, %, without noise, by clicks revealed"),
        _curve(at(noisy, attack=config.samplers), "noise", f"Matched clearly but wrongly, %, {by_noise}", "wrong"),
        *_details(config, frame),
    ]
    figures = {"items flipped, % (figure 8)": (noisy, "noise"), "clicks revealed, % (figure 9)": (clean, "revealed")}
    panels = {
        title: plots.lines(part[part["attack"] != POPULARITY], ["attack"], axis, "deanonymised")
        for title, (part, axis) in figures.items()
    }
    study.draw("deanonymise.png", plots.curves, panels, "%", "users de-anonymised, %")
    notes = [
        f"Fixed by us, where the paper is silent: D is the train part; {config.sampled:.0%} of users are sampled; "
        f"figure 8 is with {config.revealed_with_noise:.0%} of each user's clicks revealed, for samples and summaries "
        "alike; clicks are revealed first, and noise comes on top; completion is asked of all users of D."
    ]
    if config.completed:
        least, most = frame["excluded"].min(), frame["excluded"].max()
        notes.append(f"Users with nothing missing, left out of completion: {least:,.0f} to {most:,.0f}.")
    return study.write(tables, [*claims(config, frame)], notes)


def _check(config: Config) -> None:
    for name in config.samplers:
        checks.choice("--samplers", name, distillcf.CORESETS)
    for name in config.completed:
        checks.choice("--completed", name, COMPLETED)
    for share in config.revealed:
        # Where everything is revealed nothing is left to complete.
        checks.share("--revealed", share, most=None if config.completed else 1)
    checks.share("--revealed_with_noise", config.revealed_with_noise, most=1)
    checks.share("--sampled", config.sampled, most=1)
    for percent in config.noise:
        checks.number("--noise, in percent of all items,", percent, least=0, most=100)
    # At 0 ties are matches.
    checks.number("--eccentricity", config.eccentricity, above=0)


def _check_missing(config: Config, split: infae.Split) -> None:
    """ValueError where a share leaves nobody anything to complete."""
    n = np.diff(split.train.matrix.indptr)
    shares = {*config.revealed, *([config.revealed_with_noise] if 0 in config.noise else [])}
    whole = [f"{share:g}" for share in sorted(shares) if (revealed_of(n, share) == n).all()]
    if config.completed and whole:
        raise ValueError(f"with a share of {', '.join(whole)} revealed nobody lacks anything; reveal less")


class Attacks:
    """The two attacks on one data set. D is its train part; how often a click is repeated does not count."""

    def __init__(self, config: Config, split: infae.Split):
        self.config, self.split = config, split
        self.clicks = active(split.train.with_matrix(split.train.matrix.sign()))
        self.sources = Sources.of(config, split)
        self._model = functools.lru_cache(maxsize=2)(self._fitted)

    def result(self, attack: str, revealed: float, noise: float, seed: int) -> dict[str, float]:
        kind = self.match if attack in distillcf.CORESETS else self.complete
        return kind(attack, revealed, noise, seed)

    def match(self, sampler: str, revealed: float, noise: float, seed: int) -> dict[str, float]:
        """Shares of sampled users matched rightly, wrongly, and whose best match is right, clear or not."""
        n_users = max(1, round(self.config.sampled * self.clicks.n_users))
        sample = distillcf.CORESETS[sampler](self.clicks, n_users, seed)
        known = self._known(sample, revealed, noise, seed)
        found = match(known, self.clicks, self.config.eccentricity)
        right = found.row == item_positions(known.user_ids, self.clicks.user_ids, "user")
        return {
            "users": known.n_users,
            "deanonymised": float((right & found.accepted).mean()),
            "wrong": float((~right & found.accepted).mean()),
            "best": float(right.mean()),
        }

    def complete(self, source: str, revealed: float, noise: float, seed: int) -> dict[str, float]:
        """Shares of users whose missing clicks are all predicted: of all, and of those with 2 or 5 of them or more."""
        known = self._known(self.clicks, revealed, noise, seed)
        done = complete(self._model(source, 0 if source in (ALL_DATA, POPULARITY) else seed), known, self.clicks)
        if not done.n_missing.size:
            raise ValueError(f"with {revealed:.0%} revealed nobody lacks anything; reveal less")
        return {
            "users": done.n_missing.size,
            "excluded": self.clicks.n_users - done.n_missing.size,
            "one missing": float((done.n_missing == 1).mean()),
            "deanonymised": done.exact(),
            "2 or more": done.exact(2),
            "5 or more": done.exact(5),
            "found": float((done.n_found / done.n_missing).mean()),
        }

    def _known(self, clicks: infae.Interactions, revealed: float, noise: float, seed: int) -> infae.Interactions:
        # Generators of their own: the same clicks are revealed whatever the noise.
        shown = reveal(clicks, revealed, np.random.default_rng([seed, 1]))
        return flip(shown, noise / 100, np.random.default_rng([seed, 2]))

    def _fitted(self, source: str, seed: int) -> Recommender:
        if source == POPULARITY:
            return PopRec().fit(self.clicks)
        if source == ALL_DATA:
            return self.sources.teacher
        if source == REAL_USERS:
            users = self.sources.interactions(RANDOM_USERS, self.config.budget, seed)
            return choose_infae(users, self.split, Search.of(self.config, seed, self.sources.teacher))[0]
        return self.sources.summary(self.config.budget, seed).fit("soft" if source == DISTILLED else "hard")


def _curve(frame: pd.DataFrame, axis: str, caption: str, column: str = "deanonymised") -> Table:
    places = {x: f"{x:g}%" for x in sorted(frame[axis].unique())}
    return _table(caption, frame.set_index(["attack", axis])[column], places)


def _details(config: Config, frame: pd.DataFrame) -> Iterator[Table]:
    """What is behind a rate, at the most that is revealed without noise."""
    most = max(frame.loc[frame["noise"] == 0, "revealed"], default=0)
    for names, caption, columns in ((config.samplers, "Matching", _MATCHED), (config.completed, "Completion", _DONE)):
        if (part := at(frame, noise=0.0, revealed=most, attack=names)).size:
            values = part.set_index("attack")[[*columns]].stack()
            yield _table(f"{caption} with {most:.0%} revealed and no noise, %", values, columns)


_MATCHED = {
    "deanonymised": "users de-anonymised",
    "wrong": "clear match, but wrong",
    "best": "best match right, clear or not",
}
_DONE = {
    "deanonymised": "users de-anonymised",
    "2 or more": "of users with 2 or more missing",
    "5 or more": "with 5 or more",
    "found": "missing items found, mean over users",
    "one missing": "users with one missing",
}


def _table(caption: str, values: pd.Series, columns: Mapping[Any, str]) -> Table:
    """A row an attack, and a column for each of `columns`, by its title; the index of `values` is both."""
    known = {place: spread(group.to_list(), "") for place, group in values.dropna().groupby(level=[0, 1])}
    attacks = values.index.unique(0)
    return Table(caption, ["", *columns.values()], [[a, *(known.get((a, c), "-") for c in columns)] for a in attacks])


def claims(config: Config, frame: pd.DataFrame) -> Iterator[Claim]:
    """Of summaries, that they hide users; of samplers, that they do not, and how that goes with noise and knowledge."""
    for name in config.completed:
        if name in (DISTILLED, DISTILLED_BINARY):
            yield _anonymous(name, at(frame, attack=name))
    sampled, shares = at(frame, attack=config.samplers), sorted(config.revealed)
    most = shares[-1]
    yield _given_away(at(sampled, revealed=most, noise=0.0), most)
    if len(config.noise) > 1:
        noisy = at(sampled, revealed=config.revealed_with_noise, noise=config.noise)
        yield _monotone(noisy, "noise", -1, more="noise", gives="fewer")
    if len(shares) > 1:
        clean = at(sampled, noise=0.0, revealed=shares)
        yield _monotone(clean, "revealed", 1, more="is revealed", gives="more")
    if DISTILLED in config.completed and REAL_USERS in config.completed:
        yield _control(at(frame, revealed=most, noise=0.0), most)


def _anonymous(name: str, cells: pd.DataFrame) -> Claim:
    rates = dict(list(cells.groupby(["revealed", "noise"], sort=False)["deanonymised"]))
    revealed, noise = max(rates, key=lambda place: rates[place].mean())
    here = at(cells, revealed=revealed, noise=noise)
    one, more = here["one missing"].mean(), here["2 or more"]
    told: dict[str, Any] = {
        "one_missing": wording.ONE_MISSING(percent=100 * one) if one else "",
        "two_or_more": wording.TWO_OR_MORE(rate=_rate(more)) if one < 1 else "",
        "rate": _rate(here["deanonymised"]),
    }
    holds = every(ahead([HIDDEN], values) for values in rates.values())
    why = "" if more.mean() >= HIDDEN else wording.EASILY_GUESSED()
    return wording.ANONYMOUS.claim(holds, why=why, name=name, hidden=HIDDEN, revealed=revealed, noise=noise, **told)


def _given_away(cells: pd.DataFrame, share: float) -> Claim:
    rates = dict(list(cells.groupby("attack", sort=False)["deanonymised"]))
    verdicts = {name: ahead(values, [GIVEN_AWAY]) for name, values in rates.items()}
    rows = [{"name": name, "rate": _rate(values)} for name, values in rates.items()]
    short = [name for name, verdict in verdicts.items() if not verdict]
    why = wording.TOO_FEW_CLICKS() if short == [RANDOM_CLICKS] else ""
    return wording.GIVES_AWAY.claim(every(verdicts.values()), rows, why=why, share=share)


def _monotone(cells: pd.DataFrame, axis: str, sign: int, **words: str) -> Claim:
    """For each sampler rates rise (sign 1) or fall (-1) from each step to the next, or stay; seed by seed.

    Not decided where it is the mean alone that does.
    """
    rows, verdicts = [], []
    for name, group in cells.groupby("attack", sort=False):
        rates = group.pivot(index="seed", columns=axis, values="deanonymised")
        rows.append({"name": name, "steps": wording.STEPS({"rate": rates[x]} for x in rates)})
        for _, step in [*(sign * rates.diff(axis=1)).items()][1:]:
            verdicts.append(True if step.min() >= 0 else None if step.mean() >= 0 else False)
    return wording.STEP_BY_STEP.claim(every(verdicts), rows, **words)


def _control(cells: pd.DataFrame, share: float) -> Claim:
    here = {name: group for name in COMPLETED if len(group := at(cells, attack=name))}
    rates = {name: group["deanonymised"] for name, group in here.items()}
    rows = [{"name": name, "rate": _rate(rates[name]), "found": _rate(here[name]["found"])} for name in here]
    hard = max(values.mean() for values in rates.values()) < 2 * HIDDEN
    holds = every([ahead(rates[REAL_USERS], [HIDDEN]), ahead(rates[REAL_USERS], rates[DISTILLED])])
    why = wording.HARD_FOR_ALL() if hard else ""
    return wording.DISTILLING_HIDES.claim(holds, rows, why=why, hidden=HIDDEN, share=share)


def _rate(values: pd.Series) -> str:
    known = values.dropna().to_list()
    return f"{spread(known, '')}%" if known else "none"


if __name__ == "__main__":
    flags.main(Config, run)
