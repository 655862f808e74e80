"""A preference pair, read from the forms in which people have it.

| form | columns |
|---|---|
| TRL's (https://huggingface.co/docs/trl/dataset_formats) and this library's | `chosen`, `rejected`, and mostly `prompt` |
| ultrafeedback_binarized and its kin | the same, with `score_chosen` and `score_rejected` |
| hh-rlhf | `chosen` and `rejected` as texts of turns that begin with `Human:` and `Assistant:` |
| two completions with scores | `response_a`, `response_b`, `score_a`, `score_b`, or such names |
| a list of completions with scores | `generations` and `ratings`, or `completions` that have both |
"""

import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from course_lib.conversations import as_list, messages_of
from course_lib.errors import InputError
from course_lib.llms.base import Chat
from course_lib.steps.base import Row
from course_lib.steps.prompts import part_of, prompt_of

SIDES = ("chosen", "rejected")
PROMPTS = ("instruction", "question", "query", "history", "post", "input")  # beside `prompt`
TEXTS = ("generations", "completions", "responses", "answers")
RATINGS = ("ratings", "scores")
TEXT_STEMS = "response|completion|answer|output|generation|text|conversation|ref"
RATING_STEMS = "score|rating|overall|reward"
SUFFIXES = (("a", "b"), ("A", "B"), ("0", "1"), ("1", "2"))


@dataclass
class Completion:
    """A text, or the whole conversation that ends with it, and what is known of it."""

    text: Any
    rating: float | None = None
    model: str | None = None
    place: int | None = None


@dataclass
class Pair:
    """Two conversations that end with a completion, the preferred one and the other, each with what is known of it.

    `system_prompt` is what the row says apart from its conversations.
    """

    chosen: Chat
    rejected: Chat
    known: tuple[Completion, Completion]
    system_prompt: str | None = None

    @property
    def prompt(self) -> str:
        """What was asked, without system prompt, as one text."""
        return "\n\n".join(message["content"] for message in self.chosen[:-1] if message["role"] != "system")

    @property
    def texts(self) -> tuple[str, str]:
        return self.chosen[-1]["content"], self.rejected[-1]["content"]

    @property
    def ratings(self) -> tuple[Any, Any]:
        return self.known[0].rating, self.known[1].rating


def reader(columns: Iterable[str]) -> Callable[[Row], Pair | str]:
    """What reads a row with these columns: its pair, or the reason why it has none.

    Raises:
        InputError: the columns are none of the forms. The reader raises it for a row whose messages are none.
    """
    names = set(columns)
    if names.issuperset(SIDES):
        completions = _sides(names)
    elif lists := [name for name in TEXTS if name in names]:
        completions = _listed(lists[0], next((name for name in RATINGS if name in names), None))
    elif numbered := _numbered(names):
        completions = numbered
    else:
        raise InputError(
            f"Columns {', '.join(sorted(names)) or '(none)'} are no preference data. Allowed: chosen and rejected, "
            "generations and ratings, or two texts with two scores, such as response_a, response_b, score_a, score_b."
        )
    return lambda row: _pair(row, completions(row))


def _pair(row: Row, completions: list[Completion]) -> Pair | str:
    if len(completions) < 2:
        return "missing rating"
    if any(_is_nothing(completion.text) for completion in completions):
        return "no pair"
    best, worst = completions[0], completions[-1]
    prompt = _prompt(row)
    chosen, rejected = (_conversation(row.get("prompt"), prompt, side.text) for side in (best, worst))
    if not prompt and isinstance(best.text, str) and len(chosen) == len(rejected) == 1:
        chosen, rejected = _without_shared_beginning(best.text, worst.text)
    return Pair(chosen, rejected, (best, worst), part_of(row, "system_prompt") or part_of(row, "system"))


def pair_fault(pair: Pair) -> str | None:
    """Why a trainer cannot learn from a pair, or None if it can."""
    chosen, rejected = pair.texts
    ratings = pair.ratings
    checks = {
        "empty completion": not chosen.strip() or not rejected.strip(),
        "the last message is not the assistant's": any(
            side[-1]["role"] != "assistant" for side in (pair.chosen, pair.rejected)
        ),
        "no prompt": len(pair.chosen) < 2 or len(pair.rejected) < 2,
        "chosen and rejected answer different prompts": pair.chosen[:-1] != pair.rejected[:-1],
        "identical completions": chosen == rejected,
        "tie": ratings[0] is not None and ratings[0] == ratings[1],
    }
    return next((fault for fault, is_so in checks.items() if is_so), None)


# --- completions -------------------------------------------------------------------------------------------------


