"""Every question accepts right answers of several kinds, and refuses wrong ones with the right message."""

import importlib

import pytest

from course_lib.exercises import chapter
from course_lib.exercises.questions import KINDS, LEVELS, outcome_of
from course_lib.exercises.sheet import CHAPTERS
from course_lib.exercises.sources import solution_code

TABLES = {number: importlib.import_module(f"answers_{number}") for number in CHAPTERS}
SHEETS = {number: chapter(number) for number in CHAPTERS}
RIGHT = [
    (n, name, k)
    for n, table in TABLES.items()
    for name, answers in table.RIGHT.items()
    for k in range(len(answers))
]
WRONG = [
    (n, name, k)
    for n, table in TABLES.items()
    for name, answers in table.WRONG.items()
    for k in range(len(answers))
]


def named(case) -> str:
    return "chapter_{}-{}-{}".format(*case)


@pytest.fixture(autouse=True)
def stand_ins(tmp_path, monkeypatch):
    """An empty folder to work in: what earlier chapters kept are the stand-ins."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", RIGHT, ids=named)
def test_a_right_answer_is_accepted(case):
    number, name, k = case
    outcome = outcome_of(SHEETS[number].questions[name], TABLES[number].RIGHT[name][k])
    assert outcome.status == "correct", outcome.reason


SLIPS = {
    (
        2,
        "meaning",
        "library",
        "kept",
    ): "You say 'kept' of 'library'. Read it again: the draft makes an exception",
    (
        3,
        "by_the_scale",
        "alarm",
        4.5,
    ): "The two readings of 'alarm' gave [3.0, 2.0]; you gave 4.5. Their reasons",
    (4, "blind_labels", "real-130", "A"): "You say 'A' of 'real-130'",
    (5, "by_reading", "coffee", "rejected"): "You say 'rejected' of 'coffee'",
}


@pytest.mark.parametrize("case", SLIPS, ids=lambda case: case[1])
def test_a_slip_that_is_forgiven_is_named(case):
    number, name, item, verdict = case
    question, right = SHEETS[number].questions[name], TABLES[number].RIGHT[name][0]
    outcome = outcome_of(question, {**right, item: verdict})
    assert outcome.status == "correct"
    assert SLIPS[case] in outcome.reason
    assert outcome_of(question, right).reason == ""


def test_the_same_label_everywhere_is_accepted_with_a_remark():
    question, rows = SHEETS[4].questions["my_labels"], TABLES[4].ROWS
    remarks = {"no difference": "Chapter 5 gets no pair", "A": "position bias", "B": "position bias"}
    for label, remark in remarks.items():
        outcome = outcome_of(question, [{**row, "label": label} for row in rows])
        assert outcome.status == "correct" and remark in outcome.reason


@pytest.mark.parametrize("case", WRONG, ids=named)
def test_a_wrong_answer_is_refused_with_the_intended_message(case):
    number, name, k = case
    answer, message = TABLES[number].WRONG[name][k]
    outcome = outcome_of(SHEETS[number].questions[name], answer)
    assert outcome.status == "incorrect"
    assert message in outcome.reason
    assert "part ways on 0 more" not in outcome.reason


@pytest.mark.parametrize("number", CHAPTERS, ids=lambda n: f"chapter_{n}")
def test_a_chapter_has_what_the_course_promises(number):
    questions, table = list(SHEETS[number].questions.values()), TABLES[number]
    assert len(questions) >= 6
    assert {one.level for one in questions if one.kind == "code"} == set(LEVELS)
    assert {"plot", "fault"} <= {one.kind for one in questions} <= set(KINDS)
    for one in questions:
        assert one.asks and all(one.hints)
        assert len(table.RIGHT[one.name]) >= 2, one.name
        assert len(table.WRONG[one.name]) >= 3, one.name
    assert set(table.RIGHT) == set(table.WRONG) == set(SHEETS[number].questions)


@pytest.mark.parametrize("number", CHAPTERS, ids=lambda n: f"chapter_{n}")
def test_every_question_has_its_solution_in_the_solution_notebook(number):
    for name in SHEETS[number].questions:
        code = solution_code(number, name)
        assert code.strip() and "SOLUTION" not in code
