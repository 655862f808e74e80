"""Keep the notebooks in order.

    python tools/notebooks.py run NOTEBOOK…            execute with real models and store the outputs
    python tools/notebooks.py head NOTEBOOK…           write the badge and the set-up cell anew; execute nothing
    python tools/notebooks.py exercises                make exercises/ from solutions/
    python tools/notebooks.py check [NOTEBOOK…]        nbval with real models, from an empty cache
    python tools/notebooks.py replay [NOTEBOOK…]       nbval without any model, from the recorded results; leaves out what
                                                       trains a model, which `check` runs
    python tools/notebooks.py record                   run everything on an empty cache and keep the results for replay

Without NOTEBOOK, all lessons and solutions. Badge and set-up cell have the repository's address; tools/address.py changes it.
"""

import gzip
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from address import address, place
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "tests" / "notebooks" / "recorded.jsonl.gz"
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = ("tags", "reason")
TRAINS = ("06_dpo.ipynb",)  # what a model writes once it was trained is in no record
BADGE = ("[Open in Colab]", "[![Open In Colab]")
SET_UP = """\
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("course_lib") is None:  # not installed where this notebook runs: a bare clone, or Colab
    archive = "ADDRESS/archive/main.zip"
    source = os.environ.get("COURSE_LIB_SOURCE") or (".." if os.path.isdir("../course_lib") else archive)
    print(f"Installing course_lib from {source}: this can take some minutes.")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source]
    errors = subprocess.run(command, capture_output=True, text=True).stderr
    importlib.invalidate_caches()
    if importlib.util.find_spec("course_lib") is None:
        causes = {"No module named pip": "this Python has no pip; run `python -m ensurepip` (with uv: `uv pip install pip`)"}
        causes |= dict.fromkeys(["onnect", "resolve host"], "the network did not answer; check it, and the address")
        causes |= dict.fromkeys(["404", "not exist", "Username"], "there is nothing at this address; correct it")
        reasons = [causes[mark] for mark in causes if mark in errors]
        reasons += [line for line in errors.splitlines() if "error: " in line.lower()] + ["restart the kernel"]
        failure = RuntimeError(f"course_lib could not be installed from {source}: {reasons[0]}, then run this cell again.")
        failure._render_traceback_ = lambda: [str(failure)]  # the sentence alone
        raise failure"""


def lessons() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("0*.ipynb"))


def solutions() -> list[Path]:
    return sorted((ROOT / "solutions").glob("0*.ipynb"))


def in_colab(path: Path) -> str:
    """The address under which Colab opens the notebook at `path`."""
    return f"https://colab.research.google.com/github/{place(address())}/blob/main/{path.parent.name}/{path.name}"


def badge(path: Path) -> str:
    """Colab's badge, which opens the notebook at `path` there."""
    return f"[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]({in_colab(path)})"


def set_up() -> str:
    """The cell that makes `course_lib` importable in a clone, in an installed package and in Colab.

    COURSE_LIB_SOURCE, what pip installs instead: a wheel, a folder, an address. An archive needs no git, and a wrong address
    fails with "404", where git would ask for a password. pip's own magic would go on after a failure.
    """
    return SET_UP.replace("ADDRESS", address())


def with_head(notebook, path: Path):
    """Put the badge under the title, and the set-up cell in the cell marked `# set-up`."""
    title = notebook.cells[0]
    lines = [line for line in title.source.splitlines() if not line.startswith(BADGE)]
    title.source = "\n".join([lines[0], "", badge(path), "", "\n".join(lines[1:]).strip()])
    for cell in notebook.cells:
        if cell.cell_type == "code" and (
            cell.source.startswith("# set-up") or "set-up" in cell.metadata.get("tags", [])
        ):
            cell.source = set_up()
            cell.metadata["tags"] = ["set-up"]
            return notebook
    raise SystemExit(f"{path} has no code cell '# set-up'.")


