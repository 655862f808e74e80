"""Right and wrong answers to the questions of chapter 5."""

import hashlib
import random
import re
import zlib

import numpy as np

from course_lib.distiset import Distiset
from course_lib.exercises.faults import faults_of
from course_lib.pipeline import Pipeline
from course_lib.steps import FilterRows, FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts
from course_lib.steps.load import DATA, read_jsonl
from course_lib.steps.tasks import TextGeneration

PAIRS = read_jsonl(DATA / "faulty_preferences.jsonl")
FAULTS = list(faults_of([]))


def key(text):
    return " ".join(text.casefold().split())


# --- best_and_worst ---------------------------------------------------------------------------------------------------


def ends(ratings):
    rated = [k for k, rating in enumerate(ratings) if rating is not None]
    if not rated:
        return None
    best, worst = max(rated, key=lambda k: ratings[k]), min(rated, key=lambda k: ratings[k])
    return (best, worst) if ratings[best] > ratings[worst] else None


def ends_sorted(ratings):
    order = sorted((rating, k) for k, rating in enumerate(ratings) if rating is not None)
    return None if len(order) < 2 or order[0][0] == order[-1][0] else [order[-1][1], order[0][1]]


def ends_array(ratings):
    values = np.array([np.nan if rating is None else rating for rating in ratings])
    if np.isfinite(values).sum() < 2 or np.nanmax(values) == np.nanmin(values):
        return None
    return int(np.nanargmax(values)), int(np.nanargmin(values))


def ends_none_as_zero(ratings):
    filled = [rating or 0 for rating in ratings]
    if not filled or max(filled) == min(filled):
        return None
    return filled.index(max(filled)), filled.index(min(filled))


def ends_truthy(ratings):
    return ends([rating or None for rating in ratings])


def ends_with_ties(ratings):
    rated = [k for k, rating in enumerate(ratings) if rating is not None]
    if len(rated) < 2:
        return None
    return max(rated, key=lambda k: ratings[k]), min(rated, key=lambda k: ratings[k])


def ends_of_one(ratings):
    rated = [k for k, rating in enumerate(ratings) if rating is not None]
    return ends(ratings) or ((rated[0], rated[0]) if len(rated) == 1 else None)


def ends_or(ratings, instead):
    found = ends(ratings)
    return instead if found is None else found


# --- why_no_pair ------------------------------------------------------------------------------------------------------

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

# --- split_by_prompt --------------------------------------------------------------------------------------------------


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
    return split_sha(rows, 0.15 if 0 < test_share < 1 else test_share)


def split_unshuffled(rows, test_share):
    at = round(len(rows) * test_share)
    return rows[at:], rows[:at]


# --- leaks ------------------------------------------------------------------------------------------------------------


def again(rows, place):
    seen, found = set(), []
    for row in rows:
        if place(row) in seen:
            found.append(row["id"])
        seen.add(place(row))
    return found


def in_split(row):
    return row["split"], key(row["prompt"])


TESTED = {key(row["prompt"]) for row in PAIRS if row["split"] == "test"}
TRAINED = {key(row["prompt"]) for row in PAIRS if row["split"] == "train"}
DUPLICATE = again(PAIRS, in_split)
LEAKED = [row["id"] for row in PAIRS if row["split"] == "train" and key(row["prompt"]) in TESTED]
LEAKED_TEST = [row["id"] for row in PAIRS if row["split"] == "test" and key(row["prompt"]) in TRAINED]
PLACES = [in_split(row) for row in PAIRS]


def leaks(duplicate=DUPLICATE, leaked=LEAKED):
    return {"duplicate prompt": duplicate, "test prompt in train": leaked}


# --- trl_rows ---------------------------------------------------------------------------------------------------------


def ready(rows):
    return [
        {"prompt": row["chosen"][:-1], "chosen": row["chosen"][-1:], "rejected": row["rejected"][-1:]}
        for row in rows
        if row["chosen"]
        and row["chosen_rating"] > row["rejected_rating"]
        and row["chosen"][-1]["content"] != row["rejected"][-1]["content"]
    ]


