"""The dataset card: what was run, what came out, how to train on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from course_lib.distiset import Distiset
from course_lib.llms import LLM
from course_lib.steps.tasks.templating import environment


def dataset_card(settings: Any, distiset: Distiset, llms: Sequence[LLM] = ()) -> str:
    """Markdown with the hub's metadata. It holds no times, so that equal runs have equal cards.

    Args:
        settings: `job.Settings`, what the run was told.
        llms: the models that wrote or rated, where others took part than `settings.llm` gives by their names.
    """
    report, rows = distiset.report, list(distiset["default"]["train"])
    used = {llm.model_name: llm for llm in [*map(settings.llm, settings.models), *llms]}
    used |= {name: settings.llm(name) for name in report.models if name not in used}
    # Where the dataset lies is the reader's business, not the dataset's.
    options = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in ("out", "device")}
    return (
        environment()
        .get_template("card.jinja2")
        .render(
            options=options,
            models=list(used.values()),
            report=report,
            rows=rows,
            dropped=distiset.dropped_rows(),
            rewrites=distiset.rewrite_outcomes(),
            chosen=Counter(row["chosen_model"] for row in rows),
            rejected=Counter(row["rejected_model"] for row in rows),
        )
    )
