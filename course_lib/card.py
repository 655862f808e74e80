"""The dataset card: what was run, what came out, how to train on it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from course_lib.distiset import Distiset
from course_lib.llms import LLM
from course_lib.steps.tasks.templating import environment


def dataset_card(options: Mapping[str, Any], llms: Sequence[LLM], distiset: Distiset) -> str:
    """Markdown with the hub's metadata. It holds no times, so that equal runs have equal cards.

    Args:
        options: what the run was told, by name.
        llms: the models that wrote or rated, each with `model_name`, `source` and `licence`.
    """
    rows = list(distiset["default"]["train"])
    return (
        environment()
        .get_template("card.jinja2")
        .render(
            options=options,
            models=[_model(llm) for llm in llms],
            report=distiset.report,
            rows=rows,
            dropped=distiset.dropped_rows(),
            rewrites=distiset.rewrite_outcomes(),
            chosen=Counter(row["chosen_model"] for row in rows),
            rejected=Counter(row["rejected_model"] for row in rows),
        )
    )


def _model(llm: LLM) -> dict[str, str]:
    # Only models that are read from files have weights that know where they come from.
    about = getattr(llm, "weights", llm)
    licence = getattr(about, "licence", "") or "not known"
    return {"name": llm.model_name, "source": getattr(about, "source", ""), "licence": licence}
