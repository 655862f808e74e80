"""UltraFeedback: a rating from 1 to 5 for each completion of an instruction (Cui et al. 2023, 2310.01377).

Two modes. `text` shows all completions at once and has the model write a rating and a rationale for each. `logits`
shows one at a time and takes the mean of the model's distribution over the five rating tokens, in one forward pass;
that mean beats the likeliest token in most comparisons (Wang et al. 2025, 2503.03064).
"""

from typing import Any

from course_lib.errors import InputError
from course_lib.llms.base import Chat, continued
from course_lib.steps.base import Row, StepInput, StepOutput
from course_lib.steps.tasks.base import Task, framed, text_of, texts_of
from course_lib.steps.tasks.parsing import parse_ratings
from course_lib.steps.tasks.templating import filled, names, shipped

SCALE = ["1", "2", "3", "4", "5"]
Judged = list[dict[str, Any]]  # for each completion {"rating", "rationale", "reason", "distribution"}


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
    Several aspects give `ratings_<aspect>` and `rationales_<aspect>` each, and their mean in `ratings`. How each
    rating came about (mode, distribution or reason for None) stands in `distilabel_metadata`.

    On a model whose probabilities can be seen, the frame of the answer is written by us and the model fills in only
    rating and rationale, so N completions always give N ratings. The reply of any other model is parsed.
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
        allowed = names("ultrafeedback", self.language)
        unknown = [aspect for aspect in self.aspects if aspect not in allowed]
        if unknown or not self.aspects:
            raise InputError(f"Step {self.name!r}: unknown aspect {unknown}; allowed: {', '.join(allowed)}.")
        if self.mode not in ("text", "logits"):
            raise InputError(f"Step {self.name!r}: mode={self.mode!r}; allowed: 'text', 'logits'.")
        if self.mode == "logits" and not self.llm.can_score:
            raise InputError(
                f"Step {self.name!r}: mode='logits' needs probabilities, which {self.llm!r} hides. Use mode='text'."
            )

    @property
    def aspects(self) -> list[str]:
        return [self.aspect] if isinstance(self.aspect, str) else list(self.aspect)

    @property
    def outputs(self) -> list[str]:
        shared = ["ratings", "rationales", "model_name", *(["ratings_disagreement"] if self.swap else [])]
        each = [f"{column}_{a}" for a in self.aspects for column in ("ratings", "rationales")]
        return shared if len(self.aspects) == 1 else [*shared, *each]

    def format_input(self, row: Row, aspect: str | None = None, shown: list[str] | None = None) -> Chat:
        """The listwise prompt in text mode; in logits mode the prompt for the one text in `shown`."""
        shown = list(row["generations"]) if shown is None else shown
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
        shown = [[i for i, text in enumerate(one) if text and text.strip()] for one in texts]
        found: list[Judged] = [[_unrated("empty completion") for _ in one] for one in texts]
        rate = self._pointwise if self.mode == "logits" else self._listwise
        orders = [shown, [order[::-1] for order in shown]] if self.swap and self.mode == "text" else [shown]
        rated = [rate(rows, texts, order, aspect) for order in orders]
        for r, places in enumerate(shown):
            for place in places:
                found[r][place] = _averaged([one[r][place] for one in rated])
        return found

    def _pointwise(self, rows, texts, shown, aspect) -> list[dict[int, dict[str, Any]]]:
        where = [(r, i) for r, places in enumerate(shown) for i in places]
        chats = [self.format_input(rows[r], aspect, [texts[r][i]]) for r, i in where]
        distributions = self.llm.choice_probabilities(chats, SCALE, prefill="Rating: ")
        means = [round(sum(k * p for k, p in enumerate(one, start=1)), 4) for one in distributions.tolist()]
        openings = [continued(chat, f"Rating: {round(mean)}\nRationale:") for chat, mean in zip(chats, means, strict=True)]
        rationales = self._rationales(openings, wanted=bool(self.rationales))
        found: list[dict[int, dict[str, Any]]] = [{} for _ in rows]
        for (r, i), mean, one, why in zip(where, means, distributions.tolist(), rationales, strict=True):
            found[r][i] = {"rating": mean, "rationale": why, "reason": None, "distribution": [round(p, 4) for p in one]}
        return found

    def _listwise(self, rows, texts, shown, aspect) -> list[dict[int, dict[str, Any]]]:
        chats = [self.format_input(row, aspect, [texts[r][i] for i in shown[r]]) for r, row in enumerate(rows)]
        rate = self._filled_in if self.llm.can_score else self._parsed
        lists = rate(chats, [len(places) for places in shown])
        return [dict(zip(places, one, strict=True)) for places, one in zip(shown, lists, strict=True)]

    def _filled_in(self, chats: list[Chat], counts: list[int]) -> list[Judged]:
        """Text after text, the scaffold is ours: the model chooses a digit, then writes a rationale."""
        found: list[Judged] = [[] for _ in chats]
        frames = [""] * len(chats)
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
                frames[r] = f"{opening} {why or ''}\n\n"
                spread = [round(p, 4) for p in one]
                found[r].append({"rating": float(digit), "rationale": why, "reason": None, "distribution": spread})
        return found

    def _parsed(self, chats: list[Chat], counts: list[int]) -> list[Judged]:
        live = [r for r, count in enumerate(counts) if count]
        results = self.llm.generate([chats[r] for r in live])
        replies = dict(zip(live, (result["generations"][0] for result in results), strict=True))
        return [parse_ratings(replies.get(r), count) for r, count in enumerate(counts)]

    def _rationales(self, openings: list[Chat], wanted: bool) -> list[str | None]:
        if not wanted:
            return [None] * len(openings)
        limits = {"max_new_tokens": self.rationale_tokens, "stop_strings": ["\n\n", "####"]}
        return [result["generations"][0] for result in self.llm.generate(openings, **limits)]

    # --- columns ------------------------------------------------------------------------------------------------

    def _finished(self, row: Row, judged: dict[str, Judged]) -> Row:
        columns: Row = {}
        for aspect, one in judged.items():
            suffix = f"_{aspect}" if len(self.aspects) > 1 else ""
            columns[f"ratings{suffix}"] = [text["rating"] for text in one]
            columns[f"rationales{suffix}"] = [text["rationale"] for text in one]
        if len(self.aspects) > 1:
            columns["ratings"] = [_mean([one[i]["rating"] for one in judged.values()]) for i in range(len(row["generations"]))]
            columns["rationales"] = [one["rationale"] for one in judged[self.aspects[0]]]
        if self.swap:
            columns["ratings_disagreement"] = [text.get("disagreement") for text in judged[self.aspects[0]]]
        how = {aspect: [{"mode": self.mode, **text} for text in one] for aspect, one in judged.items()}
        shown = [text for text in row["generations"] if text and text.strip()]
        chats = [self.format_input(row, a, shown) for a in self.aspects] if self.mode == "text" else None
        raw = None if chats is None else "\n\n".join(framed("Prompt", chat) for chat in chats)
        metadata = self.metadata(row, raw, how)
        return {**row, **columns, "model_name": self.llm.model_name, "distilabel_metadata": metadata}


def _unrated(reason: str) -> dict[str, Any]:
    return {"rating": None, "rationale": None, "reason": reason, "distribution": None}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _averaged(both: Judged) -> dict[str, Any]:
    """One judgement from those in either order; the first one's words, the mean of the ratings."""
    if len(both) == 1:
        return both[0]
    first, second = (one["rating"] for one in both)
    gap = None if None in (first, second) else round(abs(first - second), 4)
    return {**both[0], "rating": _mean([first, second]), "disagreement": gap}
