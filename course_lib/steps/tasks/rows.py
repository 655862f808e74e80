"""Reading columns: what a task finds in a row, or an error that shows the row."""

import math
from typing import Any

import numpy as np

from course_lib.errors import InputError
from course_lib.llms.base import Chat
from course_lib.steps.base import Row, Step
from course_lib.steps.prompts import prompt_of, prompt_text


def text_of(row: Row, column: str, step: Step) -> str:
    """`row[column]`, which must be text with more than space in it; anything else is an `InputError`."""
    value = row.get(column)
    if isinstance(value, str) and value.strip():
        return value
    raise _unfit(row, column, step, "text that is not empty", "empty" if isinstance(value, str) else value)


def list_of(row: Row, column: str, step: Step) -> list[Any]:
    """`row[column]`, which must be a list, a tuple or an array; anything else is an `InputError`."""
    value = row.get(column)
    if isinstance(value, list | tuple | np.ndarray):
        return list(value)
    raise _unfit(row, column, step, "a list", value)


def texts_of(row: Row, column: str, step: Step) -> list[str | None]:
    """`row[column]`, which must be a list of texts, of chats that end with them, or of None for no text."""
    texts = [_last_message(value) for value in list_of(row, column, step)]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise _unfit(row, column, step, "a list of texts", row[column])
    return texts


def chat_of(row: Row, step: Step) -> Chat:
    """The row's whole prompt, of which the `instruction` must be text."""
    text_of(row, "instruction", step)
    return prompt_of(row)


def instruction_of(row: Row, step: Step) -> str:
    """The row's whole prompt as one text: what its system prompt and its input say belongs to what was asked."""
    text_of(row, "instruction", step)
    return prompt_text(row)


def is_missing(value: Any) -> bool:
    """Whether a column holds nothing: None, or NaN, which is an empty cell of a table."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def has_words(text: str | None) -> bool:
    """Whether there is a completion to judge: something that is not empty and not only space."""
    return bool(text and text.strip())


def brief(row: Row) -> str:
    """A row on one line, shortened."""
    return repr({key: value for key, value in row.items() if key != "distilabel_metadata"})[:200]


def _last_message(value: Any) -> Any:
    if isinstance(value, list | np.ndarray) and len(value) and isinstance(value[-1], dict):
        value = value[-1].get("content")
    return None if is_missing(value) else value


def _unfit(row: Row, column: str, step: Step, allowed: str, value: Any) -> InputError:
    content = value if value == "empty" else repr(value)[:60]
    return InputError(
        f"Step {step.name!r}: the column {column!r} must be {allowed}, but a row has {content}: {brief(row)}"
    )
