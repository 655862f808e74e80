"""UltraFeedback: a rating from 1 to 5 for each completion of an instruction (Cui et al. 2023, 2310.01377).

Two modes. `text` shows all completions at once and has the model write a rating and a rationale for each. `logits`
shows one at a time and takes the mean of the model's distribution over the five rating tokens, in one forward pass;
that mean beats the likeliest token in most comparisons (Wang et al. 2025, 2503.03064).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from course_lib.errors import InputError
from course_lib.llms.base import Chat, continued
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.tasks.base import TOO_LONG, Task, framed, has_words, text_of, texts_of, without_middle
from course_lib.steps.tasks.parsing import entry, parse_ratings
from course_lib.steps.tasks.templating import filled, names, shipped

SCALE = ["1", "2", "3", "4", "5"]
SHORTEST = 40  # characters; nothing is cut below this
Judged = list[dict[str, Any]]  # for each completion {"rating", "rationale", "reason", "distribution"} and what explains them


class Asked(NamedTuple):
    """A prompt, the texts as they stand in it, and of each whether it or the instruction was cut."""

    chat: Chat
    texts: list[str]
    shortened: list[bool]


class UltraFeedback(Task):
    """Rates the completions in `generations`.

    Args:
        aspect: one aspect or several: overall-rating, helpfulness, honesty, instruction-following, truthfulness,
            relevance, deepening, creativity.
        mode: "text" or "logits"; "logits" needs a model whose probabilities can be seen.
        rationales: have the model explain each rating; by default in text mode only.
        swap: text mode: rate in both orders and average; the difference is kept in `ratings_disagreement`.
        rationale_tokens: longest rationale.

    Columns: `ratings` (float in 1-5, or None) and `rationales`, one per completion and in their order; `model_name`.
    Several aspects give each of these columns for each aspect, as in `ratings_<aspect>`, and one for all: then `ratings`
    and `ratings_disagreement` are the means of those that are there, and `rationales` has all rationales of a completion,
    each after the name of its aspect. How each rating came about stands in `distilabel_metadata`: judge, mode, distribution,
    reason for None, whether the text or the instruction was too long for the model and cut in the middle, both orders with
    `swap`, and under `raw_replies_<step>` what a model wrote whose reply was parsed.

    On a model whose probabilities can be seen, the frame of the answer is written by us and the model fills in only
    rating and rationale, so N completions always give N ratings, unless they are too many for its context. The reply of any
    other model is parsed.
    """

    aspect: str | list[str] = "overall-rating"
    mode: str = "text"
    rationales: bool | None = None
    swap: bool = False
    rationale_tokens: int = 60
    language: str = "en"

    inputs = ["instruction", "generations"]

    def __post_init__(self):
        super().__post_init__()
        self.check()

    def check(self) -> None:
        allowed = names("ultrafeedback", self.language)
        unknown = [aspect for aspect in self.aspects if aspect not in allowed]
        if unknown or not self.aspects:
            raise InputError(f"Step {self.name!r}: unknown aspect {unknown}; allowed: {', '.join(allowed)}.")
        if self.mode not in ("text", "logits"):
            raise InputError(f"Step {self.name!r}: mode={self.mode!r}; allowed: 'text', 'logits'.")
        if self.mode == "logits" and self.swap:
            raise InputError(
                f"Step {self.name!r}: swap=True with mode='logits', which rates each text alone, so that there is no order to "
                "swap. Use mode='text', or leave out swap."
            )
        if self.mode == "logits" and not self.llm.can_score:
            raise InputError(
                f"Step {self.name!r}: mode='logits' needs probabilities, which {self.llm!r} hides. Use mode='text'."
            )

    @property
    def aspects(self) -> list[str]:
        return [self.aspect] if isinstance(self.aspect, str) else list(self.aspect)

    @property
    def outputs(self) -> list[str]:
        rated = ["ratings", "rationales", *(["ratings_disagreement"] if self.swap else [])]
        each = [f"{column}_{aspect}" for aspect in self.aspects for column in rated]
        return [*rated, "model_name", *(each if len(self.aspects) > 1 else [])]

    def format_input(self, row: Row, aspect: str | None = None, shown: list[str] | None = None) -> Chat:
        """The listwise prompt in text mode; in logits mode the prompt for the one text in `shown`."""
        shown = [text for text in texts_of(row, "generations", self) if has_words(text)] if shown is None else shown
        frame = "listwise" if self.mode == "text" else "pointwise"
        layout = shipped(f"ultrafeedback/_{frame}", self.language)
        prompt = shipped(f"ultrafeedback/{aspect or self.aspects[0]}", self.language)
        texts = shown if self.mode == "text" else shown[:1]
        content = filled(prompt, layout=layout, instruction=text_of(row, "instruction", self), texts=texts)
        system = filled(shipped("ultrafeedback/_system", self.language))
        return [{"role": "system", "content": system}, {"role": "user", "content": content}]

    def sample(self) -> Row:
        return {"generations": ["<GENERATION 1>", "<GENERATION 2>"]}

    def process(self, rows: StepInput) -> StepOutput:
        judged = {aspect: self._judged(rows, aspect) for aspect in self.aspects}
        yield [self._finished(row, {a: judged[a][i] for a in self.aspects}) for i, row in enumerate(rows)]

    # --- rating -------------------------------------------------------------------------------------------------

    def _judged(self, rows: StepInput, aspect: str) -> list[Judged]:
        texts = [texts_of(row, "generations", self) for row in rows]
        shown = [[i for i, text in enumerate(one) if has_words(text)] for one in texts]
        found: list[Judged] = [[entry(reason="empty completion") for _ in one] for one in texts]
        rate = self._pointwise if self.mode == "logits" else self._listwise
        orders = [shown, [order[::-1] for order in shown]] if self.swap else [shown]
        rated = [rate(rows, texts, order, aspect) for order in orders]
        for r, places in enumerate(shown):
            for place in places:
                found[r][place] = _averaged([one[r][place] for one in rated])
        return found

    def _pointwise(self, rows, texts, shown, aspect) -> list[dict[int, dict[str, Any]]]:
        where = [(r, i) for r, places in enumerate(shown) for i in places]
        asked = [self._asked(rows[r], aspect, [texts[r][i]]) for r, i in where]
        chats = [one.chat for one in asked if one]
        distributions = self.llm.choice_probabilities(chats, SCALE, prefill="Rating: ").tolist()
        means = [round(sum(k * p for k, p in enumerate(one, start=1)), 4) for one in distributions]
        openings = [continued(chat, f"Rating: {round(mean)}\nRationale:") for chat, mean in zip(chats, means, strict=True)]
        rationales = self._rationales(openings, wanted=bool(self.rationales))
        rated = iter([_rated(*one) for one in zip(means, rationales, distributions, strict=True)])
        found: list[dict[int, dict[str, Any]]] = [{} for _ in rows]
        for (r, i), one in zip(where, asked, strict=True):
            found[r][i] = {**next(rated), "shortened": one.shortened[0]} if one else entry(reason=TOO_LONG)
        return found

    def _listwise(self, rows, texts, shown, aspect) -> list[dict[int, dict[str, Any]]]:
        asked = [self._asked(row, aspect, [texts[r][i] for i in shown[r]]) if shown[r] else None for r, row in enumerate(rows)]
        live = [one for one in asked if one]
        rated = iter(self._filled_in(live) if self.llm.can_score else self._parsed(live))
        found = []
        for places, one in zip(shown, asked, strict=True):
            judged = [entry(reason=TOO_LONG) for _ in places]
            if one:
                cuts = zip(next(rated), one.shortened, strict=True)
                judged = [{**text, "shortened": cut, "chat": one.chat} for text, cut in cuts]
            found.append(dict(zip(places, judged, strict=True)))
        return found

    def _asked(self, row: Row, aspect: str, texts: list[str]) -> Asked | None:
        """The prompt, its longest parts cut in the middle until it and the answer fit the model; None if they never do."""
        whole = [text_of(row, "instruction", self), *texts]
        parts = list(whole)
        while not self._fits(chat := self.format_input({**row, "instruction": parts[0]}, aspect, parts[1:]), len(texts)):
            longest = max(range(len(parts)), key=lambda i: len(parts[i]))
            if len(parts[longest]) // 2 < SHORTEST:
                return None
            parts[longest] = without_middle(parts[longest])
        cut = [part != one for part, one in zip(parts, whole, strict=True)]
        return Asked(chat, parts[1:], [cut[0] or one for one in cut[1:]])

    def _fits(self, chat: Chat, unrated: int) -> bool:
        """Whether the model has room for `chat` and the blocks of the texts that are still unrated."""
        block = " and" * (self.rationale_tokens + 20)
        return self.llm.fits("\n".join(message["content"] for message in chat) + block * unrated)

    def _filled_in(self, asked: list[Asked]) -> list[Judged]:
        """Text after text, the scaffold is ours: the model chooses a digit, then writes a rationale."""
        chats, counts = [one.chat for one in asked], [len(one.texts) for one in asked]
        found: list[Judged] = [[] for _ in asked]
        frames = [""] * len(asked)
        for number in range(max(counts, default=0)):
            live = [r for r, count in enumerate(counts) if count > number]
            heads = [f"{frames[r]}#### Text {number + 1}\nRating: " for r in live]
            distributions = self.llm.choice_probabilities(
                [continued(chats[r], head) for r, head in zip(live, heads, strict=True)], SCALE
            ).tolist()
            digits = [SCALE[max(range(5), key=one.__getitem__)] for one in distributions]
            openings = [f"{head}{digit}\nRationale:" for head, digit in zip(heads, digits, strict=True)]
            wanted = self.rationales is not False
            written = self._rationales([continued(chats[r], o) for r, o in zip(live, openings, strict=True)], wanted)
            for r, opening, digit, why, one in zip(live, openings, digits, written, distributions, strict=True):
                frame = f"{opening} {why or ''}\n\n"
                # Odd text can be more tokens to read than it was to write.
                fits = self._fits(continued(chats[r], frame), counts[r] - number - 1)
                frames[r] = frame if fits else f"{opening} […]\n\n"
                found[r].append(_rated(float(digit), why, one))
        return found

    def _parsed(self, asked: list[Asked]) -> list[Judged]:
        results = self.llm.generate([one.chat for one in asked])
        replies = [result["generations"][0] for result in results]
        parsed = [parse_ratings(reply, len(one.texts), one.texts) for reply, one in zip(replies, asked, strict=True)]
        return [[{**text, "replies": [reply]} for text in one] for reply, one in zip(replies, parsed, strict=True)]

    def _rationales(self, openings: list[Chat], wanted: bool) -> list[str | None]:
        if not wanted:
            return [None] * len(openings)
        limits = {"max_new_tokens": self.rationale_tokens, "stop_strings": ["\n\n", "####"]}
        return [result["generations"][0] for result in self.llm.generate(openings, **limits)]

    # --- columns ------------------------------------------------------------------------------------------------

    def _finished(self, row: Row, judged: dict[str, Judged]) -> Row:
        columns = {aspect: self._columns(one) for aspect, one in judged.items()}
        several = {f"{name}_{a}": values for a, one in columns.items() for name, values in one.items()}
        shared = _over_aspects(columns) if len(columns) > 1 else columns[self.aspects[0]]
        how = {"model_name": self.llm.model_name, "distilabel_metadata": self._explained(row, judged)}
        return {**row, **(several if len(columns) > 1 else {}), **shared, **how}

    def _columns(self, judged: Judged) -> dict[str, list[Any]]:
        columns = {"ratings": [text["rating"] for text in judged], "rationales": [text["rationale"] for text in judged]}
        return {**columns, "ratings_disagreement": [text.get("disagreement") for text in judged]} if self.swap else columns

    def _explained(self, row: Row, judged: dict[str, Judged]) -> dict[str, Any]:
        """The row's metadata: what the model read, and how each rating came about."""
        by = {"judge": f"{type(self).__name__}, {self.llm.model_name}", "mode": self.mode}
        how = {a: [{**by, **_without(text, "replies", "chat")} for text in one] for a, one in judged.items()}
        read = "\n\n".join(framed("Prompt", chat) for one in judged.values() if (chat := _first(one, "chat")))
        metadata = self.metadata(row, read if self.mode == "text" else None, how)
        if self.add_raw_output and not self.llm.can_score:
            metadata[f"raw_replies_{self.name}"] = {aspect: _first(one, "replies", []) for aspect, one in judged.items()}
        return metadata


