"""The process that runs one submitted notebook; `grading.py` starts it in an empty folder.

python -m course_lib.exercises.submission BYTES      runs submission.ipynb, keeps report.json
"""

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import course_lib
from course_lib.exercises.grading import Grade
from course_lib.exercises.sources import solutions_folder
from course_lib.paths import cache_folder

SYSTEM = ("/sys", "/dev", "/usr", "/lib", "/lib64")
# Audit events, https://docs.python.org/3/library/audit_events.html
REFUSED = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.spawn",
    "os.startfile",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
)
LOOKS = ("open", "os.listdir", "os.scandir")
CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "sqlite3.connect",
)


def run_submission(memory: int) -> None:
    """Run `submission.ipynb` of the working folder and keep `report.json` up to date after each cell."""
    import nbformat

    work = Path.cwd()
    try:
        notebook = nbformat.read(work / "submission.ipynb", as_version=4)
        sources = [str(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    except Exception as error:
        _report(work, [], f"no valid notebook: {type(error).__name__}")
        return
    sheets = _recorded_sheets()
    shell = _shell()
    _limit(memory)
    _fence(work)
    raised = 0
    for source in sources:
        result = shell.run_cell(source, silent=True)
        raised += not result.success
        _report(work, sheets, f"{raised} cells raised an error" if raised else "")


def _recorded_sheets() -> list:
    """Every sheet that `course_lib.exercises.chapter` hands out from now on."""
    import course_lib.exercises as exercises

    sheets, original = [], exercises.chapter

    def chapter(number):
        sheets.append(original(number))
        return sheets[-1]

    exercises.chapter = chapter
    return sheets


def _shell():
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    return InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))


def _limit(memory: int) -> None:
    """At most `memory` bytes of address space, and as many in one file."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit; time and the fence still hold.
        return
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
        with contextlib.suppress(ValueError):  # macOS refuses the first; a stricter limit may be set already
            resource.setrlimit(limit, (memory, memory))


def _fence(work: Path) -> None:
    """Refuse to open, change or start what lies outside of `work` and what Python and the library need."""
    import tempfile as temporary

    places = [sys.prefix, sys.base_prefix, cache_folder() / "weights", *SYSTEM, *course_lib.__path__[:1], Path(__file__).parent]
    places.append(solutions_folder())
    # Other processes' numbers are left out: their environments may hold secrets.
    places += Path("/proc").glob("[a-z]*")
    places += [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    readable, writable = [Path(p).resolve() for p in places], [work.resolve(), Path("/dev/null")]
    temporary.tempdir = str(work)

    def inside(path, places) -> bool:
        if isinstance(path, int) or path is None:
            return True
        place = Path(os.fsdecode(path)).resolve()
        return any(place == p or p in place.parents for p in places)

    def guard(event, arguments):
        if event in REFUSED:
            raise PermissionError(f"{event} is not allowed in an exercise that is graded.")
        if event in LOOKS:
            written = event == "open" and (arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            if not inside(arguments[0], writable if written else [*readable, *writable]):
                raise PermissionError(f"{arguments[0]} lies outside of the folder of this exercise.")
        elif event in CHANGES and not all(inside(a, writable) for a in arguments if isinstance(a, str | bytes)):
            raise PermissionError(f"{event} outside of the folder of this exercise is not allowed.")

    sys.addaudithook(guard)


def _report(work: Path, sheets: list, note: str) -> None:
    found = Grade("", note=note if sheets else note or "no exercise of the course in it")
    if sheets:
        number = sheets[0].number
        latest = {name: one.status for sheet in sheets if sheet.number == number for name, one in sheet.outcomes.items()}
        found.chapter, found.questions = number, len(sheets[0].questions)
        found.correct = sum(status == "correct" for status in latest.values())
        found.attempted = sum(status != "not attempted" for status in latest.values())
    part = work / "report.part"
    part.write_text(json.dumps(asdict(found)), encoding="utf-8")
    part.replace(work / "report.json")


if __name__ == "__main__":
    run_submission(int(sys.argv[1]))
