"""The set-up cell in a kernel that has never seen `course_lib`, as in Colab: it installs it, or it stops with one sentence."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import notebooks  # noqa: E402

EXERCISE = ROOT / "exercises" / notebooks.lessons()[5].name
PACKAGED = (
    "course_lib",
    "exercises",
    "solutions",
    "pyproject.toml",
    "requirements-library.txt",
    "README.md",
    "LICENSE",
)
WORK = 'print(len(ex.questions) > 3, any("def " in repr(ex.solution(name)) for name in ex.questions))'


class BareKernel:
    """A Python of its own with what the tests' Python has, but for `course_lib`, and `left_out`.

    An editable installation is read from files in site-packages that bear the package's name: they are not linked.
    """

    def __init__(self, folder: Path, left_out: tuple[str, ...] = ()):
        self.folder, packages = folder, folder / "packages"
        packages.mkdir(parents=True)
        for place in [Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]:
            for entry in place.iterdir():
                hidden = (
                    "course_lib" in entry.name
                    or entry.name.split("-")[0] in left_out
                    or entry.suffix == ".pth"
                )
                if not hidden and not (packages / entry.name).exists():
                    (packages / entry.name).symlink_to(entry)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python = folder / "venv" / "bin" / "python"
        [site] = (folder / "venv" / "lib").glob("python*/site-packages")
        (site / "outer.pth").write_text(f"{packages}\n")
        spec = folder / "kernels" / "bare"
        spec.mkdir(parents=True)
        argv = f'["{self.python}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
        (spec / "kernel.json").write_text(f'{{"argv": {argv}, "display_name": "bare", "language": "python"}}')

    def run(self, source: str, *cells: str, cwd: Path | None = None):
        """The real set-up cell of a lesson, then `cells`; the notebook as executed, and the error if there was one."""
        lesson = nbformat.read(notebooks.lessons()[0], as_version=4)
        [set_up] = [cell for cell in lesson.cells if "set-up" in cell.metadata.get("tags", [])]
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(c) for c in (set_up.source, *cells)]
        )
        work = cwd or self.folder / "empty"
        work.mkdir(exist_ok=True)
        manager = AsyncKernelManager(
            kernel_name="bare",
            kernel_spec_manager=KernelSpecManager(
                kernel_dirs=[str(self.folder / "kernels")], ensure_native_kernel=False
            ),
        )
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {
            "COURSE_LIB_SOURCE": source,
            "PIP_RETRIES": "0",
            "PIP_DEFAULT_TIMEOUT": "5",
            "HOME": str(self.folder),
        }
        client = NotebookClient(notebook, km=manager, timeout=120, resources={"metadata": {"path": work}})
        try:
            client.execute(env=environment)
        except CellExecutionError as error:
            return notebook, error
        return notebook, None


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> BareKernel:
    return BareKernel(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The package as built from a copy, so that nothing is left in the repository."""
    copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, copy]
    try:
        major = int(importlib.metadata.version("setuptools").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        major = 0
    if major >= 77:  # the first that knows the licence's short form
        command.insert(4, "--no-build-isolation")
    subprocess.run(command, check=True)
    [file] = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def web():
    """The address of a server that has nothing."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def check_stopped(notebook, error, source: str, cause: str) -> None:
    """The cell failed with one sentence that names `source` and `cause`, and the next cell was not run."""
    assert error is not None, "the notebook went on"
    set_up, following = notebook.cells
    assert following.execution_count is None and not following.outputs
    [failed] = [output for output in set_up.outputs if output.output_type == "error"]
    sentence = failed.evalue
    assert failed.traceback == [sentence] and "\n" not in sentence
    assert source in sentence and cause in sentence and "run this cell again" in sentence
    assert not [output for output in set_up.outputs if output.get("name") == "stderr"]


def test_what_cannot_be_reached_stops_the_notebook(bare):
    source = "http://127.0.0.1:9/course_lib-0.1.0-py3-none-any.whl"
    check_stopped(*bare.run(source, "import course_lib"), source, "the network did not answer")


def test_a_wrong_address_stops_the_notebook(bare, web):
    source = f"{web}/me/fork/archive/main.zip"
    check_stopped(*bare.run(source, "import course_lib"), source, "there is nothing at this address")


def test_another_failure_is_told_in_the_words_of_pip(bare, tmp_path):
    (tmp_path / "course_lib-0.1.0-py3-none-any.whl").write_bytes(b"no archive")
    source = str(tmp_path / "course_lib-0.1.0-py3-none-any.whl")
    check_stopped(*bare.run(source, "import course_lib"), source, "ERROR: ")


def test_without_pip_it_says_how_to_get_it(tmp_path):
    kernel = BareKernel(tmp_path / "no-pip", left_out=("pip",))
    check_stopped(*kernel.run("nowhere", "import course_lib"), "nowhere", "python -m ensurepip")


def test_once_installed_the_next_cells_work_without_a_restart_and_it_does_nothing_again(tmp_path, wheel):
    kernel = BareKernel(tmp_path / "bare")
    exercise = nbformat.read(EXERCISE, as_version=4)
    opening = [cell.source for cell in exercise.cells if cell.cell_type == "code"][1]
    notebook, error = kernel.run(str(wheel), opening, WORK)
    assert error is None
    [shown] = notebook.cells[2].outputs
    assert shown.text == "True True\n"
    [said] = notebook.cells[0].outputs
    assert said.name == "stdout" and str(wheel) in said.text
    again, error = kernel.run("nowhere", "import course_lib; print(course_lib.__file__)")
    assert error is None and again.cells[0].outputs == []
    assert str(kernel.folder) in again.cells[1].outputs[0].text
