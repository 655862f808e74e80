"""What people wrote for distilabel's preference part runs here with the import changed."""

import pytest

from course_lib.distiset import Distiset
from course_lib.errors import AbsentError, GraphError, InputError
from course_lib.llms import ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import (
    CombineOutputs,
    ExpandColumns,
    FormatChatGenerationDPO,
    FormatChatGenerationSFT,
    FormatTextGenerationSFT,
    GlobalStep,
    GroupColumns,
    KeepColumns,
    LoadDataFromDicts,
    MergeColumns,
    PushToHub,
    StepInput,
    StepOutput,
    TruncateTextColumn,
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


CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "How are you?"},
]


def test_pairs_and_rows_for_fine_tuning_are_made_of_conversations_without_an_instruction():
    row = {"messages": CONVERSATION, "generations": ["Fine, and you?", "No."], "ratings": [4.0, 1.5]}
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[row], output_mappings={"instruction": "last"})
        load >> FormatChatGenerationDPO()
    [pair] = rows_of(pipeline)
    assert pair["chosen"] == [*CONVERSATION, {"role": "assistant", "content": "Fine, and you?"}]
    assert pair["rejected"][-1]["content"] == "No." and pair["instruction"] == "How are you?"
    [[made]] = FormatChatGenerationSFT().process([{"messages": CONVERSATION, "generation": "Fine."}])
    assert made["messages"] == [*CONVERSATION, {"role": "assistant", "content": "Fine."}]


def test_columns_are_merged_into_one_list_and_lists_are_continued():
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"id": 1, "query": "a", "queries": ["b", "c"]}])
        load >> MergeColumns(columns=["query", "queries"], output_column="queries")
    assert rows_of(pipeline) == [{"id": 1, "queries": ["a", "b", "c"]}]
    assert MergeColumns(columns=["a", "b"]).outputs == ["combined_a_b"]


def test_texts_are_truncated_by_characters_and_by_tokens(tiny_model_folder):
    rows = [{"text": "one two three four"}, {"text": None}, {"text": ""}]
    for step_, expected in [
        (TruncateTextColumn(max_length=7), "one two"),
        (TruncateTextColumn(max_length=7, tokenizer=str(tiny_model_folder)), None),
    ]:
        [cut] = step_.process([dict(row) for row in rows])
        assert cut[1:] == rows[1:] and rows[0]["text"].startswith(cut[0]["text"]) and len(cut[0]["text"]) < 18
        assert expected in (None, cut[0]["text"])


def test_a_step_pushes_its_rows_and_passes_them_on(monkeypatch):
    pushed = []
    monkeypatch.setattr(
        "datasets.Dataset.push_to_hub", lambda data, *a, **k: pushed.append((data.to_list(), a, k))
    )
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=[{"a": 1}]) >> PushToHub(repo_id="me/rows", private=True)
    assert rows_of(pipeline) == [{"a": 1}]
    assert pushed == [([{"a": 1}], ("me/rows",), {"split": "train", "private": True, "token": None})]


def test_a_dry_run_asks_for_the_first_rows_only_and_keeps_nothing():
    read = []

    def reply(chat):
        read.append(chat[-1]["content"])
        return "yes"

    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": f"Say {n}"} for n in range(9)], batch_size=2)
        load >> TextGeneration(llm=ScriptedLLM(reply))
    for size in (1, 3):
        read.clear()
        assert len(pipeline.dry_run(batch_size=size)["default"]["train"]) == size == len(read)
    assert len(rows_of(pipeline)) == 9
    with pytest.raises(InputError, match="allowed: 1 or more"):
        pipeline.dry_run(batch_size=0)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_split_keeps_all_rows_of_a_prompt_on_one_side(shuffle):
    from datasets import Dataset

    rows = [{"prompt": f"p{n % 20}", "n": n} for n in range(60)]
    whole = Distiset.of({"default": Dataset.from_list(rows)})
    split = whole.train_test_split(train_size=0.8, shuffle=shuffle, seed=1)["default"]
    prompts = {side: set(split[side]["prompt"]) for side in ("train", "test")}
    assert not prompts["train"] & prompts["test"] and len(prompts["train"]) == 16
    assert sorted([*split["train"]["n"], *split["test"]["n"]]) == list(range(60))
    assert (prompts["test"] == {"p16", "p17", "p18", "p19"}) is not shuffle
    with pytest.raises(InputError, match="has the splits train, test; allowed: train alone"):
        whole.train_test_split(train_size=0.5).train_test_split(train_size=0.5)
    with pytest.raises(InputError, match="train_size=80"):
        whole.train_test_split(train_size=80)


@pytest.mark.parametrize(
    "module, name",
    [
        ("course_lib.steps", "DeitaFiltering"),
        ("course_lib.steps", "EmbeddingDedup"),
        ("course_lib.steps.tasks", "QualityScorer"),
        ("course_lib.steps.tasks", "PrometheusEval"),
        ("course_lib.pipeline", "routing_batch_function"),
        ("course_lib.llms", "LiteLLM"),
        ("course_lib.models", "MlxLLM"),
    ],
)
def test_what_is_not_here_is_refused_by_name_with_what_to_use_instead(module, name):
    with pytest.raises(
        AbsentError, match=rf"{module.replace('models', 'llms')} has no {name}\. Instead, \w+"
    ):
        exec(f"from {module} import {name}")
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        exec(f"from {module} import Nonsense")
