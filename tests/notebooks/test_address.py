"""A fork writes its address once, and no other one is left in it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import address  # noqa: E402

COPIED = ("course_lib", "docs", "exercises", "notebooks", "solutions", "tests", "tools", "benchmarks")
SLUG = "/".join(["me", "fork-2.x"])  # in pieces: it may stand nowhere but where it was written
FORK = f"https://github.com/{SLUG}"


@pytest.fixture
def copy(tmp_path) -> Path:
    """The repository's files in another folder."""
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file() and file.name != ".git":
            shutil.copy(file, tmp_path / file.name)
    return tmp_path


def publish(copy: Path, url: str) -> subprocess.CompletedProcess:
    command = ["make", "--silent", f"PYTHON={sys.executable}", "publish-address", f"URL={url}"]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True)


def contents(copy: Path) -> dict[Path, bytes]:
    return {
        file: file.read_bytes()
        for file in copy.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_after_it_no_old_address_is_left_and_the_notebooks_are_in_order(copy):
    old, before = address.place(address.address(copy)).encode(), contents(copy)
    done = publish(copy, f"{FORK}.git/")
    assert done.returncode == 0, done.stderr
    after = contents(copy)
    assert [file for file, content in after.items() if old in content] == []
    changed = [file for file in after if after[file] != before[file]]
    assert all(after[file].replace(SLUG.encode(), old) == before[file] for file in changed)
    assert {file.suffix for file in changed} == {".toml", ".ipynb", ".md"} and len(changed) >= 17
    tests = "tests/notebooks/test_structure.py"
    names = "badge or address or links or exercises_are"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--noconftest",
        tests,
        "-k",
        names,
    ]
    checked = subprocess.run(command, cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout[-3000:]


def test_twice_is_once_and_back_again_changes_nothing(copy):
    before, old = contents(copy), address.address(copy)
    assert address.publish(FORK, copy) and not address.publish(FORK, copy)
    address.publish(old, copy)
    assert contents(copy) == before


@pytest.mark.parametrize(
    "url",
    ["", "me/fork", "https://gitlab.com/me/fork", "https://github.com/me", "git@github.com:me/fork.git"]
    + [
        "https://github.com/me/fork/tree/main",
        "https://github.com/me/a b",
        'https://github.com/me/f"',
        "https://github.com/me/..",
    ],
)
def test_what_is_no_address_on_github_is_refused_in_one_sentence(copy, url):
    before = contents(copy)
    done = publish(copy, url)
    assert done.returncode != 0 and contents(copy) == before
    said = done.stderr.splitlines()
    assert "is no address of a repository on GitHub" in said[0] and "https://github.com/me/fork" in said[0]
    # The second line is make's own; within a make it calls itself make[1].
    assert len(said) == 2 and re.match(r"make(\[\d+\])?: \*\*\*", said[1])


def test_a_longer_name_that_begins_alike_is_another_repository(copy):
    present = address.address(copy)
    (copy / "README.md").write_text(
        f"{present}-2 {present}.js {present}. {present}/blob/main/x", encoding="utf-8"
    )
    address.publish(FORK, copy)
    assert (copy / "README.md").read_text(
        encoding="utf-8"
    ) == f"{present}-2 {present}.js {FORK}. {FORK}/blob/main/x"
