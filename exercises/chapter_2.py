"""Chapter 2, EvolQuality: what the answers are checked for."""

import math
from functools import partial

from course_lib.exercises.checks import agree, call, data, equal, excerpt, expect, require
from course_lib.exercises.choices import has_keys, number_in, read_off, yes_or_no
from course_lib.exercises.faults import name_fault, pairs_to_audit
from course_lib.exercises.my_dataset import check_completions, check_instructions, kept, rows_with
from course_lib.exercises.questions import question
from course_lib.exercises.reading import check_verdicts
from course_lib.judging import labelled_items
from course_lib.llms import ScriptedLLM
from course_lib.steps.tasks import EvolQuality

PARIS = {"instruction": "What is the capital of France?", "response": "The capital is Paris."}
GOOD = "It is something small that has a large effect, given enough time and a warm place to stand in."


@question(
    "🐢",
    "The criterion is drawn at random, but from the seed, the instruction and the response, so that a second run repeats it.",
    "Try it: EvolQuality(llm=ScriptedLLM(['x'])).criterion(row) gives the criterion of a row without asking a model.",
    kind="concept",
)
def after_a_change(answer):
    """A dict with the keys "order", "seed", "response" and "other column": True if that change can give a row another
    criterion, False if it cannot."""
    rows = [{"instruction": f"Question {n}?", "response": f"Draft {n}."} for n in range(20)]
    before, turned = _criteria(rows), _criteria(rows[::-1])
    changed = {
        "order": turned[::-1],
        "seed": _criteria(rows, seed=1),
        "response": _criteria([{**row, "response": "Another draft."} for row in rows]),
        "other column": _criteria([{**row, "id": n} for n, row in enumerate(rows)]),
    }
    has_keys(answer, list(changed))
    for name, after in changed.items():
        others = sum(a != b for a, b in zip(before, after, strict=True))
        where = f"{name}: in a trial with {len(rows)} rows, {others} got another criterion"
        equal(yes_or_no(answer[name], name), others > 0, where)


def _criteria(rows: list[dict], seed: int = 0) -> list[str]:
    return list(map(EvolQuality(llm=ScriptedLLM([GOOD]), seed=seed).criterion, rows))


@question(
    "🐢",
    "A row can have several entries in evolution_failures: one for each rewrite of a chain.",
    "None means that the rewrite was used. Go through the rows, and in each through its list.",
)
def count_outcomes(answer):
    """A function of rows with a column evolution_failures: a dict from outcome to count, "used" standing for None."""
    single = [[None], ["no change"], [None], ["no change"], ["too long"]]
    chains = [["empty", None, None], [None, "empty", "refusal"]]
    cases = {"one rewrite a row": single, "chains of three rewrites": chains, "rows all used": [[None]]}
    rows = {words: ([{"evolution_failures": f} for f in failures],) for words, failures in cases.items()}
    misread = {
        "count None under the name 'used'": partial(_counts, used=None),
        "you counted one outcome for a row; each rewrite of a chain counts": partial(_counts, first=-1),
    }
    agree(answer, _counts, rows, misread)


def _counts(rows: list[dict], used: str | None = "used", first: int = 0) -> dict[str | None, int]:
    failures = [failure or used for row in rows for failure in row["evolution_failures"][first:]]
    return {failure: failures.count(failure) for failure in failures}


@question(
    "🐕",
    "Put a finger on each statement of the draft: is it still there, and is it still the same?",
    "Look at numbers, at names, at 'not', and at how sure the text is. More words may keep the meaning; one may change it.",
    kind="concept",
)
def meaning(answer):
    """A dict from the name of each rewrite to "kept" or "changed": whether it still says what the draft says."""
    return check_verdicts(answer, data("rewrites")["to read"], ["changed", "kept"], "ours")


@question(
    "🐕",
    "Print the first line of each text, chosen and rejected, and read.",
    "A heading of that prompt has the word `response` in it, but not every one begins with #, and one is in a rejected text.",
    kind="fault",
)
def leaked_pairs(answer):
    """The ids of the pairs in which a text begins with a heading of the prompt, or announces a response."""
    rows = {row["id"]: row for row in pairs_to_audit()}
    signed = {id_ for id_, row in rows.items() if row["chosen"].startswith("#")}
    beginnings = {id_: rows[id_]["chosen"][:30] for id_ in data("planted")["leaked heading"]}
    chosen = {id_ for id_, text in beginnings.items() if "Response" in text or "response" in text}
    misread = {
        "You found the one kind that begins with #. Models also leak other signs, and announcements": signed,
        "Look for capitals and at the rejected texts, too": chosen,
    }
    extra = "are pairs without such a beginning. A # or a colon alone is no leak"
    name_fault(answer, "leaked heading", misread, extra)


def length_ratios() -> dict[str, list[float]]:
    """How many times as long as the good answer, in words, padded and wrong answers are, sorted."""
    ratios: dict[str, list[float]] = {"padded": [], "wrong": []}
    for item in labelled_items("fit"):
        if item["worse_kind"] in ratios:
            ratios[item["worse_kind"]].append(len(item["worse"].split()) / len(item["good"].split()))
    return {kind: sorted(values) for kind, values in ratios.items()}


def growth_curves() -> dict[str, list[tuple[float, float]]]:
    """The share of padded and of wrong answers above each limit on growth: what the figure shows."""
    ratios, limits = length_ratios(), [n / 8 for n in range(65)]
    return {kind: [(x, _share_above(values, x)) for x in limits] for kind, values in ratios.items()}


def _share_above(values: list[float], limit: float) -> float:
    return sum(value > limit for value in values) / len(values)


