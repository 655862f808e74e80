"""Figures. Every function returns a Figure; Jupyter shows it when it is the value of a cell."""

from course_lib.plots.charts import bars, heatmap, histogram, lines, scatter, with_answer
from course_lib.plots.ratings import (
    accuracy_by_group,
    calibration_curve,
    margins,
    rating_distribution,
    ratings_by_source,
    ways_to_train,
    where_we_are,
)
from course_lib.plots.style import COLOURS, figure, png, save

__all__ = [
    "COLOURS",
    "accuracy_by_group",
    "bars",
    "calibration_curve",
    "figure",
    "heatmap",
    "histogram",
    "lines",
    "margins",
    "png",
    "rating_distribution",
    "ratings_by_source",
    "save",
    "scatter",
    "ways_to_train",
    "where_we_are",
    "with_answer",
]
