"""Exercise notebooks are made from solution notebooks, which are the only source.

Marks in code cells: the lines between `### BEGIN SOLUTION` and `### END SOLUTION` become one `...`; in a line that ends
in `# SOLUTION`, what stands after the first ` = ` or after `return` becomes `...`. A cell tagged `test-only` is left out.
"""

import json
import re
from pathlib import Path
from typing import Any

from course_lib.errors import InputError

BEGIN, END, LINE = "### BEGIN SOLUTION", "### END SOLUTION", "# SOLUTION"


def solutions_folder() -> Path:
    """`solutions/`: beside `exercises/`, in a clone as in an installed package."""
    return Path(__file__).resolve().parent.parent / "solutions"


def stripped(source: str) -> str:
    """Code as the learner gets it.

    Raises:
        InputError: a BEGIN without END, or the other way round.
    """
    block = rf"^([ \t]*){BEGIN}\s*\n(?:(?!{BEGIN}).)*?^[ \t]*{END}[ \t]*$"
    text = re.sub(block, r"\1...", source, flags=re.MULTILINE | re.DOTALL)
    if BEGIN in text or END in text:
        raise InputError(f"Each '{BEGIN}' needs one '{END}' after it, before the next '{BEGIN}'.")
    lines = text.splitlines()
    return "\n".join(_without_answer(line) if line.rstrip().endswith(LINE) else line for line in lines)


def _without_answer(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    kept = re.match(r"\s*(?:return\b|[^=#]+?\s=(?=\s))", line)
    return f"{kept.group().rstrip()} ..." if kept else f"{indent}..."


def exercise_of(solution: dict[str, Any]) -> dict[str, Any]:
    """The exercise notebook (nbformat 4 as JSON) of a solution notebook: no answers, no outputs, no test cells."""
    cells = [cell for cell in solution["cells"] if "test-only" not in cell["metadata"].get("tags", [])]
    return {**solution, "cells": [_exercise_cell(cell) for cell in cells]}


def _exercise_cell(cell: dict[str, Any]) -> dict[str, Any]:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return {**cell, "source": source}
    return {**cell, "source": stripped(source), "outputs": [], "execution_count": None}


def solution_code(number: int, name: str) -> str:
    """The answer to a question: the marked code since the check before, up to the one that checks `name`.

    Raises:
        InputError: the solution notebook is not there, or checks no such question.
    """
    notebooks = sorted(solutions_folder().glob(f"{number:02}_*.ipynb"))
    if not notebooks:
        missing = f"The solutions of chapter {number} are not in {solutions_folder()}."
        raise InputError(f"{missing} Get them from the repository.")
    parts: list[str] = []
    for cell in json.loads(notebooks[0].read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or "test-only" in cell["metadata"].get("tags", []):
            continue
        source = "".join(cell["source"])
        if BEGIN in source or LINE in source:
            parts.append(source)
        checked = re.findall(r"""ex\.check\(\s*["'](\w+)["']""", source)
        if name in checked and parts:
            return _without_marks("\n".join(parts))
        if checked:
            parts = []
    raise InputError(f"{notebooks[0].name} checks no question {name!r}.")


def _without_marks(source: str) -> str:
    marks = re.compile(rf"\s*({BEGIN}|{END}|(# )?ex\..*)\s*")
    lines = [line for line in source.splitlines() if not marks.fullmatch(line)]
    return "\n".join(line.rstrip().removesuffix(LINE).rstrip() for line in lines).strip()
