"""Chapter 5, a preference dataset: what the answers are checked for."""

import re
from unittest.mock import patch

from course_lib.exercises.questions import (
    COLLECTION,
    Wrong,
    call,
    data,
    equal,
    equal_ids,
    faulty_preferences,
    is_pair,
    of_type,
    question,
    require,
    shown,
)
from course_lib.llms import ScriptedLLM
from course_lib.steps import FormatTextGenerationDPO, Step, StepInput, StepOutput

REASONS = (
    "pair", "tie", "missing rating", "empty completion", "identical completions", "too similar", "margin too small",
)  # fmt: skip
FAULTS = (
    "identical pair", "duplicate prompt", "test prompt in train", "contradictory preference", "leaked heading",
    "rating off the scale", "rating against the choice",
)  # fmt: skip
# Rated rows, by name: (generations, ratings).
RATED = {name: (row["generations"], row["ratings"]) for name, row in data("rated").items()}


def plain(text: str) -> str:
    """A text without what does not count: case, and spaces that are too many."""
    return " ".join(text.lower().split())


@question(
    "🐢",
    "Collect the places that have a rating first: [i for i, rating in enumerate(ratings) if rating is not None].",
    "max(places, key=lambda i: ratings[i]) is the place of the best.",
    "With fewer than two such places, or with the best and the worst rated alike, return None.",
)
def best_and_worst(answer):
    """A function: ratings (numbers or None) in; (place of the best, place of the worst) out, or None if there is no pair."""
    for ratings in (
        [4.6, 1.3],
        [3.5, 4.5, 1.5],
        [1.0, None, 5.0, 3.0],
        [None, 2.5, 3.5],
        [0.0, 0.5, None],
        [2, 4, 4, 1, 1],
    ):
        _best_and_worst_case(answer, ratings)
    for ratings in ([], [3.0], [None, 3.0], [None, None], [4.0, 4.0], [4.0, None, 4.0]):
        pair = call(answer, ratings)
        require(
            pair is None,
            f"For the ratings {ratings} there is no pair: your answer gives {shown(pair)}; expected None.",
        )


def _best_and_worst_case(answer, ratings: list) -> None:
    pair = call(answer, ratings)
    where = f"For the ratings {ratings}: your answer gives {shown(pair)}"
    require(pair is not None, f"{where}, but two ratings differ, so there is a pair.")
    require(is_pair(pair), f"{where}; expected (place of the best, place of the worst).")
    try:
        best, worst = (ratings[place] for place in pair)
    except (TypeError, IndexError) as error:
        raise Wrong(f"{where}, which are no places in the list. The first place is 0.") from error
    require(None not in (best, worst), f"{where}; None is no rating, neither the best nor the worst.")
    known = [rating for rating in ratings if rating is not None]
    expected = [max(known), min(known)]
    require([worst, best] != expected, f"{where}, the worst before the best. Turn them round.")
    equal([best, worst], expected, f"For the ratings {ratings}, the ratings at the places {pair}")


@question(
    "🐢",
    "Empty texts and missing ratings are left aside first. Fewer than two left: that is the reason.",
    "Then the best and the worst of what is left are compared: first their ratings, then their texts.",
    kind="concept",
)
def why_no_pair(answer):
    """A dict from the name of each row, "A" to "H", to what FormatTextGenerationDPO(min_margin=0.25) makes of it: "pair",
    "tie", "missing rating", "empty completion", "identical completions", "too similar" or "margin too small"."""
    of_type(answer, dict, 'a dict such as {"A": "pair", …}')
    require(
        set(answer) == set(RATED), f"Your answer names {sorted(map(str, answer))}; expected {sorted(RATED)}."
    )
    given = {
        name: value.strip().lower() if isinstance(value, str) else value for name, value in answer.items()
    }
    for name, value in given.items():
        require(
            value in REASONS, f"Row {name}: {shown(answer[name])}; allowed: {', '.join(map(repr, REASONS))}."
        )
    rows = [
        {"instruction": name, "generations": texts, "ratings": ratings}
        for name, (texts, ratings) in RATED.items()
    ]
    formatted = next(FormatTextGenerationDPO(min_margin=0.25).process(rows))
    wrong = sorted(
        row["instruction"] for row in formatted if given[row["instruction"]] != row.get("drop_reason", "pair")
    )
    if wrong:
        count, first = f"{len(rows) - len(wrong)} of {len(rows)} are right", wrong[0]
        raise Wrong(f"{count}. Row {first} is not {given[first]!r}. {data('rated')[first]['hint']}")


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
    margins = sorted(usable_margins(), reverse=True)
    require(0 <= answer <= 4, f"{answer} is no margin on a scale from 1 to 5: these go from 0 to 4 points.")
    expected = margins[30 - 1]
    kept = sum(margin >= answer for margin in margins)
    which = "too low: there is a higher one that still keeps 30" if answer < expected else "too high"
    if abs(answer - expected) > 0.15:
        raise Wrong(f"{answer} is {which}. It keeps {kept} pairs.", _drawn(margins, answer, expected))


