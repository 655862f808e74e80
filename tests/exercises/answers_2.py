"""Right and wrong answers to the questions of chapter 2."""

import math
import re
from collections import Counter

import numpy as np
import pandas as pd
import torch

from course_lib.exercises.checks import data
from course_lib.exercises.faults import pairs_to_audit
from course_lib.steps.tasks import EvolQuality

PAIRS = pairs_to_audit()
CHANGES = {"order": False, "seed": True, "response": True, "other column": False}
MEANING = {name: row["verdict"].replace("open", "kept") for name, row in data("rewrites")["to read"].items()}
LEAKED = [
    pair["id"] for pair in PAIRS if any("response" in pair[s][:25].lower() for s in ("chosen", "rejected"))
]
SIGNED = [pair["id"] for pair in PAIRS if pair["chosen"].startswith("#")]


def outcomes(rows):
    return Counter(failure or "used" for row in rows for failure in row["evolution_failures"])


def outcomes_by_hand(rows):
    counts = {}
    for row in rows:
        for failure in row["evolution_failures"]:
            name = "used" if failure is None else failure
            counts[name] = counts.get(name, 0) + 1
    return counts


def outcomes_by_numpy(rows):
    names, counts = np.unique(
        [f or "used" for row in rows for f in row["evolution_failures"]], return_counts=True
    )
    return dict(zip(names.tolist(), counts, strict=True))


def words(text):
    return len(text.split())


def wins(rows, max_ratio, tie=0.5, both_ways=True, size=words, edge=True):
    points = []
    for row in rows:
        before, after = size(row["before"]), size(row["after"])
        ratio = max(after / before, before / after) if both_ways else after / before
        if ratio < max_ratio or (edge and ratio == max_ratio):
            gain = row["rating_after"] - row["rating_before"]
            points.append(tie if gain == 0 else float(gain > 0))
    return sum(points) / len(points)


def wins_with(**changes):
    return lambda rows, max_ratio: wins(rows, max_ratio, **changes)


def wins_by_sign(rows, max_ratio):
    near = [
        abs(math.log(words(row["after"]) / words(row["before"]))) <= math.log(max_ratio) + 1e-9
        for row in rows
    ]
    gains = [row["rating_after"] - row["rating_before"] for row, fits in zip(rows, near, strict=True) if fits]
    return np.mean((1 + np.sign(gains)) / 2)


def wins_by_pandas(rows, max_ratio):
    frame = pd.DataFrame(rows)
    sizes = frame[["before", "after"]].map(words)
    frame = frame[sizes.max(axis=1) <= max_ratio * sizes.min(axis=1)]
    gain = frame.rating_after - frame.rating_before
    return (gain > 0).mean() + (gain == 0).mean() / 2


def plain(text):
    return re.sub(r"[\W_]+", " ", text).lower().strip()


def echoes(rewrite, instruction):
    return f" {plain(instruction)} " in f" {plain(rewrite)} "


class RefusesEcho(EvolQuality):
    def fault(self, rewrite, trace, prompt):
        inherited = super().fault(rewrite, trace, prompt)
        return inherited or ("echo" if echoes(rewrite, trace.row["instruction"]) else None)


class RefusesEchoByWindow(EvolQuality):
    def fault(self, rewrite, trace, prompt):
        asked, said = (re.findall(r"\w+", text.lower()) for text in (trace.row["instruction"], rewrite))
        if any(said[k : k + len(asked)] == asked for k in range(len(said))):
            return "it repeats the question"
        return super().fault(rewrite, trace, prompt)


class RefusesEchoByPattern(EvolQuality):
    def fault(self, rewrite, trace, prompt):
        pattern = r"\W+".join(map(re.escape, re.findall(r"\w+", trace.row["instruction"])))
        found = re.search(rf"\b{pattern}\b", rewrite, re.IGNORECASE)
        return "echo" if found else super().fault(rewrite, trace, prompt)


def refusing(reason, inherited=True, result="echo"):
    """A class that refuses where `reason(rewrite, instruction)` holds."""

    class Refusing(EvolQuality):
        def fault(self, rewrite, trace, prompt):
            mine = result if reason(rewrite, trace.row["instruction"]) else None
            return (super().fault(rewrite, trace, prompt) if inherited else None) or mine

    return Refusing


