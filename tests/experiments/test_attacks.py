"""De-anonymisation: the two attacks against slow twins, and the study's `run` on tiny data."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import oracles
import pandas as pd
import pytest

import distillcf
import infae
from experiments.infinite import deanonymise
from experiments.infinite.attacks import complete, match, reveal
from experiments.infinite.flips import flip
from experiments.study.record import plain
from infae.data import random_split
from infae.data.synthetic import synthetic


def matched_by_hand(known, clicks, eccentricity):
    """Narayanan and Shmatikov (2008): for each user the match, or None; users with equal best scores have none."""
    people = [{i for i, x in enumerate(row) if x} for row in clicks.matrix.toarray()]
    support = [sum(i in person for person in people) for i in range(clicks.n_items)]
    found = []
    for row in known.matrix.toarray():
        own = {i for i, x in enumerate(row) if x}
        scores = [sum(1 / math.log(max(support[i], 2)) for i in own & person) for person in people]
        highest, second = sorted(scores)[::-1][:2]
        mean = sum(scores) / len(scores)
        sigma = math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores))
        clear = sigma > 0 and (highest - second) / sigma >= eccentricity
        found.append(scores.index(highest) if clear else None)
    return found


@pytest.mark.parametrize("eccentricity", [0.1, 1.5])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_matching_is_narayanan_and_shmatikovs(eccentricity, noise, monkeypatch):
    clicks = oracles.random_interactions(30, 50, seed=5, density=0.15)
    known = flip(reveal(clicks, 0.6, np.random.default_rng(0)), noise, np.random.default_rng(1))
    known = known.select_users(np.arange(29, 0, -2))
    monkeypatch.setattr("infae.machine.batch_size", lambda n: 4)
    rows, accepted = match(known, clicks, eccentricity)
    wanted = matched_by_hand(known, clicks, eccentricity)
    assert [int(r) if a else None for r, a in zip(rows, accepted, strict=True)] == wanted
    assert None in wanted or eccentricity < 1 or not noise
    assert set(wanted) != {None}


def test_nobody_is_matched_among_equals_or_with_nothing_known():
    clicks = infae.Interactions.from_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))
    empty = clicks.with_matrix(0 * clicks.matrix)
    empty.matrix.eliminate_zeros()
    assert match(clicks, clicks, 0.5).accepted.tolist() == [False, False, True]
    assert not match(empty, clicks).accepted.any()


def test_an_item_of_one_user_weighs_as_one_of_two():
    clicks = infae.Interactions.from_matrix(np.array([[1, 0, 1], [0, 1, 1], [0, 1, 1], [0, 0, 1]]))
    known = clicks.with_matrix(clicks.matrix[[0, 0, 0, 0]])
    assert match(known, clicks).row.tolist() == [0] * 4


class Given:
    def __init__(self, scores):
        self.scores = scores

    def predict(self, histories):
        return self.scores[histories.user_ids]


def test_completion_counts_the_best_items_that_are_not_known(monkeypatch):
    clicks = oracles.random_interactions(40, 12, seed=2, density=0.4)
    known = flip(reveal(clicks, 0.7, np.random.default_rng(3)), 0.1, np.random.default_rng(4))
    scores = np.random.default_rng(5).integers(0, 5, clicks.shape).astype(np.float32) + 2 * clicks.matrix.toarray()
    monkeypatch.setattr("infae.machine.batch_size", lambda n: 16)
    done = complete(Given(scores), known, clicks)
    wanted = []
    for user in range(40):
        shown = set(known.matrix[[user]].indices)
        missing = set(clicks.matrix[[user]].indices) - shown
        others = sorted(set(range(12)) - shown, key=lambda i: (-scores[user, i], i))
        if missing:
            wanted.append((len(missing), len(missing & set(others[: len(missing)]))))
    assert list(zip(done.n_missing.tolist(), done.n_found.tolist(), strict=True)) == wanted
    exact = [m == f for m, f in wanted]
    assert done.exact() == pytest.approx(np.mean(exact))
    assert 0 < done.exact() < 1
    assert done.exact(2) == pytest.approx(np.mean([e for e, (m, _) in zip(exact, wanted, strict=True) if m > 1]))
    assert math.isnan(done.exact(13))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_a_share_of_each_users_clicks_is_revealed(clicks, share):
    shown = reveal(clicks, share, np.random.default_rng(0))
    n = np.diff(clicks.matrix.indptr)
    np.testing.assert_array_equal(np.diff(shown.matrix.indptr), [max(1, round(share * x)) for x in n.tolist()])
    assert (clicks.matrix - shown.matrix).min() >= 0
    with pytest.raises(ValueError, match="above 0"):
        reveal(clicks, 0.0, np.random.default_rng(0))


@pytest.fixture(scope="module")
def split():
    return random_split(synthetic(120, 60, n_groups=4, mean_clicks=10, seed=3).interactions, seed=0)


@pytest.fixture(autouse=True)
def small_data(split, monkeypatch):
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: split)


def small(folder, **settings):
    return deanonymise.Config(
        **{
            "dataset": "made", "noise": (0.0, 5.0), "revealed": (0.5, 0.9), "sampled": 0.2, "budget": 6, "steps": 4,
            "metric": "HR@10", "out": str(folder), "shared": str(folder / "summaries"), **settings,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def studied(tmp_path_factory, split):
    folder = tmp_path_factory.mktemp("deanonymise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infae.data, "load", lambda *args, **kwargs: split)
        return small(folder), deanonymise.run(small(folder))


def cell(record, attack, revealed=0.9, noise=0.0):
    (found,) = (c for c in record["cells"] if (c["attack"], c["revealed"], c["noise"]) == (attack, revealed, noise))
    return found


@pytest.mark.slow
def test_every_attack_is_tried_at_every_setting_once(studied):
    _, record = studied
    wanted = {
        (name, *at)
        for name in (*distillcf.CORESETS, *deanonymise.COMPLETED)
        for at in ((0.9, 0.0), (0.9, 5.0), (0.5, 0.0))
    }
    cells = [(c["attack"], c["revealed"], c["noise"]) for c in record["cells"]]
    assert set(cells) == wanted
    assert len(cells) == len(wanted)
    assert [table.caption.partition(",")[0] for table in record["tables"]][:2] == ["Users de-anonymised"] * 2


@pytest.mark.slow
def test_its_rates_are_those_of_the_slow_twins(studied, split):
    _, record = studied
    sample = distillcf.CORESETS["head users"](split.train, 24, 0)
    known = reveal(sample, 0.9, np.random.default_rng([0, 1]))
    found = matched_by_hand(known, split.train, 1.5)
    right = [f == np.flatnonzero(split.train.user_ids == u)[0] for f, u in zip(found, known.user_ids, strict=True)]
    assert cell(record, "head users")["deanonymised"] == pytest.approx(np.mean(right))
    assert np.mean(right) > 0.5


@pytest.mark.slow
def test_completion_knows_who_is_left_out(studied, split):
    _, record = studied
    n = np.diff(split.train.matrix.indptr)
    missing = np.array([x - max(1, round(0.9 * x)) for x in n.tolist()])
    here = cell(record, "popularity")
    assert here["users"] == (missing > 0).sum()
    assert here["excluded"] == (missing == 0).sum()
    assert here["one missing"] == pytest.approx((missing == 1).sum() / (missing > 0).sum())
    most = max(c["excluded"] for c in record["cells"] if c["attack"] == "popularity")
    assert most >= here["excluded"]
    assert f"left out of completion: 0 to {most:.0f}." in " ".join(record["notes"])


@pytest.mark.slow
def test_the_study_goes_on_where_it_was_stopped_and_refuses_other_settings(studied, monkeypatch):
    config, record = studied
    monkeypatch.setattr(deanonymise, "match", lambda *args: pytest.fail("matched again"))
    monkeypatch.setattr(deanonymise, "complete", lambda *args: pytest.fail("completed again"))
    # NaN, where a number does not exist, is equal to nothing but its own text.
    assert repr(plain(deanonymise.run(config)["cells"])) == repr(plain(record["cells"]))
    with pytest.raises(ValueError, match=r"other settings \(eccentricity\)"):
        deanonymise.run(dataclasses.replace(config, eccentricity=1.0))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"samplers": ("some",)}, "--samplers must be one of"),
        ({"completed": ("some",)}, "--completed must be one of"),
        ({"noise": (101.0,)}, "--noise, in percent of all items, must be .* got 101"),
        ({"revealed": (0.0,)}, "above 0"),
        ({"revealed": (0.5, 1.0)}, "--revealed must be .* below 1"),
        ({"revealed": (0.5, 0.999)}, "with a share of 0.999 revealed nobody lacks anything"),
        ({"revealed_with_noise": 1.0}, "with a share of 1 revealed nobody lacks anything"),
        ({"eccentricity": 0.0}, "--eccentricity must be a finite number above 0"),
        ({"budget": 0}, "numbers of users from 1"),
        ({"budget": 121}, "numbers of users from 1"),
        ({"metric": "HR@0"}, "unknown metric"),
    ],
)
def test_wrong_flags_are_told_before_any_work(flags, message, tmp_path, monkeypatch):
    monkeypatch.setattr(deanonymise.Study, "run", lambda *args: pytest.fail("went to work"))
    with pytest.raises(ValueError, match=message):
        deanonymise.run(small(tmp_path, **{"completed": ("popularity",), "plot": False, **flags}))


def test_noise_is_in_percent_of_all_items(split):
    tried = deanonymise.Attacks(small(Path()), split)
    shown, noisy = (tried._known(tried.clicks, 0.9, percent, 0).matrix for percent in (0.0, 5.0))
    assert set(np.diff((shown != noisy).tocsr().indptr)) == {3}


def test_what_was_searched_for_real_users_is_shared(split, tmp_path, monkeypatch):
    searches = []
    monkeypatch.setattr(deanonymise, "choose_infae", lambda *args: searches.append(args[2]) or (None, {}))
    config = small(tmp_path)
    deanonymise.Attacks(config, split)._fitted(deanonymise.REAL_USERS, 0)
    assert [search.shared for search in searches] == [config.shared]


def test_no_name_on_an_axis_holds_a_comma():
    for name in (*deanonymise.COMPLETED, *distillcf.CORESETS):
        assert "," not in name


def claims_of(config, rates):
    """The study's claims where cells have the rates, one or one a seed, given by (attack, revealed, noise)."""
    rows = [
        {
            "attack": a, "revealed": r, "noise": x, "seed": seed, "deanonymised": rate, "found": rate,
            "one missing": 0.1, "2 or more": 0.0,
        }
        for (a, r, x), of_seeds in rates.items()
        for seed, rate in enumerate(np.atleast_1d(of_seeds))
    ]  # fmt: skip
    return list(deanonymise.claims(config, pd.DataFrame(rows)))


