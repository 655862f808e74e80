"""Pipelines that do not fit together are refused before any step is loaded, with what would mend them."""

import pytest

from course_lib.errors import CourseLibError, GraphError, InputError
from course_lib.llms import ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import (
    FilterRows,
    FormatTextGenerationDPO,
    GroupColumns,
    KeepColumns,
    LoadDataFromDicts,
    Step,
)
from course_lib.steps.tasks import TextGeneration

ROWS = [{"instruction": "Say hi", "topic": "greetings"}]


class Loaded(BaseException):
    """A step was loaded although the pipeline should have been refused; nothing catches this by accident."""


class Armed(Step):
    """A step that must not be loaded."""

    def load(self):
        raise Loaded(self.name)

    def process(self, *inputs):
        yield inputs[0]


class Copy(Step):
    """Takes rows from one step and makes the column `copy` from `text`."""

    mark: str = ""
    inputs = ["text"]
    outputs = ["copy"]

    def process(self, rows):
        yield [{**row, "copy": row["text"] + self.mark} for row in rows]


class ArmedLoad(LoadDataFromDicts):
    def load(self):
        raise Loaded(self.name)


class ArmedLLM(ScriptedLLM):
    def load(self):
        raise Loaded(self.model_name)


def write(**kwargs):
    return TextGeneration(llm=ArmedLLM(["text"]), **kwargs)


def refused(pipeline, match, error=GraphError, **run):
    with pytest.raises(error, match=match) as caught:
        pipeline.run(progress=False, **run)
    assert isinstance(caught.value, CourseLibError)


def test_armed_steps_do_go_off_when_the_pipeline_is_sound():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> write()
    with pytest.raises(Loaded):
        pipeline.run(progress=False)


def test_empty_pipeline():
    with Pipeline() as pipeline:
        pass
    refused(pipeline, "no steps.*with Pipeline")


def test_circle_is_shown():
    with Pipeline() as pipeline:
        first, second = Armed(name="first"), Armed(name="second")
        ArmedLoad(data=ROWS) >> first >> second >> first
    refused(pipeline, "circle.*(first → second → first|second → first → second).*Remove one")


def test_step_connected_to_itself_is_a_circle():
    with Pipeline() as pipeline:
        step = Armed(name="alone")
        ArmedLoad(data=ROWS) >> step >> step
    refused(pipeline, "circle.*alone → alone")


def test_step_without_rows_is_named():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> Armed()
        Armed(name="loose")
    refused(pipeline, "'loose' gets no rows.*>>")


def test_source_connected_to_nothing_is_named():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> Armed()
        ArmedLoad(data=ROWS, name="idle")
    refused(pipeline, "'idle' is connected to nothing")


def test_name_used_twice_is_refused_where_it_is_given():
    with Pipeline(), pytest.raises(GraphError, match="two steps named 'same'.*name="):
        Armed(name="same")
        Armed(name="same")


def test_missing_column_names_step_and_columns_and_suggests_a_mapping():
    with Pipeline() as pipeline:
        ArmedLoad(data=[{"instructions": "hi", "topic": "t"}]) >> write(name="writer")
    refused(
        pipeline,
        r"'writer' needs the column 'instruction'.*instructions, topic.*input_mappings={'instruction': 'instructions'}",
    )


def test_missing_column_deep_in_the_graph_is_found():
    with Pipeline() as pipeline:
        (
            ArmedLoad(data=ROWS)
            >> write()
            >> KeepColumns(columns=["generation"])
            >> Armed()
            >> FormatTextGenerationDPO()
        )
    refused(
        pipeline,
        "'format_text_generation_dpo_0' needs the column 'instruction'.*The rows before it have: generation",
    )


def test_grouped_columns_are_no_longer_there():
    with Pipeline() as pipeline:
        (
            ArmedLoad(data=ROWS)
            >> [write(), write()]
            >> GroupColumns(columns=["generation"])
            >> Copy(input_mappings={"text": "generation"})
        )
    refused(pipeline, "'copy_0' needs the column 'generation'.*grouped_generation")


def test_column_that_one_of_two_branches_lacks_is_missing():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> [write(), Armed()] >> GroupColumns(columns=["generation"])
    refused(pipeline, "'group_columns_0' needs the column 'generation'")


def test_mapping_from_a_column_that_is_not_there():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> write(input_mappings={"instruction": "question"})
    refused(pipeline, "needs the column 'question'")


def test_mapping_of_an_input_that_the_step_does_not_have():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> write(input_mappings={"prompt": "instruction"})
    refused(
        pipeline,
        "'text_generation_0' has no input prompt to map. Its inputs: input, instruction, messages, system_prompt",
    )


def test_two_branches_into_a_step_that_takes_one_ask_for_group_columns():
    with Pipeline() as pipeline:
        load = ArmedLoad(data=[{"text": "a"}])
        load >> [Copy(name="a"), Copy(name="b")] >> FilterRows(keep=bool, reason="r", name="after")
    refused(pipeline, "'after' takes rows from one step, but a, b send it some. Put GroupColumns between")


