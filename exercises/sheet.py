"""The exercises of one chapter, as a learner meets them."""

import html
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from course_lib.errors import InputError
from course_lib.exercises import my_dataset
from course_lib.exercises.checks import data
from course_lib.exercises.questions import Outcome, Question, outcome_of
from course_lib.exercises.sources import solution_code

CHAPTERS = (1, 2, 3, 4, 5, 6, 7)
MARKS = {"correct": "✔", "incorrect": "✘", "not attempted": "…"}
COLOURS = {"correct": "#009E73", "incorrect": "#D55E00", "not attempted": "#808080"}


def chapter(number: int) -> "Sheet":
    """The exercises of chapter 1 to 7.

    Raises:
        InputError: there is no such chapter.
    """
    if number not in CHAPTERS or isinstance(number, bool):
        raise InputError(f"There is no chapter {number!r}; allowed: {', '.join(map(str, CHAPTERS))}.")
    return Sheet(number, questions_in(import_module(f"course_lib.exercises.chapter_{int(number)}")))


def questions_in(module) -> list[Question]:
    """The questions that `module` declares, in the order in which they stand there."""
    declared = [getattr(value, "question", None) for value in vars(module).values()]
    return [item for item in declared if isinstance(item, Question)]


@dataclass(frozen=True)
class Note:
    """A short text that Jupyter shows; model or learner text in it is escaped."""

    text: str
    mark: str = ""
    colour: str = "#0072B2"
    picture: bytes | None = None
    code: str = ""

    def __repr__(self) -> str:
        return "\n".join(filter(None, [self._line(), self.code]))

    def _repr_html_(self) -> str:
        parts = [html.escape(self._line())]
        if self.code:
            parts.append(f"<pre>{html.escape(self.code)}</pre>")
        if self.picture:
            source = f"data:image/png;base64,{b64encode(self.picture).decode()}"
            size = "max-width: min(100%, 640px)"
            parts.append(f'<br><img style="{size}" alt="target beside yours" src="{source}">')
        style = f"border-left: 4px solid {self.colour}; padding: 0.3em 0.8em; white-space: pre-wrap"
        return f'<div style="{style}">{"".join(parts)}</div>'

    def _line(self) -> str:
        return f"{self.mark} {self.text}".strip()


class Sheet:
    """Questions with `check`, `hint`, `solution` and `progress`. Names, not numbers; `ex.questions` lists them."""

    def __init__(self, number: int, questions: list[Question]):
        self.number = number
        self.questions = {item.name: item for item in questions}
        self.outcomes: dict[str, Outcome] = {}
        self._hints: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"chapter({self.number}): {', '.join(self.questions)}"

    def check(self, name: str, answer: Any = ...) -> Note:
        """Say whether `answer` is right, and why not if it is wrong."""
        outcome = self.outcomes[name] = outcome_of(self._question(name), answer)
        text = f"{name}: {outcome.status}{f'. {outcome.reason}' if outcome.reason else ''}"
        return Note(text, MARKS[outcome.status], COLOURS[outcome.status], _png(outcome.figure))

    def hint(self, name: str) -> Note:
        """The next hint; after the last one, the last one again."""
        hints = self._question(name).hints
        number = min(self._hints[name], len(hints) - 1)
        self._hints[name] += 1
        return Note(f"Hint {number + 1} of {len(hints)}: {hints[number]}")

    def solution(self, name: str) -> Note:
        """A right answer: the code of the solution notebook."""
        self._question(name)
        return Note(f"{name}, one right answer:", code=solution_code(self.number, name))

    def keep(self, rows: Any) -> Note:
        """Keep the rows of this chapter for the next ones, in `my_dataset/chapter_N.jsonl` beside the notebook."""
        if rows is ...:
            return Note("Nothing is kept yet: the rows are still `...`.")
        count, file = my_dataset.keep(self.number, rows), my_dataset.file_of(self.number).as_posix()
        return Note(
            f"{count} rows are kept in {file}, beside this notebook.", MARKS["correct"], COLOURS["correct"]
        )

    def kept(self, number: int) -> list[dict[str, Any]]:
        """The rows that you kept in an earlier chapter; a small stand-in if there are none."""
        if number not in CHAPTERS or number > self.number or isinstance(number, bool):
            raise InputError(
                f"Chapter {self.number} reads what chapters 1 to {self.number} kept; you asked for {number!r}."
            )
        rows, own = my_dataset.kept(number)
        words = (
            "your own" if own else f"a stand-in, since you kept none: the 🦁 of exercise {number} makes yours"
        )
        print(f"{len(rows)} rows of chapter {number}, {words}.")
        return rows

    def data(self, name: str) -> Any:
        """A table of the exercises, such as `"pairs_to_audit"`."""
        return data(name)

    def progress(self) -> Note:
        """How many are right, and what is left."""
        done = [name for name, outcome in self.outcomes.items() if outcome.status == "correct"]
        lines = [f"{len(done)} of {len(self.questions)} correct"]
        for name, item in self.questions.items():
            status = self.outcomes[name].status if name in self.outcomes else "not attempted"
            lines.append(f"  {MARKS[status]} {item.level} {name}: {status}")
        return Note("\n".join(lines))

    def _question(self, name: str) -> Question:
        if not isinstance(name, str) or name not in self.questions:
            near = get_close_matches(str(name), self.questions, n=1)
            meant = f"Did you mean {near[0]!r}? " if near else ""
            allowed = f"{meant}Allowed: {', '.join(self.questions)}."
            raise InputError(f"Chapter {self.number} has no question {name!r}. {allowed}")
        return self.questions[name]


def _png(figure) -> bytes | None:
    if figure is None:
        return None
    from course_lib.plots import png  # brings matplotlib, which most answers do not need

    return png(figure)
