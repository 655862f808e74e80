"""Chapter 5, a preference dataset: what the answers are checked for."""

from collections import Counter
from unittest.mock import patch

from course_lib.exercises.checks import Wrong, call, data, equal, excerpt, expect, is_pair, require
from course_lib.exercises.choices import has_keys, of_type, option, read_off
from course_lib.exercises.faults import faults_of, faulty_preferences, ids_in, name_fault, plain, repeated
from course_lib.exercises.pairs import POOL, check_dataset, check_trl_rows, formatted, formatted_row, message
from course_lib.exercises.questions import question

RATINGS = (
    [4.6, 1.3], [3.5, 4.5, 1.5], [1.0, None, 5.0, 3.0], [None, 2.5, 3.5], [0.0, 0.5, None], [2, 4, 4, 1, 1],
    [], [3.0], [None, 3.0], [None, None], [4.0, 4.0], [4.0, None, 4.0],
)  # fmt: skip
# Rated rows, by name: (generations, ratings).
RATED = {name: (row["generations"], row["ratings"]) for name, row in data("rated").items()}


@question(
    "🐢",
    "Collect the places that have a rating first: [i for i, rating in enumerate(ratings) if rating is not None].",
    "max(places, key=lambda i: ratings[i]) is the place of the best.",
    "With fewer than two such places, or with the best and the worst rated alike, return None.",
)
def best_and_worst(answer):
    """A function: ratings (numbers or None) in; (place of the best, place of the worst) out, or None if there is no pair."""
    wanted = "(place of the best, place of the worst), both of which hold a rating; the first place is 0"
    for ratings in RATINGS:
        pair, where = call(answer, ratings), f"For the ratings {ratings}"
        rated = {rating for rating in ratings if rating is not None}
        if len(rated) < 2:
            equal(pair, None, f"{where} there is no pair")
            continue
        places = [place for place in range(-len(ratings), len(ratings)) if ratings[place] is not None]
        expect(is_pair(pair) and all(place in places for place in pair), wanted, pair, where)
        best_and_worst = [max(rated), min(rated)]
        misread = {"the worst before the best. Turn them round": best_and_worst[::-1]}
        ends = [ratings[place] for place in pair]
        equal(ends, best_and_worst, f"{where}, the ratings at the places {pair}", misread)


@question(
    "🐢",
    "Empty texts and missing ratings are left aside first. Fewer than two left: that is the reason.",
    "Then the best and the worst of what is left are compared: first their ratings, then their texts.",
    kind="concept",
)
def why_no_pair(answer):
    """A dict from the name of each row, "A" to "H", to what FormatTextGenerationDPO(min_margin=0.25) makes of it: "pair",
    "tie", "missing rating", "empty completion", "identical completions", "too similar" or "margin too small"."""
    has_keys(answer, list(RATED))
    right = {name: row.get("drop_reason", "pair") for name, row in formatted(RATED, 0.25).items()}
    options = sorted(set(right.values()))
    reasons = {name: option(reason, options, f"Row {name}: ") for name, reason in answer.items()}
    wrong = [name for name in right if reasons[name] != right[name]]
    for name in wrong:
        count, hint = f"{len(right) - len(wrong)} of {len(right)} are right", data("rated")[name]["hint"]
        raise Wrong(f"{count}. Row {name} is not {reasons[name]!r}. {hint}")


def usable_margins() -> list[float]:
    """Margins of the faulty dataset's pairs with ratings on the scale and the right way round: what the figure shows."""
    margins = (row["chosen_rating"] - row["rejected_rating"] for row in faulty_preferences())
    return [margin for margin in margins if 0 < margin <= 4]


@question(
    "🐕",
    "Find 30 on the vertical axis, go right to the line, then down.",
    "The line falls below 30 a little before a whole number.",
    kind="plot",
)
def margin_for_thirty(answer):
    """The largest least margin, read from the figure to within 0.15 points, that keeps at least 30 pairs."""
    of_type(answer, int | float, "a number of points from 0 to 4")
    require(0 <= answer <= 4, f"{answer} is no margin on a scale from 1 to 5: these go from 0 to 4 points.")
    margins = sorted(usable_margins(), reverse=True)

    def kept(least: float) -> int:
        return sum(margin >= least for margin in margins)

    def draw(plots):
        curve = {"pairs kept": [(k / 5, kept(k / 5)) for k in range(21)]}
        return plots.lines(curve, "least margin (points)", "pairs", "Your answer, and a right one")

    effect = f"it keeps {kept(answer)} pairs; look for the highest that keeps 30"
    read_off(answer, margins[30 - 1], 0.15, effect, draw)


