"""How much of a bare aiohttp loop's speed the query stage keeps, with its prompts, store, checks and progress on.

    python -m tests.bench.llm_calls [--calls 2000] [--latency 0.05] [--concurrency 64,256] [--rounds 3]

One stub server (a process of its own), three clients in turn, several rounds. The ratio is taken within each round,
so that other load on the machine affects all three.
"""

import argparse
import asyncio
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import contextmanager, redirect_stderr, suppress
from itertools import count
from pathlib import Path

import aiohttp
import pyarrow as pa
from aiohttp import web
from huggingface_hub import AsyncInferenceClient

from builders import schema
from builders.context import Context
from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.messages import Endpoint
from builders.llm.store import CallStore
from builders.queries.config import QueriesConfig
from builders.queries.written import query_tasks, write
from tests.chat_server import completion

NUMBERS = count(10**8)


async def serve(latency):
    """Answers each request with another query after a fixed time; prints its port and ends with standard input."""

    async def answer(request):
        await request.read()
        await asyncio.sleep(latency)
        text = f"which of the two shelves has book {next(NUMBERS)} of the catalogue to go back to, and when?"
        return web.json_response(completion(text, model="stub"))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


@contextmanager
def stub(latency):
    """The stub server's address."""
    command = [sys.executable, "-m", "tests.bench.llm_calls", "--serve", "--latency", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.stdin.close()


def passages(calls):
    """Passages that never recur, as in a real build."""
    text = "Books go back to the shelf that their card in the catalogue names. " + "More words. " * 40
    rows = [{"_id": f"p{n}", "title": f"Book {n}", "text": text} for n in (next(NUMBERS) for _ in range(calls))]
    return pa.Table.from_pylist(rows, schema.CORPUS)


def stage(llm):
    """What the query stage needs besides passages; only its seed, language and LLM are used."""
    return Context(schema.CORPUS.empty_table(), "en", 42, llm.run)


def requests(table):
    """What the stage will ask first for each passage; the other clients get this ready-made."""
    made = query_tasks(table.to_batches(), QueriesConfig(), stage(Llm(LlmConfig(), None, list)))
    return [task.request(0) for task in made]


def body_of(request):
    """The arguments of a chat completion."""
    same = {name: getattr(request, name) for name in ("max_tokens", "temperature", "seed")}
    return {"model": "stub", "messages": list(request.messages), "stop": list(request.stop), **same}


async def _workers(todo, concurrency, call):
    waiting = iter(todo)

    async def work():
        for request in waiting:
            assert await call(request)

    await asyncio.gather(*(work() for _ in range(concurrency)))


async def bare(url, todo, concurrency):
    """aiohttp alone: send, read, decode; keeps nothing."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(request):
            async with session.post(f"{url}/chat/completions", json=body_of(request)) as answer:
                return (await answer.json())["choices"][0]["message"]["content"]

        await _workers(todo, concurrency, call)


async def as_it_comes(url, todo, concurrency):
    """AsyncInferenceClient with the transport that it brings; keeps nothing."""
    async with AsyncInferenceClient(base_url=url, api_key="none-needed", timeout=120) as client:

        async def call(request):
            answer = await client.chat_completion(**body_of(request))
            return answer.choices[0].message.content

        await _workers(todo, concurrency, call)


def ours(url, table, concurrency):
    """All that a build does: prompts, keys, store, checks, duplicates, progress."""
    config = LlmConfig(base_url=url, model="stub", concurrency=concurrency)
    with tempfile.TemporaryDirectory() as folder, CallStore(Path(folder) / "calls.sqlite") as store:
        llm = Llm(config, store, lambda: Endpoint(url, "stub"))
        written = write(table, QueriesConfig(), stage(llm))
        assert written.table.num_rows == len(store) == table.num_rows


CLIENTS = {
    "bare aiohttp loop": lambda *about: asyncio.run(bare(*about)),
    "AsyncInferenceClient": lambda *about: asyncio.run(as_it_comes(*about)),
    "foils": ours,
}


@contextmanager
def on_a_terminal():
    """Gives standard error a terminal, so that the progress bar is drawn as in real use."""
    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 120))
    threading.Thread(target=_drain, args=(reader,), daemon=True).start()
    with os.fdopen(writer, "w") as terminal, redirect_stderr(terminal):
        yield


def _drain(reader):
    with suppress(OSError):  # Linux's way to say that the other end is closed
        while os.read(reader, 65536):
            pass
    os.close(reader)


def measure(name, url, calls, concurrency):
    """Calls per second, and CPU milliseconds per call of this process."""
    table = passages(calls)
    todo = table if name == "foils" else requests(table)
    with on_a_terminal():
        wall, cpu = time.perf_counter(), time.process_time()
        CLIENTS[name](url, todo, concurrency)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return calls / wall, 1000 * cpu / calls


def main(options):
    print(f"{options.calls} calls, {options.latency * 1000:g} ms latency, medians of {options.rounds} rounds\n")
    print("| in flight | client | calls/s | of the bare loop | CPU ms a call |\n|---:|---|---:|---:|---:|")
    with stub(options.latency) as url:
        for name in CLIENTS:
            measure(name, url, 100, 10)  # imports, caches
        for concurrency in options.concurrency:
            rounds = [
                {name: measure(name, url, options.calls, concurrency) for name in CLIENTS}
                for _ in range(options.rounds)
            ]
            for name in CLIENTS:
                rate, cpu = (statistics.median(one[name][at] for one in rounds) for at in (0, 1))
                ratio = statistics.median(one[name][0] / one["bare aiohttp loop"][0] for one in rounds)
                print(f"| {concurrency} | {name} | {rate:,.0f} | {ratio:.2f} | {cpu:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds until the stub answers")
    parser.add_argument("--concurrency", type=lambda text: [int(n) for n in text.split(",")], default=[64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.serve:
        asyncio.run(serve(options.latency))
    else:
        main(options)
