"""Chapter 5, a preference dataset: what the answers are checked for."""

import inspect
import re
import types

from course_lib.exercises.questions import Wrong, call, equal, equal_ids, of_type, question, require, shown
from course_lib.llms import ScriptedLLM
from course_lib.steps import Step, StepInput, StepOutput
from course_lib.steps.load import DATA, read_jsonl

BREAD = "Yeast eats the sugar in the dough and gives off a gas that stays in it as many small bubbles, so the dough"
REASONS = (
    "pair", "tie", "missing rating", "empty completion", "identical completions", "too similar", "margin too small",
)  # fmt: skip
# For the question `why_no_pair`: rated rows, and what FormatTextGenerationDPO(min_margin=0.25) makes of them.
RATED = {
    "A": (["Paris.", "It is Paris.", "Lyon."], [4.0, 4.0, None]),
    "B": (["Paris.", "Lyon.", "No idea."], [4.6, None, 1.2]),
    "C": (["Paris.", "  "], [4.6, 1.0]),
    "D": (["Paris.", "Lyon."], [4.6, None]),
    "E": (["It is Paris.", " it is  PARIS."], [4.6, 4.1]),
    "F": ([f"{BREAD} swells.", f"{BREAD} rises."], [4.6, 3.2]),
    "G": (["It is Paris.", "Paris."], [4.1, 4.0]),
    "H": (["", "Paris.", "Lyon."], [5.0, 4.4, 2.1]),
}
_WHY = {
    "A": "Lyon has no rating, and two rated completions remain. Compare those two.",
    "B": "One missing rating does not cost the row as long as two rated completions remain.",
    "C": "Look at the texts before the ratings: how many completions are there?",
    "D": "Two texts, one rating. There is nothing to compare it with.",
    "E": "Case and spaces do not count when texts are compared.",
    "F": "The ratings are fine. Compare the texts word by word.",
    "G": "The ratings differ, but by less than the 0.25 points asked for.",
    "H": "A text that is empty is left aside, with its rating. What do the other two make?",
}
FAULTS = (
    "identical pair", "duplicate prompt", "test prompt in train", "contradictory preference", "leaked heading",
    "rating off the scale", "rating against the choice",
)  # fmt: skip


def plain(text: str) -> str:
    """A text without what does not count: case, and spaces that are too many."""
    return " ".join(text.lower().split())


def faulty() -> list[dict]:
    return read_jsonl(DATA / "faulty_preferences.jsonl")


@question(
    "🐢",
    "Collect the places that have a rating first: [i for i, rating in enumerate(ratings) if rating is not None].",
    "max(places, key=lambda i: ratings[i]) is the place of the best.",
    "With fewer than two such places, or with the best and the worst rated alike, return None.",
)
def best_and_worst(answer):
    """A function: ratings (numbers or None) in; (place of the best, place of the worst) out, or None if there is no pair."""
    for ratings in ([4.6, 1.3], [3.5, 4.5, 1.5], [1.0, None, 5.0, 3.0], [None, 2.5, 3.5], [0.0, 0.5, None]):
        _pair_case(answer, ratings)
    _pair_case(answer, [2.0, 4.0, 4.0, 1.0, 1.0])
    for ratings in ([], [3.0], [None, 3.0], [None, None], [4.0, 4.0], [4.0, None, 4.0]):
        came = call(answer, ratings)
        require(came is None, f"For the ratings {ratings} there is no pair: your answer gives {shown(came)}; expected None.")


