"""What every lesson and every solution promises by its form. What they compute is checked by nbval (`make test-notebooks`)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from course_lib.exercises.sources import BEGIN, LINE

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import address  # noqa: E402

import notebooks  # noqa: E402

LESSONS, SOLUTIONS = notebooks.lessons(), notebooks.solutions()
EXERCISES = sorted((ROOT / "exercises").glob("0*.ipynb"))
EXECUTED = [*LESSONS, *SOLUTIONS]
LONGEST_CELL = 16  # lines
LONGEST_SET_UP = 22
# Chapters that are written as chapters of a textbook, and what that means. A chapter joins by its name here.
TEXTBOOK = [path.stem for path in LESSONS[1:]]
MOST_CELLS, LONGEST_TEXTBOOK_CELL, OPTIONS, QUESTIONS = 60, 12, 3, range(4, 7)
NEEDED = ["After this chapter", "Take-aways", "Check yourself", "Further reading"]
# By chapter, from chapter 0 on.
WIDGETS = [
    "label_pairs",
    "completion_explorer",
    "before_after",
    "rating_browser",
    "judge_bench",
    "margin_slider",
    "completion_explorer",
    "judge_bench",
]


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def text_of(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def outputs(path: Path):
    return [output for cell in code_cells(path) for output in cell.outputs]


def by_name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


every_executed = pytest.mark.parametrize("path", EXECUTED, ids=by_name)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=by_name)
every_textbook = pytest.mark.parametrize("path", [p for p in LESSONS if p.stem in TEXTBOOK], ids=by_name)
everything = pytest.mark.parametrize("path", [*EXECUTED, *EXERCISES], ids=by_name)


def test_each_lesson_after_chapter_0_has_a_solution_and_an_exercise_of_its_name():
    introduction, *names = [path.name for path in LESSONS]
    assert introduction == "00_why_preferences.ipynb"
    assert len(names) == 7
    assert [path.name for path in SOLUTIONS] == names == [path.name for path in EXERCISES]


@everything
def test_a_notebook_is_valid_and_names_a_kernel(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


@every_executed
def test_a_notebook_is_stored_executed_from_top_to_bottom_without_errors(path):
    assert [cell.execution_count for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))
    assert not [
        output for output in outputs(path) if output.output_type == "error" or output.get("name") == "stderr"
    ]


@everything
def test_badge_and_set_up_come_from_the_address_in_pyproject(path):
    cells = read(path).cells
    assert notebooks.badge(path) in cells[0].source
    assert code_cells(path)[0].source == notebooks.set_up()


def test_the_address_of_the_repository_stands_nowhere_else():
    slug = address.place(address.address())
    files = [
        p
        for folder in ("course_lib", "exercises", "tests", "tools", "benchmarks")
        for p in (ROOT / folder).rglob("*")
    ]
    holders = [
        p for p in files if p.suffix in (".py", ".md", ".jinja2") and slug in p.read_text(encoding="utf-8")
    ]
    assert holders == []


@every_executed
def test_a_tagged_cell_gives_its_reason_and_most_cells_are_compared(path):
    tagged = [
        c for c in code_cells(path) if {"nbval-ignore-output", "nbval-skip"} & set(c.metadata.get("tags", []))
    ]
    for cell in tagged:
        print(by_name(path), cell.id, "·", cell.metadata.get("reason"))
        assert len(cell.metadata.get("reason", "")) > 10, (
            f"{cell.id} carries a tag without a reason:\n{cell.source}"
        )
    assert len(tagged) * 3 < len(code_cells(path))


@everything
def test_no_unknown_tags_and_no_nbval_comments(path):
    known = {"nbval-ignore-output", "nbval-raises-exception", "set-up", "test-only"}
    for cell in read(path).cells:
        assert set(cell.metadata.get("tags", [])) <= known
        assert "NBVAL_" not in cell.source


@everything
def test_links_are_absolute_and_those_into_the_repository_lead_to_a_file(path):
    """Colab has nothing beside the notebook, so a relative link is dead there."""
    text, slug = text_of(path), re.escape(address.place(address.address()))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [target for target in targets if not re.match(r"https?:|#|mailto:", target)] == []
    own = [re.search(rf"/(?:github|github\.com)/{slug}/blob/main/(.*)", target) for target in targets]
    assert [match.group(1) for match in own if match and not (ROOT / match.group(1)).is_file()] == []
    assert not [t for t in targets if "//github.com/" in t and re.search(rf"/{slug}/.*ipynb$", t)], (
        "Colab opens notebooks"
    )


@everything
def test_no_picture_is_remote_but_the_badge(path):
    text = text_of(path).replace(notebooks.badge(path), "")
    assert not re.search(r"!\[[^\]]*\]\(https?:|<img[^>]+src=.https?:", text)


@everything
def test_a_notebook_of_the_course_is_named_by_its_file_beside_each_link(path):
    """Who works in JupyterLab opens the file; only Colab needs the address."""
    links = re.findall(r"\[in Colab\]\(\S*/blob/main/(\S*?)\)", text_of(path))
    assert [name for name in links if f"`{name}`" not in text_of(path)] == []


@everything
def test_web_links_are_whole(path):
    for target in re.findall(r"\]\((https?:[^)\s]*)\)", text_of(path)):
        assert re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/[\w./#?=&%~+,-]*)?", target), target


@everything
def test_nothing_of_the_machine_it_was_made_on_is_in_it(path):
    stored = path.read_text(encoding="utf-8")
    assert not re.search(r"/(?:root|home|tmp|work)/|\.cache/|ipykernel_\d|at 0x[0-9a-f]{6}", stored)


@everything
def test_what_people_wrote_in_it_is_spelled_right(path):
    """Sources only: models and shortened tables may write what they like."""
    written = "\n".join(cell.source for cell in read(path).cells)
    command = [sys.executable, "-m", "codespell_lib", "-"]
    done = subprocess.run(command, input=written, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@every_lesson
def test_a_lesson_has_its_parts(path):
    text = text_of(path)
    assert text.startswith(f"# {int(path.name[:2])} · ")
    missing = [heading for heading in NEEDED if heading not in text]
    assert not missing
    assert len(re.findall(r"<details>", text)) >= 4
    assert len(re.findall(r"arxiv|arXiv", text)) >= 2
    assert len(re.findall(r"\b(?:19|20)\d\d\b", text)) >= 3


@every_lesson
def test_the_cells_of_a_lesson_are_short_and_claims_are_asserted(path):
    for cell in code_cells(path):
        longest = LONGEST_SET_UP if "set-up" in cell.metadata.get("tags", []) else LONGEST_CELL
        assert len(cell.source.splitlines()) <= longest, cell.source
    # A chapter of the textbook prints what it claims, and nbval compares what is printed.
    assert path.stem in TEXTBOOK or sum("assert " in cell.source for cell in code_cells(path)) >= 5


@every_lesson
def test_a_lesson_shows_its_place_two_plots_and_its_widget(path):
    number = int(path.name[:2])
    sources = "\n".join(cell.source for cell in code_cells(path))
    assert f"where_we_are({number})" in sources
    figures = [output for output in outputs(path) if "image/png" in output.get("data", {})]
    assert len(figures) >= 3
    assert WIDGETS[number] in sources
    static = [
        output.data["text/html"]
        for output in outputs(path)
        if "Run this cell" in output.get("data", {}).get("text/html", "")
    ]
    assert static, "the widget has no static form"


@pytest.mark.parametrize("path", EXERCISES, ids=by_name)
def test_exercises_are_what_the_solutions_give(path, tmp_path):
    notebooks.make_exercises(tmp_path)
    assert path.read_text(encoding="utf-8") == (tmp_path / path.name).read_text(encoding="utf-8"), (
        "run `make exercises`"
    )


@pytest.mark.parametrize("path", EXERCISES, ids=by_name)
def test_exercises_hold_no_answers(path):
    text = path.read_text(encoding="utf-8")
    assert BEGIN not in text and LINE not in text
    assert not [output for cell in json.loads(text)["cells"] for output in cell.get("outputs", [])]


@every_lesson
def test_the_time_that_is_promised_is_what_its_words_and_cells_take_a_beginner(path):
    # 150 words a minute, and a minute and a half for each code cell, which is read, run and looked at.
    minutes = len(text_of(path).split()) / 150 + 1.5 * (len(code_cells(path)) - 1)
    first = re.search(r"\*\*Time\*\*:? about (\d+ minutes|two hours) to read and try", text_of(path))
    promised = 120 if first[1] == "two hours" else int(first[1].split()[0])
    assert abs(promised - minutes) <= 10


def test_the_chapters_of_the_textbook_are_there():
    assert set(TEXTBOOK) <= {path.stem for path in LESSONS}


@every_textbook
def test_a_chapter_is_short_and_so_are_its_code_cells(path):
    assert len(read(path).cells) <= MOST_CELLS
    sources = [cell.source for cell in code_cells(path) if "set-up" not in cell.metadata.get("tags", [])]
    long = [source for source in sources if len(source.splitlines()) > LONGEST_TEXTBOOK_CELL]
    assert not long, long[0]


@every_textbook
def test_a_section_has_at_most_one_assert(path):
    sections = [0]
    for cell in read(path).cells:
        headings = re.findall(r"^#{2,3} ", cell.source, re.M) if cell.cell_type == "markdown" else []
        sections += [0] * len(headings)
        sections[-1] += len(re.findall(r"^\s*assert ", cell.source, re.M)) * (cell.cell_type == "code")
    # What training gives differs between machines: chapter 6 asserts it where others compare outputs.
    assert max(sections) <= (2 if path.stem == "06_dpo" else 1)


@every_textbook
def test_each_question_of_the_quiz_has_one_right_option_and_a_reason_for_each(path):
    quiz = re.search(r"^## Check yourself$(.*?)^## ", text_of(path), re.M | re.S)[1]
    questions = re.split(r"^\*\*\d\.\*\* ", quiz, flags=re.M)[1:]
    assert len(questions) in QUESTIONS
    for question in questions:
        options = re.findall(
            r"<details><summary>([A-Z])\. .+?</summary>\s*(Right|Not quite): (.{20,})\s*</details>", question
        )
        assert [letter for letter, _, _ in options] == list("ABCDE")[:OPTIONS], question
        assert [verdict for _, verdict, _ in options].count("Right") == 1, question


@every_textbook
def test_the_right_option_has_no_favourite_place(path):
    found = re.findall(r"<summary>([A-Z])\. .+?</summary>\s*Right", text_of(path))
    assert max(map(found.count, found)) <= len(found) / 2
