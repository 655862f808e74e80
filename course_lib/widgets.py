"""Widgets for the lessons, by chapter: thin views over plain functions, which can be called without a widget.

Text of models is escaped everywhere. Each widget has a static form, a table, for readers without a kernel.
"""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

import ipywidgets as ipw

from course_lib import judging, plots
from course_lib.errors import InputError
from course_lib.labels import label_pairs, read_labels
from course_lib.steps.base import DROP_REASON
from course_lib.steps.formatting import FormatTextGenerationDPO
from course_lib.tables import MOST, Table, as_text, facts, grid, paragraph, rest_of, shown
from course_lib.views import View, checked_rows, control, picture, row_dropdown, slider

__all__ = [
    "before_after",
    "completion_explorer",
    "judge_bench",
    "label_pairs",
    "margin_slider",
    "rating_browser",
    "read_labels",
    "table",
]

Row = Mapping[str, Any]
table = Table  # as lessons call it
MARKS = {
    "del": "text-decoration: line-through; background: rgba(213, 94, 0, 0.25); color: inherit;",
    "ins": "text-decoration: underline; background: rgba(0, 114, 178, 0.25); color: inherit;",
}


def side_by_side(
    llms: Mapping[str, Any], instruction: str, system_prompt: str = "", **sampling: Any
) -> list[dict[str, Any]]:
    """One completion by each model, as rows `{"model", "completion"}`; None where a model could not write.

    Args:
        sampling: for `LLM.generate`, such as `temperature`, `top_p`, `max_new_tokens` and `seed`.

    Raises:
        InputError: no model, an empty instruction, or a sampling argument out of range.
    """
    if not llms:
        raise InputError("No model is chosen. Choose at least one.")
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError("The instruction is empty. Write what the models should answer.")
    system = [{"role": "system", "content": system_prompt}] if (system_prompt or "").strip() else []
    chat = [*system, {"role": "user", "content": instruction}]
    results = {name: llm.generate([chat], **sampling)[0] for name, llm in llms.items()}
    return [{"model": name, "completion": result["generations"][0]} for name, result in results.items()]


def completion_explorer(
    llms: Mapping[str, Any], instruction: str, system_prompt: str = "", max_new_tokens: int = 48
) -> View:
    """Change what the models are asked and how they sample, press "Write", and compare. `side_by_side` does the work."""
    question = control(ipw.Textarea, "instruction", value=instruction, rows=3)
    system = control(ipw.Text, "system prompt", value=system_prompt)
    sliders = [slider("temperature", 0.7, 0, 1.5, 0.1), slider("top-p", 1.0, 0.1, 1, 0.05)]
    seed = control(ipw.BoundedIntText, "seed", value=0, max=1_000_000)
    checks = [control(ipw.Checkbox, name, value=True, indent=False) for name in llms]
    button = ipw.Button(description="Write", button_style="primary")

    def draw() -> str:
        models = {name: llm for (name, llm), check in zip(llms.items(), checks, strict=True) if check.value}
        temperature, top_p = (round(slider.value, 2) for slider in sliders)
        sampling = {"temperature": temperature, "top_p": top_p, "seed": seed.value}
        rows = side_by_side(models, question.value, system.value, max_new_tokens=max_new_tokens, **sampling)
        texts = [row["completion"] or "(wrote nothing)" for row in rows]
        numbers = f"temperature {temperature:.2f}, top-p {top_p:.2f}, seed {seed.value}, at most {max_new_tokens} tokens"
        return grid(list(models), [texts], "width: 100%; table-layout: fixed;") + paragraph(numbers)

    view = View("Completions side by side", [question, system, *sliders, seed, *checks, button], draw)
    prompts = {"instruction": shown(instruction), "system prompt": shown(system_prompt or "-")}
    view.static = facts(prompts) + view.static
    return view


def marked_difference(before: str | None, after: str | None) -> str:
    """Both texts as one piece of HTML: words that went in `<del>`, words that came in `<ins>`, compared by `difflib`."""
    old, new = (re.findall(r"\s*\S+", (text or "")[:MOST]) for text in (before, after))
    words = [[word.strip() for word in text] for text in (old, new)]
    parts = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        deleted, inserted = "".join(old[a:b]), "".join(new[c:d])
        same = kind == "equal"
        parts.append(shown(inserted) if same else _marked("del", deleted) + _marked("ins", inserted))
    return "".join(parts).lstrip(" ") + rest_of(max(len(before or ""), len(after or "")))


