"""Grade a folder of submitted exercise notebooks, each in a process of its own.

The process that runs a submission works in an empty folder, may open files only there and where Python, the library and
its cache lie, may start no other process and reach no network, and has a limit of time and of memory. Where Linux lets
it, it has a network of its own, with nobody in it (`unshare`). That keeps accidents and curiosity from touching anything
else; it is not a wall against an attacker, for whom a container is the right tool.
"""

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import chain
from pathlib import Path

from course_lib.errors import InputError, writing
from course_lib.llms.cache import default_cache
from course_lib.paths import cache_folder
from course_lib.tables import visible

SECONDS = 300
MEMORY = 8 * 2**30  # bytes of address space; PyTorch maps far more than it uses
LARGEST = 20 * 2**20  # bytes of a notebook
NOTE = 200  # characters


@dataclass
class Grade:
    """One submission: how many questions are right and were tried, of how many, and what went wrong outside of them."""

    notebook: str
    chapter: int | None = None
    correct: int = 0
    attempted: int = 0
    questions: int = 0
    note: str = ""


def run(arguments: list[str], say: Callable[[str], None] = print) -> int:
    """`python -m course_lib grade`, with the arguments after it."""
    program, about = "python -m course_lib grade", "Grade submitted exercise notebooks."
    parser = argparse.ArgumentParser(prog=program, description=about)
    add, default = parser.add_argument, "(default: %(default)s)"
    add("folder", type=Path, help="the folder that holds the notebooks, at any depth")
    add("--csv", type=Path, metavar="FILE", help="where to write the table (default: grades.csv in FOLDER)")
    add("--seconds", type=float, default=SECONDS, help=f"time limit of a notebook {default}")
    add("--memory", type=int, default=MEMORY >> 20, metavar="MB", help=f"and memory limit {default}")
    options = parser.parse_args(arguments)
    for name, (low, high) in {"seconds": (1, 86_400), "memory": (1_024, 2**20)}.items():
        if not low <= getattr(options, name) <= high:
            raise InputError(f"--{name} {getattr(options, name):g}; allowed: {low} to {high}.")
    file = options.csv or options.folder / "grades.csv"
    grades = _tabulated(grade_folder(options.folder, options.seconds, options.memory << 20), file)
    say(grade_table(grades))
    network = "with" if apart() else "without"
    say(f"Written to {file}. Each ran in a process of its own, {network} a network namespace.")
    return 0


def _tabulated(grades: Iterator[Grade], path: Path) -> list[Grade]:
    """The grades, each of which is in the table at `path` at once, whatever comes after it."""
    done = []
    with (
        writing("The grades", path.parent, "Name another file with --csv"),
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, [field.name for field in fields(Grade)])
        writer.writeheader()
        for grade in grades:
            writer.writerow({name: _plain(value) for name, value in asdict(grade).items()})
            file.flush()
            done.append(grade)
    return done


