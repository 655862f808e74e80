"""What a language model can do here: write completions, and score text that is already there.

A backend supplies `model_name`, `fingerprint` and `_generate`, and what else it can: `_choice_log_probs`,
`_token_log_probs` and `_head_scores` where it sees inside the model, `_render` and `_tokens` where it has a tokenizer.
The base class looks every request up in the cache first and stores each batch as it comes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from course_lib.errors import CacheError, InputError
from course_lib.llms.cache import default_cache, result_key
from course_lib.paths import replaying

Chat = list[dict[str, str]]

# As in Transformers' GenerationConfig; `temperature=0` is greedy. Small models ramble at Transformers' default of 1.
SAMPLING = {
    "max_new_tokens": 128,
    "temperature": 0.7,
    "top_p": 1.0,
    "top_k": 50,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "stop_strings": (),
    "seed": 0,
}


@dataclass(frozen=True)
class Request:
    """One completion to write: `draw` tells apart several completions of the same chat."""

    chat: Chat
    draw: int
    arguments: dict[str, Any]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear reward head on a frozen model: `weights · features + bias`, features as in `tree.hidden_features`.

    Args:
        layers: after which layers the hidden states are read.
        weights: float32, shape `(len(layers) * 3 * hidden size,)`.
        question: asked after a completion, so that the model has its verdict in mind when its hidden states are read.
    """

    layers: tuple[int, ...]
    weights: Any
    bias: float
    question: str = "Is this answer correct?"

    @property
    def fingerprint(self) -> str:
        return result_key(list(self.layers), self.weights.tobytes().hex(), self.bias, self.question)


@dataclass
class Usage:
    """What an LLM has done since it was made: results, tokens of new completions, and seconds, of writing and in all."""

    new: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    writing_seconds: float = 0.0


