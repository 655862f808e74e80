"""Figures, all in one style: labelled axes, colours that colour-blind readers can tell apart (Okabe and Ito 2008).

Every function returns a Figure; Jupyter shows it when it is the value of a cell.
"""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from course_lib.errors import InputError

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
MARKERS = "os^Dv*PX"
HATCHES = ["", "//", "..", "xx"]
FONT = "DejaVu Sans"  # comes with matplotlib, so that figures look the same everywhere
STYLE = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "font.family": FONT,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
}
STAGES = ["instructions", "several\ncompletions", "evolve", "rate", "judge\nthe judge", "pairs", "dataset", "DPO"]
CHAPTERS = [1, 1, 2, 3, 4, 5, 5, None]  # of each stage


def figure(width: float = 7.0, height: float = 3.6, columns: int = 1, rows: int = 1, **shared: Any) -> tuple[Figure, Any]:
    """An empty figure in the course's style, in inches, and its axes. Jupyter shows it once, when it is a cell's value."""
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **shared)
    plt.close(fig)
    return fig, axes


def save(fig: Figure, path: Path | io.BytesIO) -> None:
    """Write a PNG that holds no date, so that equal figures are equal files."""
    fig.savefig(path, format="png", dpi=150, metadata={"Software": None})


def png(fig: Figure) -> bytes:
    """The PNG of a figure."""
    buffer = io.BytesIO()
    save(fig, buffer)
    return buffer.getvalue()


def finish(ax, heading: str, xlabel: str = "", ylabel: str = "") -> None:
    """Heading and axis labels; authors of labels need not know which characters matplotlib reads as commands."""
    ax.set_title(drawable(heading, 60), loc="left", fontsize=12, fontweight="bold")
    ax.set(xlabel=drawable(xlabel, 56), ylabel=drawable(ylabel, 36))


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def drawable(text: Any, width: int = 26) -> str:
    """`text` as matplotlib can draw it: wrapped, at most three lines, no maths, □ for what the font lacks."""
    words = " ".join(str(text).split())
    drawn = "".join(c if ord(c) in _glyphs() and c.isprintable() else "□" for c in words)
    lines = textwrap.wrap(drawn, width, max_lines=3, placeholder=" …")
    return "\n".join(lines).replace("$", r"\$")


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _checked(values: Any, allowed: str) -> None:
    if not len(values):
        raise InputError(f"There is nothing to draw. Give {allowed}.")


def _checked_series(series: Any, allowed: str) -> None:
    if not isinstance(series, Mapping):
        raise InputError(f"The series are a {type(series).__name__}; allowed: a dict from a name to {allowed}.")
    _checked([value for one in series.values() for value in one], f"a dict from a name to {allowed}")


