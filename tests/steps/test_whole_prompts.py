"""Nothing of a prompt is left out, no text that was cut off is on either side of a pair, and no pair comes twice."""

import pytest

from course_lib.errors import InputError
from course_lib.llms import LLM, ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts, Step
from course_lib.steps.tasks import EvolQuality, TextGeneration, UltraFeedback

ALPACA = {
    "instruction": "Translate to French.",
    "input": "The cat sleeps.",
    "system_prompt": "You are terse.",
}
CHAT = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Translate to French.\n\nThe cat sleeps."},
]


class Writer(LLM):
    """Writes `text`, and stops for `reason`."""

    text: str
    reason: str = "stop"
    model_name: str = "writer"

    def write(self, requests, wanted):
        for place in wanted:
            written = {"text": self.text, "input_tokens": 1, "output_tokens": 1, "finish_reason": self.reason}
            yield {place: written}


class Lengths(Step):
    """Rates a text by its length."""

    inputs = ["generations"]
    outputs = ["ratings"]

    def process(self, rows):
        yield [{**row, "ratings": [len(text or "") for text in row["generations"]]} for row in rows]


def pool(writers, rows, **evolving):
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=rows)
        branches = [TextGeneration(llm=writer) for writer in writers]
        load >> branches
        if evolving:
            mapped = {"input_mappings": {"response": "generation"}}
            mapped["output_mappings"] = {"evolved_response": "generation"}
            evolve = EvolQuality(**evolving, **mapped)
            branches[0] >> evolve
            branches.append(evolve)
        group = GroupColumns(columns=["generation"], output_columns=["generations"])
        branches >> group >> Lengths() >> FormatTextGenerationDPO()
    return pipeline.run(progress=False, use_cache=False)


def rows_of(distiset, name):
    return distiset[name]["train"].to_list() if name in distiset else []


def test_the_system_prompt_and_the_input_of_a_row_reach_the_model():
    assert TextGeneration(llm=ScriptedLLM(["x"])).format_input(ALPACA) == CHAT


def test_the_row_is_told_before_the_task():
    task = TextGeneration(llm=ScriptedLLM(["x"]), system_prompt="Answer in one sentence.")
    system = task.format_input(ALPACA)[0]["content"]
    assert system == "You are terse.\n\nAnswer in one sentence."
    assert task.format_input({"instruction": "Hi."})[0]["content"] == "Answer in one sentence."


@pytest.mark.parametrize("nothing", [None, "", "  \n", float("nan")])
def test_a_part_without_words_is_no_part(nothing):
    row = {"instruction": "Hi.", "input": nothing, "system_prompt": nothing}
    assert TextGeneration(llm=ScriptedLLM(["x"])).format_input(row) == [{"role": "user", "content": "Hi."}]


@pytest.mark.parametrize("column", ["input", "system_prompt"])
@pytest.mark.parametrize("value", [3, ["a"], {"a": 1}, True])
def test_a_part_that_is_no_text_is_an_error_that_names_the_column(column, value):
    with pytest.raises(InputError, match=f"'{column}' is part of a prompt and must be text"):
        TextGeneration(llm=ScriptedLLM(["x"])).format_input({"instruction": "Hi.", column: value})


def test_a_template_that_places_the_parts_itself_gets_them_once():
    template = "{{ system_prompt }} | {{ instruction }} | {{ input }}"
    chat = TextGeneration(llm=ScriptedLLM(["x"]), template=template).format_input(ALPACA)
    assert chat == [{"role": "user", "content": "You are terse. | Translate to French. | The cat sleeps."}]


@pytest.mark.parametrize(
    ("template", "question"),
    [
        ("Please: {{ instruction }}", "Please: Translate to French.\n\nThe cat sleeps."),
        ("{{ instruction }}\n\n{{ input }}", "Translate to French.\n\nThe cat sleeps."),
        ("{{ instruction }} ({{ input }})", "Translate to French. (The cat sleeps.)"),
    ],
)
def test_a_template_of_ones_own_asks_the_whole_prompt(template, question):
    task = TextGeneration(llm=ScriptedLLM(["x"]), template=template)
    assert task.format_input(ALPACA) == [CHAT[0], {"role": "user", "content": question}]
    before = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    talk = {**ALPACA, "messages": [*before, {"role": "user", "content": "Translate to French."}]}
    assert task.format_input(talk) == [CHAT[0], *before, {"role": "user", "content": question}]


@pytest.mark.parametrize("empty", [{}, {"input": None}, {"input": ""}, {"input": float("nan")}])
def test_a_template_that_places_the_input_takes_rows_without_one(empty):
    task = TextGeneration(
        llm=ScriptedLLM(["x"]), template="{{ instruction }}{% if input %}: {{ input }}{% endif %}"
    )
    [rows] = task.process([{"instruction": "Say hi.", **empty}])
    assert rows[0]["distilabel_metadata"]["raw_input_text_generation_0"][-1]["content"] == "Say hi."
    assert rows[0]["generation"] == "x"


def test_judges_and_rewriters_read_the_whole_prompt():
    row = {**ALPACA, "generations": ["Le chat dort.", "Chat."], "response": "Chat."}
    for task in (UltraFeedback(llm=ScriptedLLM(["x"])), EvolQuality(llm=ScriptedLLM(["x"]))):
        read = "\n".join(message["content"] for message in task.format_input(row))
        assert all(read.count(part) == 1 for part in ALPACA.values())


def test_the_whole_prompt_stands_in_the_pair_and_in_what_a_trainer_gets():
    distiset = pool([Writer(text="Le chat dort."), Writer(text="Chat.")], [ALPACA])
    [row] = rows_of(distiset, "default")
    assert row["prompt"] == "\n\n".join(message["content"] for message in CHAT)
    assert row["chosen"][:-1] == row["rejected"][:-1] == CHAT
    [pair] = distiset.to_trl()["train"]
    assert pair["prompt"] == CHAT and pair["chosen"] == [{"role": "assistant", "content": "Le chat dort."}]