def tidied(notebook):
    """Outputs, ids and metadata without what differs between two runs."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 5
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02}"
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in KEPT if cell.metadata.get(key)}
        )
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list) -> list:
    """Outputs with neighbouring pieces of one stream as one: where a kernel cuts them is chance."""
    kept: list = []
    for output in outputs:
        last = kept[-1] if kept else None
        if last is not None and output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            kept.append(output)
    return kept


def run(path: Path, timeout: int = 900) -> None:
    """Execute the notebook at `path` in a kernel of its own and store it with its outputs."""
    notebook = with_head(nbformat.read(path, as_version=4), path)
    client = NotebookClient(
        notebook, timeout=timeout, store_widget_state=False, resources={"metadata": {"path": path.parent}}
    )
    client.execute()
    nbformat.write(tidied(notebook), path)


def write_head(path: Path) -> None:
    nbformat.write(tidied(with_head(nbformat.read(path, as_version=4), path)), path)


def make_exercises(folder: Path = ROOT / "exercises") -> None:
    """Write the exercise notebook of each solution notebook into `folder`."""
    from course_lib.exercises.sources import exercise_of

    for path in solutions():
        notebook = nbformat.from_dict(exercise_of(json.loads(path.read_text(encoding="utf-8"))))
        target = folder / path.name
        notebook.cells[0].source = notebook.cells[0].source.replace(
            badge(path), badge(ROOT / "exercises" / path.name)
        )
        nbformat.write(tidied(notebook), target)


def check(paths: list[Path], replay: bool = False) -> int:
    """nbval over notebooks on a new folder of results, empty or with the recorded ones; pytest's exit status."""
    training = [path for path in paths if replay and path.name in TRAINS]
    for path in training:
        print(f"left out: {path.relative_to(ROOT)} trains a model; `check` runs it")
    paths = [path for path in paths if path not in training]
    if not paths:
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "COURSE_LIB_CACHE": name, "COURSE_LIB_MODELS": "packaged"}
        if replay:
            fill_cache(folder)
            environment["COURSE_LIB_REPLAY"] = "1"
        else:
            link_weights(folder)
        options = ["-q", "-p", "no:cacheprovider", "--nbval"]
        command = [sys.executable, "-m", "pytest", *options, *map(str, paths)]
        return subprocess.run(command, cwd=ROOT, env=environment).returncode


def link_weights(folder: Path) -> None:
    """Let a new folder of results use the weights at hand."""
    from course_lib.paths import cache_folder

    (cache_folder() / "weights").mkdir(parents=True, exist_ok=True)
    (folder / "weights").symlink_to((cache_folder() / "weights").resolve(), target_is_directory=True)


def fill_cache(folder: Path) -> None:
    """Put the recorded results into a new folder of results."""
    from course_lib.llms.cache import ResultCache

    rows = [json.loads(line) for line in gzip.decompress(RECORDED.read_bytes()).splitlines()]
    cache = ResultCache(folder)
    for model in {model for _, model, _ in rows}:
        cache.put_many({key: value for key, one, value in rows if one == model}, model)
    cache.close()


def record() -> None:
    """Run all notebooks on an empty cache and store what the models said, sorted, in `RECORDED`."""
    from course_lib.llms import choose_models
    from course_lib.llms.weights import PACKAGED

    if choose_models()[0] != list(PACKAGED):
        raise SystemExit(
            "The lessons are stored with the packaged models. Set COURSE_LIB_MODELS=packaged and run again."
        )
    with tempfile.TemporaryDirectory() as name:
        link_weights(Path(name))
        os.environ["COURSE_LIB_CACHE"] = name
        for path in [*lessons(), *solutions()]:
            print(path.relative_to(ROOT), flush=True)
            run(path)
        keep_results(Path(name))


def keep_results(folder: Path) -> None:
    """Store the results of the cache in `folder` as the recorded ones."""
    connection = sqlite3.connect(folder / "results.sqlite")
    rows = connection.execute("SELECT key, model, value FROM results ORDER BY key").fetchall()
    rows = [
        row for row in rows if not os.path.isabs(row[1])
    ]  # a model trained in a lesson is another one each time
    connection.close()
    lines = [json.dumps([key, model, json.loads(value)], separators=(",", ":")) for key, model, value in rows]
    RECORDED.write_bytes(gzip.compress("\n".join(lines).encode("ascii"), compresslevel=9, mtime=0))
    print(f"{len(rows)} results, {RECORDED.stat().st_size / 1e6:.2f} MB, in {RECORDED.relative_to(ROOT)}")


def main(arguments: list[str]) -> int:
    command, names = (arguments[0] if arguments else ""), [Path(name).resolve() for name in arguments[1:]]
    if command in ("run", "head"):
        for path in names or [*lessons(), *solutions()]:
            {"run": run, "head": write_head}[command](path)
    elif command in ("check", "replay"):
        return check(names or [*lessons(), *solutions()], replay=command == "replay")
    elif command in ("record", "exercises") and not names:
        {"record": record, "exercises": make_exercises}[command]()
    else:
        raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
