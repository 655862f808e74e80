"""Chapter 2, EvolQuality: what the answers are checked for."""

import math
import re
from functools import partial

from course_lib.exercises.checks import agree, call, data, equal, excerpt, expect, require
from course_lib.exercises.choices import has_keys, of_type, read_off
from course_lib.exercises.faults import faulty_preferences, name_fault
from course_lib.exercises.questions import question
from course_lib.judging import labelled_items
from course_lib.llms import ScriptedLLM
from course_lib.steps.tasks import EvolQuality

# What a template might use for its gaps: in a row it is nothing but text.
HOSTILE = "<PROMPT> <INSTRUCTION> <RESPONSE> <CRITERION> {instruction} {response} {wish} {0} %s $wish {{ instruction }} {{ x }}"
HOSTILE_ROW = {
    "instruction": f"What is meant by {HOSTILE}?",
    "response": f"{{{{ 7 * 7 }}}} {{% if x %}} {HOSTILE} are marks.",
}
BREAD = {
    "instruction": "What makes bread dough rise before it goes into the oven?",
    "response": "Yeast eats sugar in the dough and gives off a gas. The gas stays in the dough as bubbles, so it swells.",
}
PARIS = {"instruction": "What is the capital of France?", "response": "The capital is Paris."}
GOOD = "It is something small that has a large effect, given enough time and a warm place to stand in."
WISHES = {
    "brevity": "Make it shorter: say the same thing in a single sentence.",
    "plain words": "Make it simpler, keep <RESPONSE>, {response} and {{ x }} as they are, and use short words.",
}


