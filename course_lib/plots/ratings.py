"""Figures of the course: where a chapter stands, what judges believe, how good they are, what a dataset holds."""

import math
from collections.abc import Mapping, Sequence
from statistics import median_high
from typing import Any

from matplotlib.figure import Figure

from course_lib.errors import InputError
from course_lib.plots import charts
from course_lib.plots.style import COLOURS, DASHED, checked, drawable, figure, is_number

# The way through the course: what is done, in which chapter, and where it is drawn.
BEFORE_JUDGING = ["instructions", "completions", "evolve", "rate"]
STAGES = [*BEFORE_JUDGING, "judge the judge", "pairs", "dataset", "DPO", "larger models"]
CHAPTERS = [1, 1, 2, 3, 4, 5, 5, 6, 7]
PLACES = [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (2, 1), (1, 1), (0, 1), (0, 2)]
# Ways to train, each from what people or judges give to what the model learns: where a box stands, its text, its colour.
PAIRS = ("pairs: chosen\nand rejected", "#FCE9C6")
WAYS = {
    "SFT": {0: ("good answers,\nno bad ones", "white"), 2: ("the model learns\nto imitate them", "#CFE6F5")},
    "RLHF": {
        0: PAIRS,
        1: ("a reward model\nlearns to rate\nchosen higher", "white"),
        2: ("the model learns\nto earn a\nhigh reward", "#CFE6F5"),
    },
    "DPO": {0: PAIRS, 2: ("the model learns to\nmake chosen likelier\nthan rejected", "#CFE6F5")},
}


def where_we_are(chapter: int) -> Figure:
    """The way from instructions to DPO and on, with the part of `chapter` marked; chapter 0 stands before the way."""
    if chapter not in range(8):
        raise InputError(f"chapter={chapter!r}; allowed: 0, 1, 2, 3, 4, 5, 6, 7.")
    fig, ax = figure(height=3.5)
    ax.set(xlim=(-0.45, 3.45), ylim=(2.5, -0.5))
    ax.axis("off")
    arrow, before = None, PLACES[0]
    for stage, number, place in zip(STAGES, CHAPTERS, PLACES, strict=True):
        text = f"{stage}\nchapter {number}"
        look = {"ha": "center", "va": "center", "linespacing": 1.6, "zorder": -len(ax.texts)}
        box = {"boxstyle": "round,pad=0.6", "fc": "white", "ec": "#666666"}
        if number == chapter:
            look["fontweight"] = "bold"
            box |= {"fc": "#CFE6F5", "ec": COLOURS[0], "lw": 3.5}
        # The arrow comes from under the box before, which therefore lies higher.
        ax.annotate(text, before, place, bbox=box, arrowprops=arrow, **look)
        arrow, before = {"arrowstyle": "<|-", "color": "#333333"}, place
    return fig


def ways_to_train() -> Figure:
    """Three ways to train an assistant: by imitation (SFT), by a reward model (RLHF), by the pairs themselves (DPO)."""
    fig, ax = figure(height=3.3)
    ax.set(xlim=(-0.75, 2.45), ylim=(2.5, -0.5))
    ax.axis("off")
    for lane, (name, stations) in enumerate(WAYS.items()):
        ax.text(-0.72, lane, name, va="center", fontweight="bold")
        arrow, before = None, (0, lane)
        for place, (text, colour) in stations.items():
            box = {"boxstyle": "round,pad=0.5", "fc": colour, "ec": "#666666"}
            look = {"ha": "center", "va": "center", "linespacing": 1.4, "zorder": -len(ax.texts)}
            ax.annotate(text, before, (place, lane), bbox=box, arrowprops=arrow, **look)
            arrow, before = {"arrowstyle": "<|-", "color": "#333333"}, (place, lane)
    return fig


def rating_distribution(probabilities: Sequence[Sequence[float] | None], labels: Sequence[str]) -> Figure:
    """What a judge believes: a panel per completion with P of each rating from 1 to 5, and the mean as a dashed line.

    Args:
        probabilities: shape `(n, 5)`; None where there is no distribution.
        labels: n names, such as who wrote the completion.
    """
    checked(probabilities, "five probabilities for each completion")
    if len(probabilities) != len(labels):
        raise InputError(
            f"{len(labels)} labels, {len(probabilities)} distributions; give one label for each."
        )
    across, down = min(len(labels), 3), math.ceil(len(labels) / 3)
    panels = {"ncols": across, "nrows": down, "sharey": True, "squeeze": False}
    fig, axes = figure(max(3.4, 2.35 * across), 0.5 + 2.3 * down, **panels)
    for ax in axes.flat[len(labels) :]:
        ax.axis("off")
    for place, ax in enumerate(axes.flat[: len(labels)]):
        outcome = _distribution(ax, probabilities[place])
        ax.set(ylim=(0, 1), yticks=[0, 0.5, 1], ylabel="" if place % across else "probability")
        ax.set_title(
            f"{drawable(labels[place], 24)}\n{outcome}", loc="left", fontsize=11, fontweight="normal"
        )
    return fig