def ready_by_library(rows):
    import contextlib
    import io

    from datasets import Dataset

    with contextlib.redirect_stdout(io.StringIO()):
        return Distiset.of({"default": Dataset.from_list(rows)}).to_trl()["train"] if rows else []


def ready_by_hand(rows):
    for row in rows:
        *before, last = row["chosen"] or [{"role": "user", "content": ""}]
        other = (row["rejected"] or [last])[-1]
        if last["content"] == other["content"] or row["chosen_rating"] == row["rejected_rating"]:
            continue
        sides = {"chosen": last, "rejected": other}
        yield {
            "prompt": before,
            **{side: [{"role": "assistant", "content": one["content"]}] for side, one in sides.items()},
        }


def paired(rows):
    return [row for row in rows if row["chosen"]]


def shaped(rows, **made):
    """`ready`, with the columns of `made` computed from the row otherwise."""
    kept = [row for row in paired(rows) if ready([row])]
    return [{**ready([row])[0], **{name: how(row) for name, how in made.items()}} for row in kept]


def ready_with(keep):
    return lambda rows: [
        {"prompt": row["chosen"][:-1], "chosen": row["chosen"][-1:], "rejected": row["rejected"][-1:]}
        for row in rows
        if row["chosen"] and keep(row)
    ]


# --- audit ------------------------------------------------------------------------------------------------------------

HEADING = re.compile(
    r"(#|\[|here (is|are|'s)|here's).*\b(response|answer|version)\b.*[:\]#]\s*$", re.IGNORECASE
)


def said(row, first="chosen", second="rejected"):
    return key(row["prompt"]), key(row[first]), key(row[second])


def on_scale(rating):
    return rating is not None and 1 <= rating <= 5


def audited(rows):
    ratings = {row["id"]: (row["chosen_rating"], row["rejected_rating"]) for row in rows}
    tests = {key(row["prompt"]) for row in rows if row["split"] == "test"}
    directions = {said(row) for row in rows}
    same = {row["id"] for row in rows if key(row["chosen"]) == key(row["rejected"])}
    sides = ("chosen", "rejected")
    return {
        "identical pair": same,
        "duplicate prompt": set(again(rows, in_split)),
        "test prompt in train": {
            row["id"] for row in rows if row["split"] == "train" and key(row["prompt"]) in tests
        },
        "contradictory preference": {
            row["id"] for row in rows if said(row, "rejected", "chosen") in directions
        }
        - same,
        "leaked heading": {
            row["id"] for row in rows if any(HEADING.match(row[s].strip().split("\n")[0]) for s in sides)
        },
        "rating off the scale": {k for k, both in ratings.items() if not all(map(on_scale, both))},
        "rating against the choice": {
            k for k, (high, low) in ratings.items() if None not in (high, low) and high <= low
        },
    }


def audited_row_by_row(rows):
    """Lists, faults that nobody has left out."""
    found = {}
    for k, row in enumerate(rows):
        high, low = row["chosen_rating"], row["rejected_rating"]
        others = [one for one in rows if one is not row and key(one["prompt"]) == key(row["prompt"])]
        earlier = [one for one in rows[:k] if one in others]
        identical = key(row["chosen"]) == key(row["rejected"])
        reverse = [one for one in others if said(one, "rejected", "chosen") == said(row)]
        lines = [row[side].strip().splitlines()[0].strip().lower() for side in ("chosen", "rejected")]
        begins = [line for line in lines if line.startswith(("#", "[", "here is ", "here are ", "here's "))]
        announced = [line for line in begins if line.endswith((":", "#", "]"))]
        tests = {
            "identical pair": identical,
            "duplicate prompt": any(one["split"] == row["split"] for one in earlier),
            "test prompt in train": row["split"] == "train" and any(one["split"] == "test" for one in others),
            "contradictory preference": reverse and not identical,
            "leaked heading": any(
                word in line for line in announced for word in ("response", "answer", "version")
            ),
            "rating off the scale": any(not on_scale(rating) for rating in (high, low)),
            "rating against the choice": high is not None and low is not None and not high > low,
        }
        for fault, there in tests.items():
            if there:
                found.setdefault(fault, []).append(row["id"])
    return found


