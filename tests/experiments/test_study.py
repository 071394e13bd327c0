"""Cells on disk, and what every study makes of them: frame, tables, verdicts, record."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from experiments.study import claims, flags, plots
from experiments.study.cells import Cells
from experiments.study.claims import Claim, Sentence, Words
from experiments.study.runner import Run, Study
from experiments.study.tables import Table, metrics_table, results_table
from infae.data import random_split
from infae.data.synthetic import synthetic


@pytest.fixture(scope="module")
def split():
    return random_split(synthetic(120, 60, n_groups=4, mean_clicks=10, seed=3).interactions, seed=0)


def test_cells_are_on_disk_at_once_and_found_again_whatever_the_order_of_axes(tmp_path):
    cells = Cells(tmp_path, {"steps": 3})
    cells.add({"model": "EASE", "seed": np.int64(0)}, {"HR@10": np.float32(0.5), "AUC": float("nan")})
    again = Cells(tmp_path, {"steps": 3})
    assert {"seed": 0, "model": "EASE"} in again
    assert again[{"seed": 0, "model": "EASE"}] == {"HR@10": 0.5, "AUC": None}
    assert {"seed": 1, "model": "EASE"} not in again


def test_cells_of_other_settings_are_refused_by_name_of_what_differs(tmp_path):
    Cells(tmp_path, {"steps": 3, "metric": "AUC"}).add({"seed": 0}, {})
    with pytest.raises(ValueError, match=r"other settings \(steps\); give another --out"):
        Cells(tmp_path, {"steps": 4, "metric": "AUC"})


@dataclasses.dataclass(frozen=True)
class Made:
    seeds: tuple[int, ...] = flags.option((0, 1), "seeds", axis=True)
    steps: int = flags.option(3, "steps")
    out: str = flags.option("out", "folder")
    plot: bool = flags.option(False, "draw")


def test_a_study_that_was_stopped_goes_on_at_its_first_open_cell(split, tmp_path):
    done = []

    def work(seed):
        if seed == 1 and len(done) == 1:
            raise KeyboardInterrupt
        done.append(seed)
        return {"HR@10": seed / 10}

    def run(seeds, config):
        study = Study(config, split, title="made", shows="nothing", version=1)
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


def test_two_runs_in_one_folder_share_their_cells_and_lose_none(split, tmp_path):
    config, done = Made(out=str(tmp_path)), []

    def run(seeds, meanwhile=lambda: None):
        def work(seed):
            done.append(seed)
            meanwhile()
            return {"HR@10": seed / 10}

        study = Study(config, split, title="made", shows="nothing", version=1)
        return study.run([({"seed": seed}, lambda seed=seed: work(seed)) for seed in seeds])

    # While the first works out seed 0, another one finishes 1 and 3.
    first = run((0, 1, 2), meanwhile=lambda: run((1, 3)) if 3 not in done else None)
    assert done == [0, 1, 3, 2]
    assert first["HR@10"].to_list() == [0.0, 0.1, 0.2]
    run((3, 2, 1, 0))
    assert done == [0, 1, 3, 2]


def test_the_record_holds_tables_claims_and_the_command(split, tmp_path):
    study = Study(Made(out=str(tmp_path)), split, title="made", shows="nothing", version=1)
    study.run([({"seed": 0}, lambda: {"HR@10": 0.1})])
    study.write([Table("one", ["a", "b"], [["x|y", "1"]])], [Claim("So it is.", False, "It was 1.", "Chance.")], ["n"])
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["tables"][0]["rows"] == [["x|y", "1"]]
    assert record["claims"][0]["holds"] is False
    assert record["cells"][0]["HR@10"] == 0.1
    assert record["command"].startswith("python -m test_study --out=")
    text = (tmp_path / "table.md").read_text()
    assert "| x\\|y | 1 |" in text
    assert "- **Does not hold**: So it is. It was 1. Chance." in text


def test_cells_of_another_version_or_of_other_constants_are_refused(split, tmp_path):
    def study(version=1, lambdas=(1.0, 2.0)):
        config = Made(out=str(tmp_path))
        return Study(config, split, title="made", shows="", version=version, uses={"lambdas": lambdas})

    study().run([({"seed": 0}, lambda: {"HR@10": 0.1})])
    for changed, name in (({"version": 2}, "version"), ({"lambdas": (1.0, 3.0)}, "lambdas")):
        with pytest.raises(ValueError, match=rf"other settings \({name}\)"):
            study(**changed)


def test_a_model_whose_grid_was_edited_is_worked_out_anew_and_the_others_are_not(split, tmp_path):
    done = []

    def run(grids):
        study = Study(Made(out=str(tmp_path)), split, title="made", shows="", version=1, grids=grids)
        work = [
            ({"model": name, "seed": 0}, lambda name=name: done.append(name) or {"HR@10": grids[name][0]})
            for name in grids
        ]
        return study.run(work)["HR@10"].to_list()

    assert run({"EASE": (1.0, 2.0), "MF": (3.0,)}) == [1.0, 3.0]
    assert run({"EASE": (5.0, 2.0), "MF": (3.0,)}) == [5.0, 3.0]
    assert run({"EASE": (1.0, 2.0)}) == [1.0]
    assert done == ["EASE", "MF", "EASE"]


def test_pictures_are_drawn_after_the_record_and_a_dollar_is_no_formula(tmp_path):
    run = Run(Made(out=str(tmp_path), plot=True), title="made")
    rows = [{"reg": 1.0, "HR@10": 0.1}, {"reg": 2.0, "HR@10": 0.2}]
    run.draw("path.png", plots.reg_path, rows, "HR@10", 2.0, "∞-AE on /data/$HR_{x$}^ and $5")
    run.draw("other.png", lambda path: path.with_name("seen").write_text((tmp_path / "record.json").read_text()))
    record = run.write([Table("one", ["a"], [["x"]])])
    assert record["pictures"] == ["path.png", "other.png"]
    assert (tmp_path / "path.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "seen").read_text())["title"] == "made"
    Run(Made(out=str(tmp_path / "none")), title="made").draw("no.png", lambda path: pytest.fail("drawn"))


def test_a_damaged_cell_is_named_and_the_others_are_still_there(tmp_path):
    cells = Cells(tmp_path, {})
    for seed in (0, 1):
        cells.add({"seed": seed}, {"HR@10": seed})
    (damaged,) = (path for path in tmp_path.iterdir() if '"seed": 1' in path.read_text())
    for text in ("{", "[]", "{}", '{"result": 3}'):
        damaged.write_text(text)
        with pytest.raises(ValueError, match=rf"{damaged.name} is damaged.*remove it"):
            cells[{"seed": 1}]
    assert Cells(tmp_path, {})[{"seed": 0}] == {"HR@10": 0}
    damaged.unlink()
    assert {"seed": 1} not in cells


def test_damage_is_told_before_any_work(split, tmp_path):
    def run(seeds):
        study = Study(Made(out=str(tmp_path)), split, title="made", shows="nothing", version=1)
        return study.run([({"seed": seed}, lambda seed=seed: done.append(seed) or {"HR@10": 1.0}) for seed in seeds])

    done = []
    run((1,))
    [path] = (path for path in (tmp_path / "cells").iterdir() if path.name != "settings.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        run((0, 1))
    assert done == [1]


def test_without_their_settings_cells_are_not_taken_for_those_of_others(tmp_path):
    Cells(tmp_path, {"steps": 3}).add({"seed": 0}, {"HR@10": 0.1})
    (tmp_path / "settings.json").unlink()
    assert {"seed": 0} not in Cells(tmp_path, {"steps": 4})
    (tmp_path / "settings.json").unlink()
    assert {"seed": 0} in Cells(tmp_path, {"steps": 3})


def test_damaged_settings_of_cells_are_named(tmp_path):
    Cells(tmp_path, {"steps": 3})
    (tmp_path / "settings.json").write_text("[")
    with pytest.raises(ValueError, match=r"settings.json is damaged"):
        Cells(tmp_path, {"steps": 3})


def test_a_table_of_metrics_has_means_spreads_and_published_figures():
    frame = pd.DataFrame(
        {"model": ["a", "a", "b"], "users": [1000, 1000, 5], "HR@10": [0.1, 0.3, 0.5], "AUC": [0.5, 0.5, 1]}
    )
    table = metrics_table(frame, ("model", "users"), ("HR@10", "AUC"), "c", {"a": {"HR@10": 19.0, "AUC": 0.4}})
    assert table.columns == ["model", "users", "HR@10", "AUC"]
    assert table.rows[0] == ["a", "1,000", "20.00 ± 14.14 (19.00)", "0.5000 ± 0.0000 (0.4000)"]
    assert table.rows[1] == ["b", "5", "50.00", "1.0000"]
    assert table.markdown().splitlines()[3] == "|---|---|---:|---:|"


# --- verdicts ---------------------------------------------------------------------------------------


def test_ahead_goes_by_the_worst_seed_of_ours_and_the_best_of_theirs():
    assert claims.ahead([0.3, 0.4], [0.1, 0.29]) is True
    assert claims.ahead([0.3, 0.4], [0.1, 0.31]) is None
    assert claims.ahead([0.1, 0.2], [0.3]) is False
    assert claims.ahead([0.2], [0.2]) is False


def test_every_is_false_where_one_is_and_undecided_where_there_is_none():
    assert claims.every([True, True]) is True
    assert claims.every([True, None]) is None
    assert claims.every([None, False]) is False
    assert claims.every([]) is None


def test_words_have_figures_of_seeds_as_mean_and_spread():
    words = Words("{model} is ahead.", "{rows} users.", "{ours:HR@10} against {theirs:AUC} at {users:,}", "; ")
    rows = [{"ours": [0.1, 0.3], "theirs": [0.5], "users": 1000}, {"ours": (0.25,), "theirs": [1], "users": 2}]
    claim = words.claim(None, rows, why=Sentence("By {gap:.1f}.")(gap=0.25), model="EASE {not a place}")
    assert claim == Claim(
        "EASE {not a place} is ahead.", None, "20.00 ± 14.14 against 0.5000 at 1,000; 25.00 against 1.0000 at 2 users.",
        "By 0.2.",
    )  # fmt: skip


def test_results_of_several_seeds_are_mean_and_spread_and_of_one_itself():
    rows = {"a": [{"HR@10": 0.1, "AUC": 0.5}, {"HR@10": 0.3, "AUC": 0.7}], "b": [{"HR@10": 0.25, "AUC": 0.5}]}
    table = results_table("c", rows, ["HR@10", "AUC"])
    assert table.rows == [["a", "20.00 ± 14.14", "0.6000 ± 0.1414"], ["b", "25.00", "0.5000"]]