@question(
    "🐕",
    "Half is 0.5 on the vertical axis. Go from there to the line of the padded answers, then down.",
    "Mind which of the two lines you follow: the padded answers are the longer ones.",
    kind="plot",
)
def limit_for_padded(answer):
    """The limit, read from the figure to within 0.5, at which half of the padded answers are refused."""
    limit = number_in(answer, 0.01, 100, "a limit, how many times as long a text may be: a number")
    ratios = length_ratios()
    right, other = (values[len(values) // 2] for values in ratios.values())

    effect = f"at {limit:g}, {_share_above(ratios['padded'], limit):.0%} of the padded answers are refused"
    if abs(limit - other) <= 0.2:
        effect = f"it looks as if you followed the line of the wrong answers; {effect}"
    read_off(limit, right, 0.5, effect, growth_curves(), "limit (times the good words)", "share refused")


@question(
    "🐕",
    "The ratio of a pair: words of the longer text divided by words of the shorter one. max and min help.",
    "Add 1 for a win and 0.5 for a tie, then divide by the number of pairs that are left.",
)
def win_rate(answer):
    """A function of (rows, max_ratio): the share of pairs in which the rewrite has the higher rating, a tie counting half.
    Pairs whose longer text has more than max_ratio times the words of the shorter one do not count."""
    columns = ("before", "after", "rating_before", "rating_after")
    rated = [
        dict(zip(columns, ("word " * n, "longer " * m, *ratings), strict=True))
        for n, m, *ratings in data("lengths")
    ]
    cases = {f"{len(rated)} rows and max_ratio {limit:g}": (rated, limit) for limit in (math.inf, 2, 1.25, 3)}
    cases["1 row and max_ratio 2"] = (rated[4:5], 2)
    misread = {
        "ties were counted as no wins, as in the lesson; here each counts half": partial(_win_rate, tie=0.0),
        "ties were counted as wins; each counts half": partial(_win_rate, tie=1.0),
        "a rewrite may also shrink: which of the two is longer does not matter": partial(
            _win_rate, both_ways=False
        ),
        "it looks as if you counted characters; the ratio is one of words": partial(_win_rate, size=len),
    }
    agree(answer, _win_rate, cases, misread)


def _win_rate(rows, limit, tie=0.5, both_ways=True, size=lambda text: len(text.split())):
    wins = []
    for row in rows:
        before, after = size(row["before"]), size(row["after"])
        ratio = max(before / after, after / before) if both_ways else after / before
        gain = row["rating_after"] - row["rating_before"]
        wins += [tie if gain == 0 else float(gain > 0)] if ratio <= limit else []
    return sum(wins) / len(wins)


@question(
    "🦁",
    're.findall(r"\\w+", text.lower()) gives the words of a text, in their order, without signs and capitals.',
    'Join the words of both texts with spaces, and look for the one in the other: " ".join(words).',
    "return super().fault(rewrite, trace, prompt) or (a reason if the instruction's words stand in the rewrite, else None).",
)
def refuses_echo(answer):
    """A subclass of EvolQuality that also refuses, with a reason, rewrites that repeat the instruction word for word
    (capitals, signs and spaces aside)."""
    is_task = isinstance(answer, type) and issubclass(answer, EvolQuality)
    expect(is_task, "a subclass of EvolQuality, the class itself", answer)
    for words, text in data("rewrites")["echoes"].items():
        fault = _fault_of(answer, text)
        require(fault, f"With {words}, {text!r} was used. Refuse it.")
        expect(isinstance(fault, str), "a short text as the reason, such as 'echo'", fault, f"With {words}")
    for words, text in data("rewrites")["no echoes"].items():
        where = f"with {words}, {text!r}, which does not repeat the instruction word for word"
        equal(_fault_of(answer, text), None, where)
    for expected, text in {
        "prompt leaked": "# Better answer\nParis.",
        "no change": "The capital is **Paris**!",
    }.items():
        where = f"for {text!r}, the inherited check, which super().fault(…) makes"
        equal(_fault_of(answer, text), expected, where)


def _all_rows(task, rows: list[dict]) -> list[dict]:
    return [row for part in task.process(rows) for row in part]


def _fault_of(answer, reply: str):
    """Why a model's rewrite of the Paris row was not used; None if it was."""
    task = call(answer, llm=ScriptedLLM([reply]))
    [row] = call(partial(_all_rows, task), [PARIS])
    [fault] = row["evolution_failures"]
    return fault


@question(
    "🦁",
    "Your prompt is one f-string with your wish, row['instruction'] and row['response'], as the content of a user message.",
    "A row whose rewrite was refused keeps the completions that it had. Only `evolved_response` that is not None is added.",
    'Name the new one so that you can tell it later, such as "smollm2-135m, rewritten".',
    seconds=30,
)
def my_rewrites(answer):
    """Your rows of chapter 1, with the rewrite as one more completion where it was used."""
    rows, before = rows_with(answer, ("instruction", "generations", "generation_models"), 4), kept(1)[0]
    check_instructions(rows, before, 1)
    check_completions(rows)
    earlier, added = {row["instruction"]: row for row in before}, 0
    for number, row in enumerate(rows, 1):
        texts, old = list(row["generations"]), earlier[row["instruction"]]["generations"]
        lost = [text for text in old if text not in texts]
        require(not lost, f"Row {number} has lost a completion of chapter 1, {excerpt(lost[:1])}.")
        models = [name for name, text in zip(row["generation_models"], texts, strict=True) if text not in old]
        known = set(models) & set(earlier[row["instruction"]]["generation_models"])
        require(
            not known, f"Row {number}: a completion of chapter 1 is named {known}, too. Name it otherwise."
        )
        added += len(models)
    refused = "No row has a rewrite. `evolution_failures` says why they were refused; try another wish."
    require(added, refused)
