"""What a row asks for: the prompt that is written for, judged and exported.

Beside its `instruction` a row may have a `system_prompt`; `input`, the text that an instruction of Alpaca's kind
(https://github.com/tatsu-lab/stanford_alpaca) is about; and `messages`, the conversation whose last question the
instruction is. Every step that reads a prompt reads it here, so none of them is left out.
"""

from typing import Any

import numpy as np

from course_lib.errors import InputError
from course_lib.llms.base import Chat
from course_lib.steps.base import Row

TEXTS = ("system_prompt", "input")
OPTIONAL = (*TEXTS, "messages")  # columns that are part of the prompt where rows have them
ROLES = ("system", "user", "assistant")


def prompt_of(row: Row) -> Chat:
    """The row's prompt as messages: its system prompt, what was said before, and its instruction with its input below."""
    *before, question = question_of(row.get("messages")) or [{"role": "user", "content": None}]
    if question["content"] != row["instruction"]:  # a conversation that the instruction is not taken from
        before = []
    user = _joined(row["instruction"], part_of(row, "input"))
    systems = [part_of(row, "system_prompt"), *(m["content"] for m in before if m["role"] == "system")]
    system = _joined(*systems)
    turns = [message for message in before if message["role"] != "system"]
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, *turns, {"role": "user", "content": user}]


def prompt_text(row: Row) -> str:
    """The row's prompt as one text, for those who read no messages; of a conversation, each turn with its role."""
    chat = prompt_of(row)
    if all(message["role"] != "assistant" for message in chat):
        return _joined(*(message["content"] for message in chat))
    return _joined(*(f"{message['role'].capitalize()}: {message['content']}" for message in chat))


def question_of(messages: Any) -> Chat:
    """A conversation up to its last question, as `{"role", "content"}`; an empty list for None.

    Raises:
        InputError: it is no list of messages, or nobody asks anything in it.
    """
    if messages is None:
        return []
    chat = list(messages) if isinstance(messages, list | tuple | np.ndarray) else [messages]
    for message in chat:
        sound = isinstance(message, dict) and isinstance(message.get("content"), str)
        if not sound or message.get("role") not in ROLES:
            raise InputError(
                f"A conversation has the message {repr(message)[:80]}; allowed: "
                '{"role": "system", "user" or "assistant", "content": "…"}.'
            )
    last = max((k for k, message in enumerate(chat) if message["role"] == "user"), default=None)
    if last is None:
        raise InputError(
            f"A conversation has no message of the user: {repr(chat)[:80]}. Give one that asks something."
        )
    return [{"role": message["role"], "content": message["content"]} for message in chat[: last + 1]]


def with_question(row: Row) -> Row:
    """`row` with the last question of its `messages` as `instruction`, None where it has no conversation."""
    chat = question_of(row["messages"])
    return {**row, "instruction": chat[-1]["content"] if chat else None}


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
