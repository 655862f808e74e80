"""Prompts: strict about variables, sandboxed, and blind to templates inside values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.errors import InputError
from course_lib.llms import ScriptedLLM
from course_lib.steps.base import required_columns
from course_lib.steps.tasks import TextGeneration
from course_lib.steps.tasks.templating import environment, filled, names, parsed, shipped


def rendered(source, **values):
    return filled(parsed(source)[0], **values)


def test_a_variable_without_a_value_is_an_error_that_names_it():
    with pytest.raises(InputError, match="'topic' is undefined. Values at hand: instruction"):
        rendered("{{ instruction }} {{ topic }}", instruction="Go.")
    with pytest.raises(InputError, match="undefined"):
        rendered("{% for x in things %}{{ x }}{% endfor %}")


@pytest.mark.parametrize("source", ["{{ x", "{% if x %}", "{% nothing %}", "{{ x | nofilter }}"])
def test_a_template_that_is_not_jinja_is_refused_when_the_task_is_made(source):
    with pytest.raises(InputError, match="not valid Jinja"):
        parsed(source)
    with pytest.raises(InputError, match="not valid Jinja"):
        TextGeneration(llm=ScriptedLLM(["x"]), template=source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ x.__class__.__mro__ }}",
        "{{ x.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__['os'] }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ x.format.__globals__ }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ range(10 ** 9) | list }}",
        "{{ 1 / 0 }}",
        "{{ x + 1 }}",
    ],
)
def test_what_the_sandbox_forbids_or_what_fails_is_our_error(source):
    with pytest.raises(InputError, match="cannot be filled"):
        rendered(source, x="text")


@pytest.mark.parametrize(
    "value",
    ["{{ 7*7 }}", "{% raw %}", "{% include 'x' %}", "{# gone #}", "<b>&amp;</b>", "$x %s {0}", "a\\nb"],
)
def test_values_are_never_templates_nor_html(value):
    assert rendered("[{{ x }}]", x=value) == f"[{value}]"
    task = TextGeneration(llm=ScriptedLLM(["x"]), template="Do: {{ instruction }}")
    assert task.format_input({"instruction": value})[-1]["content"] == f"Do: {value}"


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_value_comes_through(value):
    assert rendered("[{{ x }}]", x=value) == f"[{value}]"


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert rendered("[{{ x }}]", x="a\ud800b😀") == "[a?b😀]"


def test_shipped_prompts_are_listed_and_valid():
    assert names("evol_quality") == ["creativity", "deepening", "details", "helpfulness", "relevance"]
    assert names("evol_instruct") == ["breadth", "concretising", "constraints", "deepening", "reasoning"]
    assert len(names("ultrafeedback")) == 8
    for folder in ("evol_quality", "evol_instruct", "ultrafeedback"):
        assert all(shipped(f"{folder}/{name}") for name in names(folder))
    assert shipped("ultrafeedback/relevance").environment is environment()


def test_the_variables_of_a_template_are_the_inputs():
    made = TextGeneration(
        llm=ScriptedLLM(["x"]),
        template="{{ question }} in {{ language }}: {% if hint %}{{ hint }}{% endif %}",
    )
    assert sorted(required_columns(made.inputs)) == ["hint", "language", "question"]
    assert required_columns(TextGeneration(llm=ScriptedLLM(["x"])).inputs) == ["instruction"]
    named = TextGeneration(llm=ScriptedLLM(["x"]), columns="topic").inputs
    assert required_columns(named) == ["topic", "instruction"]
    own = TextGeneration(llm=ScriptedLLM(["x"]), template="{% set a = 1 %}{{ a }}{{ b }}").inputs
    assert required_columns(own) == ["b"]


def test_a_missing_column_is_an_error_that_names_it():
    task = TextGeneration(llm=ScriptedLLM(["x"]), template="About {{ topic }}: {{ instruction }}")
    with pytest.raises(InputError, match="needs the column 'topic', but a row has none"):
        next(task.process([{"instruction": "Go."}]))
    with pytest.raises(InputError, match="needs the column 'instruction', but a row has none"):
        next(TextGeneration(llm=ScriptedLLM(["x"])).process([{"prompt": "Go."}]))


def test_print_shows_system_prompt_and_filled_template_without_the_model(capsys):
    def never(chat):
        raise AssertionError("the model was asked")

    task = TextGeneration(
        llm=ScriptedLLM(never), system_prompt="Be brief.", template="About {{ topic }}: {{ instruction }}"
    )
    task.print()
    shown = capsys.readouterr().out
    assert "system" in shown and "Be brief." in shown and "About <TOPIC>: <INSTRUCTION>" in shown
    task.print({"topic": "tea", "instruction": "Go {{ on }}."})
    assert "About tea: Go {{ on }}." in capsys.readouterr().out
