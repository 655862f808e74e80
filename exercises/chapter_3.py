"""Chapter 3, UltraFeedback: what the answers are checked for."""

import math

from course_lib.exercises.aspects import check_task, check_template
from course_lib.exercises.checks import agree, call, data, equal, excerpt, expect, is_pair
from course_lib.exercises.choices import chosen_from, has_keys
from course_lib.exercises.faults import faults_of, faulty_preferences, name_fault
from course_lib.exercises.questions import question

SHAPES = [
    [1.0, 0.0, 2.0, 0.5, 1.5],
    [0.0, 0.0, 0.0, 0.0, 0.0],
    [-1.0, 0.0, 0.0, 4.0, 3.0],
    [-math.inf, -math.inf, 0.0, 0.0, -math.inf],
    [1000.0, 1000.0, 0.0, 0.0, 0.0],
    [-800.0, -801.0, -900.0, -802.0, -800.0],
]
# Two texts each, and what the judge believes about them.
TIED = {
    "first": ([0.05, 0.10, 0.15, 0.45, 0.25], [0.10, 0.15, 0.20, 0.40, 0.15]),
    "second": ([0.05, 0.10, 0.70, 0.10, 0.05], [0.30, 0.05, 0.10, 0.45, 0.10]),
    "third": ([0.10, 0.20, 0.40, 0.20, 0.10], [0.20, 0.10, 0.40, 0.10, 0.20]),
}
BELIEFS = {
    "a": [0.02, 0.06, 0.17, 0.35, 0.40],
    "b": [0.44, 0.04, 0.02, 0.05, 0.45],
    "c": [0.05, 0.86, 0.06, 0.02, 0.01],
    "d": [0.16, 0.20, 0.27, 0.21, 0.16],
}


def mean_of(distribution) -> float:
    """The mean rating of five probabilities."""
    return sum(rating * p for rating, p in enumerate(distribution, start=1))


def likeliest_of(distribution) -> int:
    """The rating with the largest probability."""
    return 1 + list(distribution).index(max(distribution))


@question(
    "🐢",
    "Softmax: exp of each logit, divided by the sum of all five.",
    "The mean is 1 times the first probability plus 2 times the second, and so on.",
    "Subtract the largest logit from all before exp: the probabilities stay the same, and nothing overflows.",
)
def softmax_mean(answer):
    """A function of five logits, those of the ratings 1 to 5: the mean rating, a number from 1 to 5."""
    misread = {
        "that is one too low. Places in a list begin at 0, ratings at 1": lambda logits: (
            _mean_rating(logits) - 1
        ),
        "these are the five probabilities. One step is left: their mean rating": _softmax,
        "this is the likeliest rating. The mean weighs all five": likeliest_of,
        "this has the logits as weights. Make them probabilities first": _mean_by_logits,
    }
    agree(answer, _mean_rating, {f"the logits {logits}": (logits,) for logits in SHAPES}, misread)


def _softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _mean_rating(logits: list[float]) -> float:
    return round(mean_of(_softmax(logits)), 4)


def _mean_by_logits(logits: list[float]) -> float:
    return mean_of(logits) / (sum(logits) or 1)


@question(
    "🐢",
    "Write down the likeliest rating of both texts, then the mean of both. Which differs?",
    "Two distributions that are each the same from left and from right have the same mean, 3.",
    kind="concept",
)
def tie_breaker(answer):
    """A dict with the keys "first", "second" and "third": for each pair "mean", "likeliest" or "neither"."""
    has_keys(answer, list(TIED))
    for (name, pair), right in zip(TIED.items(), ("mean", "likeliest", "neither"), strict=True):
        tops, means = map(likeliest_of, pair), (round(mean_of(distribution), 2) for distribution in pair)
        likeliest = "in the {} pair the likeliest ratings are {} and {}, the means {} and {}."
        others = {"mean", "likeliest", "neither"} - {right}
        chosen_from(answer[name], right, dict.fromkeys(others, likeliest.format(name, *tops, *means)))


@question(
    "🐕",
    "A judge that is sure has put nearly all of its probability on one rating.",
    "Sure is not the same as pleased: a judge can be sure that a text is poor.",
    kind="plot",
)
def surest(answer):
    """The completion about which the judge is surest: "a", "b", "c" or "d"."""
    misread = {
        "a": "it has the highest mean, so the judge is pleased. But the probability lies on several ratings: it is not sure.",
        "b": "the judge is torn between 1 and 5; the mean of 3 is a rating it hardly believes in.",
        "d": "the bars are nearly flat: the judge could as well have said nothing.",
    }
    chosen_from(answer, "c", misread)


