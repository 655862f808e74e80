"""Whatever the command line is given: a dataset or one sentence, no row lost unsaid, no text obeyed."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_lib import job
from course_lib.__main__ import main
from course_lib.distiset import Distiset

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
        yield [{**row, "ratings": [5 / (1 + len(text or "")) for text in row["generations"]]} for row in rows]

def short(**kwargs):
    return ScriptedLLM(["Yes."], model_name="short", **kwargs)
"""
ENTRIES = """[course_lib.llms]
echo = parrot:Echo
short = parrot:short
[course_lib.judges]
brevity = parrot:Brevity
"""
SCRIPTED = ["--models", "echo", "short", "--judge", "brevity"]
HOSTILE = "\x1b]52;c;eA==\x07\x1b[2J\u202e\x00\r# Free\n\n![x](http://x/y) <img onerror=x> a|b `c`"
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture(scope="session")
def parrot(tmp_path_factory) -> Path:
    """A folder with an installed package that brings two scripted models and a judge."""
    site = tmp_path_factory.mktemp("site")
    about = site / "parrot-1.0.dist-info"
    about.mkdir()
    (site / "parrot.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    return site


@pytest.fixture
def command(parrot, monkeypatch, capsys, tmp_path):
    """Runs the command line in this process on scripted models: exit status, output, errors."""
    monkeypatch.syspath_prepend(parrot)

    def run(*options: str, out: Path | None = None) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*SCRIPTED, "--out", str(out or tmp_path / "out"), *options])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err and not UNSEEN.search(captured.out + captured.err)
        return status, captured.out, captured.err

    return run


@pytest.fixture
def refused(command):
    """Runs what cannot work; its one line."""

    def run(*options: str, out: Path | None = None) -> str:
        status, _, error = command(*options, out=out)
        assert status == 2 and error.startswith("error: ") and error.count("\n") == 1
        return error

    return run


