"""Running again: other data, other parameters, an interrupted run, and many rows."""

import json
import subprocess
import sys

import pandas
import pytest
from datasets import Dataset, DatasetDict

from course_lib.errors import GraphError, InputError
from course_lib.llms import ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, KeepColumns, LoadDataFromDicts
from course_lib.steps.load import load_from
from course_lib.steps.tasks import TextGeneration

ROWS = [{"instruction": f"Say {n}", "n": n} for n in range(10)]


def echo(name, asked=None, **kwargs):
    """A step whose model repeats the instruction and notes in `asked` what it was asked."""

    def reply(chat):
        (asked if asked is not None else []).append(chat[-1]["content"])
        return f"{name}: {chat[-1]['content']}"

    return TextGeneration(llm=ScriptedLLM(reply, model_name=name, **kwargs))


def run(pipeline, **kwargs):
    return pipeline.run(progress=False, **kwargs)


def generations(distiset):
    return [row["generation"] for row in distiset["default"]["train"]]


def test_rows_can_be_given_to_run_as_a_list_a_dict_a_frame_or_a_dataset():
    columns = {name: [row[name] for row in ROWS[:3]] for name in ROWS[0]}
    for given in (ROWS[:3], Dataset.from_list(ROWS[:3]), columns, pandas.DataFrame(ROWS[:3])):
        with Pipeline() as pipeline:
            echo("a")
        distiset = run(pipeline, dataset=given)
        assert generations(distiset) == ["a: Say 0", "a: Say 1", "a: Say 2"] and distiset.report.rows_in == 3


@pytest.mark.parametrize(
    "given",
    [
        "rows.jsonl",
        7,
        ["Say hi"],
        {"instruction": "Say hi"},
        DatasetDict({"train": Dataset.from_list(ROWS)}),
        {"instruction": ["a"], "n": [1, 2]},
        pandas.DataFrame({"instruction": ["a", 3]}),
    ],
    ids=str,
)
def test_rows_of_another_kind_are_refused_with_what_is_allowed(given):
    with Pipeline() as pipeline:
        echo("a")
    with pytest.raises(
        InputError, match="rows of step 'load_data_from_dicts_0' are (a .*allowed: a list|no table)"
    ):
        run(pipeline, dataset=given)


def test_empty_cells_of_a_frame_are_none():
    with Pipeline() as pipeline:
        KeepColumns(columns=["instruction", "topic"])
    frame = pandas.DataFrame({"instruction": ["a", "b"], "topic": ["t", float("nan")]})
    rows = run(pipeline, dataset=frame)["default"]["train"].to_list()
    assert rows == [{"instruction": "a", "topic": "t"}, {"instruction": "b", "topic": None}]


def test_dropped_rows_can_be_saved_and_tried_again_with_other_settings(tmp_path):
    rows = [{"instruction": "hi", "generations": ["one", "two"], "ratings": [1.0, 2.0]}]

    def tried(load, **settings):
        with Pipeline() as pipeline:
            load() >> FormatTextGenerationDPO(**settings)
        return run(pipeline)

    first = tried(lambda: LoadDataFromDicts(data=rows), min_margin=2)
    assert dict(first.report.drops) == {"margin too small": 1}
    first.save_to_disk(tmp_path / "saved")
    again = tried(lambda: load_from(tmp_path / "saved", config="dropped"), min_margin=1)
    assert again["default"]["train"][0]["chosen_rating"] == 2 and not again.report.drops


@pytest.mark.parametrize("values", [[1, "2a"], ["fine", "\ud83d"], [1, 2**70], [["a"], "a"]], ids=ascii)
def test_rows_that_no_dataset_can_hold_are_refused_before_a_model_works(values):
    asked = []
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": "hi", "id": value} for value in values], batch_size=1)
        load >> echo("a", asked)
    with pytest.raises(InputError, match="column 'id' holds values"):
        run(pipeline)
    assert not asked


