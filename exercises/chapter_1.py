"""Chapter 1, model pooling: what the answers are checked for."""

import math
from itertools import combinations

from course_lib.exercises.checks import agree, call, data, equal, excerpt, expect, require
from course_lib.exercises.choices import chosen_from, number_in, read_off
from course_lib.exercises.faults import bare, name_fault, pairs_to_audit
from course_lib.exercises.my_dataset import check_completions, rows_with
from course_lib.exercises.questions import question
from course_lib.judging import labelled_items
from course_lib.steps.filtering import similarity


@question(
    "🐢",
    "Which of the two would the model have to make likelier, and which one less likely?",
    "The chosen text is to become likelier, and the rejected text less likely. What if they are the same text?",
    kind="concept",
)
def identical_pair(answer):
    """What a trainer learns from a pair whose chosen and rejected texts are the same: "nothing", "brevity" or "both"."""
    misread = {
        "brevity": "Both texts are equally long, so nothing tells the trainer to write shorter.",
        "both": "Raising one raises the other: they are the same text, and the difference stays 0.",
    }
    chosen_from(answer, "nothing", misread)


@question(
    "🐢",
    "Divide the logits by the temperature before the softmax.",
    "weights = [math.exp(logit / temperature) for logit in logits]; each divided by sum(weights).",
)
def softmax_at(answer):
    """A function of (logits, temperature): a list of probabilities, the softmax of the logits divided by the temperature."""
    pairs = [([1.0, 2.0, 3.0], 1.0), ([1.0, 2.0, 3.0], 0.5), ([1.0, 2.0, 3.0], 2.0), ([0.5, -3.0], 1.3)]
    cases = {f"the logits {logits} at temperature {t}": (logits, t) for logits, t in pairs}
    misread = {
        "it looks as if the logits were multiplied by the temperature. Divide": lambda logits, t: _softmax(
            logits, 1 / t
        ),
        "the weights do not add up to 1 yet. Divide each by their sum": lambda logits, t: [
            math.exp(logit / t) for logit in logits
        ],
        "the temperature has no effect. Divide by it before exp": lambda logits, t: _softmax(logits, 1),
        "divide the logits, before exp, not the shares": lambda logits, t: [
            share / t for share in _softmax(logits, 1)
        ],
    }
    agree(answer, _softmax, cases, misread)


def _softmax(logits: list[float], temperature: float) -> list[float]:
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def off_topic_curve() -> list[tuple[float, float]]:
    """The share of labelled items whose good and off-topic answers are less similar than a limit, for each limit."""
    values = [similarity(item["good"], item["off_topic"]) for item in labelled_items("fit")]
    limits = [k / 50 for k in range(36)]
    return [(limit, sum(value < limit for value in values) / len(values)) for limit in limits]


@question(
    "🐕",
    "Find 0.95 on the vertical axis, go right to the line, then down.",
    "The line is at 0.90 near a similarity of 0.30, and reaches 0.95 a little later.",
    kind="plot",
)
def unrelated_below(answer):
    """The similarity, read from the figure to within 0.05, below which 95% of the off-topic answers lie."""
    value, curve = number_in(answer, 0, 1, "a similarity, a number"), off_topic_curve()
    right = next(limit for limit, share in curve if share >= 0.95)
    below = max((share for limit, share in curve if limit <= value), default=0)

    effect = f"{below:.0%} of the off-topic answers lie below it"
    read_off(value, right, 0.05, effect, {"off-topic answers": curve}, "similarity", "share that lies below")