def _pair_case(answer, ratings: list) -> None:
    came, where = call(answer, ratings), f"For the ratings {ratings}"
    require(came is not None, f"{where}: your answer gives None, but two ratings differ, so there is a pair.")
    fits = isinstance(came, tuple | list) and len(came) == 2
    require(fits, f"{where}: your answer gives {shown(came)}; expected (place of the best, place of the worst).")
    try:
        best, worst = (ratings[place] for place in came)
    except (TypeError, IndexError) as error:
        reason = f"{where}: your answer gives {shown(came)}, which are no places in the list. The first place is 0."
        raise Wrong(reason) from error
    require(None not in (best, worst), f"{where}: your answer gives {came}; None is no rating, neither the best nor the worst.")
    known = [rating for rating in ratings if rating is not None]
    turned = (best, worst) == (min(known), max(known))
    require(not turned, f"{where}: your answer gives {shown(came)}, the worst before the best. Turn them round.")
    equal([best, worst], [max(known), min(known)], f"{where}, the ratings at the places {came}")


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
    require(set(answer) == set(RATED), f"Your answer names {sorted(map(str, answer))}; expected {sorted(RATED)}.")
    given = {name: value.strip().lower() if isinstance(value, str) else value for name, value in answer.items()}
    for name, value in given.items():
        require(value in REASONS, f"Row {name}: {shown(answer[name])}; allowed: {', '.join(map(repr, REASONS))}.")
    truth = _outcomes()
    wrong = sorted(name for name in truth if given[name] != truth[name])
    if wrong:
        first = wrong[0]
        right = len(truth) - len(wrong)
        raise Wrong(f"{right} of {len(truth)} are right. Row {first} is not {given[first]!r}. {_WHY[first]}")


def _outcomes() -> dict[str, str]:
    from course_lib.steps import FormatTextGenerationDPO

    rows = [{"instruction": name, "generations": texts, "ratings": ratings} for name, (texts, ratings) in RATED.items()]
    made = next(FormatTextGenerationDPO(min_margin=0.25).process(rows))
    return {row["instruction"]: row.get("drop_reason", "pair") for row in made}


def usable_margins() -> list[float]:
    """Margins of the faulty dataset's pairs with ratings on the scale and the right way round: what the figure shows."""
    margins = (row["chosen_rating"] - row["rejected_rating"] for row in faulty())
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
        _share_is_near(len(test) / 600, share)
        _stays(test, _test_prompts(answer, rows, share), "called a second time with the same rows")
        _stays(test, _test_prompts(answer, rows[::-1], share), "with the rows in another order")
        _stays(test, _test_prompts(answer, _asked_often(900), share), "with 300 prompts added")
        salted = "in another process, where Python's hash() of a text is another number (hashlib's are always the same)"
        _stays(test, _test_prompts(_elsewhere(answer), rows, share), salted)
    few = _asked_often(4)
    require(not _test_prompts(answer, few, 0), "With a test_share of 0 no row may be in test.")
    require(len(_test_prompts(answer, few, 1)) == 4, "With a test_share of 1 all rows must be in test.")
    equal([list(part) for part in call(answer, [], 0.5)], [[], []], "for no rows")


def _asked_often(prompts: int) -> list[dict]:
    rows = []
    for k in range(prompts):
        prompt = f"What is {k} times {k % 7 + 2}?"
        spelled = [prompt, f" {prompt.upper()}", prompt.replace(" ", "  ")][: k % 3 + 1]
        rows += [{"id": f"{k}-{n}", "prompt": text, "chosen": f"{k}", "rejected": "?"} for n, text in enumerate(spelled)]
    return sorted(rows, key=lambda row: row["id"][::-1])


def _test_prompts(answer, rows: list[dict], share: float) -> set[str]:
    """The prompts that went to test, once it is clear that each row is in one part and each prompt on one side."""
    came = call(answer, rows, share)
    pair = isinstance(came, tuple | list) and len(came) == 2 and all(isinstance(part, list | tuple) for part in came)
    require(pair, f"Expected (train, test), two lists of rows; your function returned {shown(came)}.")
    train, test = came
    ids = [_id_of(row) for row in [*train, *test]]
    twice, lost = len(ids) - len(set(ids)), len({row["id"] for row in rows} - set(ids))
    require(not twice, f"{twice} rows came out twice. Each row belongs in train or in test.")
    require(not lost, f"{lost} of {len(rows)} rows are in neither part. A split loses no row.")
    known = {row["id"]: row for row in rows}
    require(all(known.get(row["id"]) == row for row in [*train, *test]), "The rows that came out are not those that went in.")
    for same, words in ((str, ""), (plain, ", up to case and spaces")):
        both = {same(row["prompt"]) for row in train} & {same(row["prompt"]) for row in test}
        example = f", for example {min(both)!r}" if both else ""
        require(not both, f"{len(both)} prompts are in train and in test{words}{example}. The prompt must decide, not the row.")
    return {plain(row["prompt"]) for row in test}


