"""The reference code's figures on the paper's own splits; needs the data sets."""

import os
from pathlib import Path

import pytest

import infae

DATA = os.environ.get("INFAE_DATA", "")
PUBLISHED = [
    ("magazine", 20.0, {"HR@10": 25.566, "NDCG@10": 22.1255, "HR@100": 61.1008, "PSP@10": 12.4272}, 0.05),
    (
        "ml-1m",
        5.0,
        {"HR@10": 31.906, "HR@100": 60.9128, "NDCG@10": 33.3944, "NDCG@100": 43.3262, "PSP@10": 3.2949},
        0.02,
    ),
]


@pytest.mark.parametrize(("name", "reg", "figures", "within"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_the_published_figures_come_out(name, reg, figures, within):
    if not DATA or not (Path(DATA) / f"paper-{name}").is_dir():
        pytest.skip(f"needs paper-{name} in the folder that INFAE_DATA names (now {DATA!r})")
    split = infae.data.load(name)
    report = infae.evaluate(infae.fit(split.train, reg), split)
    assert {metric: 100 * report[metric] for metric in figures} == pytest.approx(figures, abs=within)
