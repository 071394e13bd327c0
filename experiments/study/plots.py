"""Pictures of results; needs the `plots` extra."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.study.tables import label
from infae.storage.atomic import replacing

INK, ACCENT, MUTED = "#22313f", "#c0392b", "#8395a7"
COLOURS = (ACCENT, "#e67e22", INK, "#2980b9", "#27ae60", "#8e44ad", MUTED, "#d4ac0d", "#16a085", "#7f6000")
COLUMNS = 3

Panel = Mapping[str, Mapping[float, tuple[float, float]]]
"""A line each: its name, and at each x mean and standard deviation."""


def figure(n_panels: int = 1) -> tuple[Any, list[Any]]:
    """A Matplotlib figure of panels, at most `COLUMNS` in a row, drawn without a display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need Matplotlib: pip install 'infae[plots]', or pass --noplot") from error
    n_columns = 2 if n_panels == 4 else min(n_panels, COLUMNS)
    n_rows = -(-n_panels // n_columns)
    drawn = Figure(figsize=(5.6 * n_columns, 3.6 * n_rows), layout="constrained")
    places = list(drawn.subplots(n_rows, n_columns, squeeze=False).flat)
    for empty in places[n_panels:]:
        empty.remove()
    for panel in places[:n_panels]:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color=MUTED, alpha=0.25)
    return drawn, places[:n_panels]


def save(drawn: Any, path: Path) -> None:
    """Write a PNG aside and rename it; names with a dollar are no formulas."""
    for text in drawn.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        # The numbers of a logarithmic axis are formulas.
        if "$" in text.get_text() and "mathdefault" not in text.get_text():
            text.set_parse_math(False)
    with replacing(path) as aside:
        drawn.savefig(aside, dpi=130)


def reg_path(path: Path, rows: Sequence[Mapping[str, Any]], metric: str, chosen: float, title: str) -> None:
    """Validation `metric` against reg, on evenly spaced ticks since grids hold 0; failures are marked."""
    drawn, (panel,) = figure()
    known = [(x, 100 * row[metric]) for x, row in enumerate(rows) if metric in row]
    panel.plot(*zip(*known, strict=True), "o-", color=INK)
    for x, value in known:
        if rows[x]["reg"] == chosen:
            panel.plot(x, value, "o", color=ACCENT, markersize=9)
            panel.annotate(f"chosen: {value:.2f}", (x, value), (0, 8), textcoords="offset points", ha="center",
                           color=ACCENT)  # fmt: skip
    for x in {*range(len(rows))} - {*dict(known)}:
        panel.annotate("unusable:\nrounding error", (x, 0.04), xycoords=("data", "axes fraction"), color=MUTED,
                       ha="center", fontsize=8)  # fmt: skip
    panel.margins(y=0.2)
    panel.set_xlim(-0.6, len(rows) - 0.4)
    panel.set_xticks(range(len(rows)), [f"{row['reg']:g}" for row in rows])
    panel.set(xlabel="reg (relative to the kernel's mean diagonal)", ylabel=f"validation {metric}, %", title=title)
    save(drawn, path)


def calibration(path: Path, found: Mapping[str, Any], title: str) -> None:
    """Share of clicks against mean prediction, by groups of rows of equal number; on the diagonal they are equal."""
    drawn, (panel,) = figure()
    panel.plot([0, 1], [0, 1], "--", color=MUTED)
    for (name, each), colour in zip(found.items(), itertools.cycle(COLOURS), strict=False):
        panel.plot(each.predicted, each.observed, "o-", color=colour, label=f"{name}: error {each.error:.3f}")
    panel.set(xlabel="predicted probability", ylabel="share of clicks", title=title)
    panel.legend(frameon=False)
    save(drawn, path)


def scatters(path: Path, panels: Mapping[str, tuple[Any, Any]], names: Sequence[str]) -> None:
    """A panel of points (n, 2) each, two in a row, coloured by a label 0, 1, ... whose names are given."""
    drawn, axes = figure(len(panels))
    for axis, (title, (points, labels)) in zip(axes, panels.items(), strict=True):
        for label_, name in enumerate(names):
            here = points[labels == label_]
            axis.scatter(here[:, 0], here[:, 1], s=5, alpha=0.6, color=(INK, ACCENT)[label_ % 2], label=name)
        axis.set(title=title, xticks=[], yticks=[])
    axes[0].legend(frameon=False, fontsize=8)
    save(drawn, path)


def history(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]], metric: str, title: str) -> None:
    """Of each run of DISTILL-CF the loss, and the validation metric of soft and binary rows, over steps."""
    drawn, (left, right) = figure(2)
    for i, (name, rows) in enumerate(runs.items()):
        steps = [row["step"] for row in rows]
        shade = {"color": INK if i == 0 else MUTED, "alpha": 1 if i == 0 else 0.7}
        left.plot(steps, [row["loss"] for row in rows], label=name, **shade)
        right.plot(steps, [100 * row[metric] for row in rows], label=f"soft, {name}", **shade)
        if f"{metric} hard" in rows[0]:
            values = [100 * row[f"{metric} hard"] for row in rows]
            right.plot(steps, values, "--", label=f"binary, {name}", color=ACCENT, alpha=shade["alpha"])
    left.set_yscale("log")
    left.set(xlabel="outer step", ylabel="loss, with penalties", title=title)
    right.set(xlabel="outer step", ylabel=f"validation {metric}, %")
    right.legend(frameon=False, fontsize=8)
    save(drawn, path)


