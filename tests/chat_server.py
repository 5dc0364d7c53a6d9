"""A chat-completions server on loopback whose answers a test scripts; it records what it was asked."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NEGATIVES_SYSTEM = "A hard negative is"


class ChatServer:
    """`script(body, number)` returns a text, or `(status, headers, raw body)`; `number` counts requests from 0."""

    def __init__(self):
        self.script = lambda *_: "an answer"
        self.bodies = []
        self.headers = []
        self._lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                answer = outer.script(body, number)
                if isinstance(answer, str):
                    answer = (200, {"Content-Type": "application/json"}, json.dumps(completion(answer)))
                status, headers, text = answer
                data = text.encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def completion(text, finish_reason="stop"):
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "system_fingerprint": "",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def last_user_message(body):
    return body["messages"][-1]["content"]


def about_animals(body, _):
    """A query about the passage's first words, or a negative that shows which query it was asked for."""
    text = last_user_message(body)
    if body["messages"][0]["content"].startswith(NEGATIVES_SYSTEM):
        return f"Written for: {text.removeprefix('Query: ')} It speaks of neighbouring matters and answers nothing."
    title, words = re.match(r"Passage: (\w+)\. (.*)", text).groups()
    return f"what about the animal {title.lower()} and {' '.join(words.split()[1:3])}?"
