"""Right and wrong answers to the questions of chapter 1."""

import math
from difflib import SequenceMatcher
from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from course_lib.distiset import Distiset
from course_lib.exercises.checks import data
from course_lib.exercises.faults import bare, pairs_to_audit
from course_lib.steps.filtering import similarity

PAIRS = pairs_to_audit()
IDENTICAL = [pair["id"] for pair in PAIRS if bare(pair["chosen"]) == bare(pair["rejected"])]
EXACT = [pair["id"] for pair in PAIRS if pair["chosen"] == pair["rejected"]]


def softmax(logits, temperature):
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def softmax_array(logits, temperature):
    scaled = np.exp(np.array(logits) / temperature)
    return scaled / scaled.sum()


def softmax_lazy(logits, temperature):
    total = sum(math.exp(logit / temperature) for logit in logits)
    return (math.exp(logit / temperature) / total for logit in logits)


def softmax_divided_late(logits, temperature):
    weights = [math.exp(logit) / temperature for logit in logits]
    return [weight / sum(weights) for weight in weights]


def softmax_rounded(logits, temperature):
    return [round(share, 1) for share in softmax(logits, temperature)]


def grouped(rows):
    found = {}
    for row in rows:
        empty = {"instruction": row["instruction"], "generations": [], "generation_models": []}
        group = found.setdefault(row["instruction"], empty)
        group["generations"].append(row["generation"])
        group["generation_models"].append(row["model_name"])
    return list(found.values())


def grouped_by_search(rows):
    names = list(dict.fromkeys(row["instruction"] for row in rows))
    return [
        {
            "generation_models": [row["model_name"] for row in rows if row["instruction"] == name],
            "generations": tuple(row["generation"] for row in rows if row["instruction"] == name),
            "instruction": name,
        }
        for name in names
    ]


def grouped_by_pandas(rows):
    groups = pd.DataFrame(rows).groupby("instruction", sort=False)
    lists = groups.agg(generations=("generation", list), generation_models=("model_name", list))
    return lists.reset_index()


def unlike(texts, like, limit):
    if len(texts) < 2 or not all(text.strip() for text in texts):
        return False
    return all(like(a, b) < limit for a, b in combinations(texts, 2))


def letters(a, b):
    return SequenceMatcher(None, bare(a), bare(b)).ratio()


def words_shared(a, b):
    first, second = set(bare(a).split()), set(bare(b).split())
    return len(first & second) / len(first | second)


def no_word_shared(texts):
    return unlike(texts, lambda a, b: len(set(bare(a).split()) & set(bare(b).split())), 1)


# As they would come from a pool.
POOL = data("stand_in_1")


def changed(place, **columns):
    """The rows of a pool with another row at a place."""
    return [{**row, **columns} if number == place else row for number, row in enumerate(POOL)]


