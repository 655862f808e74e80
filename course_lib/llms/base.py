"""What a language model can do here: write completions, and score text that is already there.

A backend is a subclass of `LLM` with a `model_name` and `write`; README.md and `ScriptedLLM` are examples. Without a
`fingerprint` nothing of it is cached.

One that sees probabilities sets `can_score` and defines `score_choices`, `score_completions` and `score_with_head`; one
with a tokenizer, `chat_text` and `completion_tokens`. The base class looks every input up in the cache first and stores
each batch as it comes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from course_lib.errors import InputError
from course_lib.llms.cache import result_key
from course_lib.llms.chats import SAMPLING, Chat, check_chat, check_chats, continued, sampling_arguments  # noqa: F401
from course_lib.llms.results import Computed, Usage  # noqa: F401 - chats and usage are looked for here too

CUT_OFF = "length"  # the finish reason of a text that ran into `max_new_tokens`
ONLY_WRITES = "This needs a model whose probabilities can be seen; {} only writes text. Use a TransformersLLM, or a task that "
ONLY_WRITES += "reads the model's text."
NUMBER = int | float
WRITTEN = {"text": str | None, "input_tokens": NUMBER, "output_tokens": NUMBER, "finish_reason": str | None}


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


class LLM(Computed):
    """A language model. Subclass it to bring another backend; annotated class attributes are its settings.

    Args:
        generation_kwargs: sampling arguments for each `generate`; see `SAMPLING`.
        use_cache: look results up in, and add them to, the cache on disk; see `Computed`, which has `fingerprint` too.

    Attributes:
        source, licence: where it comes from and what it may be used for, for the dataset card.
        context: tokens that prompt and completion may have together; None if nobody knows.
        can_score: whether its probabilities can be seen.
        takes_schema: whether its completions can be held to a JSON schema.
    """

    generation_kwargs: dict[str, Any] = field(default_factory=dict)

    source: ClassVar[str] = ""
    licence: ClassVar[str] = "not known"
    context: ClassVar[int | None] = None
    can_score: ClassVar[bool] = False
    takes_schema: ClassVar[bool] = False

    def __post_init__(self):
        self.generation_kwargs = dict(self.generation_kwargs or {})
        sampling_arguments(self.generation_kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r}, generation_kwargs={self.generation_kwargs})"

    def load(self) -> None:
        """Make ready to compute; a run whose results are all cached never needs it."""

    def unload(self) -> None:
        """Give the memory back."""

    def check(self) -> None:
        """Raise now what would stop a run later (a model that does not exist), without loading the model."""

    def fits(self, text: str) -> bool:
        """Whether `text` can stand in a prompt of this model."""
        return True

    def write(self, requests: list[Request], wanted: set[int]) -> Iterable[dict[int, dict[str, Any]]]:
        """Batches `{position in requests: {"text", "input_tokens", "output_tokens", "finish_reason"}}`.

        `text` is None where the model could not write, and `finish_reason` says why. Only positions in `wanted` are
        asked for, but batches should be composed from all requests, so that a run that was killed and resumed
        computes the same batches.
        """
        raise TypeError(f"{type(self).__name__} cannot write")

    def score_choices(self, chats, choices, wanted) -> Iterable[dict[int, list[float]]]:
        """Batches `{position in chats: [log-probability of each choice, up to a constant]}`."""
        raise InputError(ONLY_WRITES.format(type(self).__name__))

    def score_completions(self, pairs, wanted) -> Iterable[dict[int, list[float]]]:
        """Batches `{position in pairs: [log-probability of each token]}` of `(chat, completion)` pairs."""
        raise InputError(ONLY_WRITES.format(type(self).__name__))

    def score_with_head(self, pairs, head: LinearHead, wanted) -> Iterable[dict[int, float | None]]:
        """Batches `{position in pairs: score}`; None for a completion that cannot be read."""
        raise InputError(ONLY_WRITES.format(type(self).__name__))

    def score_states(self, pairs, layer: int, wanted) -> Iterable[dict[int, list[float]]]:
        """Batches `{position in pairs: hidden states}`; [] for a completion that cannot be read."""
        raise InputError(ONLY_WRITES.format(type(self).__name__))

    def chat_text(self, chat: Chat) -> str:
        """The text that the model reads for a well-formed `chat`; see `render`."""
        raise TypeError(f"{type(self).__name__} has no chat template")

    def completion_tokens(self, completion: str) -> list[str]:
        """The tokens of `completion`, each as text; see `tokens`."""
        raise TypeError(f"{type(self).__name__} has no tokenizer")

    def render(self, chat: Chat) -> str:
        """The text that the model reads for `chat`, control tokens included."""
        check_chat(chat, 0)
        return self.results("render", [(chat,)], str, lambda wanted: [{0: self.chat_text(chat)}])[0]

    def tokens(self, completion: str) -> list[str]:
        """The tokens of a completion, each as text: one for each of `token_log_probs`."""
        inputs = [(completion,)]
        return self.results(
            "tokens", inputs, [str, ...], lambda wanted: [{0: self.completion_tokens(completion)}]
        )[0]

    def generate(
        self, inputs: Sequence[Chat], num_generations: int = 1, json_schema: dict | None = None, **kwargs: Any
    ) -> list[dict]:
        """Write `num_generations` completions for each chat.

        Args:
            inputs: chats, each a list of `{"role", "content"}`. One that ends with an assistant message is continued.
            num_generations: completions per chat.
            json_schema: what the completions must be, where the model `takes_schema`.
            kwargs: sampling arguments (see `SAMPLING`), over `generation_kwargs`.

        Returns:
            For each chat, in order, `{"generations": [str | None, …], "finish_reasons": [str, …],
            "statistics": {"input_tokens": [int, …], "output_tokens": [int, …]}}`. None where the model could not
            write, with the reason in `finish_reasons`, which a backend that overrides this method may leave out.

        Raises:
            InputError: a malformed chat or sampling argument.
        """
        arguments = sampling_arguments({**self.generation_kwargs, **kwargs})
        if not isinstance(num_generations, int) or num_generations < 1:
            raise InputError(f"num_generations={num_generations!r}; allowed: a whole number from 1.")
        if json_schema:
            if not self.takes_schema:
                raise InputError(f"{self!r} cannot be held to a JSON schema: leave json_schema out.")
            arguments["json_schema"] = json_schema
        check_chats(inputs)
        requests = [Request(chat, draw, arguments) for chat in inputs for draw in range(num_generations)]
        keys = [(request.chat, request.draw, request.arguments) for request in requests]
        results = self.results("generate", keys, WRITTEN, partial(self._written, requests))
        return [_joined(results[i : i + num_generations]) for i in range(0, len(results), num_generations)]

    def choice_probabilities(self, inputs: Sequence[Chat], choices: Sequence[str], prefill: str = ""):
        """The next-token distribution over `choices` after each chat and `prefill`, normalised over the choices.

        Returns:
            numpy array of shape `(len(inputs), len(choices))`; each row sums to 1. One forward pass, no generation.
        """
        chats, choices = [continued(chat, prefill) for chat in inputs], list(choices)
        check_chats(chats)
        keys = [(chat, choices) for chat in chats]
        shape = [NUMBER] * len(choices)
        scores = self.results("choices", keys, shape, partial(self.score_choices, chats, choices))
        logs = np.array(scores, dtype=np.float64).reshape(len(chats), len(choices))
        probabilities = np.exp(logs - logs.max(axis=1, keepdims=True))
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def token_log_probs(self, inputs: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """The natural log-probability of each token of each completion, given its chat.

        An empty chat (`[]`) gives the unconditional log-probabilities. An empty completion, or one that does not
        fit the model's context, gives an empty list.
        """
        pairs = self._pairs(inputs, completions)
        return self.results("log_probs", pairs, [NUMBER, ...], partial(self.score_completions, pairs))

    def log_likelihood(self, inputs: Sequence[Chat], completions: Sequence[str]):
        """Mean log-probability per token of each completion given its chat; shape `(len(inputs),)`, nan if empty."""
        rows = self.token_log_probs(inputs, completions)
        return np.array([np.mean(logs) if logs else np.nan for logs in rows])

    def head_scores(self, inputs: Sequence[Chat], completions: Sequence[str], head: LinearHead):
        """The score that a linear head gives each completion from the model's hidden states.

        Returns:
            numpy array of shape `(len(inputs),)`; nan for a completion that is empty or does not fit the context.
        """
        pairs, fingerprint = self._pairs(inputs, completions), head.fingerprint
        keys = [(fingerprint, *pair) for pair in pairs]
        scores = self.results("head", keys, NUMBER | None, partial(self.score_with_head, pairs, head))
        return np.array([np.nan if score is None else score for score in scores], dtype=np.float64)

    def hidden_states(self, inputs: Sequence[Chat], completions: Sequence[str], layer: int):
        """What the model holds in mind of each completion: its hidden states after `layer` layers, mean over its tokens.

        Returns:
            numpy array of shape `(len(inputs), hidden size)`, to one decimal.

        Raises:
            InputError: a completion is empty or does not fit the context.
        """
        pairs = self._pairs(inputs, completions)
        keys = [(layer, *pair) for pair in pairs]
        states = self.results("states", keys, [NUMBER, ...], partial(self.score_states, pairs, layer))
        if [] in states:
            place = states.index([])
            raise InputError(
                f"Completion {place} is empty or does not fit the model's context. Leave it out."
            )
        return np.array(states, dtype=np.float64)

    def _pairs(self, inputs: Sequence[Chat], completions: Sequence[str]) -> list[tuple]:
        if len(inputs) != len(completions):
            raise InputError(
                f"{len(inputs)} inputs but {len(completions)} completions; allowed: one per input."
            )
        check_chats(inputs, may_be_empty=True)
        return list(zip(inputs, completions, strict=True))

    def _written(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        for batch in self.write(requests, wanted):
            for position, result in batch.items():
                if missing := [key for key in WRITTEN if key not in result]:
                    raise InputError(
                        f"{type(self).__name__}.write gave for request {position} a result without "
                        f"{', '.join(missing)}. Each result needs {', '.join(WRITTEN)}."
                    )
            yield batch


def _joined(results: list[dict[str, Any]]) -> dict[str, Any]:
    texts, inputs, outputs, reasons = ([result[key] for result in results] for key in WRITTEN)
    statistics = {"input_tokens": inputs, "output_tokens": outputs}
    return {"generations": texts, "finish_reasons": reasons, "statistics": statistics}
