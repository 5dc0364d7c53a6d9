"""What the tests of the call store share: calls, stores, damage, and other processes."""

import random
import subprocess
import sys
import textwrap

from builders.llm.store import CallStore, keyed
from tests.fixtures import ROOT, commands

PAGE = 4096


def a_call(number, words=60):
    text = " ".join(f"w{number * 7919 % 1000 + n}" for n in range(words))
    request = {"model": "m", "revision": None, "messages": [{"role": "user", "content": text}], "seed": number}
    answer = {"text": f"é {number} {text}", "finish_reason": "stop", "prompt_tokens": 5, "completion_tokens": 3}
    return call_key(request), request, answer | {"seconds": 0.5}


def call_key(request):
    return keyed(request)[0]


def put(store, *rows):
    store.put_many([(key, keyed(request)[1], answer) for key, request, answer in rows])


def get(store, key):
    return store.found(key, "{}")


def get_many(store, keys):
    return {key: answer for key in keys if (answer := get(store, key)) is not None}


def answers_of(rows):
    return {key: answer for key, _, answer in rows}


def filled(path, rows):
    with CallStore(path) as store:
        put(store, *rows)
    return path


def python(code, *arguments, **options):
    return commands.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def calls_command(*arguments):
    """Runs `python -m builders.calls`."""
    command = [sys.executable, "-m", "builders.calls", *map(str, arguments)]
    return commands.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def overwrite(path, at, content):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def damaged_store(path, count=400, words=60):
    """A closed store of some 60 pages, whole in one file."""
    rows = [a_call(n, words) for n in range(count)]
    filled(path, rows)
    with CallStore(path) as store:
        store.note_failure(rows[0][0], "answered 503")
    assert not path.with_name(path.name + "-wal").exists()
    return rows


def noise(length):
    return random.Random(length).randbytes(length)