def _drawn(margins: list[float], answer: float, expected: float):
    from course_lib.plots import lines, with_answer

    kept = [(k / 5, sum(margin >= k / 5 for margin in margins)) for k in range(21)]
    fig = lines({"pairs kept": kept}, "least margin (points)", "pairs", "Your answer, and a right one")
    fig.axes[0].axhline(30, color="#666666", linewidth=1)
    return with_answer(fig, answer, expected)


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
    rows = _asked_often(600)
    for share in (0.1, 0.3):
        test = _test_prompts(answer, rows, share)
        percent = f"{len(test) / 600:.0%} of 600 prompts are in test; expected about {share:.0%}."
        require(
            abs(len(test) / 600 - (1 - share)) > 0.1, f"{percent} It looks as if you returned (test, train)."
        )
        require(abs(len(test) / 600 - share) < 0.1, percent)
        changed = {
            "called a second time with the same rows": rows,
            "with the rows in another order": rows[::-1],
            "with 300 prompts added": _asked_often(900),
        }
        for words, others in changed.items():
            _stays(test, _test_prompts(answer, others, share), words)
        with patch("builtins.hash", lambda value: (value, "another process").__hash__()):
            salted = _test_prompts(answer, rows, share)
        _stays(
            test,
            salted,
            "in another process, where Python's hash() of a text is another number (hashlib's are the same)",
        )
    few = _asked_often(4)
    require(not _test_prompts(answer, few, 0), "With a test_share of 0 no row may be in test.")
    require(len(_test_prompts(answer, few, 1)) == 4, "With a test_share of 1 all rows must be in test.")
    equal([list(part) for part in call(answer, [], 0.5)], [[], []], "for no rows")


def _asked_often(prompts: int) -> list[dict]:
    rows = []
    for k in range(prompts):
        prompt = f"What is {k} times {k % 7 + 2}?"
        spelled = [prompt, f" {prompt.upper()}", prompt.replace(" ", "  ")][: k % 3 + 1]
        rows += [
            {"id": f"{k}-{n}", "prompt": text, "chosen": f"{k}", "rejected": "?"}
            for n, text in enumerate(spelled)
        ]
    return sorted(rows, key=lambda row: row["id"][::-1])


def _test_prompts(answer, rows: list[dict], share: float) -> set[str]:
    """The prompts that went to test, once it is clear that each row is in one part and each prompt on one side."""
    parts = call(answer, rows, share)
    two = is_pair(parts) and all(isinstance(part, list | tuple) for part in parts)
    require(two, f"Expected (train, test), two lists of rows; your function returned {shown(parts)}.")
    train, test = parts
    for row in [*train, *test]:
        is_row = isinstance(row, dict) and "id" in row
        require(is_row, f"Expected the rows themselves in train and test; one is {shown(row)}.")
    ids, known = [row["id"] for row in [*train, *test]], {row["id"]: row for row in rows}
    twice, lost = len(ids) - len(set(ids)), len(set(known) - set(ids))
    require(not twice, f"{twice} rows came out twice. Each row belongs in train or in test.")
    require(not lost, f"{lost} of {len(rows)} rows are in neither part. A split loses no row.")
    require(
        all(known.get(row["id"]) == row for row in [*train, *test]),
        "The rows that came out are not those that went in.",
    )
    for same, words in ((str, ""), (plain, ", up to case and spaces")):
        both = {same(row["prompt"]) for row in train} & {same(row["prompt"]) for row in test}
        example = f", for example {min(both)!r}" if both else ""
        require(
            not both,
            f"{len(both)} prompts are in train and in test{words}{example}. The prompt must decide, not the row.",
        )
    return {plain(row["prompt"]) for row in test}


