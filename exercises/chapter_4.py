"""Chapter 4, judging the judge: what the answers are checked for."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from course_lib.exercises.checks import COLLECTION, Wrong, agree, data, equal, expect, is_pair, require
from course_lib.exercises.choices import match_each, option
from course_lib.exercises.faults import ids_in, name_fault, pairs_to_audit
from course_lib.exercises.made_up import TRIAL, item_of, trial
from course_lib.exercises.my_dataset import check_instructions, kept, rows_with
from course_lib.exercises.questions import question
from course_lib.exercises.reading import check_verdicts
from course_lib.judging import Item, pair_accuracy, preference

EXCHANGED = {"first": "second", "second": "first", "tie": "tie"}
SAME = {verdict: verdict for verdict in EXCHANGED}
LABELS = ("A", "B", "no difference")


@question(
    "🐢",
    "Count the items in which good is higher by at least 0.005, and divide by the number of all items.",
    "`preference(item)` from course_lib.judging says 'right', 'wrong' or 'tie'.",
)
def accuracy(answer):
    """A function: rated items in, the share (0 to 1) in which good is rated higher than worse by at least 0.005."""
    pairs = {
        "four items with one tie": [(4, 2), (3, 3), (2, 4), (3.5, 3.25)],
        "four items, three 0.002 apart": [(3.402, 3.4), (3.4, 3.402), (3.406, 3.4), (3.006, 3.004)],
        "two ties": [(3, 3), (2, 2)],
        "a single item": [(3, 1)],
    }
    cases = {words: ([item_of(*pair, instruction="?") for pair in case],) for words, case in pairs.items()}
    misread = {
        "ratings were rounded before they were compared; take their difference": _share_right_rounded,
        "ties count as right here; they are not right": partial(_share_right, tie=1),
        "ties count as half right here; they are not right": partial(_share_right, tie=0.5),
        "ties were left out of the number of items": partial(_share_right, without="tie"),
    }
    agree(answer, _share_right, cases, misread)


def _share_right(items: list[Item], tie: float = 0, without: str = "") -> float:
    verdicts = [verdict for item in items if (verdict := preference(item)) != without]
    return (verdicts.count("right") + tie * verdicts.count("tie")) / max(len(verdicts), 1)


def _share_right_rounded(items: list[Item]) -> float:
    rounded = [[round(item["ratings"][name], 2) for name in ("good", "worse")] for item in items]
    return sum(good > worse for good, worse in rounded) / len(rounded)


@question(
    "🐢",
    "Which of the four can write? Which can compute? Each of the four is used once.",
    "Of the two that are left, one is cheap and good at answers to another question; one did best on the forty items.",
    kind="concept",
)
def which_judge(answer):
    """A dict from off_topic, decent, sums and reasons to what does that job: "likelihood", "default", "program", "text"."""
    match_each(answer, data("judges"), "is no job for")


@question(
    "🐕",
    "The bar is what came out; the line on it is where the truth may lie. The dashed line is a coin.",
    "A long bar on six items has a long interval. Look for lines that lie wholly to the right of the dashed one.",
    kind="plot",
)
def beats_a_coin(answer):
    """The categories, read from the figure, in which the judge is surely better than a coin: the whole interval above 0.5."""
    expect(isinstance(answer, COLLECTION), "a list of categories", answer)
    chosen = {option(name, list(TRIAL), "Your answer names ") for name in answer}
    lines = {line["group"]: line for line in pair_accuracy(trial(), by="category")}
    surely = {name for name in TRIAL if lines[name]["low"] > 0.5}
    if chosen == surely:
        return
    doubtful = sorted(chosen - surely)
    reason = f"{len(surely - chosen)} more: a shorter bar on many items can be surer than a longer one."
    if doubtful:
        line = lines[doubtful[0]]
        verdict = "may be a coin" if line["high"] > 0.5 else "is worse than a coin: all of it is below 0.5"
        interval = f"its interval goes from {line['low']:.2f} to {line['high']:.2f}, so the judge {verdict}"
        reason = f"{doubtful[0]} ({line['items']} items): {interval}."
    from course_lib.plots import accuracy_by_group  # brings matplotlib, which most answers do not need

    marks = {name: ", yours" * (name in chosen) + ", surely better" * (name in surely) for name in lines}
    marked = [{**line, "group": name + marks[name]} for name, line in lines.items()]
    raise Wrong(reason, accuracy_by_group(marked, "What you chose, and what lies beyond a coin"))


@question(
    "🐕",
    "In the second run the answers have changed places. If both runs say 'first': which answer won in each?",
    "The same answer won both times where one run says 'first' and the other 'second'. Two ties agree as well.",
    "The share for the first place is taken over all verdicts of both runs, ties included.",
)
def swap_agreement(answer):
    """A function of two lists of verdicts ("first", "second" or "tie"), the second list with the answers exchanged: a dict
    with "agreement" (share of items with the same answer preferred in both) and "first" (share of all verdicts)."""
    cases = {
        "a judge that always takes the first place": (["first"] * 4, ["first"] * 4),
        "a judge that always takes the second place": (["second"] * 3, ["second"] * 3),
        "a judge whom the order leaves cold": (["first", "second", "first"], ["second", "first", "second"]),
        "one tie in one run": (["first", "tie", "second", "first"], ["second", "first", "second", "first"]),
        "ties in both runs": (["first", "tie", "second"], ["second", "tie", "tie"]),
    }
    same_place = "you count the same place. After the exchange, the same place is the other answer"
    agree(answer, _swap, cases, {same_place: partial(_swap, other=SAME)})


def _swap(normal: list[str], turned: list[str], other: Mapping[str, str] = EXCHANGED) -> dict[str, float]:
    agreement = sum(b == other[a] for a, b in zip(normal, turned, strict=True)) / len(normal)
    return {"agreement": agreement, "first": (normal + turned).count("first") / (2 * len(normal))}


@question(
    "🐕",
    "Observed agreement: the share of places in which both say the same.",
    "Chance: for each label, the share of it in the one list times the share of it in the other; add up.",
)
def kappa(answer):
    """A function of two lists of labels, equally long: Cohen's kappa, (observed − chance) / (1 − chance)."""
    labels = [
        ("AABB", "AABB"),
        ("AAAB", "AABB"),
        ("AAAAAAAAAB", "AAAAAAAABA"),
        ("ABAB", "BABA"),
        (["A", "tie", "B", "A", "tie", "A"], ["A", "tie", "A", "B", "tie", "tie"]),
        (["A", "A", "B"], ["A", "tie", "tie"]),
    ]
    cases = {f"{list(a)} and {list(b)}": (list(a), list(b)) for a, b in labels}
    chances = {
        "this is the plain share of equal labels. Take out what chance would give": lambda a, b: 0,
        "chance is not the same for all labels. Count how often each rater uses each": lambda a, b: (
            1 / len(set(a + b))
        ),
        "the shares of both raters were pooled. Take each rater's own": _pooled_chance,
    }
    misread = {reason: partial(_kappa, chance_of=chance) for reason, chance in chances.items()}
    agree(answer, _kappa, cases, misread)


