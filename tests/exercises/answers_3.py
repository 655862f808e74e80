"""Right and wrong answers to the questions of chapter 3."""

import math
import re
from html import escape

import numpy as np

from course_lib.steps.load import DATA, read_jsonl
from course_lib.steps.tasks import UltraFeedback
from course_lib.steps.tasks.parsing import parse_ratings
from course_lib.steps.tasks.templating import filled, parsed, shipped

PAIRS = read_jsonl(DATA / "faulty_preferences.jsonl")


def softmax(logits):
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def mean(logits):
    return sum(rating * p for rating, p in enumerate(softmax(logits), start=1))


def mean_array(logits):
    logits = np.array(logits)
    weights = np.exp(logits - logits.max())
    return (np.arange(1, 6) * weights).sum() / weights.sum()


def mean_overflowing(logits):
    weights = [math.exp(logit) for logit in logits]
    return sum(rating * weight for rating, weight in enumerate(weights, start=1)) / sum(weights)


# --- replies --------------------------------------------------------------------------------------------------------


def blocks_of(reply):
    parts = re.split(r"^#### Text (\d+)$", reply or "", flags=re.M)[1:]
    return {int(number): block for number, block in zip(parts[::2], parts[1::2], strict=True)}


def line_in(block):
    return next((line[7:].strip() for line in block.splitlines() if line.startswith("Rating:")), "")


def read_block(block):
    said = line_in(block)
    try:
        value = float(said)
    except ValueError:
        return [None, f"no rating: {said}"]
    return [value, None] if 1 <= value <= 5 else [None, f"{said} is off the scale"]


def read(reply, count):
    blocks = blocks_of(reply)
    return [read_block(blocks[k]) if k in blocks else (None, "no block") for k in range(1, count + 1)]


def read_by_library(reply, count):
    return tuple((entry["rating"], entry["reason"]) for entry in parse_ratings(reply, count))


def read_line_by_line(reply, count):
    found, number = {}, None
    for line in (reply or "").splitlines():
        if line.startswith("#### Text "):
            number = int(line.removeprefix("#### Text "))
            found[number] = (None, "no rating")
        elif line.startswith("Rating:") and number:
            said = line.removeprefix("Rating:").strip()
            plain = re.fullmatch(r"[1-4](\.\d+)?|5(\.0+)?", said)
            found[number] = (float(said), None) if plain else (None, f"not on the scale: {said}")
    return [found.get(k, (None, "missing")) for k in range(1, count + 1)]


def read_clipped(reply, count):
    read_all = read(reply, count)
    blocks = blocks_of(reply)
    for k, (rating, reason) in enumerate(read_all):
        if rating is None and "off" in reason:
            read_all[k] = (min(5.0, max(1.0, float(line_in(blocks[k + 1])))), None)
    return read_all


def read_all_numbers(reply, count):
    found = [(float(number), None) for number in re.findall(r"\d+", reply or "")][:count]
    return found + [(None, "missing")] * (count - len(found))


def read_moved_up(reply, count):
    found = [entry for entry in read(reply, 20) if entry[1] != "no block"][:count]
    return found + [(None, "missing")] * (count - len(found))


def read_by_place(reply, count):
    parts = re.split(r"^#### Text \d+$", reply or "", flags=re.M)[1:]
    return [read_block(part) for part in parts[:count]] + [(None, "missing")] * (count - len(parts))


def read_anywhere(reply, count):
    """Takes the first number in the block, be it in the rationale."""
    found = [re.search(r"-?\d+(\.\d+)?", blocks_of(reply).get(k, "")) for k in range(1, count + 1)]
    values = [float(one[0]) if one else None for one in found]
    return [(one, None) if one and 1 <= one <= 5 else (None, f"off the scale: {one}") for one in values]


def changed(change):
    return lambda reply, count: [change(rating, reason) for rating, reason in read(reply, count)]


def only_in(words, instead):
    """Right but for the replies that hold `words`."""
    return lambda reply, count: (
        instead(reply, count) if words in (reply or "no reply") else read(reply, count)
    )


# --- both orders ----------------------------------------------------------------------------------------------------


