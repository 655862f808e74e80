"""Figures: what stands in them, and what they refuse."""

import warnings

import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from course_lib import plots
from course_lib.errors import InputError
from course_lib.plots.ratings import CHAPTERS

LINES = [
    {"group": "facts", "items": 4, "accuracy": 0.75, "low": 0.3, "high": 0.95, "ties": 0.25},
    {"group": "all", "items": 4, "accuracy": 0.75, "low": 0.3, "high": 0.95, "ties": 0.25},
]
CALIBRATION = [
    {"difference": 0.1, "accuracy": 0.5, "pairs": 7},
    {"difference": 1.0, "accuracy": 0.9, "pairs": 8},
]
ROWS = [{"ratings": [1.0, None]}, {"ratings": [4.0, 2.0]}, {"ratings": None}]
HOSTILE = "$\\frac{$ <script> \0 \u202e日本語🙂 \ud800 " + "long " * 50

FIGURES = {
    "where_we_are": lambda text: plots.where_we_are(3),
    "ways_to_train": lambda text: plots.ways_to_train(),
    "bars": lambda text: plots.bars(
        {text: 1.5, "b": None, "c": float("nan"), "d": -2}, text, text, {text: (1.0, 2.0)}, 0.5
    ),
    "lines": lambda text: plots.lines({text: [(0, 1.0), (1, None)], "b": [(0, 2.0)]}, text, text, text),
    "scatter": lambda text: plots.scatter(
        {text: [(1.0, 2.0), (4.0, 3.5)], "b": []}, text, text, text, diagonal=True
    ),
    "histogram": lambda text: plots.histogram({text: [1.0, 2.0, None], "b": [3.0]}, text, text),
    "heatmap": lambda text: plots.heatmap(
        [[1.0, None], [2.0, 3.0]], [text, "b"], ["c", text], text, text, centre=1.5
    ),
    "rating_distribution": lambda text: plots.rating_distribution(
        [[0.1, 0.2, 0.3, 0.4, 0.0], None], [text, "b"]
    ),
    "accuracy_by_group": lambda text: plots.accuracy_by_group([{**LINES[0], "group": text}, LINES[1]], text),
    "calibration_curve": lambda text: plots.calibration_curve(CALIBRATION),
    "ratings_by_source": lambda text: plots.ratings_by_source(ROWS, [text, "b"]),
    "margins": lambda text: plots.margins([{"chosen_rating": 4.0, "rejected_rating": 3.5}]),
}


def texts(fig) -> str:
    fig.draw_without_rendering()
    return "\n".join(t.get_text() for t in fig.findobj(Text))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("text", ["plain", HOSTILE], ids=["plain", "hostile"])
def test_every_figure_is_drawn_without_a_warning_and_twice_the_same(name, text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # What an older matplotlib asks of a newer pyparsing is no matter of ours.
        warnings.filterwarnings("ignore", message="'.*' deprecated - use")
        first, second = (plots.png(FIGURES[name](text)) for _ in range(2))
    assert first.startswith(b"\x89PNG")
    assert first == second


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ("where_we_are", "ways_to_train")])
def test_every_axis_is_labelled_and_no_text_lies_on_another(name):
    fig = FIGURES[name]("plain")
    fig.draw_without_rendering()
    shown = [ax for ax in fig.axes if ax.axison and ax.get_label() != "<colorbar>"]
    assert shown[0].get_title(loc="left")
    # Groups and heatmaps have names for ticks, which say what a label would.
    named = any(t.get_text().strip("−-.0123456789%") for t in shown[0].get_yticklabels())
    assert shown[0].get_ylabel() or named
    assert shown[0].get_xlabel() or name == "heatmap"
    assert overlaps(fig) == []


@pytest.mark.parametrize("chapter", [0, 1, 2, 3, 4, 5, 6, 7])
def test_the_chapter_is_marked_by_colour_edge_and_weight(chapter):
    fig = plots.where_we_are(chapter)
    stages = fig.axes[0].texts
    marked = [number == chapter for number in CHAPTERS]
    boxes = [stage.get_bbox_patch() for stage in stages]
    assert [box.get_linewidth() > 2 for box in boxes] == marked
    assert [box.get_facecolor() != to_rgba("white") for box in boxes] == marked
    assert [stage.get_fontweight() == "bold" for stage in stages] == marked
    assert [stage.get_text().endswith(f"chapter {chapter}") for stage in stages] == marked
    assert overlaps(fig) == []


