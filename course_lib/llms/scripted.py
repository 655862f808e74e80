"""An LLM that follows a script: for tests, and for readers who want to see a pipeline without a model."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from course_lib.llms.base import LLM, Chat, Request

Reply = Callable[[Chat], str | None]


class ScriptedLLM(LLM):
    """Answers each chat from `replies`: a function of the chat, or texts used in turn by draw.

    >>> ScriptedLLM(["red", "blue"]).generate([[{"role": "user", "content": "A colour?"}]], 2)[0]["generations"]
    ['red', 'blue']

    Nothing is cached unless `use_cache=True`, and tokens are words.
    """

    def __init__(self, replies: Reply | Sequence[str | None], model_name: str = "scripted", use_cache: bool = False, **kwargs):
        super().__init__(use_cache=use_cache, **kwargs)
        self._replies = replies
        self._model_name = model_name

    @property
    def model_name(self) -> str:
        return self._model_name

    def _generate(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        for position in sorted(wanted):
            request = requests[position]
            text = self._reply(request)
            asked = sum(len(message["content"].split()) for message in request.chat)
            yield {
                position: {
                    "text": text,
                    "input_tokens": asked,
                    "output_tokens": len((text or "").split()),
                    "finish_reason": "stop" if text is not None else "script gave None",
                }
            }

    def _reply(self, request: Request) -> str | None:
        if callable(self._replies):
            return self._replies(request.chat)
        return self._replies[request.draw % len(self._replies)]
