"""Ratings read from inside a model, one completion at a time: by likelihood, by a reward head, by yes or no.

Small models say badly what they know well. Each task here turns a score into a rating by the same
calibration: 3 is the mean score of the labelled answers that ship with the course (part "fit"), one standard deviation
is a point at first and less further out, `3 + 2 z / (1 + |z|)`, so that ratings stay within 1 and 5 and never collapse
into ties. `benchmarks/fit_judges.py` makes the numbers, `data/judge_fit.json` keeps them.
"""

import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from course_lib.errors import InputError
from course_lib.llms.base import LLM, Chat, LinearHead
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.formatting import MODEL_COLUMNS
from course_lib.steps.load import DATA
from course_lib.steps.tasks.base import Task
from course_lib.steps.tasks.checks import faults_by_code
from course_lib.steps.tasks.rows import has_words, instruction_of, text_of, texts_of
from course_lib.steps.tasks.templating import TOO_LONG, filled, shipped, without_middle

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

    def score(
        self, instructions: list[str], texts: list[str], authors: list[str | None]
    ) -> list[dict[str, Any]]:
        """For each text `{"rating": float | None, …}` with whatever explains it."""
        raise TypeError(f"{type(self).__name__} must define score")

    def process(self, rows: StepInput) -> StepOutput:
        completions = [
            (row, place)
            for row in rows
            for place, text in enumerate(texts_of(row, "generations", self))
            if has_words(text)
        ]
        instructions = [instruction_of(row, self) for row, _ in completions]
        whole = [row["generations"][place] for row, place in completions]
        texts = list(map(self._fitting, instructions, whole))
        scores = self.score(instructions, texts, [_author(row, place) for row, place in completions])
        judgements = iter(
            [
                {**score, "shortened": text != original}
                for score, text, original in zip(scores, texts, whole, strict=True)
            ]
        )
        yield [self._finished(row, judgements) for row in rows]

    def _fitting(self, instruction: str, text: str) -> str:
        """`text`, cut in the middle until every model can read it after the instruction."""
        while len(text) > SHORTEST and not all(llm.fits(f"{ROOM}{instruction}\n{text}") for llm in self.llms):
            text = without_middle(text)
        return text

    def _finished(self, row: Row, judgements: Iterator[dict[str, Any]]) -> Row:
        empty = {"rating": None, "reason": "empty completion"}
        own = [next(judgements) if has_words(text) else empty for text in row["generations"]]
        judge = {"judge": f"{type(self).__name__}, {self.judge_name}", "mode": "pointwise"}
        kept = {f"raw_output_{self.name}": [{**judge, **j} for j in own]} if self.add_raw_output else {}
        metadata = {**(row.get("distilabel_metadata") or {}), **kept}
        ratings = [judgement["rating"] for judgement in own]
        return {**row, "ratings": ratings, "model_name": self.judge_name, "distilabel_metadata": metadata}


class _PanelRating(_PointwiseRating):
    """A pointwise rating by several models, each of which reads the instruction as a chat."""

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

    def chats(self, instructions: list[str]) -> list[Chat]:
        return [self.format_input({"instruction": instruction}) for instruction in instructions]

    def log_likelihoods(
        self, chats: list[Chat], texts: list[str], authors: list[str | None]
    ) -> list[dict[str, float]]:
        """For each text its mean log-probability per token, by model; without its author, if other models remain."""
        means: list[dict[str, float]] = [{} for _ in texts]
        alone = len({llm.model_name for llm in self.panel}) == 1
        for llm in self.panel:
            skipped = {llm.model_name} if self.leave_author_out and not alone else set()
            mine = [i for i, author in enumerate(authors) if author not in skipped]
            by_text = llm.log_likelihood([chats[i] for i in mine], [texts[i] for i in mine])
            for i, mean in zip(mine, by_text.tolist(), strict=True):
                means[i][llm.model_name] = mean
        return means


class LikelihoodRating(_PanelRating):
    """Rates by the mean log-probability per token of a completion given its instruction, under a panel of models.

    Args:
        panel: the models.
        leave_author_out: a model does not rate what it wrote itself, as long as another one is left.

    Likelihood prefers what is easy to predict, padding included; `docs/judges.md` has its figures.
    """

    def score(
        self, instructions: list[str], texts: list[str], authors: list[str | None]
    ) -> list[dict[str, Any]]:
        likelihoods = self.log_likelihoods(self.chats(instructions), texts, authors)
        return [_explained(_mean_z(means), log_likelihoods=_rounded(means)) for means in likelihoods]