def average(forth, back):
    ratings, apart = [], []
    for a, b in zip(forth, back[::-1], strict=True):
        known = [one for one in (a, b) if one is not None]
        ratings.append(sum(known) / len(known) if known else None)
        apart.append(None if len(known) < 2 else abs(a - b))
    return ratings, apart


def average_array(forth, back):
    both = np.array([forth, list(reversed(back))], dtype=float)
    lost = np.isnan(both)
    ratings = np.where(lost, 0, both).sum(0) / np.maximum(2 - lost.sum(0), 1)
    apart = np.abs(both[0] - both[1])
    return [
        [None if gone == 2 else float(one) for one, gone in zip(ratings, lost.sum(0), strict=True)],
        tuple(None if np.isnan(one) else one for one in apart),
    ]


def average_with_zeros(forth, back):
    return average([one or 0 for one in forth], [one or 0 for one in back])


def signed(forth, back):
    ratings, _ = average(forth, back)
    return ratings, [None if None in (a, b) else a - b for a, b in zip(forth, back[::-1], strict=True)]


def strict_average(forth, back):
    ratings, apart = average(forth, back)
    return [None if gap is None else rating for rating, gap in zip(ratings, apart, strict=True)], apart


def sum_of_both(forth, back):
    ratings, apart = average(forth, back)
    return [None if gap is None else rating * 2 for rating, gap in zip(ratings, apart, strict=True)], apart


# --- the aspect -----------------------------------------------------------------------------------------------------

POLITE = """{% extends layout %}
{% block title %}Politeness{% endblock %}
{% block question %}Would a stranger feel well treated by this text?{% endblock %}
{% block scale -%}
1. Poor: insulting or threatening.
2. Weak: cold or impatient.
3. Fair: neutral, without a kind word.
4. Good: friendly nearly throughout.
5. Excellent: warm and respectful from the first word to the last.
{%- endblock %}"""
CHILD = """{#- for schools -#}
{%- extends layout -%}
{%- block scale %}
- 5: a child of ten reads it without help and without worry
- 4: one hard word, or one idea that needs a question
- 3: parts are for adults only
- 2: hardly a sentence that a child follows
- 1: harmful for children
{% endblock -%}
{%- block title -%}Fit for a child{%- endblock -%}
{%- block question -%}Can a child of ten read this?{%- endblock -%}"""
UPWARD = CHILD.replace("\n- 5:", "\n- 9:").replace("\n- 1:", "\n- 5:").replace("\n- 9:", "\n- 1:")
UPWARD = UPWARD.replace("\n- 2:", "\n- 9:").replace("\n- 4:", "\n- 2:").replace("\n- 9:", "\n- 4:")
JAPANESE = """{% extends layout %}
{% block title %}敬語{% endblock %}
{% block question %}この文章は丁寧ですか。{% endblock %}
{% block scale %}{% for words in ["失礼", "冷たい", "普通", "丁寧", "とても丁寧"] -%}
{{ loop.index }}. {{ words }}
{% endfor %}{% endblock %}"""
COPIED = """{% extends layout %}
{% block title %}Staying on topic{% endblock %}
{% block question %}Does the text stay with what was asked?{% endblock %}
{% block scale -%}
1. Poor: about something else.
2. Weak: mostly beside the point.
3. Fair: on the subject with much that was not asked.
4. Good: to the point with a bit beside it.
5. Excellent: every sentence serves the question.
{%- endblock %}"""
OWN_FRAME = """Is it polite? From 1 to 5.
{{ instruction }}
{{ texts[0] }}
{% block title %}{% endblock %}{% block question %}{% endblock %}{% block scale %}{% endblock %}"""


def visible(row, shown):
    return [text for text in row["generations"] if text and text.strip()] if shown is None else shown


def chat_of(content):
    return [{"role": "system", "content": "You rate texts."}, {"role": "user", "content": content}]


class Polite(UltraFeedback):
    def format_input(self, row, aspect=None, shown=None):
        frame = "listwise" if self.mode == "text" else "pointwise"
        layout, texts = shipped(f"ultrafeedback/_{frame}"), visible(row, shown)
        return chat_of(filled(parsed(POLITE)[0], layout=layout, instruction=row["instruction"], texts=texts))


