"""An LLM that replays what a model wrote once, where that model cannot be run."""

import json
from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

from course_lib.errors import InputError
from course_lib.llms.base import LLM, Chat, Request
from course_lib.paths import DATA


class RecordedLLM(LLM):
    """Answers the chats of a recording; sampling arguments change nothing.

    `RecordedLLM("large")` has the answers of a large language model to the prompts of the lessons (`data/large.md`).

    Args:
        recording: the name of a file in `course_lib/data` without its ending, or the path of a file of your own: JSON
            Lines with `chat`, a list of messages, and `text`, what was answered.

    Raises:
        InputError: there is no such recording; or, when asked, it has no answer to a chat, or not as many as are wanted.
    """

    recording: str = field(kw_only=False)
    model_name: str = ""
    use_cache: bool = False
    source = "recorded for this course"

    def __post_init__(self):
        super().__post_init__()
        self.model_name = self.model_name or Path(self.recording).stem

    def check(self) -> None:
        self.texts  # noqa: B018 - reading the recording is the check

    @cached_property
    def texts(self) -> dict[str, str]:
        """The recorded texts by their chats, as JSON."""
        named = DATA / f"{self.recording}.jsonl"
        file = named if named.is_file() else Path(self.recording)
        try:
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            return {_key(row["chat"]): row["text"] for row in rows}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.recording!r} is no recording ({type(error).__name__}: {error}). Give 'large', or a file whose "
                'lines are {"chat": [messages], "text": "…"}.'
            ) from error

    def write(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        for position in sorted(wanted):
            request = requests[position]
            text = self._text(request)
            words = sum(len(message["content"].split()) for message in request.chat)
            counts = {"input_tokens": words, "output_tokens": len(text.split())}
            yield {position: {"text": text, **counts, "finish_reason": "stop"}}

    def _text(self, request: Request) -> str:
        text = self.texts.get(_key(request.chat))
        if text is None or request.draw:
            reason = "has no answer to" if text is None else "has one answer, and no second one, to"
            raise InputError(
                f"The recording {self.recording!r} {reason} the prompt {request.chat[-1]['content'][:60]!r}… It replays "
                f"{len(self.texts)} prompts, unchanged to the letter. For any other ask a model that runs, TransformersLLM."
            )
        return text


def _key(chat: Chat) -> str:
    return json.dumps([[message["role"], message["content"]] for message in chat])
