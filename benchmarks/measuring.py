"""What the benchmarks share: results that survive a stop, watched processes, tables, the machine in words."""

import json
import os
import platform
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

DISTURBED = 0.1  # a measurement during which others took more of the processors is made again by the next run
SAMPLING_PAUSE = 1.5  # seconds between two looks at the memory of a process tree; each look costs some milliseconds


class Results:
    """Measured numbers by part and name in one JSON file; each is written as soon as it is known."""

    def __init__(self, path: Path):
        self.path = path
        self.parts: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def __getitem__(self, part: str) -> dict[str, Any]:
        """What was measured on a quiet machine; the rest is as good as not measured."""
        return {name: one for name, one in self.parts.get(part, {}).items() if one.get("others", 0.0) <= DISTURBED}

    def put(self, part: str, name: str, value: Any) -> None:
        self.parts.setdefault(part, {})[name] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.parts, indent=1), encoding="utf-8")
        fresh.replace(self.path)
        print(f"{part} · {name}: {json.dumps(value)}", flush=True)

    def measure(self, part: str, name: str, compute) -> None:
        """`compute()` under `name`, with the share of the processors that others took meanwhile.

        What is there already is kept, unless others took too much then.
        """
        if name in self[part]:
            return
        started, busy, own = time.perf_counter(), _busy(), _own()
        found = compute()
        seconds = time.perf_counter() - started
        others = (_busy() - busy - (_own() - own)) / seconds / os.cpu_count()
        self.put(part, name, {**found, "others": round(max(others, 0.0), 3)})


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
            time.sleep(SAMPLING_PAUSE)
        seconds = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            text = log.read().decode("utf-8", "replace")
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{text[-4000:]}")
    return {"seconds": round(seconds, 2), "peak_bytes": peak}


def tree_memory(pid: int) -> int:
    """Bytes that a process and its descendants hold; pages that they share are counted once where the system can tell."""
    total = 0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return total


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
