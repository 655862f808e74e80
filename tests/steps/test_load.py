"""Where rows come from, and what happens when they do not."""

import gzip
import json
import tracemalloc

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


def test_folder_of_several_datasets_names_them(tmp_path):
    data = Dataset.from_list(ROWS)
    Distiset.of({"left": data, "right": data.select([1])}).save_to_disk(tmp_path / "distiset")
    data.save_to_disk(str(tmp_path / "plain" / "left"))
    data.select([1]).save_to_disk(str(tmp_path / "plain" / "right"))
    for folder in ("distiset", "plain"):
        with pytest.raises(InputError, match="no dataset 'default'; allowed: config='left', config='right'"):
            load_from(tmp_path / folder).check()
        assert rows_of(load_from(tmp_path / folder, config="right")) == ROWS[1:2]


def test_folder_given_as_a_hub_id_is_called_a_folder_and_its_configurations_are_named(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: left\n  data_files: a.csv\n- config_name: right\n  data_files: b.csv\n---\n"
    )
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("instruction\nhi\n")
    with pytest.raises(InputError, match="could not be loaded from the folder .*left.*right"):
        LoadDataFromHub(repo_id=str(tmp_path)).check()


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


# --- files as people have them ------------------------------------------------------------------------------------


TWO = [{"instruction": "Ask, please; now", "n": 1}, {"instruction": "Où? 何", "n": 2}]
TABLES = {
    "semicolon.csv": 'instruction;n\n"Ask, please; now";1\nOù? 何;2\n',
    "tab.csv": "instruction\tn\nAsk, please; now\t1\nOù? 何\t2\n",
    "tab.tsv": "instruction\tn\nAsk, please; now\t1\nOù? 何\t2\n",
    "bar.csv": "instruction|n\nAsk, please; now|1\nOù? 何|2\n",
    "windows.csv": 'instruction,n\r\n"Ask, please; now",1\r\nOù? 何,2\r\n',
    "array.json": json.dumps(TWO, indent=1),
    "lines.json": "\n".join(map(json.dumps, TWO)),
    "lines.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in TWO),
}


def test_column_of_a_long_table_is_of_one_kind(tmp_path):
    ids = [*map(str, range(300_000)), "2a"]
    (tmp_path / "rows.csv").write_text("instruction,id\n" + "".join(f"x,{name}\n" for name in ids))
    assert [row["id"] for row in rows_of(load_from(tmp_path / "rows.csv"))] == ids


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", TABLES)
def test_tables_and_lists_are_read_in_their_usual_forms(tmp_path, name, encoding, packed):
    content = TABLES[name].encode(encoding)
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert rows_of(load_from(path)) == TWO
    assert rows_of(load_from(path, num_examples=1)) == TWO[:1]


def test_text_is_an_instruction_on_each_line(tmp_path):
    (tmp_path / "asks.txt").write_text("Say hi, now\n\n  Say bye\r\n", encoding="utf-8")
    assert rows_of(load_from(tmp_path / "asks.txt")) == [
        {"instruction": "Say hi, now"},
        {"instruction": "Say bye"},
    ]


def test_one_column_needs_no_separator_and_words_like_none_are_words(tmp_path):
    (tmp_path / "rows.csv").write_text("instruction\nNone\nNA\n\nnull\n")
    assert [row["instruction"] for row in rows_of(load_from(tmp_path / "rows.csv"))] == ["None", "NA", "null"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.txt", "rows.jsonl.gz"])
def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path, name):
    content = '{"instruction": "fine"}\n{"instruction": "Gemüse"}\n'.encode("latin-1")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(InputError, match=f"{name} is not UTF-8 in line 2.*Save it as UTF-8"):
        load_from(tmp_path / name).check()


@pytest.mark.parametrize(
    "content, message",
    [
        ("a,b\n1,2\n3,4,5\n", "line 3"),
        ("a,b\n1,2,3\n4,5,6\n", "does not match"),
        ('a,b\n1,"2\n', "EOF inside string"),
    ],
)
def test_cells_that_have_no_column_are_an_error_and_shift_nothing(tmp_path, content, message):
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(InputError, match=f"rows.csv cannot be read as CSV: .*{message}"):
        load_from(tmp_path / "rows.csv").check()


@pytest.mark.parametrize("content", ["[1, 2]", '[{"a": 1}, "b"]', '[{"a": 1}', "[[]]"])
def test_array_that_is_no_list_of_objects_says_what_is_allowed(tmp_path, content):
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(InputError, match="rows.json.*object"):
        load_from(tmp_path / "rows.json").check()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json", "rows.txt"])
@pytest.mark.parametrize("content", [b"\x1f\x8b\x08garbage", gzip.compress(b"{}" * 999)[:-9]])
def test_damaged_archive_is_an_input_error(tmp_path, name, content):
    (tmp_path / f"{name}.gz").write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.gz "):
        load_from(tmp_path / f"{name}.gz").check()


