"""Models behind an address: any server that speaks OpenAI's protocol.

A key is an argument or an environment variable. It is sent to its own server only, and stands in no cache, error, card
or `repr`.
"""

import json
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from course_lib.errors import EndpointError, InputError, require_package
from course_lib.llms.answers import FAILED, completions, decisions, log_probabilities, no_completion, tokens
from course_lib.llms.base import LLM, NUMBER, SAMPLING, Chat, Request, sampling_arguments
from course_lib.llms.dispatch import Dispatcher, Job, Secret, seeded
from course_lib.llms.results import Scores, has_shape
from course_lib.llms.servers import COMPATIBLE, ENDPOINTS, NAMES, SCHEMA, Endpoint
from course_lib.paths import replaying

LIKELIEST = 20  # tokens whose log-probability a server tells, at most
MOST_AT_ONCE = 8  # completions in one request, at most
DECIDES = "systemone"  # what `can_score` and the address of typed decisions are called
GO_ON = "Your last message is not finished. Go on exactly where it ends, and write only what comes next."


class OpenAILLM(LLM):
    """A model behind an address: OpenAI's, or with `base_url` any server that speaks its protocol.

    Args:
        model: the model's name on that server.
        base_url: where the server is, such as `http://localhost:1234/v1`; else the environment variable
            `OPENAI_BASE_URL` (`GROQ_BASE_URL`, …), else the address in `ENDPOINTS`.
        api_key: else the environment variable in `ENDPOINTS`, which is sent to no other `base_url`.
        max_retries: how often a request is sent again that met a busy or broken server.
        timeout: seconds until a request counts as failed.
        max_concurrent_requests: how many requests are under way at once.
        can_score: whether the server gives log-probabilities, which `choice_probabilities` then reads; or "systemone",
            where it decides between answers at `/v1/systemone`, as `transformers serve` does.
        unsupported: what else this model does not take: sampling arguments, `n`, `logprobs`, `response_format`.
        extra_body: what else to send with each request, such as `{"reasoning_effort": "low"}`.
        prices: dollars per million tokens, `{"input": 0.5, "output": 1.5}`: then `usage` and reports have a `cost`.

    Draws of one chat get seeds of their own. The text of a row that failed is None, and its finish reason says why:
    `refusal`, `content filter`, `empty`, or `server error …`, which is not cached: the next run asks again.

    Raises:
        EndpointError: no key; a key, model, address or argument that the server refuses; no credit.
    """

    model: str = field(kw_only=False)
    base_url: str | None = None
    api_key: str | Secret | None = None
    max_retries: int = 6
    timeout: float = 120
    max_concurrent_requests: int = 16
    can_score: bool | str = False
    unsupported: Sequence[str] = ()
    extra_body: dict[str, Any] = field(default_factory=dict)
    prices: Mapping[str, float] | None = None
    model_name: str = ""

    licence = "see the terms of the server"
    package: ClassVar[str] = "openai"
    endpoint: ClassVar[Endpoint] = ENDPOINTS["OpenAILLM"]

    def __post_init__(self):
        super().__post_init__()
        self.model_name = self.model_name or self.model
        self.dispatcher = Dispatcher()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, Secret(value) if name == "api_key" and isinstance(value, str) else value)

    # --- where, and with which key ------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The base address that requests go to."""
        variable = self.endpoint.key.replace("_API_KEY", "_BASE_URL")
        return (self.base_url or os.environ.get(variable) or self.endpoint.address).rstrip("/")

    @property
    def source(self) -> str:
        return self.address

    @property
    def fingerprint(self) -> str:
        parts = [type(self).__name__, self.address, self.model, sorted(self.unsupported), self.extra_body]
        return json.dumps([*parts, DECIDES] if self.can_score == DECIDES else parts, default=repr)

    @property
    def key_variable(self) -> str:
        """The environment variable with the key, if its key may be sent to this address."""
        return "" if self.base_url and self._is_elsewhere else self.endpoint.key

    @property
    def key(self) -> Secret:
        return self.api_key or Secret(os.environ.get(self.key_variable, ""))

    @property
    def _is_elsewhere(self) -> bool:
        home = self.endpoint.address
        return not _blanks(home) and urlsplit(self.address).hostname != urlsplit(home).hostname

    @property
    def _row(self) -> Endpoint:
        """What the server can do; one that is not OpenAI's own gets what all understand."""
        compatible = self.endpoint is ENDPOINTS["OpenAILLM"] and self._is_elsewhere
        return Endpoint("", "", COMPATIBLE) if compatible else self.endpoint

    @property
    def takes_schema(self) -> bool:
        return self._takes(SCHEMA) and not self.dispatcher.refuses_schema

    def check(self) -> None:
        name, parts = type(self).__name__, urlsplit(self.address)
        require_package(self.package, name)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
            raise InputError("base_url must be like 'http://localhost:1234/v1', without a key or a query.")
        if blanks := _blanks(self.address):
            raise InputError(f"Fill in {', '.join(blanks)}: {name}(…, base_url={self.address!r}).")
        if self.key_variable and not self.key and not replaying():
            raise EndpointError(f"{name} needs a key: set {self.key_variable}, or give api_key=…")
        if self.can_score not in (False, True, DECIDES) or (
            self.can_score == DECIDES and self.package != "openai"
        ):
            raise InputError(
                f"can_score={self.can_score!r}; allowed: True, False, and of OpenAILLM {DECIDES!r}."
            )
        if self.can_score is True and not self._takes("logprobs"):
            raise InputError(f"{name} gives no log-probabilities: leave can_score out.")
        if self.max_concurrent_requests < 1:
            raise InputError(f"max_concurrent_requests={self.max_concurrent_requests}; allowed: 1 or more.")
        if self.prices is not None and not has_shape(self.prices, {"input": NUMBER, "output": NUMBER}):
            raise InputError(
                f"prices={self.prices!r}; allowed: dollars per million tokens, 'input' and 'output'."
            )
        self._options(sampling_arguments(self.generation_kwargs))

    # --- requests -----------------------------------------------------------------------------------------------

    def client(self) -> Any:
        """What requests are sent with: an asynchronous client, and context manager."""
        from openai import AsyncOpenAI

        key = self.key.reveal() or "none"
        return AsyncOpenAI(api_key=key, base_url=self.address, timeout=self.timeout, max_retries=0)

    async def post(self, client: Any, chat: Chat, options: dict[str, Any]) -> Any:
        """Send one request; its answer as JSON, or the client's error."""
        decides = "questions" in options
        body = {"model": self.model, **({} if decides else {"messages": chat}), **options}
        return await client.post(f"/{DECIDES}" if decides else "/chat/completions", cast_to=object, body=body)

    def write(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        jobs, previous, takes_n = deque(), None, self._takes("n")
        for position in sorted(wanted):
            request = requests[position]
            if previous is None or request.arguments != previous.arguments:
                options = self._options(request.arguments)
            elif takes_n and request.chat == previous.chat and len(jobs[-1].positions) < MOST_AT_ONCE:
                jobs[-1].positions.append(position)
                continue
            jobs.append(self._job(position, request.chat, seeded(options, request.draw)))
            previous = request
        return self._batches(jobs, completions, no_completion)

    def score_choices(self, chats, choices, wanted) -> Iterator[dict[int, list[float]]]:
        if not self.can_score:
            return super().score_choices(chats, choices, wanted)
        if self.can_score == DECIDES:
            asked = {"questions": {"answer": {"type": "choice", "criteria": dict.fromkeys(choices)}}}
            options, read = [{**asked, "state": _state(chat)} for chat in chats], decisions
            jobs = deque(Job([p], chats[p], options[p]) for p in sorted(wanted))
        else:
            options = {self._name("max_new_tokens"): 1, "logprobs": True, "top_logprobs": LIKELIEST}
            options |= {"temperature": 1} if self._takes("temperature") else {}
            jobs, read = deque(self._job(p, chats[p], options) for p in sorted(wanted)), self._scored
        return self._batches(jobs, partial(read, choices), lambda failure: [math.nan] * len(choices))

    def lasting(self, result: Any) -> bool:
        if isinstance(result, dict):
            return not result["finish_reason"].startswith(FAILED)
        return not any(map(math.isnan, result))

    def _batches(self, jobs: deque[Job], read: Callable, on_failure: Callable) -> Iterator[dict[int, Any]]:
        self.check()
        return self.dispatcher.batches(self, jobs, read, on_failure)

    def _job(self, position: int, chat: Chat, options: dict[str, Any]) -> Job:
        if chat[-1]["role"] == "assistant":
            options = {**options, **self._row.continuing}
            chat = chat if self._row.continuing else [*chat, {"role": "user", "content": GO_ON}]
        return Job([position], chat, {**options, **self.extra_body})

    def _takes(self, argument: str) -> bool:
        return not {argument, self._name(argument)} & {*self._row.unsupported, *self.unsupported}

    def _name(self, argument: str) -> str:
        return self._row.names.get(argument) or NAMES.get(argument, argument)

    def _options(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The sampling arguments as the server calls them; an `InputError` for one that would change nothing."""
        schema = arguments.get("json_schema")
        arguments = {name: arguments[name] for name in SAMPLING}
        refused = [name for name in arguments if not self._takes(name)]
        if changed := [name for name in refused if name != "seed" and arguments[name] != SAMPLING[name]]:
            raise InputError(f"{self!r} cannot pass on {', '.join(changed)}: leave it out.")
        left_out = refused if arguments["stop_strings"] else [*refused, "stop_strings"]
        options = {self._name(name): value for name, value in arguments.items() if name not in left_out}
        named = {"name": "answer", "strict": True, "schema": schema}
        return {**options, SCHEMA: {"type": "json_schema", "json_schema": named}} if schema else options

    def _scored(self, choices: Sequence[str], positions: list[int], answer: Any) -> dict[int, list[float]]:
        logprobs = answer["choices"][0].get("logprobs")
        if logprobs is None:
            raise EndpointError(f"{self.address} gives no log-probabilities: leave can_score out.")
        scores = log_probabilities(logprobs["content"][0]["top_logprobs"], choices)
        return {positions[0]: Scores(scores, tokens(answer))}


def _state(chat: Chat) -> str:
    """What a server that decides is told of a chat: its texts, without their roles."""
    return "\n\n".join(turn["content"] for turn in chat)


def _blanks(address: str) -> list[str]:
    """The words in capitals that `address` has for the caller to fill in."""
    return sorted(set(re.findall(r"\b[A-Z]{4,}\b", address)))


for _name in ENDPOINTS.keys() - {"OpenAILLM"}:
    _about = {
        "__doc__": f"`OpenAILLM` for the server in the row `{_name}` of `ENDPOINTS`.",
        "__module__": __name__,
    }
    globals()[_name] = type(_name, (OpenAILLM,), {**_about, "endpoint": ENDPOINTS[_name]})

__all__ = ["ENDPOINTS", *ENDPOINTS]
