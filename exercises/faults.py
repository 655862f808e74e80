"""The dataset with planted faults, faulty_preferences.jsonl: which rows have which fault, and whether an answer names them."""

import re
from collections.abc import Callable, Hashable, Mapping
from types import UnionType
from typing import Any

from course_lib.exercises.checks import COLLECTION, expect, require
from course_lib.steps.load import DATA, read_jsonl

TEXTS = ("prompt", "chosen", "rejected")
# The first line of a text, where it announces a response.
HEADING = re.compile(
    r"\s*(#|\[|here (is|are)\b|here's\b).*\b(response|answer|version)\b.*[:#\]]\s*?$",
    re.IGNORECASE | re.MULTILINE,
)


def faulty_preferences() -> list[dict]:
    """The rows of the dataset with planted faults."""
    return read_jsonl(DATA / "faulty_preferences.jsonl")


def plain(text: str) -> str:
    """A text without what does not count: case, and spaces that are too many."""
    return " ".join(text.lower().split())


def place(row: dict) -> tuple[str, str]:
    """Where a prompt stands: its split and the prompt, up to case and spaces."""
    return row["split"], plain(row["prompt"])


def repeated(rows: list[dict], key: Callable[[dict], Any]) -> set:
    """The ids of all rows but the first with each key."""
    firsts = {key(row): row["id"] for row in reversed(rows)}
    return {row["id"] for row in rows} - set(firsts.values())


def faults_of(rows: list[dict]) -> dict[str, set]:
    """The ids with each of the faults, by their definitions in the exercises."""
    duplicates, places = repeated(rows, place), set(map(place, rows))
    turned = {_texts(row, "prompt", "rejected", "chosen") for row in rows}

    def identical(row: dict) -> bool:
        return plain(row["chosen"]) == plain(row["rejected"])

    def ratings(row: dict) -> tuple[float | None, float | None]:
        return row["chosen_rating"], row["rejected_rating"]

    faulty = {
        "identical pair": identical,
        "duplicate prompt": lambda row: row["id"] in duplicates,
        "test prompt in train": lambda row: row["split"] == "train" and ("test", place(row)[1]) in places,
        "contradictory preference": lambda row: not identical(row) and _texts(row, *TEXTS) in turned,
        "leaked heading": lambda row: HEADING.match(row["chosen"]) or HEADING.match(row["rejected"]),
        "rating off the scale": lambda row: any(r is None or not 1 <= r <= 5 for r in ratings(row)),
        "rating against the choice": lambda row: None not in (r := ratings(row)) and r[0] <= r[1],
    }
    return {fault: {row["id"] for row in rows if has_it(row)} for fault, has_it in faulty.items()}


def _texts(row: dict, *columns: str) -> tuple[str, ...]:
    return tuple(plain(row[name]) for name in columns)


def ids_in(answer: Any, where: str = "", kinds: type | UnionType = Hashable) -> set:
    """The ids, all of one of `kinds`, that an answer names in a list, a tuple or a set."""
    fits = isinstance(answer, COLLECTION) and all(isinstance(name, kinds) for name in answer)
    expect(fits, "a list or a set of ids, such as [3, 14]", answer, where)
    return set(answer)


def name_fault(
    answer: Any,
    fault: str,
    misread: Mapping[str, set],
    extra: str = "do not have this fault",
    where: str = "",
) -> None:
    """Raise `Wrong` unless an answer names the ids in faulty_preferences.jsonl that have a fault.

    misread: what usual misunderstandings find, by the sentence (without its full stop) that explains the mistake;
    extra: what is the matter with ids that are too many.
    """
    ids, wanted = ids_in(answer, where.removesuffix(": ")), faults_of(faulty_preferences())[fault]
    for reason, mistaken in misread.items():
        require(ids != mistaken, f"{where}{reason}.")
    too_many, too_few = len(ids - wanted), len(wanted - ids)
    require(not too_many, f"{where}{too_many} of your {len(ids)} ids {extra}.")
    require(not too_few, f"{where}{too_few} of {len(wanted)} ids are missing.")
