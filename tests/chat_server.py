"""A chat-completions server on loopback whose answers a test scripts; it records what it was asked."""

import json
import os
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_COUNTING = threading.Lock()
NEGATIVES_SYSTEM = "A hard negative is"


class ChatServer:
    """`script(body, number)` returns a text, or `(status, headers, raw body)`; `number` counts requests from 0.

    It answers under the name of the model that it was asked for, or under `model`.

    For what is not a proper answer, it returns a function that gets the request's handler. `in_flight` counts the
    requests that have come and are not answered yet. `pages` holds what GET finds: a status and a JSON value for each
    path; `gets` records path and headers.
    """

    def __init__(self, port=0):
        self.port = port
        self.script = lambda *_: "an answer"
        self.model = None
        self.bodies = []
        self.headers = []
        self.paths = []
        self.pages = {}
        self.gets = []
        self.in_flight = 0
        self._lock = threading.Lock()
        self._closed = False

    @property
    def root(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"{self.root}/v1"

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                if outer._closed:  # a connection from before; its thread has outlived the server
                    self.close_connection = True
                    return
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                    outer.in_flight += 1
                try:
                    answer = outer.script(body, number)
                finally:
                    with outer._lock:
                        outer.in_flight -= 1
                if callable(answer):
                    answer(self)
                    return
                if isinstance(answer, str):
                    answer = (
                        200,
                        {"Content-Type": "application/json"},
                        json.dumps(completion(answer, model=outer.model or body.get("model", "scripted"))),
                    )
                self._reply(*answer)

            def do_GET(self):
                with outer._lock:
                    outer.gets.append((self.path, dict(self.headers)))
                status, value = outer.pages.get(self.path.partition("?")[0], (404, {"error": "not found"}))
                self._reply(status, {"Content-Type": "application/json"}, json.dumps(value))

            def _reply(self, status, headers, text):
                data = text.encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()  # so that it ends soon
        return self

    def settle(self):
        """Waits until the connections of a client that was killed have ended: all that it sent is recorded then."""
        until = time.monotonic() + 10
        time.sleep(0.05)  # the last connection is accepted
        while self._server.connections and time.monotonic() < until:
            time.sleep(0.01)

    def __exit__(self, *_):
        self._closed = True
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # a hundred connections at once are not the client's fault
    connections = 0

    def process_request(self, request, client_address):
        with _COUNTING:
            self.connections += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            with _COUNTING:
                self.connections -= 1

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # clients that are killed or give up are the tests' point
            super().handle_error(request, client_address)


def reset_mid_body(handler):
    """Half of an answer, then the connection breaks with a reset."""
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    time.sleep(0.05)  # the half is read before the reset overtakes it
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())
    handler.close_connection = True


def completion(text, finish_reason="stop", model="scripted"):
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "system_fingerprint": "",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def last_user_message(body):
    return body["messages"][-1]["content"]


def about_animals(body, _):
    """A query about the passage's first words, one for an exam, or a negative that shows which query it is for."""
    text = last_user_message(body)
    if body["messages"][0]["content"].startswith(NEGATIVES_SYSTEM):
        return f"Written for: {text.removeprefix('Query: ')} It speaks of neighbouring matters and answers nothing."
    if text.startswith("Document: "):  # an exam's prompt; its queries may not have their passage's words
        return f"which living thing is known by the name {text.split()[1].lower()}"
    title, words = re.match(r"Passage: .*?(\w+)\. (.*)", text).groups()
    return f"what about the animal {title.lower()} and {' '.join(words.split()[1:3])}?"
