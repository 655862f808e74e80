"""Ratings read from inside a model, one completion at a time: by likelihood, by a reward head, by yes or no.

Small models say badly what they know well. Each task here turns a score into a rating by the same
calibration: 3 is the mean score of the labelled answers that ship with the course (part "fit"), one standard deviation
is a point at first and less further out, `3 + 2 z / (1 + |z|)`, so that ratings stay within 1 and 5 and never collapse
into ties. `benchmarks/fit_judges.py` makes the numbers, `data/judge_fit.json` keeps them.
"""

import json
import math
from functools import cache
from typing import Any

from course_lib.constraints import broken_constraints
from course_lib.errors import InputError
from course_lib.llms.base import LLM, Chat, LinearHead
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.formatting import MODEL_COLUMNS
from course_lib.steps.load import DATA
from course_lib.steps.tasks.base import TOO_LONG, Task, has_words, text_of, texts_of, without_middle
from course_lib.steps.tasks.templating import filled, shipped
from course_lib.sums import false_sums

SHORTEST = 200  # characters of a completion that are always read
ROOM = " and" * 512  # as many tokens as a judge may put around instruction and completion


@cache
def fit() -> dict[str, Any]:
    """The calibration, from `data/judge_fit.json`."""
    return json.loads((DATA / "judge_fit.json").read_text(encoding="utf-8"))


@cache
def reward_head(model: str) -> LinearHead:
    """The head fitted for a packaged model; its scores have mean 0 and standard deviation 1 over labelled answers."""
    import numpy as np

    kept = fit()["heads"][model]
    weights = np.load(DATA / "judge_heads.npz", allow_pickle=False)[model]
    return LinearHead(tuple(kept["layers"]), weights, kept["bias"])


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
            (r, i) for r, row in enumerate(rows) for i, text in enumerate(texts_of(row, "generations", self)) if has_words(text)
        ]
        instructions = [text_of(rows[r], "instruction", self) for r, _ in places]
        texts = [self._fitting(i, rows[r]["generations"][p]) for i, (r, p) in zip(instructions, places, strict=True)]
        scored = self.score(instructions, texts, [_author(rows[r], i) for r, i in places])
        how = [[{"rating": None, "reason": "empty completion"} for _ in row["generations"]] for row in rows]
        for (r, i), text, one in zip(places, texts, scored, strict=True):
            how[r][i] = {**one, "shortened": text != rows[r]["generations"][i]}
        yield [self._finished(row, one) for row, one in zip(rows, how, strict=True)]

    def _fitting(self, instruction: str, text: str) -> str:
        """`text`, cut in the middle until every model can read it after the instruction."""
        while len(text) > SHORTEST and not all(llm.fits(f"{ROOM}{instruction}\n{text}") for llm in self.llms):
            text = without_middle(text)
        return text

    def _finished(self, row: Row, how: list[dict[str, Any]]) -> Row:
        explained = [{"judge": f"{type(self).__name__}, {self.judge_name}", **one} for one in how]
        metadata = {**(row.get("distilabel_metadata") or {}), f"raw_output_{self.name}": explained}
        ratings = [one["rating"] for one in how]
        return {**row, "ratings": ratings, "model_name": self.judge_name, "distilabel_metadata": metadata}


class _PanelRating(_PointwiseRating):
    """A pointwise rating by several models, each of which reads the instruction as a chat."""

    panel: list[LLM]

    def __post_init__(self):
        super().__post_init__()
        _need_probabilities(self, self.panel)

    @property
    def llms(self) -> list[LLM]:
        return self.panel

    def format_input(self, row: Row) -> Chat:
        return [{"role": "user", "content": text_of(row, "instruction", self)}]

    def chats(self, instructions: list[str]) -> list[Chat]:
        return [self.format_input({"instruction": instruction}) for instruction in instructions]


