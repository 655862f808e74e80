"""Right and wrong answers to the questions of chapter 3."""

import math
import re

import numpy as np
import pandas as pd
import torch

from course_lib.exercises.checks import data
from course_lib.exercises.faults import pairs_to_audit

PAIRS = pairs_to_audit()
OFF = [p["id"] for p in PAIRS if not (1 <= p["chosen_rating"] <= 5 and 1 <= p["rejected_rating"] <= 5)]
AGAINST = [p["id"] for p in PAIRS if p["chosen_rating"] <= p["rejected_rating"]]
RATINGS = {name: row["ratings"][0] for name, row in data("rated_twice").items()}


def softmax(logits):
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def mean(logits):
    return sum(rating * p for rating, p in enumerate(softmax(logits), start=1))


def mean_array(logits):
    weights = np.exp(np.array(logits))
    return (np.arange(1, 6) * weights).sum() / weights.sum()


def average(forth, back):
    pairs = list(zip(forth, reversed(back), strict=True))
    return [(a + b) / 2 for a, b in pairs], [abs(a - b) for a, b in pairs]


def average_array(forth, back):
    both = np.array([forth, back[::-1]], dtype=float)
    return both.mean(axis=0), np.ptp(both, axis=0)


def average_tensor(forth, back):
    forth, back = torch.tensor(forth).float(), torch.tensor(back).float().flip(0)
    return (forth + back) / 2, (forth - back).abs()


def two_lists(off=OFF, against=AGAINST):
    return {"off the scale": off, "against the choice": against}


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


ROWS = data("stand_in_3")


def changed(place, **columns):
    return [{**row, **columns} if number == place else row for number, row in enumerate(ROWS)]