def grade_folder(folder: Path, seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[Grade]:
    """Grades of all notebooks under `folder`, by path, as they come. Nothing is raised for what a submission does.

    Raises:
        InputError: no folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the folder that holds the submitted notebooks.")
    unread: list[OSError] = []
    places = os.walk(folder, onerror=unread.append)
    files = [Path(place, name) for place, _, names in places for name in names]
    notebooks = [path for path in files if path.suffix == ".ipynb" and ".ipynb_checkpoints" not in path.parts]
    if not notebooks and not unread:
        raise InputError(f"There is no .ipynb file under {folder}.")
    closed = [Grade(_name(Path(e.filename), folder), note=f"cannot be read: {e.strerror}") for e in unread]
    return chain(closed, (grade(path, _name(path, folder), seconds, memory) for path in sorted(notebooks)))


def _name(path: Path, folder: Path) -> str:
    """Where a submission lies, without what would act on a terminal or cannot be written."""
    name = str(path.relative_to(folder)).encode("utf-8", "backslashreplace").decode()
    return visible(name).replace("\n", "[U+000A]")


def grade(path: Path, name: str, seconds: float = SECONDS, memory: int = MEMORY) -> Grade:
    """The grade of the notebook at `path`, run from top to bottom; a cell that raises costs only itself."""
    try:
        # A link may lead to the solutions.
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
            return Grade(name, note=f"no regular file of at most {LARGEST >> 20} MB")
        content = path.read_bytes()
    except OSError as error:
        return Grade(name, note=f"cannot be read: {error}"[:NOTE])
    with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as work:
        Path(work, "submission.ipynb").write_bytes(content)
        _own_cache(Path(work, "cache"))
        _own_rows(path.parent, Path(work))
        fault = _run_apart(Path(work), seconds, memory)
        return _reported(Path(work, "report.json"), name, fault)


def _reported(report: Path, name: str, fault: str = "") -> Grade:
    """What the submission's process left, which may be anything: the submission can write there too."""
    from course_lib.exercises.sheet import chapter

    try:
        if not report.is_file() or report.stat().st_size > LARGEST:  # a pipe would never end
            raise ValueError(report)
        values = json.loads(report.read_text(encoding="utf-8"))
        number = values["chapter"]
        questions = len(chapter(number).questions) if number is not None else 0
        attempted = min(max(int(values["attempted"]), 0), questions)
        correct = min(max(int(values["correct"]), 0), attempted)
        early = "" if fault or values["finished"] else "ended before its last cell"
        notes = [fault, early, " ".join(visible(str(values["note"])).split())]
        return Grade(name, number, correct, attempted, questions, "; ".join(filter(None, notes))[:NOTE])
    except Exception:
        return Grade(name, note="; ".join(filter(None, [fault, "nothing was reported"])))


def _own_cache(folder: Path) -> None:
    """The results at hand, copied so that no submission can change what another one finds; weights are only linked."""
    folder.mkdir()
    with contextlib.suppress(OSError):  # Windows may refuse links; then only questions that run a model fail
        (folder / "weights").symlink_to((cache_folder() / "weights").resolve(), target_is_directory=True)
    default_cache().copy_to(folder)


def _own_rows(folder: Path, work: Path) -> None:
    """What the learner kept in earlier chapters, if it was handed in beside the notebook; else the stand-ins are used."""
    from course_lib.exercises.my_dataset import FOLDER

    (work / FOLDER).mkdir()
    with contextlib.suppress(OSError):
        for file in [*(folder / FOLDER).glob("chapter_?.jsonl"), folder / FOLDER / "labels.json"]:
            if not file.is_symlink() and file.is_file() and file.stat().st_size <= LARGEST:
                (work / FOLDER / file.name).write_bytes(file.read_bytes())


def _run_apart(work: Path, seconds: float, memory: int) -> str:
    """Run the submission in `work`; what stopped it, or an empty string."""
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")
    own = ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "IPYTHONDIR", "MPLCONFIGDIR")
    environment = {
        **{name: os.environ[name] for name in kept if name in os.environ},
        **dict.fromkeys(own, str(work)),
        "COURSE_LIB_CACHE": str(work / "cache"),
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "agg",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [*apart(), sys.executable, "-m", "course_lib.exercises.submission", str(memory)]
    silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        code = subprocess.run(command, cwd=work, env=environment, timeout=seconds, **silent).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:g} s; what was right until then counts"
    return "" if code == 0 else f"ended with exit status {code} (memory limit {memory >> 20} MB?)"


@cache
def apart() -> tuple[str, ...]:
    """What to begin a command with so that it has a network of its own; nothing where the system does not offer it."""
    command = ("unshare", "--map-root-user", "--net")
    with contextlib.suppress(OSError):
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return ()


def grade_table(grades: list[Grade]) -> str:
    """The grades as text."""
    lines = [("notebook", "chapter", "correct", "tried", "of", "note")]
    lines += [(g.notebook, g.chapter or "-", g.correct, g.attempted, g.questions, g.note) for g in grades]
    shape = f"{{:<{max(len(line[0]) for line in lines)}}}  {{!s:>7}}  {{!s:>7}}  {{!s:>5}}  {{!s:>2}}  {{}}"
    return "\n".join(shape.format(*line).rstrip() for line in lines)


def _plain(value):
    """Text that a spreadsheet does not take for a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