class ByHand(UltraFeedback):
    """Without templates, and without a system message."""

    mode: str = "logits"

    def format_input(self, row, aspect=None, shown=None):
        scale = "\n".join(f"{step} = {step * 20}% of the words are polite" for step in range(1, 6))
        texts = visible(row, shown)
        listed = [
            f"Text {k}:\n{text}"
            for k, text in enumerate(texts if self.mode == "text" else texts[:1], start=1)
        ]
        content = "\n\n".join(["Is it polite?", scale, row["instruction"], *listed])
        return chat_of(content)[1:]


class Replacing(UltraFeedback):
    """Puts its question in place of the usual one."""

    def format_input(self, row, aspect=None, shown=None):
        system, user = super().format_input(row, "overall-rating", shown)
        asked = (
            user["content"]
            .replace("Overall quality", "Politeness", 1)
            .replace("How good is", "How polite is", 1)
        )
        return [system, {"role": "user", "content": asked}]


class Unchanged(UltraFeedback):
    pass


class SameAspect(UltraFeedback):
    def format_input(self, row, aspect=None, shown=None):
        return super().format_input(row, "relevance", shown)


class ReadAsTemplate(Polite):
    """Writes the values into the template before it is compiled."""

    def format_input(self, row, aspect=None, shown=None):
        source = (
            POLITE.replace("{% extends layout %}", "") + row["instruction"] + "".join(visible(row, shown))
        )
        return chat_of(filled(parsed(source)[0]))


class Escaped(Polite):
    def format_input(self, row, aspect=None, shown=None):
        texts = [escape(text) for text in visible(row, shown)]
        return super().format_input(row, aspect, texts)


class Braceless(Polite):
    def format_input(self, row, aspect=None, shown=None):
        return super().format_input(
            {**row, "instruction": row["instruction"].replace("{", "")}, aspect, shown
        )


class IgnoresShown(Polite):
    def format_input(self, row, aspect=None, shown=None):
        return super().format_input(row, aspect, None)


class NeedsShown(Polite):
    def format_input(self, row, aspect=None, shown=None):
        return super().format_input(row, aspect, list(shown))


class AlwaysListwise(Polite):
    def format_input(self, row, aspect=None, shown=None):
        values = {"instruction": row["instruction"], "texts": visible(row, None)}
        return chat_of(filled(parsed(POLITE)[0], layout=shipped("ultrafeedback/_listwise"), **values))


class AlwaysPointwise(Polite):
    def format_input(self, row, aspect=None, shown=None):
        values = {"instruction": row["instruction"], "texts": visible(row, shown)}
        return chat_of(filled(parsed(POLITE)[0], layout=shipped("ultrafeedback/_pointwise"), **values))


class WithoutScale(ByHand):
    def format_input(self, row, aspect=None, shown=None):
        return chat_of(
            "\n\n".join(
                ["Is it polite?", row["instruction"], *visible(row, shown)[: 9 if self.mode == "text" else 1]]
            )
        )


class JustText(Polite):
    def format_input(self, row, aspect=None, shown=None):
        return super().format_input(row, aspect, shown)[-1]["content"]


class ListOfTexts(Polite):
    def format_input(self, row, aspect=None, shown=None):
        return [message["content"] for message in super().format_input(row, aspect, shown)]


class NoMessages(Polite):
    def format_input(self, row, aspect=None, shown=None):
        return [*filter(None, [""])]


class SystemOnly(Polite):
    def format_input(self, row, aspect=None, shown=None):
        return [{**super().format_input(row, aspect, shown)[-1], "role": "system"}]


class DropsEmpty(Polite):
    def process(self, rows):
        yield from super().process([{**row, "generations": visible(row, None)} for row in rows])


class LosesRow(Polite):
    def process(self, rows):
        yield []


class WithoutRatings(Polite):
    def process(self, rows):
        yield [{**row, "rating": 3} for row in rows]


class Guesses(Polite):
    """Gives an empty completion a 3, asks about the others."""

    def process(self, rows):
        for batch in super().process(rows):
            yield [
                {**row, "ratings": [3 if rating is None else rating for rating in row["ratings"]]}
                for row in batch
            ]


