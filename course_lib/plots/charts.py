"""Charts of any numbers: bars, lines, clouds, histograms, tables in colour."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from course_lib.errors import InputError
from course_lib.plots.style import (
    COLOURS,
    checked,
    checked_series,
    drawable,
    figure,
    finish,
    is_number,
    name_groups,
)

MARKERS = "os^Dv*PX"
HATCHES = ["", "//", "..", "xx"]


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
        intervals: `{label: (low, high)}`, drawn as error bars.
        reference: where a dashed line stands, such as chance; `xlabel` should say what it is.
    """
    checked(values, "a dict from a label to a number")
    fig, ax = figure(height=1.2 + 0.42 * len(values))
    for place, (name, value) in enumerate(values.items()):
        _bar(ax, place, value, (intervals or {}).get(name))
    if reference is not None:
        ax.axvline(reference, color=COLOURS[5], linewidth=1.6, linestyle="--")
    ax.axvline(0, color="#333333", linewidth=0.8)
    ax.margins(x=0.12)
    name_groups(ax, list(values))
    finish(ax, heading, xlabel)
    return fig


def _bar(ax, place: int, value: float | None, interval: tuple[float, float] | None) -> None:
    beside = {"textcoords": "offset points", "va": "center"}
    if not is_number(value):
        ax.annotate("no value", (0, place), (4, 0), color="#666666", **beside)
        return
    ax.barh(place, value, height=0.66, color=COLOURS[0])
    low, high = interval or (value, value)
    if interval:
        ax.errorbar(
            value, place, xerr=[[max(0, value - low)], [max(0, high - value)]], color="black", capsize=3
        )
    text = f"{value}" if isinstance(value, Integral) else f"{value:.2f}"
    end, side, align = (max(value, high), 5, "left") if value >= 0 else (min(value, low), -5, "right")
    ax.annotate(text, (end, place), (side, 0), ha=align, **beside)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], xlabel: str, ylabel: str, heading: str
) -> Figure:
    """One line per series of points `(x, y)`, told apart by colour and marker."""
    return _points(series, xlabel, ylabel, heading, "-")


def scatter(
    series: Mapping[str, Sequence[tuple[float, float]]],
    xlabel: str,
    ylabel: str,
    heading: str,
    diagonal: bool = False,
) -> Figure:
    """One cloud per series of points `(x, y)`; `diagonal` draws x = y."""
    return _points(series, xlabel, ylabel, heading, "", diagonal)


def _points(series, xlabel: str, ylabel: str, heading: str, line: str, diagonal: bool = False) -> Figure:
    checked_series(series, "a list of points (x, y)")
    if any(
        not isinstance(point, Sequence) or len(point) != 2 for points in series.values() for point in points
    ):
        raise InputError(
            "A point is not a pair of numbers; allowed: a dict from a name to a list of points (x, y)."
        )
    fig, ax = figure()
    for k, (name, points) in enumerate(series.items()):
        kept = [(x, y) for x, y in points if is_number(x) and is_number(y)]
        look = {
            "color": COLOURS[k % len(COLOURS)],
            "marker": MARKERS[k % len(MARKERS)],
            "alpha": 1 if line else 0.7,
        }
        ax.plot(
            [x for x, _ in kept],
            [y for _, y in kept],
            linestyle=line,
            linewidth=2,
            label=drawable(name),
            **look,
        )
    if all(isinstance(x, Integral) for points in series.values() for x, _ in points):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if diagonal:
        ends = [choose(*ax.get_xlim(), *ax.get_ylim()) for choose in (min, max)]
        ax.plot(
            ends,
            ends,
            "--",
            color="#666666",
            linewidth=1.2,
            zorder=0,
            label="x = y",
            scalex=False,
            scaley=False,
        )
    _legend(ax, len(series) + diagonal)
    finish(ax, heading, xlabel, ylabel)
    return fig


def _legend(ax, entries: int) -> None:
    """Beside the axes, where it can cover nothing."""
    if entries > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=10)


def histogram(
    series: Mapping[str, Sequence[float]], xlabel: str, heading: str, bins: int = 20, ylabel: str = "count"
) -> Figure:
    """How often which value comes; several series stand side by side in each bin. None and nan are left out."""
    checked_series(series, "a list of numbers")
    values = [[value for value in one if is_number(value)] for one in series.values()]
    checked([value for one in values for value in one], "numbers; all that came are None or nan")
    fig, ax = figure()
    looks = {
        "color": [COLOURS[k % len(COLOURS)] for k in range(len(values))],
        "label": [drawable(name) for name in series],
    }
    _, _, groups = ax.hist(values, bins=bins, edgecolor="white", linewidth=0.5, **looks)
    for k, group in enumerate(groups if len(values) > 1 else []):
        for bar in group:
            bar.set_hatch(HATCHES[k % len(HATCHES)])
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax, len(values))
    finish(ax, heading, xlabel, ylabel)
    return fig


def with_answer(fig: Figure, yours: float, right: float, digits: int = 2, end: float = math.inf) -> Figure:
    """`fig` with a vertical line at the value that a learner gave, at most at `end`, and a dashed one at the right value."""
    ax = fig.axes[0]
    ax.axvline(min(yours, end), color=COLOURS[5], linewidth=2, label=f"yours, {yours:.{digits}f}")
    ax.axvline(right, color=COLOURS[2], linewidth=2, linestyle="--", label=f"right, {right:.{digits}f}")
    ax.legend()
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
    known = [value for line in grid for value in line if not math.isnan(value)]
    checked(known, "a list of rows of numbers")
    low, high = min(known), max(known)
    if centre is not None:
        reach = max(high - centre, centre - low) or 1
        low, high = centre - reach, centre + reach
    fig, ax = figure(height=1.5 + 0.5 * len(rows))
    image = ax.imshow(grid, cmap="cividis" if centre is None else "PuOr", vmin=low, vmax=high, aspect="auto")
    for i, line in enumerate(grid):
        for j, value in enumerate(line):
            text = "–" if math.isnan(value) else f"{value:.2f}"
            ax.text(j, i, text, ha="center", va="center", color=_ink(image.to_rgba(value)))
    ax.set_xticks(range(len(columns)), [drawable(name, 14) for name in columns])
    name_groups(ax, rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False)
    fig.colorbar(image, ax=ax, label=drawable(label, 30))
    finish(ax, heading)
    return fig


def _ink(rgba: tuple[float, float, float, float]) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue, alpha = rgba
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 or alpha == 0 else "white"
