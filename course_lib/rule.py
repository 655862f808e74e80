"""A preference that code can check: one complete sentence, at most twenty words, a full stop at its end.

Chapter 6 teaches it to a small model with DPO. Whether a text keeps to it needs no judge, so what the training did can be
measured without one (verifiable instructions: Zhou et al. 2023, https://arxiv.org/abs/2311.07911).
"""

from course_lib.errors import InputError
from course_lib.paths import DATA
from course_lib.steps.base import Row, Step, StepInput, StepOutput
from course_lib.steps.filtering import words
from course_lib.steps.load import read_jsonl
from course_lib.steps.tasks.checks import broken_constraints

RULE = "Answer in one complete sentence of at most 20 words."
SHORTEST = 4  # words; with fewer it is hardly a complete sentence


def broken_rule(text: str) -> list[str]:
    """What `text` lacks: "1 sentence", "at most 20 words", "a full stop", "complete"; empty where it keeps to the rule."""
    text = text.strip()
    stop = [] if text.endswith(".") and not text.endswith("..") else ["a full stop"]
    whole = [] if len(words(text)) >= SHORTEST and "\n" not in text else ["complete"]
    return [*broken_constraints(RULE, text), *stop, *whole]


class RuleRating(Step):
    """Rates each of `generations` 5 if it keeps to the rule and 1 if it does not. Column: `ratings`."""

    inputs = ["generations"]
    outputs = ["ratings"]

    def process(self, rows: StepInput) -> StepOutput:
        yield [
            {**row, "ratings": [1.0 if broken_rule(text) else 5.0 for text in row["generations"]]}
            for row in rows
        ]


def rule_pairs(part: str = "train") -> list[Row]:
    """Pairs of `prompt`, `chosen` and `rejected` as texts, made by the pipeline of chapter 6 (`data/dpo.md`).

    Args:
        part: "train"; "test", of questions that are not in train; or "length", where both texts break the rule and the
            shorter one is chosen.
    """
    parts = ("train", "test", "length")
    if part not in parts:
        raise InputError(f"There is no part {part!r}; allowed: {', '.join(map(repr, parts))}.")
    rows = [row for row in read_jsonl(DATA / "dpo_pairs.jsonl") if row["part"] == part]
    return [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]


def rule_questions() -> list[str]:
    """The 48 questions, none of them among the pairs of "train", that a model is asked before and after training."""
    return [row["prompt"] for row in read_jsonl(DATA / "dpo_pairs.jsonl") if row["part"] == "ask"]


def pair_for_trl(pair: Row) -> dict[str, list[dict[str, str]]]:
    """A pair of texts as TRL takes it: each side a list of messages."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return {name: [{"role": role, "content": pair[name]}] for name, role in roles.items()}


def recorded_runs() -> list[Row]:
    """What `benchmarks/dpo.py` measured, a row for each condition and seed (`data/dpo.md`)."""
    return read_jsonl(DATA / "dpo_runs.jsonl")