def _id_of(row):
    require(isinstance(row, dict) and "id" in row, f"Expected the rows themselves in train and test; one is {shown(row)}.")
    return row["id"]


def _share_is_near(came: float, share: float) -> None:
    words = f"{came:.0%} of 600 prompts are in test; expected about {share:.0%}."
    require(abs(came - (1 - share)) > 0.1, f"{words} It looks as if you returned (test, train).")
    require(abs(came - share) < 0.1, words)


def _stays(before: set[str], after: set[str], when: str) -> None:
    moved = len(before - after)
    require(not moved, f"{moved} of {len(before)} test prompts are no longer in test {when}. Let the prompt alone decide.")


def _elsewhere(function):
    """`function` as it would be in another process: it and the functions around it see another `hash`."""
    if not inspect.isfunction(function):
        return function
    seen = {"hash": lambda value: hash(("another process", value))}

    def rebuilt(one):
        copied = types.FunctionType(one.__code__, seen, one.__name__, one.__defaults__, one.__closure__)
        copied.__kwdefaults__ = one.__kwdefaults__
        return copied

    for name, value in function.__globals__.items():
        own = inspect.isfunction(value) and value.__globals__ is function.__globals__
        seen.setdefault(name, rebuilt(value) if own else value)
    return rebuilt(function)


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
    asked = ("duplicate prompt", "test prompt in train")
    require(
        set(answer) == set(asked), f"Your answer has the keys {shown(list(answer))}; expected {', '.join(map(repr, asked))}."
    )
    rows = faulty()
    truth = faults_of(rows)
    for fault in asked:
        came = _ids(answer[fault], fault)
        for reason, ids in _misread(rows)[fault].items():
            require(came != ids, f"{fault}: {reason}.")
        equal_ids(came, truth[fault], "do not have this fault", where=f"{fault}: ")


def _misread(rows: list[dict]) -> dict[str, dict[str, set]]:
    """What the usual misunderstandings find, by fault and reason."""
    exact, seen = _duplicates(rows, lambda row: (row["split"], row["prompt"])), faults_of(rows)
    anywhere = _duplicates(rows, lambda row: plain(row["prompt"]))
    within = [(row["split"], plain(row["prompt"])) for row in rows]
    first_too = {row["id"] for row, place in zip(rows, within, strict=True) if within.count(place) > 1}
    leaked = {plain(row["prompt"]) for row in rows if row["id"] in seen["test prompt in train"]}
    tests = {row["id"] for row in rows if row["split"] == "test" and plain(row["prompt"]) in leaked}
    return {
        "duplicate prompt": {
            "these are equal letter by letter; look for those that differ in case and spaces too": exact,
            "the two splits are counted apart; a prompt once in train and once in test is leakage": anywhere,
            "the first row of a prompt is no duplicate, only those after it are": first_too,
        },
        "test prompt in train": {
            "these are the rows of the test split; the train rows are the ones to mend": tests,
            "rows of the test split are among them; only the train rows are asked for": tests | seen["test prompt in train"],
        },
    }


def _ids(given, fault: str) -> set:
    fits = isinstance(given, list | tuple | set | frozenset) and all(isinstance(one, int | str) for one in given)
    require(fits, f"{fault}: expected a list or a set of ids, such as {{3, 14}}; it is {shown(given)}.")
    return set(given)


@question(
    "🐕",
    'row["chosen"] is a whole conversation. Its last message is the completion; what stands before it is the prompt.',
    'row["chosen"][:-1] is the prompt with system message and earlier turns; row["chosen"][-1:] the completion, as a list.',
    "Leave out first: no conversation on a side, the same rating on both sides, the same last text on both sides.",
)
def trl_rows(answer):
    """A function: rows as FormatTextGenerationDPO makes them in; rows with prompt, chosen and rejected out, each a list of
    messages, chosen and rejected with the completion only. Rows without a pair, ties and identical texts are left out."""
    asked = [{"role": "user", "content": "Why is the sky blue?"}]
    system = [{"role": "system", "content": "Be brief."}]
    earlier = [*system, *asked, {"role": "assistant", "content": "Air scatters light."}, {"role": "user", "content": "Why?"}]
    _trl_case(answer, [_formatted(asked), _formatted(asked, "Air.", "Paint.", 3.0, 2.5)], "two pairs")
    _trl_case(answer, [_formatted([*system, *asked])], "a pair with a system message")
    _trl_case(answer, [_formatted(earlier)], "a conversation of several turns")
    _trl_case(
        answer, [_formatted(asked, ratings[0], "Paint.", *ratings[1:]) for ratings in (("A", 4, 4), ("B", 4, 3))], "a tie"
    )
    _trl_case(answer, [_formatted(asked, "Air.", "Air."), _formatted(asked)], "an identical pair")
    empty = {**_formatted(asked), "chosen": None, "rejected": None, "chosen_rating": None, "rejected_rating": None}
    _trl_case(answer, [empty, _formatted(asked)], "a row without a pair")
    _trl_case(answer, [], "no rows")