def _over_aspects(columns: dict[str, dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """The columns of several aspects as one of each name: means, and rationales with the names of their aspects."""
    made = {}
    for name in next(iter(columns.values())):
        texts = zip(*(one[name] for one in columns.values()), strict=True)
        made[name] = [_named(dict(zip(columns, one, strict=True))) if name == "rationales" else _mean(one) for one in texts]
    return made


def _named(rationales: dict[str, str | None]) -> str | None:
    return "\n\n".join(f"{aspect}: {why}" for aspect, why in rationales.items() if why) or None


def _without(text: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in text.items() if key not in names}


def _rated(rating: float, rationale: str | None, distribution: list[float]) -> dict[str, Any]:
    why = rationale if has_words(rationale) else None
    return entry(rating, why, distribution=[round(p, 4) for p in distribution])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _averaged(both: Judged) -> dict[str, Any]:
    """One judgement from those in either order: the mean of the ratings, the words of the first that has a rating."""
    if len(both) == 1:
        return both[0]
    known = [one for one in both if one["rating"] is not None]
    first, second = (one["rating"] for one in both)
    gap = None if None in (first, second) else round(abs(first - second), 4)
    orders = [{name: one[name] for name in ("rating", "reason", "distribution")} for one in both]
    replies = [reply for one in both for reply in one.get("replies", [])]
    mean = {"rating": _mean([first, second]), "disagreement": gap, "orders": orders, "replies": replies}
    return {**(known or both)[0], **mean, "chat": both[0].get("chat")}


def _first(judged: Judged, name: str, default: Any = None) -> Any:
    """What all texts of a row share, such as the replies, one for each order; `default` where the model was not asked."""
    return next((text[name] for text in judged if text.get(name)), default)
