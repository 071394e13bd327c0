"""Tables of results: cells of text under a caption, metrics as mean ± standard deviation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

IN_PERCENT = "in percent (AUC as it is)"
_AS_IT_IS = ("AUC", "LogLoss", "ECE")


@dataclass(frozen=True)
class Table:
    """Cells of text under a caption; the first `n_labels` columns name the rows."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_labels: int = 1

    def markdown(self) -> str:
        """As GitHub shows it."""
        dashes = "|---" * self.n_labels + "|---:" * (len(self.columns) - self.n_labels) + "|"
        head, *rows = ("| " + " | ".join(map(escape_markdown, row)) + " |" for row in (self.columns, *self.rows))
        return "\n".join([f"**{escape_markdown(self.caption)}**", "", head, dashes, *rows])


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*\[\]<>|]|\b_|_\b)", r"\\\1", " ".join(text.split()))


def spread(values: Sequence[float], column: str) -> str:
    """Mean ± standard deviation of a metric's values, in percent but for AUC, LogLoss and ECE; of one value, that."""
    mean = _cell(float(np.mean(values)), column)
    return mean if len(values) == 1 else f"{mean} ± {_cell(float(np.std(values, ddof=1)), column)}"


def results_table(caption: str, rows: Mapping[str, Sequence[Mapping[str, float]]], columns: Sequence[str]) -> Table:
    """A row a model: the `spread` over its results."""
    cells = [[name, *(spread([one[c] for one in results], c) for c in columns)] for name, results in rows.items()]
    return Table(caption, ["", *columns], cells)


def metrics_table(
    frame: pd.DataFrame,
    by: Sequence[str],
    columns: Sequence[str],
    caption: str,
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> Table:
    """A row for each combination of values on the axes `by`: the `spread` over the rest.

    `published` is label on the first axis -> column -> figure in percent (AUC as it is), shown in brackets.
    """
    rows = []
    for values, group in frame.groupby(list(by), sort=False):
        rows.append([label(value) for value in values])
        beside = (published or {}).get(rows[-1][0], {})
        for column in columns:
            theirs = f" ({beside[column]:.{4 if column.startswith(_AS_IT_IS) else 2}f})" if column in beside else ""
            rows[-1].append(spread(group[column].to_list(), column) + theirs)
    return Table(caption, [*by, *columns], rows, len(by))


def label(value: Any) -> str:
    """A value on an axis."""
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)


def _cell(value: float, column: str) -> str:
    return f"{value:.4f}" if column.startswith(_AS_IT_IS) else f"{100 * value:.2f}"
