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
from course_lib.exercises import chapter
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
    grades = list(grade_folder(folder, seconds=20, memory=3 * 2**30))
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
    sound = {"chapter": 1, "correct": 2, "attempted": 3, "questions": 4, "note": "", "finished": True}
    questions = len(chapter(1).questions)
    for text in (
        "",
        "[]",
        "[" * 100_000,
        json.dumps({**sound, "correct": "=1+1"}),
        json.dumps({**sound, "chapter": [1]}),
        json.dumps({**sound, "chapter": 99}),
        json.dumps({**sound, "attempted": float("inf")}),
    ):
        report.write_text(text, encoding="utf-8")
        assert _reported(report, "x") == nothing
    report.write_text(json.dumps({**sound, "note": 5}), encoding="utf-8")
    assert _reported(report, "x") == Grade("x", 1, 2, 3, questions, "5")
    forged = {"correct": 10**9, "attempted": 10**9, "questions": 3, "note": "fine\n\x1b[2Jben.ipynb 1 8 8 8"}
    report.write_text(json.dumps({**sound, **forged}), encoding="utf-8")
    note = "fine [U+001B][2Jben.ipynb 1 8 8 8"
    assert _reported(report, "x") == Grade("x", 1, questions, questions, questions, note)
    report.write_text(
        json.dumps({**sound, "correct": -5, "attempted": -1, "finished": False}), encoding="utf-8"
    )
    assert _reported(report, "x") == Grade("x", 1, 0, 0, questions, "ended before its last cell")
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


@pytest.fixture
def treasure(tmp_path, monkeypatch):
    """A folder that submissions may read, as they may the weights, with a file in it."""
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    (folder / "model").write_text("precious")
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path / "cache"))
    return folder