def where_we_are(chapter: int) -> Figure:
    """The way from instructions to DPO, with the part of this chapter (1 to 5) marked by colour and a thick edge."""
    if chapter not in range(1, 6):
        raise InputError(f"chapter={chapter!r}; allowed: 1, 2, 3, 4, 5.")
    fig, ax = figure(height=2.5)
    ax.set(xlim=(-0.08, 6.88), ylim=(-0.05, 3.05))
    ax.axis("off")
    for k, (text, number) in enumerate(zip(STAGES, CHAPTERS, strict=True)):
        x, y = 1.8 * (k % 4), 1.85 * (1 - k // 4)
        _stage(ax, text, number, x, y, number == chapter)
        if k % 4 < 3:
            _arrow(ax, [(x + 1.42, y + 0.5), (x + 1.79, y + 0.5)])
    _arrow(ax, [(6.1, 1.84), (6.1, 1.43), (0.7, 1.43), (0.7, 1.04)])
    return fig


def _stage(ax, text: str, number: int | None, x: float, y: float, here: bool) -> None:
    edge, width = (COLOURS[0], 3.5) if here else ("#666666", 1.0)
    fill = "#CFE6F5" if here else "white"
    ax.add_patch(FancyBboxPatch((x + 0.06, y + 0.06), 1.28, 0.88, "round,pad=0.06", fc=fill, ec=edge, lw=width))
    look = {"ha": "center", "va": "center", "fontweight": "bold" if here else "normal"}
    ax.text(x + 0.7, y + 0.64, text, linespacing=1.1, **look)
    ax.text(x + 0.7, y + 0.12, f"chapter {number}" if number else "afterwards", fontsize=9, color="#333333", **look)


def _arrow(ax, points: list[tuple[float, float]]) -> None:
    for start, end in zip(points, points[1:], strict=False):
        ax.plot(*zip(start, end, strict=True), color="#333333", linewidth=1.4, solid_capstyle="projecting")
    ax.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": "-|>", "color": "#333333", "shrinkA": 0, "shrinkB": 0})


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
    _checked(values, "a dict from a label to a number")
    fig, ax = figure(height=1.2 + 0.42 * len(values))
    for place, (name, value) in enumerate(values.items()):
        _bar(ax, place, value, (intervals or {}).get(name))
    if reference is not None:
        ax.axvline(reference, color=COLOURS[5], linewidth=1.6, linestyle="--")
    ax.axvline(0, color="#333333", linewidth=0.8)
    ax.margins(x=0.12)
    _groups(ax, list(values))
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
        ax.errorbar(value, place, xerr=[[max(0, value - low)], [max(0, high - value)]], color="black", capsize=3)
    text = f"{value}" if isinstance(value, Integral) else f"{value:.2f}"
    end, side, align = (max(value, high), 5, "left") if value >= 0 else (min(value, low), -5, "right")
    ax.annotate(text, (end, place), (side, 0), ha=align, **beside)


def _groups(ax, names: Sequence[str]) -> None:
    ax.set(yticks=range(len(names)), yticklabels=[drawable(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)


def lines(series: Mapping[str, Sequence[tuple[float, float]]], xlabel: str, ylabel: str, heading: str) -> Figure:
    """One line per series of points `(x, y)`, told apart by colour and marker."""
    return _points(series, xlabel, ylabel, heading, "-")


def scatter(
    series: Mapping[str, Sequence[tuple[float, float]]], xlabel: str, ylabel: str, heading: str, diagonal: bool = False
) -> Figure:
    """One cloud per series of points `(x, y)`; `diagonal` draws x = y."""
    return _points(series, xlabel, ylabel, heading, "", diagonal)


def _points(series, xlabel: str, ylabel: str, heading: str, line: str, diagonal: bool = False) -> Figure:
    _checked_series(series, "a list of points (x, y)")
    if any(not isinstance(point, Sequence) or len(point) != 2 for points in series.values() for point in points):
        raise InputError("A point is not a pair of numbers; allowed: a dict from a name to a list of points (x, y).")
    fig, ax = figure()
    for k, (name, points) in enumerate(series.items()):
        kept = [(x, y) for x, y in points if is_number(x) and is_number(y)]
        look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)], "alpha": 1 if line else 0.7}
        ax.plot([x for x, _ in kept], [y for _, y in kept], linestyle=line, linewidth=2, label=drawable(name), **look)
    if all(isinstance(x, Integral) for points in series.values() for x, _ in points):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if diagonal:
        ends = [choose(*ax.get_xlim(), *ax.get_ylim()) for choose in (min, max)]
        ax.plot(ends, ends, "--", color="#666666", linewidth=1.2, zorder=0, label="x = y", scalex=False, scaley=False)
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
    _checked_series(series, "a list of numbers")
    values = [[value for value in one if is_number(value)] for one in series.values()]
    _checked([value for one in values for value in one], "numbers; all that came are None or nan")
    fig, ax = figure()
    looks = {"color": [COLOURS[k % len(COLOURS)] for k in range(len(values))], "label": [drawable(name) for name in series]}
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
        raise InputError(f"values must have {len(rows)} rows of {len(columns)} numbers, as `rows` and `columns` say.")
    grid = [[float(value) if is_number(value) else math.nan for value in line] for line in values]
    known = [value for line in grid for value in line if not math.isnan(value)]
    _checked(known, "a list of rows of numbers")
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
    _groups(ax, rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False)
    fig.colorbar(image, ax=ax, label=drawable(label, 30))
    finish(ax, heading)
    return fig


def _ink(rgba: tuple[float, float, float, float]) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue, alpha = rgba
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 or alpha == 0 else "white"


def rating_distribution(probabilities: Sequence[Sequence[float] | None], labels: Sequence[str]) -> Figure:
    """What a judge believes: a panel per completion with P of each rating from 1 to 5, and the mean as a line.

    Args:
        probabilities: shape `(n, 5)`; None where there is no distribution.
        labels: n names, such as who wrote the completion.
    """
    _checked(probabilities, "five probabilities for each completion")
    if len(probabilities) != len(labels):
        raise InputError(f"{len(probabilities)} distributions but {len(labels)} labels; give one label for each.")
    across = min(len(labels), 3)
    down = math.ceil(len(labels) / across)
    fig, axes = figure(max(3.4, 2.35 * across), 0.5 + 2.3 * down, across, down, sharey=True, squeeze=False)
    for k, ax in enumerate(axes.flat):
        if k < len(labels):
            _distribution(ax, probabilities[k], drawable(labels[k], 24), "probability" if k % across == 0 else "")
        else:
            ax.axis("off")
    return fig


