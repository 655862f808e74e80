"""Labels of one's own: which of two texts is the better one, asked pair by pair and kept in a file.

Where several people label, Label Studio (https://labelstud.io) asks them: `to_label_studio` and `from_label_studio`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any

import ipywidgets as ipw

from course_lib.errors import InputError, writing
from course_lib.paths import DATA
from course_lib.tables import Table, facts, grid, paragraph, shown
from course_lib.views import View, checked_rows

VERDICTS = ("A", "B", "no difference")
COLUMNS = ("instruction", "id", "A", "B")
SIDES = {"left": "A", "right": "B"}
INTERFACE = DATA / "label_studio.xml"


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


def to_label_studio(pairs: Sequence[Mapping[str, Any]], path: Path | str) -> None:
    """Write `pairs` as tasks that Label Studio imports, and beside them, as `.xml`, the labeling interface for them.

    Args:
        pairs: with `id`, `instruction`, and the two texts `A` and `B`.
        path: where the tasks go, `….json`.
    """
    checked_rows(pairs, COLUMNS)
    path = Path(path).with_suffix(".json")
    # Label Studio gives its tasks numbers of its own under the name `id`.
    names = {"pair": "id", "instruction": "instruction", "A": "A", "B": "B"}
    tasks = [{"data": {name: str(pair[column]) for name, column in names.items()}} for pair in pairs]
    with writing("The tasks", path.parent, "Give another path"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
        copyfile(INTERFACE, path.with_suffix(".xml"))


def from_label_studio(path: Path | str) -> dict[str, str]:
    """The labels in an export of Label Studio, JSON or JSON_MIN, as `read_labels` gives them.

    Of several people's verdicts on a pair the most frequent one counts; two equally frequent ones make "no difference".

    Raises:
        InputError: the file is no export of tasks that `to_label_studio` wrote.
    """
    verdicts = defaultdict(Counter)
    try:
        for pair, verdict in _exported(json.loads(Path(path).read_text(encoding="utf-8"))):
            verdicts[pair][verdict] += 1
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        advice = "Export them as JSON or JSON-MIN"
        raise InputError(f"{path} is no export of pairs from Label Studio ({error!r}). {advice}.") from error
    return {pair: _most_frequent(counts) for pair, counts in verdicts.items()}


def _exported(tasks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The pair and the verdict of each annotation; one that was skipped or left empty has none."""
    for task in tasks:
        if "annotations" in task:
            pair = task["data"]["pair"]
            kept = [one["result"] for one in task["annotations"] if not one["was_cancelled"]]
            answers = [{part["from_name"]: [part["value"]] for part in result} for result in kept]
        else:  # JSON_MIN: one annotation, the answers beside the texts
            pair, answers = task["pair"], [task]
        for answer in answers:
            if "equal" in answer:
                yield pair, VERDICTS[2]
            elif "better" in answer:
                yield pair, SIDES[answer["better"][0]["selected"]]


def _most_frequent(counts: Counter[str]) -> str:
    (verdict, most), *others = counts.most_common(2)
    return VERDICTS[2] if others and others[0][1] == most else verdict