def _distribution(ax, chances: Sequence[float] | None) -> str:
    """Draw the bars and the mean, and say what that is."""
    ax.set(xlim=(0.4, 5.6), xticks=range(1, 6), xlabel="rating")
    ax.grid(axis="x", visible=False)
    if chances is None:
        return "no distribution"
    if len(chances) != 5 or not all(is_number(p) and 0 <= p <= 1 for p in chances):
        raise InputError(
            f"A distribution is {list(chances)!r}; allowed: five probabilities, of ratings 1 to 5."
        )
    mean = sum(rating * p for rating, p in enumerate(chances, 1)) / (sum(chances) or 1)
    ax.bar(range(1, 6), chances, width=0.75)
    ax.axvline(mean, **DASHED)
    return f"mean {mean:.2f}"


def accuracy_by_group(lines: Sequence[Mapping[str, Any]], heading: str) -> Figure:
    """How often a judge is right, with 95% intervals; ties are hatched. `lines` come from `judging.pair_accuracy`."""
    checked(lines, "the lines of judging.pair_accuracy")
    groups = {f"{line['group']} ({line['items']})": line for line in lines}
    shares = {name: line["accuracy"] for name, line in groups.items()}
    intervals = {name: (line["low"], line["high"]) for name, line in groups.items()}
    xlabel = "share rated right (line: 95% interval, hatched: ties, dashed: a coin)"
    fig = charts.bars(shares, xlabel, heading, intervals, reference=0.5)
    ax = fig.axes[0]
    look = {"color": "white", "edgecolor": COLOURS[1], "hatch": "////"}
    for place, line in enumerate(groups.values()):
        if line["ties"]:
            ax.barh(place, line["ties"], 0.66, left=line["accuracy"], **look)
    ax.set_xlim(0, 1.1)
    fig.set_figheight(1.5 + 0.31 * len(groups))
    return fig


def calibration_curve(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Is a larger difference of ratings a surer verdict? `lines` from `judging.calibration`."""
    checked(lines, "the lines of judging.calibration")
    pairs = sorted({line["pairs"] for line in lines})
    each = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    fig = charts.lines(
        {"judge": [(line["difference"], line["accuracy"]) for line in lines]},
        f"difference of ratings (mean, points); {each} pairs per dot",
        "share right (line: 95% interval, dashed: a coin)",
        "Is a clearer difference a surer verdict?",
    )
    for line in lines:
        span = (line.get("low", line["accuracy"]), line.get("high", line["accuracy"]))
        fig.axes[0].vlines(line["difference"], *span, color=COLOURS[0])
    fig.axes[0].axhline(0.5, **DASHED)
    fig.axes[0].set(ylim=(-0.03, 1.05), xlim=(0, None))
    return fig


def ratings_by_source(rows: Sequence[dict[str, Any]], sources: Sequence[str]) -> Figure:
    """One dot per completion: its rating, 1 to 5, beside those of the same source; the bar is the median.

    Args:
        rows: rows with `ratings`.
        sources: a label for each place in `ratings`.
    """
    heading, xlabel = "Ratings by source (bar: median)", "rating (1 worst, 5 best)"
    fig, ax = figure(7.0, 1.4 + 0.7 * len(sources), heading, xlabel, names=sources)
    for place in range(len(sources)):
        rated = [row["ratings"][place] for row in rows if row.get("ratings")]
        values = [rating for rating in rated if rating is not None]
        # A fixed spread in place of random jitter: the same rows give the same picture.
        heights = [place + (k * 7 % 11 - 5) / 22 for k in range(len(values))]
        ax.scatter(values, heights, s=22, alpha=0.6, linewidths=0)
        if values:
            ax.vlines(median_high(values), place - 0.34, place + 0.34, color="black", linewidth=2.5)
    ax.set_xlim(0.9, 5.1)
    return fig


def margins(rows: Sequence[dict[str, Any]]) -> Figure:
    """How clearly `chosen` beats `rejected`: a histogram of the difference of their ratings."""
    values = [row["chosen_rating"] - row["rejected_rating"] for row in rows]
    median = f" (line: median, {median_high(values):.2f})" if values else ""
    heading = f"Margins of {len(values)} preference pairs{median}"
    fig, ax = figure(7.0, 3.6, heading, "chosen rating − rejected rating (points, scale 1 to 5)", "pairs")
    ax.hist(values, bins=20, range=(0, max([*values, 0.5])), edgecolor="white")
    if values:
        ax.axvline(median_high(values), **DASHED)
    return fig