def _sides(names: set[str]) -> Callable[[Row], list[Completion]]:
    """`chosen` and `rejected`, whose ratings and models have columns named after them."""
    facts = {}
    for side in SIDES:
        for fact, words in (("rating", "rating|score"), ("model", "model")):
            pattern = re.compile(rf"{side}[_-](?:{words})|(?:{words})[_-]{side}")
            facts[side, fact] = next(filter(pattern.fullmatch, sorted(names)), None)

    def completions(row: Row) -> list[Completion]:
        shown = row.get("generations")
        shown = list(shown) if isinstance(shown, list | np.ndarray) else []
        both = [
            Completion(row[side], *(row.get(facts[side, f]) for f in ("rating", "model"))) for side in SIDES
        ]
        for completion in both:
            text = _last_text(completion.text)
            completion.place = shown.index(text) if text in shown else None
        return both

    return completions


def _listed(texts: str, ratings: str | None) -> Callable[[Row], list[Completion]]:
    """The completions in a list, best first; those without rating are left out."""

    def completions(row: Row) -> list[Completion]:
        values, models = as_list(row[texts]), as_list(row.get("generation_models"))
        rated = as_list(row.get(ratings)) if ratings else [None] * len(values)
        entries = []
        for place, (value, rating) in enumerate(zip(values, rated, strict=False)):
            facts = value if isinstance(value, dict) else {"text": value, "rating": rating}
            text = _first(facts, "text", "response", "completion", "content", "generation")
            score = _first(facts, "rating", "score", "overall_score", "overall")
            model = facts.get("model") or (models[place] if place < len(models) else None)
            entries.append(Completion(text, number(score), model, place))
        return _best_first(entries)

    return completions


def _best_first(entries: list[Completion]) -> list[Completion]:
    """Those that have a rating."""
    rated = [entry for entry in entries if not math.isnan(entry.rating)]
    return sorted(rated, key=lambda entry: -entry.rating)


def _numbered(names: set[str]) -> Callable[[Row], list[Completion]] | None:
    """Two completions in columns that differ in their last sign, as their scores do; the better one first."""
    for pair in SUFFIXES:
        found = []
        for stems in (TEXT_STEMS, RATING_STEMS):
            forms = [rf"(?:.*[_-])?(?:(?:{stems})[_-]?{suffix}|{suffix}[_-](?:{stems}))" for suffix in pair]
            matches = [[name for name in names if re.fullmatch(form, name)] for form in forms]
            found.append([min(own, key=lambda name: (len(name), name), default=None) for own in matches])
        if all(name for columns in found for name in columns):
            return lambda row, found=found: _two(row, *found)
    return None


def _two(row: Row, texts: list[str], scores: list[str]) -> list[Completion]:
    both = zip(texts, scores, strict=True)
    return _best_first(
        [Completion(row[text], number(row[score]), None, place) for place, (text, score) in enumerate(both)]
    )


# --- prompts and conversations -----------------------------------------------------------------------------------


def _prompt(row: Row) -> Chat:
    """What a row says was asked; nothing where only its conversations know."""
    if "prompt" in row:
        system = part_of(row, "system_prompt") or part_of(row, "system")
        before = [{"role": "system", "content": system}] if system and isinstance(row["prompt"], str) else []
        return [*before, *messages_of(row["prompt"], "user")]
    column = next((name for name in PROMPTS if isinstance(row.get(name), str)), None)
    if column is None:
        return messages_of(row.get("context"), "user")
    parts = {
        "system_prompt": part_of(row, "system_prompt") or part_of(row, "system"),
        "instruction": row[column],
    }
    return prompt_of({**parts, "input": row.get("input") if column == "instruction" else None})


def _conversation(column: Any, prompt: Chat, value: Any) -> Chat:
    """A side as messages, the prompt among them once."""
    messages = messages_of(value, "assistant")
    listed = isinstance(column, list | tuple | np.ndarray)
    first = messages[0]["role"] if len(messages) > 1 else "assistant"
    whole = first == "system" or first == "user" and not listed or messages[: len(prompt)] == prompt
    return messages if whole else [*prompt, *messages]


def _without_shared_beginning(chosen: str, rejected: str) -> tuple[Chat, Chat]:
    """Two texts without prompt: what both begin with was asked, up to the last space, as TRL reads them."""
    shared = re.sub(r"\S*\Z", "", os.path.commonprefix([chosen, rejected])) if chosen != rejected else ""
    prompt = [{"role": "user", "content": shared.strip()}] if shared.strip() else []
    start = len(shared) if prompt else 0
    return tuple([*prompt, {"role": "assistant", "content": text[start:]}] for text in (chosen, rejected))


# --- values ------------------------------------------------------------------------------------------------------


def _is_nothing(value: Any) -> bool:
    return value is None or value != value or isinstance(value, list) and not value


def number(value: Any) -> float:
    """A rating as a number, nan where there is none."""
    try:
        return float("nan" if value is None or isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _first(facts: dict[str, Any], *names: str) -> Any:
    return next((facts[name] for name in names if facts.get(name) is not None), None)


def _last_text(value: Any) -> Any:
    messages = as_list(value)
    return messages[-1].get("content") if messages and isinstance(messages[-1], dict) else value
