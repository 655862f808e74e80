"""Ratings read from inside a model, one completion at a time: by likelihood, by a reward head, by yes or no.

Small models say badly what they know well. Each task here turns a score into a rating by the same
calibration: 3 is the mean score of the labelled answers that ship with the course (part "fit"), one standard deviation
is a point at first and less further out, `3 + 2 z / (1 + |z|)`, so that ratings stay within 1 and 5 and never collapse
into ties. `benchmarks/fit_judges.py` makes the numbers, `data/judge_fit.json` keeps them.
"""

import json
import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from course_lib.llms.base import LLM, Chat, LinearHead
from course_lib.paths import DATA
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.formatting import MODEL_COLUMNS
from course_lib.steps.tasks.base import Task
from course_lib.steps.tasks.checks import faults_by_code
from course_lib.steps.tasks.judgements import TOO_LONG
from course_lib.steps.tasks.rows import chat_of, has_words, instruction_of, is_missing, list_of, texts_of
from course_lib.steps.tasks.templating import filled, shipped, without_middle

SHORTEST = 200  # characters of a completion that are always read
ROOM = " and" * 512  # as many tokens as a judge may put around instruction and completion

Score = dict[str, Any]  # {"rating": float | None, …} with whatever explains it
EMPTY: Score = {"rating": None, "reason": "empty completion"}


@cache
def fit() -> dict[str, Any]:
    """The calibration, from `data/judge_fit.json`."""
    return json.loads((DATA / "judge_fit.json").read_text(encoding="utf-8"))


@cache
def reward_head(model: str) -> LinearHead:
    """The head fitted for a packaged model; its scores have mean 0 and standard deviation 1 over labelled answers."""
    weights = np.load(DATA / "judge_heads.npz", allow_pickle=False)[model]
    return LinearHead(tuple(fit()["heads"][model]["layers"]), weights, fit()["heads"][model]["bias"])


def squashed(z: float) -> float:
    """A rating from 1 to 5 for a score `z` standard deviations above the mean."""
    return round(3 + 2 * z / (1 + abs(z)), 4)


class Completion(NamedTuple):
    """A completion to rate; `shortened`: its middle was cut out."""

    row: Row
    text: str
    author: str | None
    shortened: bool


class _PointwiseRating(Task):
    """Rates each completion on its own: nothing that a neighbour says can change its rating.

    Columns: `ratings` (float in 1-5, or None for an empty completion), `model_name`. What each rating was made of
    stands in `distilabel_metadata`.
    """

    # A panel of models may stand in its place.
    llm: LLM | None = None

    inputs = {"instruction": True, "generations": True, **dict.fromkeys(MODEL_COLUMNS, False)}
    outputs = ["ratings", "model_name"]

    def check(self) -> None:
        hidden = [llm for llm in self.llms if not llm.can_score]
        needed = "it needs models whose probabilities can be seen, such as TransformersLLM"
        self.refuse({f"{needed}; got {hidden}.": hidden or not self.llms})

    def score(self, completions: list[Completion]) -> list[Score]:
        raise TypeError(f"{type(self).__name__} must define score")

    def process(self, rows: StepInput) -> StepOutput:
        read = [
            [self._read(row, place, text) for place, text in enumerate(texts_of(row, "generations", self))]
            for row in rows
        ]
        scores = iter(self.score([completion for own in read for completion in own if completion]))
        rated = [
            [{**next(scores), "shortened": each.shortened} if each else EMPTY for each in own] for own in read
        ]
        yield [self._finished(row, own) for row, own in zip(rows, rated, strict=True)]

    def _read(self, row: Row, place: int, whole: str | None) -> Completion | None:
        """The completion, cut in the middle until every model can read it after the prompt; None without words."""
        if not has_words(whole):
            return None
        before, text = f"{ROOM}{instruction_of(row, self)}\n", whole
        while len(text) > SHORTEST and not all(llm.fits(before + text) for llm in self.llms):
            text = without_middle(text)
        column = next((column for column in MODEL_COLUMNS if not is_missing(row.get(column))), None)
        authors = list_of(row, column, self)[place:] if column else []
        return Completion(row, text, authors[0] if authors else None, text != whole)

    def _finished(self, row: Row, scores: list[Score]) -> Row:
        panel = " + ".join(dict.fromkeys(llm.model_name for llm in self.llms))
        judge = {"judge": f"{type(self).__name__}, {panel}", "mode": "pointwise"}
        kept = {f"raw_output_{self.name}": [{**judge, **s} for s in scores]} if self.add_raw_output else {}
        metadata = {**(row.get("distilabel_metadata") or {}), **kept}
        ratings = [score["rating"] for score in scores]
        return {**row, "ratings": ratings, "model_name": panel, "distilabel_metadata": metadata}


