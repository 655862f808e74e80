"""Leaving rows out, each with its reason."""

from collections.abc import Callable
from difflib import SequenceMatcher

from course_lib.steps.base import Row, Step, StepInput, StepOutput, dropped


class FilterRows(Step):
    """Drops the rows for which `keep(row)` is false; they are kept apart and counted under `reason`."""

    keep: Callable[[Row], bool]
    reason: str
    columns: list[str] | None = None

    @property
    def inputs(self) -> list[str]:
        return self.columns or []

    def process(self, rows: StepInput) -> StepOutput:
        yield [row if self.keep(row) else dropped(row, self.reason) for row in rows]


def similarity(a: str, b: str) -> float:
    """How much of two texts is shared, 0 to 1: twice the matched words over all words (Ratcliff and Obershelp).

    Case and spacing do not count. Uses `difflib.SequenceMatcher`.
    """
    words_a, words_b = a.lower().split(), b.lower().split()
    return SequenceMatcher(None, words_a, words_b, autojunk=False).ratio()