def _distribution(ax, chances: Sequence[float] | None, name: str, ylabel: str) -> None:
    ax.set_title(name, loc="left", fontsize=11)
    ax.set(xlim=(0.4, 5.6), ylim=(0, 1.12), xticks=range(1, 6), yticks=[0, 0.5, 1], xlabel="rating", ylabel=ylabel)
    ax.grid(axis="x", visible=False)
    if chances is None:
        ax.text(3, 0.5, "no distribution", ha="center", color="#666666")
        return
    if len(chances) != 5 or not all(is_number(p) and 0 <= p <= 1 for p in chances):
        raise InputError(f"A distribution is {list(chances)!r}; allowed: five probabilities from 0 to 1, for ratings 1 to 5.")
    mean = sum(rating * p for rating, p in enumerate(chances, 1)) / (sum(chances) or 1)
    ax.bar(range(1, 6), chances, width=0.75, color=COLOURS[0])
    ax.axvline(mean, color=COLOURS[5], linewidth=2, linestyle="--")
    side = {"ha": "left", "x": mean + 0.08} if mean < 3 else {"ha": "right", "x": mean - 0.08}
    ax.text(y=1.02, s=f"mean {mean:.2f}", color="#A34700", fontsize=10, **side)


def accuracy_by_group(lines: Sequence[Mapping[str, Any]], heading: str) -> Figure:
    """How often a judge is right, with 95% intervals; ties are hatched. `lines` come from `judging.pair_accuracy`."""
    _checked(lines, "the lines of judging.pair_accuracy")
    fig, ax = figure(height=1.5 + 0.31 * len(lines))
    for place, line in enumerate(lines):
        if not is_number(line["accuracy"]):
            continue
        right, colour = line["accuracy"], COLOURS[0] if line["group"] != "all" else "#444444"
        ax.barh(place, right, height=0.68, color=colour)
        if line["ties"]:
            ax.barh(place, line["ties"], left=right, height=0.68, color="white", edgecolor=COLOURS[1], hatch="////")
        for colour, width in (("black", 3.4), ("white", 1.4)):
            ax.plot([line["low"], line["high"]], [place, place], color=colour, linewidth=width, solid_capstyle="butt")
    ax.axvline(0.5, color=COLOURS[5], linewidth=1.6, linestyle="--")
    _groups(ax, [f"{line['group']} ({line['items']})" for line in lines])
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    finish(ax, heading, "share rated right (line: 95% interval, hatched: ties, dashed: a coin)")
    return fig


def calibration_curve(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Is a larger difference of ratings a surer verdict? `lines` from `judging.calibration`."""
    _checked(lines, "the lines of judging.calibration")
    fig, ax = figure()
    ax.plot([line["difference"] for line in lines], [line["accuracy"] for line in lines], "o-", color=COLOURS[0], linewidth=2)
    ax.axhline(0.5, color=COLOURS[5], linewidth=1.6, linestyle="--")
    ax.annotate("a coin", (1, 0.5), (-4, 4), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right")
    ax.set(ylim=(-0.03, 1.05), xlim=(0, None))
    pairs = sorted({line["pairs"] for line in lines})
    each = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    xlabel = f"difference of ratings (mean, points); {each} pairs per dot"
    finish(ax, "Is a clearer difference a surer verdict?", xlabel, "share of right verdicts")
    return fig


def ratings_by_source(rows: Sequence[dict[str, Any]], sources: Sequence[str]) -> Figure:
    """One dot per completion: its rating, 1 to 5, beside those of the same source; the bar is the median.

    Args:
        rows: rows with `ratings`.
        sources: a label for each place in `ratings`.
    """
    fig, ax = figure(height=1.4 + 0.7 * len(sources))
    for place in range(len(sources)):
        values = [row["ratings"][place] for row in rows if row.get("ratings") and row["ratings"][place] is not None]
        # A fixed spread in place of random jitter: the same rows give the same picture.
        heights = [place + ((k * 7) % 11 - 5) / 22 for k in range(len(values))]
        ax.scatter(values, heights, s=22, alpha=0.6, color=COLOURS[place % len(COLOURS)], linewidths=0)
        if values:
            middle = sorted(values)[len(values) // 2]
            ax.plot([middle, middle], [place - 0.34, place + 0.34], color="black", linewidth=2.5, solid_capstyle="round")
    _groups(ax, sources)
    ax.set_xlim(0.9, 5.1)
    finish(ax, "Ratings by source (bar: median)", "rating (1 worst, 5 best)")
    return fig


def margins(rows: Sequence[dict[str, Any]], bins: int = 20) -> Figure:
    """How clearly `chosen` beats `rejected`: a histogram of the difference of their ratings."""
    fig, ax = figure()
    values = [row["chosen_rating"] - row["rejected_rating"] for row in rows]
    top = max([*values, 0.5])
    ax.hist(values, bins=bins, range=(0, top), color=COLOURS[0], edgecolor="white")
    if values:
        middle = sorted(values)[len(values) // 2]
        ax.axvline(middle, color=COLOURS[5], linewidth=2)
        ax.annotate(f" median {middle:.2f}", (middle, 0.94), xycoords=("data", "axes fraction"), color=COLOURS[5])
    xlabel = "chosen rating − rejected rating (points, scale 1 to 5)"
    finish(ax, f"Margins of {len(values)} preference pairs", xlabel, "pairs")
    return fig
