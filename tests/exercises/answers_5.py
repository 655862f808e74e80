"""Right and wrong answers to the questions of chapter 5."""

import hashlib
import random
import zlib

import numpy as np
import pandas as pd
import torch

from course_lib.exercises.checks import data
from course_lib.exercises.faults import bare as key
from course_lib.exercises.faults import pairs_to_audit

PAIRS = pairs_to_audit()


def ends(ratings):
    best, worst = max(ratings), min(ratings)
    return (ratings.index(best), ratings.index(worst)) if best > worst else None


def ends_sorted(ratings):
    places = sorted(range(len(ratings)), key=ratings.__getitem__)
    return [places[-1], places[0]] if ratings[places[-1]] > ratings[places[0]] else None


def ends_array(ratings):
    ratings = np.array(ratings)
    return (ratings.argmax(), ratings.argmin()) if np.ptp(ratings) else None


def ends_tensor(ratings):
    ratings = torch.tensor(ratings)
    return torch.stack([ratings.argmax(), ratings.argmin()]) if ratings.max() > ratings.min() else None


WHY = {
    "A": "tie",
    "B": "pair",
    "C": "empty completion",
    "D": "missing rating",
    "E": "identical completions",
    "F": "too similar",
    "G": "margin too small",
    "H": "pair",
}


def cut(rows, for_test):
    return [row for row in rows if not for_test(row)], [row for row in rows if for_test(row)]


