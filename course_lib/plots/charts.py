"""Charts of any numbers: bars, lines, clouds, histograms, tables in colour."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from numbers import Integral

import numpy as np
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from course_lib.errors import InputError
from course_lib.plots.style import (
    COLOURS,
    DASHED,
    checked,
    checked_series,
    drawable,
    figure,
    is_number,
    legend,
)
from course_lib.tables import as_text

Points = Sequence[tuple[float, float]]


def bars(
    values: Mapping[str, float | None],
    xlabel: str,
    heading: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    reference: float | None = None,
) -> Figure:
    """Horizontal bars in the order given, each with its number.

    Args:
        values: a number for each label; None or nan is drawn as "no value".
        intervals: `{label: (low, high)}`, drawn as lines.
        reference: where a dashed line stands, such as chance; `xlabel` should say what it is.
    """
    checked(values, "a dict from a label to a number")
    fig, ax = figure(7.0, 1.2 + 0.42 * len(values), heading, xlabel, names=list(values))
    ends = [(v, *(intervals or {}).get(k, (v, v))) if is_number(v) else (0, 0, 0) for k, v in values.items()]
    widths, low, high = np.transpose(ends)
    reach = np.maximum(0, [widths - low, high - widths])
    drawn = ax.barh(range(len(values)), widths, 0.66, xerr=reach, color=COLOURS[0])
    texts = [as_text(value) if is_number(value) else "no value" for value in values.values()]
    ax.bar_label(drawn, texts, padding=5, bbox={"fc": "white", "ec": "none", "pad": 1})
    if reference is not None:
        ax.axvline(reference, **DASHED)
    ax.axvline(0, color="#333333", linewidth=0.8)
    ax.margins(x=0.12)
    return fig


def lines(series: Mapping[str, Points], xlabel: str, ylabel: str, heading: str) -> Figure:
    """One line per series of points `(x, y)`, told apart by colour and marker."""
    return _points(series, xlabel, ylabel, heading, linewidth=2).figure


def scatter(
    series: Mapping[str, Points], xlabel: str, ylabel: str, heading: str, diagonal: bool = False
) -> Figure:
    """One cloud per series of points `(x, y)`; `diagonal` draws x = y."""
    ax = _points(series, xlabel, ylabel, heading, linestyle="", alpha=0.7)
    if diagonal:
        ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())
        ax.axline((0, 0), slope=1, color="#666666", linestyle="--", zorder=0, label="x = y")
        legend(ax)
    return ax.figure


def _points(series: Mapping[str, Points], xlabel: str, ylabel: str, heading: str, **look):
    """Axes with the points; those with None or nan are left out."""
    checked_series(
        series, "a list of points (x, y)", lambda point: isinstance(point, Sequence) and len(point) == 2
    )
    _, ax = figure(heading=heading, xlabel=xlabel, ylabel=ylabel)
    for name, points in series.items():
        known = [point for point in points if all(map(is_number, point))]
        ax.plot(*np.reshape(known, (-1, 2)).T, label=drawable(name), **look)
    if all(isinstance(x, Integral) for points in series.values() for x, _ in points):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return ax


def histogram(
    series: Mapping[str, Sequence[float]], xlabel: str, heading: str, bins: int = 20, ylabel: str = "count"
) -> Figure:
    """How often which value comes; several series stand side by side in each bin. None and nan are left out."""
    checked_series(series, "a list of numbers", lambda value: True)
    values = [[value for value in numbers if is_number(value)] for numbers in series.values()]
    checked(sum(values, []), "numbers; all that came are None or nan")
    fig, ax = figure(heading=heading, xlabel=xlabel, ylabel=ylabel)
    _, _, groups = ax.hist(values, bins, edgecolor="white", linewidth=0.5, label=list(map(drawable, series)))
    for group, hatch in zip(groups, cycle(["", "//", "..", "xx"]), strict=False) if len(values) > 1 else ():
        for bar in group:
            bar.set_hatch(hatch)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return fig


def with_answer(fig: Figure, yours: float, right: float, digits: int = 2, end: float = math.inf) -> Figure:
    """`fig` with a vertical line at the value that a learner gave, at most at `end`, and a dashed one at the right value."""
    ax = fig.axes[0]
    ax.axvline(min(yours, end), color=COLOURS[5], linewidth=2, label=f"yours, {yours:.{digits}f}")
    ax.axvline(right, color=COLOURS[2], linewidth=2, linestyle="--", label=f"right, {right:.{digits}f}")
    legend(ax)
    return fig


def heatmap(
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    heading: str,
    centre: float | None = None,
) -> Figure:
    """A table of numbers, coloured.

    Args:
        values: a list for each of `rows`, with a number for each of `columns`; None or nan is left blank.
        label: what the colours mean, with its unit.
        centre: the value that is neutral; colours then part to both sides of it.
    """
    if len(values) != len(rows) or any(len(line) != len(columns) for line in values):
        raise InputError(
            f"values must have {len(rows)} rows of {len(columns)} numbers, as `rows` and `columns` say."
        )
    grid = [[float(value) if is_number(value) else math.nan for value in line] for line in values]
    checked([value for line in grid for value in line if is_number(value)], "a list of rows of numbers")
    fig, ax = figure(7.0, 1.5 + 0.5 * len(rows), heading, names=rows)
    colours = {"cmap": "cividis"} if centre is None else {"cmap": "PuOr", "norm": CenteredNorm(centre)}
    image = ax.imshow(grid, aspect="auto", **colours)
    readable = {
        "ha": "center",
        "va": "center",
        "path_effects": [withStroke(linewidth=2.5, foreground="white")],
    }
    for (place, column), value in np.ndenumerate(grid):
        ax.text(column, place, as_text(value) if is_number(value) else "–", **readable)
    ax.set_xticks(range(len(columns)), [drawable(name, 14) for name in columns])
    ax.grid(visible=False)
    fig.colorbar(image, ax=ax, label=drawable(label, 30))
    return fig
