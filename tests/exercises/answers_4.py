"""Right and wrong answers to the questions of chapter 4."""

from collections import Counter

import numpy as np
import pandas as pd
import torch

from course_lib.exercises.checks import data
from course_lib.exercises.faults import pairs_to_audit
from course_lib.judging import cohens_kappa, pair_accuracy

PAIRS = pairs_to_audit()


def gaps(judged):
    return [item["ratings"]["good"] - item["ratings"]["worse"] for item in judged]


def accuracy_by_hand(judged):
    right = 0
    for gap in gaps(judged):
        if gap >= 0.005:
            right += 1
    return right / len(judged)


def rounded_first(judged):
    pairs = [(item["ratings"]["good"], item["ratings"]["worse"]) for item in judged]
    return sum(round(good, 2) > round(worse, 2) for good, worse in pairs) / len(pairs)


def ties_as_half(judged):
    return sum((gap >= 0.005) + (abs(gap) < 0.005) / 2 for gap in gaps(judged)) / len(judged)


def ties_left_out(judged):
    decided = [gap for gap in gaps(judged) if abs(gap) >= 0.005]
    return sum(gap > 0 for gap in decided) / max(len(decided), 1)


def kappa_by_table(a, b):
    labels = sorted(set(a) | set(b))
    table = np.array(
        [[sum(x == i and y == j for x, y in zip(a, b, strict=True)) for j in labels] for i in labels]
    )
    table = table / table.sum()
    chance = float(table.sum(0) @ table.sum(1))
    return (float(np.trace(table)) - chance) / (1 - chance)


def kappa_by_pandas(a, b):
    first, second = pd.Series(a), pd.Series(b)
    chance = (first.value_counts(normalize=True) * second.value_counts(normalize=True)).sum()
    return ((first == second).mean() - chance) / (1 - chance)


def observed(a, b):
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


def kappa_with(chance):
    return lambda a, b: (observed(a, b) - chance(a, b)) / (1 - chance(a, b))


def swap_by_winner(normal, turned):
    winners = (
        [{"first": "a", "second": "b"}.get(v) for v in normal],
        [{"first": "b", "second": "a"}.get(v) for v in turned],
    )
    agreement = np.mean([a == b for a, b in zip(*winners, strict=True)])
    return {"first": np.mean([v == "first" for v in [*normal, *turned]]), "agreement": agreement}


def swap_by_count(normal, turned):
    pairs = Counter(zip(normal, turned, strict=True))
    agree = pairs["first", "second"] + pairs["second", "first"] + pairs["tie", "tie"]
    first = Counter(normal)["first"] + Counter(turned)["first"]
    return {"agreement": agree / len(normal), "first": first / (2 * len(normal))}


def swap_by_pandas(normal, turned):
    back = pd.Series(turned).replace({"first": "second", "second": "first"})
    return {
        "agreement": (pd.Series(normal) == back).mean(),
        "first": (pd.Series(normal + turned) == "first").mean(),
    }


def swap_changed(**changes):
    """The right shares, but for what `changes` computes."""
    return lambda a, b: {**swap_by_count(a, b), **{name: change(a, b) for name, change in changes.items()}}


def ties_disagree(normal, turned):
    return sum({a, b} == {"first", "second"} for a, b in zip(normal, turned, strict=True)) / len(normal)


def first_of_decided(normal, turned):
    both = [v for v in normal + turned if v != "tie"]
    return both.count("first") / len(both)


def contradicting(pairs):
    found = []
    for one in pairs:
        for other in pairs:
            same = one["prompt"] == other["prompt"] and one["id"] != other["id"]
            if same and one["chosen"] == other["rejected"] and one["rejected"] == other["chosen"]:
                found.append((one["id"], other["id"]))
    return found


TWOS = contradicting(PAIRS)
CONTRADICTING = sorted({id_ for pair in TWOS for id_ in pair})
FIRSTS = sorted({min(pair) for pair in TWOS})
PROMPTS = Counter(pair["prompt"] for pair in PAIRS)
SAME_PROMPT = [pair["id"] for pair in PAIRS if PROMPTS[pair["prompt"]] > 1]
SEEN = {(pair["prompt"], pair["chosen"], pair["rejected"]) for pair in PAIRS}
WITH_IDENTICAL = [pair["id"] for pair in PAIRS if (pair["prompt"], pair["rejected"], pair["chosen"]) in SEEN]
LABELS = {name: row["verdict"].replace("open", "no difference") for name, row in data("real_pairs").items()}
JUDGES = {"off_topic": "likelihood", "decent": "default", "sums": "program", "reasons": "text"}
ROWS = data("stand_in_4")