@question(
    "🐕",
    "A dict from instruction to row keeps the order in which instructions came.",
    "For each row: find or make the row of its instruction, then append to both of its lists.",
)
def side_by_side(answer):
    """A function: rows with instruction, generation, model_name in; one row per instruction out, with the columns
    instruction, generations and generation_models (lists, in the order of the rows)."""
    # Instructions, texts and models are in no order of the alphabet, so that sorting by one of them shows.
    columns, lines = ("instruction", "generation", "model_name"), "b? B1 n/a? A1 m/b? B2 m/b? B1 o/c? C1 m"
    rows = [dict(zip(columns, line.split(), strict=True)) for line in lines.split("/")]
    expected = [
        {"instruction": "b?", "generations": ["B1", "B2", "B1"], "generation_models": ["n", "m", "o"]},
        {"instruction": "a?", "generations": ["A1"], "generation_models": ["m"]},
        {"instruction": "c?", "generations": ["C1"], "generation_models": ["m"]},
    ]
    result = call(answer, rows)
    expect(isinstance(result, list | tuple), "a list of rows", result)
    count = f"{len(rows)} rows went in, {len(result)} came out; expected one for each of {len(expected)} instructions."
    require(len(result) == len(expected), count)
    for number, row in enumerate(result, 1):
        expect(isinstance(row, dict), "a dict for each instruction", row, f"row {number}")
        equal(sorted(row, key=str), sorted(expected[0]), f"row {number}, the columns")
    equal([row["instruction"] for row in result], ["b?", "a?", "c?"], "the order of the instructions")
    for row, wanted in zip(result, expected, strict=True):
        for column, values in wanted.items():
            equal(row[column], values, f"for the instruction {row['instruction']!r}, the column {column}")


@question(
    "🐕",
    "Compare what is left of both texts when case and spaces do not count.",
    '" ".join(text.lower().split()) is a text without capitals and superfluous spaces.',
    kind="fault",
)
def identical_pairs(answer):
    """The ids of the pairs whose two texts are the same up to case and spaces."""
    exact = {row["id"] for row in pairs_to_audit() if row["chosen"] == row["rejected"]}
    letters = f"You found the {len(exact)} that are equal letter by letter; others differ in case and spaces"
    name_fault(answer, "identical pair", {letters: exact}, "are not identical pairs")


@question(
    "🦁",
    "similarity(a, b) from course_lib.steps.filtering gives a number from 0 to 1; itertools.combinations(texts, 2) all pairs.",
    "With fewer than two texts, or an empty one among them, there is nothing to prefer: False.",
    "Keep the row if every two of its completions are less alike than your limit. A limit between 0.5 and 0.9 passes.",
)
def is_diverse(answer):
    """A function: a list of completions in, True if they differ enough to prefer one, else False."""
    for words, case in data("completions").items():
        verdict = call(answer, case["texts"])
        expect(isinstance(verdict, bool), "True or False", verdict, f"for {words}")
        equal(verdict, case["diverse"], f"for {words} ({excerpt(case['texts'])})")


@question(
    "🦁",
    "load >> [TextGeneration(llm=llm) for llm in llms] >> group >> FilterRows(keep=…, reason='too similar'), inside `with`.",
    "GroupColumns(columns=['generation', 'model_name'], output_columns=['generations', 'generation_models']).",
    "FilterRows(keep=lambda row: is_diverse(row['generations']), reason='too similar') leaves rows out and counts them.",
    "If too few rows are left, write more instructions, give the models more tokens, or a higher temperature.",
    seconds=30,
)
def my_pool(answer):
    """Your rows: four instructions or more, each with the completions of two models or more."""
    rows = rows_with(answer, ("instruction", "generations", "generation_models"), 4)
    asked: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        is_text = isinstance(row["instruction"], str) and row["instruction"].strip()
        expect(is_text, "a text as the instruction", row["instruction"], f"row {number}")
        first = asked.setdefault(bare(row["instruction"]), number)
        require(
            first == number, f"Rows {first} and {number} ask the same. Each row needs its own instruction."
        )
    check_completions(rows)
    for number, row in enumerate(rows, 1):
        one = f"Row {number} has completions of one model alone, {row['generation_models'][0]!r}. A pool has two or more."
        require(len(set(row["generation_models"])) > 1, one)
        alike = max(similarity(a, b) for a, b in combinations(row["generations"], 2))
        near = f"Row {number} has two completions with a similarity of {alike:.2f}; it must be below 0.9."
        require(alike < 0.9, f"{near} Let your filter leave the row out; its limit may be too high.")