@question(
    "🐢",
    "What does the criterion of a row depend on? Section 4 of the lesson lists it.",
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
        equal(answer[name], others > 0, where)


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
    unnamed = "count None under the name 'used'"
    last_only = "you counted one outcome for a row; each rewrite of a chain counts"
    cases = {"one rewrite a row": single, "chains of three rewrites": chains, "rows all used": [[None]]}
    rows = {words: ([{"evolution_failures": f} for f in failures],) for words, failures in cases.items()}
    misread = {unnamed: partial(_counts, used=None), last_only: partial(_counts, first=-1)}
    agree(answer, _counts, {**rows, "no rows": ([],)}, misread)


def _counts(rows: list[dict], used: str | None = "used", first: int = 0) -> dict[str | None, int]:
    failures = [failure or used for row in rows for failure in row["evolution_failures"][first:]]
    return {failure: failures.count(failure) for failure in failures}


@question(
    "🐕",
    "The headings are the lines of the prompt that begin with #. What is left of them without #, * and capitals?",
    "Look at each line of the rewrite, and there at what stands before the first colon: line.partition(':')[0].",
    "Compare with ==. `in` and startswith also catch sentences that only use the words.",
)
def leaks_heading(answer):
    """A function of (rewrite, prompt): True if a line of the rewrite is a heading of the prompt, or a heading and a colon."""
    prompt = EvolQuality(llm=ScriptedLLM([GOOD])).format_input(PARIS)[0]["content"]
    other = "Make it shorter.\n\n## Task\nName a fruit.\n\n## Short version"
    cases = [(words, text, prompt, True) for words, text in data("rewrites")["leaks"].items()]
    cases += [(words, text, prompt, False) for words, text in data("rewrites")["no leaks"].items()]
    cases += [
        ("a heading of another prompt", "Short version: an apple.", other, True),
        ("a heading that is not in this prompt", "# Better answer\nAn apple.", other, False),
        ("a prompt without headings", "Make it shorter.\nAn apple.", "Make it shorter.", False),
    ]
    for words, rewrite, prompt, expected in cases:
        verdict = call(answer, rewrite, prompt)
        expect(isinstance(verdict, bool), "True or False", verdict)
        equal(verdict, expected, f"{words}, {rewrite!r}")


@question(
    "🐕",
    "Print the first line of each chosen text, and read.",
    "A heading of that prompt has the word `response` at its end, but for signs. Not every one begins with #.",
    'line.strip("#[]:* ").lower().endswith("response") for the first line of the chosen text.',
    kind="fault",
)
def leaked_pairs(answer):
    """The ids of the pairs in faulty_preferences.jsonl in which a text begins with a line that announces a response."""
    signed = {row["id"] for row in faulty_preferences() if row["chosen"].startswith("#")}
    sign = "You found the one kind that begins with #. Models also leak other brackets, and announcements"
    extra = "are pairs without such a line. A # or a colon alone is no leak"
    name_fault(answer, "leaked heading", {sign: signed}, extra)


def length_ratios(kind: str) -> list[float]:
    """How many times as long as the good answer, in words, the worse one is: for the labelled items of a kind, sorted."""
    items = [item for item in labelled_items("fit") if item["worse_kind"] == kind]
    return sorted(len(item["worse"].split()) / len(item["good"].split()) for item in items)


def share_above(values: list[float], limit: float) -> float:
    return sum(value > limit for value in values) / len(values)


@question(
    "🐕",
    "Half is 0.5 on the vertical axis. Go from there to the line of the padded answers, then down.",
    "Mind which of the two lines you follow: the padded answers are the longer ones.",
    kind="plot",
)
def limit_for_padded(answer):
    """The limit, read from the figure to within 0.5, at which half of the padded answers are refused."""
    of_type(answer, int | float, "a number, such as 1.5")
    require(answer > 0, f"{answer}: a limit says how many times as long a text may be, so it is above 0.")
    ratios = {name: length_ratios(name) for name in ("padded", "wrong")}
    right, other = (values[len(values) // 2] for values in ratios.values())

    def draw(plots):
        limits = [n / 8 for n in range(65)]
        curves = {name: [(x, share_above(v, x)) for x in limits] for name, v in ratios.items()}
        axes = "limit (times the good answer's words)", "share refused"
        return plots.lines(curves, *axes, "Your answer, and a right one")

    effect = f"at {answer:g}, {share_above(ratios['padded'], answer):.0%} of the padded answers are refused"
    if abs(answer - other) <= 0.2:
        effect = f"it looks as if you followed the line of the wrong answers; {effect}"
    read_off(answer, right, 0.5, effect, draw)


# (words of the draft, words of the rewrite, rating of the draft, rating of the rewrite); None: the rewrite was refused.
RATED = [
    {
        "before": " ".join(["word"] * before),
        "after": after and " ".join(["longer"] * after),
        "rating_before": rating_before,
        "rating_after": rating_after,
    }
    for before, after, rating_before, rating_after in [
        (10, 30, 2.5, 2.0), (10, 25, 2.0, 3.0), (10, 20, 3.0, 4.5), (10, 18, 2.0, 3.0),
        (10, 12, 3.0, 3.0), (10, 10, 3.0, 2.0), (10, 9, 3.0, 3.0), (12, 10, 3.0, 4.0),
        (20, 10, 2.0, 2.0), (25, 10, 2.0, 3.0), (30, 10, 2.0, 4.0), (20, None, 3.0, None),
    ]
]  # fmt: skip


@question(
    "🐕",
    "Leave out the refused ones first: without a rewrite there is no pair, neither won nor lost.",
    "The ratio of a pair: words of the longer text divided by words of the shorter one. max and min help.",
    "Add 1 for a win and 0.5 for a tie, then divide by the number of pairs that are left; None if there are none.",
)
def win_rate(answer):
    """A function of (rows, max_ratio): the share of pairs in which the rewrite has the higher rating, a tie counting half.
    Pairs without a rewrite do not count, nor do those whose longer text has more than max_ratio times the words of the
    shorter one. None if no pair is left."""
    cases = {f"12 rows and max_ratio {limit:g}": (RATED, limit) for limit in (math.inf, 2, 1.25, 3)}
    cases["1 rows and max_ratio 2"] = (RATED[4:5], 2)
    nothing = {"refused rewrites only": RATED[-1:], "no rows": [], "no pair within the limit": RATED[:1]}
    cases |= {f"{words}, where there is nothing to divide by": (rows, 1.5) for words, rows in nothing.items()}
    growing = "it looks as if you looked at texts that grew only; a rewrite may also shrink"
    misread = {
        "it looks as if ties were counted as losses": partial(_win_rate, tie=0.0),
        "it looks as if ties were counted as wins": partial(_win_rate, tie=1.0),
        growing: partial(_win_rate, both_ways=False),
        "it looks as if you counted characters; the ratio is one of words": partial(_win_rate, size=len),
        "it looks as if the refused rewrite was counted as a loss": partial(_win_rate, refused=1),
    }
    agree(answer, _win_rate, cases, misread)


def _win_rate(rows, limit, tie=0.5, both_ways=True, size=lambda text: len(text.split()), refused=0):
    wins = []
    for row in rows:
        if row["after"] is None:
            continue
        before, after = size(row["before"]), size(row["after"])
        ratio = max(before / after, after / before) if both_ways else after / before
        won = 1 if row["rating_after"] > row["rating_before"] else 0
        wins += [tie if row["rating_after"] == row["rating_before"] else won] if ratio <= limit else []
    return sum(wins) / (len(wins) + refused) if wins else None


@question(
    "🦁",
    "Subclass EvolQuality. `criterion(self, row, evolution=0)` names the criterion, `format_input(self, row, criterion=None)` "
    "makes the chat.",
    "An f-string fills each gap once. Two calls of str.replace, or a template made of the row's text, do not.",
    "The inherited check refuses headings that begin with #, and five words in a row of your prompt. Write your prompt like "
    "this, or override fault.",
)
def own_criterion(answer):
    """A function of (llm, name, wish): a task that rewrites `response` by the criterion `name`, whose prompt holds the
    instruction, the response and `wish`, and that refuses rewrites in which a line of the prompt comes back."""
    rows = [HOSTILE_ROW, BREAD, PARIS]
    for name, wish in WISHES.items():
        chats, rewritten = _run(answer, rows, name, wish, GOOD)
        for row, chat in zip(rows, chats, strict=False):
            for part, text in {**row, "criterion": wish}.items():
                lost = f"The {part} is not in the prompt as it was given: expected {text!r}."
                require(text in _text(chat), lost)
        require(len(chats) >= len(rows), f"{len(rows)} rows went in, but `llm` was asked {len(chats)} times.")
        require(len(rewritten) == len(rows), f"{len(rows)} rows went in, {len(rewritten)} came out.")
        for row in rewritten:
            sound = "the column evolved_response, where a sound rewrite must be used"
            equal(row.get("evolved_response"), GOOD, sound)
            equal(row.get("evolution_criteria"), [name], "the column evolution_criteria")
        for line in _own_lines(_text(chats[1]), [*BREAD.values(), wish]):
            _, [row] = _run(answer, [BREAD], name, wish, f"{line}\n{GOOD}")
            leak = f"A model repeats a line of your prompt, {excerpt(line)}. It was used; refuse it."
            require(row.get("evolved_response") is None, leak)


def _run(answer, rows: list[dict], name: str, wish: str, reply: str):
    """The chats that the learner's task sends for `rows` to a model that always says `reply`, and the rows that come out."""
    chats: list = []
    task = call(answer, ScriptedLLM(lambda chat: chats.append(chat) or reply), name, wish)
    is_task = hasattr(task, "process") and not isinstance(task, type)
    expect(is_task, "a task, made of its class, such as EvolQuality(llm=llm)", task)
    return chats, call(partial(_all_rows, task), rows)


def _text(chat: list[dict]) -> str:
    return "\n".join(message["content"] for message in chat)


def _all_rows(task, rows: list[dict]) -> list[dict]:
    return [row for part in task.process(rows) for row in part]


def _own_lines(prompt: str, values: list[str]) -> list[str]:
    """The lines of a prompt that hold words and none of the values, and the whole prompt."""
    others = prompt
    for text in values:
        others = others.replace(text, "\0")
    return [line for line in others.splitlines() if re.search(r"\w", line) and "\0" not in line] + [prompt]


@question(
    "🦁",
    "Override fault(self, rewrite, trace, prompt), as the lesson's KeepsNumbers does. See trace.row['instruction'].",
    're.findall(r"\\w+", text.lower()) gives the words of a text, without signs and capitals.',
    "return super().fault(rewrite, trace, prompt) or (a reason if the instruction's words stand in the rewrite, else None).",
)
def refuses_echo(answer):
    """A subclass of EvolQuality that also refuses, with a reason, rewrites that repeat the instruction word for word
    (capitals, signs and spaces aside)."""
    is_task = isinstance(answer, type) and issubclass(answer, EvolQuality)
    expect(is_task, "a subclass of EvolQuality, the class itself", answer)
    echoes, others = data("rewrites")["echoes"], data("rewrites")["no echoes"]
    for words, text in echoes.items():
        fault = _fault_of(answer, text)
        require(fault, f"With {words}, {text!r} was used. Refuse it.")
        expect(isinstance(fault, str), "a short text as the reason, such as 'echo'", fault, f"With {words}")
    for words, text in others.items():
        equal(_fault_of(answer, text), None, f"with {words}, {text!r}, which does not repeat the instruction")
    inherited = {"prompt leaked": "# Better answer\nParis.", "no change": "The capital is **Paris**!"}
    for expected, text in inherited.items():
        lost = f"for {text!r}, the inherited check, which super().fault(…) makes"
        equal(_fault_of(answer, text), expected, lost)
    fault = _fault_of(answer, next(iter(echoes.values())), next(iter(others.values())))
    equal(fault, None, "for an echo, then a sound second attempt, each of which is judged by itself")


def _fault_of(answer, *replies: str):
    """Why a model's rewrite of the Paris row was not used; None if it was. `replies`: its text at each attempt."""
    rest = iter(replies)
    task = call(answer, llm=ScriptedLLM(lambda chat: next(rest, replies[-1])))
    [row] = call(partial(_all_rows, task), [PARIS])
    [fault] = row["evolution_failures"]
    return fault