def _formatted(before: list[dict], good="Air scatters blue most.", bad="Because.", high=4.5, low=1.5) -> dict:
    sides = {side: [*before, {"role": "assistant", "content": text}] for side, text in (("chosen", good), ("rejected", bad))}
    ratings = {"chosen_rating": high, "rejected_rating": low, "chosen_model": "m", "rejected_model": "n"}
    return {"prompt": before[-1]["content"], "prompt_id": "0a", **sides, **ratings}


def _trl_case(answer, rows: list[dict], words: str) -> None:
    came = call(answer, rows)
    require(hasattr(came, "__iter__"), f"Expected a list of rows; your function returned {shown(came)}.")
    came = list(came)
    expected = [_trl(row) for row in rows if _is_pair(row)]
    wanted = f"For {words}: {len(rows)} rows went in, {len(came)} came out; expected {len(expected)}."
    require(len(came) == len(expected), wanted)
    for one, right, row in zip(came, expected, [row for row in rows if _is_pair(row)], strict=True):
        _trl_row(one, right, row, f"For {words}")


def _is_pair(row: dict) -> bool:
    if not row["chosen"] or row["chosen_rating"] == row["rejected_rating"]:
        return False
    return row["chosen"][-1]["content"] != row["rejected"][-1]["content"]


def _trl(row: dict) -> dict:
    return {"prompt": row["chosen"][:-1], "chosen": row["chosen"][-1:], "rejected": row["rejected"][-1:]}


def _trl_row(came, right: dict, row: dict, where: str) -> None:
    keys = isinstance(came, dict) and set(came) == set(right)
    found = sorted(came) if isinstance(came, dict) else shown(came)
    require(keys, f"{where}: a row has {found}; expected the columns chosen, prompt, rejected and no others.")
    for name, value in came.items():
        messages = isinstance(value, list) and all(isinstance(one, dict) for one in value)
        require(messages, f"{where}: {name} is {shown(value)}; expected a list of messages, even if it is only one.")
    for side in ("chosen", "rejected"):
        whole = came[side] == row[side]
        twice = "the whole conversation, so the model would read the question twice. Keep the completion only"
        require(not whole, f"{where}: {side} is {twice}.")
    lost = came["prompt"] == right["prompt"][-1:] != right["prompt"]
    require(not lost, f"{where}: the prompt is the last question alone. The system message or earlier turns are lost.")
    for name, value in right.items():
        equal(came[name], value, f"{where}, {name}")


HEADING = re.compile(r"(#|\[|here (is|are)\b|here's\b).*\b(response|answer|version)\b.*[:#\]]$", re.IGNORECASE)


def faults_of(rows: list[dict]) -> dict[str, set]:
    """The ids with each of FAULTS, by their definitions in the exercise."""
    tests = {plain(row["prompt"]) for row in rows if row["split"] == "test"}
    alike = {row["id"] for row in rows if plain(row["chosen"]) == plain(row["rejected"])}
    said = {_direction(row, "chosen", "rejected") for row in rows}
    reversed_ = {row["id"] for row in rows if _direction(row, "rejected", "chosen") in said}
    return {
        "identical pair": alike,
        "duplicate prompt": _duplicates(rows, lambda row: (row["split"], plain(row["prompt"]))),
        "test prompt in train": {row["id"] for row in rows if row["split"] == "train" and plain(row["prompt"]) in tests},
        "contradictory preference": reversed_ - alike,
        "leaked heading": {row["id"] for row in rows if _headed(row["chosen"]) or _headed(row["rejected"])},
        "rating off the scale": {row["id"] for row in rows if not all(map(_on_scale, _ratings(row)))},
        "rating against the choice": {row["id"] for row in rows if None not in _ratings(row) and _against(row)},
    }


