"""Does the memory of the LLM stage grow with its rows? Peak memory of writing queries for 10,000 and 100,000 passages.

    python -m tests.bench.llm_memory [--rows 10000,100000] [--concurrency 256]

Each size has a process of its own, with passages made as they are needed (in a build, the corpus is there already) and
a stub server beside it. Also measured: how long a store with as many calls takes to open.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from builders import schema
from builders.context import Context
from builders.llm.client import Llm
from builders.llm.config import LlmConfig
from builders.llm.messages import Endpoint
from builders.llm.store import CallStore
from builders.queries.config import QueriesConfig
from builders.queries.written import write
from tests.bench.llm_calls import stub
from tests.bench.memory import peak_mb

TEXT = "Books go back to the shelf that their card in the catalogue names. " + "More words. " * 60


def passages(rows):
    """Passages in batches, as a corpus would hand them on."""
    for start in range(0, rows, 1000):
        batch = [{"_id": f"p{n}", "title": f"Book {n}", "text": TEXT} for n in range(start, min(start + 1000, rows))]
        yield pa.RecordBatch.from_pylist(batch, schema.CORPUS)


def measured(rows, url, concurrency, store_file):
    """Writes queries for `rows` passages in this process; what it took."""
    config = LlmConfig(base_url=url, model="stub", concurrency=concurrency)
    warm_up(config, store_file.with_name("warm-up.sqlite"))
    before = peak_mb()
    started = time.perf_counter()
    with CallStore(store_file) as store:
        llm = Llm(config, store, lambda: Endpoint(url, "stub"))
        material = Context(schema.CORPUS.empty_table(), "en", 42, llm.run)
        written = write(pa.Table.from_batches(passages(rows)), QueriesConfig(), material)
    seconds = time.perf_counter() - started
    assert written.table.num_rows == rows, written.drops.to_pylist()[:3]
    opened = time.perf_counter()
    with CallStore(store_file) as store:
        store.get_many(["nothing"])
    opened = time.perf_counter() - opened
    return {"rows": rows, "before": before, "peak": peak_mb(), "calls/s": rows / seconds, "open_s": opened}


def warm_up(config, store_file):
    """Imports, pools and caches are no rows."""
    with CallStore(store_file) as store:
        llm = Llm(config, store, lambda: Endpoint(config.base_url, "stub"))
        material = Context(schema.CORPUS.empty_table(), "en", 43, llm.run)
        write(pa.Table.from_batches(passages(1000)), QueriesConfig(), material)


def main(options):
    """Measures each size in a process of its own."""
    results = []
    with stub(0.005) as url, tempfile.TemporaryDirectory() as folder:
        for rows in options.rows:
            command = [sys.executable, "-m", "tests.bench.llm_memory", "--one", str(rows), url, folder]
            command += ["--concurrency", str(options.concurrency)]
            results.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    print("| rows | peak MB | above its start | calls/s | store opens in |\n|---:|---:|---:|---:|---:|")
    for one in results:
        print(
            f"| {one['rows']:,} | {one['peak']:.0f} | {one['peak'] - one['before']:.0f} | {one['calls/s']:,.0f} "
            f"| {one['open_s']:.2f} s |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")], default=[10_000, 100_000])
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--one", nargs=3, metavar=("ROWS", "URL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        rows, url, folder = options.one
        store_file = Path(folder) / f"calls-{rows}.sqlite"
        print(json.dumps(measured(int(rows), url, options.concurrency, store_file)))
    else:
        main(options)