def _marked(tag: str, text: str) -> str:
    words = text.lstrip()
    space = shown(text[: len(text) - len(words)]) or " "
    return f'{space}<{tag} style="{MARKS[tag]}">{shown(words)}</{tag}>' if words else ""


def before_after(rows: Sequence[Row]) -> View:
    """Look at rewrites one by one: rows with `instruction`, `before`, `after`, `criterion`, `fault` (None, or why refused)."""
    choice = row_dropdown(rows, ["instruction", "before", "after", "criterion", "fault"])
    return View("Before and after", [choice], lambda: _rewrite(rows[choice.value]), _first(rows, 3, _rewrite))


def _rewrite(row: Row) -> str:
    refused = f"<strong>Refused:</strong> {shown(row['fault'])}. It is left out, so no pair can hold it."
    lines = {
        "instruction": shown(row["instruction"]),
        "criterion": shown(as_text(row["criterion"])),
        "difference": marked_difference(row["before"], row["after"]) or "<em>(both empty)</em>",
        "key": _marked("del", "only before") + _marked("ins", "only after"),
        "outcome": refused if row["fault"] else "<strong>Used.</strong>",
    }
    return facts(lines)


def _first(rows: Sequence[Row], most: int, draw: Callable[[Row], str]) -> str:
    rest = paragraph(f"… and {len(rows) - most} more.") if len(rows) > most else ""
    return "<br>".join(map(draw, rows[:most])) + rest


def rating_table(row: Row, aspect: str) -> list[dict[str, Any]]:
    """A line per completion: `writer`, `completion`, `rating`, `P(1) to P(5)`, `rationale`; None where there is none."""
    if aspect not in row["aspects"]:
        raise InputError(f"This row has no aspect {aspect!r}. There is: {as_text(list(row['aspects']))}.")
    judged = row["aspects"][aspect]
    columns = {
        "writer": row.get("generation_models"),
        "completion": row["generations"],
        "rating": judged.get("ratings"),
        "P(1) to P(5)": judged.get("distributions"),
        "rationale": judged.get("rationales"),
    }
    lines = zip_longest(*([] if values is None else values for values in columns.values()))
    return [dict(zip(columns, line, strict=True)) for line in islice(lines, len(row["generations"]))]


def rating_browser(rows: Sequence[Row]) -> View:
    """Choose a row and an aspect; see each completion with its rating, distribution and rationale.

    Args:
        rows: with `instruction`, `generations`, `generation_models`, and `aspects`, for each a dict of lists
            `ratings`, `distributions` (five probabilities or None), `rationales`.
    """
    choice = row_dropdown(rows, ["instruction", "generations", "aspects"])
    if not all(row["aspects"] for row in rows):
        raise InputError('A row has no aspect. Give each "aspects": {"helpfulness": {"ratings": […]}}.')
    aspect = control(ipw.Dropdown, "aspect", options=list(rows[0]["aspects"]))

    def follow(change) -> None:
        """Offer the aspects of the row that was chosen, and stay with the present one if it is among them."""
        present, aspect.options = aspect.value, list(rows[choice.value]["aspects"])
        if present in aspect.options:
            aspect.value = present

    def draw() -> str:
        return _rated(rows[choice.value], aspect.value, figure=True)

    choice.observe(follow, names="value")
    static = _first(rows, 2, lambda row: _rated(row, next(iter(row["aspects"]))))
    return View("Ratings", [choice, aspect], draw, static)


def _rated(row: Row, aspect: str, figure: bool = False) -> str:
    lines = rating_table(row, aspect)
    used = [name for name in (lines[0] if lines else []) if any(line[name] is not None for line in lines)]
    page = facts({"instruction": shown(row["instruction"]), "aspect": shown(aspect)})
    page += Table(lines, used)._repr_html_()
    if not figure or "P(1) to P(5)" not in used:
        return page
    chances = [line["P(1) to P(5)"] for line in lines]
    names = [f"{k}. {line['writer'] or 'completion'}" for k, line in enumerate(lines, 1)]
    words = "; ".join(f"{name}: {as_text(one)}" for name, one in zip(names, chances, strict=True))
    drawn = plots.rating_distribution(chances, names)
    return page + picture(drawn, f"Probability of each rating from 1 to 5. {words}")


