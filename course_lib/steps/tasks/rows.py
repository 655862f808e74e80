"""Reading columns that hold text: what a task finds in a row, or an error that shows the row."""

from collections.abc import Sequence

from course_lib.errors import InputError
from course_lib.steps.base import Row, Step
from course_lib.steps.prompts import prompt_text


def text_of(row: Row, column: str, step: Step) -> str:
    """`row[column]`, which must be text.

    Raises:
        InputError: it is something else, or nothing but space.
    """
    value = row.get(column)
    if isinstance(value, str) and value.strip():
        return value
    content = "empty" if isinstance(value, str) else repr(value)[:60]
    raise InputError(
        f"Step {step.name!r}: the column {column!r} must be text that is not empty, but a row has {content}: {brief(row)}"
    )


def instruction_of(row: Row, step: Step) -> str:
    """The row's whole prompt as one text: all that an answer has to heed.

    Raises:
        InputError: its `instruction` is no text, or nothing but space.
    """
    text_of(row, "instruction", step)
    return prompt_text(row)


def texts_of(row: Row, column: str, step: Step) -> Sequence[str | None]:
    """`row[column]`, which must be a list of texts or None.

    Raises:
        InputError: it is something else.
    """
    value = row.get(column)
    if isinstance(value, list | tuple) and all(text is None or isinstance(text, str) for text in value):
        return value
    raise InputError(
        f"Step {step.name!r}: the column {column!r} must be a list of texts, but a row has {repr(value)[:60]}: {brief(row)}"
    )


def has_words(text: str | None) -> bool:
    """Whether there is a completion to judge: something that is not empty and not only space."""
    return bool(text and text.strip())


def brief(row: Row) -> str:
    """A row on one line, shortened."""
    return repr({key: value for key, value in row.items() if key != "distilabel_metadata"})[:200]
