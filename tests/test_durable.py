"""A run that is killed, again and again, ends with the dataset of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import KILLS_ITSELF, new_cache

OPTIONS = ["--limit", "8", "--max-new-tokens", "16"]
KILLS = 20


KILLED = f"{KILLS_ITSELF}\nfrom course_lib.__main__ import main\nsys.exit(main(sys.argv[1:]))"


def start(cache: Path, out: Path, program: tuple[str, ...] = ("-m", "course_lib")) -> subprocess.Popen:
    command = [sys.executable, *program, *OPTIONS, "--out", str(out)]
    environment = {**os.environ, "COURSE_LIB_CACHE": str(cache)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def another_cache(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return new_cache(tmp_path / name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    started = time.monotonic()
    process = start(another_cache(folder, "cache"), folder / "out")
    assert process.wait() == 0, process.communicate()
    return files(folder / "out"), time.monotonic() - started, folder / "cache"


def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(undisturbed, tmp_path):
    expected, seconds, _ = undisturbed
    cache, moments = another_cache(tmp_path, "cache"), random.Random(7)
    for _ in range(KILLS):
        process = start(cache, tmp_path / "out")
        time.sleep(moments.uniform(1.0, max(2.0, seconds / 2)))
        process.kill()
        process.wait()
    last = start(cache, tmp_path / "out")
    output, error = last.communicate()
    assert last.returncode == 0, error
    assert "damaged" not in error
    assert files(tmp_path / "out") == expected


def test_two_runs_at_once_on_one_cache_both_end_with_the_same_bytes(undisturbed, tmp_path):
    expected, _, _ = undisturbed
    cache = another_cache(tmp_path, "cache")
    both = [start(cache, tmp_path / name) for name in ("one", "two")]
    for process in both:
        assert process.wait() == 0, process.communicate()
    assert files(tmp_path / "one") == files(tmp_path / "two") == expected


def test_killed_while_it_saves_it_goes_on_and_ends_with_the_same_bytes(undisturbed, tmp_path):
    expected, _, cache = undisturbed
    # Before the first rename; while the rest of that is removed; with the new dataset in place; with the old one moved aside.
    for function, count in (("os.rename", 1), ("shutil.rmtree", 1), ("shutil.rmtree", 2), ("os.rename", 2)):
        killed = start(cache, tmp_path / "out", ("-c", KILLED, function, str(count), ".dataset-saving-"))
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        assert list((tmp_path / "out").glob(".dataset-saving-*"))
    assert not (tmp_path / "out" / "dataset").exists()
    last = start(cache, tmp_path / "out")
    _, error = last.communicate()
    assert last.returncode == 0, error
    assert files(tmp_path / "out") == expected
