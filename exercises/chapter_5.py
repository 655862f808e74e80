"""Chapter 5, a preference dataset: what the answers are checked for."""

import re
from collections import Counter

from course_lib import audit as library
from course_lib.exercises.checks import Wrong, call, data, equal, excerpt, expect, is_pair, require
from course_lib.exercises.choices import has_keys, number_in, of_type, option, read_off
from course_lib.exercises.faults import bare, ids_in, name_fault, pairs_to_audit
from course_lib.exercises.my_dataset import check_instructions, kept, rows_with
from course_lib.exercises.questions import question
from course_lib.exercises.reading import check_verdicts
from course_lib.exercises.splits import check_split
from course_lib.steps import FormatTextGenerationDPO

RATINGS = ([4.6, 1.3], [3.5, 4.5, 1.5], [1.0, 5.0, 3.0], [0.0, 0.5], [2, 4, 4, 1, 1], [4.0, 4.0])
# Rated rows, by name: (generations, ratings).
RATED = {name: (row["generations"], row["ratings"]) for name, row in data("rated").items()}
SPLITS = ("train", "test")
# Names that the audit of the library gives.
FAULTS = ("identical completions", "contradictory pair", "duplicate pair", "test prompt in train")
LIMIT = re.compile(r"\b(?:not|never|cannot|only|few|too|no (?:good|use))\b|n['’]t\b")  # in a card
UNDECIDED = re.compile(r"(?:\bnot?|n['’]t)(?: \w+){0,3} differen\w+")  # speaks of single pairs: no limit


@question(
    "🐢",
    "max(range(len(ratings)), key=lambda place: ratings[place]) is the place of the best.",
    "With the best and the worst rated alike, return None.",
)
def best_and_worst(answer):
    """A function: ratings in; (place of the best, place of the worst) out, or None if all ratings are the same."""
    wanted = "(place of the best, place of the worst); the first place is 0"
    for ratings in RATINGS:
        pair, where = call(answer, ratings), f"For the ratings {ratings}"
        if len(set(ratings)) == 1:
            equal(pair, None, f"{where} there is no pair")
            continue
        places = range(-len(ratings), len(ratings))
        expect(is_pair(pair) and all(place in places for place in pair), wanted, pair, where)
        ends = [ratings[int(place)] for place in pair]
        misread = {"the worst before the best. Turn them round": [min(ratings), max(ratings)]}
        equal(ends, [max(ratings), min(ratings)], f"{where}, the ratings at the places {pair}", misread)


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
    rows = [{"instruction": name, "generations": row[0], "ratings": row[1]} for name, row in RATED.items()]
    made = next(FormatTextGenerationDPO(min_margin=0.25).process(rows))
    right = {row["instruction"]: row.get("drop_reason", "pair") for row in made}
    options = sorted(set(right.values()))
    reasons = {name: option(reason, options, f"Row {name}: ") for name, reason in answer.items()}
    wrong = [name for name in right if reasons[name] != right[name]]
    for name in wrong:
        count, hint = f"{len(right) - len(wrong)} of {len(right)} are right", data("rated")[name]["hint"]
        raise Wrong(f"{count}. Row {name} is not {reasons[name]!r}. {hint}")


def usable_margins() -> list[float]:
    """Margins of the pairs to audit with ratings on the scale and the right way round: what the figure shows."""
    margins = (row["chosen_rating"] - row["rejected_rating"] for row in pairs_to_audit())
    return [margin for margin in margins if 0 < margin <= 4]


def margin_curve() -> list[tuple[float, int]]:
    """How many pairs are left for each least margin: what the figure shows."""
    margins = usable_margins()
    return [(k / 5, sum(margin >= k / 5 for margin in margins)) for k in range(21)]


@question(
    "🐕",
    "Find 30 on the vertical axis, go right to the line, then down.",
    "Too low a margin keeps more than 30 pairs; look for the highest that keeps 30.",
    kind="plot",
)
def margin_for_thirty(answer):
    """The largest least margin, read from the figure to within 0.15 points, that keeps at least 30 pairs."""
    least = number_in(answer, 0, 4, "a margin on a scale from 1 to 5, a number")
    margins = sorted(usable_margins(), reverse=True)

    kept_pairs = sum(margin >= least for margin in margins)
    effect = f"it keeps {kept_pairs} pairs; look for the highest that keeps 30"
    read_off(
        least, margins[29], 0.15, effect, {"pairs kept": margin_curve()}, "least margin (points)", "pairs"
    )


