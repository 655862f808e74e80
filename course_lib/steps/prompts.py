"""What a row asks for: the prompt that is written for, judged and exported.

Beside its `instruction` a row may have a `system_prompt`, and `input`, the text that an instruction of Alpaca's kind
(https://github.com/tatsu-lab/stanford_alpaca) is about. Every step that reads a prompt reads it here, so none is left out.
"""

from course_lib.errors import InputError
from course_lib.llms.base import Chat
from course_lib.steps.base import Row

OPTIONAL = ("system_prompt", "input")  # columns that are part of the prompt where rows have them


def prompt_of(row: Row) -> Chat:
    """The row's prompt as messages: its system prompt, then its instruction with its input a blank line below."""
    user = _joined(row["instruction"], part_of(row, "input"))
    system = part_of(row, "system_prompt")
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": user}]


def prompt_text(row: Row) -> str:
    """The row's prompt as one text, for those who read no messages."""
    return _joined(*(message["content"] for message in prompt_of(row)))


def part_of(row: Row, column: str) -> str | None:
    """The text in an optional `column`; None where there is none, or one without words.

    Raises:
        InputError: it is something else than text.
    """
    value = row.get(column)
    if value is None or value != value:  # NaN: an empty cell of a table
        return None
    if not isinstance(value, str):
        raise InputError(
            f"The column {column!r} is part of a prompt and must be text, but a row has {repr(value)[:60]}. "
            f"Make it text, or rename the column."
        )
    return value if value.strip() else None


def _joined(*parts: str | None) -> str:
    return "\n\n".join(part for part in parts if part)