def _direction(row: dict, first: str, second: str) -> tuple[str, str, str]:
    return plain(row["prompt"]), plain(row[first]), plain(row[second])


def _duplicates(rows: list[dict], place) -> set:
    seen: set = set()
    again = set()
    for row in rows:
        again |= {row["id"]} & ({row["id"]} if place(row) in seen else set())
        seen.add(place(row))
    return again


def _headed(text: str) -> bool:
    return HEADING.match(text.strip().split("\n")[0].strip()) is not None


def _ratings(row: dict) -> tuple:
    return row["chosen_rating"], row["rejected_rating"]


def _on_scale(rating) -> bool:
    return rating is not None and 1 <= rating <= 5


def _against(row: dict) -> bool:
    return row["chosen_rating"] <= row["rejected_rating"]


def _row(
    id_: int, prompt: str, chosen: str = "", rejected: str = "", ratings: tuple = (4.0, 2.0), split: str = "train"
) -> dict:
    texts = {"prompt": prompt, "chosen": chosen or f"Good {id_}.", "rejected": rejected or f"Bad {id_}."}
    models = {"chosen_model": "m", "rejected_model": "n"}
    return {"id": id_, "split": split, **texts, "chosen_rating": ratings[0], "rejected_rating": ratings[1], **models}


# Small datasets, each about one trap. The ids are no positions.
AUDITED = {
    "no rows at all": [],
    "three sound pairs": [_row(71, "a?"), _row(72, "b?", ratings=(5, 1)), _row(73, "c?", split="test")],
    "texts that only look like leaked headings": [
        _row(11, "a?", "Here is a list:\n- one", "# Bread\nFlour, water."),
        _row(12, "b?", "[1] Dune, by Frank Herbert", "The answer is 4."),
        _row(13, "c?", "Response times vary.", "It depends.\n# My version:\nA short one."),
    ],
    "identical pairs": [
        _row(21, "a?", "Air.", "Air."),
        _row(22, "b?", "The air.", " the  AIR. "),
        _row(23, "c?", "Air.", "Ai r."),
    ],
    "an identical pair that stands there twice": [_row(24, "a?", "Air.", "Air."), _row(25, "a?", "Air.", "air.")],
    "a prompt in three rows of one split": [_row(31, "Why so?"), _row(32, "b?"), _row(33, " why  SO? "), _row(34, "Why so?")],
    "a prompt twice in test": [_row(35, "a?", split="test"), _row(36, "A?", split="test")],
    "a test prompt in train, spelled otherwise": [_row(41, "Why so?"), _row(42, "b?"), _row(43, "why  SO?", split="test")],
    "a preference and its reverse": [
        _row(51, "a?", "Yes.", "No."),
        _row(52, " A?", "NO.", "yes."),
        _row(53, "b?", "No.", "Yes."),
        _row(54, "a?", "Yes.", "Never."),
    ],
    "a preference and its reverse in the two splits": [
        _row(55, "a?", "Yes.", "No."),
        _row(56, "a?", "No.", "Yes.", split="test"),
    ],
    "leaked headings": [
        _row(61, "a?", "#Rewritten Response#:\nAir."),
        _row(62, "b?", "Here is the improved answer:\n\nAir."),
        _row(63, "c?", "Air.", "\n [Final version]\nPaint."),
        _row(64, "d?", "Here's a better response:\nAir."),
        _row(65, "e?", "## ANSWER:\nAir."),
    ],
    "ratings off the scale": [
        _row(81, "a?", ratings=(10.0, 2.0)),
        _row(82, "b?", ratings=(4.0, 0)),
        _row(83, "c?", ratings=(5.5, 2.0)),
        _row(84, "d?", ratings=(5, 1)),
        _row(85, "e?", ratings=(4.0, 0.5)),
    ],
    "a rating that is missing": [_row(86, "a?", ratings=(None, 2.0)), _row(87, "b?", ratings=(4.0, None))],
    "ratings against the choice": [
        _row(91, "a?", ratings=(2.0, 4.0)),
        _row(92, "b?", ratings=(3.0, 3.0)),
        _row(93, "c?", ratings=(3.1, 3.0)),
        _row(94, "d?", ratings=(0, 3.0)),
    ],
}


