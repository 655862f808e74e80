"""Made-up items of chapter 4: those of a judge that nobody asked, and sums that a judge may be asked about."""

import random
from functools import cache

from course_lib.judging import Item, likelihood_panel, pair_accuracy, rate_items

# What a made-up judge did in each category: (right, ties, items). The longest bars are not the surest ones.
TRIAL = {
    "advice": (5, 0, 6),
    "creative": (9, 1, 12),
    "explanation": (20, 14, 40),
    "facts": (56, 0, 80),
    "format": (18, 0, 20),
    "how-to": (66, 4, 100),
    "reasoning": (11, 3, 40),
}
# By sign: its word, and how much larger the first number may be than the second.
SIGNS = {"+": ("plus", 305, 360), "−": ("minus", 5, 60), "×": ("times", 5, 60)}
QUESTIONS = (
    "What is {a} {sign} {b}?",
    "{a} {sign} {b} = ? Just the number.",
    "How much is {a} {word} {b}?",
    "Please work out {a} {sign} {b} for me.",
)
RESULTS = (
    "{n:,}",
    "{a} {sign} {b} = {n:,}.",
    "That makes {n:,}. I took {a} and {b} from your question.",
    "The answer is {n:,}, since {a} {sign} {b} is {n:,}.",
)
ERRORS = (10, -1, 100, -10, 1, 20)
SUMS = 12


def trial() -> list[Item]:
    """Rated items of a made-up judge, in seven categories: what the figure shows."""
    items = []
    for category, (right, ties, count) in TRIAL.items():
        for ratings, times in (((4.2, 3.1), right), ((3.6, 3.6), ties), ((2.9, 3.8), count - right - ties)):
            items += [item_of(*ratings, category=category) for _ in range(times)]
    return items


def item_of(good: float | None, worse: float | None, **columns) -> Item:
    """A rated item."""
    return {"ratings": {"good": good, "worse": worse}, **columns}


def sums(part: str = "practice") -> list[Item]:
    """Twelve items with `instruction`, `good` and `worse`: a sum, and its result said rightly and wrongly in the same words."""
    rng = random.Random(part)
    items = []
    for k in range(SUMS):
        sign, b = "+−×"[k % 3], rng.randint(12, 89)
        word, *larger_by = SIGNS[sign]
        # Once, the right result is one of the numbers in the question.
        a = 2 * b if k == 4 else b + rng.randint(*larger_by)
        words = {"a": a, "b": b, "sign": sign, "word": word}
        right, error = {"+": a + b, "−": a - b, "×": a * b}[sign], rng.choice(ERRORS)
        results = {"good": right, "worse": right + error}
        texts = {name: RESULTS[k // 3].format(n=n, **words) for name, n in results.items()}
        items.append({"id": f"{part}-{k}", "instruction": QUESTIONS[k % 4].format(**words), **texts})
    return items


@cache
def panel_share(part: str) -> float:
    """The share of `sums(part)` in which the likelihood panel rates the good answer higher."""
    return pair_accuracy(rate_items(likelihood_panel(), sums(part), ("good", "worse")))[-1]["accuracy"]
