"""Reading columns that hold text: what a task finds in a row, or an error that shows the row."""

from collections.abc import Sequence
from typing import Any

from course_lib.errors import InputError
from course_lib.steps.base import Row, Step


def text_of(row: Row, column: str, step: Step) -> str:
    """`row[column]`, which must be text with more than space in it; anything else is an `InputError`."""
    value = row.get(column)
    if isinstance(value, str) and value.strip():
        return value
    raise unfit(row, column, step, "text that is not empty", "empty" if isinstance(value, str) else value)


def texts_of(row: Row, column: str, step: Step) -> Sequence[str | None]:
    """`row[column]`, which must be a list of texts or None; anything else is an `InputError`."""
    value = row.get(column)
    if isinstance(value, list | tuple) and all(text is None or isinstance(text, str) for text in value):
        return value
    raise unfit(row, column, step, "a list of texts", value)


def unfit(row: Row, column: str, step: Step, allowed: str, value: Any) -> InputError:
    """The error for a row whose `column` holds `value` in place of what is `allowed`."""
    content = value if value == "empty" else repr(value)[:60]
    return InputError(
        f"Step {step.name!r}: the column {column!r} must be {allowed}, but a row has {content}: {brief(row)}"
    )


def has_words(text: str | None) -> bool:
    """Whether there is a completion to judge: something that is not empty and not only space."""
    return bool(text and text.strip())


def brief(row: Row) -> str:
    """A row on one line, shortened."""
    return repr({key: value for key, value in row.items() if key != "distilabel_metadata"})[:200]
