"""What the benchmarks share: results that survive a stop, watched processes, tables, the machine in words."""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

DISTURBED = 0.1  # a measurement during which others took more of the processors is made again by the next run
SAMPLING_PAUSE = (
    1.5  # seconds between two looks at the memory of a process tree; each look costs some milliseconds
)


class Results:
    """Measured numbers by part and name in one JSON file; each is written as soon as it is known.

    Each carries the day, the machine and the state of `course_lib` that it was measured with. Numbers of another state or
    machine are as good as not measured: one table must not join them.
    """

    def __init__(self, path: Path):
        self.path = path
        self.parts: dict[str, dict[str, Any]] = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        )
        self._source = source_hash()

    def __getitem__(self, part: str) -> dict[str, Any]:
        """What counts of a part."""
        return {name: one for name, one in self.parts.get(part, {}).items() if self._counts(part, one)}

    def _counts(self, part: str, one: dict[str, Any]) -> bool:
        # Those of a GPU come from the machine that has it, and its name stands over their tables.
        here = part.startswith("gpu") or one.get("machine") == machine()
        return (
            here
            and one.get("source", "unknown") in (None, self._source)
            and one.get("others", 0.0) <= DISTURBED
        )

    @property
    def left_out(self) -> list[str]:
        """What was measured once but does not count now."""
        return [
            f"{part} · {name}"
            for part, found in self.parts.items()
            for name in found
            if name not in self[part]
        ]

    @property
    def days(self) -> list[str]:
        """On which days the numbers that count were measured."""
        return sorted({one["day"] for part in self.parts for one in self[part].values()})

    def put(self, part: str, name: str, value: dict[str, Any], ours: bool = True) -> None:
        """Keep `value`; `ours=False` where nothing of `course_lib` was at work, so that a change of it does not matter."""
        if source_hash() != self._source:
            raise RuntimeError("course_lib was changed while it was measured. Start again.")
        stamp = {
            "source": self._source if ours else None,
            "machine": machine(),
            "day": date.today().isoformat(),
        }
        self.parts.setdefault(part, {})[name] = {**value, **stamp}
        self._write()
        print(f"{part} · {name}: {json.dumps(value)}", flush=True)

    def forget(self, parts: list[str]) -> None:
        """Drop the parts whose first word is one of `parts`."""
        self.parts = {part: found for part, found in self.parts.items() if part.split()[0] not in parts}
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.parts, indent=1), encoding="utf-8")
        fresh.replace(self.path)

    def measure(self, part: str, name: str, compute, ours: bool = True) -> None:
        """`compute()` under `name`, with the share of the processors that others took meanwhile.

        What counts already is kept.
        """
        if name in self[part]:
            return
        started, busy, own = time.perf_counter(), _busy(), _own()
        found = compute()
        seconds = time.perf_counter() - started
        others = (_busy() - busy - (_own() - own)) / seconds / os.cpu_count()
        self.put(part, name, {**found, "others": round(max(others, 0.0), 3)}, ours)


def default_results() -> Results:
    """The numbers measured so far on this machine."""
    from course_lib.paths import cache_folder

    return Results(cache_folder() / "benchmarks" / "speed.json")


def source_hash() -> str:
    """Names the state of the code in `course_lib`, committed or not."""
    import course_lib

    folder = Path(course_lib.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _busy() -> float:
    """Processor seconds that were used by anything since the machine started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def _own() -> float:
    """Processor seconds of this process and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def watched(command: list[str], env: dict[str, str]) -> dict[str, float]:
    """Run `command`; wall seconds, and the peak memory in bytes of it and all that it starts.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    started, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLING_PAUSE)
        seconds = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            text = log.read().decode("utf-8", "replace")
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{text[-4000:]}")
    return {"seconds": round(seconds, 2), "peak_bytes": peak}


def tree_memory(pid: int) -> int:
    """Bytes that a process and its descendants hold; pages that they share are counted once where the system can tell."""
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(map(_memory, processes))


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return getattr(full, "pss", full.rss)


def peak_memory() -> int:
    """Bytes that this process held at most."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not `ru_maxrss`: on Linux a process inherits that from the one that started it.
        return next(
            int(line.split()[1]) * 1024
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM")
        )
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Let `peak_memory` count from now on, where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def seconds_of(compute, repeat: int = 1) -> float:
    """The shortest of `repeat` timings of `compute()`: what disturbs a run only ever makes it longer."""
    timings = []
    for _ in range(repeat):
        started = time.perf_counter()
        compute()
        timings.append(time.perf_counter() - started)
    return min(timings)


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def target(what: str, wanted: str, measured: str, reached: bool) -> list[str]:
    """A line for the table of targets."""
    return [what, wanted, measured, "yes" if reached else "**no**"]


@cache
def machine() -> str:
    """The machine and the versions in one line, without names of hosts or people."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    memory = round(psutil.virtual_memory().total / 2**30)
    return f"{_processor()}, {os.cpu_count()} cores, {memory} GiB; Python {platform.python_version()}, {packages}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{named[0] if named else platform.machine()} ({', '.join(wide) or 'no wide vectors known'})"
