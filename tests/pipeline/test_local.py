"""Running a pipeline: rows meet the right rows, and none is lost in silence. Running again: test_runs.py."""

import pytest

from course_lib.errors import GraphError, InputError
from course_lib.llms import ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import (
    FilterRows,
    FormatTextGenerationDPO,
    GeneratorStep,
    GroupColumns,
    KeepColumns,
    LoadDataFromDicts,
    Step,
)
from course_lib.steps.tasks import Task, TextGeneration

ROWS = [{"instruction": f"Say {n}", "n": n} for n in range(10)]


def said(chat):
    return chat[-1]["content"]


def echo(name, **kwargs):
    return TextGeneration(llm=ScriptedLLM(lambda chat: f"{name}: {said(chat)}", model_name=name), **kwargs)


def rows_of(distiset, config="default"):
    return list(distiset[config]["train"]) if config in distiset else []


def filtered(keep, reason, **kwargs):
    return FilterRows(keep=keep, reason=reason, **kwargs)


class Rate(Step):
    """Rates each completion by its position."""

    inputs = ["generations"]
    outputs = ["ratings"]

    def process(self, rows):
        yield [{**row, "ratings": [float(i + 1) for i, _ in enumerate(row["generations"])]} for row in rows]


class Repeat(Step):
    """Each row as often as its column `times` says."""

    inputs = ["times"]

    def process(self, rows):
        yield [dict(row) for row in rows for _ in range(row["times"])]


class Translate(Task):
    """A learner's own task, as in the docstring of `Task`."""

    language: str = "French"
    inputs = ["text"]
    outputs = ["translation", "model_name"]

    def format_input(self, row):
        return [{"role": "user", "content": f"Translate into {self.language}: {row['text']}"}]

    def format_output(self, output, row):
        return {"translation": output}


def run(pipeline, **kwargs):
    return pipeline.run(progress=False, **kwargs)


# --- rows meet the right rows ------------------------------------------------------------------------------------------


def test_branches_are_joined_by_row_whatever_their_batches():
    with Pipeline() as pipeline:
        branches = [echo("a", input_batch_size=3), echo("b", input_batch_size=4)]
        group = GroupColumns(
            columns=["generation", "model_name"], output_columns=["texts", "models"], input_batch_size=7
        )
        (
            LoadDataFromDicts(data=ROWS, batch_size=2)
            >> branches
            >> group
            >> KeepColumns(columns=["n", "texts", "models"])
        )
    assert rows_of(run(pipeline)) == [
        {"n": n, "texts": [f"a: Say {n}", f"b: Say {n}"], "models": ["a", "b"]} for n in range(10)
    ]


def test_rows_dropped_in_one_branch_leave_all_branches_and_are_counted_once():
    with Pipeline() as pipeline:
        load, a, b = LoadDataFromDicts(data=ROWS, batch_size=4), echo("a"), echo("b")
        odd, big = (
            filtered(lambda row: row["n"] % 2 == 0, "odd", name="odds"),
            filtered(lambda row: row["n"] < 7, "big", name="bigs"),
        )
        load >> [a, b]
        a >> odd
        b >> big
        [odd, big] >> GroupColumns(columns=["generation"])
    distiset = run(pipeline)
    assert [(row["n"], row["grouped_generation"]) for row in rows_of(distiset)] == [
        (n, [f"a: Say {n}", f"b: Say {n}"]) for n in (0, 2, 4, 6)
    ]
    assert sorted(
        (row["n"], row["drop_reason"], row["dropped_by"]) for row in rows_of(distiset, "dropped")
    ) == [
        (1, "odd", "odds"),
        (3, "odd", "odds"),
        (5, "odd", "odds"),
        (7, "odd", "odds"),
        (8, "big", "bigs"),
        (9, "odd", "odds"),
    ]
    report = distiset.report
    assert dict(report.drops) == {"odd": 5, "big": 1} and (report.rows_in, report.rows_out) == (10, 4)