def number(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def split_sha(rows, test_share):
    return cut(rows, lambda row: number(key(row["prompt"])) < test_share)


def split_crc(rows, test_share):
    train, test = [], []
    for row in rows:
        (test if zlib.crc32(key(row["prompt"]).encode()) % 1000 < 1000 * test_share else train).append(row)
    return [train, test]


def split_seeded(rows, test_share):
    return cut(rows, lambda row: random.Random(key(row["prompt"])).random() < test_share)


class SplitMd5:
    def __call__(self, rows, test_share):
        return cut(
            rows,
            lambda row: (
                int(hashlib.md5(key(row["prompt"]).encode()).hexdigest()[:6], 16) / 16**6 < test_share
            ),
        )


def split_by_rows(rows, test_share):
    shuffled = random.Random(0).sample(rows, len(rows))
    at = round(len(rows) * test_share)
    return shuffled[at:], shuffled[:at]


def split_by_spelling(rows, test_share):
    return cut(rows, lambda row: number(row["prompt"]) < test_share)


def split_salted(rows, test_share, *, modulo=1000):
    return cut(rows, lambda row: hash(key(row["prompt"])) % modulo < test_share * modulo)


def salted_side(prompt):
    return hash(key(prompt)) % 1000 / 1000


def split_salted_beside(rows, test_share):
    return cut(rows, lambda row: salted_side(row["prompt"]) < test_share)


def split_unseeded(rows, test_share):
    prompts = sorted({key(row["prompt"]) for row in rows})
    chosen = set(random.sample(prompts, round(test_share * len(prompts))))
    return cut(rows, lambda row: key(row["prompt"]) in chosen)


def split_first_come(rows, test_share):
    prompts = list(dict.fromkeys(key(row["prompt"]) for row in rows))
    chosen = set(prompts[: round(test_share * len(prompts))])
    return cut(rows, lambda row: key(row["prompt"]) in chosen)


def split_of_sorted(rows, test_share):
    prompts = sorted({key(row["prompt"]) for row in rows})
    chosen = set(random.Random(0).sample(prompts, round(test_share * len(prompts))))
    return cut(rows, lambda row: key(row["prompt"]) in chosen)


def split_at_a_fifth(rows, test_share):
    return split_sha(rows, 0.15)


def split_unshuffled(rows, test_share):
    at = round(len(rows) * test_share)
    return rows[at:], rows[:at]


def split_by_dunder(rows, test_share):
    return cut(rows, lambda row: key(row["prompt"]).__hash__() % 1000 < test_share * 1000)


def side_by_dunder(prompt):
    return prompt.__hash__() % 1000 / 1000


def split_by_dunder_beside(rows, test_share):
    return cut(rows, lambda row: side_by_dunder(key(row["prompt"])) < test_share)


def split_lazy(rows, test_share):
    train, test = split_sha(rows, test_share)
    return iter(train), (row for row in test)


def split_by_pandas(rows, test_share):
    frame = pd.DataFrame(rows)
    test = frame.prompt.map(lambda prompt: number(key(prompt)) < test_share)
    return frame[~test], frame[test]


TESTED = {key(row["prompt"]) for row in PAIRS if row["split"] == "test"}
TRAINED = {key(row["prompt"]) for row in PAIRS if row["split"] == "train"}
LEAKED = [row["id"] for row in PAIRS if row["split"] == "train" and key(row["prompt"]) in TESTED]
LEAKED_TEST = [row["id"] for row in PAIRS if row["split"] == "test" and key(row["prompt"]) in TRAINED]
LETTERS = {row["prompt"] for row in PAIRS if row["split"] == "test"}
TWICE = [key(row["prompt"]) for row in PAIRS if row["split"] == "train"]
READ = 1.93
BETTER = {
    name: {"good": "chosen", "worse": "rejected"}[row["verdict"]]
    for name, row in data("pairs_by_ratings").items()
}


def said(row, first="chosen", second="rejected"):
    return key(row["prompt"]), key(row[first]), key(row[second])


def audited(rows):
    tests = {key(row["prompt"]) for row in rows if row["split"] == "test"}
    ways = {said(row) for row in rows}
    same = {row["id"] for row in rows if key(row["chosen"]) == key(row["rejected"])}
    return {
        "identical pair": same,
        "test prompt in train": {
            row["id"] for row in rows if row["split"] == "train" and key(row["prompt"]) in tests
        },
        "contradictory pair": {row["id"] for row in rows if said(row, "rejected", "chosen") in ways} - same,
        "rating against the choice": {
            row["id"] for row in rows if row["chosen_rating"] <= row["rejected_rating"]
        },
    }


def audited_row_by_row(rows):
    """Lists in place of sets."""
    found = {fault: [] for fault in audited([])}
    for row in rows:
        others = [other for other in rows if other is not row and key(other["prompt"]) == key(row["prompt"])]
        identical = key(row["chosen"]) == key(row["rejected"])
        tests = {
            "identical pair": identical,
            "test prompt in train": row["split"] == "train"
            and any(other["split"] == "test" for other in others),
            "contradictory pair": not identical
            and any(said(o, "rejected", "chosen") == said(row) for o in others),
            "rating against the choice": not row["chosen_rating"] > row["rejected_rating"],
        }
        for fault in filter(tests.get, tests):
            found[fault].append(row["id"])
    return found


def audited_by_pandas(rows):
    return {fault: pd.Series(sorted(ids), dtype=object) for fault, ids in audited(rows).items()}


def audit_but(fault, keep):
    """`audited`, with one fault found otherwise."""
    return lambda rows: {**audited(rows), fault: {row["id"] for row in rows if keep(row, rows)}}


def by_place(rows):
    places = {row["id"]: k for k, row in enumerate(rows)}
    return {fault: {places[id_] for id_ in ids} for fault, ids in audited(rows).items()}


ROWS = data("stand_in_5")
FIRST, SECOND = ROWS[0], ROWS[1]
UNDECIDED = next(row for row in data("stand_in_4") if row["label"] == "no difference")
CARD = """Three pairs, 3 in digits, on plants, neighbours and bicycles. smollm2-135m and gemma-3-270m wrote
the texts, and some were rewritten by smollm2-135m. One person labelled them without seeing a rating, by facts first and
then by what was asked. It is not enough to train a model with."""
LIMIT = "It is not enough to train a model with."


def changed(**columns):
    return [{**FIRST, **columns}, *ROWS[1:]]


RIGHT = {
    "best_and_worst": [ends, ends_sorted, ends_array, ends_tensor],
    "why_no_pair": [WHY, {name: f" {word.title()} " for name, word in WHY.items()}],
    "margin_for_thirty": [READ, np.float32(READ), 2, READ + 0.14, READ - 0.13, torch.tensor(READ)],
    "split_by_prompt": [split_sha, split_crc, split_seeded, SplitMd5(), split_lazy, split_by_pandas],
    "leaks": [
        LEAKED,
        set(LEAKED),
        list(map(str, LEAKED)),
        [row for row in PAIRS if row["id"] in LEAKED],
        np.array(LEAKED),
    ],
    "by_reading": [
        BETTER,
        {**BETTER, "coffee": "rejected"},
        {name: side.upper() for name, side in BETTER.items()},
        {**BETTER, "lint": "chosen"},
    ],
    "audit": [audited, audited_row_by_row, audited_by_pandas],
    "my_pairs": [
        ROWS,
        pd.DataFrame(ROWS),
        (row for row in ROWS),
        changed(split="test", note="mine"),
        ROWS[:2],
    ],
    "my_card": [
        CARD,
        CARD.upper(),
        f"# Card\n\n{CARD}\n",
        CARD.replace(LIMIT, "Don't train a model with it."),
        CARD.replace(LIMIT, "Pairs with no difference are left out. It has too\nfew pairs."),
        CARD.replace(LIMIT, "It is no good for training, sadly."),
    ],
}
WRONG = {
    "best_and_worst": [
        (
            lambda ratings: (ratings.index(max(ratings)), ratings.index(min(ratings))),
            "[4.0, 4.0] there is no pair",
        ),
        (lambda ratings: (ends(ratings) or (None, None))[::-1], "the worst before the best"),
        (lambda ratings: (max(ratings), min(ratings)), "the first place is 0"),
        (lambda ratings: (7, 8), "the first place is 0"),
        (lambda ratings: (ends(ratings) or [None])[0], "expected (place of the best, place of the worst)"),
        (
            lambda ratings: (0, 1) if ends(ratings) else None,
            "[3.5, 4.5, 1.5], the ratings at the places (0, 1)",
        ),
        (lambda ratings: print(ends(ratings)), "let it return it"),
        (lambda ratings: ends(ratings) or (), "expected None"),
        ((0, 1), "Expected a function"),
    ],
    "why_no_pair": [
        ({**WHY, "A": "pair"}, "7 of 8 are right. Row A is not 'pair'"),
        (
            {**WHY, "B": "missing rating"},
            "Row B is not 'missing rating'. One missing rating does not cost the row",
        ),
        ({**WHY, "F": "identical completions"}, "Compare the texts word by word"),
        ({**WHY, "H": "empty completion"}, "What do the other two make"),
        (dict.fromkeys(WHY, "pair"), "2 of 8 are right"),
        ({**WHY, "A": "draw"}, "Row A: 'draw'; allowed"),
        ({"A": "tie"}, "Expected the keys"),
        (list(WHY.values()), "Expected a dict"),
    ],
    "margin_for_thirty": [
        (1.0, "too low: it keeps"),
        (2.3, "too high: it keeps"),
        (30, "from 0 to 4"),
        (-1, "from 0 to 4"),
        (4, "4 is too high: it keeps"),
        ("two", "without quotes"),
        (True, "of type bool"),
    ],
    "split_by_prompt": [
        (split_by_rows, "prompts are in train and in test"),
        (split_unshuffled, "prompts are in train and in test"),
        (split_by_spelling, "prompts are in train and in test, up to case and spaces"),
        (split_salted, "Python's hash() of a text"),
        (split_salted_beside, "Python's hash() of a text"),
        (split_by_dunder, "__hash__ of a text is another number"),
        (split_by_dunder_beside, "__hash__ of a text is another number"),
        (split_unseeded, "called a second time"),
        (split_first_come, "with the rows in another order"),
        (split_of_sorted, "with 150 prompts added"),
        (split_at_a_fifth, "expected about 30%"),
        (lambda rows, test_share: split_sha(rows, test_share)[::-1], "you returned (test, train)"),
        (lambda rows, test_share: (rows, []), "0% of 300"),
        (lambda rows, test_share: split_sha(rows[1:], test_share), "1 of"),
        (lambda rows, test_share: (rows, split_sha(rows, test_share)[1]), "rows came out twice"),
        (lambda rows, test_share: ([row["prompt"] for row in rows], []), "themselves"),
        (lambda rows, test_share: split_sha(rows, test_share)[1], "Expected (train, test)"),
        (lambda rows, test_share: {"train": rows, "test": []}, "Expected (train, test)"),
        (lambda rows: (rows, []), "raised TypeError"),
        (([], []), "Expected a function"),
    ],
    "leaks": [
        (LEAKED_TEST, "rows of the test split; the train rows"),
        (
            [row["id"] for row in PAIRS if row["split"] == "train" and row["prompt"] in LETTERS],
            "equal letter by letter",
        ),
        (
            [row["id"] for row in PAIRS if row["split"] == "train" and TWICE.count(key(row["prompt"])) > 1],
            "stand twice in train, which is no leak",
        ),
        (LEAKED + LEAKED_TEST, "4 of your 8 ids are no train rows"),
        (LEAKED[:1], "3 of 4 ids are missing"),
        ([*LEAKED, 10_000], "is no id of these pairs"),
        ([], "4 of 4 ids are missing"),
        ({"test prompt in train": LEAKED}, "Expected a list"),
    ],
    "by_reading": [
        (
            dict.fromkeys(BETTER, "chosen"),
            "5 of 8 of your verdicts are those of the readers of the course; 7 are enough",
        ),
        (dict.fromkeys(BETTER, "rejected"), "Read 'bank' again"),
        ({**BETTER, "lint": "chosen", "meeting": "chosen"}, "from Tuesday to Thursday"),
        ({**BETTER, "lint": "yes"}, "lint: 'yes'; allowed: 'chosen', 'rejected'"),
        ([name for name, side in BETTER.items() if side == "rejected"], "Expected a dict"),
        ({"lint": "rejected"}, "Expected the keys"),
    ],
    "audit": [
        (
            audit_but("identical pair", lambda row, rows: row["chosen"] == row["rejected"]),
            "has it, but is not in",
        ),
        (
            audit_but(
                "contradictory pair",
                lambda row, rows: any(said(o, "rejected", "chosen") == said(row) for o in rows),
            ),
            "'contradictory pair': {'id': ",
        ),
        (audit_but("test prompt in train", lambda row, rows: False), "'test prompt in train': {'id': "),
        (
            audit_but(
                "rating against the choice", lambda row, rows: row["chosen_rating"] < row["rejected_rating"]
            ),
            "'rating against the choice': {'id': ",
        ),
        (by_place, "a row 0 that does not exist"),
        (
            lambda rows: {fault: ids for fault, ids in audited(rows).items() if ids},
            "no key 'identical pair'. If no row has it, give an empty set",
        ),
        (lambda rows: {**audited(rows), "too long": set()}, "There is no fault 'too long'; allowed"),
        (lambda rows: list(audited(rows).values()), "Expected a dict from fault to ids"),
        (
            lambda rows: {fault: len(ids) for fault, ids in audited(rows).items()},
            "expected a list or a set of ids",
        ),
        (lambda rows: print(audited(rows)), "let it return it"),
        ({}, "Expected a function"),
    ],
    "my_pairs": [
        (
            changed(chosen=FIRST["rejected"], rejected=FIRST["chosen"]),
            "you labelled the other text as the better one",
        ),
        (changed(rejected="Something else."), "Row 1, chosen and rejected"),
        ([{**row, "split": "test"} for row in ROWS], "All your rows are in test"),
        (changed(split="dev"), "Row 1 has the split 'dev'; allowed: ('train', 'test')"),
        (changed(prompt="What?"), "is not among the rows of chapter 4"),
        (
            [
                *ROWS,
                {
                    "prompt": UNDECIDED["instruction"],
                    "chosen": UNDECIDED["A"],
                    "rejected": UNDECIDED["B"],
                    "split": "train",
                },
            ],
            "you saw no difference between these texts",
        ),
        ([*ROWS, FIRST], "An audit finds 'duplicate pair'"),
        ([{**FIRST, "split": "train"}, {**FIRST, "split": "test"}], "An audit finds 'test prompt in train'"),
        (ROWS[:1], "You have 1 rows"),
        ([{k: v for k, v in row.items() if k != "split"} for row in ROWS], "Row 1 has no column ['split']"),
        (None, "Expected a list of rows"),
    ],
    "my_card": [
        ("My dataset.", "Your card has 2 words"),
        (CARD.replace(", 3 in digits", ""), "does not say how many pairs there are. You kept 3"),
        (CARD.replace("gemma-3-270m", "another model"), "does not name ['gemma-3-270m']"),
        (CARD.replace("labelled them", "read them"), "does not say who labelled"),
        (CARD.replace("not enough", "enough"), "what the dataset is not good for"),
        (
            CARD.replace(LIMIT, "Pairs with no difference between the texts are left out of the dataset."),
            "what the dataset is not good for. Name a limit with 'not'",
        ),
        (
            CARD.replace(LIMIT, "Two small models wrote them, and I didn't see any difference in some."),
            "what the dataset is not good for",
        ),
        (CARD.split(), "Expected a text"),
    ],
}
