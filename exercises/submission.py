"""The process that runs one submitted notebook; `grading.py` starts it in an empty folder.

python -m course_lib.exercises.submission BYTES      runs submission.ipynb, keeps report.json
"""

import contextlib
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import course_lib
from course_lib.exercises.grading import Grade
from course_lib.exercises.sources import solutions_folder
from course_lib.paths import cache_folder

SYSTEM = ("/sys", "/dev", "/usr", "/lib", "/lib64")
# Audit events, https://docs.python.org/3/library/audit_events.html
REFUSED = (
    "subprocess.Popen", "os.system", "os.exec", "os.spawn", "os.startfile", "os.posix_spawn", "os.fork", "os.forkpty",
    "os.kill", "socket.connect", "socket.sendto", "socket.sendmsg",
)  # fmt: skip
LOOKS = ("open", "os.listdir", "os.scandir")
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "sqlite3.connect",
)  # fmt: skip


def run_submission(memory: int) -> None:
    """Run `submission.ipynb` of the working folder and keep `report.json` up to date after each cell."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    work = Path.cwd()
    try:
        cells = json.loads((work / "submission.ipynb").read_text(encoding="utf-8"))["cells"]  # nbformat 4
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except Exception as error:
        _report(work, [], f"no valid notebook: {type(error).__name__}")
        return
    sheets = _recorded_sheets()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    _limit(memory)
    _fence(work)
    raised = 0
    for source in sources:
        raised += not shell.run_cell(source, silent=True).success
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
    ours = [course_lib.__path__[0], Path(__file__).parent, solutions_folder(), cache_folder() / "weights"]
    places = [sys.prefix, sys.base_prefix, *SYSTEM, *ours]
    # Other processes' numbers are left out: their environments may hold secrets.
    places += Path("/proc").glob("[a-z]*")
    places += [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    readable, writable = [Path(p).resolve() for p in places], [work.resolve(), Path("/dev/null")]
    tempfile.tempdir = str(work)

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
        elif event in CHANGES and not all(
            inside(a, writable) for a in arguments if isinstance(a, str | bytes)
        ):
            raise PermissionError(f"{event} outside of the folder of this exercise is not allowed.")

    sys.addaudithook(guard)


def _report(work: Path, sheets: list, note: str) -> None:
    grade = Grade("", note=note or ("" if sheets else "no exercise of the course in it"))
    if sheets:
        grade.chapter, grade.questions = sheets[0].number, len(sheets[0].questions)
        outcomes = [sheet.outcomes for sheet in sheets if sheet.number == grade.chapter]
        latest = {name: outcome.status for named in outcomes for name, outcome in named.items()}
        grade.correct = sum(status == "correct" for status in latest.values())
        grade.attempted = sum(status != "not attempted" for status in latest.values())
    part = work / "report.part"
    part.write_text(json.dumps(asdict(grade)), encoding="utf-8")
    part.replace(work / "report.json")


if __name__ == "__main__":
    run_submission(int(sys.argv[1]))
