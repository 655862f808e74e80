"""What a judge makes of one completion, and how several such judgements become one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from course_lib.llms.base import Chat
from course_lib.steps.tasks.rows import has_words


@dataclass
class Judgement:
    """What a judge makes of one completion, filled in on the way: its prompt first, its rating last.

    Args:
        text: the completion, cut in the middle where it is too long for the model (`shortened`).
        rating: from 1 to 5, or None with a `reason`.
        distribution: the model's probabilities of the five ratings.
        disagreement, orders: with `swap`, the difference between both orders, and rating and reason in each.
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


def to_rate(judgements: list[Judgement]) -> list[Judgement]:
    """Those with something to read; the others get their reason."""
    for judgement in judgements:
        judgement.reason = None if has_words(judgement.text) else "empty completion"
    return [judgement for judgement in judgements if not judgement.reason]


def averaged(first: Judgement, second: Judgement) -> Judgement:
    """One judgement from those in either order: the mean of the ratings, the words of the first that has a rating."""
    if not has_words(first.text):
        return first
    orders = [
        {name: getattr(j, name) for name in ("rating", "reason", "distribution")} for j in (first, second)
    ]
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


def over_aspects(columns: dict[str, dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """The columns of several aspects as one of each name: means, and rationales with the names of their aspects."""
    shared = {}
    for name in next(iter(columns.values())):
        texts = zip(*(column[name] for column in columns.values()), strict=True)
        shared[name] = [
            _named(columns, values) if name == "rationales" else _mean(values) for values in texts
        ]
    return shared


def _named(aspects: Iterable[str], rationales: Iterable[str | None]) -> str | None:
    pairs = zip(aspects, rationales, strict=True)
    return "\n\n".join(f"{aspect}: {rationale}" for aspect, rationale in pairs if rationale) or None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def rounded(distribution: list[float]) -> list[float]:
    return [round(p, 4) for p in distribution]


def first(values: Iterable[Any]) -> Any:
    """What all texts of a row share, such as the prompt; None where the model was not asked."""
    return next(filter(None, values), None)