RIGHT = {
    "identical_pair": ["nothing", " Nothing ", "NOTHING", "'nothing'".strip("'")],
    "softmax_at": [
        softmax,
        softmax_array,
        softmax_lazy,
        lambda logits, temperature: torch.softmax(torch.tensor(logits) / temperature, dim=0),
        lambda logits, temperature: pd.Series(softmax(logits, temperature)),
    ],
    "unrelated_below": [0.36, np.float32(0.36), np.float64(0.33), 0.4, Fraction(36, 100), torch.tensor(0.36)],
    "side_by_side": [grouped, grouped_by_search, grouped_by_pandas, lambda rows: iter(grouped(rows))],
    "identical_pairs": [
        IDENTICAL,
        set(IDENTICAL),
        np.array(IDENTICAL),
        [str(id_) for id_ in IDENTICAL],
        [row for row in PAIRS if row["id"] in IDENTICAL],
        (id_ for id_ in IDENTICAL),
        pd.Series(IDENTICAL),
    ],
    "is_diverse": [
        lambda texts: unlike(texts, similarity, 0.7),
        lambda texts: np.bool_(unlike(texts, letters, 0.75)),
        lambda texts: unlike(texts, words_shared, 0.5),
        lambda texts: torch.tensor(unlike(texts, similarity, 0.8)),
        lambda texts: (
            len(texts) > 1
            and all(map(str.strip, texts))
            and not any(similarity(a, b) > 0.9 for a, b in combinations(texts, 2))
        ),
    ],
    "my_pool": [
        POOL,
        pd.DataFrame(POOL),
        (row for row in POOL),
        [{**row, "generations": tuple(row["generations"]), "note": "mine"} for row in POOL[:4]],
        changed(2, generations=[f"A b c d e f g {last}." for last in ("h i", "j k")]),
    ],
}
WRONG = {
    "identical_pair": [
        ("brevity", "equally long"),
        ("both", "the difference stays 0"),
        ("less", "allowed"),
        (0, "allowed"),
        (["nothing"], "allowed"),
        (None, "allowed"),
    ],
    "softmax_at": [
        (lambda logits, temperature: softmax(logits, 1 / temperature), "multiplied by the temperature"),
        (lambda logits, temperature: softmax(logits, 1.0), "has no effect. Divide by it before exp"),
        (softmax_divided_late, "has no effect. Divide by it before exp"),
        (
            lambda logits, temperature: np.array(softmax(logits, 1)) / temperature,
            "before exp, not the shares",
        ),
        (lambda logits, temperature: [1 / len(logits)] * len(logits), "[1.0, 2.0, 3.0] at temperature 1.0"),
        (lambda logits, temperature: [math.exp(x / temperature) for x in logits], "do not add up to 1"),
        (lambda logits, temperature: print(softmax(logits, temperature)), "let it return it"),
        (softmax_rounded, "expected [0.0"),
        (lambda logits, temperature: softmax(logits, temperature)[-1], "expected [0.0"),
        ([0.1, 0.2, 0.7], "Expected a function"),
    ],
    "unrelated_below": [
        (0.05, "too low"),
        (0.6, "too high"),
        (95, "from 0 to 1"),
        (0.9, "100% of the off-topic answers lie below"),
        (-0.1, "from 0 to 1"),
        ("0.36", "without quotes"),
        (0.27, "too low"),
        (True, "of type bool"),
        ([0.36], "of type list"),
    ],
    "side_by_side": [
        (lambda rows: rows, "5 rows went in, 5 came out"),
        (
            lambda rows: grouped(sorted(rows, key=lambda row: row["instruction"])),
            "The order of the instructions",
        ),
        (
            lambda rows: grouped(sorted(rows, key=lambda row: row["model_name"])),
            "The order of the instructions: your answer gives ['a?', 'b?', 'c?']; expected ['b?', 'a?', 'c?']",
        ),
        (
            lambda rows: [{**row, "generations": row["generations"][::-1]} for row in grouped(rows)][::-1],
            "The order",
        ),
        (
            lambda rows: [
                {**row, "generation_models": sorted(row["generation_models"])} for row in grouped(rows)
            ],
            "For the instruction 'b?', the column generation_models: your answer gives ['m', 'n', 'o']",
        ),
        (lambda rows: [list(row) for row in grouped(rows)], "Row 1: expected a dict for each instruction"),
        (
            lambda rows: [{**row, "generations": set(row["generations"])} for row in grouped(rows)],
            "For the instruction 'b?', the column generations",
        ),
        (lambda rows: grouped(rows)[:1], "5 rows went in, 1 came out"),
        (lambda rows: grouped(rows)[0], "Expected a list"),
        (lambda rows: {row["instruction"]: row for row in grouped(rows)}, "Expected a list"),
        (lambda rows: print(grouped(rows)), "let it return it"),
        (
            lambda rows: [{**row, "model": 1} for row in grouped(rows)],
            "Row 1, the columns: your answer gives",
        ),
        (grouped(PAIRS[:0]), "Expected a function"),
    ],
    "identical_pairs": [
        (EXACT, "equal letter by letter"),
        ([pair["id"] for pair in PAIRS], "are not identical pairs"),
        (IDENTICAL[:1], "are missing"),
        ([*IDENTICAL, 10_000], "10000] is no id of these pairs; they go from 101 to 157"),
        ([PAIRS.index(pair) for pair in PAIRS if pair["id"] in IDENTICAL], "is no id of these pairs"),
        ([], "are missing"),
        (3, "Expected a list"),
        ([True], "xpected ids"),
        ([None], "xpected ids"),
    ],
    "is_diverse": [
        (lambda texts: len(set(texts)) == len(texts), "capitals and spaces alone"),
        (lambda texts: True, "letter by letter"),
        (lambda texts: False, "without a common word"),
        (no_word_shared, "a few words in common are no harm"),
        (lambda texts: similarity(texts[0], texts[1]) < 0.97, "nineteen words of twenty"),
        (lambda texts: similarity(texts[0], texts[1]) < 0.8, "compare all pairs"),
        (
            lambda texts: all(similarity(a, b) < 0.8 for a, b in combinations(texts, 2)),
            "for a single text".capitalize(),
        ),
        (
            lambda texts: len(texts) > 1 and all(similarity(a, b) < 0.8 for a, b in combinations(texts, 2)),
            "an empty one",
        ),
        (lambda texts: 0.3, "expected True or False"),
        (lambda texts: print(unlike(texts, similarity, 0.8)), "let it return it"),
        (lambda texts: unlike(texts, similarity, 0.05), "a few words in common are no harm"),
    ],
    "my_pool": [
        (POOL[:3], "You have 3 rows; at least 4"),
        (
            changed(2, generations=["One."], generation_models=["m"]),
            "Row 3 has one completion; a pair needs two",
        ),
        (changed(1, generations=[], generation_models=[]), "Row 2 has no completion"),
        (changed(0, generations=["A.", "  "]), "Row 1 has one completion"),
        (
            changed(0, generations=["A.", "B.", None], generation_models=["m", "n", "m"]),
            "Row 1: 1 of 3 completions are empty",
        ),
        (changed(3, generation_models=["m", "m"]), "Row 4 has completions of one model alone, 'm'"),
        (changed(0, generation_models=["m"]), "Row 1, the names in generation_models"),
        (changed(4, instruction=POOL[0]["instruction"].upper()), "Rows 1 and 5 ask the same"),
        (changed(4, generations=["The same.", "the  same."]), "with a similarity of 1.00"),
        (
            changed(2, generations=[f"A b c d e f g h i {last}." for last in "jk"]),
            "Row 3 has two completions with a similarity of 0.90; it must be below 0.9",
        ),
        (changed(1, instruction=""), "expected a text as the instruction"),
        ([{"prompt": "?"}] * 4, "Row 1 has no column ['instruction']"),
        ({"default": POOL}, "Expected a list of rows"),
        (Distiset(default={"train": POOL}), 'Expected a list of rows, ["default"]["train"] of a Distiset'),
        (None, "Expected a list of rows"),
        ("my rows", "Expected a list of rows"),
    ],
}