def _stays(before: set[str], after: set[str], when: str) -> None:
    moved = len(before - after)
    require(
        not moved,
        f"{moved} of {len(before)} test prompts are no longer in test {when}. Let the prompt alone decide.",
    )


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
    of_type(answer, dict, 'a dict {"duplicate prompt": ids, "test prompt in train": ids}')
    rows = faulty_preferences()
    expected, misread = faults_of(rows), _misread_leaks(rows)
    keys = f"Your answer has the keys {shown(list(answer))}; expected {', '.join(map(repr, misread))}."
    require(set(answer) == set(misread), keys)
    for fault, mistakes in misread.items():
        ids = _ids(answer[fault], fault)
        for reason, mistaken in mistakes.items():
            require(ids != mistaken, f"{fault}: {reason}.")
        equal_ids(ids, expected[fault], "do not have this fault", where=f"{fault}: ")


def _misread_leaks(rows: list[dict]) -> dict[str, dict[str, set]]:
    """What the usual misunderstandings find, by fault and reason."""
    places = [_place(row) for row in rows]
    by_letter = _repeated(rows, lambda row: (row["split"], row["prompt"]))
    over_splits = _repeated(rows, lambda row: plain(row["prompt"]))
    firsts_too = {row["id"] for row, place in zip(rows, places, strict=True) if places.count(place) > 1}
    trained = {plain(row["prompt"]) for row in rows if row["split"] == "train"}
    tests = {row["id"] for row in rows if row["split"] == "test" and plain(row["prompt"]) in trained}
    both = tests | faults_of(rows)["test prompt in train"]
    return {
        "duplicate prompt": {
            "these are equal letter by letter; look for those that differ in case and spaces too": by_letter,
            "the two splits are counted apart; a prompt once in train and once in test is leakage": over_splits,
            "the first row of a prompt is no duplicate, only those after it are": firsts_too,
        },
        "test prompt in train": {
            "these are the rows of the test split; the train rows are the ones to mend": tests,
            "rows of the test split are among them; only the train rows are asked for": both,
        },
    }


def _ids(ids, fault: str) -> set:
    fits = isinstance(ids, COLLECTION) and all(isinstance(id_, int | str) for id_ in ids)
    require(fits, f"{fault}: expected a list or a set of ids, such as {{3, 14}}; it is {shown(ids)}.")
    return set(ids)


