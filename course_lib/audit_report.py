"""What an audit found, as a table, as a page and as a figure; and the rows that remain."""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from course_lib.audit import Audit, remaining
from course_lib.card import cell
from course_lib.distiset import writing_out
from course_lib.errors import InputError

TITLE = "# Audit of preference data"
FIGURE, PAGE, LEFT_OUT = "effects.png", "report.md", "left_out"
LONGEST = 76  # signs of a list of rows on the terminal; the page has all


def tables(report: Audit) -> dict[str, list[tuple[str, ...]]]:
    """The findings by heading: lines of the same number of words each, the first of which names the columns."""
    found = {
        **report.faults,
        **{f"{name} (no fault by itself)": places for name, places in report.notes.items()},
    }
    faults = [(name, str(len(places)), ", ".join(map(str, places))) for name, places in found.items()]
    effects = [
        (
            effect.name,
            f"{effect.share:.0%}{' strong' if effect.is_strong else ''}",
            f"{effect.low:.0%} to {effect.high:.0%} of {effect.pairs} pairs",
        )
        for effect in report.effects
    ]
    return {
        f"Faults in {len(report.reasons)} rows": [("fault", "rows", "which"), *faults],
        "What could be learned instead of quality": [
            ("the chosen text is", "share", "95% interval; 50% is chance"),
            *effects,
        ],
    }


def text(report: Audit) -> str:
    """The findings for a terminal."""
    lines = [", ".join(f"{count} rows in {split}" for split, count in report.rows.items())]
    for heading, table in tables(report).items():
        widths = [min(40, max(len(line[column]) for line in table)) for column in (0, 1)]
        lines += ["", heading]
        for name, number, rest in table:
            if len(rest) > LONGEST:
                rest = f"{rest[:LONGEST].rpartition(',')[0] or rest[:LONGEST]}, …"
            lines.append(f"  {name[:40]:<{widths[0]}}  {number:>{widths[1]}}  {rest}")
    return "\n".join(lines)


def page(report: Audit, source: str) -> str:
    """The findings as Markdown."""
    lines = [
        TITLE,
        "",
        f"Of {cell(source)}: {', '.join(f'{n} rows in {cell(split)}' for split, n in report.rows.items())}.",
    ]
    for heading, (columns, *table) in tables(report).items():
        lines += ["", f"## {heading}", "", f"| {' | '.join(columns)} |", "|---|---|---|"]
        lines += [f"| {' | '.join(map(cell, line))} |" for line in table]
    return "\n".join([*lines, ""])


def figure(report: Audit) -> Any:
    """The effects as bars with their intervals."""
    from course_lib import plots

    shares = {effect.name: effect.share for effect in report.effects}
    intervals = {effect.name: (effect.low, effect.high) for effect in report.effects}
    label = "share in which the chosen text is it (dashed: chance)"
    return plots.bars(shares, label, "What could be learned instead of quality", intervals, reference=0.5)


def write_report(report: Audit, source: str, folder: Path) -> list[Path]:
    """`report.md`, and `effects.png` where there are effects; the files."""
    from course_lib import plots

    own = folder / PAGE
    if own.exists() and not own.read_text(encoding="utf-8", errors="replace").startswith(TITLE):
        raise InputError(f"--out {folder} holds another {PAGE}, which stays. Give another folder.")
    with writing_out("The report", folder):
        folder.mkdir(parents=True, exist_ok=True)
        own.write_text(page(report, source), encoding="utf-8", errors="replace")
        if not report.effects:
            return [own]
        plots.save(figure(report), folder / FIGURE)
    return [own, folder / FIGURE]


def write_remaining(source: Any, report: Audit, folder: Path) -> dict[str, int]:
    """The rows without faults, a file for each split, and those with one in the folder `left_out`.

    A row that is left out has its `place` and its `drop_reason`.

    Returns:
        The number of rows in each file.
    """
    counts: dict[str, int] = {}
    with writing_out("The rows", folder), ExitStack() as stack:
        files: dict[str, Any] = {}
        for place, row, reason in remaining(source, report):
            split = "".join(letter if letter.isalnum() else "-" for letter in place.split)
            name = f"{LEFT_OUT}/{split}.jsonl" if reason else f"{split}.jsonl"
            if name not in files:
                (folder / name).parent.mkdir(exist_ok=True)
                files[name] = stack.enter_context(open(folder / name, "x", encoding="utf-8"))
            told = {"drop_reason": reason, "place": str(place)} if reason else {}
            files[name].write(json.dumps({**row, **told}, default=_plain) + "\n")
            counts[name] = counts.get(name, 0) + 1
    return counts


def check_folder(folder: Path) -> None:
    """Raise `InputError` unless `folder` is new or empty; it is made."""
    with writing_out("The rows", folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(os.scandir(folder)):
            raise InputError(f"--write {folder} holds files, which stay. Give a new or empty folder.")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
