"""`Distiset.push_to_hub`, against a stand-in for the Hugging Face hub on this machine."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow.parquet as pq
import pytest

REPO = "learner/pairs"
CARD = """---
tags:
- preference
language:
- en
---

# Our story
"""
# The endpoint is read when huggingface_hub is imported, so the push runs in a process of its own.
PUSH = """
import sys
from datasets import Dataset
from course_lib.distiset import Distiset
pairs = Dataset.from_list([{"prompt": f"p{n}", "chosen": [{"role": "user", "content": "c"}]} for n in range(5)])
distiset = Distiset.of({"default": pairs, "dropped": Dataset.from_list([{"prompt": "q", "drop_reason": "tie"}])})
distiset.card = sys.argv[2]
distiset.push_to_hub(sys.argv[1], private=True, token="hf_secret")
"""


class StandIn(ThreadingHTTPServer):
    """Keeps one dataset repository in memory and answers what an upload asks for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}  # by sha256: sent before the commit that gives them a name
        self.created: list[dict] = []
        self.unknown: list[str] = []
        self.tokens: set[str | None] = set()
        self.commits = 0

    @property
    def sha(self) -> str:
        return f"{self.commits:040x}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def folders(self) -> set[str]:
        return {name.rpartition("/")[0] for name in self.files} - {""}

    def entries(self, paths) -> list[dict]:
        paths = list(paths)
        files = [
            {"type": "file", "path": p, "size": len(self.files[p]), "oid": f"{len(p):040x}"}
            for p in paths
            if p in self.files
        ]
        return files + [
            {"type": "directory", "path": p, "oid": f"{len(p):040x}"} for p in paths if p in self.folders
        ]

    def inside(self, folder: str) -> list[dict]:
        return self.entries(n for n in [*self.files, *self.folders] if n.rpartition("/")[0] == folder)


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(b"")

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.large[hashlib.sha256(content).hexdigest()] = content
        self.send({})

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(body)

    def answer(self, body: bytes):
        hub, path = self.server, unquote(urlsplit(self.path).path)
        if REPO in path or path == "/api/repos/create":
            hub.tokens.add(self.headers.get("Authorization"))
        api = f"/api/datasets/{REPO}"
        if path == "/api/repos/create":
            hub.created.append(json.loads(body))
            self.send({"url": f"{hub.url}/datasets/{REPO}", "name": REPO})
        elif path == "/api/validate-yaml":
            self.send({"errors": [], "warnings": []})
        elif not hub.created:
            self.missing("RepoNotFound")
        elif path == api or path.startswith(f"{api}/revision/"):
            self.send(
                {
                    "id": REPO,
                    "sha": hub.sha,
                    "private": True,
                    "siblings": [{"rfilename": name} for name in hub.files],
                }
            )
        elif path.startswith(f"{api}/preupload/"):
            asked = json.loads(body)["files"]
            modes = {f["path"]: "lfs" if f["path"].endswith(".parquet") else "regular" for f in asked}
            self.send(
                {
                    "files": [
                        {"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()
                    ]
                }
            )
        elif path.endswith(".git/info/lfs/objects/batch"):
            upload = {"upload": {"href": f"{hub.url}/upload"}}
            objects = [{**one, "actions": upload} for one in json.loads(body)["objects"]]
            self.send(
                {"transfer": "basic", "objects": objects}, **{"Content-Type": "application/vnd.git-lfs+json"}
            )
        elif path.startswith(f"{api}/commit/"):
            self.commit(body)
        elif path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            self.send(hub.inside(folder)) if folder in {"", *hub.folders} else self.missing("EntryNotFound")
        elif path.startswith(f"{api}/paths-info/"):
            self.send(hub.entries(parse_qs(body.decode())["paths"]))
        elif path.startswith(f"/datasets/{REPO}/resolve/"):
            name = path.removeprefix(f"/datasets/{REPO}/resolve/").partition("/")[2]
            self.send_file(hub.files[name]) if name in hub.files else self.missing("EntryNotFound")
        else:
            hub.unknown.append(f"{self.command} {path}")
            self.missing("EntryNotFound")

    def commit(self, body: bytes):
        hub = self.server
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                hub.files[line["value"]["path"]] = hub.large[line["value"]["oid"]]
            elif line["key"] == "deletedFile":
                del hub.files[line["value"]["path"]]
        hub.commits += 1
        self.send(
            {
                "commitUrl": f"{hub.url}/datasets/{REPO}/commit/{hub.sha}",
                "commitOid": hub.sha,
                "pullRequestUrl": None,
            }
        )

    def send(self, value, status=200, **headers):
        self.respond(json.dumps(value).encode(), status, {"Content-Type": "application/json", **headers})

    def send_file(self, content: bytes):
        self.respond(content, 200, {"ETag": f'"{hash(content):x}"', "X-Repo-Commit": self.server.sha})

    def missing(self, code: str):
        self.send({"error": code}, 404, **{"X-Error-Code": code, "X-Repo-Commit": self.server.sha})

    def respond(self, content: bytes, status: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub():
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def push(hub, tmp_path, card=CARD):
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
        "NO_PROXY": "127.0.0.1",
    }
    settings["HF_HUB_DISABLE_XET"] = "1"  # plain HTTP, which the stand-in speaks
    command = [sys.executable, "-c", PUSH, REPO, card]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\nnot answered: {hub.unknown}"


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