def curves(path: Path, panels: Mapping[str, Panel], x_label: str, y_label: str, *, log: bool = False) -> None:
    """A panel each, at most three in a row; in it a line each of {x: (mean, standard deviation)}.

    A line of one x is drawn across. With `log` the x axis is logarithmic.
    """
    drawn, axes = figure(len(panels))
    # A name has the same colour in every panel.
    colours = _colours(name for lines in panels.values() for name in lines)
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, points in lines.items():
            colour = colours[name]
            xs = sorted(points)
            means, spreads = ([points[x][k] for x in xs] for k in range(2))
            if len(xs) == 1 and max(map(len, lines.values())) > 1:
                axis.axhline(means[0], color=colour, ls=":", label=name)
            else:
                axis.errorbar(xs, means, spreads, fmt="o-", color=colour, label=name, capsize=2, markersize=4)
        axis.set(xlabel=x_label, ylabel=y_label, title=title)
        axis.margins(y=0.15)
        ticks = sorted({x for points in lines.values() if len(points) > 1 for x in points})
        if log:
            axis.set_xscale("log")
            axis.minorticks_off()
            axis.tick_params(axis="x", rotation=45)  # neighbours of a wide range stand close together
        if log or (ticks and ticks == list(range(int(ticks[0]), int(ticks[-1]) + 1))):
            axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    # Each name once.
    handles = {name: line for axis in axes for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    drawn.legend(handles.values(), handles, frameon=False, fontsize=8, loc="outside right center")
    save(drawn, path)


def lines(frame: pd.DataFrame, line: Sequence[str], x: str, metric: str) -> Panel:
    """A panel of `curves`: for each combination on the axes `line` a metric, in percent, over axis `x`."""
    found: dict[str, dict[float, tuple[float, float]]] = {}
    for (*names, place), values in (100 * frame[metric]).groupby([frame[axis] for axis in (*line, x)], sort=False):
        spread = values.std() if len(values) > 1 else 0.0
        found.setdefault(", ".join(map(label, names)), {})[place] = float(values.mean()), float(spread)
    return found


def _colours(names: Iterable[str]) -> dict[str, str]:
    """A colour each; what DISTILL-CF made has the first ones, so that it looks the same in every picture."""
    ordered = sorted(dict.fromkeys(names), key=lambda name: "DISTILL-CF" not in name)
    return dict(zip(ordered, itertools.cycle(COLOURS), strict=False))


def bars(path: Path, rows: Mapping[str, Sequence[Mapping[str, float]]], columns: Sequence[str], title: str) -> None:
    """Each row's mean of every column relative to the last row's, in percent, spread over its results as a line."""
    drawn, (panel,) = figure()
    *names, base = rows
    width = 0.8 / max(1, len(names))
    found = {name: pd.DataFrame(results)[[*columns]] for name, results in rows.items()}
    for i, (name, colour) in enumerate(_colours(names).items()):
        ratios = 100 * (found[name] / found[base] - 1)
        places = [x + (i - (len(names) - 1) / 2) * width for x in range(len(columns))]
        panel.bar(places, ratios.mean(), width * 0.9, color=colour, label=name)
        panel.vlines(places, ratios.min(), ratios.max(), color=INK, lw=1)
    panel.axhline(0, color=INK, lw=0.8)
    panel.set_xticks(range(len(columns)), columns, fontsize=7)
    panel.set(ylabel=f"% above {base}", title=title)
    panel.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    drawn.set_size_inches(9.5, 3.6)
    save(drawn, path)


OURS = ("∞-AE", "DISTILL-CF", "designed")


def grouped(
    path: Path,
    rows: Mapping[str, Sequence[Mapping[str, float]]],
    columns: Sequence[str],
    published: Mapping[str, Mapping[str, float]],
    title: str,
) -> None:
    """A panel a column: each row's mean as a bar, and the published figure as a mark across it.

    In percent; AUC as it is, from 0.5, which is chance.
    """
    drawn, panels = figure(len(columns))
    means = {name: pd.DataFrame(rows[name]).mean(numeric_only=True) for name in list(rows)[::-1]}
    drawn.set_figheight(max(drawn.get_figheight(), 1.2 + 0.22 * len(means)))
    for panel, column in zip(panels, columns, strict=True):
        scale, digits, left = (1, 4, 0.5) if column.startswith("AUC") else (100, 2, 0.0)
        for place, (name, mean) in enumerate(means.items()):
            end = scale * mean[column]
            color = ACCENT if any(word in name for word in OURS) else INK
            panel.barh(place, end - left, left=left, height=0.6, color=color)
            text = f"{end:.{digits}f}"
            if (theirs := published.get(name, {}).get(column)) is not None:
                panel.plot([theirs, theirs], [place - 0.42, place + 0.42], color="#e67e22", lw=2)
                end = max(end, theirs)  # clear of the mark
            panel.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=7)
        unit = "" if scale == 1 else ", %"
        panel.set(title=column, xlabel=f"test{unit}" + (" (line: as published)" if published else ""))
        panel.set_yticks(range(len(means)), [*means])
        panel.grid(visible=False, axis="y")
        panel.grid(axis="x", color=MUTED, alpha=0.25)
        panel.set_axisbelow(True)
        panel.margins(x=0.12)
        panel.tick_params(axis="y", labelsize=8)
    drawn.suptitle(title)
    save(drawn, path)