@question(
    "🐕",
    "Cut the reply at its headings first, then read each block on its own. A dict from number to block helps.",
    r're.split(r"^#### Text (\d+)$", reply, flags=re.M) gives the preamble, then number and block in turn.',
    "What stands in the line after 'Rating:' is a rating if float() reads it and it lies from 1 to 5. All else is None.",
)
def read_reply(answer):
    """A function of (reply, count): a list of `count` pairs (rating, reason), one of which is None."""
    for words, case in data("replies").items():
        result, where = call(answer, case["reply"], case["count"]), f"{words} ({excerpt(case['reply'])})"
        fits = isinstance(result, list | tuple) and len(result) == case["count"]
        expect(fits, f"a list of {case['count']} pairs: N in, N out", result, where)
        for number, (entry, expected) in enumerate(zip(result, case["expected"], strict=True), start=1):
            _entry_case(entry, expected, f"{where}, text {number}")


def _entry_case(entry, expected: float | str, where: str) -> None:
    """`expected`: the rating, or what the reason for None must hold."""
    expect(is_pair(entry), "a pair (rating, reason), such as (4.0, None)", entry, where)
    rating, reason = entry
    if not isinstance(expected, str):
        equal(rating, expected, f"{where}, the rating")
        equal(reason, None, f"{where}, the reason where there is a rating")
        return
    clipped = "do not clip: nobody knows what was meant, so the rating is None"
    misread = {clipped: rating} if expected and rating in (1, 5) else {}
    equal(rating, None, f"{where}, where there is no rating from 1 to 5", misread)
    shows = isinstance(reason, str) and reason.strip() and expected in reason
    expect(shows, f"a reason for None in words that show what stood there, {expected!r}", reason, where)


@question(
    "🐕",
    "The scale goes from 1 to 5. Both columns, chosen_rating and rejected_rating, can leave it.",
    "A rating stands against the choice where the rejected text is rated at least as high as the chosen one.",
    kind="fault",
)
def faulty_ratings(answer):
    """A dict of two lists of ids: "off the scale" and "against the choice"."""
    against = faults_of(faulty_preferences())["rating against the choice"]
    exchanged = "these are the ids of ratings against the choice; a rating of 10 is off the scale"
    misread = {"off the scale": {exchanged: against}, "against the choice": {}}
    has_keys(answer, list(misread))
    for fault, mistakes in misread.items():
        name_fault(answer[fault], f"rating {fault}", mistakes, where=f"{fault}: ")


# Ratings in the order of the texts, and ratings of the same texts shown in reverse.
ORDERS = [
    ([1, 2, 3], [1, 2, 3]),
    ([4.0, 2.0], [2.0, 4.0]),
    ([5, 3, 2, 1], [4, 2, 2, 1]),
    ([3, 4], [1, 3]),
    ([2.5], [4]),
    ([4, None, 2], [1, 3, 5]),
    ([1, 5], [None, 3]),
    ([None, 2], [4, None]),
    ([], []),
]


@question(
    "🐕",
    "Turn the second list round first: its first rating belongs to the last text.",
    "With one rating missing, the other one is the best you have; how far they lie apart is not known then.",
)
def both_orders(answer):
    """A function of (forth, back): two lists (ratings, disagreement), an entry for each text in the order of `forth`."""
    unturned = "the second list seems not to be turned round. Its first rating is the last text's"
    for forth, back in ORDERS:
        result, where = call(answer, forth, back), f"For {forth} and {back}"
        expect(is_pair(result), "two lists, ratings and disagreement", result, where)
        ratings, disagreement = _both(forth, back[::-1])
        equal(result[0], ratings, f"{where}, the ratings", {unturned: _both(forth, back)[0]})
        equal(result[1], disagreement, f"{where}, the disagreement")


def _both(forth, back):
    known = [[rating for rating in pair if rating is not None] for pair in zip(forth, back, strict=True)]
    ratings = [sum(pair) / len(pair) if pair else None for pair in known]
    return ratings, [abs(pair[0] - pair[1]) if len(pair) == 2 else None for pair in known]


@question(
    "🦁",
    "Three blocks: title, question and scale. The frame, which brings the instruction and the texts, comes with extends.",
    "The shipped one above has the form: change the words of its title, its question and its five steps.",
    "The scale has five lines, from '1. …' (worst) to '5. …' (best); say in each what such a text looks like.",
)
def aspect_template(answer):
    """The text of a Jinja template that extends `layout` and fills the blocks title, question and scale."""
    check_template(answer)


@question(
    "🦁",
    "format_input(row, aspect, shown) returns a chat: a system message and a user message. UltraFeedback does the rest.",
    "parsed(source)[0] compiles a template, and filled(it, layout=…, instruction=…, texts=…) gives the text of the prompt.",
    'The layout is shipped("ultrafeedback/_listwise") in text mode, shipped("ultrafeedback/_pointwise") in logits mode.',
    "Where `shown` is a list, the prompt is about these texts and not about row['generations'].",
)
def aspect_task(answer):
    """A subclass of UltraFeedback whose format_input asks about your aspect, in both modes."""
    check_task(answer)
