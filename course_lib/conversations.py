"""Conversations in the forms in which people have them, as messages with role and content."""

import re
from typing import Any

import numpy as np

from course_lib.errors import InputError
from course_lib.llms.base import Chat

TURN = re.compile(r"(?:\A|\n\n)(Human|User|Assistant|System): ?")
ROLES = {
    "human": "user",
    "gpt": "assistant",
}  # the roles of ShareGPT and of hh-rlhf by those of chat templates


def messages_of(value: Any, role: str) -> Chat:
    """A text, a text of turns that begin with `Human:`, or a list of messages, as messages; None as none of them.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str):
        start, *turns = TURN.split(value)
        if not turns or start.strip():
            return [{"role": role, "content": value}]
        roles = [ROLES.get(name.lower(), name.lower()) for name in turns[::2]]
        chat = [{"role": r, "content": text.strip()} for r, text in zip(roles, turns[1::2], strict=True)]
        # "Human: …\n\nAssistant:" is a prompt that waits for its answer.
        return chat[:-1] if role == "user" and chat[-1] == {"role": "assistant", "content": ""} else chat
    messages = as_list(value)
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content", message.get("value")), str):
            allowed = "texts, or messages with role and content"
            raise InputError(f"A pair has {allowed}, not {repr(message)[:80]}.")
    return [
        {
            "role": ROLES.get(name := message.get("role", message.get("from")), name),
            "content": message.get("content", message.get("value")),
        }
        for message in messages
    ]


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [] if value is None else [value]
