"""From rated completions to preference pairs."""

import hashlib
import math
from dataclasses import dataclass
from itertools import zip_longest
from numbers import Real
from operator import attrgetter
from typing import Any

import numpy as np

from course_lib.errors import InputError
from course_lib.llms.base import CUT_OFF
from course_lib.steps.base import Row, Step, StepInput, StepOutput, dropped
from course_lib.steps.filtering import repeats, similarity
from course_lib.steps.prompts import OPTIONAL, prompt_of, prompt_text, with_question

MODEL_COLUMNS = ("generation_models", "model_names")


class FormatTextGenerationDPO(Step):
    """Makes the best-rated completion `chosen` and the worst-rated `rejected`.

    A row without a real pair is dropped with a reason: `no instruction`, `empty completion`, `cut off`,
    `prompt repeated`, `missing rating`, `tie`, `identical completions`, `too similar`, `margin too small`, and `duplicate
    instruction` where an earlier row of the run gave the same pair. A text that was cut off (`length` among
    the `finish_reasons` of rows that have them) is on neither side: it would teach to stop in mid-sentence.
    Nor is one that begins by repeating the whole instruction, with its `input`.

    Args:
        min_margin: least difference of ratings; 0 asks only that they differ.
        max_similarity: largest share of common words, 0 to 1 (see `filtering.similarity`).

    `chosen` and `rejected` are whole conversations, as in distilabel, and begin with the `system_prompt` of
    rows that have one, as `prompt` does; `Distiset.to_trl()` gives what TRL takes. Columns
    `generation_models` (or `model_names`) name the authors where they are known.
    """

    min_margin: float = 0.0
    max_similarity: float = 0.9

    inputs = {
        **dict.fromkeys(["instruction", "generations", "ratings"], True),
        **dict.fromkeys([*MODEL_COLUMNS, "finish_reasons", *OPTIONAL], False),
    }
    outputs = [
        "prompt", "prompt_id", "chosen", "chosen_model", "chosen_rating",
        "rejected", "rejected_model", "rejected_rating",
    ]  # fmt: skip

    def load(self) -> None:
        self._known: set[int] = set()

    def unload(self) -> None:
        del self._known

    def process(self, rows: StepInput) -> StepOutput:
        known = getattr(self, "_known", set())  # outside a run each call stands alone
        yield [self._formatted(row, known) for row in rows]

    def _formatted(self, row: Row, known: set[int]) -> Row:
        if not isinstance(row["instruction"], str):
            return dropped(row, "no instruction")
        written = [candidate for candidate in _candidates(row) if candidate.text.strip()]
        whole = [candidate for candidate in written if candidate.finish_reason != CUT_OFF]
        question = prompt_of(row)[-1]["content"]
        answers = [candidate for candidate in whole if not repeats(candidate.text, question)]
        rated = [candidate for candidate in answers if is_rating(candidate.rating)]
        stages = {
            "empty completion": written,
            "cut off": whole,
            "prompt repeated": answers,
            "missing rating": rated,
        }
        for reason, candidates in stages.items():
            if len(candidates) < 2:
                return dropped(row, reason)
        best, worst = (extreme(rated, key=attrgetter("rating")) for extreme in (max, min))
        if fault := self._fault(best, worst):
            return dropped(row, fault)
        # A number for each pair, not its texts: there may be a million.
        number = hash((prompt_text(row), best.text, worst.text))
        if number in known:
            return dropped(row, "duplicate instruction")
        known.add(number)
        return {**row, **_pair(row, best, worst)}

    def _fault(self, best: "Candidate", worst: "Candidate") -> str | None:
        margin = best.rating - worst.rating
        if margin == 0:
            return "tie"
        if margin < self.min_margin:
            return "margin too small"
        alike = similarity(best.text, worst.text)
        if alike == 1:
            return "identical completions"
        return "too similar" if alike > self.max_similarity else None


class FormatChatGenerationDPO(FormatTextGenerationDPO):
    """As `FormatTextGenerationDPO`, for the last question of the conversation in `messages`."""

    inputs = {**FormatTextGenerationDPO.inputs, "instruction": False, "messages": True}

    def _formatted(self, row: Row, known: set[int]) -> Row:
        return super()._formatted(with_question(row), known)


class FormatTextGenerationSFT(Step):
    """Makes a row for supervised fine-tuning of a prompt and its `generation`: `prompt`, `prompt_id`, `messages`."""

    inputs = {"instruction": True, "generation": True, **dict.fromkeys(OPTIONAL, False)}
    outputs = ["prompt", "prompt_id", "messages"]

    def process(self, rows: StepInput) -> StepOutput:
        yield [self._formatted(row) for row in rows]

    def _formatted(self, row: Row) -> Row:
        if not _text(row["generation"], row).strip():
            return dropped(row, "empty completion")
        if row.get("finish_reason") == CUT_OFF:
            return dropped(row, "cut off")
        messages = [*prompt_of(row), {"role": "assistant", "content": row["generation"]}]
        return {**row, **_named(row), "messages": messages}


class FormatChatGenerationSFT(FormatTextGenerationSFT):
    """As `FormatTextGenerationSFT`, for the last question of the conversation in `messages`."""

    inputs = {**FormatTextGenerationSFT.inputs, "instruction": False, "messages": True}

    def _formatted(self, row: Row) -> Row:
        return super()._formatted(with_question(row))


@dataclass
class Candidate:
    """A completion and what is known of it."""

    text: str
    rating: Any
    model: str | None
    finish_reason: str | None


def _candidates(row: Row) -> list[Candidate]:
    texts = [_text(value, row) for value in _listed(row, "generations")]
    models = next(filter(None, (_listed(row, column) for column in MODEL_COLUMNS)), [])
    known = [
        values[: len(texts)] for values in (_listed(row, "ratings"), models, _listed(row, "finish_reasons"))
    ]
    return [Candidate(*values) for values in zip_longest(texts, *known)]


def _listed(row: Row, column: str) -> list[Any]:
    value = row.get(column)
    if value is None or isinstance(value, list | tuple | np.ndarray):
        return [] if value is None else list(value)
    raise InputError(
        f"The column {column!r} must be a list, but a row has {repr(value)[:60]}: {repr(row)[:200]}"
    )


def _text(value: Any, row: Row) -> str:
    """A completion, or the last message of a conversation; an empty text for None and NaN."""
    if isinstance(value, list | np.ndarray) and len(value) and isinstance(value[-1], dict):
        value = value[-1].get("content")
    if value is None or isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, str):
        return value
    raise InputError(f"A completion must be text, but a row has {repr(value)[:60]}: {repr(row)[:200]}")


def is_rating(value: Any) -> bool:
    """Whether `value` is a finite number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _named(row: Row) -> Row:
    prompt = prompt_text(row)
    return {"prompt": prompt, "prompt_id": hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()}


def _pair(row: Row, best: Candidate, worst: Candidate) -> Row:
    pair = _named(row)
    for side, candidate in (("chosen", best), ("rejected", worst)):
        pair[side] = [*prompt_of(row), {"role": "assistant", "content": candidate.text}]
        pair[f"{side}_model"], pair[f"{side}_rating"] = candidate.model, candidate.rating
    return pair
