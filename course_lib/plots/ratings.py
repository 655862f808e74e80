"""Figures of the course: where a chapter stands, what judges believe, how good they are, what a dataset holds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import PercentFormatter

from course_lib.errors import InputError
from course_lib.plots.style import COLOURS, checked, drawable, figure, finish, is_number, name_groups

STAGES = [
    "instructions",
    "several\ncompletions",
    "evolve",
    "rate",
    "judge\nthe judge",
    "pairs",
    "dataset",
    "DPO",
]
CHAPTERS = [1, 1, 2, 3, 4, 5, 5, None]  # of each stage


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
    ax.add_patch(
        FancyBboxPatch((x + 0.06, y + 0.06), 1.28, 0.88, "round,pad=0.06", fc=fill, ec=edge, lw=width)
    )
    look = {"ha": "center", "va": "center", "fontweight": "bold" if here else "normal"}
    ax.text(x + 0.7, y + 0.64, text, linespacing=1.1, **look)
    ax.text(
        x + 0.7,
        y + 0.12,
        f"chapter {number}" if number else "afterwards",
        fontsize=9,
        color="#333333",
        **look,
    )


def _arrow(ax, points: list[tuple[float, float]]) -> None:
    for start, end in zip(points, points[1:], strict=False):
        ax.plot(*zip(start, end, strict=True), color="#333333", linewidth=1.4, solid_capstyle="projecting")
    ax.annotate(
        "",
        points[-1],
        points[-2],
        arrowprops={"arrowstyle": "-|>", "color": "#333333", "shrinkA": 0, "shrinkB": 0},
    )


def rating_distribution(probabilities: Sequence[Sequence[float] | None], labels: Sequence[str]) -> Figure:
    """What a judge believes: a panel per completion with P of each rating from 1 to 5, and the mean as a line.

    Args:
        probabilities: shape `(n, 5)`; None where there is no distribution.
        labels: n names, such as who wrote the completion.
    """
    checked(probabilities, "five probabilities for each completion")
    if len(probabilities) != len(labels):
        raise InputError(
            f"{len(probabilities)} distributions but {len(labels)} labels; give one label for each."
        )
    across = min(len(labels), 3)
    down = math.ceil(len(labels) / across)
    fig, axes = figure(max(3.4, 2.35 * across), 0.5 + 2.3 * down, across, down, sharey=True, squeeze=False)
    for k, ax in enumerate(axes.flat):
        if k < len(labels):
            _distribution(
                ax, probabilities[k], drawable(labels[k], 24), "probability" if k % across == 0 else ""
            )
        else:
            ax.axis("off")
    return fig


def _distribution(ax, chances: Sequence[float] | None, name: str, ylabel: str) -> None:
    ax.set_title(name, loc="left", fontsize=11)
    ax.set(
        xlim=(0.4, 5.6),
        ylim=(0, 1.12),
        xticks=range(1, 6),
        yticks=[0, 0.5, 1],
        xlabel="rating",
        ylabel=ylabel,
    )
    ax.grid(axis="x", visible=False)
    if chances is None:
        ax.text(3, 0.5, "no distribution", ha="center", color="#666666")
        return
    if len(chances) != 5 or not all(is_number(p) and 0 <= p <= 1 for p in chances):
        raise InputError(
            f"A distribution is {list(chances)!r}; allowed: five probabilities from 0 to 1, for ratings 1 to 5."
        )
    mean = sum(rating * p for rating, p in enumerate(chances, 1)) / (sum(chances) or 1)
    ax.bar(range(1, 6), chances, width=0.75, color=COLOURS[0])
    ax.axvline(mean, color=COLOURS[5], linewidth=2, linestyle="--")
    side = {"ha": "left", "x": mean + 0.08} if mean < 3 else {"ha": "right", "x": mean - 0.08}
    ax.text(y=1.02, s=f"mean {mean:.2f}", color="#A34700", fontsize=10, **side)


def accuracy_by_group(lines: Sequence[Mapping[str, Any]], heading: str) -> Figure:
    """How often a judge is right, with 95% intervals; ties are hatched. `lines` come from `judging.pair_accuracy`."""
    checked(lines, "the lines of judging.pair_accuracy")
    fig, ax = figure(height=1.5 + 0.31 * len(lines))
    for place, line in enumerate(lines):
        if not is_number(line["accuracy"]):
            continue
        right, colour = line["accuracy"], COLOURS[0] if line["group"] != "all" else "#444444"
        ax.barh(place, right, height=0.68, color=colour)
        if line["ties"]:
            ax.barh(
                place,
                line["ties"],
                left=right,
                height=0.68,
                color="white",
                edgecolor=COLOURS[1],
                hatch="////",
            )
        for colour, width in (("black", 3.4), ("white", 1.4)):
            ax.plot(
                [line["low"], line["high"]],
                [place, place],
                color=colour,
                linewidth=width,
                solid_capstyle="butt",
            )
    ax.axvline(0.5, color=COLOURS[5], linewidth=1.6, linestyle="--")
    name_groups(ax, [f"{line['group']} ({line['items']})" for line in lines])
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    finish(ax, heading, "share rated right (line: 95% interval, hatched: ties, dashed: a coin)")
    return fig


def calibration_curve(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Is a larger difference of ratings a surer verdict? `lines` from `judging.calibration`."""
    checked(lines, "the lines of judging.calibration")
    fig, ax = figure()
    ax.plot(
        [line["difference"] for line in lines],
        [line["accuracy"] for line in lines],
        "o-",
        color=COLOURS[0],
        linewidth=2,
    )
    ax.axhline(0.5, color=COLOURS[5], linewidth=1.6, linestyle="--")
    ax.annotate(
        "a coin",
        (1, 0.5),
        (-4, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
    )
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
        values = [
            row["ratings"][place] for row in rows if row.get("ratings") and row["ratings"][place] is not None
        ]
        # A fixed spread in place of random jitter: the same rows give the same picture.
        heights = [place + ((k * 7) % 11 - 5) / 22 for k in range(len(values))]
        ax.scatter(values, heights, s=22, alpha=0.6, color=COLOURS[place % len(COLOURS)], linewidths=0)
        if values:
            middle = sorted(values)[len(values) // 2]
            ax.plot(
                [middle, middle],
                [place - 0.34, place + 0.34],
                color="black",
                linewidth=2.5,
                solid_capstyle="round",
            )
    name_groups(ax, sources)
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
        ax.annotate(
            f" median {middle:.2f}", (middle, 0.94), xycoords=("data", "axes fraction"), color=COLOURS[5]
        )
    xlabel = "chosen rating − rejected rating (points, scale 1 to 5)"
    finish(ax, f"Margins of {len(values)} preference pairs", xlabel, "pairs")
    return fig
