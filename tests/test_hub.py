"""The Hugging Face hub, by a stand-in on this machine: publish, load, and what can go wrong on the way."""

import json
import os
import subprocess
import sys
import threading

import pyarrow.parquet as pq
import pytest
from hub import REPO, StandIn

CARD = """---
tags:
- preference
language:
- en
---

# Our story
"""
PUSH = """
import json, sys
from datasets import Dataset
from course_lib.distiset import Distiset
pairs = Dataset.from_list([{"prompt": f"p{n}", "chosen": [{"role": "user", "content": "c"}]} for n in range(5)])
distiset = Distiset.of({"default": pairs, "dropped": Dataset.from_list([{"prompt": "q", "drop_reason": "tie"}])})
distiset.card = sys.argv[2]
distiset.push_to_hub(sys.argv[1], private=True, token="hf_secret", **json.loads(sys.argv[3]))
"""
LOAD = """
import json, sys
from course_lib.steps import LoadDataFromHub
from course_lib.steps.load import load_from
arguments = json.loads(sys.argv[1])
step = load_from(**arguments) if "source" in arguments else LoadDataFromHub(**arguments)
print(json.dumps([row for rows, last in step.process() for row in rows]))
"""
INSTRUCTIONS = [{"instruction": f"Name {number} rivers of Asia, please."} for number in range(2, 22)]


@pytest.fixture
def hub():
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def stocked(hub):
    """The stand-in with a dataset of `INSTRUCTIONS`."""
    hub.created, hub.commits = [{}], 1
    lines = "".join(json.dumps(row) + "\n" for row in INSTRUCTIONS)
    hub.files = {"README.md": CARD.encode(), "data.jsonl": lines.encode()}
    return hub


def run(hub, tmp_path, *arguments) -> subprocess.CompletedProcess:
    """Python with `arguments` in a process of its own: the hub's address is read at import."""
    settings = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
    settings |= {"COURSE_LIB_CACHE": str(tmp_path / "cache")}
    settings |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}  # plain HTTP, which the stand-in speaks
    command = [sys.executable, *arguments]
    environment = {**os.environ, **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path)


def push(hub, tmp_path, card=CARD, **arguments):
    done = run(hub, tmp_path, "-c", PUSH, REPO, card, json.dumps(arguments))
    assert done.returncode == 0, f"{done.stderr[-3000:]}\nnot answered: {hub.unknown}"


def load(hub, tmp_path, **arguments) -> list[dict]:
    done = run(hub, tmp_path, "-c", LOAD, json.dumps(arguments))
    assert done.returncode == 0, f"{done.stderr[-3000:]}\nnot answered: {hub.unknown}"
    return json.loads(done.stdout.splitlines()[-1])


def test_push_uploads_the_rows_of_every_dataset_and_the_card(hub, tmp_path):
    push(hub, tmp_path)
    assert hub.created[0]["name"] == "pairs" and hub.created[0]["type"] == "dataset"
    assert hub.created[0].get("private") is True or hub.created[0].get("visibility") == "private"
    assert hub.tokens == {"Bearer hf_secret"}
    tables = {}
    for name, content in hub.files.items():
        if name.endswith(".parquet"):
            (tmp_path / "one.parquet").write_bytes(content)
            tables[name.split("/")[0]] = pq.read_table(tmp_path / "one.parquet").to_pylist()
    assert [row["prompt"] for row in tables["data"]] == [f"p{n}" for n in range(5)]
    assert tables["data"][0]["chosen"] == [{"role": "user", "content": "c"}]
    assert tables["dropped"] == [{"prompt": "q", "drop_reason": "tie"}]
    readme = hub.files["README.md"].decode()
    assert "# Our story" in readme and "config_name: default" in readme and "config_name: dropped" in readme


def test_pushed_card_keeps_its_own_metadata(hub, tmp_path):
    from huggingface_hub import DatasetCard

    push(hub, tmp_path)
    data = DatasetCard(hub.files["README.md"].decode()).data.to_dict()
    assert data["tags"] == ["preference"] and data["language"] == ["en"]
    assert {config["config_name"] for config in data["configs"]} == {"default", "dropped"}


def test_push_again_replaces_the_rows(hub, tmp_path):
    push(hub, tmp_path)
    first = set(hub.files)
    push(hub, tmp_path, card=CARD.replace("story", "other story"))
    assert set(hub.files) == first and "# Our other story" in hub.files["README.md"].decode()


def test_push_writes_to_the_branch_that_is_named(hub, tmp_path):
    push(hub, tmp_path, revision="second-draft")
    assert hub.branches == {"second-draft"} and "# Our story" in hub.files["README.md"].decode()


def test_what_was_pushed_is_loaded_back(hub, tmp_path):
    push(hub, tmp_path)
    pairs = load(hub, tmp_path, repo_id=REPO, token="hf_secret")
    assert [row["prompt"] for row in pairs] == [f"p{n}" for n in range(5)]
    assert pairs[0]["chosen"] == [{"role": "user", "content": "c"}]
    dropped = load(hub, tmp_path, repo_id=REPO, config="dropped", token="hf_secret")
    assert [row["prompt"] for row in dropped] == ["q"]


@pytest.mark.parametrize("name", ["repo_id", "source"])
def test_the_hub_gives_as_many_rows_as_were_asked_for(stocked, tmp_path, name):
    assert load(stocked, tmp_path, **{name: REPO}, num_examples=3) == INSTRUCTIONS[:3]
    assert load(stocked, tmp_path, **{name: REPO}) == INSTRUCTIONS


def test_a_revision_is_asked_for_by_its_name(stocked, tmp_path):
    assert load(stocked, tmp_path, repo_id=REPO, revision="v2") == INSTRUCTIONS
    assert any("/resolve/v2/" in path for path in stocked.asked)


@pytest.mark.parametrize(
    ("fault", "options", "cause"),
    [
        ("gated", [], "gated"),
        ("missing", [], "doesn't exist"),
        ("cut", [], "complete message"),
        ("portal", [], "does not seem to be served by"),
        ("", ["--config", "spoken"], "'spoken' not found"),
        ("", ["--split", "spoken"], 'split "spoken"'),
    ],
)
def test_a_fault_of_the_hub_is_one_line_before_a_model_is_loaded(stocked, tmp_path, fault, options, cause):
    stocked.fault = fault
    stocked.created = [] if fault == "missing" else stocked.created
    done = run(stocked, tmp_path, "-m", "course_lib", "--instructions", REPO, *options)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and line.startswith("error: ") and cause in line, done.stderr
    assert "Traceback" not in done.stderr and ("Check the name" in line)
    assert not (tmp_path / "cache" / "weights").exists(), "a model was looked for"


def test_a_download_that_was_cut_is_whole_the_next_time(stocked, tmp_path):
    stocked.fault = "cut"
    assert run(stocked, tmp_path, "-c", LOAD, json.dumps({"repo_id": REPO})).returncode
    stocked.fault = ""
    assert load(stocked, tmp_path, repo_id=REPO) == INSTRUCTIONS
