"""The dataset card: what was run, what came out, how to train on it."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from course_lib.distiset import Distiset
from course_lib.llms import LLM
from course_lib.settings import Settings
from course_lib.steps.tasks.templating import environment
from course_lib.tables import visible

PRIVATE = ("out", "device", "push_to_hub")  # where a dataset lies is its maker's business, not the dataset's


def dataset_card(settings: Settings, distiset: Distiset, llms: Sequence[LLM] = ()) -> str:
    """Markdown with the hub's metadata. It holds no times, so that equal runs have equal cards.

    Args:
        settings: what the run was told.
        llms: the models that took part, where `settings.llm` does not give them by their names.
    """
    rows = list(distiset["default"]["train"])
    models = {llm.model_name: llm for llm in llms or map(settings.llm, settings.models)}
    models |= {name: settings.llm(name) for name in distiset.report.models if name not in models}
    options = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in PRIVATE}
    options["instructions"] = settings.instructions or "(shipped with the course)"
    template = environment().get_template("card.jinja2")
    return template.render(
        cell=cell,
        options={name: value for name, value in options.items() if value is not None},
        models=list(models.values()),
        rows=rows,
        distiset=distiset,
        outcome=outcome(distiset),
        chosen=Counter(row["chosen_model"] for row in rows),
        rejected=Counter(row["rejected_model"] for row in rows),
    )


def cell(value: Any) -> str:
    """Any text as a cell of a Markdown table: one line, no markup."""
    return re.sub(r"[\\<|`]|\]\(", r"\\\g<0>", visible(" ".join(str(value).split())))


def outcome(distiset: Distiset) -> dict[str, Any]:
    """What became of columns, rows and completions, a line for each."""
    report, rows = distiset.report, [*distiset["default"]["train"], *distiset.dropped_rows()]
    lines = {"instructions": report.rows_in, "pairs": report.rows_out}
    lines |= {f"no pair: {reason}": count for reason, count in sorted(report.drops.items())}
    rewrites = sorted(distiset.rewrite_outcomes().items())
    lines |= {f"rewrite by EvolQuality: {outcome}": count for outcome, count in rewrites}
    if count := sum(_cut_off(row.get("distilabel_metadata") or {}) for row in rows):
        lines["completions cut off at max_new_tokens"] = count
    return lines | {f"columns {use}": ", ".join(names) for use, names in report.columns.items()}


def _cut_off(metadata: dict[str, Any]) -> int:
    written = [
        value or {} for name, value in metadata.items() if name.startswith("statistics_text_generation")
    ]
    return sum(statistics.get("finish_reason") == "length" for statistics in written)