ATTACKS = {
    "the whole tree": "import shutil; shutil.rmtree({folder!r})",
    "without a word": "import shutil; shutil.rmtree({folder!r}, ignore_errors=True)",
    "by descriptor": "import os; os.remove('model', dir_fd=os.open({folder!r}, os.O_RDONLY))",
    "written by descriptor": "import os; os.open('model', os.O_WRONLY | os.O_TRUNC, dir_fd=os.open({folder!r}, os.O_RDONLY))",
    "from a folder below": (
        "import os; os.makedirs('a/b'); inner = os.open('a', os.O_RDONLY); os.chdir('a/b')\n"
        "os.remove('../' * 9 + {folder!r}[1:] + '/model', dir_fd=inner)"
    ),
    "from where it lies": "import os; os.chdir({folder!r}); os.remove('model')",
    "renamed": "import os; os.rename({folder!r} + '/model', 'mine')",
    "its rights": "import os; os.chmod(os.open({folder!r} + '/model', os.O_RDONLY), 0)",
    "cut": "import os; os.truncate({folder!r} + '/model', 0)",
    "by a link": "import os; os.symlink({folder!r}, 'here'); os.remove('here/model')",
    "a server": "import socket; socket.socket().bind(('127.0.0.1', 0))",
    "a name": "import socket; socket.getaddrinfo('localhost', 80)",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_submission_may_read_it_cannot_change(tmp_path, treasure, name):
    before = treasure.stat().st_mode, (treasure / "model").stat().st_mode
    attack = ATTACKS[name].format(folder=str(treasure))
    result = grade(notebook(tmp_path, "x.ipynb", START, attack, RIGHT), "x", 60)
    assert (treasure / "model").read_text() == "precious"
    assert (treasure.stat().st_mode, (treasure / "model").stat().st_mode) == before
    assert result.correct == 1 and ("1 cells raised" in result.note or name == "without a word")


def test_its_own_folder_is_a_submissions_to_change(tmp_path):
    cell = "import os, shutil, tempfile\nos.makedirs('a/b'); open('a/b/c', 'w').close(); shutil.rmtree('a')\n"
    cell += (
        "with tempfile.TemporaryDirectory() as t: open(t + '/x', 'w').close()\nassert not os.path.exists('a')"
    )
    result = grade(notebook(tmp_path, "x.ipynb", START, cell, RIGHT), "x", 60)
    assert (result.correct, result.note) == (1, "")


def test_rows_kept_beside_a_notebook_are_at_hand_and_others_have_their_stand_ins(tmp_path):
    own = [
        {"instruction": f"Why {n}?", "generations": ["Yes.", "No."], "generation_models": ["m", "n"]}
        for n in range(4)
    ]
    (tmp_path / "my_dataset").mkdir()
    lines = "".join(f"{json.dumps(row)}\n" for row in own)
    (tmp_path / "my_dataset" / "chapter_1.jsonl").write_text(lines)
    (tmp_path / "my_dataset" / "chapter_2.jsonl").symlink_to("chapter_1.jsonl")
    (tmp_path / "my_dataset" / "labels.json").write_text('{"1f3a": "A"}')
    cells = ["from course_lib.exercises import chapter\nex = chapter(3)"]
    cells += ["assert [row['instruction'] for row in ex.kept(1)] == ['Why 0?', 'Why 1?', 'Why 2?', 'Why 3?']"]
    cells += [
        "rows = [{**row, 'ratings': [1, 2, 3][: len(row['generations'])]} for row in ex.kept(2)]\nex.keep(rows)"
    ]
    cells += ["ex.check('my_ratings', ex.kept(3))"]
    cells += [
        "from course_lib.widgets import read_labels\nassert read_labels('my_dataset/labels.json') == {'1f3a': 'A'}"
    ]
    result = grade(notebook(tmp_path, "x.ipynb", *cells), "x", 60)
    assert (result.correct, result.note) == (1, "")


def test_magics_of_notebooks_cost_nothing(tmp_path):
    cells = [
        "%matplotlib inline\n" + START,
        "%config InlineBackend.figure_format = 'svg'\n" + RIGHT,
        "%pip install x",
    ]
    result = grade(notebook(tmp_path, "x.ipynb", *cells), "x", 60)
    assert (result.correct, result.note) == (1, "")


@pytest.mark.parametrize(
    "magic",
    [
        "%autosave 0",
        "!pip install x",
        "files = !ls",
        "%nonsense 1",
        "%cd ..",
        "%env A=b",
        "%%html\n<b>hi</b>",
        "%%nonsense\nx",
    ],
)
def test_any_magic_or_command_passes_without_effect(tmp_path, magic):
    cells = [START, magic if magic.startswith("%%") else f"{magic}\n{RIGHT}", RIGHT]
    result = grade(notebook(tmp_path, "x.ipynb", *cells), "x", 60)
    assert (result.correct, result.note) == (1, "")


@pytest.mark.parametrize("magic", ["%time x = 1", "%%time", "%%capture"])
def test_magics_that_run_code_run_it(tmp_path, magic):
    result = grade(notebook(tmp_path, "x.ipynb", START, f"{magic}\n{RIGHT}"), "x", 60)
    assert (result.correct, result.note) == (1, "")


def test_one_that_leaves_by_the_back_door_is_told_and_keeps_what_was_right(tmp_path):
    result = grade(notebook(tmp_path, "x.ipynb", START, RIGHT, "import os; os._exit(0)", "1"), "x", 60)
    assert (result.correct, result.note) == (1, "ended before its last cell")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_odd_names_have_a_line_and_forge_none(tmp_path, capsys):
    notebook(tmp_path, "a\n\x1b[31mz.ipynb", START)
    os.rename(notebook(tmp_path, "b.ipynb", START), os.fsencode(tmp_path) + b"/M\xfcller.ipynb")
    (tmp_path / "c.ipynb").write_text("no notebook")
    assert main(["grade", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (
        "\x1b" not in printed
        and "a[U+000A][U+001B][31mz.ipynb" in printed
        and "M\\udcfcller.ipynb" in printed
    )
    assert len((tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines()) == 4


@pytest.mark.parametrize("option", [["--seconds", "0"], ["--seconds", "-1"], ["--seconds", "nan"]])
@pytest.mark.parametrize("more", [[], ["--memory", "0"]])
def test_limits_that_nobody_could_keep_are_refused_before_anything_runs(tmp_path, capsys, option, more):
    notebook(tmp_path, "x.ipynb", "1 / 0")
    assert main(["grade", str(tmp_path), *option, *more]) == 2
    assert "allowed: 1 to 86400" in capsys.readouterr().err and not (tmp_path / "grades.csv").exists()


@pytest.mark.parametrize("memory", ["0", "-5", str(10**15)])
def test_so_are_limits_of_memory(tmp_path, capsys, memory):
    notebook(tmp_path, "x.ipynb", "1 / 0")
    assert main(["grade", str(tmp_path), "--memory", memory]) == 2
    assert "allowed: 1024 to 1048576" in capsys.readouterr().err


def test_a_table_that_cannot_be_written_is_told_before_anything_runs(tmp_path, capsys, monkeypatch):
    notebook(tmp_path, "x.ipynb", START)
    monkeypatch.setattr(
        "course_lib.exercises.grading.grade", lambda *arguments: pytest.fail("ran all the same")
    )
    assert main(["grade", str(tmp_path), "--csv", str(tmp_path / "x.ipynb" / "grades.csv")]) == 2
    assert "The grades cannot be written" in capsys.readouterr().err


def test_what_was_graded_before_an_interruption_is_in_the_table(tmp_path, monkeypatch):
    for name in ("a.ipynb", "b.ipynb"):
        notebook(tmp_path, name, START)

    def stops(path, name, *limits):
        if name == "b.ipynb":
            raise KeyboardInterrupt
        return Grade(name, 1, 1, 1, 8)

    monkeypatch.setattr("course_lib.exercises.grading.grade", stops)
    main(["grade", str(tmp_path)])
    assert "a.ipynb,1,1,1,8" in (tmp_path / "grades.csv").read_text(encoding="utf-8")


def test_a_folder_that_is_none_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        grade_folder(tmp_path / "nothing")
    with pytest.raises(InputError, match="no .ipynb file"):
        grade_folder(tmp_path)
