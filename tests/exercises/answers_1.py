"""Right and wrong answers to the questions of chapter 1."""

import math
from difflib import SequenceMatcher
from itertools import combinations

import numpy as np

from course_lib.pipeline import Pipeline
from course_lib.steps import FilterRows, GroupColumns, LoadDataFromDicts
from course_lib.steps.filtering import similarity
from course_lib.steps.load import DATA, read_jsonl
from course_lib.steps.tasks import TextGeneration

PAIRS = read_jsonl(DATA / "faulty_preferences.jsonl")


def plain(text):
    return " ".join(text.lower().split())


def softmax(logits, temperature):
    if temperature == 0:
        return [1.0 if logit == max(logits) else 0.0 for logit in logits]
    weights = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def softmax_array(logits, temperature):
    logits = np.array(logits)
    if temperature == 0:
        return np.eye(len(logits))[logits.argmax()]
    scaled = np.exp(logits / temperature - (logits / temperature).max())
    return scaled / scaled.sum()


def softmax_times(logits, temperature):
    weights = [math.exp((logit - max(logits)) * temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def softmax_unguarded(logits, temperature):
    return [
        math.exp(logit / temperature) / sum(math.exp(other / temperature) for other in logits)
        for logit in logits
    ]


def softmax_overflows(logits, temperature):
    if temperature == 0:
        return softmax(logits, 0)
    return softmax_unguarded(logits, temperature)


def grouped(rows):
    found = {}
    for row in rows:
        one = found.setdefault(
            row["instruction"],
            {"instruction": row["instruction"], "generations": [], "generation_models": []},
        )
        one["generations"].append(row["generation"])
        one["generation_models"].append(row["model_name"])
    return list(found.values())


def grouped_by_search(rows):
    names = list(dict.fromkeys(row["instruction"] for row in rows))
    return [
        {
            "generation_models": [row["model_name"] for row in rows if row["instruction"] == name],
            "generations": tuple(row["generation"] for row in rows if row["instruction"] == name),
            "instruction": name,
        }
        for name in names
    ]


def alike(texts):
    return max(similarity(a or "", b or "") for a, b in combinations(texts, 2))


def diverse_by_words(texts):
    texts = (
        [text for text in texts if text and text.strip()]
        if all(text and text.strip() for text in texts)
        else []
    )
    return len(texts) > 1 and all(similarity(a, b) < 0.7 for a, b in combinations(texts, 2))


def diverse_by_letters(texts):
    if len(texts) < 2 or not all((text or "").strip() for text in texts):
        return np.False_
    ratios = [SequenceMatcher(None, plain(a), plain(b)).ratio() for a, b in combinations(texts, 2)]
    return np.bool_(max(ratios) < 0.75)


def pool(instructions, llms, keep):
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": text} for text in instructions])
        group = GroupColumns(
            columns=["generation", "model_name"], output_columns=["generations", "generation_models"]
        )
        load >> [TextGeneration(llm=llm) for llm in llms] >> group
        group >> FilterRows(keep=lambda row: keep(row["generations"]), reason="too similar")
    return pipeline.run(progress=False)


def pool_connected(instructions, llms, keep):
    pipeline = Pipeline(name="pool")
    load = LoadDataFromDicts(data=[{"question": text} for text in instructions], pipeline=pipeline)
    group = GroupColumns(
        columns=["generation", "model_name"],
        output_columns=["generations", "generation_models"],
        pipeline=pipeline,
    )
    for llm in llms:
        task = TextGeneration(llm=llm, input_mappings={"instruction": "question"}, pipeline=pipeline)
        load.connect(task)
        task.connect(group)
    group.connect(FilterRows(keep=lambda row: keep(row["generations"]), reason="alike", pipeline=pipeline))
    return pipeline.run(progress=False)


def pool_without_filter(instructions, llms, keep):
    return pool(instructions, llms, lambda texts: True)


def pool_that_loses_rows(instructions, llms, keep):
    whole = pool(instructions, llms, keep)
    return {"default": whole["default"]}


def pool_with_default_names(instructions, llms, keep):
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": text} for text in instructions])
        (
            load
            >> [TextGeneration(llm=llm) for llm in llms]
            >> GroupColumns(columns=["generation", "model_name"])
        )
    return pipeline.run(progress=False)


def pool_of_one(instructions, llms, keep):
    return pool(instructions, llms[:1] * 2, keep)


def pool_reversed(instructions, llms, keep):
    return pool(instructions, llms[::-1], keep)


def pool_renamed(instructions, llms, keep):
    whole = pool(instructions, llms, keep)
    return {
        name: {"train": [{**row, "generation_models": ["me"]} for row in whole[name]["train"]]}
        for name in whole
    }


IDENTICAL = [pair["id"] for pair in PAIRS if plain(pair["chosen"]) == plain(pair["rejected"])]
EXACT = [pair["id"] for pair in PAIRS if pair["chosen"] == pair["rejected"]]

RIGHT = {
    "dpo_loss": [
        lambda margin, beta: math.log1p(math.exp(-beta * margin)),
        lambda margin, beta: -np.log(1 / (1 + np.exp(-beta * margin))),
        lambda margin, beta: float(np.logaddexp(0, -beta * margin)),
    ],
    "identical_pair": ["nothing", " Nothing "],
    "softmax_at": [softmax, softmax_array],
    "unrelated_below": [],
    "side_by_side": [grouped, grouped_by_search],
    "identical_pairs": [IDENTICAL, set(IDENTICAL), tuple(reversed(IDENTICAL))],
    "is_diverse": [diverse_by_words, diverse_by_letters],
    "diverse_pool": [pool, pool_connected],
}
WRONG = {
    "dpo_loss": [
        (lambda margin, beta: math.log1p(math.exp(-margin)), "beta has no effect"),
        (lambda margin, beta: -math.log1p(math.exp(-beta * margin)), "expected 0.693"),
        (lambda margin, beta: math.log1p(math.exp(beta * margin)), "For margin 2 and beta 1"),
        (
            lambda margin, beta: -math.log1p(math.exp(-beta * margin)) if margin else math.log(2),
            "the sign is missing",
        ),
        (lambda margin, beta: str(margin), "expected 0.693"),
        (lambda margin: 0.69, "raised TypeError"),
        (0.6931, "Expected a function"),
    ],
    "identical_pair": [
        ("brevity", "equally long"),
        ("both", "the difference stays 0"),
        ("less", "allowed"),
        (0, "allowed"),
    ],
    "softmax_at": [
        (softmax_times, "multiplied by the temperature"),
        (softmax_unguarded, "raised ZeroDivisionError"),
        (softmax_overflows, "raised OverflowError"),
        (lambda logits, temperature: softmax(logits, 1.0), "at temperature 0.5"),
        (
            lambda logits, temperature: [1 / len(logits)] * len(logits),
            "For the logits [1.0, 2.0, 3.0] at temperature 1.0",
        ),
        (lambda logits, temperature: softmax(logits, temperature or 1), "at temperature 0"),
        (
            lambda logits, temperature: softmax(logits, temperature)[:1] if len(logits) == 1 else 1.0,
            "expected",
        ),
        ([0.1, 0.2, 0.7], "Expected a function"),
    ],
    "unrelated_below": [],
    "side_by_side": [
        (lambda rows: rows, "5 rows went in, 5 came out"),
        (lambda rows: grouped(sorted(rows, key=lambda row: row["instruction"])), "For two instructions"),
        (
            lambda rows: [
                {**row, "generations": list(dict.fromkeys(row["generations"]))} for row in grouped(rows)
            ],
            "expected",
        ),
        (lambda rows: grouped([row for row in rows if row["generation"]]), "expected"),
        (lambda rows: grouped(rows) if len(rows) != 1 else [], "For a single row"),
        (lambda rows: grouped(rows) or None, "For no rows"),
        (lambda rows: grouped(rows)[0], "Expected a list"),
        (grouped(PAIRS[:0]), "Expected a function"),
    ],
    "identical_pairs": [
        (EXACT, "equal letter by letter"),
        ([pair["id"] for pair in PAIRS], "are not identical pairs"),
        (IDENTICAL[:1], "are missing"),
        ([*IDENTICAL, 10_000], "1 of your"),
        ([], "are missing"),
        (3, "Expected a list"),
    ],
    "is_diverse": [
        (lambda texts: len(set(texts)) == len(texts), "all but capitals and spaces"),
        (lambda texts: True, "everything in common"),
        (lambda texts: False, "nothing in common"),
        (lambda texts: similarity(texts[0], texts[1]) < 0.95, "nine words of ten"),
        (lambda texts: similarity(texts[0], texts[1]) < 0.8, "compare all pairs"),
        (
            lambda texts: all(similarity(a, b) < 0.8 for a, b in combinations(texts, 2)),
            "For a single completion",
        ),
        (
            lambda texts: (
                len(texts) > 1 and all(similarity(a or "", b or "") < 0.8 for a, b in combinations(texts, 2))
            ),
            "no text",
        ),
        (lambda texts: 0.3, "Expected True or False"),
        (lambda texts: diverse_by_words(texts) if texts[-1] is not None else True, "None"),
    ],
    "diverse_pool": [
        (pool_without_filter, "the rows kept"),
        (pool_that_loses_rows, "neither kept nor in"),
        (pool_with_default_names, "expected rows with ['generation_models', 'generations']"),
        (pool_of_one, "the rows kept"),
        (pool_renamed, "in generation_models"),
        (pool_reversed, "in generation_models"),
        (lambda instructions, llms, keep: 3, "Expected the distiset"),
        (lambda instructions, llms, keep: [], "the rows kept"),
        (lambda instructions, llms, keep: Pipeline().run(), "your function raised"),
        (
            lambda instructions, llms, keep: pool(instructions, llms, lambda texts: not keep(texts)),
            "the rows kept",
        ),
        (lambda instructions, llms, keep: pool(instructions[:1], llms, keep), "the rows kept"),
    ],
}
READ = 0.36  # what a careful reader takes from the figure
RIGHT["unrelated_below"] = [READ, np.float64(READ), READ + 0.03, READ - 0.03]
WRONG["unrelated_below"] = [
    (0.05, "too low"),
    (0.6, "too high"),
    (95, "a number from 0 to 1"),
    (1.5, "a number from 0 to 1"),
    (0.9, "100% of the off-topic answers lie below"),
    (-0.1, "a number from 0 to 1"),
    ("a quarter", "Expected a number"),
    (READ + 0.09, "too high"),
    (READ - 0.09, "too low"),
]