class LLM:
    """A language model. Subclass it to bring another backend; see `scripted.py` for the shortest one."""

    can_score = False

    def __init__(self, generation_kwargs: dict[str, Any] | None = None, use_cache: bool = True):
        self.generation_kwargs = dict(generation_kwargs or {})
        self.use_cache = use_cache
        self.usage = Usage()
        self.on_progress: Callable[[Usage], None] = lambda usage: None
        sampling_arguments(self.generation_kwargs)

    @property
    def model_name(self) -> str:
        raise TypeError(f"{type(self).__name__} must define model_name")

    @property
    def fingerprint(self) -> str:
        """What tells this model's results from another's in the cache."""
        return self.model_name

    def load(self) -> None:
        """Make ready to compute; a run whose results are all cached never needs it."""

    def unload(self) -> None:
        """Give the memory back."""

    def check(self) -> None:
        """Raise now what would stop a run later (a model that does not exist), without loading the model."""

    def fits(self, text: str) -> bool:
        """Whether `text` can stand in a prompt of this model."""
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r}, generation_kwargs={self.generation_kwargs})"

    # --- what it reads ------------------------------------------------------------------------------------------

    def render(self, chat: Chat) -> str:
        """The text that the model reads for `chat`, control tokens included."""
        check_chat(chat, 0)
        return self._cached([("render", chat)], lambda wanted: iter([{0: self._render(chat)}]))[0]

    def tokens(self, completion: str) -> list[str]:
        """The tokens of a completion as the model reads it, each as text: one for each of `token_log_probs`."""
        return self._cached([("tokens", completion)], lambda wanted: iter([{0: self._tokens(completion)}]))[0]

    def _render(self, chat: Chat) -> str:
        raise TypeError(f"{type(self).__name__} has no chat template")

    def _tokens(self, completion: str) -> list[str]:
        raise TypeError(f"{type(self).__name__} has no tokenizer")

    # --- writing ------------------------------------------------------------------------------------------------

    def generate(self, inputs: Sequence[Chat], num_generations: int = 1, **kwargs: Any) -> list[dict[str, Any]]:
        """Write `num_generations` completions for each chat.

        Args:
            inputs: chats, each a list of `{"role", "content"}`. A chat that ends with an assistant message is continued.
            num_generations: completions per chat.
            kwargs: sampling arguments (see `SAMPLING`), over `generation_kwargs`.

        Returns:
            For each chat, in order, `{"generations": [str | None, …], "finish_reasons": [str, …],
            "statistics": {"input_tokens": [int, …], "output_tokens": [int, …]}}`. None where the model could not
            write, with the reason in `finish_reasons`.

        Raises:
            InputError: a malformed chat or sampling argument.
        """
        arguments = sampling_arguments({**self.generation_kwargs, **kwargs})
        if not isinstance(num_generations, int) or num_generations < 1:
            raise InputError(f"num_generations={num_generations!r}; allowed: a whole number from 1.")
        for position, chat in enumerate(inputs):
            check_chat(chat, position)
        requests = [Request(chat, draw, arguments) for chat in inputs for draw in range(num_generations)]
        keys = [("generate", r.chat, r.draw, arguments) for r in requests]
        results = self._cached(keys, lambda wanted: self._generate(requests, wanted))
        grouped = [results[i : i + num_generations] for i in range(0, len(results), num_generations)]
        return [_assembled(group) for group in grouped]

    def _generate(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        """Yield batches `{position in requests: {"text", "input_tokens", "output_tokens", "finish_reason"}}`.

        Only positions in `wanted` are asked for, but batches should be composed from all requests, so that a run
        that was killed and resumed computes the same batches.
        """
        raise TypeError(f"{type(self).__name__} cannot generate")

    # --- scoring ------------------------------------------------------------------------------------------------

    def choice_probabilities(self, inputs: Sequence[Chat], choices: Sequence[str], prefill: str = ""):
        """The next-token distribution over `choices` after each chat and `prefill`, normalised over the choices.

        Returns:
            numpy array of shape `(len(inputs), len(choices))`; each row sums to 1. One forward pass, no generation.
        """
        import numpy as np

        self._must_score("choice_probabilities")
        chats = [continued(chat, prefill) for chat in inputs]
        for position, chat in enumerate(chats):
            check_chat(chat, position)
        keys = [("choices", chat, list(choices)) for chat in chats]
        scores = self._cached(keys, lambda wanted: self._choice_log_probs(chats, list(choices), wanted))
        logs = np.array(scores, dtype=np.float64).reshape(len(chats), len(choices))
        probabilities = np.exp(logs - logs.max(axis=1, keepdims=True)) if len(chats) else logs
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def token_log_probs(self, inputs: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """The natural log-probability of each token of each completion, given its chat.

        An empty chat (`[]`) gives the unconditional log-probabilities. An empty completion, or one that does not
        fit the model's context, gives an empty list.
        """
        pairs = self._pairs("token_log_probs", inputs, completions)
        keys = [("log_probs", chat, completion) for chat, completion in pairs]
        return self._cached(keys, lambda wanted: self._token_log_probs(pairs, wanted))

    def log_likelihood(self, inputs: Sequence[Chat], completions: Sequence[str]):
        """Mean log-probability per token of each completion given its chat; shape `(len(inputs),)`, nan if empty."""
        import numpy as np

        return np.array([np.mean(logs) if logs else np.nan for logs in self.token_log_probs(inputs, completions)])

    def head_scores(self, inputs: Sequence[Chat], completions: Sequence[str], head: "LinearHead"):
        """The score that a linear head gives each completion from the model's hidden states.

        Returns:
            numpy array of shape `(len(inputs),)`; nan for a completion that is empty or does not fit the context.
        """
        import numpy as np

        pairs = self._pairs("head_scores", inputs, completions)
        fingerprint = head.fingerprint
        keys = [("head", fingerprint, chat, completion) for chat, completion in pairs]
        scores = self._cached(keys, lambda wanted: self._head_scores(pairs, head, wanted))
        return np.array([np.nan if score is None else score for score in scores], dtype=np.float64)

    def _pairs(self, method: str, inputs: Sequence[Chat], completions: Sequence[str]) -> list[tuple[Chat, str]]:
        self._must_score(method)
        if len(inputs) != len(completions):
            raise InputError(f"{len(inputs)} inputs but {len(completions)} completions; one completion per input.")
        for position, chat in enumerate(inputs):
            check_chat(chat, position, may_be_empty=True)
        return list(zip(inputs, completions, strict=True))

    def _head_scores(self, pairs, head, wanted) -> Iterator[dict[int, float | None]]:
        raise TypeError(f"{type(self).__name__} has no hidden states")

    def _choice_log_probs(self, chats, choices, wanted) -> Iterator[dict[int, list[float]]]:
        raise TypeError(f"{type(self).__name__} has no probabilities")

    def _token_log_probs(self, pairs, wanted) -> Iterator[dict[int, list[float]]]:
        raise TypeError(f"{type(self).__name__} has no probabilities")

    def _must_score(self, method: str) -> None:
        if not self.can_score:
            raise InputError(
                f"{method} needs a model whose probabilities can be seen; {type(self).__name__} only writes text. "
                "Use a TransformersLLM, or a task that reads the model's text."
            )

    # --- the cache ----------------------------------------------------------------------------------------------

    def _cached(self, keys: list[tuple], compute: Callable[[set[int]], Iterator[dict[int, Any]]]) -> list[Any]:
        """The results for `keys`: from the cache, the rest computed, each batch stored before the next is begun."""
        hashed = [result_key(self.fingerprint, *key) for key in keys]
        store = default_cache() if self.use_cache else None
        known = store.get_many(list(dict.fromkeys(hashed))) if store else {}
        first = {key: position for position, key in reversed(list(enumerate(hashed)))}
        wanted = {position for key, position in first.items() if key not in known}
        self.usage.cached += len(hashed) - len(wanted)
        if wanted and store and replaying():
            raise CacheError(
                f"{len(wanted)} of {len(hashed)} results of {self.model_name} are not among the recorded ones, for example "
                f"{repr(keys[min(wanted)])[:200]}. COURSE_LIB_REPLAY is set, so no model was run. Record again "
                "(`make record`), or unset COURSE_LIB_REPLAY."
            )
        if wanted:
            tick = time.perf_counter()
            for batch in compute(wanted):
                fresh = {hashed[position]: value for position, value in batch.items()}
                if store:
                    store.put_many(fresh, self.model_name)
                known.update(fresh)
                tick, started = time.perf_counter(), tick
                self._count(batch, tick - started)
        return [known[key] for key in hashed]

    def _count(self, batch: dict[int, Any], seconds: float) -> None:
        self.usage.new += len(batch)
        self.usage.seconds += seconds
        written = [value for value in batch.values() if isinstance(value, dict)]
        self.usage.writing_seconds += seconds if written else 0
        for value in written:
            self.usage.input_tokens += value["input_tokens"]
            self.usage.output_tokens += value["output_tokens"]
        self.on_progress(self.usage)


def _assembled(group: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "generations": [one["text"] for one in group],
        "finish_reasons": [one["finish_reason"] for one in group],
        "statistics": {
            "input_tokens": [one["input_tokens"] for one in group],
            "output_tokens": [one["output_tokens"] for one in group],
        },
    }


def continued(chat: Chat, prefill: str) -> Chat:
    """`chat` with an assistant message begun by us, for the model to go on from."""
    return [*chat, {"role": "assistant", "content": prefill}] if prefill else list(chat)


def check_chat(chat: Any, position: int, may_be_empty: bool = False) -> None:
    """Raise `InputError` unless `chat` is a list of `{"role": str, "content": str}`."""
    allowed = '[{"role": "user", "content": "…"}]'
    if not isinstance(chat, list) or not (chat or may_be_empty):
        raise InputError(f"Input {position} is {repr(chat)[:80]}, not a chat. Allowed: a list of messages such as {allowed}.")
    for message in chat:
        well_formed = isinstance(message, dict) and all(isinstance(message.get(k), str) for k in ("role", "content"))
        if not well_formed or message["role"] not in ("system", "user", "assistant"):
            raise InputError(
                f"Input {position} holds the message {repr(message)[:120]}. Allowed: 'role' is system, user or assistant, and "
                f"'content' is text, such as {allowed}."
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
        raise InputError(f"Unknown sampling argument {', '.join(unknown)}. Allowed: do_sample, {', '.join(SAMPLING)}.")
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


RANGES = {
    "max_new_tokens": (1, 1_000_000),
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, 1_000_000),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "seed": (-(2**63), 2**63 - 1),
}