def jsonl(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows_of(out: Path) -> list[dict]:
    return [row for config in Distiset.load_from_disk(out / "dataset").values() for row in config["train"]]


# --- what is ignored, missing or unwritable is said first ---------------------------------------------------


@pytest.mark.parametrize(
    "options, words",
    [
        (["--column", "prompt"], "--instructions"),
        (["--split", "test"], "--instructions"),
        (["--config", "default"], "--instructions"),
        (["--judge", "default:echo"], "allowed: default, likelihood, logits:MODEL"),
        (["--judge", "likelihood:"], "allowed: default"),
        (["--judge", "brevity:echo"], "allowed: default"),
        (["--models", "echo", "echo"], "Name each once"),
        (["--device", "cpu"], "unexpected keyword argument 'device'"),
        (["--device", "gpu"], "there is: cpu"),
        (["--device", ""], "there is: cpu"),
        (["--device", "cuda:99"], "there is: cpu"),
        (["--colour", "\x1b[31m"], "unrecognized arguments: --colour [U+001B][31m"),
        (["--limit", "many"], "--help"),
        (["--instructions", "~nobody-here/in.jsonl"], "without ~"),
        (["--models", "echo", "~nobody-here/model"], "without ~"),
        (["--models", "echo", "m" * 300], "There is no model"),
        (["--models", "echo", "\x1b[2J"], "There is no model"),
    ],
)
def test_options_that_cannot_work_or_would_do_nothing_are_one_line(refused, options, words):
    assert words in refused(*options)


@pytest.mark.parametrize("place", ["file/below", "dangling", "n" * 300, "full/README.md/below"])
def test_a_folder_that_cannot_be_written_is_said_before_any_instruction_is_read(refused, tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at" / "all")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "README.md").write_text("")
    error = refused("--instructions", str(tmp_path / "missing.jsonl"), out=tmp_path / place)
    assert "cannot be written to" in error and "missing.jsonl" not in error


def test_a_read_only_folder_is_said_at_once(refused, tmp_path, monkeypatch):
    def denied(*arguments, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("course_lib.settings.TemporaryFile", denied)  # root may write everywhere
    assert "Permission denied" in refused()


def test_parts_of_saved_datasets_can_be_named_and_a_file_has_none(command, refused, tmp_path):
    parts = {name: Dataset.from_list([{"prompt": f"Say {name}."}]) for name in ("train_prefs", "test_prefs")}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    source = ["--instructions", str(tmp_path / "saved"), "--column", "prompt"]
    assert command(*source, "--split", "test_prefs")[0] == 0
    assert [row["instruction"] for row in rows_of(tmp_path / "out")] == ["Say test_prefs."]
    assert "train_prefs, test_prefs" in refused(*source)
    file = jsonl(tmp_path / "in.jsonl", {"instruction": "x"})
    assert "no part 'train'" in refused("--instructions", file, "--split", "train")
    assert "no part 'other'" in refused(*source, "--split", "other")
    assert "no part 'other/train_prefs'" in refused(*source, "--config", "other", "--split", "train_prefs")
    parts["train_prefs"].save_to_disk(tmp_path / "plain")
    assert "no part 'train'" in refused("--instructions", str(tmp_path / "plain"), "--split", "train")


# --- the hub ------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """What the hub answers to `whoami`, and to a push; either may be an exception."""
    answers = {"whoami": {"name": "ada", "orgs": [{"name": "lab"}]}, "push": None}

    def answer(name):
        def called(*arguments, **kwargs):
            if isinstance(answers[name], Exception):
                raise answers[name]
            return answers[name]

        return called

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", answer("whoami"))
    monkeypatch.setattr(Distiset, "push_to_hub", answer("push"))
    return answers


@pytest.mark.parametrize("name", ["", "pairs", "/pairs", "ada/", "ada/a b", "ada/x/y", "eve/pairs", "ada/.."])
def test_a_repository_that_cannot_be_ours_is_said_first(refused, hub, monkeypatch, name):
    monkeypatch.setattr(job, "make_dataset", lambda settings: pytest.fail("the job ran"))
    assert repr(name)[1:-1] in refused("--push-to-hub", name)


def test_without_login_or_network_nothing_runs(refused, hub, monkeypatch):
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    monkeypatch.setattr(job, "make_dataset", lambda settings: pytest.fail("the job ran"))
    for error in (LocalTokenNotFoundError("run `hf auth login`"), OfflineModeIsEnabled("offline")):
        hub["whoami"] = error
        line = refused("--push-to-hub", "ada/pairs")
        assert str(error) in line and "network and `hf auth login`" in line


def test_what_stops_publishing_leaves_the_dataset_and_says_where(command, hub, tmp_path):
    hub["push"] = ConnectionError("403 Forbidden\nand more")
    status, printed, error = command("--push-to-hub", "lab/pairs", "--limit", "2")
    assert status == 2 and "One pair in full" in printed and error.count("\n") == 1
    assert str(tmp_path / "out" / "dataset") in error and "403 Forbidden" in error
    assert len(rows_of(tmp_path / "out")) == 2
    hub["push"] = None
    status, printed, _ = command("--push-to-hub", "lab/pairs", "--limit", "2")
    assert status == 0 and "Pushed to https://huggingface.co/datasets/lab/pairs" in printed


# --- text of others, in a terminal and on the card ----------------------------------------------------------


def test_hostile_text_neither_acts_in_a_terminal_nor_on_the_card(command, tmp_path):
    folder = tmp_path / "a|b<img src=x>`c`"
    folder.mkdir()
    source = jsonl(folder / "in.jsonl", {HOSTILE: f"Say {HOSTILE}", "\x1b[31m|": 1})
    status, printed, _ = command("--instructions", source, "--column", HOSTILE)
    assert status == 0 and "[U+001B]" in printed and "[U+202E]" in printed
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert not UNSEEN.search(card) and "\n# Free" not in card
    for line in card.splitlines():
        for markup in ("<img", "![x](", "a|b", "`c`"):
            assert not re.search(rf"(?<!\\){re.escape(markup)}", line), line
    rows = [line for line in card.splitlines() if line.startswith("| `instructions`")]
    assert len(rows) == 1 and len(re.findall(r"(?<!\\)\|", rows[0])) == 3


def test_a_bad_name_in_an_error_is_shown_not_obeyed(refused, tmp_path):
    assert "[U+001B]" in refused("--instructions", str(tmp_path / "\x1b[2Jin.jsonl"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_is_survived(command, monkeypatch, tmp_path, encoding):
    source = jsonl(tmp_path / "in.jsonl", {"instruction": "Say 猫 and ß. 🎨"})
    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, encoding=encoding))
    assert command("--instructions", source)[0] == 0
    assert ("猫" if encoding == "utf-8" else "\\u732b") in output.getvalue().decode(encoding)


def test_a_closed_pipe_is_survived(parrot, tmp_path):
    path = os.pathsep.join([str(parrot), *filter(None, sys.path)])
    command = [sys.executable, "-m", "course_lib", *SCRIPTED, "--limit", "2", "--out", str(tmp_path / "out")]
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (closed.returncode, closed.stderr) == (0, b"") and len(rows_of(tmp_path / "out")) == 2


def test_what_a_killed_run_left_beside_the_figures_is_removed_by_the_next(command, tmp_path):
    assert command()[0] == 0
    (tmp_path / "out" / ".saving").mkdir()
    (tmp_path / "out" / ".saving" / "scores.png").write_bytes(b"half")
    assert command()[0] == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "dataset",
        "README.md",
        "scores.png",
        "margins.png",
    }


def test_a_link_in_place_of_card_or_figure_is_replaced_and_its_target_stays(command, tmp_path):
    assert command("--limit", "1")[0] == 0
    target = tmp_path / "precious.txt"
    target.write_text("years of work")
    for name in ("README.md", "scores.png"):
        (tmp_path / "out" / name).unlink()
        (tmp_path / "out" / name).symlink_to(target)
    assert command("--limit", "1")[0] == 0
    assert target.read_text() == "years of work"
    assert not (tmp_path / "out" / "README.md").is_symlink()
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "dataset",
        "README.md",
        "scores.png",
        "margins.png",
    }


# --- what a run says of columns and completions -------------------------------------------------------------


def test_a_run_names_the_columns_that_it_used_and_those_that_it_did_not(command, tmp_path):
    row = {"prompt": "Say hello.", "instruction": "old", "topic": "greeting", "ratings": [1]}
    status, printed, _ = command("--instructions", jsonl(tmp_path / "in.jsonl", row), "--column", "prompt")
    assert status == 0
    for line in (
        "columns used prompt",
        "columns not used topic",
        "columns kept as earlier_… instruction, ratings",
    ):
        assert line in " ".join(printed.split())
    [pair] = rows_of(tmp_path / "out")
    assert (pair["instruction"], pair["earlier_instruction"]) == ("Say hello.", "old")
    assert pair["earlier_ratings"] == [1]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| columns not used | topic |" in card
    assert "language:" not in card


def test_a_dataset_of_an_earlier_run_serves_as_instructions_whatever_its_columns_hold(command, tmp_path):
    assert command("--limit", "3", "--judge", "text:short")[0] == 0  # no ratings, so all rows were dropped
    source = str(tmp_path / "out" / "dataset")
    assert command("--instructions", source, "--config", "dropped", out=tmp_path / "again")[0] == 0
    assert [row["chosen_model"] for row in rows_of(tmp_path / "again")] == ["short"] * 3
    row = {
        "instruction": "x",
        "distilabel_metadata": "x",
        "evolution_failures": 3,
        "model_name": [1],
        "chosen": 7,
    }
    source = jsonl(tmp_path / "in.jsonl", row)
    for evolve in ("--evolve", "--no-evolve"):
        assert command("--instructions", source, evolve, out=tmp_path / "odd")[0] == 0
        assert len(rows_of(tmp_path / "odd")) == 1


def test_summary_and_card_count_the_completions_that_were_cut_off(command, parrot, tmp_path, monkeypatch):
    from course_lib.llms import ScriptedLLM

    def cut(self, requests, wanted):
        for position in wanted:
            text = requests[position].chat[-1]["content"]
            reason = "length" if self.model_name == "echo" else "stop"
            yield {position: {"text": text, "input_tokens": 1, "output_tokens": 1, "finish_reason": reason}}

    monkeypatch.setattr(ScriptedLLM, "write", cut)
    _, printed, _ = command("--limit", "3", "--no-evolve")
    assert re.search(r"cut off.* 3\n", printed)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert re.search(r"cut off.* \| 3 \|\n", card)
    monkeypatch.undo()


# --- errors of others ---------------------------------------------------------------------------------------


def raised_in_a_library() -> None:
    import jinja2

    jinja2.Environment().from_string("{% if %}")


def raised_below_a_library() -> None:
    import pyarrow as pa

    pa.table({"a": [1, "x"]})


def raised_while_reading_unicode() -> None:
    b"\xff".decode("utf-8")


def raised_by_recursion() -> None:
    raised_by_recursion()


def raised_by_memory() -> None:
    raise MemoryError


def raised_by_the_system() -> None:
    Path("/proc/self/mem/below").read_text()


def raised_by_transformers() -> None:
    from transformers import AutoConfig

    AutoConfig.for_model("no-such-model")


LIBRARY_FAULTS = [function for name, function in sorted(globals().items()) if name.startswith("raised_")]


@pytest.mark.parametrize("fault", LIBRARY_FAULTS)
def test_errors_of_libraries_and_of_the_system_are_one_line_with_cause_and_cure(refused, monkeypatch, fault):
    monkeypatch.setattr(job, "make_dataset", lambda settings: fault())
    assert "then run the same again." in refused()


@pytest.mark.parametrize(
    "error", [KeyError("x\x1b[2J"), TypeError("a\nb"), AssertionError(), ZeroDivisionError("0")]
)
def test_a_fault_of_ours_is_one_line_that_says_where_the_traceback_lies(command, monkeypatch, error):
    def fail(settings):
        raise error

    monkeypatch.setattr(job, "make_dataset", fail)
    status, printed, line = command()
    assert status == 1 and not printed and line.startswith("error: ") and line.count("\n") == 1
    [file] = re.findall(r"\S+traceback\.txt", line)
    assert type(error).__name__ in Path(file).read_text() and "report" in line


# --- anything -----------------------------------------------------------------------------------------------

LETTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TEXTS = st.one_of(LETTERS, st.sampled_from([HOSTILE, "Say {{ x }}.", "=1+1", "<|im_end|>", "  ", "猫 🎨"]))
NAMES = st.one_of(st.sampled_from(["instruction", "prompt", "ratings", "drop_reason", "id", ""]), LETTERS)
VALUES = st.one_of(TEXTS, st.none(), st.integers(), st.floats(), st.booleans(), st.lists(TEXTS, max_size=2))
SOUND = st.fixed_dictionaries(
    {"instruction": TEXTS.map("Say {}".format)}, optional={"topic": VALUES, "ratings": VALUES, "a b": VALUES}
)


def mostly(usual: st.SearchStrategy, unlikely: st.SearchStrategy) -> st.SearchStrategy:
    return st.sampled_from([True, True, True, False]).flatmap(lambda often: usual if often else unlikely)


LINES = mostly(
    st.lists(SOUND, min_size=1, max_size=4), st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=4)
)
FILES = mostly(
    LINES.map(lambda rows: ("in.jsonl", "\n".join(map(json.dumps, rows)).encode())),
    st.one_of(
        st.lists(TEXTS, max_size=4).map(
            lambda lines: ("in.csv", "\n".join(["instruction", *lines]).encode())
        ),
        st.tuples(
            st.sampled_from(["in.jsonl", "in.csv", "in.parquet", "in.txt", "in"]), st.binary(max_size=40)
        ),
    ),
)
SENSIBLE = {
    "--limit": st.integers(1, 3),
    "--seed": st.integers(-(2**63), 2**63 - 1),
    "--max-new-tokens": st.integers(1, 99),
    "--judge": st.sampled_from(["brevity", "text", "text:short"]),
}
UNLIKELY = {
    "--column": NAMES,
    "--split": NAMES,
    "--config": NAMES,
    "--limit": st.integers(max_value=0) | TEXTS,
    "--seed": st.integers() | TEXTS,
    "--max-new-tokens": st.integers() | TEXTS,
    "--device": st.sampled_from(["", "cpu", "gpu", "meta", "\x1b[2J"]),
    "--judge": st.sampled_from(["logits:echo", "default:x", ":", "text:nobody"]) | TEXTS,
    "--push-to-hub": TEXTS,
    "--models": TEXTS,
}
OPTIONS = mostly(
    st.fixed_dictionaries({}, optional=SENSIBLE),
    st.one_of(*(st.fixed_dictionaries({name: values}) for name, values in UNLIKELY.items())),
)