@question(
    "🐕",
    'row["chosen"] is a whole conversation. Its last message is the completion; what stands before it is the prompt.',
    'row["chosen"][:-1] is the prompt with system message and earlier turns; row["chosen"][-1:] the completion, as a list.',
    "Leave out first: no conversation on a side, the same rating on both sides, the same last text on both sides.",
)
def trl_rows(answer):
    """A function: rows as FormatTextGenerationDPO makes them in; rows with prompt, chosen and rejected out, each a list of
    messages, chosen and rejected with the completion only. Rows without a pair, ties and identical texts are left out."""
    user = [{"role": "user", "content": "Why is the sky blue?"}]
    system = [{"role": "system", "content": "Be brief."}]
    turns = [
        *system,
        *user,
        {"role": "assistant", "content": "Air scatters light."},
        {"role": "user", "content": "Why?"},
    ]
    pair, nothing = (
        _formatted(user),
        dict.fromkeys(["chosen", "rejected", "chosen_rating", "rejected_rating"]),
    )
    cases = {
        "two pairs": [pair, _formatted(user, "Air.", "Paint.", 3.0, 2.5)],
        "a pair with a system message": [_formatted([*system, *user])],
        "a conversation of several turns": [_formatted(turns)],
        "a tie": [_formatted(user, "A", "Paint.", 4, 4), _formatted(user, "B", "Paint.", 4, 3)],
        "an identical pair": [_formatted(user, "Air.", "Air."), pair],
        "a row without a pair": [{**pair, **nothing}, pair],
        "no rows": [],
    }
    for words, rows in cases.items():
        result = call(answer, rows)
        require(
            hasattr(result, "__iter__"), f"Expected a list of rows; your function returned {shown(result)}."
        )
        result, pairs = list(result), list(filter(_is_pair, rows))
        count = f"{len(rows)} rows went in, {len(result)} came out; expected {len(pairs)}."
        require(len(result) == len(pairs), f"For {words}: {count}")
        for row, source in zip(result, pairs, strict=True):
            _trl_row(row, source, f"For {words}")


def _formatted(before: list[dict], good="Air scatters blue most.", bad="Because.", high=4.5, low=1.5) -> dict:
    sides = {
        side: [*before, {"role": "assistant", "content": text}]
        for side, text in (("chosen", good), ("rejected", bad))
    }
    ratings = {"chosen_rating": high, "rejected_rating": low, "chosen_model": "m", "rejected_model": "n"}
    return {"prompt": before[-1]["content"], "prompt_id": "0a", **sides, **ratings}


def _is_pair(row: dict) -> bool:
    if not row["chosen"] or row["chosen_rating"] == row["rejected_rating"]:
        return False
    return row["chosen"][-1]["content"] != row["rejected"][-1]["content"]


def _trl_row(row, source: dict, where: str) -> None:
    _has_messages(row, where)
    for side in ("chosen", "rejected"):
        whole = "the whole conversation, so the model would read the question twice. Keep the completion only"
        require(row[side] != source[side], f"{where}: {side} is {whole}.")
    prompt = source["chosen"][:-1]
    lost = row["prompt"] == prompt[-1:] != prompt
    require(
        not lost,
        f"{where}: the prompt is the last question alone. The system message or earlier turns are lost.",
    )
    for name, value in {
        "prompt": prompt,
        "chosen": source["chosen"][-1:],
        "rejected": source["rejected"][-1:],
    }.items():
        equal(row[name], value, f"{where}, {name}")


def _has_messages(row, where: str) -> None:
    """A row as TRL takes it: prompt, chosen and rejected, each a list of messages."""
    keys = isinstance(row, dict) and set(row) == {"prompt", "chosen", "rejected"}
    columns = sorted(row) if isinstance(row, dict) else shown(row)
    require(
        keys, f"{where}: a row has {columns}; expected the columns prompt, chosen and rejected and no others."
    )
    for name, value in row.items():
        messages = isinstance(value, list) and all(isinstance(message, dict) for message in value)
        require(
            messages,
            f"{where}: {name} is {shown(value)}; expected a list of messages, even if it is only one.",
        )


HEADING = re.compile(
    r"(#|\[|here (is|are)\b|here's\b).*\b(response|answer|version)\b.*[:#\]]$", re.IGNORECASE
)


def faults_of(rows: list[dict]) -> dict[str, set]:
    """The ids with each of FAULTS, by their definitions in the exercise."""
    tests = {plain(row["prompt"]) for row in rows if row["split"] == "test"}
    directions = {_direction(row, "chosen", "rejected") for row in rows}

    def ids(is_faulty) -> set:
        return {row["id"] for row in rows if is_faulty(row)}

    identical = ids(lambda row: plain(row["chosen"]) == plain(row["rejected"]))
    return {
        "identical pair": identical,
        "duplicate prompt": _repeated(rows, _place),
        "test prompt in train": ids(lambda row: row["split"] == "train" and plain(row["prompt"]) in tests),
        "contradictory preference": ids(lambda row: _direction(row, "rejected", "chosen") in directions)
        - identical,
        "leaked heading": ids(lambda row: _headed(row["chosen"]) or _headed(row["rejected"])),
        "rating off the scale": ids(
            lambda row: not all(r is not None and 1 <= r <= 5 for r in _ratings(row))
        ),
        "rating against the choice": ids(
            lambda row: None not in _ratings(row) and _ratings(row)[0] <= _ratings(row)[1]
        ),
    }


