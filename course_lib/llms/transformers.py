"""Local inference with Hugging Face Transformers."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

from course_lib.errors import InputError, WeightsError
from course_lib.llms.base import LLM, Chat, LinearHead, Request
from course_lib.llms.cache import result_key
from course_lib.llms.devices import batch_budget, filled_batches, most_nodes
from course_lib.llms.folders import check_settings, check_type, text_config
from course_lib.llms.loaded import Loaded, hold, load_model, release
from course_lib.llms.packaged import PACKAGED
from course_lib.llms.prompts import Prompts
from course_lib.llms.weights import Weights, readable, resolve
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
        attention = self.model_kwargs.get("attn_implementation", "sdpa")
        if attention != "sdpa":
            raise InputError(
                f"attn_implementation={attention!r}; allowed: 'sdpa', which takes the masks used here."
            )
        self._loaded: Loaded | None = None

    # --- what it is ---------------------------------------------------------------------------------------------

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
        settings = {name: str(value) for name, value in self.model_kwargs.items()}
        weights = self.weights
        return result_key(
            weights.fingerprint, weights.chat_template, self.tokenizer_name, self.dtype, settings
        )

    source = property(lambda self: self.weights.source)
    licence = property(lambda self: self.weights.licence)

    def check(self) -> None:
        self.fingerprint  # noqa: B018 - resolving the weights is the check
        if self.model not in PACKAGED:
            check_type(self.weights.folder)
            self.prompts  # noqa: B018 - so is reading the tokenizer

    @cached_property
    def prompts(self) -> Prompts:
        """Tokenizer and chat template; `prompts.render(chat)` is the text that the model reads."""
        from transformers import AutoTokenizer

        folder = (
            resolve(self.tokenizer_name, token=self.token, tokenizer_only=True).folder
            if self.tokenizer_name
            else self.weights.folder
        )
        with readable(folder):
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

    # --- loading ------------------------------------------------------------------------------------------------

    @property
    def hf_model(self):
        """The Transformers model, loaded if need be."""
        return self._shared.model

    @property
    def _shared(self) -> Loaded:
        self.load()
        return self._loaded

    @property
    def _loading_key(self) -> str:
        settings = self.dtype, self.device, str(self.device_map), str(self.model_kwargs)
        return result_key(str(self.weights.folder), *settings)

    def load(self) -> None:
        if self._loaded is None:
            self._loaded = hold(self._loading_key, self._load_model)

    def _load_model(self):
        self.prompts  # noqa: B018 - a missing chat template is an error before the weights are read
        placed = {"device_map": self.device_map} if self.device_map is not None else {}
        return load_model(self.weights.folder, self.dtype, self.device, {**placed, **self.model_kwargs})

    def unload(self) -> None:
        """Drop this object's hold on the weights; the last holder frees the memory."""
        if self._loaded is not None:
            self._loaded = None
            release(self._loading_key)

    # --- writing ------------------------------------------------------------------------------------------------

    def write(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        from course_lib.llms.decoding import decode

        arguments = requests[0].arguments
        stops = [*arguments["stop_strings"], *self.weights.stop_strings]
        rows = self._rows(requests, stops)
        if unwritable := [p for p in sorted(wanted) if rows[p].finish_reason]:
            yield {p: self._result(rows[p], stops) for p in unwritable}
        lengths = {p: len(row.prompt) + row.limit for p, row in rows.items() if not row.finish_reason}
        nodes = most_nodes(self.hf_model)

        def decoded(part: list[int]) -> list[Any]:
            batch = [replace(rows[p], tokens=[]) for p in part]
            decode(self.hf_model, batch, arguments, self._end_tokens, self.prompts.pad, nodes)
            return batch

        for batch in filled_batches(lengths, *batch_budget(self.hf_model)):
            for part, written in self._shared.in_parts([p for p in batch if p in wanted], decoded):
                yield {p: self._result(row, stops) for p, row in zip(part, written, strict=True)}

    def _rows(self, requests: list[Request], stops: list[str]) -> dict[int, Any]:
        """A row to decode for each request; those whose prompt is too long are finished already."""
        from course_lib.llms.decoding import Row, noise_key

        encode, stopper = (
            cache(lambda text: self.prompts.encode(json.loads(text))),
            self.prompts.stopper(stops),
        )
        rows = {}
        for position, request in enumerate(requests):
            prompt, arguments = encode(json.dumps(request.chat)), request.arguments
            key = noise_key(arguments["seed"], request.chat, request.draw)
            room = self.context - len(prompt)
            reason = "" if room > 0 else f"prompt too long: {len(prompt)} tokens, context {self.context}"
            limit = min(arguments["max_new_tokens"], room)
            rows[position] = Row(prompt, key, limit, stopper, finish_reason=reason)
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

    # --- scoring ------------------------------------------------------------------------------------------------

    def score_choices(self, chats, choices, wanted) -> Iterator[dict[int, list[float]]]:
        from course_lib.llms.scoring import log_prob_batches

        options = {opened: self.prompts.encode_choices(choices, opened) for opened in (False, True)}
        rows, targets = {}, {}
        for position, chat in enumerate(chats):
            shared, tokens = options[chat[-1]["role"] == "assistant"]
            # A prompt that is too long keeps its end, where the question for the rating stands.
            rows[position] = [*self.prompts.encode(chat), *shared][-self.context :]
            targets[position] = [(len(rows[position]) - 1, token) for token in tokens]
        return log_prob_batches(self._shared, rows, targets, wanted)

    def score_completions(self, pairs, wanted) -> Iterator[dict[int, list[float]]]:
        from course_lib.llms.scoring import log_prob_batches

        rows, starts = self._scoring_rows(pairs)
        targets = {p: [(i - 1, row[i]) for i in range(starts[p], len(row))] for p, row in rows.items()}
        yield {p: [] for p in wanted if p not in rows}
        yield from log_prob_batches(self._shared, rows, targets, wanted)

    def score_with_head(self, pairs, head: LinearHead, wanted) -> Iterator[dict[int, float | None]]:
        unread = wanted
        for batch in self._features(pairs, head.layers, head.question, wanted):
            unread = unread - set(batch)
            yield {p: round(float(features @ head.weights) + head.bias, 4) for p, features in batch.items()}
        yield dict.fromkeys(unread)

    def completion_features(self, pairs, layers, question) -> Iterator[dict[int, Any]]:
        """Batches `{position in pairs: features}`; see `tree.hidden_features`. Nothing is cached."""
        return self._features(pairs, layers, question, set(range(len(pairs))))

    def _features(self, pairs, layers, question, wanted) -> Iterator[dict[int, Any]]:
        from course_lib.llms.scoring import feature_batches

        rows, starts = self._scoring_rows(pairs, question)
        places = {p: (starts[p], len(row)) for p, row in rows.items()}
        closing = self.prompts.encode_question(question)
        rows = {p: [*row, *closing] for p, row in rows.items()}
        return feature_batches(self._shared, rows, places, layers, wanted)

    def _scoring_rows(self, pairs, closing: str = "") -> tuple[dict[int, list[int]], dict[int, int]]:
        """Token ids of each pair that is not empty and fits, and where its completion begins."""
        encode = cache(lambda text: self.prompts.encode(json.loads(text)))
        room = self.context - (len(self.prompts.encode_question(closing)) if closing else 0)
        rows, starts = {}, {}
        for position, (chat, completion) in enumerate(pairs):
            prompt, added = encode(json.dumps(chat)), self.prompts.encode_completion(completion)
            if added and len(prompt) + len(added) < room:
                rows[position], starts[position] = prompt + added, len(prompt)
        return rows, starts
