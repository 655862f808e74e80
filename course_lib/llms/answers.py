"""What a server answers, read: completions, probabilities, and what came in place of them."""

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from course_lib.llms.results import Scores

FAILED = "server error"  # how the finish reason of a text begins that is asked for again in the next run
# In place of a status: not even sent; no answer; not the answer that was due.
REFUSED, GONE, MALFORMED = -1, 0, 200
UNREAD = (f"{FAILED} 400", f"{FAILED} 422")  # how the reason begins where a server does not take a request
PASSING = (GONE, MALFORMED, 408, 409, 425, 429)  # what may be otherwise the next time, as may all from 500 on


@dataclass(frozen=True)
class Failure:
    """What came in place of an answer.

    Args:
        status: the HTTP status, or `REFUSED`, `GONE` or `MALFORMED`.
        text: what the server sent.
        wait: seconds that it asks to wait.
        unreachable: there is no server.
    """

    status: int
    text: str
    wait: float | None = None
    unreachable: bool = False

    @classmethod
    def of(cls, error: Exception, secret: str) -> "Failure":
        """What an error of a client says, without `secret`."""
        causes = [error]
        while (cause := causes[-1].__cause__) is not None:
            causes.append(cause)
        response = next(
            (part.response for part in causes if getattr(part, "response", None) is not None), None
        )
        text = str(error) if response is None else response.text
        text = text.replace(secret, "***") if secret else text
        if response is not None:
            return cls(response.status_code, text, _wait(response.headers.get("retry-after", "")))
        if status := getattr(error, "status_code", None):  # of any-llm
            return cls(status, text, _wait(str(getattr(error, "retry_after", ""))))
        kinds = {kind.__name__ for part in causes for kind in type(part).__mro__}
        if "JSONDecodeError" in kinds:
            return cls(MALFORMED, f"no JSON: {text}")
        if not kinds & {"APIConnectionError", "TransportError", "TimeoutError"}:
            return cls(REFUSED, f"{type(error).__name__}: {text}")
        slow = kinds & {"APITimeoutError", "TimeoutException", "TimeoutError"}
        unreachable = bool(kinds & {"ConnectError", "ConnectTimeout"})
        return cls(GONE, "no answer in time" if slow else f"connection lost: {text}", unreachable=unreachable)

    @property
    def message(self) -> str:
        """What the server sent, in words."""
        try:
            body = json.loads(self.text)
        except ValueError:
            return self.text[:200]
        error = body.get("error", body) if isinstance(body, dict) else body
        words = error.get("message") or error.get("detail") or error if isinstance(error, dict) else error
        return (words if isinstance(words, str) else json.dumps(words))[:200]

    @property
    def filtered(self) -> bool:
        """Whether the server does not want to read the prompt."""
        return any(word in self.text for word in ("content_filter", "content_policy", "moderation"))

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed the next time."""
        return self.status in PASSING or self.status >= 500


def _wait(retry_after: str) -> float | None:
    """The seconds of the header `Retry-After`, which may be a date."""
    try:
        if retry_after.replace(".", "", 1).isdecimal():
            return float(retry_after)
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def completions(positions: Sequence[int], answer: Any) -> dict[int, dict[str, Any]]:
    """The completions of an answer, which may be fewer than `positions`; its tokens are shared out among them."""
    # huggingface_hub has what it does not know, such as a refusal, as attributes only.
    choices = (getattr(answer, "choices", None) or answer["choices"])[: len(positions)]
    prompt, written = tokens(answer)
    if not choices:
        raise ValueError("no completion")
    results = {}
    for number, (position, choice) in enumerate(zip(positions, choices, strict=False)):
        text, reason = _ending(choice)
        share = written // len(choices) + (number < written % len(choices))
        counts = {"input_tokens": 0 if number else prompt, "output_tokens": share}
        results[position] = {"text": text, **counts, "finish_reason": reason}
    return results


def tokens(answer: Any) -> tuple[int, int]:
    """The tokens that an answer read and wrote."""
    usage = answer.get("usage") or {}
    return usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0


def _ending(choice: Any) -> tuple[str | None, str]:
    """The text of a completion, or None, and why it ends."""
    message = getattr(choice, "message", None) or choice["message"]
    text, reason = message.get("content"), choice.get("finish_reason") or "stop"
    if isinstance(text, list):
        text = "".join(part.get("text") or "" for part in text)
    if message.get("refusal") or getattr(message, "refusal", None):
        return None, "refusal"
    if reason == "content_filter":
        return None, "content filter"
    if not (text or "").strip():
        return None, "empty" if reason == "stop" else f"empty, {reason}"
    return text, reason


def no_completion(failure: Failure) -> dict[str, Any]:
    """The result of a completion that did not come."""
    status = f" {failure.status}" if failure.status > 0 else ""
    reason = "content filter" if failure.filtered else f"{FAILED}{status}: {failure.message}"
    return {"text": None, "input_tokens": 0, "output_tokens": 0, "finish_reason": reason}


def decisions(choices: Sequence[str], positions: Sequence[int], answer: Any) -> dict[int, list[float]]:
    """The log-probabilities of the choices between which a server decided."""
    found, usage = answer["answers"]["answer"]["probabilities"], answer["usage"]
    logs = [math.log(max(found[choice], 1e-30)) for choice in choices]
    return {positions[0]: Scores(logs, (usage["input_tokens"], usage["output_tokens"]))}


def log_probabilities(likeliest: Iterable[Any], choices: Sequence[str]) -> list[float]:
    """The log-probability of each choice; one that is not among the likeliest tokens gets that of the last of them.

    A token counts for the choice that it is, or for the only one that it begins. If none is among them, all are nan.
    """
    sums, lowest = [0.0] * len(choices), math.inf
    for token in likeliest:
        text, lowest = token["token"].strip(), min(lowest, token["logprob"])
        begun = [number for number, choice in enumerate(choices) if text and choice.startswith(text)]
        number = choices.index(text) if text in choices else begun[0] if len(begun) == 1 else None
        if number is not None:
            sums[number] += math.exp(token["logprob"])
    lowest = lowest if any(sums) else math.nan
    return [math.log(total) if total else lowest for total in sums]