@question(
    "🐕",
    "The prompt decides, never the row: write a function that says for a prompt whether it is for the test.",
    'Give it the prompt without case and superfluous spaces: " ".join(prompt.lower().split()).',
    "hashlib.sha256(text.encode()).digest() gives 32 bytes that are always the same for the same text.",
    'int.from_bytes(digest[:8], "big") / 2**64 is a number from 0 to 1 that you can compare with test_share.',
)
def split_by_prompt(answer):
    """A function of (rows, test_share): (train, test), two lists of rows. A prompt, up to case and spaces, is in one of them
    only, stays there when rows are shuffled or added, and about test_share of the prompts are in test."""
    rows = _rows_about(600)
    elsewhere = "in another process, where Python's hash() of a text differs (hashlib's are the same)"
    changed = {
        "called a second time with the same rows": (rows, hash),
        "with the rows in another order": (rows[::-1], hash),
        "with 300 prompts added": (_rows_about(900), hash),
        elsewhere: (rows, lambda value: (value, "another process").__hash__()),
    }
    for share in (0.1, 0.3):
        test = _test_prompts(answer, rows, share)
        percent = f"{len(test) / 600:.0%} of 600 prompts are in test; expected about {share:.0%}."
        turned = abs(len(test) / 600 - (1 - share)) < 0.1
        require(not turned, f"{percent} It looks as if you returned (test, train).")
        require(abs(len(test) / 600 - share) < 0.1, percent)
        for words, (others, hashed) in changed.items():
            with patch("builtins.hash", hashed):
                moved = len(test - _test_prompts(answer, others, share))
            lost = f"{moved} of {len(test)} test prompts are no longer in test {words}."
            require(not moved, f"{lost} Let the prompt alone decide.")
    for share, count in ((0, 0), (1, 4)):
        in_test = len(_test_prompts(answer, _rows_about(4), share))
        equal(in_test, count, f"with a test_share of {share} and 4 prompts, the prompts in test")
    equal([list(part) for part in call(answer, [], 0.5)], [[], []], "for no rows")


def _rows_about(prompts: int) -> list[dict]:
    """Up to three rows for each prompt, which is spelled otherwise in each."""
    spellings = enumerate([str.strip, str.upper, lambda text: text.replace(" ", "  ")])
    numbers = [(k, n, spell) for n, spell in spellings for k in range(prompts) if n <= k % 3]
    texts = {f"{k}-{n}": spell(f"What is {k} times {k % 7 + 2}?") for k, n, spell in numbers}
    return [{"id": id_, "prompt": text, "chosen": id_, "rejected": "?"} for id_, text in texts.items()]


def _test_prompts(answer, rows: list[dict], share: float) -> set[str]:
    """The prompts that went to test, once it is clear that each row is in one part and each prompt on one side."""
    parts = call(answer, rows, share)
    two = is_pair(parts) and all(isinstance(part, list | tuple) for part in parts)
    expect(two, "(train, test), two lists of rows", parts)
    split, known = [*parts[0], *parts[1]], {row["id"]: row for row in rows}
    strange = [row for row in split if not isinstance(row, dict) or known.get(row.get("id")) != row]
    expect(not strange, "the rows themselves in train and test, as they went in", strange[:1])
    ids = {row["id"] for row in split}
    twice, lost = len(split) - len(ids), len(rows) - len(ids)
    require(not twice, f"{twice} rows came out twice. Each row belongs in train or in test.")
    require(not lost, f"{lost} of {len(rows)} rows are in neither part. A split loses no row.")
    train, test = ({plain(row["prompt"]) for row in part} for part in parts)
    both = sorted(train & test)
    leak = f"{len(both)} prompts are in train and in test, up to case and spaces, for example {both[:1]}"
    require(not both, f"{leak}. The prompt must decide, not the row.")
    return test


@question(
    "🐕",
    "Compare prompts without case and superfluous spaces.",
    "Duplicates: go through the rows once with a set of (split, prompt); a row whose place is in the set already is one.",
    "Leakage: first collect the prompts of the test rows in a set, then ask each train row whether its prompt is in it.",
    kind="fault",
)
def leaks(answer):
    """A dict with the ids of faulty_preferences.jsonl: "duplicate prompt" (each row but the first of a prompt within its
    split) and "test prompt in train" (the train rows). Prompts are compared up to case and spaces."""
    misread = _misread_leaks(faulty_preferences())
    has_keys(answer, list(misread))
    for fault, mistakes in misread.items():
        name_fault(answer[fault], fault, mistakes, where=f"{fault}: ")


