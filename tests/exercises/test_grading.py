"""A folder of submissions is graded whatever is in it: each submission costs nobody else their grade."""

import csv
import json
import os
import sys
from pathlib import Path

import nbformat
import pytest

from course_lib.__main__ import main
from course_lib.errors import InputError
from course_lib.exercises.grading import Grade, _reported, grade, grade_folder

START = "from course_lib.exercises import chapter\nex = chapter(1)"
RIGHT = "ex.check('identical_pair', 'nothing')"


def notebook(folder: Path, name: str, *cells: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Ten submissions, graded once."""
    folder = tmp_path_factory.mktemp("class")
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    secret.write_text("the answers", encoding="utf-8")
    notebook(folder, "anna/01.ipynb", START, RIGHT)
    notebook(folder, "ben.ipynb", START, "1 / 0", RIGHT)
    notebook(folder, "carl.ipynb", START, RIGHT, "while True: pass")
    (folder / "dora.ipynb").write_text('{"cells": [', encoding="utf-8")
    notebook(folder, "emil.ipynb", START, f"text = open({str(secret)!r}).read()", RIGHT)
    notebook(folder, "fay.ipynb", START, f"open({str(folder / 'anna/01.ipynb')!r}, 'w').write('x')", RIGHT)
    notebook(folder, "gil.ipynb", START, "block = bytearray(3 * 2**30)", RIGHT)
    notebook(folder, "hal.ipynb", "print('no exercise here')")
    notebook(
        folder,
        "ida.ipynb",
        START,
        f"import os; os.system({f'touch {folder}/leaked'!r})",
        "import os; os._exit(5)",
        RIGHT,
    )
    notebook(folder, "jon.ipynb", START, "import os; open(f'/proc/{os.getppid()}/environ').read()", RIGHT)
    grades = grade_folder(folder, seconds=20, memory=3 * 2**30)
    return folder, {Path(grade.notebook).name: grade for grade in grades}


def test_every_submission_has_a_line(graded):
    folder, grades = graded
    assert len(grades) == len(list(folder.rglob("*.ipynb"))) == 10


def test_a_right_answer_counts_and_an_error_costs_only_its_cell(graded):
    _, grades = graded
    assert (grades["01.ipynb"].correct, grades["01.ipynb"].note) == (1, "")
    assert grades["01.ipynb"].questions >= 6 and grades["01.ipynb"].chapter == 1
    assert grades["ben.ipynb"].correct == 1 and "1 cells raised" in grades["ben.ipynb"].note


def test_an_endless_loop_keeps_what_was_right_before(graded):
    _, grades = graded
    assert grades["carl.ipynb"].correct == 1 and "stopped after 20 s" in grades["carl.ipynb"].note


def test_a_malformed_notebook_and_one_without_exercises_say_so(graded):
    _, grades = graded
    assert "no valid notebook" in grades["dora.ipynb"].note
    assert "no exercise of the course" in grades["hal.ipynb"].note


def test_reading_and_writing_outside_of_its_folder_is_refused(graded):
    folder, grades = graded
    for name in ("emil.ipynb", "fay.ipynb"):
        assert grades[name].correct == 1 and "1 cells raised" in grades[name].note
    assert json.loads((folder / "anna/01.ipynb").read_text(encoding="utf-8"))["cells"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the limit of memory")
def test_more_memory_than_allowed_costs_only_its_cell(graded):
    _, grades = graded
    assert grades["gil.ipynb"].correct == 1 and "1 cells raised" in grades["gil.ipynb"].note


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_the_environment_of_the_grader_cannot_be_read(graded):
    _, grades = graded
    assert grades["jon.ipynb"].correct == 1 and "1 cells raised" in grades["jon.ipynb"].note


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and links")
def test_what_a_submission_leaves_in_place_of_a_report_or_of_itself_is_harmless(tmp_path):
    nothing = Grade("x", note="nothing was reported")
    report = tmp_path / "report.json"
    sound = {"chapter": 1, "correct": 2, "attempted": 3, "questions": 4, "note": ""}
    for text in (
        "",
        "[]",
        "[" * 100_000,
        json.dumps({**sound, "correct": "=1+1"}),
        json.dumps({**sound, "chapter": [1]}),
    ):
        report.write_text(text, encoding="utf-8")
        assert _reported(report, "x") == nothing
    report.write_text(json.dumps({**sound, "note": 5}), encoding="utf-8")
    assert _reported(report, "x") == Grade("x", 1, 2, 3, 4, "5")
    os.mkfifo(tmp_path / "pipe")
    assert _reported(tmp_path / "pipe", "x") == nothing
    (tmp_path / "link.ipynb").symlink_to(notebook(tmp_path, "solution.ipynb", START))
    assert "no regular file" in grade(tmp_path / "link.ipynb", "x").note


def test_a_process_that_ends_itself_is_reported(graded):
    folder, grades = graded
    assert "exit status 5" in grades["ida.ipynb"].note
    assert not list(folder.rglob("leaked"))


def test_the_command_prints_a_table_and_writes_a_csv_safe_for_spreadsheets(tmp_path, capsys):
    notebook(tmp_path, "=cmd.ipynb", START)
    assert main(["grade", str(tmp_path), "--seconds", "60"]) == 0
    assert "=cmd.ipynb" in capsys.readouterr().out
    [line] = csv.DictReader((tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines())
    assert line["notebook"] == "'=cmd.ipynb" and line["correct"] == "0"


def test_a_folder_that_is_none_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        grade_folder(tmp_path / "nothing")
    with pytest.raises(InputError, match="no .ipynb file"):
        grade_folder(tmp_path)