class Broken(EvolQuality):
    def fault(self, rewrite, trace, prompt):
        return trace["instruction"]


BEFORE, ROWS = data("stand_in_1"), data("stand_in_2")


def changed(place, **columns):
    return [{**row, **columns} if number == place else row for number, row in enumerate(ROWS)]


RENAMED = [{**row, "generation_models": [*row["generation_models"][:2], "mine"]} for row in ROWS]
REFUSED_ONCE = [BEFORE[0], *ROWS[1:]]

RIGHT = {
    "after_a_change": [
        CHANGES,
        {name: np.bool_(value) for name, value in reversed(CHANGES.items())},
        {name: int(value) for name, value in CHANGES.items()},
        {name: torch.tensor(value) for name, value in CHANGES.items()},
    ],
    "count_outcomes": [
        outcomes,
        outcomes_by_hand,
        outcomes_by_numpy,
        lambda rows: (
            pd.Series([f or "used" for row in rows for f in row["evolution_failures"]])
            .value_counts()
            .to_dict()
        ),
    ],
    "meaning": [
        MEANING,
        {**MEANING, "soup": "changed"},
        {**MEANING, "library": "kept"},
        {**MEANING, "train": " Changed "},
        {**MEANING, "chess": "kept", "soup": "changed"},
    ],
    "leaked_pairs": [LEAKED, set(LEAKED), tuple(reversed(LEAKED)), list(map(str, LEAKED)), np.array(LEAKED)],
    "limit_for_padded": [5.3, 5.0, np.float64(5.7), np.float32(5.2), torch.tensor(5.4)],
    "win_rate": [wins, wins_by_sign, wins_by_pandas, lambda rows, ratio: torch.tensor(wins(rows, ratio))],
    "refuses_echo": [RefusesEcho, RefusesEchoByWindow, RefusesEchoByPattern, refusing(echoes)],
    "my_rewrites": [ROWS, REFUSED_ONCE, RENAMED, pd.DataFrame(ROWS), iter(ROWS[:4])],
}
WRONG = {
    "after_a_change": [
        ({**CHANGES, "order": True}, "Order: in a trial with 20 rows, 0 got another criterion"),
        ({**CHANGES, "seed": False}, "Seed: in a trial"),
        ({**CHANGES, "response": 0}, "Response: in a trial"),
        ({**CHANGES, "other column": True}, "Other column: in a trial with 20 rows, 0 got"),
        ({**CHANGES, "order": "no"}, "order: 'no'; allowed: True, False"),
        ({**CHANGES, "order": None}, "allowed: True, False"),
        ({"order": False}, "Expected the keys"),
        ([False, True, True, False], "Expected a dict"),
    ],
    "count_outcomes": [
        (lambda rows: Counter(f for row in rows for f in row["evolution_failures"]), "under the name 'used'"),
        (
            lambda rows: Counter(row["evolution_failures"][-1] or "used" for row in rows),
            "each rewrite of a chain counts",
        ),
        (lambda rows: {**outcomes(rows), "refused": 0}, "For one rewrite a row: your answer gives"),
        (
            lambda rows: {**outcomes(rows), "too long": outcomes(rows)["too long"]},
            "For chains of three rewrites: your",
        ),
        (lambda rows: sum(outcomes(rows).values()), "expected {'used': 2"),
        (lambda rows: print(outcomes(rows)), "let it return it"),
        (lambda rows: outcomes(rows["evolution_failures"]), "raised TypeError"),
        (lambda rows: list(outcomes(rows).items()), "expected {'used': 2"),
        ({"used": 2}, "Expected a function"),
    ],
    "meaning": [
        (dict.fromkeys(MEANING, "kept"), "4 of 8 of your verdicts are those of ours; 7 are enough"),
        (dict.fromkeys(MEANING, "changed"), "Read 'tea' again: cooler water"),
        ({**MEANING, "cold": "kept", "garlic": "kept"}, "which bulbs are the larger ones?"),
        ({**MEANING, "tea": "longer"}, "tea: 'longer'; allowed: 'changed', 'kept'"),
        ({**MEANING, "tea": True}, "allowed: 'changed', 'kept'"),
        ({"tea": "kept"}, "Expected the keys"),
        (list(MEANING), "Expected a dict"),
    ],
    "leaked_pairs": [
        (SIGNED, "that begins with #"),
        ([id_ for id_ in LEAKED if id_ not in (111, 118)], "at the rejected texts, too"),
        (
            [pair["id"] for pair in PAIRS if ":" in pair["chosen"].splitlines()[0]],
            "are pairs without such a beginning",
        ),
        ([pair["id"] for pair in PAIRS if "\n" in pair["chosen"]], "are pairs without such a beginning"),
        ([*LEAKED, 10_000], "is no id of these pairs"),
        (LEAKED[:3], "1 of 4 ids are missing"),
        ([], "4 of 4 ids are missing"),
        (4, "Expected a list"),
    ],
    "limit_for_padded": [
        (1.0, "the line of the wrong answers"),
        (0.85, "the line of the wrong answers"),
        (1.5, "too low: at 1.5, 8"),
        (5.9, "too high"),
        (7, "too high"),
        (0, "from 0.01 to 100"),
        (-3.4, "from 0.01 to 100"),
        ("5.3", "without quotes"),
        (None, "of type NoneType"),
    ],
    "win_rate": [
        (wins_with(tie=0.0), "as no wins, as in the lesson; here each counts half"),
        (wins_with(tie=1.0), "ties were counted as wins"),
        (wins_with(both_ways=False), "may also shrink"),
        (wins_with(size=len), "counted characters"),
        (wins_with(edge=False), "max_ratio 2"),
        (lambda rows, ratio: wins(rows, math.inf), "For 11 rows and max_ratio 2"),
        (lambda rows, ratio: wins(rows, ratio) if len(rows) != 1 else 1.0, "For 1 row and max_ratio 2"),
        (lambda rows, ratio: f"{wins(rows, ratio):.0%}", "expected 0.6"),
        (lambda rows, ratio: print(wins(rows, ratio)), "let it return it"),
        (lambda rows, ratio: 1 - wins(rows, ratio), "expected 0.6"),
        (0.5, "Expected a function"),
    ],
    "refuses_echo": [
        (EvolQuality, "was used. Refuse it"),
        (
            refusing(lambda rewrite, asked: set(plain(asked).split()) <= set(plain(rewrite).split())),
            "in another order",
        ),
        (refusing(lambda rewrite, asked: rewrite.startswith(asked)), "in bold capitals"),
        (refusing(lambda rewrite, asked: plain(rewrite).startswith(plain(asked))), "in the middle"),
        (refusing(lambda rewrite, asked: asked in rewrite), "in bold capitals"),
        (refusing(lambda rewrite, asked: "?" in rewrite), "without its question mark"),
        (
            refusing(lambda rewrite, asked: "capital" in rewrite.lower()),
            "which does not repeat the instruction",
        ),
        (refusing(echoes, inherited=False), "the inherited check, which super().fault(…) makes"),
        (refusing(echoes, result=True), "a short text as the reason"),
        (Broken, "your function raised"),
        (lambda llm: RefusesEcho(llm=llm), "Expected a subclass of EvolQuality"),
        ("echo", "Expected a subclass of EvolQuality"),
    ],
    "my_rewrites": [
        (BEFORE, "No row has a rewrite"),
        (ROWS[:3], "You have 3 rows"),
        (changed(1, generations=["Other.", "Texts.", "Here."]), "Row 2 has lost a completion of chapter 1"),
        (changed(0, generation_models=["smollm2-135m", "gemma-3-270m", "smollm2-135m"]), "Name it otherwise"),
        (changed(2, generation_models=["a", "b"]), "Row 3, the names in generation_models"),
        (changed(3, generations=[*BEFORE[3]["generations"], None]), "Row 4: 1 of 3 completions are empty"),
        (changed(4, instruction="What is new?"), "is not among the rows of chapter 1. Start with ex.kept(1)"),
        ([{**row, "generations": row["generations"][-1]} for row in ROWS], "expected lists in generations"),
        (ROWS[0], "Expected a list of rows"),
    ],
}
