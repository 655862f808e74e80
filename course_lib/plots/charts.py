"""Charts of any numbers: bars, lines, clouds, histograms, tables in colour."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from numbers import Integral
from typing import Any

import numpy as np
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from course_lib.errors import InputError
from course_lib.plots.style import COLOURS, DASHED, checked, drawable, figure, is_number
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
    spans = intervals or {}
    ends = [
        (value, *spans.get(name, (value, value))) if is_number(value) else (0, 0, 0)
        for name, value in values.items()
    ]
    widths, low, high = np.array(ends, dtype=float).T
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
        _legend(ax)
    return ax.figure


def _points(series: Mapping[str, Points], xlabel: str, ylabel: str, heading: str, **look):
    """Axes with the points of each series."""
    known = _known(series, _is_point, "a list of points (x, y)")
    if odd := [p for points in series.values() for p in points if not hasattr(p, "__len__") or len(p) != 2]:
        raise InputError(f"A point is {repr(odd[0])[:40]}; allowed: a pair of numbers (x, y).")
    _, ax = figure(heading=heading, xlabel=xlabel, ylabel=ylabel)
    for name, points in known.items():
        ax.plot(*np.reshape(points, (-1, 2)).T, label=drawable(name), **look)
    if all(isinstance(x, Integral) for points in known.values() for x, _ in points):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax)
    return ax


def _is_point(value: Any) -> bool:
    return hasattr(value, "__len__") and len(value) == 2 and all(map(is_number, value))


def _known(series: Mapping[str, Any], fits: Callable[[Any], bool], allowed: str) -> dict[str, list[Any]]:
    """What can be drawn of each series."""
    allowed = f"a dict from a name to {allowed}; None or nan is left out"
    if not isinstance(series, Mapping):
        raise InputError(f"The series are a {type(series).__name__}; allowed: {allowed}.")
    known = {name: list(filter(fits, values)) for name, values in series.items()}
    checked(sum(known.values(), []), allowed)
    return known


def _legend(ax) -> None:
    """Beside the axes, where it can cover nothing; none for a single entry."""
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=10)


def histogram(
    series: Mapping[str, Sequence[float]], xlabel: str, heading: str, bins: int = 20, ylabel: str = "count"
) -> Figure:
    """How often which value comes; several series stand side by side in each bin. None and nan are left out."""
    known = _known(series, is_number, "a list of numbers")
    fig, ax = figure(heading=heading, xlabel=xlabel, ylabel=ylabel)
    names = [drawable(name) for name in known]
    ax.hist(list(known.values()), bins, edgecolor="white", linewidth=0.5, label=names)
    for group, hatch in zip(ax.containers, cycle(["", "//", "..", "xx"]), strict=False):
        for bar in group:
            bar.set_hatch(hatch)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax)
    return fig


def with_answer(fig: Figure, yours: float, right: float, digits: int = 2, end: float = math.inf) -> Figure:
    """`fig` with a vertical line at the value that a learner gave, at most at `end`, and a dashed one at the right value."""
    ax = fig.axes[0]
    ax.axvline(min(yours, end), color=COLOURS[5], linewidth=2, label=f"yours, {yours:.{digits}f}")
    ax.axvline(right, color=COLOURS[2], linewidth=2, linestyle="--", label=f"right, {right:.{digits}f}")
    _legend(ax)
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
            f"values must be {len(rows)} rows of {len(columns)} numbers, as rows and columns say."
        )
    grid = np.array([[value if is_number(value) else math.nan for value in line] for line in values], float)
    checked(grid[np.isfinite(grid)], "a list of rows of numbers")
    fig, ax = figure(7.0, 1.5 + 0.5 * len(rows), heading, names=rows)
    colours = {"cmap": "cividis"} if centre is None else {"cmap": "PuOr", "norm": CenteredNorm(centre)}
    image = ax.imshow(grid, aspect="auto", **colours)
    outline = [withStroke(linewidth=2.5, foreground="white")]
    for (place, column), value in np.ndenumerate(grid):
        text = as_text(value) if is_number(value) else "–"
        ax.text(column, place, text, ha="center", va="center", path_effects=outline)
    ax.set_xticks(range(len(columns)), [drawable(name, 14) for name in columns])
    ax.grid(visible=False)
    fig.colorbar(image, ax=ax, label=drawable(label, 30))
    return fig
