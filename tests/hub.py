"""A stand-in for the Hugging Face hub on this machine: one dataset repository, kept in memory."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

REPO = "learner/pairs"


class StandIn(ThreadingHTTPServer):
    """Answers what an upload and a download ask for; `fault` is what is wrong with it."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}  # by sha256: sent before the commit that gives them a name
        self.created: list[dict] = []
        self.unknown: list[str] = []
        self.tokens: set[str | None] = set()
        self.commits = 0
        self.branches: set[str] = set()  # those that were written to
        self.fault = ""  # "gated", "cut", "portal"
        self.asked: list[str] = []  # paths

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
        hub.asked.append(path)
        if REPO in path or path == "/api/repos/create":
            hub.tokens.add(self.headers.get("Authorization"))
        api = f"/api/datasets/{REPO}"
        if hub.fault == "portal":
            self.respond(b"<html>Welcome to our Wi-Fi</html>", 200, {"Content-Type": "text/html"})
        elif hub.fault == "gated" and REPO in path:
            gate = {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to {REPO} is restricted"}
            self.send({"error": "restricted"}, 401, **gate)
        elif path == "/api/repos/create":
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
        elif path.startswith(f"{api}/branch/"):
            self.send({})
        elif path.startswith(f"{api}/commit/"):
            hub.branches.add(path.removeprefix(f"{api}/commit/"))
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
        if self.server.fault == "cut" and self.command == "GET" and len(content) > 100:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:100])
            self.close_connection = True
            return
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