def test_steps_with_dots_in_their_names_keep_their_rows_apart():
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=ROWS[:1], name="rows")
        load >> [
            KeepColumns(columns=["n"], name="rows.n"),
            KeepColumns(columns=["instruction"], name="rows.arrow"),
        ]
    distiset = run(pipeline)
    assert list(distiset["rows.n"]["train"]) == [{"n": 0}]
    assert list(distiset["rows.arrow"]["train"]) == [{"instruction": "Say 0"}]


def test_same_pipeline_can_be_given_other_rows_afterwards():
    with Pipeline() as pipeline:
        echo("a")
    run(pipeline, dataset=ROWS[:3])
    assert generations(run(pipeline, dataset=ROWS[5:7])) == ["a: Say 5", "a: Say 6"]


def test_rows_given_to_run_feed_every_branch():
    with Pipeline() as pipeline:
        [echo("a"), echo("b")] >> GroupColumns(columns=["generation"])
    rows = list(run(pipeline, dataset=ROWS[:2])["default"]["train"])
    assert [row["grouped_generation"] for row in rows] == [["a: Say 0", "b: Say 0"], ["a: Say 1", "b: Say 1"]]


def test_rows_given_to_a_pipeline_that_loads_its_own_are_refused():
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=ROWS) >> echo("a")
    with pytest.raises(GraphError, match="every first step loads its own"):
        run(pipeline, dataset=ROWS)


def test_no_rows_given_to_run_are_refused():
    for given in ([], Dataset.from_list(ROWS).select([])):
        with Pipeline() as pipeline:
            echo("a")
        with pytest.raises(InputError, match="no rows"):
            run(pipeline, dataset=given)


def test_parameters_of_steps_and_models_are_set_at_run_time():
    seen = []

    class Notes(ScriptedLLM):
        def write(self, requests, wanted):
            seen.append(requests[0].arguments)
            return super().write(requests, wanted)

    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=ROWS)
        task = TextGeneration(
            llm=Notes(lambda chat: chat[0]["content"], generation_kwargs={"temperature": 0.2, "seed": 4})
        )
        load >> task
    new = {
        "llm": {"generation_kwargs": {"temperature": 0.9, "max_new_tokens": 7}},
        "system_prompt": "Be brief.",
    }
    distiset = run(pipeline, parameters={task.name: new, load.name: {"data": ROWS[:1]}})
    assert generations(distiset) == ["Be brief."]
    assert [seen[0][key] for key in ("temperature", "max_new_tokens", "seed")] == [0.9, 7, 4]


def test_use_cache_false_computes_anew_and_only_for_that_run():
    asked = []
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=ROWS) >> echo("a", asked, use_cache=True)
    run(pipeline)
    run(pipeline)
    assert len(asked) == 10
    run(pipeline, use_cache=False)
    assert len(asked) == 20
    run(pipeline)
    assert len(asked) == 20


def test_model_is_unloaded_after_the_last_step_that_needs_it():
    events = []

    class Heavy(ScriptedLLM):
        def __init__(self, name, number):
            super().__init__(lambda chat: events.append(f"ask {name}{number}") or "text", model_name=name)
            self.number = number

        def unload(self):
            events.append(f"unload {self.model_name}{self.number}")

    with Pipeline() as pipeline:
        first, second, other = (TextGeneration(llm=Heavy(*which)) for which in (("m", 1), ("m", 2), ("n", 1)))
        LoadDataFromDicts(data=ROWS[:1]) >> first >> second >> other
    run(pipeline)
    assert events[:2] == ["ask m1", "ask m2"] and set(events[2:4]) == {"unload m1", "unload m2"}
    assert events[4:] == ["ask n1", "unload n1"]


