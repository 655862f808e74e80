"""Local inference with Hugging Face Transformers."""

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

from course_lib.errors import InputError
from course_lib.llms.base import LLM, Chat, Request
from course_lib.llms.cache import result_key
from course_lib.llms.devices import MOST_ROWS, batch_budget, best_device, best_dtype, filled_batches, most_nodes, out_of_memory
from course_lib.llms.prompts import Prompts
from course_lib.llms.weights import Weights, quiet_transformers, readable, resolve
from course_lib.paths import replaying

# Loaded weights by what was asked for: {"model", "users", "most_rows"}, the last the largest batch that memory allowed.
_shared: dict[str, dict[str, Any]] = {}


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
        generation_kwargs: sampling arguments for each `generate`; see `course_lib.llms.base.SAMPLING`.
        use_cache: look results up in, and add them to, the cache on disk.
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
        super().__init__(generation_kwargs, use_cache)
        self.model, self.revision, self.token = model, revision, token
        self.tokenizer_name, self.chat_template = tokenizer, chat_template
        self.dtype, self.device, self.device_map = str(dtype).removeprefix("torch."), device, device_map
        self.model_kwargs = dict(model_kwargs or {})
        if (attention := self.model_kwargs.get("attn_implementation", "sdpa")) != "sdpa":
            raise InputError(f"attn_implementation={attention!r}; allowed: 'sdpa', the one that takes the masks used here.")
        self._shared_key: str | None = None

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def model_name(self) -> str:
        return self.model

    @cached_property
    def weights(self) -> Weights:
        """Where the weights lie; a packaged model is fetched the first time."""
        found = resolve(self.model, self.revision, self.token)
        return replace(found, chat_template=self.chat_template) if self.chat_template else found

    @cached_property
    def fingerprint(self) -> str:
        asked = [self.tokenizer_name, self.dtype, {name: str(value) for name, value in self.model_kwargs.items()}]
        return result_key(self.weights.fingerprint, self.weights.chat_template, *asked)

    def check(self) -> None:
        self.fingerprint  # noqa: B018 - resolving the weights is the check

    @cached_property
    def prompts(self) -> Prompts:
        """Tokenizer and chat template; `prompts.render(chat)` is the text that the model reads."""
        from transformers import AutoTokenizer

        folder = resolve(self.tokenizer_name, token=self.token).folder if self.tokenizer_name else self.weights.folder
        return Prompts(AutoTokenizer.from_pretrained(folder), self.weights)

    @property
    def tokenizer(self):
        """The Transformers tokenizer."""
        return self.prompts.tokenizer

    @cached_property
    def context(self) -> int:
        """Tokens that prompt and completion may have together."""
        config = json.loads((self.weights.folder / "config.json").read_text(encoding="utf-8"))
        return config.get("text_config", config).get("max_position_embeddings") or 2048

    def _render(self, chat: Chat) -> str:
        return self.prompts.render(chat)

    def _tokens(self, completion: str) -> list[str]:
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
        self.load()
        return _shared[self._shared_key]["model"]

    @property
    def _most_rows(self) -> int:
        self.load()
        return _shared[self._shared_key]["most_rows"]

    @_most_rows.setter
    def _most_rows(self, rows: int) -> None:
        self.load()
        _shared[self._shared_key]["most_rows"] = rows

    def load(self) -> None:
        if self._shared_key is not None:
            return
        key = result_key(str(self.weights.folder), self.dtype, self.device, str(self.device_map), str(self.model_kwargs))
        if key not in _shared:
            _shared[key] = {"model": self._load_model(), "users": 0, "most_rows": MOST_ROWS}
        _shared[key]["users"] += 1
        self._shared_key = key

    def _load_model(self):
        import torch
        from transformers import AutoModelForCausalLM

        from course_lib.llms.products import with_fast_products

        self.prompts  # noqa: B018 - a missing chat template is an error before the weights are read
        device = self.device or best_device()
        dtype = getattr(torch, best_dtype(device, self.weights.folder) if self.dtype == "auto" else self.dtype)
        placed = {"device_map": self.device_map} if self.device_map is not None else {}
        settings = {"dtype": dtype, "attn_implementation": "sdpa", **placed, **self.model_kwargs}
        with quiet_transformers(), readable(self.weights.folder):
            model = AutoModelForCausalLM.from_pretrained(self.weights.folder, use_safetensors=True, **settings)
        return with_fast_products((model if self.device_map is not None else model.to(device)).eval())

    def unload(self) -> None:
        """Drop this object's hold on the weights; the last holder frees the memory."""
        key, self._shared_key = self._shared_key, None
        if key is None:
            return
        _shared[key]["users"] -= 1
        if _shared[key]["users"] == 0:
            model = weakref.ref(_shared.pop(key)["model"])
            if model() is not None:  # it refers to itself; a collection costs a third of a second, so only then
                gc.collect()
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    # --- writing ------------------------------------------------------------------------------------------------

    def _generate(self, requests: list[Request], wanted: set[int]) -> Iterator[dict[int, dict[str, Any]]]:
        arguments = requests[0].arguments
        stops = [*arguments["stop_strings"], *self.weights.stop_strings]
        rows = self._rows(requests, self.prompts.stopper(stops))
        unwritable = {p: _unwritable(row.prompt, self.context) for p, row in rows.items() if row.limit < 1}
        if unwritable:
            yield {p: result for p, result in unwritable.items() if p in wanted}
        sizes = {p: len(row.prompt) + row.limit for p, row in rows.items() if p not in unwritable}
        for batch in filled_batches(sizes, *batch_budget(self.hf_model)):
            for part in self._decoded([p for p in batch if p in wanted], rows, arguments):
                yield {p: self._result(rows[p], stops) for p in part}

    def _rows(self, requests: list[Request], stops) -> dict[int, Any]:
        from course_lib.llms.decoding import Row, noise_key

        encode = cache(lambda text: self.prompts.encode(json.loads(text)))
        rows = {}
        for position, request in enumerate(requests):
            prompt, arguments = encode(json.dumps(request.chat)), request.arguments
            key = noise_key(arguments["seed"], request.chat, request.draw)
            rows[position] = Row(prompt, key, min(arguments["max_new_tokens"], self.context - len(prompt)), stops)
        return rows

    def _decoded(self, todo: list[int], rows: dict[int, Any], arguments: dict[str, Any]) -> Iterator[list[int]]:
        """Decode the rows at `todo` as one batch, or in the parts that memory allows."""
        from course_lib.llms.decoding import decode

        def write(part: list[int]) -> None:
            for p in part:
                rows[p] = replace(rows[p], tokens=[], finish_reason="")
            live = [rows[p] for p in part]
            decode(self.hf_model, live, arguments, self._end_tokens, self.prompts.pad, most_nodes(self.hf_model))

        for part, _ in self._in_memory(todo, write):
            yield part

    def _in_memory(self, todo: list[int], compute: Callable[[list[int]], Any]) -> Iterator[tuple[list[int], Any]]:
        """`(part, compute(part))` over `todo`: all at once, or in parts halved as often as memory asks for."""
        queue = [todo] if todo else []
        while queue:
            part = queue.pop(0)
            if len(part) > self._most_rows:
                queue[:0] = [part[: self._most_rows], part[self._most_rows :]]
                continue
            try:
                found = compute(part)
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not out_of_memory(error):
                    raise
                self._most_rows = len(part) // 2
                queue.insert(0, part)
                continue
            yield part, found

    def _result(self, row, stops: list[str]) -> dict[str, Any]:
        counts = {"input_tokens": len(row.prompt), "output_tokens": len(row.tokens)}
        return {"text": self.prompts.text(row.tokens, stops), **counts, "finish_reason": row.finish_reason}

    @cached_property
    def _end_tokens(self) -> set[int]:
        configured = self.hf_model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return {token for token in [*ends, self.tokenizer.eos_token_id] if token is not None}

    # --- scoring ------------------------------------------------------------------------------------------------

    def _choice_log_probs(self, chats, choices, wanted) -> Iterator[dict[int, list[float]]]:
        options = {opened: self.prompts.encode_choices(choices, opened) for opened in (False, True)}
        rows, targets = {}, {}
        for position, chat in enumerate(chats):
            shared, tokens = options[chat[-1]["role"] == "assistant"]
            # A prompt that is too long keeps its end, where the question for the rating stands.
            rows[position] = [*self.prompts.encode(chat), *shared][-self.context :]
            targets[position] = [(len(rows[position]) - 1, token) for token in tokens]
        yield from self._log_probs(rows, targets, wanted)

    def _token_log_probs(self, pairs, wanted) -> Iterator[dict[int, list[float]]]:
        rows, starts = self._scoring_rows(pairs)
        targets = {p: [(i - 1, row[i]) for i in range(starts[p], len(row))] for p, row in rows.items()}
        yield {p: [] for p in wanted if p not in rows}
        yield from self._log_probs(rows, targets, wanted)

    def _log_probs(self, rows, targets, wanted) -> Iterator[dict[int, list[float]]]:
        """Batches of rounded log-probabilities of those `rows` that are wanted."""
        from course_lib.llms.tree import log_probs_of

        def score(todo, prefix):
            found = log_probs_of(self.hf_model, [rows[p] for p in todo], [targets[p] for p in todo], prefix)
            return [[round(value, 4) for value in logs] for logs in found]

        yield from self._over_trees(rows, {p: row[0][0] for p, row in targets.items()}, wanted, score)

    def _head_scores(self, pairs, head, wanted) -> Iterator[dict[int, float | None]]:
        rows, starts = self._scoring_rows(pairs, head.question)
        yield {p: None for p in wanted if p not in rows}
        for features in self._features(rows, starts, head.layers, head.question, wanted):
            yield {p: round(float(one @ head.weights) + head.bias, 4) for p, one in features.items()}

    def completion_features(self, pairs, layers, question) -> Iterator[dict[int, Any]]:
        """Batches `{position: features}` of `(chat, completion)` pairs; see `tree.hidden_features`. Nothing is cached."""
        rows, starts = self._scoring_rows(pairs, question)
        yield from self._features(rows, starts, layers, question, set(rows))

    def _features(self, rows, starts, layers, question, wanted) -> Iterator[dict[int, Any]]:
        from course_lib.llms.tree import hidden_features

        closing = self.prompts.encode_question(question)
        ends = {p: len(row) for p, row in rows.items()}
        rows = {p: [*row, *closing] for p, row in rows.items()}

        def pool(todo, prefix):
            batch = [rows[p] for p in todo], [(starts[p], ends[p]) for p in todo]
            return hidden_features(self.hf_model, *batch, layers, prefix).numpy()

        yield from self._over_trees(rows, starts, wanted, pool)

    def _scoring_rows(self, pairs, closing: str = "") -> tuple[dict[int, list[int]], dict[int, int]]:
        """Token ids of prompt and completion, and where the completion begins; without what is empty or does not fit."""
        encode = cache(lambda text: self.prompts.encode(json.loads(text)))
        room = self.context - (len(self.prompts.encode_question(closing)) if closing else 0)
        rows, starts = {}, {}
        for position, (chat, completion) in enumerate(pairs):
            prompt, added = encode(json.dumps(chat)), self.prompts.encode_completion(completion)
            if added and len(prompt) + len(added) < room:
                rows[position], starts[position] = prompt + added, len(prompt)
        return rows, starts

    def _over_trees(self, rows, first_places, wanted, compute) -> Iterator[dict[int, Any]]:
        """`compute(positions, prefix)` over batches of `rows`; what all rows begin with is read once."""
        from course_lib.llms.tree import shared_length, tree_batches

        if not wanted & set(rows):
            return
        shared = shared_length(list(rows.values()), most=min(first_places.values()))
        prefix = self._prefix(next(iter(rows.values()))[:shared])
        for batch in tree_batches({p: row[prefix.length :] for p, row in rows.items()}, most_nodes(self.hf_model)):
            for part, found in self._in_memory([p for p in batch if p in wanted], lambda part: compute(part, prefix)):
                yield dict(zip(part, found, strict=True))

    def _prefix(self, tokens: list[int]):
        """What reading `tokens` left, or an empty prefix where memory does not allow to keep that beside the rows."""
        from course_lib.llms.tree import Prefix, read_prefix

        try:
            return read_prefix(self.hf_model, tokens)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return Prefix()


def _unwritable(prompt: list[int], context: int) -> dict[str, Any]:
    reason = f"prompt too long: {len(prompt)} tokens, context {context}"
    return {"text": None, "input_tokens": len(prompt), "output_tokens": 0, "finish_reason": reason}
