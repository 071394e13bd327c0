"""Cells, tables and claims that studies share; sample efficiency, noise and table 1 on tiny data."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

import infae
from experiments import common, models, noise, sample_efficiency, table_1
from experiments.cells import Cells
from experiments.published import TABLE_1
from experiments.sources import DISTILLED, EVERYBODY, SOURCES, Sources
from experiments.study import METRICS, Claim, Study, Table, metrics_table
from infae.data import random_split
from infae.data.synthetic import synthetic

SMALL = {"dataset": "made", "steps": 3, "metric": "HR@10", "plot": False}


@pytest.fixture(scope="module")
def split():
    return random_split(synthetic(120, 60, n_groups=4, mean_clicks=10, seed=3).interactions, seed=0)


@pytest.fixture(autouse=True)
def small_data(split, monkeypatch):
    monkeypatch.setattr(infae.data, "load", lambda *args, **kwargs: split)


# --- cells ------------------------------------------------------------------------------------------


def test_cells_are_on_disk_at_once_and_found_again_whatever_the_order_of_axes(tmp_path):
    cells = Cells(tmp_path / "cells.json", {"steps": 3})
    cells.add({"model": "EASE", "seed": np.int64(0)}, {"HR@10": np.float32(0.5), "AUC": float("nan")})
    again = Cells(tmp_path / "cells.json", {"steps": 3})
    assert {"seed": 0, "model": "EASE"} in again
    assert again[{"seed": 0, "model": "EASE"}] == {"HR@10": 0.5, "AUC": None}
    assert {"seed": 1, "model": "EASE"} not in again
    assert again.seconds > 0


def test_cells_of_other_settings_are_refused_by_name_of_what_differs(tmp_path):
    Cells(tmp_path / "cells.json", {"steps": 3, "metric": "AUC"}).add({"seed": 0}, {})
    with pytest.raises(ValueError, match=r"other settings \(steps\); give another --out"):
        Cells(tmp_path / "cells.json", {"steps": 4, "metric": "AUC"})


@dataclasses.dataclass(frozen=True)
class Made:
    seeds: tuple[int, ...] = common.option((0, 1), "seeds", axis=True)
    steps: int = common.option(3, "steps")
    out: str = common.option("out", "folder")
    plot: bool = common.option(False, "draw")


def test_a_study_that_was_stopped_goes_on_at_its_first_open_cell(split, tmp_path):
    done = []

    def work(seed):
        if seed == 1 and len(done) == 1:
            raise KeyboardInterrupt
        done.append(seed)
        return {"HR@10": seed / 10}

    def run(seeds, config):
        study = Study(config, split, title="made", shows="nothing")
        return study.run([({"seed": seed}, lambda seed=seed: work(seed)) for seed in seeds])

    config = Made(out=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run((0, 1, 2), config)
    done.append("again")
    frame = run((2, 1, 0), config)
    assert done == [0, "again", 2, 1]
    assert frame["seed"].to_list() == [2, 1, 0]
    assert frame["HR@10"].to_list() == [0.2, 0.1, 0.0]
    assert (frame["seconds"] >= 0).all()
    with pytest.raises(ValueError, match="steps"):
        run((0,), dataclasses.replace(config, steps=4))


def test_the_record_holds_tables_claims_and_the_command(split, tmp_path):
    study = Study(Made(out=str(tmp_path)), split, title="made", shows="nothing")
    study.run([({"seed": 0}, lambda: {"HR@10": 0.1})])
    study.write(
        [Table("one", ["a", "b"], [["x", "1"]])], [Claim("So it is.", False, "It was 1.", "Chance.")], (), ["n"]
    )
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["tables"][0]["rows"] == [["x", "1"]]
    assert record["claims"][0]["holds"] is False
    assert record["cells"][0]["HR@10"] == 0.1
    assert record["command"].startswith("python -m test_paper_studies --out=")
    text = (tmp_path / "table.md").read_text()
    assert "| x | 1 |" in text
    assert "- **Does not hold**: So it is. It was 1. Chance." in text


def test_a_table_of_metrics_has_means_spreads_and_published_figures():
    frame = pd.DataFrame(
        {"model": ["a", "a", "b"], "users": [1000, 1000, 5], "HR@10": [0.1, 0.3, 0.5], "AUC": [0.5, 0.5, 1]}
    )
    table = metrics_table(frame, ("model", "users"), ("HR@10", "AUC"), "c", {"a": {"HR@10": 19.0, "AUC": 0.4}})
    assert table.columns == ["model", "users", "HR@10", "AUC"]
    assert table.rows[0] == ["a", "1,000", "20.00 ± 14.14 (19.00)", "0.5000 ± 0.0000 (0.4000)"]
    assert table.rows[1] == ["b", "5", "50.00", "1.0000"]
    assert table.markdown().splitlines()[3] == "|---|---|---:|---:|"


# --- sources ----------------------------------------------------------------------------------------


def test_studies_share_a_folder_of_summaries_and_other_data_gets_its_own(split, tmp_path, monkeypatch):
    sources = Sources(split, str(tmp_path), "HR@10", steps=2)
    made = sources.interactions(DISTILLED, 5, 0)
    assert made.shape == (5, 60)
    monkeypatch.setattr("distillcf.distill", lambda *args, **kwargs: pytest.fail("distilled again"))
    again = Sources(split, str(tmp_path), "HR@10", steps=2).interactions(DISTILLED, 5, 0)
    np.testing.assert_array_equal(again.matrix.toarray(), made.matrix.toarray())
    other = random_split(synthetic(120, 60, n_groups=4, mean_clicks=10, seed=4).interactions, seed=0)
    for changed in (Sources(other, str(tmp_path), "HR@10", steps=2), Sources(split, str(tmp_path), "HR@10", steps=1)):
        with pytest.raises(pytest.fail.Exception, match="distilled again"):
            changed.interactions(DISTILLED, 5, 0)


def test_everybody_is_a_source_too(split, tmp_path):
    assert Sources(split, str(tmp_path)).interactions(EVERYBODY, 3, 0) is split.train


# --- sample efficiency ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def efficiency(tmp_path_factory, split):
    folder = tmp_path_factory.mktemp("efficiency")
    config = sample_efficiency.Config(
        budgets=(4, 10), distilled=4, seeds=(0, 1), out=str(folder), shared=str(folder), **{**SMALL, "plot": True}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infae.data, "load", lambda *args, **kwargs: split)
        return folder, sample_efficiency.run(config)


def test_sample_efficiency_has_every_source_and_budget_but_summaries_too_large(efficiency):
    folder, record = efficiency
    found = {(cell["source"], cell["users"], cell["seed"]) for cell in record["cells"]}
    wanted = {(source, 4, seed) for source in SOURCES for seed in (0, 1)}
    wanted |= {(source, 10, seed) for source in SOURCES if not source.startswith(DISTILLED) for seed in (0, 1)}
    assert found == wanted | {(EVERYBODY, 120, 0)}
    assert (folder / "sample_efficiency.png").stat().st_size > 10_000
    assert set(METRICS) <= record["cells"][0].keys()


def test_its_claim_goes_by_the_worst_seed_of_ours_and_the_best_of_theirs():
    def frame(ours, theirs):
        rows = [{"source": DISTILLED, "users": 10, "HR@10": x, "PSP@10": x} for x in ours]
        rows += [{"source": "random users", "users": 10, "HR@10": x, "PSP@10": x} for x in theirs]
        # Above a tenth of the users nothing is claimed.
        rows += [{"source": "random users", "users": 11, "HR@10": 9.0, "PSP@10": 9.0}]
        return pd.DataFrame(rows)

    holds = sample_efficiency._ahead_of_samplers(frame([0.3, 0.4], [0.1, 0.29]), 100)
    assert [claim.holds for claim in holds] == [True, True]
    assert "35.00 against 19.50 at 10 users" in holds[0].found
    assert not any(c.holds for c in sample_efficiency._ahead_of_samplers(frame([0.3, 0.4], [0.1, 0.31]), 100))


# --- noise ------------------------------------------------------------------------------------------


def test_noise_is_in_train_alone(split, tmp_path):
    config = noise.Config(out=str(tmp_path), shared=str(tmp_path), **SMALL)
    noisy = noise._noisy(config, split, 5.0, 0).split
    flipped = abs(noisy.train.matrix.sign() - split.train.matrix.sign()).sum(axis=1)
    np.testing.assert_array_equal(flipped, np.full((120, 1), 3))  # 5% of 60 items
    for on in ("validation", "test"):
        np.testing.assert_array_equal(noisy.context(on).matrix.toarray(), split.context(on).matrix.toarray())
        np.testing.assert_array_equal(noisy.targets(on).matrix.toarray(), split.targets(on).matrix.toarray())
    again = noise._noisy(config, split, 5.0, 0).split.train.matrix
    np.testing.assert_array_equal(again.toarray(), noisy.train.matrix.toarray())
    other = noise._noisy(config, split, 5.0, 1).split.train.matrix
    assert (other != noisy.train.matrix).nnz
    assert noise._noisy(config, split, 0.0, 0).split.train is split.train


def test_noise_has_every_cell_and_both_pictures(tmp_path):
    config = noise.Config(
        noise=(0.0, 5.0), budgets=(4,), sources=(DISTILLED, "head users"), out=str(tmp_path), shared=str(tmp_path),
        **{**SMALL, "plot": True},
    )  # fmt: skip
    record = noise.run(config)
    found = {(c["model"], c["noise"], c["source"], c["users"]) for c in record["cells"]}
    pairs = [(DISTILLED, 4), ("head users", 4), (EVERYBODY, 120)]
    assert found == {(m, x, *pair) for m in ("EASE", "∞-AE") for x in (0.0, 5.0) for pair in pairs}
    assert {"drop.png", "budgets.png"} == set(record["pictures"])
    assert len(record["claims"]) == 3 + 2


def noise_frame(summary, everybody, infae_gap):
    """EASE's HR@10 on a summary of 4 and of 8, and on everybody, at 5% noise; ∞-AE's gap at 0% and at 5%."""
    rows = [("EASE", 5.0, DISTILLED, n, x) for n, x in zip((4, 8), summary, strict=True)]
    rows += [("EASE", 0.0, EVERYBODY, 100, 0.5), ("∞-AE", 0.0, EVERYBODY, 100, 0.5 + infae_gap[0])]
    rows += [("EASE", 5.0, EVERYBODY, 100, everybody), ("∞-AE", 5.0, EVERYBODY, 100, everybody + infae_gap[1])]
    return pd.DataFrame(rows, columns=["model", "noise", "source", "users", "HR@10"])


def test_the_claims_on_noise_hold_and_do_not_hold_as_they_should():
    better, smallest, gap = noise._claims(noise_frame((0.4, 0.3), 0.35, (0.0, 0.1)))[:3]
    assert (better.holds, smallest.holds, gap.holds) == (True, True, True)
    assert "40.00 with 4, 30.00 with 8 synthetic users, 35.00 on all" in better.found
    better, smallest, gap = noise._claims(noise_frame((0.3, 0.34), 0.35, (0.1, 0.0)))[:3]
    assert (better.holds, smallest.holds, gap.holds) == (False, False, False)


# --- table 1 ----------------------------------------------------------------------------------------


def test_table_1_puts_the_published_figure_beside_ours(tmp_path, monkeypatch, split):
    monkeypatch.setattr(table_1, "TABLE_1", {"made": TABLE_1["ml-1m"]})
    config = table_1.Config(
        models=("popularity", "ease", "infae", "distilled"), n_users=5, seeds=(0, 1), out=str(tmp_path),
        shared=str(tmp_path), **{**SMALL, "plot": True},
    )  # fmt: skip
    record = table_1.run(config)
    rows = {row[0]: row for row in record["tables"][0].rows}
    assert list(rows) == ["PopRec", "EASE", "∞-AE", "DISTILL-CF + ∞-AE"]
    ours = infae.evaluate(models.PopRec().fit(split.train), split, k=(10,))["HR@10"]
    assert rows["PopRec"][2] == f"{100 * ours:.2f} (13.07)"
    assert "±" in rows["DISTILL-CF + ∞-AE"][1]
    assert "±" not in rows["EASE"][1]
    assert (tmp_path / "table_1.png").exists()
    with pytest.raises(ValueError, match="expected some of popularity"):
        table_1.run(dataclasses.replace(config, models=("other",)))


def test_published_figures_are_those_of_the_papers_table():
    assert TABLE_1["ml-1m"]["EASE"]["NDCG@10"] == 29.88
    assert TABLE_1["ml-1m"]["∞-AE"] == {
        "AUC-sampled": 0.9457, "HR@10": 31.51, "HR@100": 60.05, "NDCG@10": 32.82, "NDCG@100": 42.53, "PSP@10": 3.22,
    }  # fmt: skip
    assert TABLE_1["magazine"]["DISTILL-CF + ∞-AE"]["PSP@10"] == 13.76


def test_the_claims_of_table_1_name_who_is_ahead_and_what_falls_short():
    def means(ease, infae_):
        return {
            title: pd.Series(dict.fromkeys(table_1.METRICS, value))
            for title, value in (("EASE", ease), ("∞-AE", infae_))
        }

    published = {"EASE": {"HR@10": 30.0}, "∞-AE": {"HR@10": 40.0}}
    ahead, ease, ours = [
        *table_1._beats_competitors(means(0.29, 0.4)),
        *table_1._beside_published(means(0.29, 0.4), published),
    ]
    assert (ahead.holds, ease.holds, ours.holds) == (True, True, True)
    behind, ease, ours = [
        *table_1._beats_competitors(means(0.41, 0.39)),
        *table_1._beside_published(means(0.28, 0.39), published),
    ]
    assert (behind.holds, ease.holds, ours.holds) == (False, False, False)
    assert "EASE has 41.00 in HR@10, ∞-AE 39.00" in behind.found
    assert "lambda" in behind.why
    assert "HR@10 -2.5%" in ours.found