def changed(place, **columns):
    return [{**row, **columns} if number == place else row for number, row in enumerate(ROWS)]


RIGHT = {
    "accuracy": [
        accuracy_by_hand,
        lambda judged: pair_accuracy(judged)[-1]["accuracy"],
        lambda judged: np.mean([gap >= 0.005 for gap in gaps(judged)]),
        lambda judged: (torch.tensor(gaps(judged)) >= 0.005).float().mean(),
        lambda judged: (pd.Series(gaps(judged)) >= 0.005).mean(),
    ],
    "which_judge": [
        JUDGES,
        {"reasons": " Text ", "sums": "Program", "off_topic": "LIKELIHOOD", "decent": "default"},
    ],
    "kappa": [cohens_kappa, kappa_by_table, kappa_by_pandas, lambda a, b: np.float32(cohens_kappa(a, b))],
    "swap_agreement": [
        swap_by_winner,
        swap_by_count,
        swap_by_pandas,
        lambda a, b: {name: torch.tensor(share) for name, share in swap_by_count(a, b).items()},
    ],
    "beats_a_coin": [
        ["facts", "format", "how-to"],
        {"how-to", "Format", " facts"},
        ("format", "how-to", "facts"),
        {"facts": 1, "format": 2, "how-to": 3}.keys(),
        np.array(["facts", "format", "how-to"]),
    ],
    "contradictions": [
        CONTRADICTING,
        set(CONTRADICTING),
        tuple(reversed(CONTRADICTING)),
        list(map(str, CONTRADICTING)),
        TWOS,
        [pair for pair in PAIRS if pair["id"] in CONTRADICTING],
    ],
    "blind_labels": [
        LABELS,
        {**LABELS, "real-037": "B", "real-024": "A"},
        {**LABELS, "real-130": "no difference"},
        {name: label.lower() for name, label in {**LABELS, "real-098": "B"}.items()},
    ],
    "my_labels": [
        ROWS,
        changed(1, label="A"),
        pd.DataFrame(ROWS),
        [{**row, "A": row["B"], "B": row["A"]} for row in ROWS],
        (row for row in ROWS[:4]),
        [{**row, "label": "no difference"} for row in ROWS],
        [{**row, "label": "A"} for row in ROWS],
    ],
    "my_judge": [(2, 3), [2, 3], np.array([2, 3]), (np.int64(2), 3.0), torch.tensor([2, 3])],
}
WRONG = {
    "accuracy": [
        (lambda judged: sum(gap > -0.005 for gap in gaps(judged)) / len(judged), "ties count as right here"),
        (ties_as_half, "ties count as half right"),
        (rounded_first, "three 0.002 apart: ratings were rounded before"),
        (ties_left_out, "ties were left out"),
        (lambda judged: sum(gap > 0 for gap in gaps(judged)) / len(judged), "three 0.002 apart"),
        (lambda judged: sum(gap >= 0.005 for gap in gaps(judged)), "For four items with one tie"),
        (lambda judged: 100 * accuracy_by_hand(judged), "expected 0.5"),
        (lambda judged: print(accuracy_by_hand(judged)), "let it return it"),
        (lambda judged: 0.9 if len(judged) == 1 else accuracy_by_hand(judged), "For a single item"),
        (0.5, "Expected a function"),
    ],
    "which_judge": [
        (
            {**JUDGES, "off_topic": "default", "decent": "likelihood"},
            "about nine of ten fluent items, and in about two of three pairs that small models wrote",
        ),
        ({**JUDGES, "decent": "text", "reasons": "default"}, "depend on the order"),
        ({**JUDGES, "sums": "text", "reasons": "program"}, "'sums' is no job for 'text'"),
        ({**JUDGES, "reasons": "default"}, "it writes nothing"),
        (
            {**JUDGES, "decent": "likelihood"},
            "two fluent answers. Of this judge we know: it measures how likely",
        ),
        ({**JUDGES, "sums": "calculator"}, "sums: 'calculator'; allowed: 'default'"),
        ({**JUDGES, "off_topic": 3}, "off_topic: 3; allowed"),
        ({"off_topic": "likelihood"}, "Expected the keys"),
        ("default", "Expected a dict"),
    ],
    "kappa": [
        (observed, "the plain share of equal labels"),
        (kappa_with(lambda a, b: 1 / len(set(a) | set(b))), "chance is not the same for all labels"),
        (
            kappa_with(lambda a, b: sum((a + b).count(v) ** 2 for v in set(a + b)) / (2 * len(a)) ** 2),
            "were pooled",
        ),
        (lambda a, b: abs(cohens_kappa(a, b)), "expected -"),
        (lambda a, b: str(cohens_kappa(a, b)), "expected 1"),
        (lambda a, b: cohens_kappa(a, b) if len(set(a + b)) < 3 else 0.3, "tie"),
        (lambda a, b: print(cohens_kappa(a, b)), "let it return it"),
        (lambda a, b: observed(a, b) - 0.5, "expected 1"),
        (0.7, "Expected a function"),
    ],
    "swap_agreement": [
        (swap_changed(agreement=observed), "you count the same place"),
        (swap_changed(agreement=ties_disagree), "ties in both runs"),
        (swap_changed(first=lambda a, b: a.count("first") / len(a)), "a judge whom the order leaves cold"),
        (swap_changed(first=lambda a, b: a.count("first") + b.count("first")), "expected"),
        (swap_changed(first=first_of_decided), "one tie in one run"),
        (swap_changed(first=lambda a, b: (a + b).count("second") / len(a + b)), "expected"),
        (lambda a, b: swap_by_count(a, b)["agreement"], "expected {'agreement'"),
        (lambda a, b: tuple(swap_by_count(a, b).values()), "expected {'agreement'"),
        (lambda a, b: print(swap_by_count(a, b)), "let it return it"),
        ({"agreement": 1.0, "first": 0.5}, "Expected a function"),
    ],
    "beats_a_coin": [
        (
            ["advice", "creative", "facts", "format", "how-to"],
            "advice (6 items): its interval goes from 0.44 to 0.97",
        ),
        (["creative", "facts", "format", "how-to"], "creative (12 items)"),
        (
            ["facts", "format", "how-to", "reasoning"],
            "0.16 to 0.43, so the judge is worse than a coin",
        ),
        (
            ["explanation", "facts", "format", "how-to"],
            "0.35 to 0.65, so the judge may be a coin",
        ),
        (["format"], "2 more: a shorter bar"),
        ([], "3 more"),
        (["format", "all"], "Your answer names 'all'; allowed: 'advice'"),
        ([3], "Your answer names 3; allowed"),
        ("format", "Expected a list"),
    ],
    "contradictions": [
        (FIRSTS, "You name one pair of each contradiction"),
        (SAME_PROMPT, "These share a prompt"),
        (WITH_IDENTICAL, "are in no contradiction"),
        (CONTRADICTING[:1], "are missing"),
        (CONTRADICTING[:-1], "1 of 6 ids are missing"),
        ([*CONTRADICTING, 10_000], "is no id of these pairs"),
        (FIRSTS[:2], "4 of 6 ids are missing"),
        ([], "6 of 6 ids are missing"),
        (10, "Expected a list"),
    ],
    "blind_labels": [
        (
            dict.fromkeys(LABELS, "A"),
            "3 of 6 of your verdicts are those of six readings that agree; 5 are enough",
        ),
        (dict.fromkeys(LABELS, "no difference"), "Read 'real-031' again"),
        ({**LABELS, "real-071": "B", "real-039": "B"}, "denies that it is a traditional alphabet"),
        ({**LABELS, "real-071": "first"}, "real-071: 'first'; allowed: 'A', 'B', 'no difference'"),
        ({**LABELS, "real-071": 1}, "real-071: 1; allowed: 'A', 'B'"),
        ({**LABELS, "real-071": ["A"]}, "real-071: ['A']; allowed: 'A', 'B'"),
        ({"real-071": "A"}, "Expected the keys"),
        (list(LABELS.values()), "Expected a dict"),
    ],
    "my_labels": [
        ([{k: v for k, v in row.items() if k != "label"} for row in ROWS], "Row 1 has no column ['label']"),
        (changed(0, label="better"), "Row 1 has the label 'better'; allowed: 'A', 'B', 'no difference'"),
        (changed(1, label=None), "Row 2 has the label None"),
        (
            changed(2, A="Something else."),
            "Row 3: ['Something else.'] is none of the completions of chapter 3",
        ),
        (changed(3, A=ROWS[3]["B"]), "Row 4: A and B are the same text"),
        ([{**row, "label": ""} for row in ROWS], "Row 1 has the label ''; allowed"),
        (changed(4, instruction="?"), "is not among the rows of chapter 3"),
        (ROWS[:3], "You have 3 rows"),
        ({row["id"]: row["label"] for row in ROWS}, "Expected a list of rows"),
    ],
    "my_judge": [
        ((1, 3), "where the ratings prefer the other text"),
        ((3, 3), "The pairs in which judge and label prefer the same text"),
        ((2, 5), "The pairs with a label of A or B"),
        (2 / 3, "Expected a pair of counts"),
        ((2,), "Expected a pair of counts"),
        ("2 of 3", "Expected a pair of counts"),
        ({"agreed": 2, "decided": 3}, "Expected a pair of counts"),
    ],
}