class RewardHeadRating(_PanelRating):
    """Rates by linear reward heads on the hidden states of frozen models, and more. The default judge.

    A reward model is a language model with a linear layer in place of its vocabulary (Ouyang et al. 2022, 2203.02155).
    Here the language model stays as it is, and only the layer is fitted, on the labelled answers that ship with the course.
    Tone, form, completeness and relevance show in the heads; a false word shows better in the likelihood, so that has a vote
    too. What code can check, no model judges: a completion that breaks a constraint of its instruction or holds a
    false sum (`checks.py`) is marked down for it.

    Args:
        panel: models for which a head was fitted: the packaged ones.
        leave_author_out: the likelihood under a model does not count for what it wrote itself, as long as another one is left.
    """

    def __post_init__(self):
        super().__post_init__()
        unknown = [llm.model_name for llm in self.panel if llm.model_name not in fit()["heads"]]
        if unknown:
            known = ", ".join(fit()["heads"])
            raise InputError(
                f"Step {self.name!r}: there is no reward head for {', '.join(unknown)}; there is one for {known}."
            )

    def score(
        self, instructions: list[str], texts: list[str], authors: list[str | None]
    ) -> list[dict[str, Any]]:
        chats, kept = self.chats(instructions), fit()
        votes = {
            llm.model_name: llm.head_scores(chats, texts, reward_head(llm.model_name)) for llm in self.panel
        }
        likelihoods = self.log_likelihoods(chats, texts, authors)
        scores = []
        for i, (instruction, text, means) in enumerate(zip(instructions, texts, likelihoods, strict=True)):
            own = {**{name: float(heads[i]) for name, heads in votes.items()}, "likelihood": _mean_z(means)}
            weights = {name: kept["weights"][name] for name in own}
            broken = faults_by_code(instruction, text)
            penalty = kept["broken"] if broken else 0.0
            z = sum(weights[name] * vote for name, vote in own.items()) / sum(weights.values()) - penalty
            how = {"votes": _rounded(own), "weights": weights, "log_likelihoods": _rounded(means)}
            scores.append(_explained(z, **how, broken=", ".join(broken), penalty=penalty))
        return scores


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

    def score(
        self, instructions: list[str], texts: list[str], authors: list[str | None]
    ) -> list[dict[str, Any]]:
        rows = [
            {"instruction": i, "generations": [text]} for i, text in zip(instructions, texts, strict=True)
        ]
        answers = self.llm.choice_probabilities([self.format_input(row) for row in rows], ["Yes", "No"])
        return [
            {"rating": round(1 + 4 * p, 4), "probability_yes": round(p, 4)} for p in answers[:, 0].tolist()
        ]


def _explained(z: float, **features: Any) -> dict[str, Any]:
    if math.isnan(z):
        return {"rating": None, "reason": TOO_LONG}
    return {"rating": squashed(z), "z": round(z, 4), **features}


def _mean_z(log_likelihoods: dict[str, float]) -> float:
    """How many standard deviations above the mean of labelled answers, by model; the mean over the models.

    A model without a fit is measured by the mean of the others' fits.
    """
    known = fit()["likelihood"]
    usual = {key: sum(model[key] for model in known.values()) / len(known) for key in ("mean", "sd")}
    fits = {name: known.get(name, usual) for name in log_likelihoods}
    return sum(
        (mean - fits[name]["mean"]) / fits[name]["sd"] for name, mean in log_likelihoods.items()
    ) / len(log_likelihoods)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _need_probabilities(step: Task, llms: list[LLM]) -> None:
    hidden = [llm for llm in llms if not llm.can_score]
    if hidden or not llms:
        raise InputError(
            f"Step {step.name!r} needs models whose probabilities can be seen, such as TransformersLLM; got {hidden}."
        )


def _author(row: Row, place: int) -> str | None:
    models = next((row[column] for column in MODEL_COLUMNS if row.get(column)), [])
    return models[place] if place < len(models) else None