def test_the_ways_to_train_are_named_and_no_box_covers_another():
    fig = plots.ways_to_train()
    assert {"SFT", "RLHF", "DPO"} <= set(texts(fig).splitlines())
    boxes = [text.get_bbox_patch() for text in fig.axes[0].texts if text.get_bbox_patch()]
    places = [box.get_window_extent() for box in boxes]
    assert len(places) == 7
    assert not [1 for k, place in enumerate(places) for other in places[k + 1 :] if place.overlaps(other)]
    assert overlaps(fig) == []


def overlaps(fig) -> list[tuple[str, str]]:
    fig.draw_without_rendering()
    drawn = [t for t in fig.findobj(Text) if t.get_text().strip() and t.get_visible()]
    # Of an annotation only the text: its arrow may touch others.
    boxes = [(t.get_text(), Text.get_window_extent(t)) for t in drawn if t.get_window_extent().width > 1]
    return [
        (a, b)
        for i, (a, box) in enumerate(boxes)
        for b, other in boxes[i + 1 :]
        if box.overlaps(other) and a != b
    ]


def test_numbers_are_written_beside_bars():
    written = texts(plots.bars({"a": 0.256, "b": 3, "c": None}, "x", "h"))
    assert "0.26" in written
    assert "\n3\n" in written
    assert "no value" in written


def test_an_interval_that_leaves_its_value_out_is_still_drawn():
    assert plots.png(plots.bars({"a": 0.5}, "x", "h", {"a": (0.6, 0.7)}))


def test_the_mean_of_a_distribution_is_marked():
    assert "mean 4.00" in texts(plots.rating_distribution([[0, 0, 0, 1, 0]], ["a"]))
    assert "no distribution" in texts(plots.rating_distribution([None], ["a"]))


def test_ties_are_hatched_only_where_there_are_some():
    figures = [
        plots.accuracy_by_group(lines, "h") for lines in (LINES, [{**line, "ties": 0.0} for line in LINES])
    ]
    hatched = [[patch.get_hatch() for patch in fig.axes[0].patches] for fig in figures]
    assert hatched[0].count("////") == 2
    assert "////" not in hatched[1]


def test_series_are_told_apart_without_colour():
    fig = plots.lines({"a": [(0, 1)], "b": [(0, 2)]}, "x", "y", "h")
    assert len({line.get_marker() for line in fig.axes[0].lines}) == 2
    fig = plots.histogram({"a": [1.0], "b": [2.0]}, "x", "h")
    assert len({patch.get_hatch() for patch in fig.axes[0].patches}) == 2


def test_the_diagonal_does_not_widen_the_axes():
    clouds = {"a": [(1.0, 4.0), (5.0, 4.5)]}
    limits = [plots.scatter(clouds, "x", "y", "h", diagonal).axes[0].get_xlim() for diagonal in (False, True)]
    assert limits[0] == limits[1]


def test_scatter_draws_no_line():
    assert (
        plots.scatter({"a": [(1.0, 4.0), (5.0, 4.5)]}, "x", "y", "h").axes[0].lines[0].get_linestyle()
        == "None"
    )


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: plots.where_we_are(8), "allowed: 0, 1, 2, 3, 4, 5, 6, 7"),
        (lambda: plots.bars({}, "x", "h"), "nothing to draw"),
        (lambda: plots.lines({}, "x", "y", "h"), "nothing to draw"),
        (lambda: plots.lines({"a": []}, "x", "y", "h"), "nothing to draw"),
        (lambda: plots.scatter([(1, 2)], "x", "y", "h"), "allowed: a dict"),
        (lambda: plots.lines({"a": [1, 2]}, "x", "y", "h"), "list of points"),
        (lambda: plots.histogram({"a": [None]}, "x", "h"), "None or nan"),
        (lambda: plots.heatmap([[1.0]], ["a"], ["b", "c"], "l", "h"), "1 rows of 2"),
        (lambda: plots.heatmap([[None]], ["a"], ["b"], "l", "h"), "nothing to draw"),
        (lambda: plots.heatmap([], [], [], "l", "h"), "nothing to draw"),
        (lambda: plots.rating_distribution([], []), "nothing to draw"),
        (lambda: plots.rating_distribution([None], []), "one label"),
        (lambda: plots.rating_distribution([[0.5, 0.5]], ["a"]), "five probabilities"),
        (lambda: plots.accuracy_by_group([], "h"), "nothing to draw"),
        (lambda: plots.calibration_curve([]), "nothing to draw"),
    ],
)
def test_odd_input_is_refused_in_words(draw, said):
    with pytest.raises(InputError, match=said):
        draw()


def test_no_pairs_still_make_a_figure():
    """The main job may end without a pair, and its figures say so."""
    assert "0 preference pairs" in texts(plots.margins([]))
    assert plots.png(plots.ratings_by_source([], ["a"]))
