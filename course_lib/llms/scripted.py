"""An LLM that follows a script: for tests, and for readers who want to see a pipeline without a model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import Any

from course_lib.llms.base import LLM, Chat, Request

Reply = Callable[[Chat], str | None]


class ScriptedLLM(LLM):
    """Answers each chat from `replies`: a function of the chat, or texts used in turn by draw.

    >>> ScriptedLLM(["red", "blue"]).generate([[{"role": "user", "content": "A colour?"}]], 2)[0]["generations"]
    ['red', 'blue']

    Nothing is cached unless `use_cache=True`, and tokens are words.
    """

    replies: Reply | Sequence[str | None] = field(kw_only=False)
    model_name: str = "scripted"
    use_cache: bool = False

    @property
    def fingerprint(self) -> str:
        return self.model_name

    def write(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        for position in sorted(wanted):
            chat, draw = requests[position].chat, requests[position].draw
            text = self.replies(chat) if callable(self.replies) else self.replies[draw % len(self.replies)]
            written = {"text": text, "finish_reason": "stop" if text is not None else "script gave None"}
            written["input_tokens"] = sum(len(message["content"].split()) for message in chat)
            written["output_tokens"] = len((text or "").split())
            yield {position: written}