@question(
    "🦁",
    "One small function for each fault; a set comprehension {row['id'] for row in rows if …} is often all of it.",
    "Contradictory: put (prompt, chosen, rejected) of all rows into a set, then look for (prompt, rejected, chosen) in it.",
    "An identical pair is its own reverse: take those out of the contradictory ones. None is a rating off the scale.",
    'Headings: the first line of text.strip(); re.match(r"(#|\\[|here (is|are)|here\'s)", line, re.IGNORECASE) is its begin.',
)
def audit(answer):
    """A function: rows in; a dict from the name of each of the seven faults to the set of the ids that have it."""
    for words, rows in AUDITED.items():
        expected = faults_of(rows)
        came = _audited(answer, rows)
        for fault in FAULTS:
            _same_ids(came[fault], expected[fault], rows, f"In a small dataset with {words}, {fault!r}")
    rows = faulty()
    came, expected = _audited(answer, rows), faults_of(rows)
    for fault in FAULTS:
        equal_ids(came[fault], expected[fault], "do not have this fault", where=f"In faulty_preferences.jsonl, {fault}: ")


def _audited(answer, rows: list[dict]) -> dict[str, set]:
    came = call(answer, rows)
    require(isinstance(came, dict), f"Expected a dict from fault to ids; your function returned {shown(came)}.")
    unknown = set(came) - set(FAULTS)
    require(not unknown, f"There is no fault {shown(min(map(str, unknown), default=''))}; allowed: {', '.join(FAULTS)}.")
    return {fault: _ids(came.get(fault, set()), fault) for fault in FAULTS}


def _same_ids(came: set, wanted: set, rows: list[dict], where: str) -> None:
    for ids, words in (
        (came - wanted, "does not have this fault, but is in"),
        (wanted - came, "has this fault, but is not in"),
    ):
        if ids:
            row = next((row for row in rows if row["id"] in ids), None)
            columns = ("id", "split", "prompt", "chosen", "rejected", "chosen_rating", "rejected_rating")
            seen = {name: row[name] for name in columns} if row else f"a row {shown(min(map(str, ids)))} that does not exist"
            raise Wrong(f"{where}: {seen} {words} your set.")


class _RatesByTable(Step):
    """A judge that looks its ratings up."""

    known: dict[str, float | None]

    inputs = ["instruction", "generations"]
    outputs = ["ratings"]

    def process(self, rows: StepInput) -> StepOutput:
        yield [{**row, "ratings": [self.known.get(text) for text in row["generations"]]} for row in rows]


# What three models write for each instruction, and how that is rated.
POOL = {
    "Why is the sky blue?": {"Air scatters blue light most.": 4.5, "It is paint.": 2.0, "Light.": 3.0},
    "Name a river.": {"Bread.": 2.0, "The Nile.": 4.0, "The Rhine.": 4.2},
    "Say hello.": {"Hello.": 4.0, "Good morning!": 4.0, "Hi there.": 4.0},
    "What is 2 + 2?": {"It is 4.": 4.8, "Two and two.": None, "Five.": None},
    "Name a colour.": {"Blue.": 3.2, "Red is one.": 3.0, "Green, for example.": 3.1},
    "What is tea?": {"A drink.": 3.5, "Leaves in hot water.": 4.0, "T.": 1.0},
}


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
    asked = list(POOL)
    for texts, models, min_margin in (
        (asked, 2, 0.0),
        (asked, 2, 0.5),
        (asked, 3, 1.0),
        (asked[:2], 2, 0.5),  # nothing is dropped
        (asked[2:3], 2, 0.5),  # nothing is kept
    ):
        _dataset_case(answer, texts, models, min_margin)