def one_sampler(folder, sampler="random users"):
    return small(folder, samplers=(sampler,), completed=(deanonymise.DISTILLED, deanonymise.REAL_USERS))


def rates_of(ours, sampled, real, sampler="random users"):
    names = (deanonymise.DISTILLED, sampler, deanonymise.REAL_USERS)
    return {
        (name, *place): rate
        for name, row in zip(names, (ours, sampled, real), strict=True)
        for place, rate in zip([(0.5, 0.0), (0.9, 0.0), (0.9, 5.0)], row, strict=True)
    }


def test_claims_hold_or_not_as_the_rates_say(tmp_path):
    config = one_sampler(tmp_path)

    def holds(*rates):
        return [claim.holds for claim in claims_of(config, rates_of(*rates))]

    assert holds((0, 0.005, 0), (0.3, 0.9, 0.5), (0, 0.05, 0)) == [True] * 5
    assert holds((0, 0.02, 0), (0.08, 0.05, 0.06), (0, 0.015, 0)) == [False] * 5


def test_claims_are_not_decided_where_seeds_differ(tmp_path):
    rates = rates_of(
        ((0, 0), (0.005, 0.012), (0, 0)),
        ((0.08, 0.3), (0.25, 0.09), (0.26, 0.07)),
        ((0, 0), (0.011, 0.05), (0, 0)),
    )
    claims = claims_of(one_sampler(tmp_path), rates)
    # By means what is revealed lowers the rate; noise too, but of one seed it rises.
    assert [claim.holds for claim in claims] == [None, None, None, False, None]
    assert claims[0].found.startswith("At most 0.85 ± 0.49%, with 90% revealed and 0% noise")
    assert "random users 17.00 ± 11.31%" in claims[1].found


@pytest.mark.parametrize(("sampler", "told"), [("random interactions", True), ("head users", False)])
def test_a_cause_is_given_for_random_clicks_alone(sampler, told, tmp_path):
    rates = rates_of((0, 0, 0), (0.01, 0.02, 0.01), (0, 0, 0), sampler)
    claim = claims_of(one_sampler(tmp_path, sampler), rates)[1]
    assert claim.holds is False
    assert bool(claim.why) is told
