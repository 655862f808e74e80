"""The dataset card: what was run, what came out, how to train on it."""

from dataclasses import fields
from typing import Any

from course_lib.distiset import Distiset
from course_lib.job import Settings, dropped_rows, rewrite_outcomes
from course_lib.llms.weights import resolve
from course_lib.steps.tasks.templating import environment


def dataset_card(settings: Settings, distiset: Distiset) -> str:
    """Markdown with the hub's metadata. It holds no times, so that equal runs have equal cards."""
    report = distiset.report
    rows = list(distiset["default"]["train"])
    # Where the dataset lies is the reader's business, not the dataset's.
    options = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in ("out", "device")}
    used = {name: resolve(name) for name in dict.fromkeys([*settings.models, *report.models])}
    return (
        environment()
        .get_template("card.jinja2")
        .render(
            options=options,
            models=used.values(),
            report=report,
            rows=rows,
            dropped=dropped_rows(distiset),
            rewrites=rewrite_outcomes(distiset),
            chosen=_counts(rows, "chosen_model"),
            rejected=_counts(rows, "rejected_model"),
        )
    )


def _counts(rows: list[dict[str, Any]], column: str) -> dict[str, int]:
    names = sorted({row[column] for row in rows})
    return {name: sum(row[column] == name for row in rows) for name in names}
