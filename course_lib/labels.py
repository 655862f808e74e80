"""Labels of one's own: which of two texts is the better one, asked pair by pair and kept in a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as ipw

from course_lib.errors import InputError, writing
from course_lib.tables import Table, facts, grid, paragraph, shown
from course_lib.views import View, checked_rows

VERDICTS = ("A", "B", "no difference")
COLUMNS = ("instruction", "id", "A", "B")


def read_labels(path: Path | str) -> dict[str, str]:
    """The labels in a file of `label_pairs`, a verdict for each id; none where there is no file.

    Raises:
        InputError: the file holds something else.
    """
    path = Path(path)
    try:
        labels = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        sound = all(verdict in VERDICTS for verdict in labels.values())
    except (OSError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise InputError(
            f"{path} holds no labels of pairs. Delete it or give another path, then label again."
        )
    return labels


def label_pairs(items: Sequence[Mapping[str, Any]], path: Path | str) -> View:
    """Say of each pair which text is better: "A", "B" or "no difference"; "back" takes the last label away.

    Each label is written to the file at `path` at once, so that a restarted kernel goes on where the last one ended.

    Args:
        items: with `id`, `instruction`, and the two texts `A` and `B`.
    """
    checked_rows(items, COLUMNS)
    labels, pressed = read_labels(path), []
    buttons = [ipw.Button(description=name) for name in (*VERDICTS, "back")]
    for button in buttons:
        button.on_click(lambda button: pressed.append(button.description))

    def draw() -> str:
        nonlocal labels
        while pressed:
            labels = _saved(_changed(labels, [str(item["id"]) for item in items], pressed.pop()), Path(path))
        waiting = [item for item in items if str(item["id"]) not in labels]
        progress = paragraph(f"{len(items) - len(waiting)} of {len(items)} pairs are labelled.")
        return progress + (_question(waiting[0]) if waiting else paragraph("Go on with the next cell."))

    view = View("Pairs to label", buttons, draw, Table(items, COLUMNS)._repr_html_())
    view.box.children = [view.body, ipw.HBox(buttons)]
    return view


def _question(item: Mapping[str, Any]) -> str:
    texts = grid(["A", "B"], [[item["A"], item["B"]]], "width: 100%; table-layout: fixed;")
    return facts({"instruction": shown(item["instruction"])}) + texts


def _changed(labels: dict[str, str], ids: Sequence[str], name: str) -> dict[str, str]:
    """The labels after the button with this name was pressed."""
    if name == "back":
        last = [key for key in ids if key in labels][-1:]
        return {key: verdict for key, verdict in labels.items() if key not in last}
    return labels | dict.fromkeys([key for key in ids if key not in labels][:1], name)


def _saved(labels: dict[str, str], path: Path) -> dict[str, str]:
    with writing("The labels", path.parent, "Give another path"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(labels, indent=1), encoding="utf-8")
    return labels