def _own_chance(a: list[str], b: list[str]) -> float:
    return sum(a.count(label) * b.count(label) for label in set(a)) / len(a) ** 2


def _pooled_chance(a: list[str], b: list[str]) -> float:
    return sum((a + b).count(label) ** 2 for label in set(a + b)) / (2 * len(a)) ** 2


def _kappa(a: list[str], b: list[str], chance_of: Callable = _own_chance) -> float:
    observed, chance = sum(x == y for x, y in zip(a, b, strict=True)) / len(a), chance_of(a, b)
    return round((observed - chance) / (1 - chance), 4)


@question(
    "🐕",
    "Two pairs contradict each other if the prompt is the same and the texts have changed sides.",
    "Look up (prompt, rejected, chosen) among all (prompt, chosen, rejected). Leave pairs of two equal texts out.",
    kind="fault",
)
def contradictions(answer):
    """The ids of all pairs that another pair contradicts: same prompt, texts exchanged."""
    prompts = {row["id"]: row["prompt"] for row in pairs_to_audit()}
    shared = Counter(prompts.values())
    same_prompt = {id_ for id_, prompt in prompts.items() if shared[prompt] > 1}
    ids, wanted = ids_in(answer), set(data("planted")["contradictory pair"])
    half = ids < wanted and sorted(map(prompts.get, ids)) == sorted(set(map(prompts.get, wanted)))
    require(not half, "You name one pair of each contradiction. Nobody knows which is right: name both.")
    misread = {"These share a prompt; only some of them have their texts the other way round": same_prompt}
    name_fault(answer, "contradictory pair", misread, "are in no contradiction")


@question(
    "🐕",
    "Correct facts first, then whether it does what was asked, then whether it is clear. Length is no merit.",
    "Both texts may be poor. Which would you rather see more of? If there is really none: 'no difference'.",
    kind="concept",
)
def blind_labels(answer):
    """A dict from the id of each pair to your label: "A", "B" or "no difference"."""
    return check_verdicts(answer, data("real_pairs"), list(LABELS), "six readings that agree")


@question(
    "🦁",
    "label_pairs keeps each label in its file; read_labels gives them back. Without buttons, write a dict by hand.",
    "Each row needs your label: [{**item, 'label': labels[item['id']]} for item in items].",
)
def my_labels(answer):
    """Your pairs with `instruction`, `A`, `B` and `label`: "A", "B" or "no difference", by yourself."""
    rows, rated = rows_with(answer, ("instruction", "A", "B", "label"), 4), kept(3)[0]
    check_instructions(rows, rated, 3)
    texts = {row["instruction"]: row["generations"] for row in rated}
    for number, row in enumerate(rows, 1):
        label, sides = row["label"], [row["A"], row["B"]]
        require(label in LABELS, f"Row {number} has the label {label!r}; allowed: {str(LABELS)[1:-1]}.")
        missing = [side for side in sides if side not in texts[row["instruction"]]]
        require(not missing, f"Row {number}: {missing[:1]} is none of the completions of chapter 3.")
        require(sides[0] != sides[1], f"Row {number}: A and B are the same text.")
    label, *others = sorted({row["label"] for row in rows})
    remark = "Chapter 5 gets no pair of these" if label not in "AB" else "Suspect position bias: read again"
    return "" if others else f"Every label is {label!r}. {remark}."


@question(
    "🦁",
    "Go through ex.kept(4). The ratings of both texts stand in the row of ex.kept(3) with the same instruction.",
    "texts.index(row['A']) is the place of A among the generations, and ratings[place] its rating.",
    "Leave out rows with 'no difference'. The judge agrees where the text that you labelled has the higher rating.",
)
def my_judge(answer):
    """A pair (agreed, decided): in how many of your labelled pairs the ratings of chapter 3 prefer the text that you prefer,
    and how many there are without those of no difference."""
    expect(is_pair(answer), "a pair of counts, (agreed, decided), such as (3, 4)", answer)
    rated = {
        row["instruction"]: dict(zip(row["generations"], row["ratings"], strict=True)) for row in kept(3)[0]
    }
    decided = [row for row in kept(4)[0] if row["label"] != LABELS[-1]]
    agreed = 0
    for row in decided:
        better, worse = (row["A"], row["B"]) if row["label"] == "A" else (row["B"], row["A"])
        ratings = rated[row["instruction"]]
        agreed += None not in (ratings[better], ratings[worse]) and ratings[better] > ratings[worse]
    equal(answer[1], len(decided), "the pairs with a label of A or B in what you kept")
    misread = {"this is where the ratings prefer the other text, or tie": len(decided) - agreed}
    equal(answer[0], agreed, "the pairs in which judge and label prefer the same text", misread)
