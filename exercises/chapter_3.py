"""Chapter 3, UltraFeedback: what the answers are checked for."""

import math
from statistics import mean

from course_lib.exercises.aspects import check_template
from course_lib.exercises.checks import agree, call, data, equal, expect, is_pair, require
from course_lib.exercises.choices import chosen_from, has_keys, number_in
from course_lib.exercises.faults import name_fault
from course_lib.exercises.my_dataset import check_completions, check_instructions, kept, rows_with
from course_lib.exercises.questions import question


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
)
def softmax_mean(answer):
    """A function of five logits, those of the ratings 1 to 5: the mean rating, a number from 1 to 5."""
    one_low = "that is one too low. Places in a list begin at 0, ratings at 1"
    misread = {
        one_low: lambda logits: _mean_rating(logits) - 1,
        "these are the five probabilities. One step is left: their mean rating": _softmax,
        "this is the likeliest rating. The mean weighs all five": likeliest_of,
        "this has the logits as weights. Make them probabilities first": lambda logits: (
            mean_of(logits) / (sum(logits) or 1)
        ),
    }
    agree(
        answer,
        _mean_rating,
        {f"the logits {logits}": (logits,) for logits in data("beliefs")["logits"]},
        misread,
    )


def _softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(logit) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _mean_rating(logits: list[float]) -> float:
    return round(mean_of(_softmax(logits)), 4)


@question(
    "🐢",
    "Write down the likeliest rating of both texts, then the mean of both. Which differs?",
    "Two distributions that are each the same from left and from right have the same mean, 3.",
    kind="concept",
)
def tie_breaker(answer):
    """A dict with the keys "first", "second" and "third": for each pair "mean", "likeliest" or "neither"."""
    tied = data("beliefs")["tied"]
    has_keys(answer, list(tied))
    for (name, pair), right in zip(tied.items(), ("mean", "likeliest", "neither"), strict=True):
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
    "Go through the scale from 1 upwards, and stop at the first step whose words fit the text.",
    "Politeness and length count too: is it just what was asked? A text that is right but buried in padding is not a 5.",
    kind="concept",
)
def by_the_scale(answer):
    """A dict from the name of each text to your rating, a number from 1 to 5."""
    texts = data("rated_twice")
    has_keys(answer, list(texts))
    away = {}
    for name, row in texts.items():
        rating = number_in(answer[name], 1, 5, f"a rating of {name!r}, a number")
        away[name] = max(0, min(row["ratings"]) - rating, rating - max(row["ratings"]))
    far, strays = max(away, key=away.get), sum(distance > 1 for distance in away.values())
    reasons = " / ".join(texts[far]["rationales"])
    readings = f"The two readings of {far!r} gave {texts[far]['ratings']}; you gave {answer[far]}. Their reasons: {reasons}"
    agreed = f"{len(texts) - strays} of your {len(texts)} ratings lie within a point of the readings; all but one must"
    require(strays < 2 and away[far] <= 2, f"{agreed}, and none more than two points off. {readings}")
    high = [name for name in texts if min(texts[name]["ratings"]) >= 4]
    above, below = (mean(float(answer[n]) for n in texts if (n in high) == good) for good in (True, False))
    means = f"Your mean is {above:.2f} for {', '.join(high)}, rated 4 or 5 in both readings, and {below:.2f} for the others"
    require(above - below > 1 - 1e-6, f"{means}. They are to lie at least a point apart.")
    return f"One slip is forgiven. {readings}" if strays else None


@question(
    "🐕",
    "The scale goes from 1 to 5. Both columns, chosen_rating and rejected_rating, can leave it, upwards and downwards.",
    "A rating stands against the choice where the rejected text is rated at least as high as the chosen one.",
    kind="fault",
)
def faulty_ratings(answer):
    """A dict of two lists of ids: "off the scale" and "against the choice"."""
    faults = ("off the scale", "against the choice")
    has_keys(answer, list(faults))
    for fault, other in zip(faults, faults[::-1], strict=True):
        exchanged = {f"these are the ids of ratings {other}": set(data("planted")[f"rating {other}"])}
        name_fault(answer[fault], f"rating {fault}", exchanged, "do not have this fault", f"{fault}: ")


@question(
    "🐕",
    "Turn the second list round first: its first rating belongs to the last text.",
    "The mean of two ratings is (a + b) / 2, how far they lie apart abs(a - b).",
)
def both_orders(answer):
    """A function of (forth, back): two lists (ratings, disagreement), an entry for each text in the order of `forth`."""
    unturned = "the second list seems not to be turned round. Its first rating is the last text's"
    for forth, back in data("beliefs")["orders"]:
        result, where = call(answer, forth, back), f"For {forth} and {back}"
        expect(is_pair(result), "two lists, ratings and disagreement", result, where)
        ratings, disagreement = _both(forth, back[::-1])
        equal(result[0], ratings, f"{where}, the ratings", {unturned: _both(forth, back)[0]})
        equal(result[1], disagreement, f"{where}, the disagreement")


def _both(forth, back):
    pairs = list(zip(forth, back, strict=True))
    return [(a + b) / 2 for a, b in pairs], [abs(a - b) for a, b in pairs]


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
    "One judge for all rows: next(judge.process(rows)) gives them back with the column `ratings`.",
    "Keep instruction, generations, generation_models and ratings: [{name: row[name] for name in names} for row in rated].",
    seconds=30,
)
def my_ratings(answer):
    """Your rows of chapter 2, with `ratings`: a number from 1 to 5 for each completion, in their order."""
    rows = rows_with(answer, ("instruction", "generations", "generation_models", "ratings"), 4)
    check_instructions(rows, kept(2)[0], 2)
    check_completions(rows)
    for number, row in enumerate(rows, 1):
        texts, ratings = row["generations"], row["ratings"]
        expect(isinstance(ratings, list | tuple), "a list of ratings", ratings, f"row {number}")
        count = f"Row {number} has {len(texts)} completions and {len(ratings)} ratings. N in, N out: one rating for each."
        require(len(ratings) == len(texts), count)
        numbers = [
            number_in(rating, 1, 5, f"a rating in row {number}, a number")
            for rating in ratings
            if rating is not None
        ]
        require(len(numbers) > 1, f"Row {number} has {len(numbers)} ratings that are numbers; it needs two.")
    apart = [row for row in rows if len({rating for rating in row["ratings"] if rating is not None}) > 1]
    require(apart, "In every row all ratings are the same: no pair. Use mode='logits', or another judge.")
