"""Judges, and how good they are.

A judge is a step from rows with `instruction` and `generations` to `ratings`. Labelled items say which of
three answers is good, which is worse and which is off the topic; `rate_items` has a judge rate them, and the
other functions read what came out. Tables are lists of dicts, one per line; shares go from 0 to 1.
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
from course_lib.steps import Step
from course_lib.steps.load import read_jsonl
from course_lib.steps.tasks import LikelihoodRating, RewardHeadRating

Item = dict[str, Any]
ANSWERS = ("good", "worse", "off_topic")
PARTS = ("fit", "report", "fresh", "blind")  # of the labelled items
TIE = 0.005  # ratings closer than this are a tie: they hardly differ at two decimals


def default_judge(device: str | None = None) -> RewardHeadRating:
    """The best judge that the packaged models allow: reward heads, and more (see `docs/judges.md`)."""
    return RewardHeadRating(panel=[TransformersLLM(name, device=device) for name in PACKAGED])


def likelihood_panel(device: str | None = None) -> LikelihoodRating:
    """The mean log-likelihood under both packaged models: cheaper than the default, and weaker."""
    return LikelihoodRating(panel=[TransformersLLM(name, device=device) for name in PACKAGED])


def labelled_items(part: str = "report") -> list[Item]:
    """Items with `instruction`, `good`, `worse`, `off_topic`, `category` and `worse_kind`.

    The default judge was fitted on the part "fit", and on pairs of real output (`data/real_fit.jsonl`); other authors wrote
    "fresh" and "blind".
    """
    items = [item for item in read_jsonl(DATA / "labelled.jsonl") if item["part"] == part]
    if not items:
        raise InputError(f"There is no part {part!r}; allowed: {', '.join(map(repr, PARTS))}.")
    return items


def real_pairs(contested: bool = False) -> list[Item]:
    """Pairs of completions that the packaged models wrote, labelled by six readings (`data/real_pairs.md`).

    Items with `instruction`, `good`, `worse`, `good_model`, `worse_model`, `readings`: those on which all readings agree, or
    the `contested` ones. They have no `off_topic`, so rate them in the order ("good", "worse").
    """
    items = read_jsonl(DATA / "real_pairs.jsonl")
    agreed = max(sum(item["readings"].values()) for item in items)
    return [item for item in items if (item["readings"]["good"] < agreed) == contested]


def rate_items(judge: Step, items: Sequence[Item], order: Sequence[str] = ANSWERS) -> list[Item]:
    """The items with `ratings`, `{"good": float | None, …}`; `order` is that in which the judge sees them."""
    rows = [{"instruction": i["instruction"], "generations": [i[name] for name in order]} for i in items]
    rated = (dict(zip(order, row["ratings"], strict=True)) for batch in judge.process(rows) for row in batch)
    return [{**item, "ratings": ratings} for item, ratings in zip(items, rated, strict=True)]


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
    """How often `good` is rated strictly above `against`, with a 95% Wilson interval; ties are not right.

    Lines `{"group", "items", "accuracy", "low", "high", "ties", "missing"}`, one for each value of the column
    `by` ("category", "worse_kind"), if given; the last one is `all`. `judged` comes from `rate_items`.
    """
    groups = sorted({item[by] for item in judged}) if by else []
    lines = [_accuracy_line(str(g), [item for item in judged if item[by] == g], against) for g in groups]
    return [*lines, _accuracy_line("all", judged, against)]


def _accuracy_line(group: str, items: Sequence[Item], against: str) -> dict[str, Any]:
    verdicts = [preference(item, worse=against) for item in items]
    low, high = wilson_interval(verdicts.count("right"), len(verdicts))
    accuracy, ties, missing = (_share(verdicts, verdict) for verdict in ("right", "tie", "missing"))
    line = {"group": group, "items": len(items), "accuracy": accuracy, "low": low, "high": high}
    return {**line, "ties": ties, "missing": missing}


def _share(values: Sequence[Any], value: Any) -> float:
    return values.count(value) / len(values) if values else math.nan


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval for a share (Wilson 1927), 95% by default; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def swap_agreement(judge: Step, items: Sequence[Item], against: str = "worse") -> dict[str, float]:
    """Does the order in which answers are shown change the verdict?

    The share of `agreement` in both orders, how often the verdict favours the answer shown `first` and
    `second`, and how often there is none because a rating is `missing` (ties make up the rest).
    """
    orders = {("good", against): ("first", "second"), (against, "good"): ("second", "first")}
    verdicts, favoured = [], []
    for order, (right, wrong) in orders.items():
        verdicts.append([preference(item, worse=against) for item in rate_items(judge, items, order)])
        favoured += [{"right": right, "wrong": wrong}.get(verdict, verdict) for verdict in verdicts[-1]]
    agreed = [a == b != "missing" for a, b in zip(*verdicts, strict=True)]
    shares = {name: _share(favoured, name) for name in ("first", "second", "missing")}
    return {"agreement": _share(agreed, True), **shares}


def length_bias(judged: Sequence[Item]) -> dict[str, float]:
    """Does the judge take long for good?

    The `correlation` of rating and number of characters over all answers (Spearman's), and the accuracy good
    > worse where the worse answer is the longer one (`worse_longer`) and where it is not.
    """
    pairs = [(len(i[n]), i["ratings"][n]) for i in judged for n in ANSWERS if i["ratings"].get(n) is not None]
    bias = {"correlation": spearman(*zip(*pairs, strict=True)) if pairs else math.nan}
    for name, longer in {"worse_longer": True, "worse_not_longer": False}.items():
        items = [item for item in judged if (len(item["worse"]) > len(item["good"])) == longer]
        bias[name] = _accuracy_line(name, items, "worse")["accuracy"]
    return bias


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation, ties sharing their mean rank; nan if one side is constant."""
    if min(len(set(values)) for values in (a, b)) < 2:
        return math.nan
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    values = np.asarray(values, dtype=float)
    return [((values < value).sum() + (values <= value).sum() + 1) / 2 for value in values]


def self_preference(judges: dict[str, Step], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Do judges favour what their own model wrote? `rows` have `generations` and `generation_models`.

    A line per judge: `judge`, and for each generator the mean rating, less that judge's mean over all.
    """
    lines = []
    for name, judge in judges.items():
        ratings: dict[str, list[float]] = {}
        for row in (row for batch in judge.process([dict(row) for row in rows]) for row in batch):
            for generator, rating in zip(row["generation_models"], row["ratings"], strict=True):
                ratings.setdefault(generator, []).extend([] if rating is None else [rating])
        middle = float(np.mean([rating for own in ratings.values() for rating in own]))
        lines.append({"judge": name, **{g: float(np.mean(own)) - middle for g, own in ratings.items()}})
    return lines


def calibration(
    judged: Sequence[Item], bins: int = 5, against: Iterable[str] = ("worse", "off_topic")
) -> list[dict[str, Any]]:
    """Is a large difference of ratings a surer verdict?

    Pairs sorted by the size of their difference and cut into `bins` of equal count, a line for each:
    `difference` (mean, in points), `accuracy` (share in which the good answer is the higher one) with `low` and `high`
    of its 95% interval, `pairs`.
    """
    pairs = [(item["ratings"]["good"], item["ratings"][other]) for item in judged for other in against]
    gaps = sorted((good - other for good, other in pairs if good is not None and other is not None), key=abs)
    lines = []
    for part in filter(len, np.array_split(np.array(gaps), bins)):
        right, difference = int((part >= TIE).sum()), float(np.abs(part).mean())
        low, high = wilson_interval(right, len(part))
        line = {"difference": difference, "accuracy": right / len(part), "low": low, "high": high}
        lines.append({**line, "pairs": len(part)})
    return lines


def cost_per_rating(make_judge: Callable[[], Step], items: Sequence[Item]) -> dict[str, float]:
    """Seconds per rating, computed anew with the models loaded; `make_judge` gives a new judge."""
    judge = make_judge()
    for llm in judge.llms:
        llm.use_cache = False
        llm.load()
    start = time.perf_counter()
    rate_items(judge, items)
    seconds = time.perf_counter() - start
    judge.unload()
    ratings = len(items) * len(ANSWERS)
    return {"seconds_per_rating": seconds / ratings, "ratings": ratings}


def sides(judged: Sequence[Item], against: str = "worse") -> list[str]:
    """The verdicts as `A`, `B`, `tie` or `missing`, were the good answer A of every other item, else B.

    For `cohens_kappa` with labels that go `A`, `B`, `A`, `B`, …: with labels that never vary it is always 0.
    """
    letters = [{"right": "A", "wrong": "B"}, {"right": "B", "wrong": "A"}]
    verdicts = [preference(item, worse=against) for item in judged]
    return [letters[place % 2].get(verdict, verdict) for place, verdict in enumerate(verdicts)]


def cohens_kappa(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Agreement of two raters beyond chance (Cohen 1960): 1 full, 0 as by chance; nan if neither varies."""
    if len(a) != len(b) or not a:
        raise InputError(
            f"{len(a)} and {len(b)} verdicts; allowed: one of each rater for every thing judged."
        )
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    chance = sum((list(a).count(v) / len(a)) * (list(b).count(v) / len(b)) for v in set(a) | set(b))
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan
