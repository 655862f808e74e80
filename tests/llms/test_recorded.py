"""A recording answers the prompts that it has, as any model in a pool does, and no others."""

import json

import pytest

from course_lib.errors import InputError
from course_lib.llms import RecordedLLM, ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import GroupColumns, LoadDataFromDicts
from course_lib.steps.tasks import TextGeneration

ROWS = [{"instruction": f"Say {word}."} for word in ("hi", "猫", "<|im_end|>")]


@pytest.fixture
def recording(tmp_path):
    lines = [
        {"chat": [{"role": "user", "content": row["instruction"]}], "text": f"ok {n}"}
        for n, row in enumerate(ROWS)
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_recording_is_a_member_of_a_pool(recording):
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=ROWS)
        writers = [TextGeneration(llm=llm) for llm in (RecordedLLM(recording), ScriptedLLM(["yes"]))]
        names = {"columns": ["generation", "model_name"], "output_columns": ["generations", "models"]}
        load >> writers >> GroupColumns(**names)
    rows = pipeline.run(progress=False)["default"]["train"].to_list()
    assert [row["generations"] for row in rows] == [[f"ok {n}", "yes"] for n in range(3)]
    assert rows[0]["models"] == ["mine", "scripted"] and rows[0]["finish_reasons"] == ["stop", "stop"]


def test_a_prompt_that_was_not_recorded_is_an_error_in_words(recording):
    with pytest.raises(InputError, match="'Say ho.'… It replays 3 prompts"):
        next(TextGeneration(llm=RecordedLLM(recording)).process([{"instruction": "Say ho."}]))


def test_a_second_answer_is_not_made_up(recording):
    with pytest.raises(InputError, match="has one answer, and no second one"):
        next(TextGeneration(llm=RecordedLLM(recording), num_generations=2).process(ROWS))


@pytest.mark.parametrize("content", [None, "{}", "[1]", '{"chat": "x", "text": "y"}', "nonsense"])
def test_what_is_no_recording_is_refused_before_anything_is_written(tmp_path, content):
    path = tmp_path / "mine.jsonl"
    if content is not None:
        path.write_text(content)
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=ROWS) >> TextGeneration(llm=RecordedLLM(str(path)))
    with pytest.raises(InputError, match="is no recording .* Give 'large', or a file"):
        pipeline.run(progress=False)
