"""How much of a bare aiohttp loop's throughput the LLM calling loop keeps on real servers, in tokens per second.

    python -m tests.bench.llm_servers [--calls 64] [--concurrency 8] [--rounds 3] [--llama-server PATH]

SmolLM2-135M-Instruct behind llama.cpp's `llama-server` (where its binary is given) and behind `transformers serve`. Two
clients in turn within each round, the other one first in every second round; the ratio is taken within the round. Each
prompt has a number of its own, so that no prompt cache knows it, and every answer is cut at the same length.
"""

import argparse
import asyncio
import logging
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import aiohttp
import msgspec

from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.embedded import _gguf_file, serve_embedded
from builders.llm.messages import ChatRequest, Endpoint
from builders.llm.store import CallStore
from tests.bench.llm_calls import on_a_terminal
from tests.builders.asking import ask

logger = logging.getLogger(__name__)

MAX_TOKENS = 32
SLOT_TOKENS = 1024
SYSTEM = "You write long stories."
NUMBERS = count(100_000)  # of the same length, in tokens too


def requests(calls):
    """Never the same twice; a story has no end within so few tokens."""
    return [
        ChatRequest(
            (
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"Number {next(NUMBERS)}: write a very long story about a lighthouse."},
            ),
            max_tokens=MAX_TOKENS,
            temperature=0.0,
            seed=1,
        )
        for _ in range(calls)
    ]


async def bare(config, todo):
    """aiohttp alone: send, read, decode; keeps nothing."""
    waiting, tokens = iter(todo), []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work():
            for request in waiting:
                body = {
                    "model": config.model,
                    "messages": request.messages,
                    "max_tokens": request.max_tokens,
                    "temperature": request.temperature,
                    "seed": request.seed,
                }
                async with session.post(f"{config.base_url}/chat/completions", json=body) as answer:
                    tokens.append((await answer.json())["usage"]["completion_tokens"])

        await asyncio.gather(*(work() for _ in range(config.concurrency)))
    return tokens


def ours(config, todo):
    """All that a build does: keys, store, checks, progress."""
    with tempfile.TemporaryDirectory() as folder, CallStore(Path(folder) / "calls.sqlite") as store:
        answers = ask(Llm(config, store, lambda: Endpoint(config.base_url, config.model)), "bench", todo)
        assert len(answers) == len(store) == len(todo)
    return [answer.completion_tokens for answer in answers]


CLIENTS = {"bare aiohttp loop": lambda *about: asyncio.run(bare(*about)), "foils": ours}


@contextmanager
def transformers_serve():
    """`transformers serve`, as the builds start it."""
    with serve_embedded() as endpoint:
        yield LlmConfig(base_url=endpoint.base_url, model=endpoint.served_model)


@contextmanager
def llama_server(binary, slots, threads):
    """`llama-server` with a slot for every request in flight."""
    model = _gguf_file()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [binary, "-m", model, "-c", SLOT_TOKENS * slots, "-np", slots, "-t", threads, "--port", port]
    with subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            _wait_until_up(server, f"http://127.0.0.1:{port}/health")
            yield LlmConfig(base_url=f"http://127.0.0.1:{port}/v1", model=model.stem)
        finally:
            server.terminate()


def _wait_until_up(server, health):
    for _ in range(200):
        try:
            with urllib.request.urlopen(health, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, "llama-server ended by itself"
            time.sleep(0.3)
    raise TimeoutError(health)


def measure(name, config, calls):
    """Tokens that were generated, seconds, and CPU seconds of this process."""
    todo = requests(calls)
    with on_a_terminal():
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = CLIENTS[name](config, todo)
        return sum(tokens), time.perf_counter() - wall, time.process_time() - cpu


def compared(config, options):
    """Measures both clients on one server; returns a row of the table for each."""
    config = msgspec.structs.replace(config, concurrency=options.concurrency)
    for name in CLIENTS:
        measure(name, config, options.concurrency)  # imports, caches
    rounds = []
    for number in range(options.rounds):
        order = list(CLIENTS) if number % 2 == 0 else list(reversed(CLIENTS))
        rounds.append({name: measure(name, config, options.calls) for name in order})
        logger.info("round %d: %s", number + 1, rounds[-1])
    speeds = [{name: tokens / seconds for name, (tokens, seconds, _) in one.items()} for one in rounds]
    return [
        {
            "client": name,
            "tokens": "/".join(str(one[name][0]) for one in rounds),
            "tokens/s": statistics.median(one[name] for one in speeds),
            "cpu_ms": 1000 * statistics.median(one[name][2] for one in rounds) / options.calls,
            "ratios": [one[name] / one["bare aiohttp loop"] for one in speeds],
        }
        for name in CLIENTS
    ]


def main(options):
    servers = {"transformers serve": transformers_serve()}
    if options.llama_server:
        servers = {"llama.cpp": llama_server(options.llama_server, options.concurrency, options.threads), **servers}
    print(f"{options.calls} calls, {options.concurrency} in flight, medians of {options.rounds} rounds\n")
    print(
        "| server | client | tokens in each round | tokens/s | of the bare loop (each round) | CPU ms a call |\n"
        "|---|---|---|---:|---|---:|"
    )
    for server, served in servers.items():
        with served as config:
            for row in compared(config, options):
                each = ", ".join(f"{ratio:.3f}" for ratio in row["ratios"])
                print(
                    f"| {server} | {row['client']} | {row['tokens']} | {row['tokens/s']:.1f} "
                    f"| {statistics.median(row['ratios']):.3f} ({each}) | {row['cpu_ms']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--llama-server", type=Path, help="the binary; without it only `transformers serve` is measured"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="of llama-server; they spin while others use their cores"
    )
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    main(parser.parse_args())
