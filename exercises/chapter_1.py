"""Chapter 1, model pooling: what the answers are checked for."""

import math
from itertools import combinations

from course_lib.exercises.checks import Wrong, agree, call, equal, excerpt, expect, require
from course_lib.exercises.choices import chosen_from, of_type, read_off
from course_lib.exercises.faults import faulty_preferences, name_fault
from course_lib.exercises.questions import question
from course_lib.judging import labelled_items
from course_lib.llms import ScriptedLLM
from course_lib.steps.filtering import similarity

TEXTS = {
    "everything": ["Bread rises because yeast makes gas.", "Bread rises because yeast makes gas."],
    "all but capitals and spaces": [
        "Bread rises because yeast makes gas.",
        " bread  rises because YEAST makes gas. ",
    ],
    "nine words of ten": [
        "one two three four five six seven eight nine ten",
        "one two three four five six seven eight nine 10",
    ],
    "nothing": ["Yeast eats sugar and gives off gas.", "I like trains."],
}


def off_topic_similarities() -> list[float]:
    """Similarity of the good and the off-topic answer of each labelled item (part "fit"): what the figure shows."""
    return [similarity(item["good"], item["off_topic"]) for item in labelled_items("fit")]


@question(
    "🐢",
    "The sigmoid of x is 1 / (1 + exp(-x)).",
    "The loss is minus the natural logarithm of the sigmoid of beta times margin.",
    "-log(sigmoid(x)) is log(1 + exp(-x)), which math.log1p(math.exp(-x)) gives.",
)
def dpo_loss(answer):
    """A function of (margin, beta): the DPO loss of one pair, -log(sigmoid(beta * margin))."""
    pairs = [(0, 0.1), (0, 5), (2, 1), (-2, 1), (10, 0.1), (30, 0.5)]
    cases = {f"margin {margin} and beta {beta}": (margin, beta) for margin, beta in pairs}
    misread = {
        "beta has no effect yet": lambda margin, beta: _loss(margin, 1),
        "a loss is not negative; the sign is missing": lambda margin, beta: -_loss(margin, beta),
    }
    agree(answer, _loss, cases, misread)


def _loss(margin: float, beta: float) -> float:
    return math.log1p(math.exp(-beta * margin))


@question(
    "🐢",
    "What is the margin of two equal texts, under any model?",
    "The loss of an identical pair is ln 2, whatever the model does. What can training change then?",
    kind="concept",
)
def identical_pair(answer):
    """What a trainer learns from a pair whose chosen and rejected texts are the same: "nothing", "brevity" or "both"."""
    chosen_from(
        answer,
        "nothing",
        {
            "brevity": "Both texts are equally long, so nothing tells the trainer to write shorter.",
            "both": "Raising one raises the other: they are the same text, and the difference stays 0.",
        },
    )


@question(
    "🐕",
    "Divide the logits by the temperature before the softmax.",
    "Subtract the largest value before exp, or large logits overflow.",
    "At temperature 0 all probability is on the largest logit: return that case by itself.",
)
def softmax_at(answer):
    """A function of (logits, temperature): a list of probabilities. Temperature 0 puts all on the largest logit."""
    pairs = [([1.0, 2.0, 3.0], 1.0), ([1.0, 2.0, 3.0], 0.5), ([1.0, 2.0, 3.0], 2.0), ([0.0], 1.3)]
    pairs += [([0.5, 3.0, 1.0], 0), ([1000.0, 999.0], 1.0)]
    cases = {f"the logits {logits} at temperature {t}": (logits, t) for logits, t in pairs}
    multiplied = "it looks as if the logits were multiplied by the temperature. Divide"
    agree(answer, _softmax, cases, {multiplied: _warmed})


def _warmed(logits: list[float], temperature: float) -> list[float]:
    return _softmax(logits, 1 / temperature) if temperature else []


def _softmax(logits: list[float], temperature: float) -> list[float]:
    if temperature == 0:
        return [float(logit == max(logits)) for logit in logits]
    weights = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


@question(
    "🐕",
    "Five of a hundred off-topic answers may lie above the value: count bars from the right, not to the very end.",
    "Sort the values: 95 of 100 lie below the one you look for.",
    kind="plot",
)
def unrelated_below(answer):
    """The similarity, read from the figure to within 0.05, below which 95% of the off-topic answers lie."""
    of_type(answer, int | float, "a number between 0 and 1")
    require(0 <= answer <= 1, f"{answer}: a similarity is a number from 0 to 1.")
    values = sorted(off_topic_similarities())
    below = sum(value < answer for value in values) / len(values)

    def draw(plots):
        axis = "similarity (share of words in common)"
        return plots.histogram({"good and off-topic": values}, axis, "Your answer, and a right one")

    effect = f"{below:.0%} of the off-topic answers lie below it"
    read_off(answer, values[int(0.95 * len(values))], 0.05, effect, draw)