def judge_bench(judged: Mapping[str, Sequence[Row]]) -> View:
    """Choose a judge and see where it is right: `judged` holds the items of `judging.rate_items` for each judge."""
    items = [item for rated in judged.values() for item in rated]
    if not items or not all(judged.values()):
        raise InputError('There are no judged items. Give {"name": judging.rate_items(judge, items)}.')
    others = [name for name in ("worse", "off_topic") if all(name in item["ratings"] for item in items)]
    kinds = [name for name in ("category", "worse_kind") if all(name in item for item in items)]
    options = {"judge": list(judged), "against": others, "group by": kinds}
    controls = [control(ipw.Dropdown, name, options=names) for name, names in options.items()]
    pairs = [(name, other) for name in judged for other in others]
    lines = [{"judge": j, "against": o, **judging.pair_accuracy(judged[j], o)[0]} for j, o in pairs]
    static = Table(lines, ["judge", "against", "items", "accuracy", "low", "high", "ties"])._repr_html_()
    return View("Judge bench", controls, lambda: _bench(judged, *(each.value for each in controls)), static)


def _bench(judged: Mapping[str, Sequence[Row]], name: str, against: str, by: str) -> str:
    lines = judging.pair_accuracy(judged[name], against, by)
    line, other = lines[-1], against.replace("_", "-")
    overall = (
        f"{name} rates the good answer above the {other} one in {line['accuracy']:.0%} of {line['items']} items "
        f"(95% interval {line['low']:.0%} to {line['high']:.0%}); {line['ties']:.0%} are ties."
    )
    fig = plots.accuracy_by_group(lines, f"{name}: good above {other}")
    return paragraph(shown(overall)) + picture(fig, f"Accuracy by {by}. {overall}")


def pairs_at(rows: Sequence[Row], min_margin: float, max_similarity: float) -> dict[str, Any]:
    """What `FormatTextGenerationDPO` makes of rated rows: `{"kept": [pairs], "dropped": {reason: count}}`."""
    step = FormatTextGenerationDPO(min_margin=min_margin, max_similarity=max_similarity)
    rated = [{key: value for key, value in row.items() if key != DROP_REASON} for row in rows]
    pairs = [row for batch in step.process(rated) for row in batch]
    reasons = Counter(row[DROP_REASON] for row in pairs if DROP_REASON in row)
    return {"kept": [row for row in pairs if DROP_REASON not in row], "dropped": dict(reasons.most_common())}


def margin_slider(rows: Sequence[Row]) -> View:
    """Ask for clearer pairs and see what is left: rows with `instruction`, `generations`, `generation_models`, `ratings`."""
    checked_rows(rows, ["instruction", "generations", "ratings"])
    controls = [slider("min margin", 0, 0, 4, 0.05), slider("max similarity", 0.9, 0.5, 1, 0.05)]

    def draw() -> str:
        result = pairs_at(rows, *(round(slider.value, 2) for slider in controls))
        counts = {"kept": len(result["kept"]), **result["dropped"]}
        words = f"{counts['kept']} of {len(rows)} rows give a pair. " + as_text(result["dropped"])
        bars = picture(plots.bars(counts, "rows", "Rows kept, and dropped by reason"), words)
        closest = sorted(map(_pair, result["kept"]), key=lambda line: line["margin"])[:3]
        page = paragraph(shown(words)) + bars + paragraph("The closest calls among the pairs kept:")
        return page + Table(closest)._repr_html_()

    return View("Pairs by margin", controls, draw)


def _pair(pair: Row) -> dict[str, Any]:
    sides = {side: pair[side][-1]["content"] for side in ("chosen", "rejected")}
    return {"instruction": pair["prompt"], **sides, "margin": pair["chosen_rating"] - pair["rejected_rating"]}
