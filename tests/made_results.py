"""A made results folder: two studies, and a run that shows nothing of the paper."""

import json

from experiments.study import plots

COMMON = {
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
    "cores": 2,
    "processor": "x86_64",
    "date": "2026-11-21",
}

DEPTH = {
    "title": "Depth of the network",
    "shows": "Figure 10",
    "command": "python -m experiments.infinite.depth --preset=paper --depths=1,2,3 --shared=" + "a_long_folder/" * 12,
    "config": {"preset": "paper", "out": "results/depth"},
    "seconds": 8130.4,
    "data": "ml-1m, the paper's own split: 6,040 users × 3,706 items",
    "tables": [
        {
            "caption": "Test, in percent <b>bold</b>",
            "columns": ["", *(f"a metric with a long name @{k}" for k in range(9)), "solver"],
            "rows": [
                [f"{depth} layers | {depth}", *(f"{depth}.{k}1 ± 0.08 (29.{k}7)" for k in range(9)), "exact"]
                for depth in range(1, 41)
            ],
        }
    ],
    "claims": [
        {"says": "Depth helps.", "holds": False, "found": "31.01 & 30.99.", "why": "It overfits at depth_3 *here*."},
        {"says": "Width does not matter.", "holds": None, "found": "One width alone.", "why": ""},
    ],
    "pictures": ["depth.png"],
    "notes": ["Two seeds instead of <five>."],
    **COMMON,
}

OVERALL = {
    "title": "<script>alert('title')</script>",
    "shows": "Table 1",
    "command": "python -m experiments.overall --dataset='<script>alert(1)</script>'",
    "config": {"preset": "smoke"},
    "seconds": 16.06,
    "data": "synthetic, <script>alert(2)</script>: 600 users × 400 items",
    "tables": [
        {"caption": "A table", "columns": ["", "AUC"], "rows": [["<script>alert(3)</script>", "0.9106"]]},
        {
            "caption": "Labels of rows",
            "columns": ["model", "source", "users", "HR@10"],
            "rows": [["EASE", "DISTILL-CF binary", "20", "51.04"], ["EASE", "random <users>", "20", "32.94"]],
            "n_labels": 3,
        },
    ],
    "claims": [{"says": "<script>alert(4)</script> is ahead.", "holds": True, "found": "1 > 0 & 2.", "why": "unseen"}],
    "pictures": [],
    "notes": [],
    **COMMON,
}

PLAIN = {
    "title": "A run of its own",
    "shows": "",
    "command": "python -m experiments.run_infae --dataset=ml-1m",
    "config": {"dataset": "ml-1m", "reg": [1.0, 5.0], "out": "/elsewhere"},
    "seconds": 3.5,
    "data": "ml-1m, the paper's own split",
    "tables": [
        {"caption": "Test", "columns": ["", "HR@10", "note"], "rows": [["∞-AE | one", "31.91", "<script>5</script>"]]}
    ],
    "claims": [],
    "pictures": ["reg path.png"],
    "notes": ["Some words of it."],
    **COMMON,
}


def write(folder, name, record):
    """One record, and its pictures."""
    (folder / name).mkdir(parents=True)
    (folder / name / "record.json").write_text(json.dumps(record), encoding="utf-8")
    for picture in record["pictures"]:
        drawn, panels = plots.figure(3)
        panels[0].plot([1, 2], [2, 1])
        plots.save(drawn, folder / name / picture)


def make(folder):
    """The folder with all three."""
    write(folder, "a_depth", DEPTH)
    write(folder, "overall_synthetic", OVERALL)
    write(folder, "run_infae_ml-1m", PLAIN)
    return folder
