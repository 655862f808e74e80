"""Every entrance of the course, tried as on a machine that has never seen it.

    python tools/fresh.py [ENTRANCE…]        entrances: dataset, notebooks, replay, wheel, set-up

Each entrance gets a copy of the last commit in a folder whose path has a space and an umlaut, an empty HOME, no cache of
ours, no variable of the environment but those that reach the network, and only what it installs itself, in an environment
of its own. pip's download cache is used. Needs nothing but Python, git and make. Two entrances run side by side.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = getattr(sys, "_base_executable", sys.executable)
DEBIAN_PYTHON = Path("/usr/bin/python3")
NOBODY = 65534
KEPT = re.compile(
    r"PATH|LANG|LC_\w+|TERM|CI|PIP_\w+|\w*_PROXY|\w*_proxy|\w*CERT\w*|\w*CA_BUNDLE|DEBIAN_FRONTEND"
)
TAIL = 60

# Runs a lesson up to the first cell after its set-up cell, as a reader without the repository would.
FIRST_CELLS = """
import nbformat, sys
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
place = next(n for n, cell in enumerate(notebook.cells) if "set-up" in cell.metadata.get("tags", []))
notebook.cells = [notebook.cells[place], nbformat.v4.new_code_cell("import course_lib; print(course_lib.__file__)")]
NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
print(notebook.cells[1].outputs[0].text)
"""


class Failure(Exception):
    """An entrance that did not do what a newcomer expects."""


class Place:
    """A folder for one entrance, with an empty HOME and a log."""

    def __init__(self, top: Path, name: str):
        self.folder = top / f"new mächine {name}"
        self.home = self.folder / "home"
        self.log = self.folder / "log.txt"
        # A file name with spaces cannot stand in PIP_CONSTRAINT.
        self.constraints = str(top / "constraints.txt")
        self.home.mkdir(parents=True)
        kept = {key: value for key, value in os.environ.items() if KEPT.fullmatch(key)}
        self.environment = {**kept, "HOME": str(self.home), "PIP_CACHE_DIR": pip_cache()}

    def run(self, *command, cwd: Path | None = None, fails: bool = False, **variables: str) -> str:
        """What a command printed. It must end well (or, with `fails`, badly), and never with a traceback."""
        start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(map(str, command))}\n".encode())
            log.flush()
            status = subprocess.run(
                list(map(str, command)),
                cwd=cwd or self.folder,
                env={**self.environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            ).returncode
        output = self.log.read_bytes()[start:].decode(errors="replace")
        if bool(status) != fails or (not fails and "Traceback (most recent call last)" in output):
            raise Failure(f"{' '.join(map(str, command))[:200]} ended with status {status}")
        return output

    def clone(self) -> Path:
        self.run("git", "clone", "--quiet", ROOT, self.folder / "clone")
        return self.folder / "clone"

    def archive(self) -> Path:
        """The files of the last commit without git's own folder, as a download of an archive brings them."""
        target = self.folder / "archive"
        target.mkdir()
        self.run("git", "-C", ROOT, "archive", "-o", self.folder / "archive.tar", "HEAD")
        self.run("tar", "-xf", self.folder / "archive.tar", "-C", target)
        return target

    def environment_of(self, python: str | Path, *packages: str) -> Path:
        """The Python of a new virtual environment that holds `packages` and what they need."""
        self.run(python, "-m", "venv", self.folder / "venv")
        program = self.folder / "venv" / "bin" / "python"
        if packages:
            self.run(program, "-m", "pip", "install", "--quiet", *packages, PIP_CONSTRAINT=self.constraints)
        return program

    def wheel(self, python: Path) -> Path:
        self.run(
            python,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            self.folder / "dist",
            self.clone(),
        )
        return next((self.folder / "dist").glob("course_lib-*.whl"))

    def empty_folder(self) -> Path:
        folder = self.folder / "empty"
        folder.mkdir(exist_ok=True)
        return folder


def pip_cache() -> str:
    return subprocess.run(
        [PYTHON, "-m", "pip", "cache", "dir"], capture_output=True, text=True
    ).stdout.strip()


def expect(found: bool, sentence: str) -> None:
    if not found:
        raise Failure(sentence)


