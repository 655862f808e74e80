"""Texts to read and to judge: a learner's verdicts beside those of earlier readings, with room for another opinion."""

from typing import Any

from course_lib.exercises.checks import Wrong, data
from course_lib.exercises.choices import has_keys, option
from course_lib.judging import labelled_items, real_pairs

OPEN = "open"  # the verdict where the readings part ways: any answer will do


def real_pairs_to_read() -> list[dict[str, Any]]:
    """Eight pairs of real output of the packaged models with `id`, `instruction`, `A` and `B`, in no telling order."""
    items = {item["id"]: item for item in [*real_pairs(), *real_pairs(contested=True)]}
    return [
        {
            "id": name,
            "instruction": items[name]["instruction"],
            "A": items[name][row["A"]],
            "B": items[name][row["B"]],
        }
        for name, row in data("real_pairs").items()
    ]


def pairs_by_ratings() -> list[dict[str, Any]]:
    """Eight pairs that look sound to a program; in some the rejected text is the better one."""
    items = {item["id"]: item for item in labelled_items("fit")}
    rows = []
    for name, row in data("pairs_by_ratings").items():
        sides = ("worse", "good") if row["verdict"] == "worse" else ("good", "worse")
        texts = dict(zip(("chosen", "rejected"), (items[row["item"]][side] for side in sides), strict=True))
        rows.append({"id": name, "prompt": items[row["item"]]["instruction"], **texts, **row["ratings"]})
    return rows


def check_verdicts(answer: Any, rows: dict[str, dict], options: list[str], readings: str) -> str:
    """Words on a single slip; `Wrong` if an answer has several. `rows` have their `verdict` and say `why`."""
    has_keys(answer, list(rows))
    verdicts = {name: option(verdict, options, f"{name}: ") for name, verdict in answer.items()}
    clear = {name: row["verdict"] for name, row in rows.items() if row["verdict"] != OPEN}
    others = [name for name, verdict in clear.items() if verdicts[name] != verdict.lower()]
    if len(others) > 1:
        agreed = f"{len(clear) - len(others)} of {len(clear)} of your verdicts are those of {readings}"
        enough = f"{len(clear) - 1} are enough, since readers differ"
        parted = len(rows) - len(clear)
        free = f" (The readings part ways on {parted} more: any verdict will do there.)" if parted else ""
        raise Wrong(f"{agreed}; {enough}. Read {others[0]!r} again: {rows[others[0]]['why']}{free}")
    slip = "One slip is forgiven. You say {!r} of {!r}. Read it again: {}"
    return "".join(slip.format(answer[name], name, rows[name]["why"]) for name in others)
