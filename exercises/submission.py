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
    "os.kill", "socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo",
    "socket.gethostbyname", "socket.gethostbyaddr",
)  # fmt: skip
LOOKS = ("open", "os.listdir", "os.scandir")
# Where an event has its paths, and beside each the place of the descriptor of the folder that a path begins in.
CHANGES = {
    "os.remove": {0: 1}, "os.rmdir": {0: 1}, "os.mkdir": {0: 2}, "os.chmod": {0: 2}, "os.chown": {0: 3}, "os.utime": {0: 3},
    "os.rename": {0: 2, 1: 3}, "os.link": {0: 2, 1: 3}, "os.symlink": {0: None, 1: 2}, "os.truncate": {0: None},
    "os.chdir": {0: None}, "shutil.rmtree": {0: None}, "sqlite3.connect": {0: None},
}  # fmt: skip
MAGICS = ("time", "timeit", "capture")  # that run code of the learner; others change nothing in a grade


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
    _without_magics(shell)
    _limit(memory)
    _fence(work)
    raised = 0
    for number, source in enumerate(sources, 1):
        raised += not shell.run_cell(source, silent=True).success
        _report(work, sheets, f"{raised} cells raised an error" if raised else "", number == len(sources))


def _without_magics(shell) -> None:
    """Let `%pip install …`, `!ls`, `%%html` and their kind pass without effect: they cost no cell its points."""
    line_magic, cell_magic = shell.run_line_magic, shell.run_cell_magic
    shell.run_line_magic = lambda name, *a, **k: line_magic(name, *a, **k) if name in MAGICS else None
    shell.run_cell_magic = lambda name, *a, **k: cell_magic(name, *a, **k) if name in MAGICS else None
    shell.system, shell.getoutput = lambda *a, **k: None, lambda *a, **k: []


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

    def inside(path, places, folder=-1) -> bool:
        if isinstance(path, int):  # an open file
            path, folder = f"/proc/self/fd/{path}", -1
        base = Path(f"/proc/self/fd/{folder}" if folder not in (-1, None) else ".")
        place = (base / os.fsdecode(path)).resolve()
        return any(place == p or p in place.parents for p in places)

    def opened(path, flags) -> bool:
        # A folder outside that is open for reading is a way to all that lies in it, and so is "..", which may begin
        # in any open folder.
        written = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        allowed = writable if written or Path(path).is_dir() else [*readable, *writable]
        return inside(path, allowed) and (Path(path).is_absolute() or ".." not in Path(path).parts)

    def guard(event, arguments):
        if event in REFUSED:
            raise PermissionError(f"{event} is not allowed in an exercise that is graded.")
        path = arguments[0] if arguments else None
        if event == "open" and not isinstance(path, int) and not opened(os.fsdecode(path), arguments[2]):
            raise PermissionError(f"{path} lies outside of the folder of this exercise.")
        if event in LOOKS[1:] and path is not None and not inside(path, [*readable, *writable]):
            raise PermissionError(f"{path} lies outside of the folder of this exercise.")
        for place, folder in CHANGES.get(event, {}).items():
            begins = arguments[folder] if folder is not None and folder < len(arguments) else -1
            if not inside(arguments[place], writable, begins):
                raise PermissionError(f"{event} outside of the folder of this exercise is not allowed.")

    sys.addaudithook(guard)


def _report(work: Path, sheets: list, note: str, finished: bool = True) -> None:
    grade = Grade("", note=note or ("" if sheets else "no exercise of the course in it"))
    if sheets:
        grade.chapter, grade.questions = sheets[0].number, len(sheets[0].questions)
        outcomes = [sheet.outcomes for sheet in sheets if sheet.number == grade.chapter]
        latest = {name: outcome.status for named in outcomes for name, outcome in named.items()}
        grade.correct = sum(status == "correct" for status in latest.values())
        grade.attempted = sum(status != "not attempted" for status in latest.values())
    part = work / "report.part"
    part.write_text(json.dumps({**asdict(grade), "finished": finished}), encoding="utf-8")
    part.replace(work / "report.json")


if __name__ == "__main__":
    run_submission(int(sys.argv[1]))
