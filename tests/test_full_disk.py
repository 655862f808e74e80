"""A full disk stops with an error that says what to do, loses nothing, and can be cleared."""

import resource
import sqlite3
from contextlib import closing, contextmanager

import pytest
from datasets import Dataset

from course_lib import job
from course_lib.__main__ import main
from course_lib.distiset import Distiset
from course_lib.errors import CacheError, OutputError
from course_lib.llms.cache import ResultCache, default_cache
from course_lib.pipeline import Pipeline
from course_lib.steps import LoadDataFromDicts

LARGE = "x" * 100_000


@contextmanager
def no_room_beyond(size):
    """Every write that makes a file longer than `size` bytes fails, as it would on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def run(rows):
    with Pipeline() as pipeline:
        LoadDataFromDicts(data=rows)
    return pipeline.run(progress=False)


@pytest.mark.parametrize(
    "rows",
    [[{"text": LARGE + str(n)} for n in range(3)], [{"text": LARGE}] * 50],
    ids=["between steps", "in the result, which pickle had made small"],
)
def test_no_room_for_the_rows_of_a_run_is_an_error_that_names_tmpdir(rows):
    with (
        no_room_beyond(200_000),
        pytest.raises(OutputError, match="rows of this run cannot be written.*set TMPDIR"),
    ):
        run(rows)
    assert len(run(rows)["default"]["train"]) == len(rows)


def test_no_folder_for_temporary_files_is_an_error_that_names_tmpdir(monkeypatch):
    monkeypatch.setattr(
        "tempfile.mkdtemp", lambda *arguments: (_ for _ in ()).throw(FileNotFoundError(2, "none is usable"))
    )
    with pytest.raises(OutputError, match="set TMPDIR"):
        run([{"text": "short"}])


def test_no_room_for_the_dataset_is_an_error_and_leaves_the_old_one_as_it_was(tmp_path):
    large, small = (Distiset.of({"default": Dataset.from_list([{"text": text}])}) for text in (LARGE, "old"))
    small.save_to_disk(tmp_path / "saved")
    with (
        no_room_beyond(50_000),
        pytest.raises(OutputError, match="dataset cannot be written to .*saved.*Free some space"),
    ):
        large.save_to_disk(tmp_path / "saved")
    assert list(Distiset.load_from_disk(tmp_path / "saved")["default"]["train"]) == [{"text": "old"}]
    assert [file.name for file in tmp_path.iterdir()] == ["saved"]
    large.save_to_disk(tmp_path / "saved")
    assert list(Distiset.load_from_disk(tmp_path / "saved")["default"]["train"]) == [{"text": LARGE}]


def test_command_line_prints_one_line_where_card_and_figures_find_no_room(tmp_path, monkeypatch, capsys):
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    pair = {"chosen": said, "rejected": said, "chosen_rating": 2.0, "rejected_rating": 1.0}
    rated = {"generations": ["y", "z"], "generation_models": ["a", "b"], "ratings": [2.0, 1.0]}
    distiset = Distiset.of(
        {"default": Dataset.from_list([{**pair, **rated, "chosen_model": "a", "rejected_model": "b"}])}
    )
    distiset.card = "long " * 20_000
    monkeypatch.setattr(job, "make_dataset", lambda *arguments, **kwargs: distiset)
    monkeypatch.setattr(Distiset, "save_to_disk", lambda self, folder: folder.mkdir(parents=True))
    with no_room_beyond(50_000):
        assert main(["--models", "a", "b", "--no-evolve", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: Card and figures cannot be written") and "Traceback" not in error


def filled():
    default_cache().put_many({f"k{n}": LARGE for n in range(5)}, "one")
    default_cache().put_many({"other": LARGE}, "two")
    return default_cache().path


@pytest.mark.parametrize("opened", [True, False], ids=["open already", "cannot even be opened"])
def test_all_results_can_be_cleared_on_a_full_disk(capsys, opened):
    path = filled()
    if not opened:
        default_cache().close()
    with no_room_beyond(0):
        assert main(["cache", "--clear", "--yes"]) == 0
    assert f"Deleted {6 if opened else 'all'} results" in capsys.readouterr().out
    assert not list(path.parent.glob("results.sqlite*"))
    assert ResultCache(path.parent).get_many(["k0"]) == {}


def test_files_of_a_store_that_another_process_is_writing_are_not_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr("course_lib.llms.cache.WAIT", 0.1)
    cache = ResultCache(tmp_path)
    cache.put_many({"key": 1}, "model")
    with closing(sqlite3.connect(cache.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match="locked"):
            cache.clear()
    assert cache.get_many(["key"]) == {"key": 1}


def test_no_room_for_results_is_an_error_that_says_what_to_do_and_earlier_results_survive():
    filled()
    with no_room_beyond(700_000), pytest.raises(CacheError, match="[Ff]ree some space"):
        default_cache().put_many({f"more{n}": LARGE for n in range(10)}, "one")
    assert [(name, count) for name, count, _ in default_cache().summary()] == [("one", 5), ("two", 1)]
    default_cache().put_many({f"more{n}": LARGE for n in range(10)}, "one")
    assert len(default_cache().get_many([f"more{n}" for n in range(10)])) == 10
