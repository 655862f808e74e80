"""The dataset card: what was run, what came out, how to train on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from course_lib.distiset import Distiset
from course_lib.llms import LLM
from course_lib.steps.tasks.templating import environment

PRIVATE = ("out", "device", "push_to_hub")  # where a dataset lies is its maker's business, not the dataset's


def dataset_card(settings: Any, distiset: Distiset, llms: Sequence[LLM] = ()) -> str:
    """Markdown with the hub's metadata. It holds no times, so that equal runs have equal cards.

    Args:
        settings: `job.Settings`, what the run was told.
        llms: the models that took part, where `settings.llm` does not give them by their names.
    """
    rows = list(distiset["default"]["train"])
    models = {llm.model_name: llm for llm in llms or map(settings.llm, settings.models)}
    models |= {name: settings.llm(name) for name in distiset.report.models if name not in models}
    template = environment().get_template("card.jinja2")
    return template.render(
        options={f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in PRIVATE},
        models=list(models.values()),
        rows=rows,
        distiset=distiset,
        outcome=outcome(distiset),
        chosen=Counter(row["chosen_model"] for row in rows),
        rejected=Counter(row["rejected_model"] for row in rows),
    )


def outcome(distiset: Distiset) -> dict[str, int]:
    """How many rows and rewrites ended how."""
    report = distiset.report
    counts = {"instructions": report.rows_in, "pairs": report.rows_out}
    counts |= {f"no pair: {reason}": count for reason, count in sorted(report.drops.items())}
    rewrites = sorted(distiset.rewrite_outcomes().items())
    return counts | {f"rewrite by EvolQuality: {outcome}": count for outcome, count in rewrites}
