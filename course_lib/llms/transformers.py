"""Local inference with Hugging Face Transformers."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from course_lib.errors import WeightsError
from course_lib.llms.base import LLM, Chat, LinearHead, Request
from course_lib.llms.cache import result_key
from course_lib.llms.devices import batch_budget, filled_batches, most_nodes
from course_lib.llms.folders import Weights, check_settings, check_type, text_config
from course_lib.llms.loaded import Loaded, hold, load_model, reading, release
from course_lib.llms.packaged import PACKAGED
from course_lib.llms.prompts import Prompts
from course_lib.llms.weights import resolve
from course_lib.paths import replaying


class TransformersLLM(LLM):
    """A causal language model on this machine: CUDA, MPS or CPU, whichever is there.

    Args:
        model: packaged name (`smollm2-135m`, `gemma-3-270m`), folder, or hub id.
        tokenizer: another folder or hub id for the tokenizer.
        chat_template: Jinja source that replaces the tokenizer's; base models without one need it.
        revision: hub branch, tag or commit.
        dtype: "auto" (float32 on a CPU; bfloat16 on a GPU that has it, else float16), or a torch dtype's name.
        device: "cuda", "mps", "cpu", …; None chooses.
        device_map: handed to Transformers (needs the package `accelerate`).
        model_kwargs: further arguments of `AutoModelForCausalLM.from_pretrained`.
        token: hub token.
        generation_kwargs, use_cache: as for every `LLM`.
    """

    can_score = True

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        chat_template: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        device_map: Any = None,
        model_kwargs: dict[str, Any] | None = None,
        token: str | None = None,
        generation_kwargs: dict[str, Any] | None = None,
        use_cache: bool = True,
    ):
        super().__init__(generation_kwargs=generation_kwargs, use_cache=use_cache)
        self.model, self.revision, self.token = model, revision, token
        self.tokenizer_name, self.chat_template = tokenizer, chat_template
        self.dtype, self.device, self.device_map = str(dtype).removeprefix("torch."), device, device_map
        self.model_kwargs = dict(model_kwargs or {})
        check_settings(self.model_kwargs)
        self._loaded: Loaded | None = None

    @property
    def model_name(self) -> str:
        return self.model

    @cached_property
    def weights(self) -> Weights:
        """Where the weights lie; a packaged model is fetched the first time."""
        weights = resolve(self.model, self.revision, self.token)
        return replace(weights, chat_template=self.chat_template) if self.chat_template else weights

    @cached_property
    def fingerprint(self) -> str:
        known, settings = self.weights, {name: str(value) for name, value in self.model_kwargs.items()}
        return result_key(known.fingerprint, known.chat_template, self.tokenizer_name, self.dtype, settings)

    source = property(lambda self: self.weights.source)
    licence = property(lambda self: self.weights.licence)

    def check(self) -> None:
        self.fingerprint  # noqa: B018 - resolving the weights is the check
        if self.model not in PACKAGED:
            check_type(self.weights.folder)
            self.prompts.takes_system  # noqa: B018 - so is reading tokenizer and chat template

    @cached_property
    def prompts(self) -> Prompts:
        """Tokenizer and chat template; `prompts.render(chat)` is the text that the model reads."""
        from transformers import AutoTokenizer

        folder = self.weights.folder
        if self.tokenizer_name:
            folder = resolve(self.tokenizer_name, token=self.token, tokenizer_only=True).folder
        with reading(folder):
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        size = text_config(self.weights.folder).get("vocab_size")
        if size and max(tokenizer.get_vocab().values(), default=0) >= size:
            raise WeightsError(
                f"The tokenizer in {folder} has more tokens than the {size} of the model in {self.weights.folder}, so the two "
                "do not belong together. Give the tokenizer that the model was trained with."
            )
        return Prompts(tokenizer, self.weights)

    @property
    def tokenizer(self):
        """The Transformers tokenizer."""
        return self.prompts.tokenizer

    @cached_property
    def context(self) -> int:
        """Tokens that prompt and completion may have together."""
        return text_config(self.weights.folder).get("max_position_embeddings") or 2048

    def chat_text(self, chat: Chat) -> str:
        return self.prompts.render(chat)

    def completion_tokens(self, completion: str) -> list[str]:
        return [self.tokenizer.decode([token]) for token in self.prompts.encode_completion(completion)]

    def fits(self, text: str) -> bool:
        # A token covers at least one byte, so short texts need no tokenizer; a replay has neither it nor a context.
        if replaying() or len(text.encode("utf-8", "replace")) < self.context // 2:
            return True
        return len(self.prompts.encode([{"role": "user", "content": text}])) < self.context

    @property
    def hf_model(self):
        """The Transformers model, loaded if need be."""
        return self._shared.model

    @property
    def _shared(self) -> Loaded:
        self.load()
        return self._loaded

    def load(self) -> None:
        if self._loaded is None:
            settings = self.dtype, self.device, str(self.device_map), str(self.model_kwargs)
            self._loaded = hold(result_key(str(self.weights.folder), *settings), self._load_model)

    def _load_model(self):
        self.prompts  # noqa: B018 - a missing chat template is an error before the weights are read
        placed = {"device_map": self.device_map} if self.device_map is not None else {}
        return load_model(self.weights.folder, self.dtype, self.device, {**placed, **self.model_kwargs})

    def unload(self) -> None:
        """Drop this object's hold on the weights; the last holder frees the memory."""
        if self._loaded is not None:
            loaded, self._loaded = self._loaded, None
            release(loaded)

    def write(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        from course_lib.llms.decoding import decode

        arguments, model = requests[0].arguments, self.hf_model
        stops = [*arguments["stop_strings"], *self.weights.stop_strings]
        rows = self._rows(requests, stops)
        yield {p: self._result(rows[p], stops) for p in sorted(wanted) if rows[p].finish_reason}

        def decoded(part: list[int]) -> list[Any]:
            batch = [replace(rows[p], tokens=[]) for p in part]
            decode(model, batch, arguments, self._end_tokens, most_nodes(model))
            return batch

        lengths = {p: len(row.prompt) + row.limit for p, row in enumerate(rows) if not row.finish_reason}
        for batch in filled_batches(lengths, *batch_budget(model)):
            for part, written in self._shared.in_parts([p for p in batch if p in wanted], decoded):
                yield {p: self._result(row, stops) for p, row in zip(part, written, strict=True)}

    def _rows(self, requests: list[Request], stops: list[str]) -> list[Any]:
        """A row to decode for each request; those whose prompt is too long are finished already."""
        from course_lib.llms.decoding import Row, noise_key

        stopper, rows = self.prompts.stopper(stops), []
        prompts = self.prompts.encode_all([request.chat for request in requests])
        for request, prompt in zip(requests, prompts, strict=True):
            key = noise_key(request.arguments["seed"], request.chat, request.draw)
            room = self.context - len(prompt)
            reason = "" if room > 0 else f"prompt too long: {len(prompt)} tokens, context {self.context}"
            limit = min(request.arguments["max_new_tokens"], room)
            rows.append(Row(prompt, key, limit, stopper, finish_reason=reason))
        return rows

    def _result(self, row: Any, stops: list[str]) -> dict[str, Any]:
        text = self.prompts.text(row.tokens, stops) if row.limit > 0 else None
        counts = {"input_tokens": len(row.prompt), "output_tokens": len(row.tokens)}
        return {"text": text, **counts, "finish_reason": row.finish_reason}

    @cached_property
    def _end_tokens(self) -> set[int]:
        configured = self.hf_model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return {token for token in [*ends, self.tokenizer.eos_token_id] if token is not None}

    def score_choices(self, chats, choices, wanted) -> Iterator[dict[int, list[float]]]:
        options = {opened: self.prompts.encode_choices(choices, opened) for opened in (False, True)}
        rows = {}
        for position, prompt in enumerate(self.prompts.encode_all(chats)):
            shared, tokens = options[chats[position][-1]["role"] == "assistant"]
            # A prompt that is too long keeps its end, where the question for the rating stands.
            row = [*prompt, *shared][-self.context :]
            rows[position] = row, len(row) - 1, [(len(row) - 1, token) for token in tokens]
        return self._log_probs(rows, wanted)

    def score_completions(self, pairs, wanted) -> Iterator[dict[int, list[float]]]:
        rows = {
            position: (row, start - 1, [(i - 1, row[i]) for i in range(start, len(row))])
            for position, (row, start) in self._scoring_rows(pairs).items()
        }
        yield {p: [] for p in wanted if p not in rows}
        yield from self._log_probs(rows, wanted)

    def _log_probs(self, rows, wanted) -> Iterator[dict[int, list[float]]]:
        from course_lib.llms import tree

        for batch in self._shared.scored(rows, wanted, tree.log_probs_of):
            yield {p: [round(value, 4) for value in logs] for p, logs in batch.items()}

    def score_with_head(self, pairs, head: LinearHead, wanted) -> Iterator[dict[int, float | None]]:
        unread = set(wanted)
        for batch in self.completion_features(pairs, head.layers, head.question, wanted):
            unread -= set(batch)
            yield {p: round(float(features @ head.weights) + head.bias, 4) for p, features in batch.items()}
        yield dict.fromkeys(unread)

    def score_states(self, pairs, layer: int, wanted) -> Iterator[dict[int, list[float]]]:
        unread = set(wanted)
        for batch in self.completion_features(pairs, (layer,), LinearHead.question, wanted):
            unread -= set(batch)
            yield {p: _mean_part(features) for p, features in batch.items()}
        yield {p: [] for p in unread}

    def completion_features(self, pairs, layers, question, wanted=None) -> Iterator[dict[int, Any]]:
        """Batches `{position in pairs: features}`, of those `wanted` or all; see `tree.hidden_features`. Nothing is cached."""
        from course_lib.llms import tree

        closing = self.prompts.encode_question(question)
        rows = {
            position: ([*row, *closing], start, (start, len(row)))
            for position, (row, start) in self._scoring_rows(pairs, len(closing)).items()
        }
        wanted = set(rows) if wanted is None else wanted
        return self._shared.scored(rows, wanted, partial(tree.hidden_features, layers=layers))

    def _scoring_rows(self, pairs, closing: int = 0) -> dict[int, tuple[list[int], int]]:
        """Token ids of each pair that is not empty and fits with `closing` more, and where its completion begins."""
        rows = {}
        for position, prompt in enumerate(self.prompts.encode_all([chat for chat, _ in pairs])):
            added = self.prompts.encode_completion(pairs[position][1])
            if added and len(prompt) + len(added) < self.context - closing:
                rows[position] = prompt + added, len(prompt)
        return rows


def _mean_part(features: Any) -> list[float]:
    """Of the three pooled parts of `tree.hidden_features` the first, the mean over the completion, to one decimal."""
    return [round(float(value), 1) for value in features[: len(features) // 3]]
