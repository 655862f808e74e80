"""Ratings read from probabilities, one completion at a time: by likelihood, by contrast, by yes or no.

Small models rate badly in words and well in probabilities. Each task here turns a score into a rating by the same
calibration: 3 is the mean score of the labelled answers that ship with the course (part "fit"), one standard deviation
is a point at first and less further out, `3 + 2 z / (1 + |z|)`, so that ratings stay within 1 and 5 and never collapse
into ties. `benchmarks/fit_judges.py` makes the numbers, `data/judge_fit.json` keeps them.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from course_lib.errors import InputError
from course_lib.llms.base import LLM, Chat
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.formatting import MODEL_COLUMNS
from course_lib.steps.load import DATA
from course_lib.steps.tasks.base import Task, framed, text_of, texts_of
from course_lib.steps.tasks.templating import filled, shipped

RELEVANCE_CUT = 10.0
RELEVANCE_POWER = 0.3


@cache
def fit() -> dict[str, Any]:
    """The calibration, from `data/judge_fit.json`."""
    return json.loads((DATA / "judge_fit.json").read_text(encoding="utf-8"))


@cache
def examples() -> dict[str, list[dict[str, str]]]:
    """Sets of worked examples for `ContrastRating`: `{"question", "good", "bad"}` each."""
    return json.loads((DATA / "judge_examples.json").read_text(encoding="utf-8"))


def squashed(z: float) -> float:
    """A rating from 1 to 5 for a score `z` standard deviations above the mean."""
    return round(3 + 2 * z / (1 + abs(z)), 4)


class _PointwiseRating(Task):
    """Rates each completion on its own: nothing that a neighbour says can change its rating.

    Columns: `ratings` (float in 1-5, or None for an empty completion), `model_name`. What each rating was made of
    stands in `distilabel_metadata`.
    """

    # A panel of models may stand in its place.
    llm: LLM | None = None

    inputs = {"instruction": True, "generations": True, **dict.fromkeys(MODEL_COLUMNS, False)}
    outputs = ["ratings", "model_name"]

    @property
    def judge_name(self) -> str:
        return " + ".join(dict.fromkeys(llm.model_name for llm in self.llms))

    def score(self, instructions: list[str], texts: list[str], authors: list[str | None]) -> list[dict[str, Any]]:
        """For each text `{"rating": float | None, …}` with whatever explains it."""
        raise TypeError(f"{type(self).__name__} must define score")

    def process(self, rows: StepInput) -> StepOutput:
        places = [
            (r, i) for r, row in enumerate(rows) for i, text in enumerate(texts_of(row, "generations", self)) if _said(text)
        ]
        instructions = [text_of(rows[r], "instruction", self) for r, _ in places]
        texts = [rows[r]["generations"][i] for r, i in places]
        scored = self.score(instructions, texts, [_author(rows[r], i) for r, i in places])
        how = [[{"rating": None, "reason": "empty completion"} for _ in row["generations"]] for row in rows]
        for (r, i), one in zip(places, scored, strict=True):
            how[r][i] = one
        yield [self._finished(row, one) for row, one in zip(rows, how, strict=True)]

    def _finished(self, row: Row, how: list[dict[str, Any]]) -> Row:
        explained = [{"judge": f"{type(self).__name__}, {self.judge_name}", **one} for one in how]
        metadata = {**(row.get("distilabel_metadata") or {}), f"raw_output_{self.name}": explained}
        ratings = [one["rating"] for one in how]
        return {**row, "ratings": ratings, "model_name": self.judge_name, "distilabel_metadata": metadata}


class LikelihoodRating(_PointwiseRating):
    """Rates by the mean log-probability per token of a completion given its instruction, under a panel of models.

    Args:
        panel: the models.
        leave_author_out: a model does not rate what it wrote itself, as long as another one is left.

    Likelihood prefers short and bland text, and a model's own; see `docs/judges.md`.
    """

    panel: list[LLM]
    leave_author_out: bool = True

    def __post_init__(self):
        super().__post_init__()
        _need_probabilities(self, self.panel)

    @property
    def llms(self) -> list[LLM]:
        return self.panel

    def format_input(self, row: Row) -> Chat:
        return [{"role": "user", "content": text_of(row, "instruction", self)}]

    def score(self, instructions: list[str], texts: list[str], authors: list[str | None]) -> list[dict[str, Any]]:
        chats = [self.format_input({"instruction": instruction}) for instruction in instructions]
        means = [llm.log_likelihood(chats, texts).tolist() for llm in self.panel]
        return [self._rated(author, [one[i] for one in means]) for i, author in enumerate(authors)]

    def _rated(self, author: str | None, means: list[float]) -> dict[str, Any]:
        named = {llm.model_name: mean for llm, mean in zip(self.panel, means, strict=True)}
        votes = {name: mean for name, mean in named.items() if not (self.leave_author_out and name == author)} or named
        zs = [(mean - _moments(name)["mean"]) / _moments(name)["sd"] for name, mean in votes.items()]
        return _explained(sum(zs) / len(zs), log_likelihoods={name: round(mean, 4) for name, mean in votes.items()})


@dataclass(frozen=True)
class Frame:
    """A model and worked examples. `relevance`: does this frame also measure what the instruction explains?"""

    llm: LLM
    examples: str
    relevance: bool = True

    def chat(self, instruction: str, side: str) -> Chat:
        """The examples, each answered from `side` ("good" or "bad"), then `instruction`."""
        turns = [(example["question"], example[side]) for example in examples()[self.examples]]
        told = [
            {"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        return [*told, {"role": "user", "content": instruction}]


class ContrastRating(_PointwiseRating):
    """Rates by what worked examples of good and bad answers make of a completion. The default judge.

    Two features, summed with the weights of the fit:

    - `style`: log p(completion | good examples, instruction) − log p(completion | bad examples, instruction), the
      log-odds that whoever gave the good examples also wrote this; rude, padded, vague and broken-off text falls behind.
    - `relevance`: log p(completion | good examples, instruction) − log p(completion), divided by tokens to the power of
      0.3 and cut off at 10: how much of the completion the instruction explains; near 0 for an answer to something else.

    Both are means over the `frames`. Being differences, they do not favour text that a model finds likely as such.
    """

    frames: list[Frame]

    def __post_init__(self):
        super().__post_init__()
        _need_probabilities(self, self.llms)

    @property
    def llms(self) -> list[LLM]:
        return list({id(frame.llm): frame.llm for frame in self.frames}.values())

    def print(self, sample: Row | None = None) -> None:
        instruction = (sample or {}).get("instruction", "<INSTRUCTION>")
        for side in ("good", "bad"):
            print(framed(f"{type(self).__name__}, {side} examples", self.frames[0].chat(instruction, side)))

    def score(self, instructions: list[str], texts: list[str], authors: list[str | None]) -> list[dict[str, Any]]:
        features = [self._features(frame, instructions, texts) for frame in self.frames]
        return [self._rated([one[i] for one in features]) for i in range(len(texts))]

    def _features(self, frame: Frame, instructions: list[str], texts: list[str]) -> list[dict[str, float]]:
        good, bad = (
            [sum(logs) for logs in frame.llm.token_log_probs([frame.chat(one, side) for one in instructions], texts)]
            for side in ("good", "bad")
        )
        found = [{"style": a - b} for a, b in zip(good, bad, strict=True)]
        if frame.relevance:
            alone = frame.llm.token_log_probs([[]] * len(texts), texts)
            for one, a, logs in zip(found, good, alone, strict=True):
                one["relevance"] = a - sum(logs)
                one["tokens"] = len(logs)
        return found

    def _rated(self, frames: list[dict[str, float]]) -> dict[str, Any]:
        style = sum(one["style"] for one in frames) / len(frames)
        related = [one for one in frames if "relevance" in one]
        if not all(one["tokens"] for one in related):
            return {"rating": None, "reason": "longer than the context of the judge"}
        relevance = sum(one["relevance"] for one in related) / len(related) / related[-1]["tokens"] ** RELEVANCE_POWER
        features = {"style": style, "relevance": min(relevance, RELEVANCE_CUT)}
        total = sum(fit()["contrast"][name] * value for name, value in features.items())
        z = (total - fit()["contrast"]["mean"]) / fit()["contrast"]["sd"]
        return _explained(z, **{name: round(value, 4) for name, value in features.items()})


class YesNoRating(_PointwiseRating):
    """Rates by the probability of "Yes" to the question whether a completion is correct and helpful; `1 + 4 p`."""

    llm: LLM

    def __post_init__(self):
        super().__post_init__()
        _need_probabilities(self, self.llms)

    def format_input(self, row: Row) -> Chat:
        text = row["generations"][0]
        content = filled(shipped("yes_no"), instruction=text_of(row, "instruction", self), text=text)
        return [{"role": "user", "content": content}]

    def sample(self) -> Row:
        return {"generations": ["<GENERATION>"]}

    def score(self, instructions: list[str], texts: list[str], authors: list[str | None]) -> list[dict[str, Any]]:
        rows = [{"instruction": i, "generations": [text]} for i, text in zip(instructions, texts, strict=True)]
        found = self.llm.choice_probabilities([self.format_input(row) for row in rows], ["Yes", "No"])
        return [{"rating": round(1 + 4 * yes, 4), "probability_yes": round(yes, 4)} for yes in found[:, 0].tolist()]


def _explained(z: float, **features: Any) -> dict[str, Any]:
    if math.isnan(z):
        return {"rating": None, "reason": "longer than the context of the judge"}
    return {"rating": squashed(z), "z": round(z, 4), **features}


def _moments(name: str) -> dict[str, float]:
    """Mean and standard deviation of the log-likelihoods of labelled answers; for models without a fit, the mean of those with."""
    known = fit()["likelihood"]
    return known.get(name) or {key: sum(one[key] for one in known.values()) / len(known) for key in ("mean", "sd")}


def _need_probabilities(step: Task, llms: list[LLM]) -> None:
    hidden = [llm for llm in llms if not llm.can_score]
    if hidden or not llms:
        raise InputError(
            f"Step {step.name!r} needs models whose probabilities can be seen, such as TransformersLLM; got {hidden}."
        )


def _said(text: str | None) -> bool:
    return bool(text and text.strip())


def _author(row: Row, place: int) -> str | None:
    models = next((row[column] for column in MODEL_COLUMNS if row.get(column)), [])
    return models[place] if place < len(models) else None