def _dataset_case(answer, asked: list[str], models: int, min_margin: float) -> None:
    where = f"For {len(asked)} instructions, {models} models and min_margin {min_margin}"
    pairs, dropped = _made(answer, asked, models, min_margin, where)
    expected = {text: right for text in asked if (right := _right_pair(text, models, min_margin))}
    for row in pairs:
        keys = isinstance(row, dict) and set(row) == {"prompt", "chosen", "rejected"}
        found = sorted(row) if isinstance(row, dict) else shown(row)
        require(keys, f"{where}: a pair has {found}; expected the columns prompt, chosen and rejected. `to_trl()` gives them.")
    prompts = [_text_of(row, "prompt", where) for row in pairs]
    strange = [text for text in prompts if text not in asked]
    require(not strange, f"{where}: the prompt {shown((strange or [''])[0])} is none of the instructions.")
    more, fewer = [text for text in prompts if text not in expected], [text for text in expected if text not in prompts]
    rated = f"rated {list(POOL.get((more + fewer or asked)[0], {}).values())[:models]}"
    require(not more, f"{where}: {shown((more or [''])[0])}, {rated}, came out as a pair; expected none.")
    require(not fewer, f"{where}: {shown((fewer or [''])[0])}, {rated}, is missing among the pairs.")
    require(len(prompts) == len(expected), f"{where}: {len(prompts)} pairs came out; expected {len(expected)}.")
    for row, text in zip(pairs, prompts, strict=True):
        sides = [_text_of(row, side, where) for side in ("chosen", "rejected")]
        equal(sides, expected[text], f"{where}, chosen and rejected for {text!r}")
    _none_lost(dropped, [text for text in asked if text not in expected], where)


def _made(answer, asked, models: int, min_margin: float, where: str) -> tuple[list, list]:
    llms = [ScriptedLLM(_writer(place), model_name=f"m{place}") for place in range(models)]
    known = {text: rating for texts in POOL.values() for text, rating in texts.items()}

    def judge():
        return _RatesByTable(known=known)

    came = call(answer, asked, llms, judge, min_margin)
    two = isinstance(came, tuple | list) and len(came) == 2 and all(hasattr(part, "__iter__") for part in came)
    require(two, f"{where}: expected (pairs, dropped); your function returned {shown(came)}.")
    pairs, dropped = came
    splits = next((name for name, part in zip(("pairs", "dropped"), came, strict=True) if isinstance(part, dict)), "")
    require(not splits, f"{where}: {splits} is a dict of splits. Its rows are in ['train'].")
    return list(pairs), list(dropped)


def _writer(place: int):
    """What the model at `place` writes; None where it is asked something else."""

    def reply(chat):
        texts = list(POOL.get(chat[-1]["content"], {}))
        return texts[place] if texts else None

    return reply


def _right_pair(text: str, models: int, min_margin: float) -> list[str] | None:
    """[chosen, rejected] by the definition, or None."""
    rated = [(rating, written) for written, rating in list(POOL[text].items())[:models] if rating is not None]
    best, worst = max(rated), min(rated)
    margin = best[0] - worst[0]
    return [best[1], worst[1]] if margin > 0 and margin >= min_margin else None


def _text_of(row: dict, name: str, where: str) -> str:
    """The one message of a column, with the role it must have."""
    value, role = row[name], "user" if name == "prompt" else "assistant"
    fits = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    require(fits, f"{where}: {name} is {shown(value)}; expected a list of messages. `to_trl()` gives them.")
    roles = [one.get("role") for one in value]
    require(roles == [role], f"{where}: {name} has messages of {roles}; expected one of {role!r}. `to_trl()` does it.")
    return value[0]["content"]


def _none_lost(dropped: list, wanted: list[str], where: str) -> None:
    require(all(isinstance(row, dict) for row in dropped), f"{where}: dropped holds {shown(dropped)}; expected rows.")
    reasons = all(isinstance(row.get("drop_reason"), str) and row["drop_reason"] for row in dropped)
    require(reasons, f"{where}: a dropped row has no drop_reason. distiset['dropped'] has the rows with their reasons.")
    came = [row.get("instruction") for row in dropped]
    lost = [text for text in wanted if text not in came]
    require(not lost, f"{where}: {lost} gave no pair and are not in dropped. No row is lost in silence.")
    equal(sorted(map(str, came)), sorted(wanted), f"{where}, the instructions in dropped")
