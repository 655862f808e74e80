"""From rated completions to preference pairs."""

import hashlib
import math
from numbers import Real

from course_lib.llms.base import CUT_OFF
from course_lib.steps.base import Row, Step, StepInput, StepOutput, dropped
from course_lib.steps.filtering import similarity
from course_lib.steps.prompts import OPTIONAL, prompt_of, prompt_text

MODEL_COLUMNS = ("generation_models", "model_names")


class FormatTextGenerationDPO(Step):
    """Makes the best-rated completion `chosen` and the worst-rated `rejected`.

    A row without a real pair is dropped with a reason: `empty completion`, `cut off`, `missing rating`, `tie`,
    `identical completions`, `too similar`, `margin too small`, and `duplicate instruction` where an earlier row of
    the run gave the same pair. A text that was cut off (by `finish_reasons`, where
    the rows have them) is on neither side: it would teach a model to stop in mid-sentence.

    Args:
        min_margin: least difference of ratings; 0 asks only that they differ.
        max_similarity: largest share of common words, 0 to 1 (see `filtering.similarity`).

    `chosen` and `rejected` are whole conversations, as in distilabel; `Distiset.to_trl()` gives what TRL takes.
    Columns `generation_models` (or `model_names`) name the authors where they are known. A row's `system_prompt`
    stands before its instruction, in `prompt` as text, in `chosen` and `rejected` as a message; see `prompts`.
    """

    min_margin: float = 0.0
    max_similarity: float = 0.9

    inputs = {
        "instruction": True,
        "generations": True,
        "ratings": True,
        **dict.fromkeys([*MODEL_COLUMNS, "finish_reasons", *OPTIONAL], False),
    }
    outputs = [
        "prompt", "prompt_id", "chosen", "chosen_model", "chosen_rating", "rejected", "rejected_model", "rejected_rating",
    ]  # fmt: skip

    def load(self) -> None:
        self._known: set[int] = set()

    def unload(self) -> None:
        del self._known

    def process(self, rows: StepInput) -> StepOutput:
        known = getattr(self, "_known", set())
        yield [self._formatted(row, known) for row in rows]

    def _formatted(self, row: Row, known: set[int]) -> Row:
        written = [i for i, text in enumerate(row["generations"]) if text and text.strip()]
        whole = [i for i in written if _at(row.get("finish_reasons"), i) != CUT_OFF]
        rated = [i for i in whole if is_rating(_at(row["ratings"], i))]
        if len(written) < 2:
            return dropped(row, "empty completion")
        if len(rated) < 2:
            return dropped(row, "cut off" if len(whole) < 2 else "missing rating")
        best = max(rated, key=lambda i: row["ratings"][i])
        worst = min(rated, key=lambda i: row["ratings"][i])
        if reason := self._fault(row, best, worst):
            return dropped(row, reason)
        # A number for each pair, not its texts: there may be a million.
        number = hash((prompt_text(row), row["generations"][best], row["generations"][worst]))
        if number in known:
            return dropped(row, "duplicate instruction")
        known.add(number)
        return {**row, **_pair(row, best, worst)}

    def _fault(self, row: Row, best: int, worst: int) -> str | None:
        margin = row["ratings"][best] - row["ratings"][worst]
        if margin == 0:
            return "tie"
        if margin < self.min_margin:
            return "margin too small"
        alike = similarity(row["generations"][best], row["generations"][worst])
        if alike == 1:
            return "identical completions"
        return "too similar" if alike > self.max_similarity else None


def is_rating(value) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _at(values, i: int):
    return values[i] if values is not None and i < len(values) else None


def _pair(row: Row, best: int, worst: int) -> Row:
    prompt, text = prompt_of(row), prompt_text(row)
    models = next((row[column] for column in MODEL_COLUMNS if row.get(column)), [])
    pair: Row = {
        "prompt": text,
        "prompt_id": hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
    }
    for side, i in (("chosen", best), ("rejected", worst)):
        pair[side] = [*prompt, {"role": "assistant", "content": row["generations"][i]}]
        pair[f"{side}_model"] = _at(models, i)
        pair[f"{side}_rating"] = row["ratings"][i]
    return pair
