"""Who is the best teacher? GD-REC's table 4, and the recommenders that no one has taught with: EASE and ∞-AE.

    python -m experiments.kd.kd_teachers                    # made clicks, offline
    python -m experiments.kd.kd_teachers --preset=quick     # MovieLens-100K, reduced
    python -m experiments.kd.kd_teachers --preset=paper     # the paper's three sets, three seeds

BPR and NeuMF of clicks alone (KD) and with generated lists too (GD, Eq. 4), and other recommenders of clicks alone.
Everything is chosen on validation clicks. Writes `record.json`, `table.md`, a picture of each set and `cells/`, from
which a run that was stopped goes on.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from experiments.kd import published
from experiments.kd.generated import MODELS, TEACHERS, ListsConfig, Made, begin_lists
from experiments.kd.kd_table_2 import cell, gd_ahead
from experiments.kd.protocol import figures, ranks
from experiments.kd.teachers import TEACHERS as OTHERS
from experiments.kd.workshop import Workshop
from experiments.study import flags, plots
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table

NOTES = (
    "H@50 and N@50: a user's one test click among all items not clicked.",
    "Figures in brackets are the paper's; see kd_table_2 for how its CiteULike and Yelp differ.",
)
NOT_AGAIN = tuple(name for name in OTHERS if name not in MODELS)


@dataclass(frozen=True)
class Config(ListsConfig):
    methods: tuple[str, ...] = option(TEACHERS, f"some of {', '.join(TEACHERS)}", axis=True)
    others: tuple[str, ...] = option(("EASE", "∞-AE"), f"some of {', '.join(NOT_AGAIN)}", axis=True, paper=NOT_AGAIN)
    out: str = option("out/kd_teachers", "output folder")


def run(config: Config) -> dict[str, Any]:
    choices, more = {"methods": TEACHERS, "others": NOT_AGAIN}, {"others": Workshop().of_teachers}
    made, study = begin_lists(config, "Teachers", "Table 4 of GD-REC", choices, more)
    kinds = [(model, method) for model in config.models for method in config.methods]
    places = [
        {"model": model, "method": method, "data": name, "seed": seed}
        for name in config.data
        for seed in config.seeds
        for model, method in [*kinds, *((name, "") for name in config.others)]
    ]
    frame = study.run(each(places, partial(teacher, made)))
    frame["share"] = 1.0
    shown = []
    for name, part in frame.groupby("data", sort=False):
        labels = [", ".join(filter(None, at)) for at in zip(part["model"], part["method"], strict=True)]
        part = part.assign(teacher=labels)
        theirs = {
            f"{model}, {method}": row
            for model in MODELS
            for method, row in published.beside("table_2", f"{name} {model}").items()
        }
        columns = ("H@50", "N@50")
        shown.append(metrics_table(part, ("teacher", "parameters"), columns, f"{name}, test", theirs))
        rows = {label: cells.to_dict("records") for label, cells in part.groupby("teacher", sort=False)}
        study.draw(f"{name}.png", plots.grouped, rows, columns, theirs, name)
    claims = gd_ahead(frame[frame["method"] != ""])
    return study.write(shown, [*claims], NOTES, data=", ".join(config.data))


def teacher(made: Made, model: str, method: str, data: str, seed: int) -> dict[str, Any]:
    """Test figures of a teacher."""
    if method:
        return cell(made, model, method, 1.0, data, seed)
    found, split = made.workshop.teacher(model, data, seed), made.workshop.split(data, seed)
    return {**figures(ranks(found.score, split, "test"), (50,)), "parameters": found.n_parameters}


if __name__ == "__main__":
    flags.main(Config, run)
