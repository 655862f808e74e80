"""Chats and sampling arguments: what a model is asked, and whether it can be asked that."""

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


def continued(chat: Chat, prefill: str) -> Chat:
    """`chat` with an assistant message begun by us, for the model to go on from."""
    return [*chat, {"role": "assistant", "content": prefill}] if prefill else list(chat)


def check_chat(chat: Any, position: int, may_be_empty: bool = False) -> None:
    """Raise `InputError` unless `chat` is a list of `{"role": str, "content": str}`."""
    allowed = '[{"role": "user", "content": "…"}]'
    if not isinstance(chat, list) or not (chat or may_be_empty):
        given = repr(chat)[:80]
        raise InputError(
            f"Input {position} is {given}, not a chat. Allowed: a list of messages such as {allowed}."
        )
    for message in chat:
        well_formed = isinstance(message, dict) and all(
            isinstance(message.get(k), str) for k in ("role", "content")
        )
        if not well_formed or message["role"] not in ("system", "user", "assistant"):
            raise InputError(
                f"Input {position} holds the message {repr(message)[:120]}. Allowed: 'role' is system, user or "
                f"assistant, and 'content' is text, such as {allowed}."
            )


def sampling_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """`SAMPLING` with `given` over it, checked. `do_sample=False` is another way to say `temperature=0`.

    Raises:
        InputError: an unknown name or a value out of range.
    """
    given = dict(given)
    if given.pop("do_sample", True) is False:
        given["temperature"] = 0
    unknown = sorted(set(given) - set(SAMPLING))
    if unknown:
        raise InputError(
            f"Unknown sampling argument {', '.join(unknown)}. Allowed: do_sample, {', '.join(SAMPLING)}."
        )
    merged = {**SAMPLING, **{k: v for k, v in given.items() if v is not None}}
    stops = merged["stop_strings"]
    merged["stop_strings"] = [stops] if isinstance(stops, str) else list(stops)
    for name, (low, high) in RANGES.items():
        value = merged[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InputError(f"{name}={value!r}; allowed: a number from {low} to {high}.")
    for name in ("max_new_tokens", "top_k", "seed"):
        if merged[name] != int(merged[name]):
            raise InputError(f"{name}={merged[name]!r}; allowed: a whole number.")
    return merged
