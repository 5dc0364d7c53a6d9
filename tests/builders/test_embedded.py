"""The embedded LLM: a real server, real answers, and no process left behind by kill -9."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest

from builders.llm import embedded
from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.messages import ChatRequest
from builders.llm.store import CallStore
from builders.prompts import load_prompt
from foils.errors import UserError
from tests.builders.asking import ask


def test_it_answers_in_one_line(tmp_path):
    messages = load_prompt("question-v1").messages("bisect. Locate the insertion point for x in a sorted list.")
    request = ChatRequest(messages, max_tokens=30, temperature=0.2, seed=1, stop=("\n",))
    with embedded.serve_embedded() as endpoint, CallStore(tmp_path / "c.sqlite") as store:
        (answer,) = ask(Llm(LlmConfig(), store, lambda: endpoint), "test", [request])
    assert len(answer.text.split()) > 3
    assert answer.prompt_tokens > 50
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(endpoint.base_url.replace("/v1", "/health"), timeout=2)


def test_kill_9_of_the_parent_ends_the_server():
    script = (
        "import time\nfrom builders.llm.embedded import serve_embedded\n"
        "with serve_embedded() as endpoint:\n    print('up', flush=True)\n    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "up\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_a_changed_model_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("FOILS_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "GGUF_SHA256", "0" * 64)
    with pytest.raises(UserError, match="is not the known file; reinstall"):
        embedded.language_model_folder()