def test_every_row_is_a_pair_or_has_a_reason():
    replies = {"Say 1": None, "Say 2": "b: Say 2"}
    with Pipeline() as pipeline:
        a = TextGeneration(
            llm=ScriptedLLM(lambda chat: replies.get(said(chat), "a text of its own"), model_name="a")
        )
        group = GroupColumns(
            columns=["generation", "model_name"], output_columns=["generations", "generation_models"]
        )
        LoadDataFromDicts(data=ROWS) >> [a, echo("b")] >> group >> Rate() >> FormatTextGenerationDPO()
    distiset = run(pipeline)
    assert [row["n"] for row in rows_of(distiset)] == [0, 3, 4, 5, 6, 7, 8, 9]
    assert {row["chosen_model"] for row in rows_of(distiset)} == {"b"}
    reasons = {row["n"]: row["drop_reason"] for row in rows_of(distiset, "dropped")}
    assert reasons == {1: "empty completion", 2: "identical completions"}
    assert sum(distiset.report.drops.values()) + distiset.report.rows_out == distiset.report.rows_in == 10


def test_several_last_steps_give_a_dataset_each():
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=ROWS) >> [echo("a"), echo("b")]
    distiset = run(pipeline)
    assert list(distiset) == ["text_generation_0", "text_generation_1"] and distiset.report.rows_out == 20
    assert [row["generation"] for row in rows_of(distiset, "text_generation_1")] == [
        f"b: Say {n}" for n in range(10)
    ]


def test_branches_that_change_the_number_of_rows_cannot_be_joined():
    with Pipeline() as pipeline:
        (
            LoadDataFromDicts(data=ROWS)
            >> [echo("a", num_generations=2), echo("b")]
            >> GroupColumns(columns=["generation"])
        )
    with pytest.raises(
        GraphError, match="'group_columns_0' joins branches.*text_generation_0; unchanged.*Move that step"
    ):
        run(pipeline)


def test_branches_after_a_step_that_changes_the_number_of_rows_are_joined():
    with Pipeline() as pipeline:
        first = echo("a", num_generations=2, output_mappings={"generation": "first"})
        (
            LoadDataFromDicts(data=ROWS)
            >> first
            >> [echo("b"), echo("c")]
            >> GroupColumns(columns=["generation"])
        )
    assert [(row["n"], row["grouped_generation"]) for row in rows_of(run(pipeline))] == [
        (n, [f"b: Say {n}", f"c: Say {n}"]) for n in range(10) for _ in range(2)
    ]


@pytest.mark.parametrize("batch_size", [3, 500])
def test_rows_keep_apart_when_only_a_later_batch_changes_their_number(batch_size):
    rows = [{"instruction": f"Say {n}", "n": n, "times": 1 if n < 5 else 2} for n in range(10)]
    with Pipeline() as pipeline:
        repeat = Repeat(input_batch_size=5)
        odd = filtered(lambda row: row["n"] % 2, "even", input_batch_size=batch_size)
        left, right = echo("a"), echo("b")
        LoadDataFromDicts(data=rows) >> repeat >> [left, right]
        left >> odd
        [odd, right] >> GroupColumns(columns=["generation"])
    distiset = run(pipeline)
    assert [(row["n"], row["grouped_generation"]) for row in rows_of(distiset)] == [
        (n, [f"a: Say {n}", f"b: Say {n}"]) for n in (1, 3, 5, 5, 7, 7, 9, 9)
    ]
    assert sorted(row["n"] for row in rows_of(distiset, "dropped")) == [0, 2, 4, 6, 6, 8, 8]


def test_rows_that_a_step_leaves_out_without_a_reason_are_counted_too():
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=[{"times": n % 2} for n in range(6)]) >> Repeat(name="repeat")
    distiset = run(pipeline)
    assert len(rows_of(distiset)) == 3 and dict(distiset.report.drops) == {"removed by repeat": 3}


def test_all_rows_dropped_gives_an_empty_dataset_with_all_reasons(tmp_path):
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=ROWS) >> filtered(lambda row: False, "never")
    distiset = run(pipeline)
    assert rows_of(distiset) == [] and len(rows_of(distiset, "dropped")) == 10
    distiset.save_to_disk(tmp_path / "saved")
    assert len(type(distiset).load_from_disk(tmp_path / "saved")["default"]["train"]) == 0


