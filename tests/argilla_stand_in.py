"""A stand-in for Argilla's server on this machine, in memory; what it is sent must fit the models of Argilla's own client.

Its addresses, answers and refusals are those that argilla-server 2.8.0 gave to the same requests.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from argilla._models import (
    DatasetModel,
    FieldModel,
    QuestionModel,
    RecordModel,
    SuggestionModel,
    UserModel,
    UserResponseModel,
    WorkspaceModel,
)

KEY = "argilla.apikey"
PARTS = {
    "fields": FieldModel,
    "questions": QuestionModel,
    "vectors-settings": None,
    "metadata-properties": None,
}


class StandIn(ThreadingHTTPServer):
    """One workspace, one owner; `fault` is what is wrong with it: "portal", "forbidden"."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.users = [self.kept(UserModel, {"username": "argilla", "role": "owner"})]
        self.workspaces = [self.kept(WorkspaceModel, {"name": "argilla"})]
        self.datasets: dict[str, dict] = {}
        self.parts: dict[tuple[str, str], list[dict]] = {}
        self.records: dict[str, dict[str, dict]] = {}  # by dataset and external id
        self.asked: list[str] = []
        self.fault = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @staticmethod
    def kept(model, body: dict) -> dict:
        """What came, checked and filled up by `model`, with an id."""
        times = dict.fromkeys(("inserted_at", "updated_at"), "2026-01-01T00:00:00")
        return {**model(**body).model_dump(mode="json"), "id": str(uuid4()), **times}

    def questions(self, dataset: str) -> dict[str, dict]:
        return {question["name"]: question for question in self.parts.get((dataset, "questions"), [])}

    def upserted(self, dataset: str, items: list[dict]) -> list[dict]:
        names = [item["external_id"] for item in items]
        if len(set(names)) < len(names):
            raise Refused("found duplicate external_id")
        return [self.upsert(dataset, item) for item in items]

    def upsert(self, dataset: str, item: dict) -> dict:
        checked = RecordModel(**{**item, "vectors": []})  # the client sends them in another form
        fields = {field["name"] for field in self.parts[dataset, "fields"]}
        if checked.fields and (set(checked.fields) != fields or not all(map(str, checked.fields.values()))):
            raise Refused(f"fields of {sorted(checked.fields)}, not {sorted(fields)}")
        before = self.records.setdefault(dataset, {}).get(checked.external_id)
        record = before or {"id": str(uuid4()), "responses": [], "suggestions": [], "status": "pending"}
        record |= {"external_id": checked.external_id, "metadata": item.get("metadata") or {}}
        record |= {"fields": checked.fields} if checked.fields else {}
        if checked.suggestions:
            record["suggestions"] = [self.suggestion(dataset, one) for one in checked.suggestions]
        for answer in checked.responses:
            record["responses"] = [a for a in record["responses"] if a["user_id"] != str(answer.user_id)]
            record["responses"].append(self.answer(dataset, answer))
        self.records[dataset][checked.external_id] = record
        return record

    def suggestion(self, dataset: str, suggestion: SuggestionModel) -> dict:
        question = self.questions(dataset)[suggestion.question_name]
        self.check_answer(question, suggestion.value)
        return {"question_id": question["id"], "value": suggestion.value, "id": str(uuid4())}

    def answer(self, dataset: str, answer: UserResponseModel) -> dict:
        for name, question in self.questions(dataset).items():
            if name in answer.values:
                self.check_answer(question, answer.values[name]["value"])
            elif question["required"] and answer.status == "submitted":
                raise Refused(f"missing response value for required question {name!r}")
        if str(answer.user_id) not in {user["id"] for user in self.users}:
            raise Refused(f"user with id {answer.user_id} not found")
        return answer.model_dump(mode="json") | {"id": str(uuid4())}

    @staticmethod
    def check_answer(question: dict, value) -> None:
        settings = question["settings"]
        options = [option["value"] for option in settings.get("options", [])]
        if value not in options if options else not isinstance(value, str):
            raise Refused(f"{value!r} is not a valid value for question {question['name']!r}")


class Refused(Exception):
    """What the server answers with 422."""


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        path = urlsplit(self.path).path.removeprefix("/api/v1")
        self.server.asked.append(f"{self.command} {path}")
        if self.server.fault == "portal":
            self.respond(200, b"<html>Welcome to our Wi-Fi</html>", "text/html")
        elif self.headers["X-Argilla-Api-Key"] != KEY:
            self.send(401, {"detail": "Could not validate credentials"})
        elif self.server.fault == "forbidden" and self.command != "GET":
            self.send(403, {"detail": "Operation not allowed"})
        else:
            try:
                self.send(*self.routed(path, body))
            except (Refused, ValueError, KeyError) as error:
                self.send(422, {"detail": repr(error)})

    do_GET = do_POST = do_PUT = do_PATCH = answer

    def routed(self, path: str, body) -> tuple[int, object]:
        home = self.server
        lists = {"/me/workspaces": home.workspaces, "/me/datasets": list(home.datasets.values())}
        if path == "/me":
            return 200, home.users[0]
        if path in lists:
            return 200, {"items": lists[path]}
        if path == "/users":
            home.users += [home.kept(UserModel, body)] if body else []
            return 201, home.users[-1]
        if path == "/datasets":
            dataset = home.kept(DatasetModel, body)
            home.datasets[dataset["id"]] = dataset
            return 201, dataset
        if workspace := re.fullmatch("/workspaces/([^/]+)", path):
            return 200, next(one for one in home.workspaces if one["id"] == workspace[1])
        dataset, rest = re.fullmatch("(?:/me)?/datasets/([^/]+)/?(.*)", path).groups()
        return self.of_dataset(dataset, rest, body)

    def of_dataset(self, dataset: str, rest: str, body) -> tuple[int, object]:
        home = self.server
        if rest == "records/bulk":
            if home.datasets[dataset]["status"] != "ready":
                raise Refused("records cannot be created for a non published dataset")
            return 200, {"items": home.upserted(dataset, body["items"]), "updated_item_ids": []}
        if rest == "records":
            asked = parse_qs(urlsplit(self.path).query)
            first, most = int(asked["offset"][0]), int(asked["limit"][0])
            return 200, {"items": list(home.records.get(dataset, {}).values())[first : first + most]}
        if rest in PARTS:
            kept = home.parts.setdefault((dataset, rest), [])
            if self.command == "GET":
                return 200, {"items": kept}
            kept.append(home.kept(PARTS[rest], body))
            return 201, kept[-1]
        if rest == "publish":
            home.datasets[dataset]["status"] = "ready"
        elif self.command == "PATCH":
            DatasetModel(**body)
            home.datasets[dataset] |= body
        return 200, home.datasets[dataset]

    def send(self, status: int, value) -> None:
        self.respond(status, json.dumps(value).encode(), "application/json")

    def respond(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