@question(
    "🐕",
    "The prompt decides, never the row: write a function that says for a prompt whether it is for the test.",
    'Give it the prompt without case and superfluous spaces: " ".join(prompt.lower().split()).',
    "hashlib.sha256(text.encode()).digest() gives 32 bytes that are always the same for the same text.",
    'int.from_bytes(digest[:8], "big") / 2**64 is a number from 0 to 1 that you can compare with test_share.',
    seconds=30,
)
def split_by_prompt(answer):
    """A function of (rows, test_share): (train, test), two lists of rows. A prompt, up to case and spaces, is in one of them
    only, stays there when rows are shuffled or added, and about test_share of the prompts are in test."""
    check_split(answer)


@question(
    "🐕",
    "Compare prompts without case and superfluous spaces.",
    "First collect the prompts of the test rows in a set, then ask each train row whether its prompt is in it.",
    kind="fault",
)
def leaks(answer):
    """The ids of the train rows whose prompt, up to case and spaces, is in the test split as well."""
    rows, prompts = pairs_to_audit(), {"train": set(), "test": set()}
    for row in rows:
        prompts[row["split"]].add(bare(row["prompt"]))
    shared = prompts["train"] & prompts["test"]
    letters = {row["prompt"] for row in rows if row["split"] == "test"}
    counts = Counter(bare(row["prompt"]) for row in rows if row["split"] == "train")
    misread = {
        "These are the rows of the test split; the train rows are the ones to mend": {
            row["id"] for row in rows if row["split"] == "test" and bare(row["prompt"]) in shared
        },
        "These are equal letter by letter; look for those that differ in case and spaces too": {
            row["id"] for row in rows if row["split"] == "train" and row["prompt"] in letters
        },
        "These are prompts that stand twice in train, which is no leak": {
            row["id"] for row in rows if row["split"] == "train" and counts[bare(row["prompt"])] > 1
        },
    }
    name_fault(answer, "test prompt in train", misread, "are no train rows with a prompt of the test split")


@question(
    "🐕",
    "Do not look at the ratings: they were given by a judge that read too fast.",
    "Does the text do what was asked, all of it? Is what it says true? Does the reason fit the advice?",
    kind="concept",
)
def by_reading(answer):
    """A dict from the id of each pair to the text that is better: "chosen" or "rejected"."""
    better = {"good": "chosen", "worse": "rejected"}
    rows = {
        name: {**row, "verdict": better[row["verdict"]]} for name, row in data("pairs_by_ratings").items()
    }
    return check_verdicts(answer, rows, ["chosen", "rejected"], "the readers of the course")


def faults_of(rows: list[dict]) -> dict[str, set]:
    """The ids with each of the four faults of `audit`."""
    tests = {bare(row["prompt"]) for row in rows if row["split"] == "test"}
    turned = {tuple(bare(row[name]) for name in ("prompt", "rejected", "chosen")) for row in rows}
    found = {
        "identical pair": lambda row, texts: texts[1] == texts[2],
        "test prompt in train": lambda row, texts: row["split"] == "train" and texts[0] in tests,
        "contradictory pair": lambda row, texts: texts[1] != texts[2] and texts in turned,
        "rating against the choice": lambda row, texts: row["chosen_rating"] <= row["rejected_rating"],
    }
    texts = {row["id"]: tuple(bare(row[name]) for name in ("prompt", "chosen", "rejected")) for row in rows}
    return {
        fault: {row["id"] for row in rows if has_it(row, texts[row["id"]])} for fault, has_it in found.items()
    }


