"""Chapter 4, judging the judge: what the answers are checked for."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from course_lib.exercises.checks import COLLECTION, Wrong, agree, alike, call, equal, expect, require
from course_lib.exercises.choices import has_keys, option
from course_lib.exercises.faults import faults_of, faulty_preferences, ids_in, name_fault
from course_lib.exercises.made_up import TRIAL, item_of, panel_share, sums, trial
from course_lib.exercises.questions import question
from course_lib.judging import Item, pair_accuracy, preference, wilson_interval

EXCHANGED = {"first": "second", "second": "first", "tie": "tie"}
SAME = {verdict: verdict for verdict in EXCHANGED}
Z = 1.96


def _without_nan(answer):
    """The learner's function with None for nan, which says as well that there is no number."""

    def function(*arguments):
        value = call(answer, *arguments)
        return None if isinstance(value, float) and math.isnan(value) else value

    return function


@question(
    "🐢",
    "Count the items in which good is higher by at least 0.005, and divide by the number of all items.",
    "A rating that is None cannot be compared: look for it before you subtract.",
    "`preference(item)` from course_lib.judging says 'right', 'wrong', 'tie' or 'missing'.",
)
def accuracy(answer):
    """A function: rated items in, the share (0 to 1) in which good is rated higher than worse by at least 0.005. Ties and
    missing ratings count as not right. None for no items."""
    pairs = {
        "four items with one tie": [(4, 2), (3, 3), (2, 4), (3.5, 3.25)],
        "five items, three of which lack a rating": [(4, 2), (None, 3), (4, None), (None, None), (5, 1)],
        "four items, two of which differ by 0.002": [(4, 2), (3.402, 3.4), (3.4, 3.402), (3.406, 3.4)],
        "two ties": [(3, 3), (2, 2)],
        "a single item": [(3, 1)],
        "no items there is no share": [],
    }
    cases = {words: ([item_of(*pair, instruction="?") for pair in case],) for words, case in pairs.items()}
    decided = partial(_share_right, without=("tie", "missing"))
    misread = {
        "ties count as right here; they are not right": partial(_share_right, tie=1),
        "ties count as half right here; they are not right": partial(_share_right, tie=0.5),
        "ties and missing ratings were left out of the number of items": decided,
        "missing ratings were left out of the number of items": partial(_share_right, without=("missing",)),
    }
    agree(_without_nan(answer), _share_right, cases, misread)


def _share_right(items: list[Item], tie: float = 0, without: tuple[str, ...] = ()) -> float | None:
    verdicts = [verdict for item in items if (verdict := preference(item)) not in without]
    right = verdicts.count("right") + tie * verdicts.count("tie")
    return right / max(len(verdicts), 1) if items else None


SITUATIONS = {
    "off_topic": ("likelihood", "throwing out answers to another question, at the lowest price"),
    "decent": ("default", "choosing the better of two decent answers"),
    "sums": ("program", "sums on bills"),
    "reasons": ("text", "reasons that people can read"),
}
BECAUSE = {
    "likelihood": "it measures how likely a text is: cheap, good at spotting answers to something else, and blind to the rest",
    "default": "it was fitted on labelled answers: right in about nine of ten, but it knows few facts and it writes nothing",
    "program": "it computes, so it is always right about numbers; it has no opinion on anything else",
    "text": "it writes its reasons, which is dear; its verdicts depend on the order in which answers are shown",
}


@question(
    "🐢",
    "Which of the four can write? Which can compute? Each of the four judges is used once.",
    "Look at the table of section 11: situation, judge, because.",
    kind="concept",
)
def which_judge(answer):
    """A dict from off_topic, decent, sums and reasons to a judge for that job: "likelihood", "default", "program", "text"."""
    has_keys(answer, list(SITUATIONS))
    for job, (right, words) in SITUATIONS.items():
        judge = option(answer[job], list(BECAUSE), f"{job}: ")
        require(judge == right, f"{job} is about {words}. Of {judge!r} we know: {BECAUSE[judge]}.")