def _place(row: dict) -> tuple[str, str]:
    return row["split"], plain(row["prompt"])


def _direction(row: dict, first: str, second: str) -> tuple[str, str, str]:
    return plain(row["prompt"]), plain(row[first]), plain(row[second])


def _repeated(rows: list[dict], place) -> set:
    """The ids of all rows but the first at each place."""
    firsts = {place(row): row["id"] for row in reversed(rows)}
    return {row["id"] for row in rows} - set(firsts.values())


def _headed(text: str) -> bool:
    return HEADING.match(text.strip().split("\n")[0].strip()) is not None


def _ratings(row: dict) -> tuple:
    return row["chosen_rating"], row["rejected_rating"]


@question(
    "🦁",
    "One small function for each fault; a set comprehension {row['id'] for row in rows if …} is often all of it.",
    "Contradictory: put (prompt, chosen, rejected) of all rows into a set, then look for (prompt, rejected, chosen) in it.",
    "An identical pair is its own reverse: take those out of the contradictory ones. None is a rating off the scale.",
    'Headings: the first line of text.strip(); re.match(r"(#|\\[|here (is|are)|here\'s)", line, re.IGNORECASE) is its begin.',
)
def audit(answer):
    """A function: rows in; a dict from the name of each of the seven faults to the set of the ids that have it."""
    for words, rows in data("audited").items():  # each about one trap; the ids are no positions
        faults, expected = _audited(answer, rows), faults_of(rows)
        for fault in FAULTS:
            _same_ids(faults[fault], expected[fault], rows, f"In a small dataset with {words}, {fault!r}")
    rows = faulty_preferences()
    faults, expected = _audited(answer, rows), faults_of(rows)
    for fault in FAULTS:
        equal_ids(
            faults[fault],
            expected[fault],
            "do not have this fault",
            where=f"In faulty_preferences.jsonl, {fault}: ",
        )


def _audited(answer, rows: list[dict]) -> dict[str, set]:
    faults = call(answer, rows)
    require(
        isinstance(faults, dict),
        f"Expected a dict from fault to ids; your function returned {shown(faults)}.",
    )
    unknown = set(faults) - set(FAULTS)
    require(
        not unknown,
        f"There is no fault {shown(min(map(str, unknown), default=''))}; allowed: {', '.join(FAULTS)}.",
    )
    return {fault: _ids(faults.get(fault, set()), fault) for fault in FAULTS}


def _same_ids(ids: set, expected: set, rows: list[dict], where: str) -> None:
    columns = ("id", "split", "prompt", "chosen", "rejected", "chosen_rating", "rejected_rating")
    known = {row["id"]: {name: row[name] for name in columns} for row in rows}
    for id_ in sorted(ids ^ expected, key=str):
        row = known.get(id_, f"a row {shown(id_)} that does not exist")
        words = "does not have this fault, but is in" if id_ in ids else "has this fault, but is not in"
        raise Wrong(f"{where}: {row} {words} your set.")


# By instruction: what three models write, and how that is rated.
POOL = data("pool")


class _RatesByTable(Step):
    """A judge that looks its ratings up."""

    known: dict[str, float | None]

    inputs = ["instruction", "generations"]
    outputs = ["ratings"]

    def process(self, rows: StepInput) -> StepOutput:
        yield [{**row, "ratings": [self.known.get(text) for text in row["generations"]]} for row in rows]


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
    _dataset_case(answer, texts, 2, 0.0)
    _dataset_case(answer, texts, 2, 0.5)
    _dataset_case(answer, texts, 3, 1.0)
    _dataset_case(answer, texts[:2], 2, 0.5)  # nothing is dropped
    _dataset_case(answer, texts[2:3], 2, 0.5)  # nothing is kept


