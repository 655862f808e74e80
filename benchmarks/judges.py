"""All judges on the labelled items, side by side: writes docs/judges.md.

    .venv/bin/python benchmarks/judges.py [--part report] [--timed N]

Accuracy comes from the cache where it can; the cost is computed anew on the first N items, models loaded.
"""

import argparse
import os
import platform
from pathlib import Path

from course_lib.judging import (
    cost_per_rating,
    default_judge,
    labelled_items,
    length_bias,
    likelihood_panel,
    pair_accuracy,
    rate_items,
    swap_agreement,
)
from course_lib.llms import TransformersLLM
from course_lib.llms.weights import PACKAGED
from course_lib.steps.tasks import LikelihoodRating, RewardHeadRating, Task, UltraFeedback, YesNoRating

PAGE = Path(__file__).parent.parent / "docs" / "judges.md"
SMALL, BASE = PACKAGED
COSTS = "<!-- costs: made by benchmarks/ratings.py -->", "<!-- end of costs -->"


def judges() -> dict[str, Task]:
    """Every judge that the packaged models allow, by the name that the table gives it."""

    def llm(name: str) -> TransformersLLM:
        return TransformersLLM(name)

    return {
        f"UltraFeedback text, {SMALL}": UltraFeedback(llm=llm(SMALL), rationales=False),
        f"UltraFeedback text, both orders, {SMALL}": UltraFeedback(llm=llm(SMALL), rationales=False, swap=True),
        f"UltraFeedback logits, {SMALL}": UltraFeedback(llm=llm(SMALL), mode="logits"),
        f"UltraFeedback logits, {BASE}": UltraFeedback(llm=llm(BASE), mode="logits"),
        f"yes or no, {SMALL}": YesNoRating(llm=llm(SMALL)),
        f"yes or no, {BASE}": YesNoRating(llm=llm(BASE)),
        f"likelihood, {SMALL}": LikelihoodRating(panel=[llm(SMALL)]),
        f"likelihood, {BASE}": LikelihoodRating(panel=[llm(BASE)]),
        "likelihood, panel of both": likelihood_panel(),
        f"reward head, {SMALL}": RewardHeadRating(panel=[llm(SMALL)]),
        "**default**": default_judge(),
    }


def line(name: str, judge: Task, items: list, timed: list) -> list[str]:
    judged = rate_items(judge, items)
    worse, off = (pair_accuracy(judged, against)[-1] for against in ("worse", "off_topic"))
    bias = length_bias(judged)
    # Pointwise judges see one text at a time, so only a listwise one can mind the order.
    listwise = isinstance(judge, UltraFeedback) and judge.mode == "text"
    swapped = f"{swap_agreement(judge, items)['agreement']:.2f}" if listwise else "1.00 (pointwise)"
    judge.unload()
    cost = cost_per_rating(lambda: judges()[name], timed)["seconds_per_rating"]
    shares = [f"{one['accuracy']:.2f} ({one['low']:.2f}–{one['high']:.2f})" for one in (worse, off)]
    return [name, *shares, f"{worse['ties']:.2f}", f"{bias['worse_longer']:.2f}", swapped, f"{cost:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="report")
    parser.add_argument("--timed", type=int, default=8)
    options = parser.parse_args()
    items = labelled_items(options.part)
    head = [
        "judge",
        "good > worse",
        "good > off-topic",
        "ties",
        "good > worse, worse is longer",
        "same verdict swapped",
        "s per rating",
    ]
    rows = [line(name, judge, items, items[: options.timed]) for name, judge in judges().items()]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])
    costs = costs_of(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else ""
    PAGE.write_text(with_costs(page(table, kinds_table(items), len(items), options), costs), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def costs_of(text: str) -> str:
    """What stands between the markers of costs."""
    start, end = COSTS
    return text.split(start)[1].split(end)[0].strip() if start in text else ""


def with_costs(text: str, costs: str) -> str:
    """The page with `costs` between its markers, in place of what stood there."""
    start, end = COSTS
    before, rest = text.split(start)
    return f"{before}{start}\n\n{costs}\n\n{end}{rest.split(end)[1]}"


def kinds_table(items: list) -> str:
    """Good > worse of the default judge by what is wrong with the worse answer."""
    lines = pair_accuracy(rate_items(default_judge(), items), by="worse_kind")
    cells = [["what is wrong", "items", "good > worse"]] + [["---"] * 3]
    cells += [[one["group"], str(one["items"]), f"{one['accuracy']:.2f} ({one['low']:.2f}–{one['high']:.2f})"] for one in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def page(table: str, kinds: str, count: int, options) -> str:
    return f"""# Which judge to trust

Made by `benchmarks/judges.py` on {count} labelled items (part `{options.part}`; the judges were fitted on `fit`). Shares
with 95% Wilson intervals; a tie counts as not right. Cost: {options.timed * 3} ratings with loaded models and no cache, on
{platform.machine()}, {os.cpu_count()} cores; read it as a ratio.

{table}

## The default judge by kind of fault

{kinds}

A reward head reads tone, form, completeness and relevance from a small model's hidden states. What a model of this size
does not know, its head cannot see either: read the line `wrong`. For facts, ask a larger model.

## What a rating costs

{COSTS[0]}
{COSTS[1]}
"""


if __name__ == "__main__":
    main()