@question(
    "🐕",
    "With p = right/items and z = 1.96: middle p + z²/(2·items), spread z·sqrt(p(1−p)/items + z²/(4·items²)).",
    "Both ends are (middle ∓ spread) divided by 1 + z²/items.",
    "Without items nothing is known: return (0.0, 1.0) before you divide.",
)
def wilson(answer):
    """A function of (right, items): the low and the high end of the 95% Wilson interval (z = 1.96). Without items (0, 1)."""
    counts = [(8, 10), (34, 40), (20, 40), (0, 10), (10, 10), (1, 1), (0, 0), (320, 400)]
    cases = {f"{right} right of {items}": (right, items) for right, items in counts}
    textbook = "this is the textbook interval p ± z·sqrt(p(1−p)/n), which gives nonsense near 0 and 1. Expected Wilson's"
    narrow = "this is Wilson's interval with z = 1, which holds in 68%. Expected z = 1.96"
    misread = {
        textbook: _textbook_interval,
        narrow: partial(wilson_interval, z=1.0),
        "divide both ends by 1 + z²/items": _undivided_interval,
    }
    agree(answer, wilson_interval, cases, misread)


def _undivided_interval(right: int, items: int) -> list[float]:
    return [end * (1 + Z * Z / max(items, 1)) for end in wilson_interval(right, items)]


def _textbook_interval(right: int, items: int) -> tuple[float, float]:
    share = right / max(items, 1)
    half = Z * math.sqrt(share * (1 - share) / max(items, 1))
    return share - half, share + half


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
        interval = f"its interval goes from {line['low']:.2f} to {line['high']:.2f}, so it may be a coin"
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
        "a judge of whom all is a tie": (["tie"] * 2, ["tie"] * 2),
        "one tie in one run": (["first", "tie", "second", "first"], ["second", "first", "second", "first"]),
        "a tie in the second run": (["first", "first", "second"], ["second", "tie", "tie"]),
        "no items there are no shares": ([], []),
    }
    same_place = "you count the same place. After the exchange, the same place is the other answer"
    agree(_without_nan(answer), _swap, cases, {same_place: partial(_swap, other=SAME)})


def _swap(normal: list[str], turned: list[str], other: Mapping[str, str] = EXCHANGED) -> dict | None:
    if not normal:
        return None
    agreement = sum(b == other[a] for a, b in zip(normal, turned, strict=True)) / len(normal)
    return {"agreement": agreement, "first": (normal + turned).count("first") / (2 * len(normal))}


@question(
    "🐕",
    "Observed agreement: the share of places in which both say the same.",
    "Chance: for each label, the share of it in the one list times the share of it in the other; add up.",
    "Kappa is (observed − chance) / (1 − chance). When is the denominator 0?",
)
def kappa(answer):
    """A function of two lists of verdicts, equally long: Cohen's kappa. None where it is not defined: for empty lists, and
    where both say one and the same thing throughout."""
    verdicts = [
        ("AABB", "AABB"),
        ("AAAB", "AABB"),
        ("AAAAAAAAAB", "AAAAAAAABA"),
        ("ABAB", "BABA"),
        ("AAAA", "AABB"),
        (["A", "tie", "B", "A", "tie", "A"], ["A", "tie", "A", "B", "tie", "tie"]),
        (["A", "A", "B"], ["A", "tie", "tie"]),
    ]
    cases = {f"{list(a)} and {list(b)}": (list(a), list(b)) for a, b in verdicts}
    cases["two empty lists, where it is not defined"] = [], []
    cases["two raters who both say A throughout, where it is not defined"] = ["A", "A"], ["A", "A"]
    chances = {
        "this is the plain share of equal verdicts. Take out what chance would give": lambda a, b: 0,
        "chance is not the same for all labels. Count how often each rater uses each": lambda a, b: (
            1 / len(set(a + b))
        ),
        "the shares of both raters were pooled. Take each rater's own": _pooled_chance,
    }
    misread = {reason: partial(_kappa, chance_of=chance) for reason, chance in chances.items()}
    agree(_without_nan(answer), _kappa, cases, misread)


def _own_chance(a: list[str], b: list[str]) -> float:
    return sum(a.count(label) * b.count(label) for label in set(a)) / len(a) ** 2


def _pooled_chance(a: list[str], b: list[str]) -> float:
    return sum((a + b).count(label) ** 2 for label in set(a + b)) / (2 * len(a)) ** 2


def _kappa(a: list[str], b: list[str], chance_of: Callable = _own_chance) -> float | None:
    if len(set(a + b)) < 2:
        return None
    observed, chance = sum(x == y for x, y in zip(a, b, strict=True)) / len(a), chance_of(a, b)
    return round((observed - chance) / (1 - chance), 4)