class _PanelRating(_PointwiseRating):
    """A pointwise rating by several models, each of which reads the instruction as a chat."""

    panel: list[LLM]
    leave_author_out: bool = True

    @property
    def llms(self) -> list[LLM]:
        return self.panel

    def format_input(self, row: Row) -> Chat:
        return chat_of(row, self)

    def pairs(self, completions: list[Completion]) -> tuple[list[Chat], list[str]]:
        """What the models read: the prompts, and the texts."""
        return [self.format_input(each.row) for each in completions], [each.text for each in completions]

    def log_likelihoods(self, completions: list[Completion]) -> list[dict[str, float]]:
        """For each text its mean log-probability per token, by model; without its author, if other models remain."""
        means: list[dict[str, float]] = [{} for _ in completions]
        alone = len({llm.model_name for llm in self.panel}) == 1
        for llm in self.panel:
            skipped = {llm.model_name} if self.leave_author_out and not alone else set()
            others = [i for i, completion in enumerate(completions) if completion.author not in skipped]
            by_text = llm.log_likelihood(*self.pairs([completions[i] for i in others]))
            for i, mean in zip(others, by_text.tolist(), strict=True):
                means[i][llm.model_name] = mean
        return means


class LikelihoodRating(_PanelRating):
    """Rates by the mean log-probability per token of a completion given its instruction, under a panel of models.

    Args:
        panel: the models.
        leave_author_out: a model does not rate what it wrote itself, as long as another one is left.

    Likelihood prefers what is easy to predict, padding included; `docs/judges.md` has its figures.
    """

    def score(self, completions: list[Completion]) -> list[Score]:
        likelihoods = self.log_likelihoods(completions)
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

    def check(self) -> None:
        super().check()
        known = fit()["heads"]
        unknown = ", ".join(llm.model_name for llm in self.panel if llm.model_name not in known)
        self.refuse({f"no reward head for {unknown}; there is one for {', '.join(known)}.": unknown})

    def score(self, completions: list[Completion]) -> list[Score]:
        pairs, heads = self.pairs(completions), {}
        for llm in self.panel:
            heads[llm.model_name] = llm.head_scores(*pairs, reward_head(llm.model_name)).tolist()
        scores = []
        for i, means in enumerate(self.log_likelihoods(completions)):
            votes = {**{name: values[i] for name, values in heads.items()}, "likelihood": _mean_z(means)}
            weights = {name: fit()["weights"][name] for name in votes}
            # The input is material, whatever form it asks for.
            asked = instruction_of({**completions[i].row, "input": None}, self)
            broken = faults_by_code(asked, completions[i].text)
            penalty = fit()["broken"] if broken else 0.0
            mean = sum(weights[name] * vote for name, vote in votes.items()) / sum(weights.values())
            how = {"votes": _rounded(votes), "weights": weights, "log_likelihoods": _rounded(means)}
            scores.append(_explained(mean - penalty, **how, broken=", ".join(broken), penalty=penalty))
        return scores


class YesNoRating(_PointwiseRating):
    """Rates by the probability of "Yes" to the question whether a completion is correct and helpful; `1 + 4 p`."""

    llm: LLM

    def format_input(self, row: Row) -> Chat:
        text = row["generations"][0]
        content = filled(shipped("yes_no"), instruction=instruction_of(row, self), text=text)
        return [{"role": "user", "content": content}]

    def sample(self) -> Row:
        return {"generations": ["<GENERATION>"]}

    def score(self, completions: list[Completion]) -> list[Score]:
        chats = [self.format_input({**each.row, "generations": [each.text]}) for each in completions]
        yes = self.llm.choice_probabilities(chats, ["Yes", "No"])[:, 0].tolist()
        return [{"rating": round(1 + 4 * p, 4), "probability_yes": round(p, 4)} for p in yes]


def _explained(z: float, **features: Any) -> Score:
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
    z = ((mean - fits[name]["mean"]) / fits[name]["sd"] for name, mean in log_likelihoods.items())
    return sum(z) / len(log_likelihoods)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