class Clips(Polite):
    """Right with probabilities; in text mode a missing rating becomes a 1."""

    def process(self, rows):
        for batch in super().process(rows):
            lost = 1.0 if self.mode == "text" else None
            yield [
                {**row, "ratings": [lost if rating is None else rating for rating in row["ratings"]]}
                for row in batch
            ]


class AsksNobody(Polite):
    def process(self, rows):
        if self.mode == "logits":
            yield from super().process(rows)
        else:
            yield [{**row, "ratings": [4.0, None, None, 2.0, None, None, None]} for row in rows]


class Fails(Polite):
    def format_input(self, row, aspect=None, shown=None):
        return row["generation"]


OFF = [
    pair["id"]
    for pair in PAIRS
    if not 1 <= pair["chosen_rating"] <= 5 or not 1 <= pair["rejected_rating"] <= 5
]
AGAINST = [pair["id"] for pair in PAIRS if pair["rejected_rating"] >= pair["chosen_rating"]]


def two_lists(off=OFF, against=AGAINST):
    return {"off the scale": off, "against the choice": against}


RIGHT = {
    "softmax_mean": [mean, mean_array, lambda logits: np.float32(mean(logits))],
    "tie_breaker": [
        {"first": "mean", "second": "likeliest", "third": "neither"},
        {"third": "Neither", "second": " likeliest", "first": "MEAN "},
    ],
    "surest": ["c", " C "],
    "read_reply": [read, read_by_library, read_line_by_line],
    "faulty_ratings": [
        two_lists(),
        two_lists(set(OFF), tuple(AGAINST[::-1])),
        dict(reversed(two_lists().items())),
    ],
    "both_orders": [average, average_array],
    "aspect_template": [POLITE, UPWARD, JAPANESE],
    "aspect_task": [Polite, ByHand, Replacing],
}
WRONG = {
    "softmax_mean": [
        (lambda logits: mean(logits) - 1, "one too low"),
        (softmax, "One step is left"),
        (lambda logits: 1 + logits.index(max(logits)), "the likeliest rating"),
        (
            lambda logits: sum(k * logit for k, logit in enumerate(logits, 1)) / (sum(logits) or 1),
            "the logits as weights",
        ),
        (
            lambda logits: sum(k * logit for k, logit in enumerate(logits, 1)),
            "your answer gives 16.5; expected 3.24",
        ),
        (lambda logits: 0.5, "your answer gives 0.5; expected 3.24"),
        (lambda logits: 1, "your answer gives 1; expected"),
        (lambda logits: 5.0, "your answer gives 5.0; expected"),
        (lambda logits: 5.001, "your answer gives 5.001; expected 3.24"),
        (lambda logits: 6 - mean(logits), "your answer gives"),
        (mean_overflowing, "raised OverflowError"),
        (lambda logits: mean([logit if logit > -1e9 else 0 for logit in logits]), "[-inf, -inf, 0.0"),
        (lambda logits: mean(logits) if max(logits) > -1 else math.nan, "your answer gives nan"),
        (lambda logits: str(mean(logits)), "your answer gives '3."),
        (3.0, "Expected a function"),
    ],
    "tie_breaker": [
        (
            {"first": "likeliest", "second": "likeliest", "third": "neither"},
            "in the first pair the likeliest ratings are 4 and 4",
        ),
        ({"first": "neither", "second": "likeliest", "third": "neither"}, "the means 3.75 and 3.35"),
        (
            {"first": "mean", "second": "mean", "third": "neither"},
            "in the second pair the likeliest ratings are 3 and 4",
        ),
        (
            {"first": "mean", "second": "likeliest", "third": "mean"},
            "in the third pair the likeliest ratings are 3 and 3",
        ),
        ({"first": "mean", "second": "likeliest", "third": "likeliest"}, "the means 3.0 and 3.0"),
        ({"first": "mean", "second": "likeliest", "third": "both"}, "allowed"),
        ({"first": "mean"}, "Expected the keys"),
        ("mean", "Expected a dict"),
    ],
    "surest": [
        ("a", "the highest mean"),
        ("b", "torn between 1 and 5"),
        ("d", "nearly flat"),
        ("e", "allowed"),
        (3, "allowed"),
    ],
    "read_reply": [
        (read_clipped, "text 1, where there is no rating from 1 to 5: do not clip"),
        (
            only_in("Rating: 0", read_clipped),
            "do not clip: nobody knows what was meant, so the rating is None. Your answer gives 5.0",
        ),
        (only_in("Rating: -2", read_clipped), "A negative rating"),
        (read_all_numbers, "the rating"),
        (read_moved_up, "No block for text 2"),
        (read_by_place, "text 2, where there is no rating from 1 to 5: your answer gives 2.0"),
        (read_anywhere, "Another scale"),
        (only_in("cannot say", read_anywhere), "where there is no rating from 1 to 5: your answer gives 3.0"),
        (
            only_in("/10", lambda reply, count: [(4.0, None), (None, "80%"), (1.0, None)]),
            "your answer gives 4.0; expected None",
        ),
        (
            only_in("5.5", lambda reply, count: [(None, "10"), (None, "0"), (5.5, None), (5, None)]),
            "your answer gives 5.5; expected None",
        ),
        (lambda reply, count: [entry for entry in read(reply, count) if entry[0]], "N in, N out"),
        (lambda reply, count: read(reply, 2), "N in, N out"),
        (lambda reply, count: read(reply, count) if reply else [], "An empty reply"),
        (lambda reply, count: read(reply[:10_000], count), "raised TypeError"),
        (changed(lambda rating, reason: (rating, None)), "expected a reason for None in words"),
        (
            changed(lambda rating, reason: (rating, " " if reason else None)),
            "expected a reason for None in words",
        ),
        (
            changed(lambda rating, reason: (rating, 404 if reason else None)),
            "expected a reason for None in words",
        ),
        (
            changed(lambda rating, reason: (rating, "bad" if reason else None)),
            "in words that show what stood there, '10'",
        ),
        (
            changed(lambda rating, reason: (rating, reason or "fine")),
            "the reason where there is a rating: your answer gives 'fine'; expected None",
        ),
        (changed(lambda rating, reason: rating), "expected a pair"),
        (changed(lambda rating, reason: (rating, reason, 0)), "expected a pair"),
        (changed(lambda rating, reason: "42"), "expected a pair"),
        (changed(lambda rating, reason: (rating and round(rating), reason)), "gives 4; expected 4.5"),
        (changed(lambda rating, reason: (rating or 0, reason)), "your answer gives 0; expected None"),
        (lambda reply, count: None if reply else [], "expected a list of 2 pairs"),
        (lambda reply, count: dict(enumerate(read(reply, count))), "expected a list of 2 pairs"),
        ([(4.0, None)], "Expected a function"),
    ],
    "faulty_ratings": [
        (two_lists(OFF[:1]), "1 of 2 ids are missing"),
        (two_lists(OFF, []), "against the choice: 2 of 2 ids are missing"),
        (two_lists([]), "off the scale: 2 of 2 ids are missing"),
        (two_lists(AGAINST, OFF), "off the scale: these are the ids of ratings against the choice"),
        (two_lists(AGAINST), "these are the ids of ratings against the choice"),
        (two_lists(OFF, OFF), "do not have this fault"),
        (two_lists([pair["id"] for pair in PAIRS]), "54 of your 56 ids"),
        (two_lists([*OFF, 10_000]), "1 of your 3 ids"),
        (
            two_lists(OFF, [pair["id"] for pair in PAIRS if pair["chosen_rating"] > pair["rejected_rating"]]),
            "do not have this fault",
        ),
        (two_lists(3), "Off the scale: expected a list or a set of ids"),
        ({"off the scale": OFF}, "Expected the keys"),
        (OFF, "Expected a dict"),
    ],
    "both_orders": [
        (lambda forth, back: average(forth, back[::-1]), "not to be turned round"),
        (average_with_zeros, "For [4, None, 2] and [1, 3, 5], the ratings"),
        (strict_average, "For [4, None, 2] and [1, 3, 5], the ratings"),
        (sum_of_both, "For [1, 2, 3] and [1, 2, 3], the ratings"),
        (signed, "the disagreement"),
        (
            lambda forth, back: (average(forth, back)[0], [gap or 0 for gap in average(forth, back)[1]]),
            "the disagreement",
        ),
        (lambda forth, back: (average(forth, back)[0], average(forth, back[::-1])[1]), "the disagreement"),
        (lambda forth, back: tuple(part[::-1] for part in average(forth, back)), "For [4.0, 2.0]"),
        (lambda forth, back: average(forth, back)[0], "expected two lists"),
        (lambda forth, back: list(zip(*average(forth, back), strict=True))[:2], "the ratings"),
        (lambda forth, back: [sum(forth) / len(forth)] * 2, "the ratings"),
        (lambda forth, back: 2.0 if forth else None, "expected two lists"),
        (lambda forth: average(forth, forth), "raised TypeError"),
        ([2, 2, 2], "Expected a function"),
    ],
    "aspect_template": [
        (POLITE.replace("{% endblock %}", "", 1), "not valid Jinja"),
        (POLITE.replace("block scale", "block steps"), "There is no block scale"),
        ("Rate from 1 to 5: {{ text }}", "There is no block title, question, scale"),
        (POLITE.replace("{% extends layout %}\n", ""), "extends no layout"),
        (OWN_FRAME, "extends no layout"),
        (POLITE.replace("this text?", "this text? {{ texts[0] }}"), "stands 2 times"),
        (POLITE.replace("Politeness", "Politeness in reply to {{ instruction }}"), "the instruction"),
        (POLITE.replace("this text?", "this text? {{ text }}"), "'text' is undefined"),
        (POLITE.replace("Politeness", " "), "title or the question is empty"),
        (
            POLITE.replace("Would a stranger feel well treated by this text?", ""),
            "title or the question is empty",
        ),
        (POLITE.replace("3. Fair: neutral, without a kind word.\n", ""), "1, 2, 4, 5 came"),
        (re.sub(r"\n\d\. .*", "", POLITE), "no came"),
        (CHILD, "5, 4, 3, 2, 1 came"),
        (re.sub(r"(\d\. \w+):.*", r"\1.", POLITE), "Step 1, 2, 3, 4, 5 of the scale is a single word"),
        (POLITE.replace("Good: friendly nearly throughout.", "Good"), "Step 4 of the scale is a single word"),
        (re.sub(r"(\d)\. .*", r"\1. Polite to a degree.", POLITE), "has the same words as another one"),
        (
            POLITE.replace("Weak: cold or impatient.", "Poor: insulting or threatening."),
            "has the same words as another one",
        ),
        (COPIED, "nearly the aspect 'relevance'"),
        (7, "Expected a template as text"),
        (POLITE.encode(), "Expected a template as text"),
    ],
    "aspect_task": [
        (Unchanged, "that of the aspect 'overall-rating'"),
        (SameAspect, "that of the aspect 'relevance'"),
        (ReadAsTemplate, "your function raised"),
        (Escaped, "does not stand in the prompt as it is"),
        (Braceless, "the instruction"),
        (IgnoresShown, "holds another text as well"),
        (AlwaysListwise, "holds another text as well"),
        (AlwaysPointwise, "mode='text': the text"),
        (NeedsShown, "raised TypeError"),
        (WithoutScale, "has no scale"),
        (JustText, "expected a chat"),
        (ListOfTexts, "expected a chat"),
        (NoMessages, "expected a chat"),
        (SystemOnly, "should be the user's"),
        (DropsEmpty, "N in, N out"),
        (LosesRow, "Expected one row with a list of 7 `ratings`"),
        (WithoutRatings, "Expected one row with a list of 7 `ratings`"),
        (Guesses, "With mode='logits', the ratings"),
        (Clips, "With mode='text', the ratings"),
        (AsksNobody, "the model was not asked"),
        (Fails, "KeyError"),
        (Polite(llm=None), "Expected a subclass"),
        (dict, "Expected a subclass"),
        ("Polite", "Expected a subclass"),
    ],
}