def audit_but(fault, how):
    """`audited`, with one fault found otherwise."""

    def audit(rows):
        return {**audited(rows), fault: how(rows)}

    return audit


def ids(keep):
    return lambda rows: {row["id"] for row in rows if keep(row)}


def tells_by_place(rows):
    places = {row["id"]: k for k, row in enumerate(rows)}
    return {fault: {places[k] for k in some} for fault, some in audited(rows).items()}


def audit_of_small_ones(change):
    """Right on datasets of under 20 rows only."""

    def audit(rows):
        found = audited(rows)
        return found if len(rows) < 20 else {**found, "identical pair": change(found["identical pair"])}

    return audit


# --- preference_dataset -----------------------------------------------------------------------------------------------


def run(instructions, llms, judge, min_margin, **named):
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": text} for text in instructions])
        group = GroupColumns(
            columns=["generation", "model_name"], output_columns=["generations", "generation_models"]
        )
        load >> [TextGeneration(llm=llm) for llm in llms] >> group
        group >> judge() >> FormatTextGenerationDPO(min_margin=min_margin, **named)
    return pipeline.run(progress=False)


def dropped_of(distiset):
    return list(distiset["dropped"]["train"]) if "dropped" in distiset else []


def whole(instructions, llms, judge, min_margin):
    distiset = run(instructions, llms, judge, min_margin)
    return distiset.to_trl()["train"], dropped_of(distiset)


def whole_filtered(instructions, llms, judge, min_margin):
    """The margin as a step of its own, rows made by hand."""
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"question": text} for text in instructions])
        group = GroupColumns(columns=["generation"], output_columns=["generations"])
        load >> [TextGeneration(llm=llm, input_mappings={"instruction": "question"}) for llm in llms] >> group
        rate, pair = judge(), FormatTextGenerationDPO()
        rate.input_mappings = pair.input_mappings = {"instruction": "question"}
        wide = FilterRows(
            keep=lambda row: row["chosen_rating"] - row["rejected_rating"] >= min_margin, reason="close call"
        )
        group >> rate >> pair >> wide
    distiset = pipeline.run(progress=False)
    pairs = ready(distiset["default"]["train"])
    return [pairs, [{**row, "instruction": row["question"]} for row in dropped_of(distiset)]]


def whole_backwards(instructions, llms, judge, min_margin):
    pairs, dropped = whole(instructions[::-1], llms, judge, min_margin)
    return tuple(pairs), dropped


def whole_but(pairs=lambda rows: rows, dropped=lambda rows: rows):
    def made(instructions, llms, judge, min_margin):
        some, rest = whole(instructions, llms, judge, min_margin)
        return pairs(list(some)), dropped(rest)

    return made


def whole_of(**given):
    """`whole`, with some of its arguments changed."""

    def made(instructions, llms, judge, min_margin):
        came = {"instructions": instructions, "llms": llms, "judge": judge, "min_margin": min_margin}
        return whole(**{name: given[name](value) if name in given else value for name, value in came.items()})

    return made


def whole_untouched(instructions, llms, judge, min_margin):
    distiset = run(instructions, llms, judge, min_margin)
    return distiset["default"]["train"], dropped_of(distiset)


def whole_conversations(instructions, llms, judge, min_margin):
    distiset = run(instructions, llms, judge, min_margin)
    return [
        {name: row[name] for name in ("prompt", "chosen", "rejected")} for row in distiset["default"]["train"]
    ], []


def whole_twice_read(instructions, llms, judge, min_margin):
    rows, dropped = whole_conversations(instructions, llms, judge, min_margin)
    return [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows], dropped


def whole_always_dropped(instructions, llms, judge, min_margin):
    distiset = run(instructions, llms, judge, min_margin)
    return distiset.to_trl()["train"], distiset["dropped"]["train"]


