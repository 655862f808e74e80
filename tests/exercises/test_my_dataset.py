"""What a learner keeps in one chapter is what the next one reads; without it, a stand-in that says so."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from course_lib.audit import audit
from course_lib.errors import InputError
from course_lib.exercises import chapter
from course_lib.exercises.checks import data
from course_lib.exercises.faults import pairs_to_audit
from course_lib.llms import RecordedLLM
from course_lib.steps.load import DATA, read_jsonl

ROWS = [{"instruction": "Why?", "generations": ["Yes.", "No."], "ratings": np.array([1.5, 2.0])}]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_are_kept_beside_the_notebook_and_read_again(folder, capsys):
    note = chapter(1).keep(ROWS)
    assert repr(note) == "✔ 1 rows are kept in my_dataset/chapter_1.jsonl, beside this notebook."
    expected = [{"instruction": "Why?", "generations": ["Yes.", "No."], "ratings": [1.5, 2.0]}]
    assert chapter(2).kept(1) == expected
    assert "1 rows of chapter 1, your own." in capsys.readouterr().out
    assert [
        json.loads(line) for line in (folder / "my_dataset/chapter_1.jsonl").read_text().splitlines()
    ] == expected


def test_rows_are_kept_anew_each_time():
    ex = chapter(1)
    ex.keep(ROWS * 3)
    ex.keep(Dataset.from_list([{"instruction": "What?"}]))
    assert ex.kept(1) == [{"instruction": "What?"}]


def test_a_chapter_that_kept_nothing_has_a_stand_in_and_says_so(capsys):
    for number in range(1, 6):
        rows = chapter(5).kept(number)
        assert rows == data(f"stand_in_{number}") and len(rows) >= 3
        assert f"rows of chapter {number}, a stand-in, since you kept none" in capsys.readouterr().out
    assert not Path("my_dataset").exists()


def test_dots_keep_nothing():
    assert "Nothing is kept yet" in repr(chapter(1).keep(...))
    assert not Path("my_dataset").exists()


@pytest.mark.parametrize("rows", [5, "rows", {"default": ROWS}, None, [3], [{"model": object()}]])
def test_what_is_no_list_of_rows_is_refused_in_words(rows):
    with pytest.raises(InputError, match="ex.keep takes a list of rows|A row cannot be kept"):
        chapter(1).keep(rows)


@pytest.mark.parametrize("number", [0, 3, "1", True, None])
def test_only_earlier_chapters_have_rows_to_read(number):
    with pytest.raises(InputError, match="chapters 1 to 2"):
        chapter(2).kept(number)


def test_the_planted_faults_are_those_that_the_audit_of_the_course_finds():
    rows, planted = pairs_to_audit(), data("planted")
    report = audit(rows)
    found = {
        fault: [rows[place.row - 1]["id"] for place in places] for fault, places in report.faults.items()
    }
    ties = [rows[place.row - 1]["id"] for place in report.faults["tie"]]
    assert sorted(found["identical completions"]) == planted["identical pair"]
    assert sorted(found["prompt leaked"]) == planted["leaked heading"]
    for fault in ("contradictory pair", "test prompt in train"):
        assert sorted(found[fault]) == planted[fault]
    assert sorted(found["rated below rejected"] + ties) == planted["rating against the choice"]
    assert set(found["rating off the scale"]) <= set(planted["rating off the scale"])


def test_the_faults_of_the_exercises_stand_elsewhere_than_those_of_the_lesson():
    lesson = {row["prompt"] for row in read_jsonl(DATA / "faulty_preferences.jsonl")}
    assert not lesson & {row["prompt"] for row in pairs_to_audit()}


def correct(number, name, rows):
    ex = chapter(number)
    ex.keep(rows)
    ex.check(name, rows)
    return ex.outcomes[name].reason or ex.outcomes[name].status


def test_a_dataset_of_ones_own_grows_through_all_chapters():
    """With other rows than the stand-ins, as a large model and a scripted one write them."""
    large = RecordedLLM("large")
    asked = list(dict.fromkeys(chat for chat in map(only_instruction, large.texts) if chat))[:4]
    chats = [[{"role": "user", "content": text}] for text in asked]
    written = [answer["generations"][0] for answer in large.generate(chats)]
    models = ["large", "mine"]
    pool = [
        {
            "instruction": text,
            "generations": [answer, f"About {text[:9]}: no idea."],
            "generation_models": models,
        }
        for text, answer in zip(asked, written, strict=True)
    ]
    assert correct(1, "my_pool", pool) == "correct"
    longer = [
        {**row, "generations": [*row["generations"], row["generations"][0] + " That is all."],
         "generation_models": [*models, "large, rewritten"]}
        for row in pool
    ]  # fmt: skip
    assert correct(2, "my_rewrites", longer) == "correct"
    rated = [{**row, "ratings": [4.0, 1.0, 4.5]} for row in longer]
    assert correct(3, "my_ratings", rated) == "correct"
    labelled = [
        {
            "instruction": row["instruction"],
            "A": row["generations"][0],
            "B": row["generations"][1],
            "label": label,
        }
        for row, label in zip(rated, ["A", "A", "B", "no difference"], strict=True)
    ]
    assert correct(4, "my_labels", labelled) == "correct"
    ex = chapter(4)
    ex.check("my_judge", (2, 3))
    assert ex.outcomes["my_judge"].status == "correct"
    sides = {"A": ("A", "B"), "B": ("B", "A")}
    pairs = [
        {"prompt": row["instruction"], "split": "train"}
        | dict(zip(("chosen", "rejected"), (row[side] for side in sides[row["label"]]), strict=True))
        for row in labelled[:3]
    ]
    assert correct(5, "my_pairs", pairs) == "correct"
    ex = chapter(6)
    ex.check(
        "my_training", (3, "I expect a margin above 0 on these pairs, because " + "so few are learned " * 5)
    )
    assert ex.outcomes["my_training"].status == "correct"


def only_instruction(chat: str) -> str | None:
    messages = json.loads(chat)
    return messages[0][1] if len(messages) == 1 and len(messages[0][1]) < 150 else None