def _dataset_case(answer, instructions: list[str], models: int, min_margin: float) -> None:
    where = f"For {len(instructions)} instructions, {models} models and min_margin {min_margin}"
    pairs, dropped = _pairs_and_dropped(answer, instructions, models, min_margin, where)
    expected = {text: pair for text in instructions if (pair := _right_pair(text, models, min_margin))}
    sides = [_sides(row, where) for row in pairs]
    prompts = [prompt for prompt, _, _ in sides]
    for prompt in prompts:
        require(prompt in instructions, f"{where}: the prompt {shown(prompt)} is none of the instructions.")
        rated = f"{shown(prompt)}, rated {list(POOL[prompt].values())[:models]}"
        require(prompt in expected, f"{where}: {rated}, came out as a pair; expected none.")
    for text in expected:
        rated = f"{shown(text)}, rated {list(POOL[text].values())[:models]}"
        require(text in prompts, f"{where}: {rated}, is missing among the pairs.")
    require(len(pairs) == len(expected), f"{where}: {len(pairs)} pairs came out; expected {len(expected)}.")
    for prompt, *texts in sides:
        equal(texts, expected[prompt], f"{where}, chosen and rejected for {prompt!r}")
    _none_lost(dropped, [text for text in instructions if text not in expected], where)


def _pairs_and_dropped(answer, instructions, models: int, min_margin: float, where: str) -> tuple[list, list]:
    llms = [ScriptedLLM(_writer(place), model_name=f"m{place}") for place in range(models)]
    known = {text: rating for texts in POOL.values() for text, rating in texts.items()}
    result = call(answer, instructions, llms, lambda: _RatesByTable(known=known), min_margin)
    two = is_pair(result) and all(hasattr(part, "__iter__") for part in result)
    require(two, f"{where}: expected (pairs, dropped); your function returned {shown(result)}.")
    for name, part in zip(("pairs", "dropped"), result, strict=True):
        require(
            not isinstance(part, dict), f"{where}: {name} is a dict of splits. Its rows are in ['train']."
        )
    return list(result[0]), list(result[1])


def _writer(place: int):
    """What the model at `place` writes; None where it is asked something else."""
    return lambda chat: [*POOL.get(chat[-1]["content"], {}), None, None, None][place]


def _right_pair(text: str, models: int, min_margin: float) -> list[str] | None:
    """[chosen, rejected] by the definition, or None."""
    rated = [(rating, written) for written, rating in list(POOL[text].items())[:models] if rating is not None]
    best, worst = max(rated), min(rated)
    margin = best[0] - worst[0]
    return [best[1], worst[1]] if margin > 0 and margin >= min_margin else None


def _sides(row, where: str) -> list[str]:
    """The texts of prompt, chosen and rejected, each the only message in its column and of the right role."""
    _has_messages(row, where)
    for name, role in {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}.items():
        roles = [message.get("role") for message in row[name]]
        require(
            roles == [role],
            f"{where}: {name} has messages of {roles}; expected one of {role!r}. `to_trl()` does it.",
        )
    return [row[name][0]["content"] for name in ("prompt", "chosen", "rejected")]


def _none_lost(dropped: list, wanted: list[str], where: str) -> None:
    require(
        all(isinstance(row, dict) for row in dropped),
        f"{where}: dropped holds {shown(dropped)}; expected rows.",
    )
    reasons = all(isinstance(row.get("drop_reason"), str) and row["drop_reason"] for row in dropped)
    require(
        reasons,
        f"{where}: a dropped row has no drop_reason. distiset['dropped'] has the rows with their reasons.",
    )
    texts = [row.get("instruction") for row in dropped]
    lost = [text for text in wanted if text not in texts]
    require(not lost, f"{where}: {lost} gave no pair and are not in dropped. No row is lost in silence.")
    equal(sorted(map(str, texts)), sorted(wanted), f"{where}, the instructions in dropped")
