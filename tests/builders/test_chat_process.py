"""The LLM client in a real process: Ctrl-C, kill -9, the environment, and what it shows meanwhile."""

import os
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest

from builders.llm.store import CallStore
from tests.chat_server import last_user_message
from tests.fixtures import commands

ASK = """
import sys
from pathlib import Path
from foils.errors import run_entry
from tests.builders.asking import ask_server, question

url, store_file, count, concurrency = sys.argv[1:]

def entry():
    requests = [question(f"q{n}") for n in range(int(count))]
    print(len(ask_server(url, Path(store_file), requests, concurrency=int(concurrency), timeout_s=20.0)))

sys.exit(run_entry(entry))
"""


@pytest.fixture
def process(chat_server, tmp_path):
    """Starts a real process that asks `count` questions."""
    started = []

    def start(count, concurrency, **environment):
        command = [sys.executable, "-c", ASK, chat_server.url, str(tmp_path / "calls.sqlite")]
        started.append(
            commands.Popen(
                [*command, str(count), str(concurrency)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **environment},
            )
        )
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def until(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def asked(chat_server):
    return [last_user_message(body) for body in chat_server.bodies]


def test_neither_offline_mode_nor_a_proxy_is_between_us_and_this_machine(process, chat_server):
    nowhere = "http://127.0.0.1:9"
    settings = dict.fromkeys(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"], nowhere)
    asking = process(3, 2, HF_HUB_OFFLINE="1", no_proxy="", NO_PROXY="", **settings)
    out, errors = asking.communicate(timeout=60)
    assert (out, asking.returncode) == ("3\n", 0), errors
    assert len(chat_server.bodies) == 3


def test_ctrl_c_once_waits_for_what_is_in_flight(process, chat_server, tmp_path):
    go_on = threading.Event()
    chat_server.script = lambda _, number: "early" if number < 10 else (go_on.wait(20) and "in flight") or "late"
    asking = process(100, 4)
    until(lambda: chat_server.in_flight == 4 and len(chat_server.bodies) == 14, asking)
    asking.send_signal(signal.SIGINT)
    assert "waiting for 4 requests in flight; Ctrl-C again stops at once" in asking.stderr.readline()
    go_on.set()
    _, errors = asking.communicate(timeout=30)
    assert asking.returncode == 130
    assert "14 of 100 rows are done, 86 left; 14 new answers are stored" in errors
    assert errors.strip().endswith("run the same command again to go on")
    assert len(chat_server.bodies) == 14  # nothing new was sent
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert len(store) == 14
    chat_server.script = lambda *_: "later"
    assert process(100, 4).communicate(timeout=60)[0] == "100\n"
    assert sorted(asked(chat_server)) == sorted(f"q{n}" for n in range(100))


def test_ctrl_c_twice_stops_at_once_and_keeps_what_was_answered(process, chat_server, tmp_path):
    over = threading.Event()
    chat_server.script = lambda _, number: "early" if number < 10 else (over.wait(20) and "never read") or ""
    asking = process(100, 4)
    until(lambda: chat_server.in_flight == 4 and len(chat_server.bodies) == 14, asking)
    asking.send_signal(signal.SIGINT)
    asking.stderr.readline()
    asking.send_signal(signal.SIGINT)
    _, errors = asking.communicate(timeout=10)  # the server has answered none of the four
    over.set()
    assert asking.returncode == 130
    assert "10 of 100 rows are done, 90 left; 10 new answers are stored" in errors
    assert "Traceback" not in errors
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert len(store) == 10


def test_kill_9_repeats_no_stored_call(process, chat_server, tmp_path):
    chat_server.script = lambda *_: time.sleep(0.01) or "text"
    for moment in (20, 70, 150):
        asking = process(300, 8)
        until(lambda at=moment: len(chat_server.bodies) >= at, asking)
        asking.send_signal(signal.SIGKILL)
        asking.wait()
        chat_server.settle()
        with CallStore(tmp_path / "calls.sqlite") as store:
            # In flight or in the few milliseconds' batch; nothing that came earlier.
            assert len(set(asked(chat_server))) - len(store) <= 8 + 64
            stored, before = len(store), len(chat_server.bodies)
    assert process(300, 8).communicate(timeout=60)[0] == "300\n"
    assert len(chat_server.bodies) - before == 300 - stored


def test_without_a_terminal_there_is_no_bar(process):
    asking = process(20, 4)
    _, errors = asking.communicate(timeout=60)
    assert errors == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_on_a_terminal_there_is_one_line(chat_server, tmp_path):
    chat_server.script = lambda *_: time.sleep(0.1) or "text"
    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 120))
    command = [sys.executable, "-c", ASK, chat_server.url, str(tmp_path / "calls.sqlite"), "30", "4"]
    with commands.Popen(command, stdout=subprocess.PIPE, stderr=writer, text=True) as asking:
        os.close(writer)
        shown = b""
        try:
            while part := os.read(reader, 4096):
                shown += part
        except OSError:
            pass  # Linux's way to say that the other end is closed
        assert asking.wait(timeout=60) == 0
    os.close(reader)
    last = shown.decode().strip().split("\r")[-1]
    assert last.startswith("test: 100%")
    assert "30/30" in last
    assert "tokens/s" in last
    assert any("4 in flight" in line for line in shown.decode().split("\r"))
    assert shown.count(b"\n") == 1