RIGHT = {
    "softmax_mean": [
        mean,
        mean_array,
        lambda logits: np.float32(mean(logits)),
        lambda logits: torch.softmax(torch.tensor(logits), 0) @ torch.arange(1.0, 6.0),
    ],
    "tie_breaker": [
        {"first": "mean", "second": "likeliest", "third": "neither"},
        {"third": "Neither", "second": " likeliest", "first": "MEAN "},
    ],
    "surest": ["c", " C "],
    "by_the_scale": [
        RATINGS,
        {name: row["ratings"][1] for name, row in data("rated_twice").items()},
        {**RATINGS, "alarm": 4.5},
        {"memory": 3, "grammar": 2, "camel": 4, "alarm": 3, "schedule": 4, "repotting": 4, "photos": 4},
        {name: np.float32(rating) for name, rating in {**RATINGS, "photos": 5, "memory": 2}.items()},
    ],
    "faulty_ratings": [
        two_lists(),
        two_lists(set(OFF), tuple(AGAINST[::-1])),
        dict(reversed(two_lists().items())),
        two_lists(map(str, OFF), np.array(AGAINST)),
        two_lists([row for row in PAIRS if row["id"] in OFF], pd.Series(AGAINST)),
    ],
    "both_orders": [average, average_array, average_tensor, lambda forth, back: list(average(forth, back))],
    "aspect_template": [POLITE, UPWARD, JAPANESE],
    "my_ratings": [
        ROWS,
        changed(0, ratings=[3.0, None, 4.0]),
        changed(1, ratings=np.array([1.5, 2.5, 5.0])),
        pd.DataFrame(ROWS),
        [{**row, "rationales": ["Short."]} for row in ROWS[1:]],
    ],
}
WRONG = {
    "softmax_mean": [
        (lambda logits: mean(logits) - 1, "one too low"),
        (softmax, "One step is left"),
        (lambda logits: 1 + logits.index(max(logits)), "the likeliest rating"),
        (
            lambda logits: sum(k * x for k, x in enumerate(logits, 1)) / (sum(logits) or 1),
            "the logits as weights",
        ),
        (lambda logits: sum(k * x for k, x in enumerate(logits, 1)), "your answer gives 16.5; expected 3.24"),
        (lambda logits: 6 - mean(logits), "your answer gives"),
        (lambda logits: print(mean(logits)), "let it return it"),
        (lambda logits: str(mean(logits)), "your answer gives '3."),
        (lambda logits: round(mean(logits)), "expected 3.24"),
        (3.0, "Expected a function"),
    ],
    "tie_breaker": [
        (
            {"first": "likeliest", "second": "likeliest", "third": "neither"},
            "the likeliest ratings are 4 and 4",
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
    "by_the_scale": [
        (dict.fromkeys(RATINGS, 5), "3 of your 7 ratings lie within a point"),
        (dict.fromkeys(RATINGS, 3), "Your mean is 3.00 for camel, schedule, photos"),
        (dict.fromkeys(RATINGS, 4), "at least a point apart"),
        ({**dict.fromkeys(RATINGS, 3), "grammar": 2}, "and 2.75 for the others"),
        (dict.fromkeys(RATINGS, 1), "you gave 1"),
        (
            {**RATINGS, "grammar": 5},
            "The two readings of 'grammar' gave [1.0, 2.0]; you gave 5. Their reasons:",
        ),
        ({**RATINGS, "alarm": 5, "memory": 5}, "5 of your 7"),
        ({**RATINGS, "alarm": 0}, "from 1 to 5"),
        ({**RATINGS, "alarm": "3"}, "without quotes"),
        ({**RATINGS, "alarm": None}, "of type NoneType"),
        ({"alarm": 3}, "Expected the keys"),
        (list(RATINGS.values()), "Expected a dict"),
    ],
    "faulty_ratings": [
        (two_lists(AGAINST, OFF), "off the scale: these are the ids of ratings against the choice"),
        (two_lists(OFF[:2]), "off the scale: 1 of 3 ids are missing"),
        (two_lists(against=AGAINST + OFF), "against the choice: 3 of your 6 ids do not have this fault"),
        (
            two_lists([p["id"] for p in PAIRS if p["chosen_rating"] > 5]),
            "off the scale: 1 of 3 ids are missing",
        ),
        (
            two_lists(against=[p["id"] for p in PAIRS if p["chosen_rating"] < p["rejected_rating"]]),
            "against the choice: 1 of 3 ids are missing",
        ),
        (two_lists([*OFF, 3]), "3] is no id of these pairs"),
        (two_lists(3), "xpected a list or a set of ids"),
        ({"off the scale": OFF}, "Expected the keys"),
        (OFF + AGAINST, "Expected a dict"),
    ],
    "both_orders": [
        (lambda forth, back: average(forth, back[::-1]), "seems not to be turned round"),
        (
            lambda forth, back: (
                average(forth, back)[0],
                [a - b for a, b in zip(forth, back[::-1], strict=True)],
            ),
            "the disagreement",
        ),
        (lambda forth, back: (forth, average(forth, back)[1]), "the ratings"),
        (lambda forth, back: average(forth, back)[0], "expected two lists"),
        (lambda forth, back: average(forth, back)[::-1], "the ratings"),
        (lambda forth, back: print(average(forth, back)), "let it return it"),
        (lambda forth, back: list(zip(*average(forth, back), strict=True)), "expected two lists"),
        (([4], [0]), "Expected a function"),
    ],
    "aspect_template": [
        (POLITE.replace("{% endblock %}", "", 1), "not valid Jinja"),
        (POLITE.replace("block scale", "block steps"), "There is no block scale"),
        ("Rate from 1 to 5: {{ text }}", "There is no block title, question, scale"),
        (POLITE.replace("{% extends layout %}\n", ""), "extends no layout"),
        (OWN_FRAME, "extends no layout"),
        (POLITE.replace("Politeness", " "), "title or the question is empty"),
        (POLITE.replace("3. Fair: neutral, without a kind word.\n", ""), "1, 2, 4, 5 came"),
        (CHILD, "5, 4, 3, 2, 1 came"),
        (re.sub(r"(\d\. \w+):.*", r"\1.", POLITE), "Step 1, 2, 3, 4, 5 of the scale is a single word"),
        (re.sub(r"(\d)\. .*", r"\1. Polite to a degree.", POLITE), "has the same words as another one"),
        (COPIED, "nearly the aspect 'relevance'"),
        (7, "Expected a template as text"),
    ],
    "my_ratings": [
        (data("stand_in_2"), "Row 1 has no column ['ratings']"),
        (changed(0, ratings=[3.0, 4.0]), "Row 1 has 3 completions and 2 ratings. N in, N out"),
        (changed(1, ratings=[3.0, 4.0, 10]), "a rating in row 2"),
        (changed(2, ratings=[None, None, 3.0]), "Row 3 has 1 ratings that are numbers; it needs two"),
        (changed(3, ratings=["4", "3", "2"]), "without quotes"),
        ([{**row, "ratings": [3.0, 3.0, 3.0]} for row in ROWS], "In every row all ratings are the same"),
        (changed(4, ratings=4.0), "expected a list of ratings"),
        (changed(0, instruction="What else?"), "is not among the rows of chapter 2"),
        (ROWS[:2], "You have 2 rows"),
        (5, "Expected a list of rows"),
    ],
}