def whole_with_splits(instructions, llms, judge, min_margin):
    distiset = run(instructions, llms, judge, min_margin)
    return distiset.to_trl(), dropped_of(distiset)


def whole_dropped_splits(instructions, llms, judge, min_margin):
    distiset = run(instructions, llms, judge, min_margin)
    return distiset.to_trl()["train"], distiset["dropped"]


def whole_unjudged(instructions, llms, judge, min_margin):
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": text} for text in instructions])
        group = GroupColumns(columns=["generation"], output_columns=["generations"])
        load >> [TextGeneration(llm=llm) for llm in llms] >> group >> FormatTextGenerationDPO()
    return pipeline.run(progress=False)["default"]["train"], []


def swapped(rows):
    return [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]


READ = 1.95  # what a careful reader takes from the figure
ASKED = "Name a river."

RIGHT = {
    "best_and_worst": [ends, ends_sorted, ends_array],
    "why_no_pair": [WHY, {name: f" {word.title()} " for name, word in WHY.items()}],
    "margin_for_thirty": [READ, np.float64(READ), 2, READ + 0.14, READ - 0.13],
    "split_by_prompt": [split_sha, split_crc, split_seeded, SplitMd5()],
    "leaks": [leaks(), leaks(set(DUPLICATE), tuple(LEAKED[::-1])), leaks(frozenset(DUPLICATE))],
    "trl_rows": [ready, ready_by_library, ready_by_hand],
    "audit": [audited, audited_row_by_row],
    "preference_dataset": [whole, whole_filtered, whole_backwards],
}
WRONG = {
    "best_and_worst": [
        (ends_none_as_zero, "both of which hold a rating"),
        (ends_truthy, "[0.0, 0.5, None]"),
        (ends_with_ties, "[4.0, 4.0] there is no pair"),
        (ends_of_one, "[3.0] there is no pair"),
        (lambda ratings: ends_or(ratings, ()), "[] there is no pair"),
        (lambda ratings: ends_or(ratings, -1), "expected None"),
        (lambda ratings: (ends(ratings) or (None, None))[::-1], "the worst before the best"),
        (lambda ratings: (max(ratings), min(ratings)), "the first place is 0"),
        (lambda ratings: (7, 8), "the first place is 0"),
        (lambda ratings: (ends(ratings) or [None])[0], "expected (place of the best, place of the worst)"),
        (lambda ratings: (*(ends(ratings) or ()), 0), "expected (place of the best, place of the worst)"),
        (
            lambda ratings: (0, 1) if len(ratings) > 1 else None,
            "[3.5, 4.5, 1.5], the ratings at the places (0, 1)",
        ),
        (lambda ratings: ends(ratings[:-1]), "For the ratings [4.6, 1.3]: expected (place of the best"),
        (lambda ratings: ends([rating + 0 for rating in ratings]), "raised TypeError"),
        ((0, 1), "Expected a function"),
    ],
    "why_no_pair": [
        ({**WHY, "A": "missing rating"}, "7 of 8 are right. Row A is not 'missing rating'"),
        ({**WHY, "B": "missing rating"}, "does not cost the row"),
        ({**WHY, "C": "missing rating", "H": "empty completion"}, "6 of 8 are right. Row C"),
        ({**WHY, "D": "tie"}, "Two texts, one rating"),
        ({**WHY, "E": "pair"}, "Case and spaces"),
        ({**WHY, "F": "pair"}, "word by word"),
        ({**WHY, "G": "tie"}, "0.25 points"),
        ({**WHY, "H": "empty completion"}, "left aside, with its rating"),
        (dict.fromkeys(WHY, "pair"), "2 of 8 are right"),
        ({**WHY, "A": "because"}, "Row A: 'because'; allowed"),
        ({**WHY, "A": 3}, "Row A: 3; allowed"),
        ({"A": "tie"}, "your answer has ['A']"),
        ({**WHY, "I": "tie"}, "Expected the keys 'A', 'B'"),
        (list(WHY.values()), "Expected a dict"),
    ],
    "margin_for_thirty": [
        (1, "1 is too low: it keeps 50 pairs; look for the highest that keeps 30"),
        (2.5, "2.5 is too high: it keeps 20 pairs"),
        (READ + 0.2, "too high"),
        (READ - 0.2, "too low"),
        (30, "is no margin"),
        (4.2, "is no margin"),
        (-0.5, "is no margin"),
        (0, "it keeps 52 pairs"),
        (4, "4 is too high: it keeps 0 pairs"),
        ("two", "Expected a number"),
        (True, "Expected a number"),
    ],
    "split_by_prompt": [
        (split_by_rows, "prompts are in train and in test"),
        (split_unshuffled, "prompts are in train and in test"),
        (split_by_spelling, "prompts are in train and in test, up to case and spaces"),
        (split_salted, "Python's hash() of a text"),
        (split_salted_beside, "Python's hash() of a text"),
        (split_unseeded, "called a second time"),
        (split_first_come, "with the rows in another order"),
        (split_of_sorted, "with 300 prompts added"),
        (split_at_a_fifth, "expected about 30%"),
        (lambda rows, test_share: split_sha(rows, 0.5), "expected about 10%"),
        (lambda rows, test_share: split_sha(rows, test_share)[::-1], "you returned (test, train)"),
        (lambda rows, test_share: (rows, []), "0% of 600"),
        (lambda rows, test_share: split_sha(rows, test_share or 0.9), "With a test_share of 0"),
        (lambda rows, test_share: split_sha(rows, min(test_share, 0.4)), "With a test_share of 1"),
        (lambda rows, test_share: split_sha(rows, test_share) if rows else ([1], []), "For no rows"),
        (lambda rows, test_share: split_sha(rows[1:], test_share), "1 of"),
        (lambda rows, test_share: (rows, split_sha(rows, test_share)[1]), "rows came out twice"),
        (
            lambda rows, test_share: split_sha([{**row, "prompt": ""} for row in rows], test_share),
            "the rows themselves in train and test, as they went in",
        ),
        (
            lambda rows, test_share: split_sha([*rows, {**rows[0], "id": -1}], test_share),
            "the rows themselves in train and test, as they went in",
        ),
        (
            lambda rows, test_share: tuple(
                [row["prompt"] for row in part] for part in split_sha(rows, test_share)
            ),
            "themselves",
        ),
        (
            lambda rows, test_share: ([{"prompt": row["prompt"]} for row in rows], []),
            "Expected the rows themselves",
        ),
        (lambda rows, test_share: split_sha(rows, test_share)[1], "Expected (train, test)"),
        (lambda rows, test_share: (*split_sha(rows, test_share), []), "Expected (train, test)"),
        (lambda rows, test_share: (len(rows), 0), "Expected (train, test)"),
        (lambda rows, test_share: {"train": rows, "test": []}, "Expected (train, test)"),
        (lambda rows: (rows, []), "raised TypeError"),
        (([], []), "Expected a function"),
    ],
    "leaks": [
        (leaks(again(PAIRS, lambda row: (row["split"], row["prompt"]))), "equal letter by letter"),
        (leaks(again(PAIRS, lambda row: key(row["prompt"]))), "counted apart"),
        (
            leaks([row["id"] for row in PAIRS if PLACES.count(in_split(row)) > 1]),
            "the first row of a prompt is no duplicate",
        ),
        (leaks(DUPLICATE[:-1]), "duplicate prompt: 1 of 5 ids are missing"),
        (leaks([*DUPLICATE, 10_000]), "duplicate prompt: 1 of your 6 ids"),
        (leaks([]), "5 of 5 ids are missing"),
        (leaks(leaked=LEAKED_TEST), "rows of the test split; the train rows"),
        (leaks(leaked=LEAKED + LEAKED_TEST), "test prompt in train: 3 of your 6 ids do not have this fault"),
        (leaks(leaked=LEAKED[:1]), "test prompt in train: 2 of 3 ids are missing"),
        (leaks(leaked=[row["id"] for row in PAIRS]), "ids do not have this fault"),
        (leaks(leaked=[row for row in PAIRS if row["id"] in LEAKED]), "expected a list or a set of ids"),
        (leaks(duplicate=3), "expected a list or a set of ids"),
        ({"duplicate prompt": DUPLICATE}, "Expected the keys 'duplicate prompt', 'test prompt in train'"),
        ({**leaks(), "identical pair": []}, "Expected the keys 'duplicate prompt', 'test prompt in train'"),
        (DUPLICATE + LEAKED, "Expected a dict"),
    ],
    "trl_rows": [
        (lambda rows: rows, "expected the columns prompt, chosen and rejected"),
        (
            lambda rows: shaped(rows, prompt=lambda row: row["prompt"]),
            "each a list of messages",
        ),
        (lambda rows: shaped(rows, chosen=lambda row: row["chosen"][-1]), "each a list of messages"),
        (
            lambda rows: shaped(rows, chosen=lambda row: [row["chosen"][-1]["content"]]),
            "each a list of messages",
        ),
        (lambda rows: shaped(rows, chosen=lambda row: row["chosen"]), "chosen is the whole conversation"),
        (
            lambda rows: shaped(rows, rejected=lambda row: row["rejected"]),
            "rejected is the whole conversation",
        ),
        (
            lambda rows: shaped(rows, prompt=lambda row: [{"role": "user", "content": row["prompt"]}]),
            "For a pair with a system message, prompt: that is the last question alone",
        ),
        (
            lambda rows: shaped(rows, prompt=lambda row: row["chosen"][-3:-1]),
            "For a conversation of several turns, prompt",
        ),
        (lambda rows: shaped(rows, prompt=lambda row: []), "For two pairs, prompt"),
        (lambda rows: shaped(rows, rejected=lambda row: row["chosen"][-1:]), "For two pairs, rejected"),
        (
            lambda rows: shaped(
                rows, chosen=lambda row: row["rejected"][-1:], rejected=lambda row: row["chosen"][-1:]
            ),
            "For two pairs, chosen",
        ),
        (lambda rows: shaped(rows, rating=lambda row: row["chosen_rating"]), "and no others"),
        (lambda rows: [list(row) for row in rows], "expected the columns"),
        (
            ready_with(lambda row: row["chosen"][-1] != row["rejected"][-1]),
            "For a tie: 2 rows went in, 2 came out; expected 1",
        ),
        (
            ready_with(lambda row: row["chosen_rating"] != row["rejected_rating"]),
            "For an identical pair: 2 rows went in, 2",
        ),
        (
            lambda rows: ready([row for row in rows if row["chosen"][-1]["content"]]),
            "raised TypeError",
        ),
        (lambda rows: ready(rows)[:1], "For two pairs: 2 rows went in, 1 came out; expected 2"),
        (lambda rows: ready(rows)[::-1], "For two pairs"),
        (lambda rows: ready(rows) or None, "Expected a list of rows"),
        (lambda rows: ready(rows) or [{}], "For no rows"),
        (lambda rows: 3, "Expected a list of rows"),
        ([], "Expected a function"),
    ],
    "audit": [
        (
            audit_but("identical pair", ids(lambda row: row["chosen"] == row["rejected"])),
            "identical pairs, 'identical pair'",
        ),
        (
            audit_but(
                "identical pair", ids(lambda row: "".join(key(row["chosen"]).split()) == key(row["rejected"]))
            ),
            "identical pairs",
        ),
        (
            audit_but(
                "duplicate prompt", lambda rows: set(again(rows, lambda row: (row["split"], row["prompt"])))
            ),
            "a prompt in three rows",
        ),
        (
            audit_but("duplicate prompt", lambda rows: set(again(rows, lambda row: key(row["prompt"])))),
            "in train, spelled",
        ),
        (
            audit_but(
                "duplicate prompt",
                lambda rows: set(again([r for r in rows if r["split"] == "train"], in_split)),
            ),
            "a prompt twice in test",
        ),
        (
            audit_but(
                "duplicate prompt",
                lambda rows: {r["id"] for r in rows if list(map(in_split, rows)).count(in_split(r)) > 1},
            ),
            "does not have this fault",
        ),
        (
            audit_but("test prompt in train", ids(lambda row: False)),
            "has this fault, but is not in",
        ),
        (
            audit_but(
                "test prompt in train",
                lambda rows: {
                    r["id"]
                    for r in rows
                    for s in rows
                    if r["split"] != s["split"] and key(r["prompt"]) == key(s["prompt"])
                },
            ),
            "does not have this fault",
        ),
        (
            audit_but(
                "contradictory preference",
                lambda rows: {
                    r["id"] for r in rows if said(r, "rejected", "chosen") in {said(s) for s in rows}
                },
            ),
            "identical pairs, 'contradictory preference'",
        ),
        (
            audit_but(
                "contradictory preference",
                lambda rows: {
                    r["id"]
                    for r in rows
                    for s in rows
                    if (r["prompt"], r["chosen"], r["rejected"]) == (s["prompt"], s["rejected"], s["chosen"])
                    and r is not s
                },
            ),
            "a preference and its reverse",
        ),
        (
            audit_but(
                "contradictory preference",
                lambda rows: (
                    {
                        r["id"]
                        for r in rows
                        for s in rows
                        if r["split"] == s["split"] and said(r, "rejected", "chosen") == said(s)
                    }
                    - audited(rows)["identical pair"]
                ),
            ),
            "in the two splits",
        ),
        (
            audit_but("leaked heading", ids(lambda row: row["chosen"].startswith(("#", "[", "Here")))),
            "only look like",
        ),
        (
            audit_but("leaked heading", ids(lambda row: "version:" in row["chosen"] + row["rejected"])),
            "only look like",
        ),
        (
            audit_but("leaked heading", ids(lambda row: HEADING.match(row["chosen"].split("\n")[0]))),
            "with leaked headings",
        ),
        (
            audit_but(
                "leaked heading",
                ids(lambda row: any(h in row["chosen"] for h in ("#Rewritten", "[Response]"))),
            ),
            "with leaked headings",
        ),
        (
            audit_but("rating off the scale", ids(lambda row: (row["chosen_rating"] or 9) > 5)),
            "ratings off the scale, 'rating off the scale'",
        ),
        (
            audit_but("rating off the scale", ids(lambda row: not 1 < (row["chosen_rating"] or 9) < 5)),
            "three sound pairs",
        ),
        (
            audit_but(
                "rating off the scale",
                ids(
                    lambda row: (
                        not all(
                            1 <= rating <= 5
                            for rating in (row["chosen_rating"], row["rejected_rating"])
                            if rating
                        )
                    )
                ),
            ),
            "off the scale",
        ),
        (
            audit_but(
                "rating off the scale",
                ids(
                    lambda row: (
                        not all(
                            1 <= rating <= 5
                            for rating in (row["chosen_rating"], row["rejected_rating"])
                            if rating is not None
                        )
                    )
                ),
            ),
            "a rating that is missing",
        ),
        (
            audit_but(
                "rating against the choice", ids(lambda row: row["chosen_rating"] < row["rejected_rating"])
            ),
            "TypeError",
        ),
        (
            audit_but(
                "rating against the choice",
                ids(lambda row: (row["chosen_rating"] or 9) < (row["rejected_rating"] or 0)),
            ),
            "against the choice",
        ),
        (
            audit_but(
                "rating against the choice",
                ids(lambda row: (row["chosen_rating"] or 0) <= (row["rejected_rating"] or 0)),
            ),
            "a rating that is missing",
        ),
        (tells_by_place, "that does not exist"),
        (
            audit_of_small_ones(lambda found: {*found, 10_000}),
            "faulty_preferences.jsonl, 'identical pair': 'a row 10000 that does not exist'",
        ),
        (
            audit_of_small_ones(lambda found: set()),
            "faulty_preferences.jsonl, 'identical pair': {'id': ",
        ),
        (
            lambda rows: {fault: len(some) for fault, some in audited(rows).items()},
            "expected a list or a set of ids",
        ),
        (
            lambda rows: {fault: sorted(map(float, some)) for fault, some in audited(rows).items()},
            "expected a list or a set",
        ),
        (
            lambda rows: {**audited(rows), "too long": set()},
            "There is no fault 'too long'; allowed: 'identical pair'",
        ),
        (lambda rows: dict.fromkeys(FAULTS, set()), "has this fault, but is not in"),
        (lambda rows: {}, "has this fault, but is not in"),
        (lambda rows: [*audited(rows).values()], "Expected a dict"),
        (lambda rows: audited(rows) if rows else None, "Expected a dict"),
        (audited(PAIRS), "Expected a function"),
    ],
    "preference_dataset": [
        (whole_untouched, "expected the columns prompt, chosen and rejected"),
        (whole_conversations, "each a list of messages"),
        (whole_twice_read, "chosen is the whole conversation"),
        (whole_always_dropped, "raised KeyError"),
        (whole_with_splits, "without their splits"),
        (whole_dropped_splits, "without their splits"),
        (whole_unjudged, "needs the column 'ratings'"),
        (
            whole_of(min_margin=lambda value: 0),
            "'Name a colour.', rated [3.2, 3.0], came out in 1 pairs; expected 0",
        ),
        (whole_of(min_margin=lambda value: value + 0.1), "came out in 0 pairs; expected 1"),
        (whole_of(instructions=lambda texts: texts[:1]), f"{ASKED!r}, rated [2.0, 4.0], came out in 0 pairs"),
        (whole_of(instructions=lambda texts: [*texts, texts[0]]), "the instructions in dropped"),
        (
            whole_of(instructions=lambda texts: [f"{text} " for text in texts]),
            "rated by nobody, came out in 1 pairs; expected 0",
        ),
        (whole_of(llms=lambda llms: llms[:2]), "3 models and min_margin 1.0: the prompt 'What is tea?'"),
        (whole_of(llms=lambda llms: llms[:1] * 2), "came out in 0 pairs; expected 1"),
        (whole_but(swapped), "'Why is the sky blue?', chosen"),
        (whole_but(lambda rows: []), "came out in 0 pairs; expected 1"),
        (
            whole_but(lambda rows: [{**row, "chosen": "text"} for row in rows]),
            "each a list of messages",
        ),
        (
            whole_but(lambda rows: [{**row, "chosen": ["text"]} for row in rows]),
            "each a list of messages",
        ),
        (whole_but(lambda rows: [{**row, "prompt": []} for row in rows]), "the prompt '', rated by nobody"),
        (
            whole_but(lambda rows: [[*row] for row in rows]),
            "expected the columns prompt, chosen and rejected",
        ),
        (whole_but(lambda rows: [*rows, *rows]), "came out in 2 pairs; expected 1"),
        (whole_but(dropped=lambda rows: []), "no row is lost in silence"),
        (whole_but(dropped=lambda rows: rows[1:]), "no row is lost in silence"),
        (whole_but(dropped=lambda rows: [*rows, *rows]), "the instructions in dropped"),
        (
            whole_but(dropped=lambda rows: [{"instruction": row["instruction"]} for row in rows]),
            "expected rows in dropped with their drop_reason",
        ),
        (
            whole_but(dropped=lambda rows: [{**row, "drop_reason": ""} for row in rows]),
            "expected rows in dropped with their drop_reason",
        ),
        (whole_but(dropped=lambda rows: [row["instruction"] for row in rows]), "expected rows in dropped"),
        (lambda *given: whole(*given)[0], "expected (pairs, dropped)"),
        (lambda *given: (whole(*given)[0], 3), "expected (pairs, dropped)"),
        (lambda *given: (*whole(*given), 3), "expected (pairs, dropped)"),
        (lambda *given: run(*given), "expected (pairs, dropped)"),
        (lambda instructions, llms, judge: ([], []), "raised TypeError"),
        ([], "Expected a function"),
    ],
}
