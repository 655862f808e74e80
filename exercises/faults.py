"""The pairs with planted faults, data/pairs_to_audit.json: whether an answer names the ids that have a fault."""

from collections.abc import Mapping
from typing import Any

from course_lib.exercises.checks import COLLECTION, data, excerpt, expect, require


def pairs_to_audit() -> list[dict]:
    """The pairs with planted faults."""
    return data("pairs_to_audit")


def bare(text: str) -> str:
    """A text without what does not count: case, and spaces that are too many."""
    return " ".join(text.lower().split())


def ids_in(answer: Any, where: str = "") -> set:
    """The ids that an answer names in a collection: ids, ids as text, rows, or groups of these."""
    expect(isinstance(answer, COLLECTION), "a list or a set of ids, such as [103, 114]", answer, where)
    ids: set = set()
    for item in answer:
        if isinstance(item, COLLECTION):
            ids |= ids_in(item, where)
            continue
        number = item["id"] if isinstance(item, Mapping) and "id" in item else item
        number = int(number) if isinstance(number, str) and number.strip().isdigit() else number
        fits = isinstance(number, int | str | float) and not isinstance(number, bool)
        expect(fits, "ids, such as 103,", item, where)
        ids.add(number)
    return ids


def name_fault(answer: Any, fault: str, misread: Mapping[str, set], extra: str, where: str = "") -> None:
    """Raise `Wrong` unless an answer names the ids of the pairs that have a planted fault.

    misread: what usual misunderstandings find, by the sentence (without its full stop) that explains the mistake;
    extra: what is the matter with ids that are too many.
    """
    ids, wanted = ids_in(answer, where.removesuffix(": ")), set(data("planted")[fault])
    for reason, mistaken in misread.items():
        require(ids != mistaken, f"{where}{reason}.")
    known = {row["id"] for row in pairs_to_audit()}
    strange = sorted(ids - known, key=str)
    ends = f"they go from {min(known)} to {max(known)}"
    require(not strange, f"{where}{excerpt(strange[:1])} is no id of these pairs; {ends}.")
    too_many, too_few = len(ids - wanted), len(wanted - ids)
    require(not too_many, f"{where}{too_many} of your {len(ids)} ids {extra}.")
    require(not too_few, f"{where}{too_few} of {len(wanted)} ids are missing.")
