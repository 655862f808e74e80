"""What all figures share: size, font, labels, colours that colour-blind readers can tell apart (Okabe and Ito 2008)."""

import io
import math
import textwrap
from collections.abc import Sequence
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib import cycler
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from course_lib.errors import InputError

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
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
    "axes.prop_cycle": cycler(color=COLOURS, marker=list("os^Dv*PX")),
}
DASHED = {"color": COLOURS[5], "linewidth": 1.6, "linestyle": "--"}  # what values are compared with


def figure(
    width: float = 7.0,
    height: float = 3.6,
    heading: str = "",
    xlabel: str = "",
    ylabel: str = "",
    names: Sequence[str] = (),
    **panels: Any,
) -> tuple[Figure, Any]:
    """An empty figure in the course's style, in inches, and its axes. Jupyter shows it once, when it is a cell's value.

    Args:
        names: what stands at 0, 1, 2, … of the vertical axis, downwards.
        panels: for `matplotlib.pyplot.subplots`; heading and labels are those of the first panel.
    """
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(width, height), layout="constrained", **panels)
    plt.close(fig)
    ax = fig.axes[0]
    ax.set_title(drawable(heading, 60), loc="left", fontsize=12, fontweight="bold")
    ax.set(xlabel=drawable(xlabel, 56), ylabel=drawable(ylabel, 36))
    if len(names):
        ax.set(yticks=range(len(names)), yticklabels=[drawable(name) for name in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
    return fig, axes


def save(fig: Figure, path: Path | io.BytesIO) -> None:
    """Write a PNG that holds no date, so that equal figures are equal files."""
    fig.savefig(path, format="png", dpi=150, metadata={"Software": None})


def png(fig: Figure) -> bytes:
    """The PNG of a figure."""
    buffer = io.BytesIO()
    save(fig, buffer)
    return buffer.getvalue()


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


def checked(values: Any, allowed: str) -> None:
    if not len(values):
        raise InputError(f"There is nothing to draw. Give {allowed}.")