@question(
    "🐕",
    "Two pairs contradict each other if the prompt is the same and the texts have changed sides.",
    "Look up (prompt, rejected, chosen) among all (prompt, chosen, rejected).",
    "A pair whose two texts are the same is no contradiction: leave those out. Name both pairs of a contradiction.",
    kind="fault",
)
def contradictions(answer):
    """The ids of all pairs in faulty_preferences.jsonl that another pair contradicts: same prompt, texts exchanged."""
    prompts = {row["id"]: row["prompt"] for row in faulty_preferences()}
    shared = Counter(prompts.values())
    same_prompt = {id_ for id_, prompt in prompts.items() if shared[prompt] > 1}
    ids, wanted = ids_in(answer), faults_of(faulty_preferences())["contradictory preference"]
    half = ids < wanted and sorted(map(prompts.get, ids)) == sorted(set(map(prompts.get, wanted)))
    both = "You name one pair of each contradiction. Nobody knows which of the two is right: name both."
    require(not half, both)
    misread = {"These share a prompt; only some of them have their texts the other way round": same_prompt}
    name_fault(answer, "contradictory preference", misread, "are in no contradiction")


@question(
    "🦁",
    r"re.search(r'(\d+) (\+|−|×|plus|minus|times) (\d+)', instruction) finds the sum, or None if there is none.",
    "Find the numbers of an answer with their commas: re.findall(r'\\d[\\d,]*', text), then take the commas out.",
    "An answer may repeat the question's numbers. Look at the others first; only if there are none, look at all.",
    seconds=120,
)
def judge_of_sums(answer):
    """A judge that beats the models on sums: a function from a row (a dict with instruction and generations) to a list
    of ratings from 1 to 5, or a Step that adds the column ratings. None for a text it cannot judge: where the instruction
    asks for no sum, and where the text is None."""
    expect(not isinstance(answer, type), "a judge, not the class of one", answer)
    items, judged = sums("hidden"), []
    for item in items:
        good, worse = _ratings(answer, item, [item["good"], item["worse"]])
        by_place = f"{item['instruction']!r}: shown in the other order, the same answers get other ratings. Do not go by place."
        require(alike(_ratings(answer, item, [item["worse"], item["good"]]), [worse, good]), by_place)
        judged.append({**item, "ratings": {"good": good, "worse": worse}})
    for text in ("Write a short poem about 12 geese.", "Who was king in 1066, and who in 1087?"):
        ratings = _ratings(answer, {"instruction": text}, ["All of the 12 geese.", "1066"])
        equal(ratings, [None, None], f"for {text!r}, which asks for no sum")
    ratings = _ratings(answer, items[0], [items[0]["good"], None])
    missing = ratings[1] is None and ratings[0] is not None
    require(missing, f"For a good answer and one that is None: {ratings}; expected a rating and None.")
    _beats_the_models(judged)


def _ratings(answer, item: Item, texts: list[str | None]) -> list[float | None]:
    """What the learner's judge, a function or a step, says about texts: a rating or None for each."""
    row = {"instruction": item["instruction"], "generations": texts}
    judge = partial(_rating_step, answer) if hasattr(answer, "process") else answer
    ratings, where = call(judge, row), f"For {row['instruction']!r} with {len(texts)} texts"
    fits = isinstance(ratings, list | tuple) and len(ratings) == len(texts)
    expect(fits, "a list of ratings, one for each text", ratings, where)
    on_scale = [r is None or (isinstance(r, int | float) and 1 <= r <= 5) for r in ratings]
    expect(all(on_scale), "ratings that are numbers from 1 to 5, or None", ratings, where)
    return list(ratings)


def _rating_step(judge, row: dict) -> list[float | None]:
    return [rated["ratings"] for rows in judge.process([row]) for rated in rows][0]


def _beats_the_models(judged: list[Item]) -> None:
    """Surely better: the low end of the learner's interval lies above the likelihood panel's share."""
    mine, theirs = pair_accuracy(judged)[-1], panel_share("hidden")
    if mine["low"] > theirs:
        return
    verdicts = Counter(map(preference, judged))
    counts = f"right in {verdicts['right']}, {verdicts['tie']} ties, {verdicts['missing']} without a rating"
    bar = f"The low end of your 95% interval is {mine['low']:.2f}; it must lie above the likelihood panel's {theirs:.2f}"
    missed = next(item for item in judged if preference(item) != "right")
    example = f"For instance {missed['instruction']!r}: {missed['ratings']}"
    raise Wrong(f"Of {len(judged)} hidden sums your judge is {counts}. {bar}. {example}.")
