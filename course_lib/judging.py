"""Judges, and how good they are.

A judge is a task from rows with `instruction` and `generations` to `ratings`. Labelled items say which of three answers
is good, which is worse and which is off the topic; `rate_items` has a judge rate them, and the other functions read
what came out. Tables are lists of dicts, one per line.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from course_lib.errors import InputError
from course_lib.llms import TransformersLLM
from course_lib.llms.weights import PACKAGED
from course_lib.paths import DATA
from course_lib.steps.load import read_jsonl
from course_lib.steps.tasks import LikelihoodRating, RewardHeadRating, Task

Item = dict[str, Any]
ANSWERS = ("good", "worse", "off_topic")
PARTS = ("fit", "report", "fresh", "blind")  # of the labelled items
TIE = 0.005  # ratings closer than this are a tie: they would round to the same hundredth


def default_judge(device: str | None = None) -> RewardHeadRating:
    """The best judge that the packaged models allow (`docs/judges.md` compares them): a reward head on each, and more."""
    return RewardHeadRating(panel=[TransformersLLM(name, device=device) for name in PACKAGED])


def likelihood_panel(device: str | None = None) -> LikelihoodRating:
    """The mean log-likelihood under both packaged models: cheaper than the default, and weaker."""
    return LikelihoodRating(panel=[TransformersLLM(name, device=device) for name in PACKAGED])


def labelled_items(part: str = "report") -> list[Item]:
    """Items with `instruction`, `good`, `worse`, `off_topic`, `category` and `worse_kind`.

    Args:
        part: "fit", which the default judge was fitted on; "report", which it was not fitted on; "fresh" and "blind", which
            it was not fitted on either, and which other authors wrote later.
    """
    items = [item for item in read_jsonl(DATA / "labelled.jsonl") if item["part"] == part]
    if not items:
        raise InputError(f"There is no part {part!r}; allowed: {', '.join(map(repr, PARTS))}.")
    return items


def rate_items(judge: Task, items: Sequence[Item], order: Sequence[str] = ANSWERS) -> list[Item]:
    """The items with `ratings`, `{"good": float | None, "worse": …, "off_topic": …}`; `order` is the order shown."""
    rows = [
        {"instruction": item["instruction"], "generations": [item[name] for name in order]} for item in items
    ]
    ratings = [row["ratings"] for batch in judge.process(rows) for row in batch]
    return [
        {**item, "ratings": dict(zip(order, r, strict=True))} for item, r in zip(items, ratings, strict=True)
    ]


def preference(item: Item, better: str = "good", worse: str = "worse") -> str:
    """What the ratings of an item say: `right`, `wrong`, `tie`, or `missing` where a rating is None."""
    a, b = item["ratings"][better], item["ratings"][worse]
    if a is None or b is None:
        return "missing"
    if abs(a - b) < TIE:
        return "tie"
    return "right" if a > b else "wrong"


def pair_accuracy(
    judged: Sequence[Item], against: str = "worse", by: str | None = None
) -> list[dict[str, Any]]:
    """How often `good` is rated strictly above `against`, with a 95% Wilson interval; ties count as not right.

    Args:
        judged: items from `rate_items`.
        against: "worse" or "off_topic".
        by: a column to group by, such as "category" or "worse_kind".

    Returns:
        Lines `{"group", "items", "accuracy", "low", "high", "ties", "missing"}`, shares from 0 to 1; the last one is `all`.
    """
    groups = sorted({item[by] for item in judged}) if by else []
    lines = [_accuracy_line(str(g), [item for item in judged if item[by] == g], against) for g in groups]
    return [*lines, _accuracy_line("all", judged, against)]


def _accuracy_line(group: str, items: Sequence[Item], against: str) -> dict[str, Any]:
    outcomes = [preference(item, worse=against) for item in items]
    low, high = wilson_interval(outcomes.count("right"), len(outcomes))
    right, tie, missing = (_share(outcomes, outcome) for outcome in ("right", "tie", "missing"))
    line = {"group": group, "items": len(items), "accuracy": right, "low": low, "high": high}
    return {**line, "ties": tie, "missing": missing}


def _share(outcomes: Sequence[Any], outcome: Any) -> float:
    return outcomes.count(outcome) / len(outcomes) if outcomes else math.nan


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval for a share (Wilson 1927), 95% by default; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def swap_agreement(judge: Task, items: Sequence[Item], against: str = "worse") -> dict[str, float]:
    """Does the order in which answers are shown change the verdict?

    Returns:
        Shares from 0 to 1: `agreement` of the verdicts in both orders, how often the verdict favours the answer shown
        `first` and `second`, and how often there is none because a rating is `missing` (ties make up the rest).
    """
    orders = [("good", against), (against, "good")]
    first, second = (
        [preference(item, worse=against) for item in rate_items(judge, items, order)] for order in orders
    )
    favoured = [{"right": "first", "wrong": "second"}.get(verdict, verdict) for verdict in first]
    favoured += [{"right": "second", "wrong": "first"}.get(verdict, verdict) for verdict in second]
    agreed = [a == b != "missing" for a, b in zip(first, second, strict=True)]
    shares = {name: _share(favoured, name) for name in ("first", "second", "missing")}
    return {"agreement": _share(agreed, True), **shares}


def length_bias(judged: Sequence[Item]) -> dict[str, float]:
    """Does the judge take long for good?

    Returns:
        `correlation` of rating and number of characters over all answers (Spearman's rank correlation, −1 to 1), and the
        accuracy good > worse where the worse answer is the longer one (`worse_longer`) and where it is not.
    """
    pairs = [(len(i[n]), i["ratings"][n]) for i in judged for n in ANSWERS if i["ratings"].get(n) is not None]
    longer = [item for item in judged if len(item["worse"]) > len(item["good"])]
    shorter = [item for item in judged if len(item["worse"]) <= len(item["good"])]
    return {
        "correlation": spearman(*zip(*pairs, strict=True)) if pairs else math.nan,
        "worse_longer": _accuracy_line("", longer, "worse")["accuracy"],
        "worse_not_longer": _accuracy_line("", shorter, "worse")["accuracy"],
    }


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation, ties sharing their mean rank; nan if one side is constant."""
    ranks = [_ranks(values) for values in (a, b)]
    if min(len(set(r)) for r in ranks) < 2:
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    values = np.asarray(values, dtype=float)
    return [float(((values < v).sum() + (values <= v).sum() + 1) / 2) for v in values]


def self_preference(judges: dict[str, Task], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Do judges favour what their own model wrote?

    Args:
        judges: by name.
        rows: with `instruction`, `generations` and `generation_models`.

    Returns:
        A line per judge: `judge`, and for each generator the mean rating, less that judge's mean over all completions.
    """
    generators = list(dict.fromkeys(name for row in rows for name in row["generation_models"]))
    lines = []
    for name, judge in judges.items():
        ratings: dict[str, list[float]] = {generator: [] for generator in generators}
        for row in (row for batch in judge.process([dict(row) for row in rows]) for row in batch):
            for generator, rating in zip(row["generation_models"], row["ratings"], strict=True):
                ratings[generator] += [] if rating is None else [rating]
        middle = float(np.mean([rating for own in ratings.values() for rating in own]))
        lines.append({"judge": name, **{g: float(np.mean(own)) - middle for g, own in ratings.items()}})
    return lines


def calibration(
    judged: Sequence[Item], bins: int = 5, against: Iterable[str] = ("worse", "off_topic")
) -> list[dict[str, Any]]:
    """Is a large difference of ratings a surer verdict?

    Returns:
        Lines, pairs sorted by the size of their difference and cut into `bins` of equal count: `difference` (mean, in
        points), `accuracy` (share in which the good answer is the higher one), `pairs`.
    """
    pairs = [(item["ratings"]["good"], item["ratings"][other]) for item in judged for other in against]
    gaps = [good - other for good, other in pairs if good is not None and other is not None]
    gaps.sort(key=abs)
    return [
        {
            "difference": float(np.abs(part).mean()),
            "accuracy": float((part >= TIE).mean()),
            "pairs": len(part),
        }
        for part in np.array_split(np.array(gaps), bins)
        if len(part)
    ]


def cost_per_rating(make_judge: Callable[[], Task], items: Sequence[Item]) -> dict[str, float]:
    """Seconds per rating, computed anew with the models loaded; `make_judge` gives a judge without results at hand."""
    judge = make_judge()
    for llm in judge.llms:
        llm.use_cache = False
        llm.load()
    started = time.perf_counter()
    rate_items(judge, items)
    seconds = time.perf_counter() - started
    judge.unload()
    ratings = len(items) * len(ANSWERS)
    return {"seconds_per_rating": seconds / ratings, "ratings": ratings}


def sides(judged: Sequence[Item], against: str = "worse") -> list[str]:
    """The verdicts as `A`, `B`, `tie` or `missing`, as if the good answer stood in place A in every other item, else in B.

    For `cohens_kappa`: labels that always say `right` never vary, and kappa with them is 0 by definition. The labels
    themselves are `A`, `B`, `A`, `B`, …
    """
    letters = [{"right": "A", "wrong": "B"}, {"right": "B", "wrong": "A"}]
    verdicts = [preference(item, worse=against) for item in judged]
    return [letters[place % 2].get(verdict, verdict) for place, verdict in enumerate(verdicts)]


def cohens_kappa(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Agreement of two raters beyond chance (Cohen 1960): 1 full, 0 as chance would give; nan if neither varies.

    Args:
        a, b: the verdict of each on the same things, such as `["A", "tie", "B", …]` from `sides`.
    """
    if len(a) != len(b) or not a:
        raise InputError(
            f"{len(a)} and {len(b)} verdicts; allowed: one of each rater for every thing judged."
        )
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    chance = sum((list(a).count(v) / len(a)) * (list(b).count(v) / len(b)) for v in set(a) | set(b))
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan
