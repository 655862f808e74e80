"""What a judge makes of one completion, and how several such judgements become one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from course_lib.llms.base import Chat, continued
from course_lib.steps.base import Row
from course_lib.steps.tasks.rows import has_words

TOO_LONG = "longer than the context of the judge"  # the reason for no rating where cutting does not help


@dataclass
class Judgement:
    """What a judge makes of one completion, filled in on the way: its prompt first, its rating last.

    Args:
        text: the completion, cut in the middle where it is too long for the model (`shortened`).
        rating: from 1 to 5, or None with a `reason`.
        distribution: the model's probabilities of the five ratings.
        disagreement, orders: with `swap`, the difference between both orders, and what each said.
        chat, replies: the prompt, and the replies that were parsed.
    """

    text: str | None
    rating: float | None = None
    rationale: str | None = None
    reason: str | None = None
    distribution: list[float] | None = None
    shortened: bool | None = None
    disagreement: float | None = None
    orders: list[dict[str, Any]] | None = None
    chat: Chat | None = None
    replies: list[str | None] = field(default_factory=list)

    def explained(self) -> dict[str, Any]:
        """The entry in the row's metadata."""
        read = ["shortened"] if self.chat else []
        swapped = ["disagreement", "orders"] if self.orders else []
        names = ["rating", "rationale", "reason", "distribution", *read, *swapped]
        return {name: getattr(self, name) for name in names}


@dataclass
class Sheet:
    """What a judge has before it: completions of a row, its prompt, and the answer as far as it is written."""

    row: Row
    judgements: list[Judgement]
    aspect: str = ""
    chat: Chat | None = None
    answer: str = ""

    @property
    def chat_so_far(self) -> Chat:
        return continued(self.chat, self.answer)

    def note(self, entries: list[dict[str, Any]], reply: str | None) -> None:
        """Note what was read in a reply, an entry for each text."""
        for judgement, entry in zip(self.judgements, entries, strict=True):
            vars(judgement).update(entry, replies=[reply])

    def rate(self, number: int, rating: float, distribution: list[float]) -> None:
        """Note the rating of a text, and begin its rationale; the reason if the model has no probabilities for it."""
        if any(map(math.isnan, distribution)):
            self.judgements[number].reason = "no probabilities"
            self.answer += "?\nRationale:"
            return
        self.judgements[number].rating = rating
        self.judgements[number].distribution = [round(p, 4) for p in distribution]
        self.answer += f"{round(rating)}\nRationale:"


def to_rate(judgements: list[Judgement]) -> list[Judgement]:
    """Those with something to read; the others get their reason."""
    for judgement in judgements:
        judgement.reason = None if has_words(judgement.text) else "empty completion"
    return [judgement for judgement in judgements if not judgement.reason]


def averaged(first: Judgement, second: Judgement) -> Judgement:
    """One judgement from those in either order: the mean rating, the words of the first that has a rating."""
    if not has_words(first.text):
        return first
    kept = ("rating", "reason", "distribution")
    orders = [{name: getattr(order, name) for name in kept} for order in (first, second)]
    rated = first if first.rating is not None or second.rating is None else second
    both = None not in (first.rating, second.rating)
    return replace(
        rated,
        rating=_mean([first.rating, second.rating]),
        disagreement=round(abs(first.rating - second.rating), 4) if both else None,
        orders=orders,
        chat=first.chat,
        replies=first.replies + second.replies,
    )


def rating_columns(judged: dict[str, list[Judgement]], swap: bool) -> dict[str, list[Any]]:
    """The columns of a row from its judgements by aspect: those of each, and the means, if there are several."""
    fields = {"ratings": "rating", "rationales": "rationale"}
    fields |= {"ratings_disagreement": "disagreement"} if swap else {}
    apart, shared = {}, {}
    for aspect, judgements in judged.items():
        apart |= {f"{name}_{aspect}": [getattr(j, key) for j in judgements] for name, key in fields.items()}
    for name in fields:
        texts = list(zip(*(apart[f"{name}_{aspect}"] for aspect in judged), strict=True))
        if len(judged) == 1:
            shared[name] = [value for (value,) in texts]
        elif name == "rationales":
            shared[name] = [_with_aspects(judged, rationales) for rationales in texts]
        else:
            shared[name] = [_mean(values) for values in texts]
    return {**apart, **shared} if len(judged) > 1 else shared


def _with_aspects(aspects: Iterable[str], rationales: Iterable[str | None]) -> str | None:
    pairs = zip(aspects, rationales, strict=True)
    return "\n\n".join(f"{aspect}: {rationale}" for aspect, rationale in pairs if rationale) or None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
