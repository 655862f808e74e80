"""Where rows come from, and what happens when they do not."""

import json

import pytest
from datasets import Dataset, DatasetDict

from course_lib.distiset import Distiset
from course_lib.errors import InputError
from course_lib.pipeline import Pipeline
from course_lib.steps import (
    KeepColumns,
    LoadDataFromDicts,
    LoadDataFromDisk,
    LoadDataFromFileSystem,
    LoadDataFromHub,
)
from course_lib.steps.load import load_from, read_file, shipped_instructions

ROWS = [{"instruction": f"Say {n}", "n": n} for n in range(7)]


def rows_of(step):
    step.check()
    step.load()
    return [row for rows in step.generate_rows() for row in rows]


def jsonl(path, *lines, encoding="utf-8"):
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_dicts_come_in_batches_in_order_as_copies(batch_size):
    step = LoadDataFromDicts(data=ROWS, batch_size=batch_size)
    batches = list(step.generate_rows())
    assert [row for rows in batches for row in rows] == ROWS and max(map(len, batches)) == min(batch_size, 7)
    batches[0][0]["n"] = "changed"
    assert ROWS[0]["n"] == 0
    assert step.outputs == ["instruction", "n"] and step.count() == 7


def test_no_dicts_are_an_error_that_shows_what_to_give():
    with pytest.raises(InputError, match="load_data_from_dicts_0.*has no rows.*data="):
        LoadDataFromDicts(data=[]).check()


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "JSONL"])
def test_files_of_each_kind_give_the_same_rows(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    write = {"jsonl": "to_json", "json": "to_json", "csv": "to_csv", "parquet": "to_parquet"}[ending.lower()]
    getattr(Dataset.from_list(ROWS), write)(str(path))
    step = load_from(path)
    assert isinstance(step, LoadDataFromFileSystem)
    assert rows_of(step) == ROWS
    assert rows_of(load_from(str(path), num_examples=2, batch_size=1)) == ROWS[:2]
    assert rows_of(load_from(path, num_examples=99)) == ROWS


def test_folders_of_datasets_and_distisets_are_read(tmp_path):
    data = Dataset.from_list(ROWS)
    data.save_to_disk(str(tmp_path / "plain"))
    DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(str(tmp_path / "splits"))
    Distiset.of({"default": data, "dropped": data.select([1])}).save_to_disk(tmp_path / "distiset")
    assert isinstance(load_from(tmp_path / "plain"), LoadDataFromDisk)
    assert rows_of(load_from(tmp_path / "plain")) == ROWS
    assert rows_of(load_from(tmp_path / "splits")) == ROWS
    assert rows_of(load_from(tmp_path / "splits", split="test")) == ROWS[:1]
    assert rows_of(load_from(tmp_path / "distiset")) == ROWS
    assert rows_of(load_from(tmp_path / "distiset", config="dropped")) == ROWS[1:2]


def test_folder_that_is_no_dataset_says_so(tmp_path):
    with pytest.raises(InputError, match="not a saved dataset"):
        rows_of(load_from(tmp_path))


def test_split_that_is_not_there_is_an_error_that_lists_the_splits(tmp_path):
    DatasetDict({"train": Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(InputError, match="test.*train"):
        rows_of(load_from(tmp_path / "splits", split="test"))


@pytest.mark.parametrize("name", ["org/name", "org/name-v1.0"])
def test_hub_id_is_loaded_from_the_hub_and_without_network_says_what_to_check(name):
    step = load_from(name)
    assert isinstance(step, LoadDataFromHub) and step.repo_id == name
    with pytest.raises(InputError, match=f"{name}.*could not be loaded.*HF_TOKEN"):
        step.check()


def test_hub_step_without_an_id_asks_for_one():
    with pytest.raises(InputError, match="needs repo_id"):
        LoadDataFromHub().check()


@pytest.mark.parametrize(
    "source", ["missing.jsonl", "./org/name", "a/b/c", "rows", "folder/missing.csv", "~/nothing/here"]
)
def test_source_that_is_nowhere_says_what_is_allowed(source):
    with pytest.raises(InputError, match="no file or folder .*Give a .jsonl, .csv or .parquet file"):
        load_from(source)


def test_missing_and_empty_files_are_told_apart(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "empty.csv").touch()
    for name, said in (("missing.jsonl", "missing"), ("empty.jsonl", "empty"), ("empty.csv", "empty")):
        with pytest.raises(InputError, match=f"{name} is {said}"):
            read_file(tmp_path / name)


def test_wrong_ending_lists_the_right_ones(tmp_path):
    for name in ("rows.doc", "rows", "rows.gz"):
        with pytest.raises(InputError, match=r"allowed: \.jsonl, \.json, \.csv, \.parquet"):
            read_file(jsonl(tmp_path / name, '{"instruction": "a"}'))


def test_line_that_is_not_json_is_named_by_its_number(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", '{"instruction": "a"}', "", "{oops}")
    with pytest.raises(InputError, match="line 3 is not JSON.*oops.*One JSON object per line"):
        read_file(path)


@pytest.mark.parametrize("line", ["[1, 2]", '"text"', "3", "null"])
def test_line_that_is_no_object_is_named_by_its_number(tmp_path, line):
    with pytest.raises(InputError, match="line 2 .*a JSON object such as"):
        read_file(jsonl(tmp_path / "rows.jsonl", '{"instruction": "a"}', line))


@pytest.mark.parametrize("content", [b"\n\n  \n", b"\xef\xbb\xbf\n"])
def test_file_without_rows_says_so(tmp_path, content):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(InputError, match="holds no rows"):
        read_file(tmp_path / "rows.jsonl")


def test_csv_with_a_header_only_is_an_input_error(tmp_path):
    (tmp_path / "rows.csv").write_text("instruction,n\n")
    with pytest.raises(InputError, match="rows.csv"):
        load_from(tmp_path / "rows.csv").check()


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_garbage_in_a_binary_file_is_an_input_error(tmp_path, ending):
    (tmp_path / f"rows.{ending}").write_bytes(b'"\x00\xff garbage\n' * 9)
    with pytest.raises(InputError, match=f"rows.{ending} "):
        load_from(tmp_path / f"rows.{ending}").check()


def test_byte_order_mark_is_no_part_of_the_rows(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", '{"instruction": "a"}', encoding="utf-8-sig")
    assert list(read_file(path)) == [{"instruction": "a"}]


def test_separators_of_lines_inside_strings_do_not_split_rows(tmp_path):
    text = "one\u2028two\u2029three\u0085four\x0bfive\x0csix"
    path = jsonl(tmp_path / "rows.jsonl", json.dumps({"instruction": text[:13]}, ensure_ascii=False))
    assert list(read_file(path)) == [{"instruction": text[:13]}]
    path = jsonl(tmp_path / "rows.jsonl", json.dumps({"instruction": text}, ensure_ascii=False))
    assert list(read_file(path)) == [{"instruction": text}]


def test_windows_line_ends_and_blank_lines_are_fine(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"instruction": "a"}\r\n\r\n{"instruction": "b"}\r\n')
    assert [row["instruction"] for row in read_file(tmp_path / "rows.jsonl")] == ["a", "b"]


def test_lines_may_differ_in_columns_and_kinds_and_come_as_they_are(tmp_path):
    lines = [
        '{"instruction": "a"}',
        '{"instruction": 3, "topic": "t"}',
        '{"instruction": "\\ud800", "n": [1]}',
    ]
    rows = read_file(jsonl(tmp_path / "rows.jsonl", *lines))
    assert [row["instruction"] for row in rows] == ["a", 3, "\ud800"]
    assert rows[1]["topic"] == "t" and rows[2]["n"] == [1]
    assert load_from(tmp_path / "rows.jsonl").outputs == ["instruction", "topic", "n"]


@pytest.mark.parametrize("kind", ["file", "dicts"])
def test_column_that_some_rows_lack_is_none_there(tmp_path, kind):
    rows = [{"instruction": "a", "topic": "t"}, {"instruction": "b"}]
    path = jsonl(tmp_path / "rows.jsonl", *map(json.dumps, rows))
    with Pipeline() as pipeline:
        load = load_from(path) if kind == "file" else LoadDataFromDicts(data=rows)
        load >> KeepColumns(columns=["topic"])
    assert list(pipeline.run(progress=False)["default"]["train"]) == [{"topic": "t"}, {"topic": None}]


def test_shipped_instructions_have_two_splits_without_overlap():
    train, test = shipped_instructions(), shipped_instructions("test")
    assert {"id", "instruction", "topic", "kind"} == set(train[0]) == set(test[0])
    assert not {row["instruction"] for row in train} & {row["instruction"] for row in test}
    assert len({row["id"] for row in train + test}) == len(train) + len(test)
    with pytest.raises(InputError, match="'dev'.*test, train"):
        shipped_instructions("dev")
