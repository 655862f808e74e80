"""Pairs labelled in the real Label Studio on this machine: `python tests/labelling_server.py PROGRAM FOLDER`.

`PROGRAM` is the command `label-studio` of an environment that has the package. The exports in tests/data were made so.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from course_lib.labels import to_label_studio

A, B = (
    {"from_name": "better", "to_name": "A", "type": "pairwise", "value": {"selected": side}}
    for side in ("left", "right")
)
CHOICE = {"choices": ["no difference"]}
EQUAL = {"from_name": "equal", "to_name": "instruction", "type": "choices", "value": CHOICE}
SKIPPED = "skipped"
# What each annotation says, pair by pair.
ANNOTATIONS = {
    "agreed": [[A], [A]],
    "split": [[B], [A]],
    "equal": [[EQUAL]],
    "better and equal": [[A, EQUAL]],
    "majority": [[B], [A], [B]],
    "skipped": [SKIPPED],
    "empty": [[]],
    "not yet seen": [],
}
TEXTS = {
    "instruction": "「彗星」とは? <b>$A</b>",
    "A": "https://example.org/a.txt",
    "B": 'ice & "dust"\n\n$B',
}
PAIRS = [{"id": name, **TEXTS} for name in ANNOTATIONS]
USER = {"email": "people@example.org", "password": "loopback-only"}
QUIET = {"COLLECT_ANALYTICS": "0", "LATEST_VERSION_CHECK": "0", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}


def export(program: str, folder: Path) -> None:
    """Import `PAIRS`, annotate them and write the exports `JSON.json` and `JSON_MIN.json` to `folder`."""
    with tempfile.TemporaryDirectory() as home, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        named = ["--username", USER["email"], "--password", USER["password"]]
        command = [program, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
        environment = {**os.environ, **QUIET, "LABEL_STUDIO_BASE_DATA_DIR": home}
        with open(Path(home) / "log", "w") as log:
            server = subprocess.Popen([*command, *named], env=environment, stdout=log, stderr=log)
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=60
            ) as client:
                _log_in(client, server)
                _label(client, Path(home) / "tasks.json", folder)
        finally:
            server.terminate()
            server.wait()


def _log_in(client: httpx.Client, server: subprocess.Popen) -> None:
    end = time.monotonic() + 600  # the first start makes the whole database
    while True:
        try:
            page = client.get("/user/login/").raise_for_status()
            break
        except httpx.HTTPError:
            assert server.poll() is None and time.monotonic() < end, "label-studio does not answer"
            time.sleep(1)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
    client.headers["Referer"] = str(client.base_url)
    client.post("/user/login/", data={"csrfmiddlewaretoken": token, **USER}).raise_for_status()
    client.headers["X-CSRFToken"] = client.cookies["csrftoken"]


def _label(client: httpx.Client, path: Path, folder: Path) -> None:
    to_label_studio(PAIRS, path)
    interface = path.with_suffix(".xml").read_text(encoding="utf-8")
    project = _sent(client, "/api/projects", json={"title": "Pairs", "label_config": interface})["id"]
    file = ("tasks.json", path.read_bytes(), "application/json")
    imported = _sent(client, f"/api/projects/{project}/import?return_task_ids=true", files={"file": file})
    for task, annotations in zip(imported["task_ids"], ANNOTATIONS.values(), strict=True):
        for result in annotations:
            annotation = {"result": [], "was_cancelled": True} if result == SKIPPED else {"result": result}
            _sent(client, f"/api/tasks/{task}/annotations/", json=annotation)
    for kind in ("JSON", "JSON_MIN"):
        answer = client.get(f"/api/projects/{project}/export", params={"exportType": kind}).raise_for_status()
        (folder / f"{kind}.json").write_bytes(answer.content)


def _sent(client: httpx.Client, address: str, **content):
    return client.post(address, **content).raise_for_status().json()


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]))
