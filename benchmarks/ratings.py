"""What rating costs: text against logits with the same model, and the likelihood panel against logits with the same models.

    .venv/bin/python benchmarks/ratings.py [--instructions 64]

Four completions for each instruction, from the labelled items: its three answers, and the good answer to another one. The
models are loaded first and nothing is looked up. Each judge rates with its defaults, so text mode writes its rationales.
The table goes into docs/judges.md, between its markers.
"""

import argparse

from measuring import machine, seconds_of, table

from course_lib.judging import ANSWERS, labelled_items
from course_lib.llms import TransformersLLM
from course_lib.llms.weights import PACKAGED
from course_lib.steps.tasks import LikelihoodRating, Task, UltraFeedback

from judges import PAGE, with_costs  # isort: skip

SMALL, BASE = PACKAGED


def rows_of(count: int) -> list[dict]:
    """Rows of an instruction and four completions."""
    items = [item for part in ("report", "fit") for item in labelled_items(part)]
    shifted = [*items[1:], items[0]]
    rows = [
        {
            "instruction": item["instruction"],
            "generations": [*(item[name] for name in ANSWERS), other["good"]],
        }
        for item, other in zip(items, shifted, strict=True)
    ]
    return rows[:count]


def llm(name: str) -> TransformersLLM:
    return TransformersLLM(name, use_cache=False)


def seconds(judge: Task, rows: list[dict]) -> float:
    """Seconds to rate `rows`, after one row that warms up."""
    for model in judge.llms:
        model.load()
    list(judge.process(rows[:1]))
    taken = seconds_of(lambda: list(judge.process(rows)))
    judge.unload()
    print(f"{judge.name}, {[model.model_name for model in judge.llms]}: {taken:.1f} s", flush=True)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instructions", type=int, default=64)
    rows = rows_of(parser.parse_args().instructions)
    count = sum(len(row["generations"]) for row in rows)
    logits = {name: seconds(UltraFeedback(llm=llm(name), mode="logits"), rows) for name in PACKAGED}
    panel = seconds(LikelihoodRating(panel=[llm(name) for name in PACKAGED]), rows)
    text = seconds(UltraFeedback(llm=llm(SMALL)), rows)
    both = sum(logits.values())
    lines = [
        (f"UltraFeedback text, {SMALL}", text, f"{text / logits[SMALL]:.1f} × logits, {SMALL}"),
        (f"UltraFeedback logits, {SMALL}", logits[SMALL], f"1/{text / logits[SMALL]:.1f} of text, {SMALL}"),
        (f"UltraFeedback logits, {BASE}", logits[BASE], ""),
        ("UltraFeedback logits, one after the other", both, ""),
        ("likelihood, panel of both", panel, f"{panel / both:.2f} × logits, one after the other"),
    ]
    cells = [[name, f"{taken:.1f}", f"{taken / count:.3f}", ratio] for name, taken, ratio in lines]
    size = f"{count} completions ({len(rows)} instructions)"
    made = f"Made by `benchmarks/ratings.py`: {size}, no cache, models loaded. {machine()}."
    block = f"{made}\n\n{table(['judge', 'seconds', 's per rating', 'ratio'], cells)}"
    PAGE.write_text(with_costs(PAGE.read_text(encoding="utf-8"), block), encoding="utf-8")
    print(block)


if __name__ == "__main__":
    main()
