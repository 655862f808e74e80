"""Right and wrong answers to the questions of chapter 4."""

import math
import re
from collections import Counter

import numpy as np

from course_lib.judging import cohens_kappa, pair_accuracy, wilson_interval
from course_lib.steps import Step
from course_lib.steps.load import DATA, read_jsonl

PAIRS = read_jsonl(DATA / "faulty_preferences.jsonl")


def accuracy_by_hand(judged):
    right = 0
    for item in judged:
        good, worse = item["ratings"]["good"], item["ratings"]["worse"]
        if good is not None and worse is not None and good - worse >= 0.005:
            right += 1
    return right / len(judged) if judged else None


def gaps(judged):
    ratings = [item["ratings"] for item in judged]
    return [r["good"] - r["worse"] if None not in r.values() else math.nan for r in ratings]


def share(values, count):
    return sum(values) / count if count else None


def ties_as_right(judged):
    return share([gap > -0.005 for gap in gaps(judged)], len(judged))


def ties_as_half(judged):
    return share([(gap >= 0.005) + (abs(gap) < 0.005) / 2 for gap in gaps(judged)], len(judged))


def ties_left_out(judged):
    decided = [gap for gap in gaps(judged) if abs(gap) >= 0.005]
    return share([gap > 0 for gap in decided], len(decided)) if decided else 0.0


def missing_left_out(judged):
    known = [gap for gap in gaps(judged) if not math.isnan(gap)]
    return share([gap >= 0.005 for gap in known], len(known))


def textbook(right, items):
    if not items:
        return 0, 1
    p = right / items
    half = 1.96 * math.sqrt(p * (1 - p) / items)
    return p - half, p + half


def undivided(right, items):
    low, high = wilson_interval(right, items)
    scale = 1 + 1.96**2 / items if items else 1
    return low * scale, high * scale


def wilson_by_roots(right, items):
    """Both ends solve (p − x)² = z² x (1 − x) / n."""
    if not items:
        return [0, 1]
    p, k = right / items, 1.96**2 / items
    return sorted(np.roots([1 + k, -(2 * p + k), p * p]).real)


def kappa_by_table(a, b):
    labels = sorted(set(a) | set(b))
    table = np.array(
        [[sum(x == i and y == j for x, y in zip(a, b, strict=True)) for j in labels] for i in labels]
    )
    if len(labels) < 2:
        return math.nan
    table = table / table.sum()
    chance = float(table.sum(0) @ table.sum(1))
    return (float(np.trace(table)) - chance) / (1 - chance)


def observed(a, b):
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a) if a else None


def kappa_with(chance):
    def answer(a, b):
        if len(set(a) | set(b)) < 2:
            return None
        by_luck = chance(a, b)
        return (observed(a, b) - by_luck) / (1 - by_luck)

    return answer


def undefined_as(value):
    def answer(a, b):
        return value if len(set(a) | set(b)) < 2 else cohens_kappa(a, b)

    return answer


def swap_by_winner(normal, turned):
    if len(normal) == 0:
        return None
    winners = (
        [{"first": "a", "second": "b"}.get(v) for v in normal],
        [{"first": "b", "second": "a"}.get(v) for v in turned],
    )
    agreement = np.mean([a == b for a, b in zip(*winners, strict=True)])
    return {"first": np.mean([v == "first" for v in [*normal, *turned]]), "agreement": agreement}


def swap_by_count(normal, turned):
    pairs = Counter(zip(normal, turned, strict=True))
    agree = pairs["first", "second"] + pairs["second", "first"] + pairs["tie", "tie"]
    count = len(normal)
    first = Counter(normal)["first"] + Counter(turned)["first"]
    return {"agreement": agree / count, "first": first / (2 * count)} if count else None


def swap_changed(**changes):
    """The right shares, but for what `changes` computes."""

    def answer(normal, turned):
        made = swap_by_count(normal, turned)
        return made and {**made, **{name: change(normal, turned) for name, change in changes.items()}}

    return answer


def same_place(normal, turned):
    return observed(normal, turned)


def ties_disagree(normal, turned):
    return sum({a, b} == {"first", "second"} for a, b in zip(normal, turned, strict=True)) / len(normal)


def first_of_decided(normal, turned):
    both = [v for v in normal + turned if v != "tie"]
    return both.count("first") / len(both) if both else 0.0


def contradicting(pairs):
    found = []
    for one in pairs:
        for other in pairs:
            same = one["prompt"] == other["prompt"] and one["id"] != other["id"]
            if same and one["chosen"] == other["rejected"] and one["rejected"] == other["chosen"]:
                found.append(one["id"])
    return found


CONTRADICTING = contradicting(PAIRS)
PROMPTS = Counter(pair["prompt"] for pair in PAIRS)
SAME_PROMPT = [pair["id"] for pair in PAIRS if PROMPTS[pair["prompt"]] > 1]
SEEN = {(pair["prompt"], pair["chosen"], pair["rejected"]) for pair in PAIRS}
WITH_IDENTICAL = [pair["id"] for pair in PAIRS if (pair["prompt"], pair["rejected"], pair["chosen"]) in SEEN]
LATER_ONES = [
    k for k in CONTRADICTING if any(p["id"] < k and p["prompt"] == PAIRS[k]["prompt"] for p in PAIRS)
]


def result_of(instruction):
    asked = re.search(r"(\d+) (\+|−|×|plus|minus|times) (\d+)", instruction)
    if not asked:
        return None
    a, b = int(asked[1]), int(asked[3])
    return {"+": a + b, "p": a + b, "−": a - b, "m": a - b, "×": a * b, "t": a * b}[asked[2][0]]


def numbers_in(text):
    return [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", text)]


def judged_by(rate):
    """A judge that computes the result, and rates each text by `rate(result, text, instruction)`."""

    def judge(row):
        result = result_of(row["instruction"])
        if result is None:
            return [None] * len(row["generations"])
        return [
            None if text is None else rate(result, text, row["instruction"]) for text in row["generations"]
        ]

    return judge


def by_count(result, text, instruction):
    """The result must stand there once more than the question alone accounts for."""
    said, asked = Counter(numbers_in(text)), Counter(numbers_in(instruction))
    echoed = asked[result] if sum((said & asked).values()) >= 2 else 0
    return 4.5 if said[result] > echoed else 2.0


def by_nearness(result, text, instruction):
    """Half a point off for each tenth that the nearest number of the answer is away."""
    own = [n for n in numbers_in(text) if n not in numbers_in(instruction)] or numbers_in(text)
    away = min((abs(n - result) for n in own), default=999)
    return np.float64(max(1.0, 5.0 - 0.5 * away / 10))


def nothing_but_the_number(result, text, instruction):
    return 5 if text == str(result) else 1


compute = judged_by(by_count)


class JudgeOfSums(Step):
    inputs = ["instruction", "generations"]
    outputs = ["ratings"]

    def process(self, rows):
        yield [{**row, "ratings": compute(row)} for row in rows]


class ForgetsRatings(Step):
    def process(self, rows):
        yield [{**row, "score": compute(row)} for row in rows]


def only_additions(row):
    return compute(row) if re.search(r"\+|plus", row["instruction"]) else [None] * len(row["generations"])


def by_place(row):
    return [None if rating is None else 5 - place for place, rating in enumerate(compute(row))]


def half_by_place(row):
    """Goes by place where it sees a product."""
    return by_place(row) if re.search("×|times", row["instruction"]) else compute(row)


def rates_everything(row):
    return [
        3 if rating is None and text else rating
        for rating, text in zip(compute(row), row["generations"], strict=True)
    ]


def rates_years(row):
    return rates_everything(row) if "king" in row["instruction"] else compute(row)


def rates_nothing_too(row):
    return [rating or 1 for rating in compute(row)] if result_of(row["instruction"]) else compute(row)


def refuses_rows_with_none(row):
    return [None] * len(row["generations"]) if None in row["generations"] else compute(row)


def of_hundred(row):
    return [rating and 20 * rating for rating in compute(row)]


def up_to_six(row):
    return [rating and (6 if rating > 3 else 1) for rating in compute(row)]


def from_zero(row):
    return [rating and rating - 2 for rating in compute(row)]


RIGHT = {
    "accuracy": [
        accuracy_by_hand,
        lambda judged: pair_accuracy(judged)[-1]["accuracy"],
        lambda judged: np.mean([gap >= 0.005 for gap in gaps(judged)]) if judged else math.nan,
    ],
    "which_judge": [
        {"off_topic": "likelihood", "decent": "default", "sums": "program", "reasons": "text"},
        {"reasons": " Text ", "sums": "Program", "off_topic": "LIKELIHOOD", "decent": "default"},
    ],
    "wilson": [
        wilson_interval,
        wilson_by_roots,
        lambda right, items: np.array(wilson_interval(right, items)),
    ],
    "kappa": [undefined_as(None), kappa_by_table],
    "swap_agreement": [swap_by_winner, swap_by_count],
    "beats_a_coin": [
        ["facts", "format", "how-to"],
        {"how-to", "Format", " facts"},
        ("format", "how-to", "facts"),
    ],
    "contradictions": [CONTRADICTING, set(CONTRADICTING), tuple(reversed(CONTRADICTING))],
    "judge_of_sums": [compute, judged_by(by_nearness), JudgeOfSums(), lambda row: tuple(compute(row))],
}
WRONG = {
    "accuracy": [
        (ties_as_right, "ties count as right here"),
        (ties_as_half, "ties count as half right"),
        (ties_left_out, "ties and missing ratings were left out"),
        (missing_left_out, "missing ratings were left out"),
        (
            lambda judged: share([i["ratings"]["good"] > i["ratings"]["worse"] for i in judged], len(judged)),
            "raised TypeError",
        ),
        (lambda judged: share([gap > 0 for gap in gaps(judged)], len(judged)), "differ by 0.002"),
        (
            lambda judged: accuracy_by_hand(judged) if judged else 0,
            "For no items there is no share: your answer gives",
        ),
        (lambda judged: len(judged), "For four items with one tie"),
        (lambda judged: 0.5 if len(judged) == 2 else accuracy_by_hand(judged), "two ties"),
        (lambda judged: 0.9 if len(judged) == 1 else accuracy_by_hand(judged), "For a single item"),
        (
            lambda judged: accuracy_by_hand(judged) if judged else "none",
            "For no items there is no share: your answer gives",
        ),
        (0.5, "Expected a function"),
    ],
    "which_judge": [
        (
            {"off_topic": "default", "decent": "likelihood", "sums": "program", "reasons": "text"},
            "off_topic is about",
        ),
        (
            {"off_topic": "likelihood", "decent": "text", "sums": "program", "reasons": "default"},
            "depend on the order",
        ),
        (
            {"off_topic": "likelihood", "decent": "default", "sums": "text", "reasons": "program"},
            "sums is about",
        ),
        (
            {"off_topic": "likelihood", "decent": "default", "sums": "program", "reasons": "default"},
            "it writes nothing",
        ),
        (
            {"off_topic": "likelihood", "decent": "default", "sums": "calculator", "reasons": "text"},
            "sums: 'calculator'; allowed: 'likelihood'",
        ),
        (
            {"off_topic": 3, "decent": "default", "sums": "program", "reasons": "text"},
            "off_topic: 3; allowed",
        ),
        ({"off_topic": "likelihood"}, "Expected the keys"),
        ("default", "Expected a dict"),
    ],
    "wilson": [
        (textbook, "this is the textbook interval"),
        (lambda right, items: wilson_interval(right, items, 1.0), "z = 1, which holds in 68%"),
        (undivided, "divide both ends"),
        (lambda right, items: wilson_interval(right, items)[::-1], "For 8 right of 10"),
        (lambda right, items: wilson_interval(right, items, 2.58), "For 8 right of 10"),
        (lambda right, items: wilson_interval(right, items) if items else (0, 0), "For 0 right of 0"),
        (lambda right, items: wilson_interval(right, items * items // items), "raised ZeroDivisionError"),
        (lambda right, items: right / items if items else 0, "For 8 right of 10"),
        (
            lambda right, items: (
                textbook(right, items) if right in (0, items) else wilson_interval(right, items)
            ),
            "textbook",
        ),
        (0.8, "Expected a function"),
    ],
    "kappa": [
        (observed, "the plain share of equal verdicts"),
        (kappa_with(lambda a, b: 1 / len(set(a) | set(b))), "chance is not the same for all labels"),
        (
            kappa_with(lambda a, b: sum((a + b).count(v) ** 2 for v in set(a + b)) / (2 * len(a)) ** 2),
            "were pooled",
        ),
        (undefined_as(1), "is not defined"),
        (lambda a, b: undefined_as(None)(a, b) if a else 0, "For two empty lists"),
        (lambda a, b: undefined_as(None)(a, b) if len(set(a + b)) != 1 else 1.0, "two raters who both say A"),
        (lambda a, b: cohens_kappa(a, b), "your function raised"),
        (lambda a, b: abs(undefined_as(None)(a, b) or 0), "expected -"),
        (lambda a, b: str(cohens_kappa(a, b)), "expected 1"),
        (lambda a, b: undefined_as(None)(a, b) if len(set(a + b)) < 3 else 0.3, "tie"),
        (0.7, "Expected a function"),
    ],
    "swap_agreement": [
        (swap_changed(agreement=same_place), "you count the same place"),
        (swap_changed(agreement=ties_disagree), "of whom all is a tie"),
        (swap_changed(first=lambda a, b: a.count("first") / len(a)), "a judge whom the order leaves cold"),
        (swap_changed(first=lambda a, b: a.count("first") + b.count("first")), "expected"),
        (swap_changed(first=first_of_decided), "one tie in one run"),
        (swap_changed(first=lambda a, b: (a + b).count("second") / len(a + b)), "expected"),
        (
            lambda a, b: swap_by_count(a, b) or {"agreement": 0, "first": 0},
            "For no items there are no shares",
        ),
        (lambda a, b: swap_by_count(a, b)["agreement"] if a else None, "expected {'agreement'"),
        (lambda a, b: {"agreement": 1 / len(a), "first": 1}, "expected {'agreement': 0.0"),
        (
            lambda a, b: swap_changed(agreement=same_place)(a, b) if "tie" in a else swap_by_count(a, b),
            "For one tie in one run: you count the same place",
        ),
        ({"agreement": 1.0, "first": 0.5}, "Expected a function"),
    ],
    "beats_a_coin": [
        (
            ["advice", "creative", "facts", "format", "how-to"],
            "advice (6 items): its interval goes from 0.44 to 0.97",
        ),
        (["creative", "facts", "format", "how-to"], "creative (12 items)"),
        (["explanation", "facts", "format", "how-to"], "explanation (40 items)"),
        (["facts", "format", "how-to", "reasoning"], "reasoning (40 items)"),
        (["format"], "2 more: a shorter bar"),
        (["format", "facts"], "1 more"),
        ([], "3 more"),
        (["format", "all"], "Your answer names 'all'; allowed: 'advice'"),
        ([3], "Your answer names 3; allowed"),
        ("format", "Expected a list"),
    ],
    "contradictions": [
        (
            CONTRADICTING[:1]
            + [k for k in CONTRADICTING[1:] if PAIRS[k]["prompt"] != PAIRS[CONTRADICTING[0]]["prompt"]][:1],
            "both",
        ),
        (LATER_ONES, "You name one pair of each contradiction"),
        (SAME_PROMPT, "share a prompt"),
        (WITH_IDENTICAL, "are in no contradiction"),
        (CONTRADICTING[:1], "are missing"),
        (CONTRADICTING[:3], "1 of 4 ids are missing"),
        ([*CONTRADICTING, 10_000], "1 of your 5"),
        ([*LATER_ONES, 10_000], "1 of your 3"),
        ([], "4 of 4 ids are missing"),
        (10, "Expected a list"),
    ],
    "judge_of_sums": [
        (judged_by(lambda result, text, instruction: 3), "12 ties"),
        (judged_by(lambda result, text, instruction: 5 - len(text) / 20), "must lie above"),
        (judged_by(nothing_but_the_number), "your judge is right in 2, 10 ties"),
        (only_additions, "8 without a rating"),
        (by_place, "Do not go by place"),
        (half_by_place, "Do not go by place"),
        (rates_everything, "about 12 geese.', which asks for no sum"),
        (rates_years, "and who in 1087?', which asks for no sum"),
        (rates_nothing_too, "expected a rating and None"),
        (refuses_rows_with_none, "expected a rating and None"),
        (of_hundred, "expected ratings that are numbers from 1 to 5"),
        (from_zero, "expected ratings that are numbers from 1 to 5"),
        (up_to_six, "expected ratings that are numbers from 1 to 5, or None; your answer gives [6"),
        (
            lambda row: compute(row)[:1],
            "expected a list of ratings, one for each text; your answer gives [4.5]",
        ),
        (lambda row: {"ratings": compute(row)}, "expected a list of ratings"),
        (
            lambda row: [str(rating) for rating in compute(row)],
            "expected ratings that are numbers from 1 to 5",
        ),
        (lambda row: [eval(row["instruction"])], "your function raised SyntaxError"),
        (JudgeOfSums, "not the class of one"),
        (ForgetsRatings(), "raised KeyError: 'ratings'"),
        (5, "Expected a function"),
    ],
}