def dataset(place: Place) -> None:
    """The README's first command, from another working directory."""
    clone = place.clone()
    place.run("make", "-C", clone, f"PYTHON={PYTHON}", "dataset")
    for file in ("dataset", "README.md", "scores.png", "margins.png"):
        expect((clone / "output" / file).exists(), f"output/{file} was not written")


def notebooks(place: Place) -> None:
    """nbval on real models with nothing fetched: one lesson, another one with each commit."""
    count = subprocess.run(
        ["git", "-C", ROOT, "rev-list", "--count", "HEAD"], capture_output=True, text=True, check=True
    )
    clone = place.clone()
    lessons = sorted((clone / "notebooks").glob("0*.ipynb"))
    lesson = lessons[int(count.stdout) % len(lessons)].relative_to(clone)
    place.run("make", f"PYTHON={PYTHON}", "test-notebooks", f"ARGS={lesson}", cwd=clone)


def replay(place: Place) -> None:
    """nbval from the recorded results, in an archive without git."""
    place.run("make", f"PYTHON={PYTHON}", "test-replay", cwd=place.archive())
    expect(not list(place.home.rglob("*.safetensors")), "the replay fetched a model")


def wheel(place: Place) -> None:
    """The built wheel in a plain environment of the system's Python, used by somebody who is not root."""
    python = DEBIAN_PYTHON if DEBIAN_PYTHON.exists() and _recent(DEBIAN_PYTHON) else PYTHON
    program = place.environment_of(python)
    place.run(
        program, "-m", "pip", "install", "--quiet", place.wheel(program), PIP_CONSTRAINT=place.constraints
    )
    folder = place.empty_folder()
    other = []
    if os.geteuid() == 0 and shutil.which("setpriv") and python == DEBIAN_PYTHON:
        other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        for path in (folder, place.home):
            os.chown(path, NOBODY, NOBODY)
    place.run(*other, program, "-m", "course_lib", "--limit", "4", cwd=folder)
    expect((folder / "output" / "dataset").is_dir(), "output/dataset was not written")


def set_up(place: Place) -> None:
    """The set-up cell of a lesson where there is no course_lib: with a source in reach, and with none."""
    program = place.environment_of(PYTHON, "ipykernel", "nbclient")
    lesson = next((place.clone() / "notebooks").glob("01*.ipynb"))
    wheels = place.folder / "dist"
    place.run(
        program, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, place.folder / "clone"
    )
    command, folder = [program, "-c", FIRST_CELLS, lesson], place.empty_folder()
    nowhere = "git+http://127.0.0.1:9/nobody/nothing"
    output = place.run(*command, cwd=folder, fails=True, COURSE_LIB_SOURCE=nowhere)
    expect("ModuleNotFoundError" not in output, "the notebook went on after a failed installation")
    source = str(next(wheels.glob("course_lib-*.whl")))
    output = place.run(*command, cwd=folder, COURSE_LIB_SOURCE=source, PIP_CONSTRAINT=place.constraints)
    expect("site-packages" in output, "course_lib was not installed by the set-up cell")


def _recent(python: Path) -> bool:
    """Whether `python` is one that the course takes and can make virtual environments."""
    code = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


ENTRANCES = {"dataset": dataset, "notebooks": notebooks, "replay": replay, "wheel": wheel, "set-up": set_up}


def tried(top: Path, name: str) -> bool:
    place, started = Place(top, name), time.monotonic()
    try:
        ENTRANCES[name](place)
        reason = ""
    except Failure as failure:
        reason = str(failure)
    print(
        f"{'FAILED' if reason else 'passed'}  {name:<10} {time.monotonic() - started:5.0f} s  {reason}",
        flush=True,
    )
    if reason and place.log.exists():
        lines = place.log.read_text(errors="replace").splitlines()
        print("\n".join(f"    {line}" for line in lines[-TAIL:]), flush=True)
    shutil.rmtree(place.folder, ignore_errors=True)
    return not reason


def main(names: list[str]) -> int:
    unknown = set(names) - set(ENTRANCES)
    if unknown:
        print(
            f"No such entrance: {', '.join(sorted(unknown))}. There are: {', '.join(ENTRANCES)}.",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="fresh-", ignore_cleanup_errors=True) as folder:
        top = Path(folder)
        top.chmod(0o755)
        shutil.copy(ROOT / "constraints.txt", top)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda name: tried(top, name), names or list(ENTRANCES)))
    print(f"{results.count(True)} passed, {results.count(False)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
