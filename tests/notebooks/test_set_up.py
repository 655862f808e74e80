"""The set-up cell where there is no course_lib: it installs it, or stops in one sentence."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import notebooks  # noqa: E402

HIDDEN = ("PYTHONPATH", "PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV")


def bare_python(folder: Path, *options: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", *options, folder], check=True)
    return folder / "bin" / "python"


def run_cell(python: Path, folder: Path, after: str = "", **variables: str) -> subprocess.CompletedProcess:
    """The set-up cell and `after` in a new process, with an empty folder around it."""
    environment = {key: value for key, value in os.environ.items() if key not in HIDDEN}
    folder.mkdir()
    command = [python, "-c", f"{notebooks.set_up()}\n{after}"]
    return subprocess.run(command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True)


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/archive/main.zip", "git+http://127.0.0.1:9/nobody/nothing"])
def test_a_source_out_of_reach_stops_the_cell_with_the_source_and_the_network_named(tmp_path, source):
    python = bare_python(tmp_path / "venv")
    done = run_cell(python, tmp_path / "empty", "print('went on')", COURSE_LIB_SOURCE=source, PIP_RETRIES="0")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "went on" not in done.stdout
    assert f"course_lib could not be installed from {source}" in last and "network" in last


def test_without_pip_the_sentence_says_how_to_get_it(tmp_path):
    python = bare_python(tmp_path / "venv", "--without-pip")
    done = run_cell(python, tmp_path / "empty", COURSE_LIB_SOURCE="course-lib")
    assert done.returncode == 1 and "python -m ensurepip" in done.stderr.strip().splitlines()[-1]


def test_a_wheel_is_installed_and_the_next_cell_imports_it_without_a_restart(tmp_path):
    # In a copy, since a build leaves files beside the sources.
    ignored = shutil.ignore_patterns(".git", ".venv*", "build", "output", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=ignored)
    python = bare_python(tmp_path / "venv")
    command = [python, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", tmp_path / "dist", tmp_path / "copy"]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = (tmp_path / "dist").glob("course_lib-*.whl")
    after = "import course_lib, course_lib.errors\nprint(course_lib.__file__)"
    done = run_cell(python, tmp_path / "empty", after, COURSE_LIB_SOURCE=str(wheel), PIP_NO_DEPS="1")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "venv") in done.stdout.splitlines()[-1]
