"""The checks of the notebooks can fail, and untouched exercises run."""

import gzip
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib.errors import CacheError, InputError
from course_lib.exercises import chapter
from course_lib.llms import ScriptedLLM, TransformersLLM, choose_models

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

notebooks = importlib.import_module("notebooks")


@pytest.fixture
def replayed(cache_path, monkeypatch):
    """The recorded results and nothing else: no weights, no new results."""
    (cache_path / "weights").unlink()
    notebooks.fill_cache(cache_path)
    monkeypatch.setenv("COURSE_LIB_REPLAY", "1")
    return cache_path


def test_replay_has_both_models_and_refuses_what_was_not_recorded_without_weights(replayed):
    lines = gzip.decompress(notebooks.RECORDED.read_bytes()).splitlines()
    assert {json.loads(line)[1] for line in lines} >= {"smollm2-135m", "gemma-3-270m"}
    llm = TransformersLLM("smollm2-135m")
    with pytest.raises(CacheError, match="COURSE_LIB_REPLAY"):
        llm.generate([[{"role": "user", "content": "Nobody ever recorded this."}]])
    assert not (replayed / "weights").exists()


def test_replay_does_not_concern_what_has_no_model(replayed):
    assert ScriptedLLM(["yes"]).generate([[{"role": "user", "content": "?"}]])[0]["generations"] == ["yes"]


def test_tests_notebooks_and_library_keep_weights_in_one_place(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path / "chosen"))
    code = "import conftest; print(conftest.WEIGHTS.resolve())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT / "tests", capture_output=True, text=True, check=True, env=with_library()
    )
    (tmp_path / "results").mkdir()
    notebooks.link_weights(tmp_path / "results")
    monkeypatch.setenv("COURSE_LIB_REPLAY", "1")
    places = {done.stdout.strip(), str((tmp_path / "results" / "weights").resolve())}
    assert places == {str(TransformersLLM("smollm2-135m").weights.folder.parent.resolve())}


def with_library() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_recorded_results_are_small():
    assert notebooks.RECORDED.stat().st_size < 3_000_000


def write_changed(source: Path, target: Path) -> None:
    """Write a copy of a lesson with one digit in one stored output changed."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type != "code" or "nbval-ignore-output" in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            if output.get("name") == "stdout" and (found := re.search(r"\d\.\d\d", output.text)):
                last = str((int(found.group()[-1]) + 1) % 10)
                output.text = output.text[: found.end() - 1] + last + output.text[found.end() :]
                nbformat.write(notebook, target)
                return
    raise AssertionError(f"{source} prints no number with two decimals")


def test_a_lesson_with_one_number_changed_is_caught(tmp_path):
    """In a copy beside the others, so that its relative paths hold; the unchanged one passes in the same mode."""
    source = notebooks.lessons()[1]
    copy = source.with_name(f"tmp-{os.getpid()}-{source.name}")
    try:
        write_changed(source, copy)
        code = "import sys, notebooks, pathlib; sys.exit(notebooks.check([pathlib.Path(p) for p in sys.argv[1:]], replay=True))"
        run = [sys.executable, "-c", code]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tools"), str(ROOT)])}
        done = subprocess.run([*run, str(copy)], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1
        assert done.stdout.count("FAILED ") == 1 and "Cell outputs differ" in done.stdout
        sound = subprocess.run(
            [*run, str(source)], env=environment, capture_output=True, text=True, timeout=300
        )
        assert sound.returncode == 0, sound.stdout[-2000:]
    finally:
        copy.unlink(missing_ok=True)


@pytest.mark.parametrize("number", range(1, 6))
def test_an_untouched_exercise_notebook_runs_and_reports_none_right(number):
    [path] = (ROOT / "exercises").glob(f"{number:02}_*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    shown = last.outputs[-1]["data"]["text/plain"]
    assert f"0 of {len(chapter(number).questions)} correct" in shown
    assert "✘" not in shown


def test_models_are_chosen_for_the_machine_and_can_be_overruled(monkeypatch):
    monkeypatch.delenv("COURSE_LIB_MODELS", raising=False)
    monkeypatch.setattr("course_lib.llms.choice.best_device", lambda: "cpu")
    names, why = choose_models()
    assert names == ["smollm2-135m", "gemma-3-270m"] and "no GPU" in why
    monkeypatch.setattr("course_lib.llms.choice.best_device", lambda: "cuda")
    assert "cannot be reached" in choose_models()[1]
    monkeypatch.setattr("course_lib.llms.choice._hub_answers", lambda: True)
    names, why = choose_models()
    assert all("/" in name for name in names) and "there is a GPU" in why
    monkeypatch.setenv("COURSE_LIB_MODELS", "a/b, c/d")
    assert choose_models() == (["a/b", "c/d"], "a/b and c/d: COURSE_LIB_MODELS asks for them.")
    monkeypatch.setenv("COURSE_LIB_MODELS", "a/b")
    with pytest.raises(InputError, match="two models"):
        choose_models()
    monkeypatch.setenv("COURSE_LIB_MODELS", "packaged")
    assert choose_models()[0] == ["smollm2-135m", "gemma-3-270m"]


def test_the_hub_answers_or_does_not(monkeypatch):
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from course_lib.llms import choice

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path.startswith("/api/models/") else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    assert not choice._hub_answers()  # the tests run with HF_HUB_OFFLINE=1
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert choice._hub_answers()
    server.shutdown()
    server.server_close()
    assert not choice._hub_answers()


def test_make_test_checks_with_its_weights_what_the_replay_leaves_out():
    [target] = re.findall(r"^test: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    checked = re.findall(r"\(NOTEBOOKS\) check (.*)", target)
    assert [f"notebooks/{name}" for name in notebooks.TRAINS] == " ".join(checked).split()