def _misread_leaks(rows: list[dict]) -> dict[str, dict[str, set]]:
    """What the usual misunderstandings find, by fault and reason."""
    places = {row["id"]: (row["split"], plain(row["prompt"])) for row in rows}
    counts = Counter(places.values())
    tests = {id_ for id_, (split, prompt) in places.items() if split == "test" and counts["train", prompt]}
    firsts_too = {id_ for id_, place in places.items() if counts[place] > 1}
    by_letter = repeated(rows, lambda row: (row["split"], row["prompt"]))
    over_splits = repeated(rows, lambda row: plain(row["prompt"]))
    return {
        "duplicate prompt": {
            "these are equal letter by letter; look for those that differ in case and spaces too": by_letter,
            "the two splits are counted apart; a prompt once in train and once in test is leakage": over_splits,
            "the first row of a prompt is no duplicate, only those after it are": firsts_too,
        },
        "test prompt in train": {
            "these are the rows of the test split; the train rows are the ones to mend": tests,
        },
    }


@question(
    "🐕",
    'row["chosen"] is a whole conversation. Its last message is the completion; what stands before it is the prompt.',
    'row["chosen"][:-1] is the prompt with system message and earlier turns; row["chosen"][-1:] the completion, as a list.',
    "Leave out first: no conversation on a side, the same rating on both sides, the same last text on both sides.",
)
def trl_rows(answer):
    """A function: rows as FormatTextGenerationDPO makes them in; rows with prompt, chosen and rejected out, each a list of
    messages, chosen and rejected with the completion only. Rows without a pair, ties and identical texts are left out."""
    user, system = [message("user", "Why is the sky blue?")], [message("system", "Be brief.")]
    turns = [*system, *user, message("assistant", "Air scatters light."), message("user", "Why?")]
    pair = formatted_row(user)
    nothing = dict.fromkeys(["chosen", "rejected", "chosen_rating", "rejected_rating"])
    cases = {
        "two pairs": [pair, formatted_row(user, "Air.", "Paint.", 3.0, 2.5)],
        "a pair with a system message": [formatted_row([*system, *user])],
        "a conversation of several turns": [formatted_row(turns)],
        "a tie": [formatted_row(user, "A", "Paint.", 4, 4), formatted_row(user, "B", "Paint.", 4, 3)],
        "an identical pair": [formatted_row(user, "Air.", "Air."), pair],
        "a row without a pair": [{**pair, **nothing}, pair],
        "no rows": [],
    }
    for words, rows in cases.items():
        check_trl_rows(answer, rows, f"For {words}")


@question(
    "🦁",
    "One small function for each fault; a set comprehension {row['id'] for row in rows if …} is often all of it.",
    "Contradictory: put (prompt, chosen, rejected) of all rows into a set, then look for (prompt, rejected, chosen) in it.",
    "An identical pair is its own reverse: take those out of the contradictory ones. None is a rating off the scale.",
    'Headings: the first line of text.strip(); re.match(r"(#|\\[|here (is|are)|here\'s)", line, re.IGNORECASE) is its begin.',
)
def audit(answer):
    """A function: rows in; a dict from the name of each of the seven faults to the set of the ids that have it."""
    datasets = {**data("audited"), "planted faults, faulty_preferences.jsonl": faulty_preferences()}
    for words, rows in datasets.items():  # each about one trap; the ids are no positions
        result, expected = call(answer, rows), faults_of(rows)
        expect(isinstance(result, dict), "a dict from fault to ids", result)
        named = {option(fault, list(expected), "There is no fault "): ids for fault, ids in result.items()}
        for fault, ids in expected.items():
            answered = ids_in(named.get(fault, set()), fault, int | str)
            _same_ids(answered, ids, rows, f"In a dataset with {words}, {fault!r}")


def _same_ids(ids: set, expected: set, rows: list[dict], where: str) -> None:
    known = {row["id"]: {name: row[name] for name in row if "model" not in name} for row in rows}
    for id_ in sorted(ids ^ expected, key=str):
        row = excerpt(known.get(id_, f"a row {id_!r} that does not exist"))
        words = "does not have this fault, but is in" if id_ in ids else "has this fault, but is not in"
        raise Wrong(f"{where}: {row} {words} your set.")


@question(
    "🦁",
    "load >> writers >> group >> judge() >> FormatTextGenerationDPO(min_margin=min_margin), all inside `with Pipeline()`.",
    "GroupColumns(columns=['generation', 'model_name'], output_columns=['generations', 'generation_models']).",
    "distiset.to_trl()['train'] is what TRL takes. distiset['dropped'] is there only if rows were dropped.",
    seconds=60,
)
def preference_dataset(answer):
    """A function of (instructions, llms, judge, min_margin): (pairs, dropped). `pairs` holds prompt, chosen and rejected as
    TRL takes them; `dropped` the rows that gave no pair, each with its drop_reason. `judge()` makes the judging step."""
    texts = list(POOL)
    for models, min_margin in ((2, 0.0), (2, 0.5), (3, 1.0)):
        check_dataset(answer, texts, models, min_margin)
    check_dataset(answer, texts[:2], 2, 0.5)  # nothing is dropped
    check_dataset(answer, texts[2:3], 2, 0.5)  # nothing is kept
