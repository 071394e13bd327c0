"""Cells on disk, and what every study makes of them: frame, tables, verdicts, record."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from experiments.study import flags
from experiments.study import runner as study
from experiments.study.cells import Cells
from experiments.study.runner import Claim, Study, Table, metrics_table
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


def test_two_runs_in_one_folder_share_their_cells_and_lose_none(split, tmp_path):
    config, done = Made(out=str(tmp_path)), []

    def run(seeds, meanwhile=lambda: None):
        def work(seed):
            done.append(seed)
            meanwhile()
            return {"HR@10": seed / 10}

        study = Study(config, split, title="made", shows="nothing")
        return study.run([({"seed": seed}, lambda seed=seed: work(seed)) for seed in seeds])

    # While the first works out seed 0, another one finishes 1 and 3.
    first = run((0, 1, 2), meanwhile=lambda: run((1, 3)) if 3 not in done else None)
    assert done == [0, 1, 3, 2]
    assert first["HR@10"].to_list() == [0.0, 0.1, 0.2]
    run((3, 2, 1, 0))
    assert done == [0, 1, 3, 2]


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
    assert record["command"].startswith("python -m test_study --out=")
    text = (tmp_path / "table.md").read_text()
    assert "| x | 1 |" in text
    assert "- **Does not hold**: So it is. It was 1. Chance." in text


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
        study = Study(Made(out=str(tmp_path)), split, title="made", shows="nothing")
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
    assert study.ahead([0.3, 0.4], [0.1, 0.29]) is True
    assert study.ahead([0.3, 0.4], [0.1, 0.31]) is None
    assert study.ahead([0.1, 0.2], [0.3]) is False
    assert study.ahead([0.2], [0.2]) is False


def test_every_is_false_where_one_is_and_undecided_where_there_is_none():
    assert study.every([True, True]) is True
    assert study.every([True, None]) is None
    assert study.every([None, False]) is False
    assert study.every([]) is None
