"""What the README says is true: its Python runs, its targets, files and options exist."""

import re
from pathlib import Path

from course_lib.__main__ import audit_parser, dataset_parser, train_parser
from course_lib.pipeline import Pipeline
from course_lib.steps import LoadDataFromDicts

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def names_of(block: int) -> dict:
    """What is defined after the README's block of Python with that number has run."""
    code = re.findall(r"```python\n(.*?)```", README, re.S)[block]
    space: dict = {}
    exec(compile(code, "README.md", "exec"), space)
    return space


def test_the_model_task_and_judge_of_the_readme_work_in_a_pipeline():
    space = names_of(2)
    with Pipeline() as pipeline:
        load = LoadDataFromDicts(data=[{"text": "Bread rises."}])
        write = space["Summary"](llm=space["Echo"](word="So"), num_generations=2, group_generations=True)
        mappings = {"generations": "summary"}
        load >> write >> space["Brevity"](input_mappings=mappings)
    [row] = pipeline.run(progress=False)["default"]["train"]
    assert row["summary"] == ["So, Summarise in one sentence: Bread rises."] * 2
    assert row["ratings"] == [5 - len(row["summary"][0]) / 100] * 2


def test_the_models_behind_an_address_are_made_without_asking_them(monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "from the environment")
    space = names_of(1)
    for name in ("judge", "hosted", "local", "other"):
        space[name].check()
    assert space["judge"].key.reveal() == "from the environment"


def test_the_python_example_runs_and_gives_pairs():
    space = names_of(0)
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
    parsers = "".join(make().format_help() for make in (dataset_parser, audit_parser, train_parser))
    real = set(re.findall(r"--[\w-]+", parsers)) - {"--help"}
    told = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", README)) - {"--index-url"}
    assert told == real
