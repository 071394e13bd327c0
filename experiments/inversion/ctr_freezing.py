"""Does gradient freezing help Algorithm 1? Table 5 and Figure 3 of the model-inversion paper.

    python -m experiments.inversion.ctr_freezing                    # made clicks, offline
    python -m experiments.inversion.ctr_freezing --preset=quick     # Yahoo! R3 uniform, reduced
    python -m experiments.inversion.ctr_freezing --preset=paper     # Yahoo! R3 and ML-1M, three splits

Rows are inverted from a DeepFM with batch normalisation, whose statistics they are drawn to, with each kind of
freezing, and a DeepFM is trained on them, everything chosen on validation rows. Writes `record.json`, `table.md`, a
picture of each table, `rows.png` (the rows of the first table and split by t-SNE and by principal components) and
`cells/`, from which a run that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.ctr.rows import Rows
from experiments.inversion import inverted, published, wording
from experiments.inversion.sources import INVERSION, NORM_WEIGHT, ON_HARD, Workshop
from experiments.inversion.study import NOTES, TablesConfig, begin, places
from experiments.study import flags, plots
from experiments.study.claims import Claim, ahead
from experiments.study.flags import option
from experiments.study.runner import each
from experiments.study.tables import metrics_table
from infae.runtime import checks

FREEZING = {"none": "none", "half of the rows each": "half", "users": "user", "items": "item"}
"""What stays as it was drawn, and the name that `inverted.synthesise` takes."""
WITHOUT, PUBLISHED = "none", "half of the rows each"


@dataclass(frozen=True)
class Config(TablesConfig):
    freezing: tuple[str, ...] = option(tuple(FREEZING), f"some of {', '.join(FREEZING)}", axis=True)
    n_rows: int = option(200, "of a synthetic set", quick=2000)
    out: str = option("out/ctr_freezing", "output folder")


def run(config: Config) -> dict[str, Any]:
    for name in config.freezing:
        checks.choice("--freezing", name, FREEZING)
    study, workshop = begin(
        config, title="Gradient freezing in Algorithm 1", shows="Table 5 and Figure 3 of model inversion", version=1
    )
    frame = study.run(each(places(config, freezing=config.freezing), partial(taught, workshop)))
    shown = []
    for table, part in frame.groupby("table", sort=False):
        theirs = published.beside("table_5", table)
        shown.append(metrics_table(part, ("freezing",), ("AUC", "LogLoss"), f"{table}, test", theirs))
        rows = {name: cells.to_dict("records") for name, cells in part.groupby("freezing", sort=False)}
        study.draw(f"{table}.png", plots.grouped, rows, ["AUC"], theirs, f"test on {table}; marks: the paper's")
    study.draw("rows.png", _draw_rows, workshop, config)
    return study.write(shown, [*frozen_is_better(frame)], [NOTES[0], NOTES[2]], data=", ".join(config.tables))


def made(workshop: Workshop, freezing: str, table: str, seed: int) -> Rows:
    """The rows of a kind of freezing."""
    model = workshop.teacher("DeepFM-BN", table, seed)
    settings: Any = {"norm_weight": NORM_WEIGHT, "freeze": FREEZING[freezing], **INVERSION.get(table, {})}
    return inverted.synthesise(model, workshop.n_rows, seed, **settings)


def taught(workshop: Workshop, freezing: str, table: str, seed: int) -> dict[str, Any]:
    """Test figures of a DeepFM on them."""
    rows = made(workshop, freezing, table, seed)
    return workshop.student("DeepFM", [(training, rows) for training in ON_HARD], workshop.data(table, seed), seed)


def frozen_is_better(frame: pd.DataFrame) -> Iterator[Claim]:
    """Section 5.5: with gradient freezing AUC is higher than without."""
    for table, part in frame.groupby("table", sort=False):
        found = {name: cells["AUC"] for name, cells in part.groupby("freezing", sort=False)}
        if {WITHOUT, PUBLISHED} <= {*found}:
            rows = [{"name": name, "auc": values} for name, values in found.items()]
            yield wording.FREEZING.claim(ahead(found[PUBLISHED], found[WITHOUT]), rows, table=table)


def _draw_rows(path: Any, workshop: Workshop, config: Config) -> None:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    panels, seed = {}, int(config.seeds[0])
    for name in [kind for kind in (WITHOUT, PUBLISHED) if kind in config.freezing] or config.freezing[:1]:
        rows = made(workshop, name, config.tables[0], seed)
        # Both sides in units of what they would be if all values were alike.
        values = np.concatenate([np.asarray(value) * value.shape[1] for value in rows.values], axis=1)
        reduced = PCA(min(50, *values.shape), random_state=seed).fit_transform(values)
        placed = TSNE(perplexity=min(30, len(rows) // 4), random_state=seed).fit_transform(reduced)
        for way, points in (("t-SNE", placed), ("PCA", reduced)):
            panels[f"frozen: {name}, {way}"] = points, rows.labels
    plots.scatters(path, panels, ("label 0", "label 1"))


if __name__ == "__main__":
    flags.main(Config, run)