def test_rows_with_and_without_a_system_prompt_go_together():
    rows = [ALPACA, {"instruction": "Name a fruit.", "input": None, "system_prompt": None}]
    distiset = pool([Writer(text="Le chat dort."), Writer(text="Chat.")], rows)
    lengths = [len(row["chosen"]) for row in rows_of(distiset, "default")]
    assert sorted(lengths) == [2, 3]


def test_a_text_that_was_cut_off_is_on_neither_side():
    long_but_cut = Writer(text="A much longer text that is c", reason="length")
    distiset = pool(
        [long_but_cut, Writer(text="Whole."), Writer(text="Whole too.")], [{"instruction": "Go."}]
    )
    [row] = rows_of(distiset, "default")
    assert row["finish_reasons"] == ["length", "stop", "stop"]
    assert row["chosen"][-1]["content"] == "Whole too." and row["rejected"][-1]["content"] == "Whole."


def test_where_one_text_is_whole_the_row_is_dropped_as_cut_off():
    distiset = pool(
        [Writer(text="A text that is c", reason="length"), Writer(text="Whole.")], [{"instruction": "Go."}]
    )
    assert [row["drop_reason"] for row in rows_of(distiset, "dropped")] == ["cut off"]


@pytest.mark.parametrize("draft, rewrite", [("length", "stop"), ("stop", "length"), ("length", "length")])
def test_a_rewrite_of_a_text_that_was_cut_off_or_one_that_was_cut_off_itself_is_cut_off(draft, rewrite):
    drafting = Writer(text="Yeast makes gas that is caught in the", reason=draft)
    rewriting = Writer(
        text="Yeast eats sugar and makes gas, which the dough holds in bubbles.", reason=rewrite
    )
    distiset = pool([drafting], [{"instruction": "Why does bread rise?"}], llm=rewriting)
    [row] = rows_of(distiset, "dropped")
    assert row["finish_reasons"] == [draft, "length"] and row["drop_reason"] == "cut off"


def test_completions_in_one_list_keep_their_reasons():
    task = TextGeneration(llm=Writer(text="x", reason="length"), num_generations=2, group_generations=True)
    [row] = next(task.process([{"instruction": "Go."}]))
    assert row["generation"] == ["x", "x"] and row["finish_reasons"] == ["length", "length"]


def test_the_same_pair_comes_once_and_the_others_are_counted():
    rows = [{"instruction": "Go."}, {"instruction": "Stay."}, {"instruction": "Go."}, {"instruction": "Go."}]
    distiset = pool([Writer(text="Le chat dort."), Writer(text="Chat.")], rows)
    assert [row["instruction"] for row in rows_of(distiset, "default")] == ["Go.", "Stay."]
    assert [row["drop_reason"] for row in rows_of(distiset, "dropped")] == ["duplicate instruction"] * 2


def test_the_drop_reason_of_an_earlier_run_does_not_bind():
    rows = [{"instruction": "Go.", "drop_reason": "tie"}]
    distiset = pool([Writer(text="Le chat dort."), Writer(text="Chat.")], rows)
    assert len(rows_of(distiset, "default")) == 1 and "dropped" not in distiset


TALK = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Spain?"},
]


def test_a_conversation_is_answered_in_its_context_and_exported_whole():
    distiset = pool([Writer(text="Madrid, of course."), Writer(text="Rome.")], [{"id": 1, "messages": TALK}])
    [row] = rows_of(distiset, "default")
    assert row["instruction"] == "And of Spain?" and row["chosen"][:-1] == row["rejected"][:-1] == TALK
    [pair] = distiset.to_trl()["train"]
    assert pair["prompt"] == TALK and pair["rejected"] == [{"role": "assistant", "content": "Rome."}]


def test_writers_and_judges_read_the_turns_before():
    row = {"instruction": "And of Spain?", "messages": TALK, "generations": ["Madrid.", "Rome."]}
    writer = TextGeneration(llm=ScriptedLLM(["x"]), system_prompt="One word.")
    assert writer.format_input(row) == [
        {"role": "system", "content": "You are terse.\n\nOne word."},
        *TALK[1:],
    ]
    judged = UltraFeedback(llm=ScriptedLLM(["x"])).format_input(row)[-1]["content"]
    assert "User: What is the capital of France?\n\nAssistant: Paris.\n\nUser: And of Spain?" in judged


def test_an_answer_at_the_end_of_a_conversation_is_not_part_of_its_prompt():
    load = LoadDataFromDicts(data=[{"messages": [*TALK, {"role": "assistant", "content": "Madrid."}]}])
    [[row]] = list(load.generate_rows())
    assert row["instruction"] == "And of Spain?"
    assert TextGeneration(llm=ScriptedLLM(["x"])).format_input(row) == TALK


def test_messages_beside_another_instruction_are_no_part_of_it():
    row = {"instruction": "Name a fruit.", "messages": TALK}
    assert TextGeneration(llm=ScriptedLLM(["x"])).format_input(row) == [
        {"role": "user", "content": "Name a fruit."}
    ]


@pytest.mark.parametrize(
    "messages", [[], "Hi", [{"role": "user"}], [{"role": "bot", "content": "x"}], [TALK[0]], [3]]
)
def test_what_is_no_conversation_is_an_error_with_its_row(messages):
    load = LoadDataFromDicts(data=[{"messages": TALK}, {"messages": messages}])
    with pytest.raises(InputError, match="Row 2, 'messages': A conversation has"):
        list(load.generate_rows())
