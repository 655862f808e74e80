"""Chats and sampling arguments: what a model is asked, and whether it can be asked that."""

from collections.abc import Mapping, Sequence
from typing import Any

from course_lib.errors import InputError

Chat = list[dict[str, str]]

# As in Transformers' GenerationConfig; `temperature=0` is greedy. Small models ramble at Transformers' default of 1.
SAMPLING = {
    "max_new_tokens": 512,
    "temperature": 0.7,
    "top_p": 1.0,
    "top_k": 50,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "stop_strings": (),
    "seed": 0,
}
RANGES = {
    "max_new_tokens": (1, 1_000_000),
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, 1_000_000),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "seed": (-(2**63), 2**63 - 1),
}
EXAMPLE = '[{"role": "user", "content": "…"}]'


def continued(chat: Chat, prefill: str) -> Chat:
    """`chat` with an assistant message begun by us, for the model to go on from."""
    return [*chat, {"role": "assistant", "content": prefill}] if prefill else list(chat)


def check_chat(chat: Any, position: int, may_be_empty: bool = False) -> None:
    """Raise `InputError` unless `chat` is a list of `{"role": str, "content": str}`."""
    if not isinstance(chat, list) or not (chat or may_be_empty):
        raise InputError(
            f"Input {position} is {repr(chat)[:80]}, not a chat. Allowed: a list of messages such as {EXAMPLE}."
        )
    for message in chat:
        role, content = map(message.get, ("role", "content")) if isinstance(message, dict) else (None, None)
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise InputError(
                f"Input {position} holds the message {repr(message)[:120]}. Allowed: 'role' is system, user or "
                f"assistant, and 'content' is text, such as {EXAMPLE}."
            )


def check_chats(chats: Any, may_be_empty: bool = False) -> None:
    """Raise `InputError` unless `chats` is a sequence of chats."""
    if not isinstance(chats, Sequence) or isinstance(chats, str):
        raise InputError(f"The inputs are {repr(chats)[:80]}. Allowed: a list of chats such as [{EXAMPLE}].")
    for position, chat in enumerate(chats):
        check_chat(chat, position, may_be_empty)


def sampling_arguments(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """`SAMPLING` with `given` over it, checked. `do_sample=False` is another way to say `temperature=0`.

    Raises:
        InputError: an unknown name, or a value of the wrong type or out of range.
    """
    if not isinstance(given, Mapping | None):
        raise InputError(
            f"Sampling arguments are {given!r:.80}; allowed: a dict, such as {{'temperature': 0.7}}."
        )
    arguments = {name: value for name, value in (given or {}).items() if value is not None}
    sampled = arguments.pop("do_sample", True)
    if not isinstance(sampled, bool):
        raise InputError(f"do_sample={sampled!r:.80}; allowed: True or False.")
    if unknown := sorted(str(name) for name in arguments if name not in SAMPLING):
        raise InputError(
            f"Unknown sampling argument {', '.join(unknown)}. Allowed: do_sample, {', '.join(SAMPLING)}."
        )
    arguments = {**SAMPLING, **arguments} | ({} if sampled else {"temperature": 0})
    stops = arguments["stop_strings"]
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list | tuple) or not all(isinstance(text, str) and text for text in stops):
        raise InputError(
            f"stop_strings={stops!r:.80}; allowed: a text, or a list of texts, none of them empty."
        )
    return (
        arguments | {name: _number(name, arguments[name]) for name in RANGES} | {"stop_strings": list(stops)}
    )


def _number(name: str, value: Any) -> int | float:
    low, high = RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name}={value!r:.80}; allowed: a number from {low} to {high}.")
    if isinstance(SAMPLING[name], int) and value != int(value):
        raise InputError(f"{name}={value!r}; allowed: a whole number.")
    return int(value) if isinstance(SAMPLING[name], int) else value