@settings(max_examples=80, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=FILES, options=OPTIONS, evolve=st.booleans())
def test_anything_gives_a_dataset_with_every_row_or_one_sentence(
    parrot, monkeypatch, capsys, tmp_path_factory, file, options, evolve
):
    monkeypatch.syspath_prepend(parrot)
    # The figures take most of the time of a small run.
    monkeypatch.setattr("course_lib.plots.save", lambda figure, path: Path(path).write_bytes(b""))
    folder = tmp_path_factory.mktemp("any")
    name, content = file
    (folder / name).write_bytes(content)
    command = [*SCRIPTED, "--instructions", str(folder / name), "--evolve" if evolve else "--no-evolve"]
    command += [f"{option}={value}" for option, value in options.items()]
    status = main([*command, "--out", str(folder / "out")])
    printed, error = capsys.readouterr()
    assert not UNSEEN.search(printed + error) and "Traceback" not in error
    if status:
        assert status == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    else:
        limit = int(options.get("--limit", 9))
        if name == "in.jsonl":
            lines = [line for line in content.decode().split("\n") if line.strip()]
            assert len(rows_of(folder / "out")) == len(lines[:limit])
        counts = dict(re.findall(r"^  (instructions|pairs|no pair: .*?)  +(\d+)$", printed, re.M))
        total = sum(int(count) for line, count in counts.items() if line != "instructions")
        assert total == int(counts["instructions"]) == len(rows_of(folder / "out"))
