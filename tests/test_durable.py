"""A run that is killed, again and again, ends with the dataset of an undisturbed one."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import KILLS_ITSELF, new_cache

KILLS = 2  # of each of two runs

# A run of the whole chain on models that follow a script: nothing of it takes long but the start of Python.
SCRIPTED = """
import sys
from course_lib.llms import ScriptedLLM
from course_lib.pipeline import Pipeline
from course_lib.steps import FormatTextGenerationDPO, GroupColumns, LoadDataFromDicts, Step
from course_lib.steps.tasks import TextGeneration

class Rate(Step):
    inputs, outputs = ["generations"], ["ratings"]
    def process(self, rows):
        yield [{**row, "ratings": [2.0, 1.0]} for row in rows]

def writer(name):
    reply = lambda chat: f"{name} answers {chat[-1]['content']} at length"
    return TextGeneration(llm=ScriptedLLM(reply, model_name=name, use_cache=True), input_batch_size=2)

with Pipeline() as pipeline:
    group = GroupColumns(columns=["generation", "model_name"], output_columns=["generations", "generation_models"])
    load = LoadDataFromDicts(data=[{"instruction": f"Say {n}"} for n in range(6)])
    load >> [writer("a"), writer("b")] >> group >> Rate() >> FormatTextGenerationDPO()
pipeline.run(progress=False).save_to_disk(sys.argv[1])
"""
# Where a run kills itself: a function, which of its calls, and a mark in what it is called with.
POINTS = [
    ("pickle.dump", 1, ""),  # the first rows
    ("pickle.dump", 7, ""),  # rows of the first writer
    ("pickle.dump", 12, ""),  # rows of the second writer
    ("pickle.dump", 16, ""),  # rated rows
    ("os.rename", 1, ".dataset-saving-"),  # the new dataset is whole, and not yet in its place
]


def start(cache: Path, *program: str) -> subprocess.Popen:
    command = [sys.executable, *program]
    environment = {**os.environ, "COURSE_LIB_CACHE": str(cache)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> None:
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert "damaged" not in error


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def options(tiny_model_folder, tmp_path_factory) -> list[str]:
    """Arguments of a run of the whole chain on two small models of room enough for the prompts of a judge."""
    models = [tmp_path_factory.mktemp("models") / name for name in ("first", "second")]
    for model in models:
        shutil.copytree(tiny_model_folder, model)
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 16_384}))
    return ["--models", *map(str, models), "--judge", "logits", "--limit", "8", "--max-new-tokens", "64"]


def another_cache(tmp_path: Path, name: str = "cache") -> Path:
    (tmp_path / name).mkdir()
    return new_cache(tmp_path / name)


def test_two_runs_on_one_cache_killed_at_any_moment_both_end_with_the_bytes_of_an_undisturbed_one(
    options, tmp_path
):
    def run(cache: Path, folder: str) -> subprocess.Popen:
        return start(cache, "-m", "course_lib", *options, "--out", str(tmp_path / folder))

    started = time.monotonic()
    finish(run(another_cache(tmp_path, "whole"), "undisturbed"))
    seconds, moments = time.monotonic() - started, random.Random(7)
    cache = another_cache(tmp_path)
    for _ in range(KILLS):
        for process in [run(cache, "one"), run(cache, "two")]:
            time.sleep(moments.uniform(seconds / 4, seconds / 2))
            process.kill()
            process.communicate()
    for process in [run(cache, "one"), run(cache, "two")]:
        finish(process)
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "undisturbed")


def test_killed_at_each_point_on_its_way_a_run_ends_with_the_same_bytes(tmp_path):
    whole = tmp_path / "undisturbed" / "dataset"
    finish(start(another_cache(tmp_path, "whole"), "-c", SCRIPTED, str(whole)))
    cache, folder = another_cache(tmp_path), tmp_path / "out" / "dataset"
    for function, count, mark in POINTS:
        process = start(cache, "-c", KILLS_ITSELF + SCRIPTED, function, str(count), mark, str(folder))
        error = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, error
        assert not folder.exists()
    finish(start(cache, "-c", SCRIPTED, str(folder)))
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")