def test_connected_twice_is_refused():
    with Pipeline(), pytest.raises(GraphError, match="connected twice"):
        load, step = ArmedLoad(data=ROWS), Armed()
        load >> step
        load.connect(step)


def test_nothing_flows_into_a_source():
    with Pipeline(), pytest.raises(GraphError, match="takes none.*Turn the arrow round"):
        Armed() >> ArmedLoad(data=ROWS)


def test_step_of_another_pipeline_is_refused():
    with Pipeline():
        stranger = Armed()
    with Pipeline(), pytest.raises(GraphError, match="not in this pipeline"):
        ArmedLoad(data=ROWS) >> stranger


def test_unknown_step_in_parameters_lists_the_steps():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> write()
    refused(
        pipeline, "no step 'writer'.*armed_load_0, text_generation_0", InputError, parameters={"writer": {}}
    )


def test_unknown_parameter_lists_the_parameters():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> write()
    parameters = {"text_generation_0": {"temprature": 1}}
    refused(
        pipeline,
        "'text_generation_0' has no parameter 'temprature'.*system_prompt",
        InputError,
        parameters=parameters,
    )


@pytest.mark.parametrize(
    "given",
    [{"temperature": 1}, {"generation_kwargs": {"temprature": 1}}, {"generation_kwargs": {"top_p": 7}}],
)
def test_bad_parameters_of_a_model_are_refused_before_it_loads(given):
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> write()
    refused(
        pipeline, "temperature|temprature|top_p", InputError, parameters={"text_generation_0": {"llm": given}}
    )


def test_bad_template_is_refused_where_it_is_given():
    with pytest.raises(InputError, match="not valid Jinja"):
        write(template="{{ instruction ")


def test_model_that_does_not_exist_is_refused_before_any_step_loads():
    from course_lib.llms import TransformersLLM

    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> write() >> TextGeneration(llm=TransformersLLM("no-such-model"))
    refused(pipeline, "no model 'no-such-model'", OSError)


@pytest.mark.parametrize("name", ["dropped", "with/slash", "..", ""])
def test_any_name_that_is_accepted_also_runs(name):
    with Pipeline() as pipeline:
        try:
            load, step = LoadDataFromDicts(data=[{"text": "a"}]), Copy(name=name)
        except GraphError:
            return
        load >> step
    assert list(pipeline.run(progress=False)["default"]["train"]) == [{"text": "a", "copy": "a"}]


# --- what is accepted ---------------------------------------------------------------------------------------------------


def test_names_are_class_names_numbered_by_class_and_pass_over_those_taken():
    with Pipeline() as pipeline:
        write(), write(), GroupColumns(columns=["a"]), write(name="text_generation_2"), write()
    assert list(pipeline.graph.steps) == [
        "text_generation_0",
        "text_generation_1",
        "group_columns_0",
        "text_generation_2",
        "text_generation_3",
    ]
    with Pipeline() as other:
        write()
    assert list(other.graph.steps) == ["text_generation_0"]


def test_arrows_take_lists_on_both_sides_and_chain():
    with Pipeline() as pipeline:
        load, a, b, join, end = (Armed(name=name) for name in ("load", "a", "b", "join", "end"))
        assert load >> [a, b] >> join >> end is end
    assert pipeline.graph.parents == {
        "load": [],
        "a": ["load"],
        "b": ["load"],
        "join": ["a", "b"],
        "end": ["join"],
    }
    assert pipeline.graph.leaves() == [end]


def test_connect_takes_several_steps_and_is_the_same_as_arrows():
    with Pipeline() as pipeline:
        load, a, b = (Armed(name=name) for name in ("load", "a", "b"))
        load.connect(a, b)
        a.connect(b)
    assert pipeline.graph.parents == {"load": [], "a": ["load"], "b": ["load", "a"]}


def test_order_puts_every_step_after_those_it_depends_on():
    with Pipeline() as pipeline:
        end, middle, start = Armed(name="end"), Armed(name="middle"), Armed(name="start")
        start >> [middle, end]
        middle >> end
    assert [step.name for step in pipeline.graph.order()] == ["start", "middle", "end"]


def test_steps_belong_to_the_innermost_open_pipeline_or_the_one_they_are_given():
    with Pipeline() as outer:
        with Pipeline() as inner:
            Armed(name="in")
            Armed(name="given", pipeline=outer)
        Armed(name="out")
    assert (list(outer.graph.steps), list(inner.graph.steps)) == (["given", "out"], ["in"])
    assert Armed().pipeline is None


def test_optional_columns_may_be_missing():
    rows = [{"instruction": "hi", "generations": ["a", "b c"], "ratings": [1, 2]}]
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=rows) >> FormatTextGenerationDPO()
    assert pipeline.run(progress=False)["default"]["train"][0]["chosen_model"] is None


def test_templates_ask_for_their_variables():
    with Pipeline() as pipeline:
        ArmedLoad(data=ROWS) >> write(template="{{ instruction }} about {{ subject }}")
    refused(pipeline, "needs the column 'subject'")
