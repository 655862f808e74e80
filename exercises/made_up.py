"""Made-up items of chapter 4, rated by a judge that nobody asked."""

from course_lib.judging import Item

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