def test_columns_of_later_rows_and_batches_are_all_there():
    rows = [{"n": n, "maybe": None if n < 4 else "text", "list": [] if n < 4 else ["x"]} for n in range(6)]
    rows = [{**row, "meta": {"a": 1} if n < 2 else {"a": None, "b": "y"}} for n, row in enumerate(rows)]
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=rows, batch_size=2) >> FilterRows(
            keep=lambda row: True, reason="", input_batch_size=2
        )
    found = rows_of(run(pipeline))
    assert [row["maybe"] for row in found] == [None] * 4 + ["text"] * 2
    assert found[5] == {"n": 5, "maybe": "text", "list": ["x"], "meta": {"a": None, "b": "y"}}


@pytest.mark.parametrize("values", [[1, "one"], ["a", ["a"]], ["fine", "\ud800"], [1, 2**70]], ids=ascii)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_values_that_a_dataset_cannot_hold_are_an_input_error_that_names_the_column(values, batch_size):
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"mixed": value} for value in values], batch_size=batch_size)
        load >> FilterRows(keep=lambda row: True, reason="", input_batch_size=batch_size)
    with pytest.raises(InputError, match="column.*mixed"):
        run(pipeline)


# --- a learner's own steps ----------------------------------------------------------------------------------------------


def test_custom_step_task_and_source_work_like_the_built_in():
    class Numbers(GeneratorStep):
        outputs = ["text"]

        def process(self, offset=0):
            yield [{"text": "one"}, {"text": "two"}], False
            yield [{"text": "three"}], True

    with Pipeline() as pipeline:
        task = Translate(
            llm=ScriptedLLM(lambda chat: said(chat).upper(), model_name="loud"), language="German"
        )
        Numbers() >> task >> filtered(lambda row: row["text"] != "two", "two")
    distiset = run(pipeline)
    first, third = rows_of(distiset)
    prompt = "Translate into German: one"
    assert first == {
        "text": "one",
        "translation": prompt.upper(),
        "model_name": "loud",
        "distilabel_metadata": {
            "raw_input_translate_0": [{"role": "user", "content": prompt}],
            "raw_output_translate_0": prompt.upper(),
            "statistics_translate_0": {"input_tokens": 4, "output_tokens": 4, "finish_reason": "stop"},
        },
    }
    assert third["text"] == "three" and dict(distiset.report.drops) == {"two": 1}


def test_seed_style_task_can_be_tried_alone():
    task = Translate(llm=ScriptedLLM(["salut"]))
    task.load()
    [row] = next(task.process([{"text": "hi"}]))
    assert row["translation"] == "salut" and row["model_name"] == "scripted"


def test_mappings_connect_columns_of_other_names():
    with Pipeline() as pipeline:
        step = echo("a", input_mappings={"instruction": "question"}, output_mappings={"generation": "answer"})
        LoadDataFromDicts(data=[{"q": "hi"}], output_mappings={"q": "question"}) >> step
    [row] = rows_of(run(pipeline))
    assert (row["question"], row["answer"]) == ("hi", "a: hi") and not {
        "q",
        "instruction",
        "generation",
    } & set(row)


def test_several_generations_come_as_rows_or_as_lists():
    def replies(**kwargs):
        with Pipeline() as pipeline:
            step = TextGeneration(llm=ScriptedLLM(["x", "y"]), num_generations=2, **kwargs)
            LoadDataFromDicts(data=ROWS[:2]) >> step
        return [(row["n"], row["generation"]) for row in rows_of(run(pipeline))]

    assert replies() == [(0, "x"), (0, "y"), (1, "x"), (1, "y")]
    assert replies(group_generations=True) == [(0, ["x", "y"]), (1, ["x", "y"])]


def test_steps_are_loaded_and_unloaded_once_each_also_when_one_fails():
    seen = []

    class Noted(Step):
        fails: bool = False

        def load(self):
            seen.append(f"load {self.name}")

        def unload(self):
            seen.append(f"unload {self.name}")

        def process(self, rows):
            if self.fails:
                raise RuntimeError("broken")
            yield rows

    with Pipeline() as pipeline:
        LoadDataFromDicts(data=ROWS) >> Noted(name="one", input_batch_size=2) >> Noted(name="two", fails=True)
    with pytest.raises(RuntimeError, match="broken"):
        run(pipeline)
    assert seen == ["load one", "unload one", "load two", "unload two"]
