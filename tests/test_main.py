"""The main job on the real models: the files, the table, the second run, and what happens to bad input."""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from course_lib.__main__ import main
from course_lib.distiset import Distiset
from course_lib.llms.cache import default_cache

FEW = ["--limit", "4", "--max-new-tokens", "48"]


def all_files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture
def no_model_loads(monkeypatch):
    from course_lib.llms import TransformersLLM

    monkeypatch.setattr(TransformersLLM, "_load_model", lambda self: pytest.fail("a model was loaded"))


@pytest.fixture
def refused(no_model_loads, capsys, tmp_path):
    """Run the command line with options that cannot work; the error that it prints."""

    def run(*options):
        assert main([*options, "--out", str(tmp_path / "out")]) == 2
        assert not (tmp_path / "out" / "dataset").exists()
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "Traceback" not in error
        return error

    return run


def test_the_job_writes_a_dataset_a_card_and_two_figures_and_the_second_run_is_the_same(
    tmp_path, capsys, monkeypatch
):
    assert main([*FEW, "--out", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out
    for words in (
        "instructions  ",
        "pairs ",
        " new, 0 from the cache",
        "tokens/s",
        "One pair in full",
        "chosen (",
        "rejected (",
    ):
        assert words in printed
    distiset = Distiset.load_from_disk(tmp_path / "one" / "dataset")
    rows = [row for config in distiset.values() for row in config["train"]]
    assert len(rows) == 4
    for row in distiset["default"]["train"]:
        assert row["chosen_rating"] > row["rejected_rating"]
        assert row["chosen"][-1]["content"] != row["rejected"][-1]["content"]
    card = (tmp_path / "one" / "README.md").read_text()
    for words in (
        "smollm2-135m",
        "Apache-2.0",
        "Gemma Terms of Use",
        "| `seed` | 0 |",
        "| instructions | 4 |",
        "DPOTrainer",
    ):
        assert words in card
    for name in ("scores.png", "margins.png"):
        assert (tmp_path / "one" / name).read_bytes().startswith(b"\x89PNG")
    # The second run needs no model at all: everything is in the cache.
    from course_lib.llms import TransformersLLM

    monkeypatch.setattr(TransformersLLM, "_load_model", lambda self: pytest.fail("a model was loaded"))
    assert main([*FEW, "--out", str(tmp_path / "two")]) == 0
    assert " 0 new, " in capsys.readouterr().out
    assert all_files(tmp_path / "two") == all_files(tmp_path / "one")


def test_ctrl_c_in_the_middle_keeps_what_was_computed_and_the_next_run_goes_on(tmp_path, cache_path):
    options = ["--limit", "6", "--max-new-tokens", "24", "--judge", "likelihood"]
    command = [sys.executable, "-m", "course_lib", *options]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True)
    store = cache_path / "results.sqlite"
    deadline = time.monotonic() + 120
    while not stored(store) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    kept = stored(store)
    assert process.returncode == 130 and "run the same command again" in error and "Traceback" not in error
    assert kept >= 6 and not (tmp_path / "out" / "dataset").exists()
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert "6 from the cache" in done.stdout


def stored(store) -> int:

    if not store.exists():
        return 0
    try:
        return sqlite3.connect(store).execute("SELECT COUNT(*) FROM results").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


PLUGIN = """
from course_lib.llms import ScriptedLLM
from course_lib.steps import Step

class Echo(ScriptedLLM):
    source, licence = "a parrot", "CC0-1.0"
    def __init__(self, **kwargs):
        super().__init__(lambda chat: f"You said: {chat[-1]['content']}", model_name="echo", **kwargs)

class Brevity(Step):
    inputs, outputs = ["generations"], ["ratings"]
    def process(self, rows):
        yield [{**row, "ratings": [5 / (1 + len(text)) for text in row["generations"]]} for row in rows]

def short(**kwargs):
    return ScriptedLLM(["Yes."], model_name="short", **kwargs)
"""
ENTRIES = """[course_lib.llms]
echo = parrot:Echo
short = parrot:short
[course_lib.judges]
brevity = parrot:Brevity
"""


def test_an_installed_package_brings_models_and_a_judge(tmp_path):
    about = tmp_path / "site" / "parrot-1.0.dist-info"
    about.mkdir(parents=True)
    (tmp_path / "site" / "parrot.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)])
    options = ["--models", "echo", "short", "--no-evolve", "--judge", "brevity", "--limit", "3"]
    command = [sys.executable, "-m", "course_lib", *options, "--out", str(tmp_path / "out")]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    rows = list(Distiset.load_from_disk(tmp_path / "out" / "dataset")["default"]["train"])
    assert {(row["chosen_model"], row["rejected_model"]) for row in rows} == {("short", "echo")} and len(
        rows
    ) == 3
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| `echo` | a parrot | CC0-1.0 |" in card and "| `short` | short | not known |" in card


def test_instructions_from_a_file_with_another_column_name(tmp_path, capsys):
    source = write_rows(
        tmp_path / "mine.jsonl", [{"prompt": "Name a colour. 🎨"}, {"prompt": "Name a fruit."}]
    )
    options = [
        "--column",
        "prompt",
        "--max-new-tokens",
        "8",
        "--no-evolve",
        "--judge",
        "likelihood",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["--instructions", source, *options]) == 0
    rows = [row for c in Distiset.load_from_disk(tmp_path / "out" / "dataset").values() for row in c["train"]]
    assert [row["instruction"] for row in rows] == ["Name a colour. 🎨", "Name a fruit."]


def test_bad_instructions_are_refused_before_a_model_loads(refused, tmp_path):
    file = tmp_path / "in.jsonl"
    assert "missing.jsonl" in refused("--instructions", str(tmp_path / "missing.jsonl"))
    file.write_text("")
    assert "empty" in refused("--instructions", str(file))
    file.write_text('{"instruction": "fine"}\nnot json\n')
    assert "line 2 is not JSON" in refused("--instructions", str(file))
    write_rows(file, [{"prompt": "Hello"}])
    message = refused("--instructions", str(file))
    assert "there is: prompt" in message and "input_mappings" in message
    write_rows(file, [{"instruction": "fine"}, {"instruction": 7}])
    assert "row 2 is int 7" in refused("--instructions", str(file))
    write_rows(file, [{"instruction": "  "}])
    assert "row 1 is empty" in refused("--instructions", str(file))
    write_rows(file, [{"instruction": "word " * 9000}])
    assert "longer than the context of smollm2-135m, 8192 tokens" in refused("--instructions", str(file))


def test_bad_options_are_refused_before_a_model_loads(refused):
    assert "Allowed: a packaged model" in refused("--models", "smollm2-13m", "gemma-3-270m")
    assert "could not be fetched" in refused("--models", "nobody/nothing", "gemma-3-270m")
    assert "--judge 'guess'" in refused("--judge", "guess")
    assert "--limit 0" in refused("--limit", "0")
    assert "Give two models" in refused("--models", "smollm2-135m", "--no-evolve")


def test_an_out_folder_that_holds_something_else_is_left_alone(tmp_path, capsys, no_model_loads):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["--out", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_cache_command_shows_and_clears_results_but_not_weights(capsys, cache_path):
    from course_lib.llms import ScriptedLLM

    ScriptedLLM(["kept"], use_cache=True).generate([[{"role": "user", "content": "x"}]])
    assert main(["cache"]) == 0
    results, weights = capsys.readouterr().out.splitlines()
    assert results.startswith(str(cache_path / "results.sqlite")) and weights.startswith(
        str(cache_path / "weights")
    )
    assert main(["cache", "--clear", "--yes"]) == 0
    assert "Deleted 1 results" in capsys.readouterr().out
    assert (cache_path / "weights").exists()


def test_cache_command_refuses_an_answer_without_a_question(capsys):
    assert main(["cache", "--yes"]) == 2
    assert "--clear" in capsys.readouterr().err


def test_cache_command_deletes_nothing_where_nobody_can_answer(capsys, monkeypatch):
    default_cache().put_many({"key": 1}, "scripted")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["cache", "--clear"]) == 2
    assert "Pass --yes" in capsys.readouterr().err
    assert default_cache().get_many(["key"]) == {"key": 1}


@pytest.mark.parametrize("answer, left", [("y", {}), ("yes", {}), ("n", {"key": 1}), ("", {"key": 1})])
def test_cache_command_deletes_after_a_yes_only(capsys, monkeypatch, answer, left):
    default_cache().put_many({"key": 1}, "scripted")
    monkeypatch.setattr("sys.stdin", io.StringIO(answer + "\n"))
    assert main(["cache", "--clear"]) == 0
    assert default_cache().get_many(["key"]) == left


def test_cache_command_counts_the_log_too(capsys, cache_path):
    store = default_cache()
    store.put_many({"key": "x" * 700_000, "other": 1}, "scripted")
    assert store.path.stat().st_size < 100_000 < (cache_path / "results.sqlite-wal").stat().st_size
    assert main(["cache"]) == 0
    assert 0.7 <= float(capsys.readouterr().out.splitlines()[0].split()[-2]) < 10


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
@pytest.mark.parametrize("megabytes", [1_000, 2_500, 4_000])
def test_too_little_memory_is_one_sentence_at_whatever_point_it_runs_out(tmp_path, megabytes):
    import resource

    bound = megabytes << 20
    done = subprocess.run(
        [sys.executable, "-m", "course_lib", *FEW, "--out", str(tmp_path / "out")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (bound, bound)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr[-500:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "emory" in last and "Traceback" not in done.stderr


def test_clearing_the_cache_removes_what_killed_downloads_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path))
    (tmp_path / "weights" / ".smollm2-135m-left_over" / "converted").mkdir(parents=True)
    (tmp_path / "weights" / "mine").mkdir()
    assert main(["cache", "--clear", "--yes"]) == 0
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["mine"]
