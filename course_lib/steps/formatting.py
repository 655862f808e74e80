"""From rated completions to preference pairs."""

import hashlib
import math
from numbers import Real

from course_lib.steps.base import Row, Step, StepInput, StepOutput, dropped
from course_lib.steps.filtering import similarity

MODEL_COLUMNS = ("generation_models", "model_names")


class FormatTextGenerationDPO(Step):
    """Makes the best-rated completion `chosen` and the worst-rated `rejected`.

    A row without a real pair is dropped with a reason: `empty completion`, `missing rating`, `tie`,
    `identical completions`, `too similar`, `margin too small`.

    Args:
        min_margin: least difference of ratings; 0 asks only that they differ.
        max_similarity: largest share of common words, 0 to 1 (see `filtering.similarity`).

    `chosen` and `rejected` are whole conversations, as in distilabel; `Distiset.to_trl()` gives what TRL takes.
    Columns `generation_models` (or `model_names`) name the authors where they are known.
    """

    min_margin: float = 0.0
    max_similarity: float = 0.9

    inputs = {
        "instruction": True,
        "generations": True,
        "ratings": True,
        **dict.fromkeys(MODEL_COLUMNS, False),
    }
    outputs = [
        "prompt", "prompt_id", "chosen", "chosen_model", "chosen_rating", "rejected", "rejected_model", "rejected_rating",
    ]  # fmt: skip

    def process(self, rows: StepInput) -> StepOutput:
        yield [self._formatted(row) for row in rows]

    def _formatted(self, row: Row) -> Row:
        written = [i for i, text in enumerate(row["generations"]) if text and text.strip()]
        rated = [i for i in written if is_rating(_at(row["ratings"], i))]
        if len(rated) < 2:
            return dropped(row, "empty completion" if len(written) < 2 else "missing rating")
        best = max(rated, key=lambda i: row["ratings"][i])
        worst = min(rated, key=lambda i: row["ratings"][i])
        reason = self._fault(row, best, worst)
        return dropped(row, reason) if reason else {**row, **_pair(row, best, worst)}

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
    instruction = row["instruction"]
    models = next((row[column] for column in MODEL_COLUMNS if row.get(column)), [])
    pair: Row = {
        "prompt": instruction,
        "prompt_id": hashlib.sha256(instruction.encode("utf-8", "replace")).hexdigest(),
    }
    for side, i in (("chosen", best), ("rejected", worst)):
        pair[side] = [
            {"role": "user", "content": instruction},
            {"role": "assistant", "content": row["generations"][i]},
        ]
        pair[f"{side}_model"] = _at(models, i)
        pair[f"{side}_rating"] = row["ratings"][i]
    return pair