def test_tables_without_rows_say_so(tmp_path):
    (tmp_path / "rows.csv").write_text("instruction,n\n")
    (tmp_path / "rows.json").write_text("[]")
    Dataset.from_list(ROWS).select([]).to_parquet(str(tmp_path / "rows.parquet"))
    for ending in ("csv", "json", "parquet"):
        with pytest.raises(InputError, match="holds no rows"):
            load_from(tmp_path / f"rows.{ending}").check()


def test_of_a_parquet_file_no_more_is_read_than_asked_for_and_nothing_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int32()), ["word " * 2000])
    pq.write_table(pa.table({"instruction": column}), tmp_path / "rows.parquet")
    step = load_from(tmp_path / "rows.parquet", num_examples=3)
    tracemalloc.start()
    assert [len(row["instruction"]) for row in rows_of(step)] == [10_000] * 3
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert step.outputs == ["instruction"] and not (tmp_path / "cache").exists()


def test_parquet_file_with_a_damaged_page_is_an_input_error(tmp_path):
    path = tmp_path / "rows.parquet"
    Dataset.from_list(ROWS * 99).to_parquet(str(path))
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="rows.parquet cannot be read as Parquet"):
        rows_of(load_from(path))


def test_arrays_of_numpy_become_lists(tmp_path):
    frame = pandas.DataFrame({"instruction": ["a"], "generations": [np.array(["x", "y"], dtype=object)]})
    [row] = rows_of(LoadDataFromDicts(data=frame.to_dict("records")))
    assert row == {"instruction": "a", "generations": ["x", "y"]} and isinstance(row["generations"], list)
    nested = np.array([np.array([1, 2]), np.array([3])], dtype=object)
    assert rows_of(LoadDataFromDicts(data=[{"n": nested}])) == [{"n": [[1, 2], [3]]}]


def test_reason_of_an_earlier_run_is_left_behind(tmp_path):
    rows = [{"instruction": "a", "drop_reason": "tie", "dropped_by": "format"}, {"instruction": "b"}]
    path = jsonl(tmp_path / "rows.jsonl", *map(json.dumps, rows))
    for step in (load_from(path), LoadDataFromDicts(data=rows)):
        assert rows_of(step) == [{"instruction": "a"}, {"instruction": "b"}]
        assert step.outputs == ["instruction"]


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_are_read_as_files_and_as_streams(tmp_path, stream):
    import pyarrow as pa

    table = pa.Table.from_pylist([{"instruction": f"Say {n}"} for n in range(3)])
    path = tmp_path / "rows.arrow"
    write = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, write(file, table.schema) as writer:
        writer.write_table(table)
    assert rows_of(load_from(path)) == table.to_pylist()
    assert len(rows_of(load_from(path, num_examples=2))) == 2
    path.write_bytes(b"ARROW1" + b"\0" * 40)
    with pytest.raises(InputError, match="rows.arrow cannot be read as Arrow"):
        rows_of(load_from(path))


def test_all_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path):
    (tmp_path / "b.csv").write_text("instruction,topic\nSay b,x\n")
    (tmp_path / "a.jsonl").write_text('{"instruction": "Say a"}\n')
    (tmp_path / "README.md").write_text("no rows")
    rows = rows_of(load_from(tmp_path))
    assert [row["instruction"] for row in rows] == ["Say a", "Say b"]
    assert [row["topic"] for row in rows] == [None, "x"]


def test_a_folder_without_anything_to_read_is_an_error_that_lists_what_can_be(tmp_path):
    (tmp_path / "notes.md").write_text("no rows")
    with pytest.raises(
        InputError, match="is not a saved dataset, and holds no file that can be read: .jsonl"
    ):
        rows_of(load_from(tmp_path))


LETTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
OBJECTS = st.dictionaries(
    st.sampled_from(["instruction", "messages", "features", "_data_files", "splits", "configs", "a"]),
    st.one_of(
        st.none(),
        st.integers(),
        LETTERS,
        st.lists(LETTERS, max_size=2),
        st.dictionaries(LETTERS, LETTERS, max_size=2),
    ),
    max_size=3,
)
CONTENTS = st.one_of(
    st.binary(max_size=60),
    LETTERS.map(str.encode),
    OBJECTS.map(lambda value: json.dumps(value).encode()),
    st.lists(OBJECTS, max_size=3).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.lists(OBJECTS, max_size=3).map(lambda rows: gzip.compress(json.dumps(rows).encode())),
)
NAMES = [
    *(
        "a.jsonl",
        "b.json",
        "c.csv",
        "d.tsv",
        "e.txt",
        "f.parquet",
        "g.arrow",
        "h.jsonl.gz",
        "i.csv.gz",
        "README.md",
    ),
    *("state.json", "dataset_info.json", "dataset_dict.json", "distiset.json", "data-00000-of-00001.arrow"),
    *("default/dataset_dict.json", "default/train/state.json", "train/dataset_info.json"),
]


@settings(max_examples=150, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(st.sampled_from(NAMES), CONTENTS, min_size=1, max_size=4))
def test_whatever_lies_in_a_file_or_a_folder_gives_rows_or_one_error_of_ours(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("any")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for source in (folder, *(folder / name for name in files)):
        try:
            rows = rows_of(load_from(source))
        except InputError as error:
            assert str(error)
        else:
            assert all(isinstance(row, dict) for row in rows)
