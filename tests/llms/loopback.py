"""A server on this machine that answers as OpenAI's does, or misbehaves as it is told."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers each request with what `reply(body, number)` gives.

    That is a text; a dict, which is the JSON of the answer; `(status, text)` or `(status, text, headers)`; or None, and
    the connection is cut. `bodies`, `headers` and `times` have what came; `most` is how many requests it had at once.
    """

    daemon_threads = True
    request_queue_size = 200

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.lock = reply, threading.Lock()
        self.bodies, self.headers, self.times, self.paths = [], [], [], []
        self.open = self.most = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        pass  # a client that gave up


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self):
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.times.append(time.monotonic())
            server.paths.append(self.path)
            server.open += 1
            server.most = max(server.most, server.open)
        try:
            answer = server.reply(body, number)
        finally:
            with server.lock:
                server.open -= 1
        if answer is None:
            self.close_connection = True
            return
        if isinstance(answer, str):
            answer = completion(*[answer] * body.get("n", 1))
        status, text, *headers = answer if isinstance(answer, tuple) else (200, json.dumps(answer))
        headers = {"Content-Type": "application/json", **(headers[0] if headers else {})}
        content = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def completion(*texts: str | None, reason: str = "stop", **message) -> dict:
    """The JSON of an answer with `texts`."""
    choices = [
        {"index": i, "finish_reason": reason, "message": {"role": "assistant", "content": text, **message}}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": choices,
        "usage": usage,
    }


def error(status: int, message: str, headers: dict | None = None, **more) -> tuple:
    """An error as OpenAI's server words it."""
    return status, json.dumps({"error": {"message": message, "type": "error", **more}}), headers or {}


@contextmanager
def serving(reply):
    """A `Server` that runs."""
    server = Server(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