@question(
    "🐕",
    "A dict from instruction to row keeps the order in which instructions came.",
    "For each row: find or make the row of its instruction, then append to both of its lists.",
)
def side_by_side(answer):
    """A function: rows with instruction, generation, model_name in; one row per instruction out, with the columns
    instruction, generations and generation_models (lists, in the order of the rows)."""
    rows = [
        {"instruction": "b?", "generation": "B1", "model_name": "m"},
        {"instruction": "a?", "generation": "A1", "model_name": "m"},
        {"instruction": "b?", "generation": "B2", "model_name": "n"},
        {"instruction": "a?", "generation": None, "model_name": "n"},
        {"instruction": "b?", "generation": "B1", "model_name": "o"},
    ]
    expected = [
        {"instruction": "b?", "generations": ["B1", "B2", "B1"], "generation_models": ["m", "n", "o"]},
        {"instruction": "a?", "generations": ["A1", None], "generation_models": ["m", "n"]},
    ]
    result = call(answer, rows)
    expect(isinstance(result, list), "a list of rows", result)
    count = f"{len(rows)} rows went in, {len(result)} came out; expected one for each of 2 instructions."
    require(len(result) < len(rows), count)
    equal(result, expected, "for two instructions, one of them with three completions")
    single = {"instruction": "b?", "generations": ["B1"], "generation_models": ["m"]}
    equal(call(answer, rows[:1]), [single], "for a single row")
    equal(call(answer, []), [], "for no rows")


@question(
    "🐕",
    "Compare what is left of both texts when case and spaces do not count.",
    '" ".join(text.lower().split()) is a text without capitals and superfluous spaces.',
    kind="fault",
)
def identical_pairs(answer):
    """The ids of the pairs in faulty_preferences.jsonl whose two texts are the same up to case and spaces."""
    exact = {row["id"] for row in faulty_preferences() if row["chosen"] == row["rejected"]}
    letters = f"You found the {len(exact)} that are equal letter by letter; others differ in case and spaces"
    name_fault(answer, "identical pair", {letters: exact}, "are not identical pairs")


@question(
    "🦁",
    "similarity(a, b) from course_lib.steps.filtering gives a number from 0 to 1; itertools.combinations(texts, 2) all pairs.",
    "An empty text or None is no completion: with such a one in the row there is nothing to prefer.",
    "Keep the row if every two of its completions are less alike than your limit. A limit between 0.5 and 0.85 passes.",
)
def is_diverse(answer):
    """A function: a list of completions in, True if they differ enough to prefer one, else False."""
    for words, texts in TEXTS.items():
        verdict = call(answer, texts)
        expect(isinstance(verdict, bool), "True or False", verdict)
        equal(verdict, words == "nothing", f"for two texts with {words} in common ({texts})")
    first, second = TEXTS["nothing"]
    never = {
        "three completions, the first and the last the same (compare all pairs)": [first, second, first],
        "a single completion, where there is nothing to prefer": [first],
    }
    for empty in ("", "   ", None):
        never[f"{[first, empty]}, where one is no text and there is nothing to prefer"] = [first, empty]
    for words, texts in never.items():
        equal(bool(call(answer, texts)), False, f"for {words}")


@question(
    "🦁",
    "A list of tasks can stand on the right of `>>`: load >> [task, task] >> group.",
    "One TextGeneration for each model; GroupColumns with columns=['generation', 'model_name'].",
    "FilterRows(keep=lambda row: keep(row['generations']), reason='too similar') leaves rows out and counts them.",
    seconds=30,
)
def diverse_pool(answer):
    """A function of (instructions, llms, keep): a distiset with one row per instruction, its columns generations and
    generation_models, without the rows for whose generations keep is false (these are in distiset["dropped"])."""
    llms = [
        ScriptedLLM(lambda chat: chat[-1]["content"] + " Yes.", model_name="echo"),
        ScriptedLLM(["A short answer."], model_name="short"),
        ScriptedLLM(lambda chat: f"{chat[-1]['content']} Yes.", model_name="parrot"),
    ]
    instructions = ["Is water wet?", "A short answer.", "Why?"]

    def unlike(texts):
        return all(similarity(a, b) < 0.8 for a, b in combinations(texts, 2))

    for pool, keep in ((llms[:2], unlike), (llms, unlike), (llms[:2], lambda texts: "wet" in texts[0])):
        _pool_case(answer, instructions, pool, keep)


def _pool_case(answer, instructions, llms, keep) -> None:
    distiset, where = call(answer, instructions, llms, keep), f"for {len(llms)} models"
    rows = _rows(distiset, "default")
    needed = {"generations", "generation_models"}
    for row in rows:
        fits = isinstance(row, dict) and needed <= set(row)
        expect(fits, f"rows with {sorted(needed)}", list(row), where)
        equal(row["generation_models"], [llm.model_name for llm in llms], f"{where}, in generation_models")
    chats = [[{"role": "user", "content": text}] for text in instructions]
    written = [[llm.generate([chat])[0]["generations"][0] for llm in llms] for chat in chats]
    equal([row["generations"] for row in rows], list(filter(keep, written)), f"{where}, the rows kept")
    lost = len(instructions) - len(rows) - len(_rows(distiset, "dropped"))
    advice = "FilterRows leaves rows out and counts them."
    require(not lost, f"{lost} rows are neither kept nor in distiset['dropped']. {advice}")


def _rows(distiset, name: str) -> list[dict]:
    try:
        return list(distiset[name]["train"]) if name in distiset else []
    except (TypeError, KeyError) as error:
        expected = "Expected the distiset that pipeline.run() returns"
        raise Wrong(f"{expected}; your function returned {excerpt(distiset)}.") from error
