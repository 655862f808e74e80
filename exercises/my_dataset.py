"""The learner's own dataset, which grows from chapter to chapter: `my_dataset/chapter_N.jsonl` beside the notebook."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from course_lib.errors import InputError, writing
from course_lib.exercises.checks import data, equal, excerpt, expect, plain, require
from course_lib.steps.load import read_jsonl

FOLDER = Path("my_dataset")
Row = dict[str, Any]


def file_of(chapter: int) -> Path:
    """Where the rows of a chapter are kept, from the folder of the notebook."""
    return FOLDER / f"chapter_{chapter}.jsonl"


def keep(chapter: int, rows: Any) -> int:
    """Write the rows of a chapter, anew each time; how many they are.

    Raises:
        InputError: these are no rows, or the file cannot be written.
    """
    rows = plain(rows)
    if isinstance(rows, str | Mapping) or not hasattr(rows, "__iter__"):
        raise InputError(
            f"ex.keep takes a list of rows, each a dict; this is {excerpt(rows)}. Of a distiset give ['default']['train']."
        )
    try:
        lines = [json.dumps(dict(plain(row)), ensure_ascii=False) for row in rows]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"A row cannot be kept ({error}). Rows are dicts of texts, numbers and lists."
        ) from error
    with writing("Your rows", FOLDER, "Open the notebook from a folder of your own"):
        FOLDER.mkdir(exist_ok=True)
        file_of(chapter).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def kept(chapter: int) -> tuple[list[Row], bool]:
    """The rows of a chapter, and whether they are the learner's own: a small stand-in where nothing was kept."""
    file = file_of(chapter)
    return (read_jsonl(file), True) if file.is_file() else (data(f"stand_in_{chapter}"), False)


def rows_with(answer: Any, columns: tuple[str, ...], least: int) -> list[Row]:
    """The rows of an answer; `Wrong` unless they are `least` or more dicts, each with these columns."""
    expect(not isinstance(answer, Mapping), 'a list of rows, ["default"]["train"] of a Distiset', answer)
    expect(hasattr(answer, "__iter__") and not isinstance(answer, str), "a list of rows", answer)
    rows = [plain(row) for row in answer]
    expect(all(isinstance(row, Mapping) for row in rows), "a list of rows", answer)
    for number, row in enumerate(rows, 1):
        missing = [name for name in columns if name not in row]
        require(not missing, f"Row {number} has no column {missing[:1]}; it has {excerpt(list(row))}.")
    more = f"You have {len(rows)} rows; at least {least} make a dataset to go on with."
    require(len(rows) >= least, more)
    return rows


def check_completions(rows: list[Row]) -> None:
    """Raise `Wrong` unless each row has two completions or more, with words in them, and the name of each one's model."""
    for number, row in enumerate(rows, 1):
        texts, models = row["generations"], row["generation_models"]
        lists = isinstance(texts, list | tuple) and isinstance(models, list | tuple)
        expect(lists, "lists in generations and generation_models", texts, f"row {number}")
        words = [text for text in texts if isinstance(text, str) and text.strip()]
        count = {0: "no completion", 1: "one completion"}.get(len(words))
        require(not count, f"Row {number} has {count}; a pair needs two. Leave the row out, or ask again.")
        empty = f"Row {number}: {len(texts) - len(words)} of {len(texts)} completions are empty."
        require(len(words) == len(texts), f"{empty} Take them out.")
        equal(len(models), len(texts), f"row {number}, the names in generation_models, one for each text")


def check_instructions(rows: list[Row], before: list[Row], chapter: int, column: str = "instruction") -> None:
    """Raise `Wrong` if a row asks something that the rows of an earlier chapter do not ask."""
    asked = {row["instruction"] for row in before}
    strangers = [row[column] for row in rows if row[column] not in asked]
    source = f"is not among the rows of chapter {chapter}. Start with ex.kept({chapter})."
    require(not strangers, f"{excerpt(strangers[:1])} {source}")