class LikelihoodRating(_PanelRating):
    """Rates by the mean log-probability per token of a completion given its instruction, under a panel of models.

    Args:
        panel: the models.
        leave_author_out: a model does not rate what it wrote itself, as long as another one is left.

    Likelihood prefers what is easy to predict, padding included; `docs/judges.md` has its figures.
    """

    leave_author_out: bool = True

    def score(self, instructions: list[str], texts: list[str], authors: list[str | None]) -> list[dict[str, Any]]:
        chats = self.chats(instructions)
        means = [llm.log_likelihood(chats, texts).tolist() for llm in self.panel]
        return [self._rated(author, [one[i] for one in means]) for i, author in enumerate(authors)]

    def _rated(self, author: str | None, means: list[float]) -> dict[str, Any]:
        named = {llm.model_name: mean for llm, mean in zip(self.panel, means, strict=True)}
        votes = {name: mean for name, mean in named.items() if not (self.leave_author_out and name == author)} or named
        zs = [_standardised(mean, name) for name, mean in votes.items()]
        return _explained(sum(zs) / len(zs), log_likelihoods={name: round(mean, 4) for name, mean in votes.items()})


class RewardHeadRating(_PanelRating):
    """Rates by linear reward heads on the hidden states of frozen models, and more. The default judge.

    A reward model is a language model with a linear layer in place of its vocabulary (Ouyang et al. 2022, 2203.02155).
    Here the language model stays as it is, and only the layer is fitted, on the labelled answers that ship with the course.
    Tone, form, completeness and relevance show in the heads; a false word shows better in the likelihood, so that under the
    last model has a vote too. What code can check, no model judges: a completion that breaks a constraint of its instruction
    (`constraints.py`) or holds a false sum (`sums.py`) is marked down for it.

    Args:
        panel: models for which a head was fitted: the packaged ones.
    """

    def __post_init__(self):
        super().__post_init__()
        unknown = [llm.model_name for llm in self.panel if llm.model_name not in fit()["heads"]]
        if unknown:
            known = ", ".join(fit()["heads"])
            raise InputError(f"Step {self.name!r}: there is no reward head for {', '.join(unknown)}; there is one for {known}.")

    def score(self, instructions: list[str], texts: list[str], authors: list[str | None]) -> list[dict[str, Any]]:
        chats, kept = self.chats(instructions), fit()
        votes = {llm.model_name: llm.head_scores(chats, texts, reward_head(llm.model_name)) for llm in self.panel}
        votes["likelihood"] = _standardised(self.panel[-1].log_likelihood(chats, texts), self.panel[-1].model_name)
        weights = {name: kept["weights"][name] for name in votes}
        zs = sum(weights[name] * one for name, one in votes.items()) / sum(weights.values())
        rated = []
        for i, (instruction, text) in enumerate(zip(instructions, texts, strict=True)):
            broken = [*broken_constraints(instruction, text), *false_sums(instruction, text)]
            named = {name: round(float(one[i]), 4) for name, one in votes.items()}
            z = float(zs[i]) - kept["broken"] * bool(broken)
            rated.append(_explained(z, votes=named, weights=weights, broken=", ".join(broken)))
        return rated


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
        return {"rating": None, "reason": TOO_LONG}
    return {"rating": squashed(z), "z": round(z, 4), **features}


def _standardised(log_likelihood, model: str):
    """In standard deviations above the mean of labelled answers; for a model without a fit, above that of the others."""
    known = fit()["likelihood"]
    mean, sd = (sum(one[key] for one in known.values()) / len(known) for key in ("mean", "sd"))
    kept = known.get(model, {"mean": mean, "sd": sd})
    return (log_likelihood - kept["mean"]) / kept["sd"]


def _need_probabilities(step: Task, llms: list[LLM]) -> None:
    hidden = [llm for llm in llms if not llm.can_score]
    if hidden or not llms:
        raise InputError(
            f"Step {step.name!r} needs models whose probabilities can be seen, such as TransformersLLM; got {hidden}."
        )


def _author(row: Row, place: int) -> str | None:
    models = next((row[column] for column in MODEL_COLUMNS if row.get(column)), [])
    return models[place] if place < len(models) else None