@question(
    "🦁",
    "One small function for each fault; a set comprehension {row['id'] for row in rows if …} is often all of it.",
    "Contradictory: put (prompt, chosen, rejected) of all rows into a set, then look for (prompt, rejected, chosen) in it.",
    "An identical pair is its own reverse: take those out of the contradictory ones.",
)
def audit(answer):
    """A function: rows in; a dict from the name of each of the four faults to the set of the ids that have it."""
    for words, rows in {**data("audited"), "planted faults": pairs_to_audit()}.items():
        result, expected = call(answer, rows), faults_of(rows)
        expect(isinstance(result, dict), "a dict from fault to ids", result)
        known = {row["id"]: row for row in rows}
        named = {option(fault, list(expected), "There is no fault "): ids for fault, ids in result.items()}
        for fault, ids in expected.items():
            require(fault in named, f"With {words}: no key {fault!r}. If no row has it, give an empty set.")
            given = ids_in(named[fault], fault)
            for id_ in sorted(given ^ ids, key=str):
                row = excerpt(known.get(id_, f"a row {id_!r} that does not exist"))
                verdict = "has it not, but is in" if id_ in given else "has it, but is not in"
                raise Wrong(f"In a dataset with {words}, {fault!r}: {row} {verdict} your set.")


@question(
    "🦁",
    "Your label decides: `chosen` is the text with the letter of the label, `rejected` the other one.",
    "Leave out the rows with 'no difference', then give each row its split, by prompt.",
)
def my_pairs(answer):
    """Your pairs with `prompt`, `chosen`, `rejected` and `split`, as you labelled them in chapter 4."""
    rows, labelled = rows_with(answer, ("prompt", "chosen", "rejected", "split"), 2), kept(4)[0]
    check_instructions(rows, labelled, 4, "prompt")
    labels = {row["instruction"]: row for row in labelled}
    for number, row in enumerate(rows, 1):
        require(row["split"] in SPLITS, f"Row {number} has the split {row['split']!r}; allowed: {SPLITS}.")
        source = labels[row["prompt"]]
        undecided = f"Row {number}: you saw no difference between these texts, so they are no pair. Leave the row out."
        require(source["label"] != "no difference", undecided)
        sides = ("A", "B") if source["label"] == "A" else ("B", "A")
        expected = [source[side] for side in sides]
        against = "you labelled the other text as the better one. Your label decides, not the rating"
        texts = [row["chosen"], row["rejected"]]
        equal(texts, expected, f"row {number}, chosen and rejected", {against: expected[::-1]})
    only_test = "All your rows are in test, so none is left to train on. Use split_by_prompt(rows, 0.3),"
    require({row["split"] for row in rows} != {"test"}, f"{only_test} or a smaller share.")
    found = library.audit(rows).faults
    for fault in FAULTS:
        places = ", ".join(map(str, found.get(fault, [])))
        require(not places, f"An audit finds {fault!r} in {places}. Mend or leave out these rows.")


@question(
    "🦁",
    "Answer five questions, a sentence each: what is in it, who wrote, who rated and labelled, what is it for, what is it not.",
    "Name every model in the column generation_models of ex.kept(3), and the number of pairs; say who labelled them.",
)
def my_card(answer):
    """The card of your dataset, a text of forty words or more: pairs, models, who labelled, and what it is not good for."""
    of_type(answer, str, "a text")
    words, pairs = answer.lower().split(), kept(5)[0]
    require(len(words) >= 40, f"Your card has {len(words)} words. A stranger needs forty or more.")
    models = {name.split(",")[0].lower() for row in kept(3)[0] for name in row["generation_models"]}
    missing, rest = sorted(name for name in models if name not in answer.lower()), answer.lower()
    for name in models:
        rest = rest.replace(name, "")
    count = f"Your card does not say how many pairs there are. You kept {len(pairs)}; write it in digits."
    require(str(len(pairs)) in re.findall(r"\d+", rest), count)
    require(not missing, f"Your card does not name {missing[:1]}, which wrote some of the texts.")
    labelled = any(near.startswith("label") for near in words)
    require(labelled, "Your card does not say who labelled the pairs. Write it with the word 'labelled'.")
    about_data = UNDECIDED.sub("", " ".join(words))
    limit = "Your card does not say what the dataset is not good for. Name a limit with 'not', 'too', 'only' or 'few'."
    require(LIMIT.search(about_data), limit)
