"""Figures, all in one style: labelled axes, colours that colour-blind readers can tell apart (Okabe and Ito 2008)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
STYLE = {
    "figure.dpi": 110,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def figure(width: float = 7.0, height: float = 3.6, columns: int = 1) -> tuple[Figure, Any]:
    """An empty figure in the course's style, in inches, and its axes. Jupyter shows it once, when it is a cell's value."""
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
    plt.close(fig)
    return fig, axes


def save(fig: Figure, path: Path) -> None:
    """Write a PNG that holds no date, so that equal figures are equal files."""
    fig.savefig(path, dpi=150, metadata={"Software": None})


def title(ax, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=12, fontweight="bold")


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
    ax.set(yticks=range(len(sources)), yticklabels=sources, xlabel="rating (1 worst, 5 best)", xlim=(0.9, 5.1))
    ax.set_ylim(len(sources) - 0.45, -0.55)
    ax.grid(axis="y", visible=False)
    title(ax, "Ratings by source (bar: median)")
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
    ax.set(xlabel="chosen rating − rejected rating (points on the scale of 1 to 5)", ylabel="pairs")
    title(ax, f"Margins of {len(values)} preference pairs")
    return fig
