"""What people wrote for distilabel's preference part runs here with the import changed."""

import pytest

from course_lib.errors import GraphError, InputError
from course_lib.llms import ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import (
    CombineOutputs,
    ExpandColumns,
    FormatTextGenerationSFT,
    GlobalStep,
    GroupColumns,
    KeepColumns,
    LoadDataFromDicts,
    StepInput,
    StepOutput,
    step,
)
from course_lib.steps.tasks import TextGeneration


@step(inputs=["instruction"], outputs=["loud"])
def Shout(inputs: StepInput) -> StepOutput:
    """Says it loudly."""
    yield [{**row, "loud": row["instruction"].upper()} for row in inputs]


@step(inputs=["a"], outputs=["both"])
def Both(*inputs: StepInput) -> StepOutput:
    yield [{**left, "both": [left["a"], right["a"]]} for left, right in zip(*inputs, strict=True)]


@step(outputs=["a"], step_type="generator")
def Count(offset: int = 0):
    yield [{"a": number} for number in range(offset, 3)], True


class Rank(GlobalStep):
    inputs = ["a"]
    outputs = ["rank"]

    def process(self, rows):
        order = sorted(row["a"] for row in rows)
        yield [{**row, "rank": order.index(row["a"])} for row in rows]


def rows_of(pipeline):
    return pipeline.run(progress=False)["default"]["train"].to_list()


def test_a_function_becomes_a_step_with_a_name_and_a_docstring():
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=[{"instruction": "go"}]) >> Shout(name="shout")
    assert rows_of(pipeline) == [{"instruction": "go", "loud": "GO"}]
    assert Shout.__name__ == "Shout" and Shout.__doc__ == "Says it loudly."


def test_columns_of_such_a_step_are_checked_before_it_runs():
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=[{"a": "go"}]) >> Shout()
    with pytest.raises(GraphError, match="needs the column 'instruction'"):
        pipeline.run()


def test_a_function_of_several_inputs_joins_branches_and_one_of_an_offset_begins():
    with Pipeline() as pipeline:
        first, second = Count(), Count()
        [first, second] >> Both()
    assert [row["both"] for row in rows_of(pipeline)] == [[0, 0], [1, 1], [2, 2]]


def test_a_kind_that_is_none_is_an_error():
    with pytest.raises(InputError, match="allowed: normal, global, generator"):
        step(step_type="async")


def test_a_global_step_gets_all_rows_at_once():
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=[{"a": (7 * k) % 1200} for k in range(1200)], batch_size=50) >> Rank()
    assert all(row["rank"] == row["a"] for row in rows_of(pipeline))


def test_lists_become_rows_and_rows_of_branches_one_row():
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"i": 1, "a": ["x", "y"], "b": ["u"]}, {"i": 2, "a": ["z"], "b": []}])
        load >> ExpandColumns(columns={"a": "text", "b": "other"})
    expanded = [{"i": 1, "text": "x", "other": "u"}, {"i": 1, "text": "y", "other": None}]
    assert rows_of(pipeline) == [*expanded, {"i": 2, "text": "z", "other": None}]
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": "go"}])
        writers = [
            TextGeneration(llm=ScriptedLLM([text]), output_mappings={"generation": text}) for text in "ab"
        ]
        load >> writers >> CombineOutputs() >> KeepColumns(columns=["instruction", "a", "b"])
    assert rows_of(pipeline) == [{"instruction": "go", "a": "a", "b": "b"}]


def test_metadata_under_one_key_is_kept_for_each_branch():
    rows = [[{"a": 1, "distilabel_metadata": {"key": k, "same": 0}}] for k in (1, 2)]
    [grouped] = next(GroupColumns(columns=["a"]).process(*rows))
    assert grouped["distilabel_metadata"] == {"key": [1, 2], "same": 0}


def test_rows_for_fine_tuning_hold_whole_conversations_and_no_fragments():
    rows = [
        {"instruction": "Hi.", "system_prompt": "Be kind.", "generation": "Hello!", "finish_reason": "stop"}
    ]
    rows += [
        {**rows[0], "generation": "Hello th", "finish_reason": "length"},
        {**rows[0], "generation": None},
    ]
    made = next(FormatTextGenerationSFT().process(rows))
    roles = [(message["role"], message["content"]) for message in made[0]["messages"]]
    assert roles == [("system", "Be kind."), ("user", "Hi."), ("assistant", "Hello!")]
    assert [row.get("drop_reason") for row in made] == [None, "cut off", "empty completion"]


def test_models_are_found_where_distilabel_1_5_had_them():
    from course_lib.models import LLM, TransformersLLM

    assert issubclass(TransformersLLM, LLM)