def test_report_counts_new_and_cached_results_by_model():
    with Pipeline() as pipeline:
        (
            LoadDataFromDicts(data=ROWS)
            >> [echo("a", use_cache=True), echo("b", use_cache=True)]
            >> GroupColumns(columns=["generation"])
        )
    first, second = run(pipeline).report.models, run(pipeline).report.models
    assert {name: (used["new"], used["cached"]) for name, used in first.items()} == {
        "a": (10, 0),
        "b": (10, 0),
    }
    assert {name: (used["new"], used["cached"]) for name, used in second.items()} == {
        "a": (0, 10),
        "b": (0, 10),
    }
    assert first["a"]["output_tokens"] == 30 and second["a"]["output_tokens"] == 0


def test_interrupted_run_goes_on_where_it_stopped_and_gives_the_same_bytes(tmp_path, monkeypatch):
    def pipeline_of(asked, fail_at=None):
        def reply(chat):
            if fail_at is not None and len(asked) == fail_at:
                raise KeyboardInterrupt
            asked.append(chat[-1]["content"])
            return f"a: {chat[-1]['content']}"

        with Pipeline() as pipeline:
            step = TextGeneration(llm=ScriptedLLM(reply, model_name="a", use_cache=True), input_batch_size=4)
            LoadDataFromDicts(data=ROWS) >> [step, echo("b")] >> GroupColumns(columns=["generation"])
        return pipeline

    before, after, whole = [], [], []
    with pytest.raises(KeyboardInterrupt):
        run(pipeline_of(before, fail_at=6))
    run(pipeline_of(after)).save_to_disk(tmp_path / "resumed")
    assert before == [f"Say {n}" for n in range(6)] and after == [f"Say {n}" for n in range(6, 10)]
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path / "elsewhere"))
    run(pipeline_of(whole)).save_to_disk(tmp_path / "whole")
    assert len(whole) == 10
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- many rows ------------------------------------------------------------------------------------------------------------


def measure(rows):
    """Run the whole chain over `rows` rows; seconds, and how far memory rose over what it was with the library loaded."""
    import time

    import psutil

    from course_lib.steps import Step

    class Rate(Step):
        inputs = ["generations"]
        outputs = ["ratings"]

        def process(self, rows):
            yield [{**row, "ratings": [1.0 + row["n"] % 3, 2.0]} for row in rows]

    class Peak(Step):
        """Passes rows on and notes the memory."""

        def process(self, rows):
            nonlocal peak
            peak = max(peak, process.memory_info().rss)
            yield rows

    def chain(count):
        data = [{"instruction": f"Say {n} " + "word " * 50, "n": n} for n in range(count)]
        with Pipeline() as pipeline:
            writers = [
                TextGeneration(
                    llm=ScriptedLLM(lambda chat, k=k: f"{k} {chat[-1]['content']} " + f"text{k} " * 200)
                )
                for k in (1, 2)
            ]
            group = GroupColumns(
                columns=["generation", "model_name"], output_columns=["generations", "generation_models"]
            )
            (
                LoadDataFromDicts(data=data)
                >> writers
                >> group
                >> Peak()
                >> Rate()
                >> Peak()
                >> FormatTextGenerationDPO()
                >> Peak()
            )
        return pipeline

    process, peak = psutil.Process(), 0
    run(chain(500))
    pipeline = chain(rows)
    before, peak = process.memory_info().rss, 0
    started = time.perf_counter()
    distiset = run(pipeline)
    seconds = time.perf_counter() - started
    peak = max(peak, process.memory_info().rss)
    kept, dropped = len(distiset["default"]["train"]), len(distiset["dropped"]["train"])
    return {"seconds": seconds, "grown": peak - before, "kept": kept, "dropped": dropped}


def measured(rows):
    command = [sys.executable, __file__, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_memory_and_time_per_row_do_not_grow_with_the_number_of_rows():
    ratios = []
    while (
        len(ratios) < 3 and min(ratios, default=9) > 1.5
    ):  # another process may take the processor for a while
        small, large = measured(1000), measured(10_000)
        ratios.append(large["seconds"] / small["seconds"] / 10)
        assert (large["kept"], large["dropped"]) == (6667, 3333)
        assert large["grown"] < 200e6
    assert min(ratios) <= 1.5


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
