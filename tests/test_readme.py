"""What the README says is true: its Python runs, its targets, files and options exist."""

import re
from pathlib import Path

from course_lib.__main__ import _dataset_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs_and_gives_pairs():
    [code] = re.findall(r"```python\n(.*?)```", README, re.S)
    space: dict = {}
    exec(compile(code, "README.md", "exec"), space)
    assert space["pairs"].column_names == ["prompt", "chosen", "rejected"]
    assert sum(len(config["train"]) for config in space["distiset"].values()) == 2


def test_targets_files_and_links_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        if target in ("dataset", "test", "lab", "bench"):
            assert re.search(rf"^{target}:", makefile, re.M)
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link
    for name in re.findall(r"^  (\w+\.py)|^(\w+)/", README, re.M):
        path = "course_lib/" + name[0] if name[0] else name[1]
        assert (ROOT / path).exists(), path


def test_every_option_is_in_the_readme_and_none_is_made_up():
    real = set(re.findall(r"--[\w-]+", _dataset_parser().format_help())) - {"--help"}
    told = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", README)) - {"--index-url"}
    assert told == real
