"""Selection of a million candidates: seconds and peak memory, with all rules at work, and again from a folder.

    python -m tests.bench.selection [--queries 20000] [--depth 50] [--passages 200000] [--rounds 3]

Candidates of `bm25` are passages drawn by lot with made scores of a cross-encoder, the positive among them where it
falls. Rules: margin below the positive's score, near-duplicates, a cap on uses; a `random` kind and a mix
beside it. Each round has a process of its own; the corpus lies memory-mapped on disk, as in a build.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa

from builders import schema
from builders.passages import Passages
from builders.selection import select
from builders.selection.config import SelectionConfig, Wanted
from builders.selection.frame import Inputs
from builders.selection.stored import own_positives
from builders.spool import spooled
from tests.bench.made_corpus import made_passages, made_queries
from tests.bench.memory import peak_mb

RULES = SelectionConfig(relative_margin={"cross-encoder": 0.05}, max_uses=20, rank_max=40)


def candidates(queries, passages, depth, seed):
    """`schema.CANDIDATES` with passages drawn by lot."""
    draw = np.random.default_rng(seed)
    places = draw.integers(0, len(passages), (queries.num_rows, depth))
    ids = passages.ids_at(places.ravel())
    of = queries["_id"].combine_chunks().take(pa.array(np.repeat(np.arange(queries.num_rows), depth)))
    rank = pa.array(np.tile(np.arange(1, depth + 1), queries.num_rows), pa.int32())
    return pa.table([of, ids, rank, pa.array(draw.random(len(of)))], schema=schema.CANDIDATES)


def measured(options):
    """One round in this process."""
    passages = Passages(spooled(schema.CORPUS, made_passages(options.passages)))
    queries = made_queries(passages.table, options.queries)
    kinds = {"bm25": options.depth, "random": max(options.depth // 5, 2)}
    tables = {kind: candidates(queries, passages, depth, depth) for kind, depth in kinds.items()}
    pairs = pa.concat_tables([t.select(["query-id", "corpus-id"]) for t in (own_positives(queries), tables["bm25"])])
    scores = np.random.default_rng(1).normal(0, 2, pairs.num_rows)
    scored = pa.table([pairs["query-id"], pairs["corpus-id"], pa.array(scores)], schema=schema.SCORES)
    given = Inputs(queries, own_positives(queries), tables, {"cross-encoder": scored}, passages, len(passages))
    rules = SelectionConfig(
        **{name: getattr(RULES, name) for name in ("relative_margin", "max_uses", "rank_max")},
        kinds={"random": {"relative_margin": {}, "rank_max": None}},
    )
    small = given._replace(queries=queries.slice(0, 10))
    select(small, Wanted(("bm25", "random"), 2, 42, rules))  # kernels are compiled once per machine
    before, started = peak_mb(), time.perf_counter()
    selection = select(given, Wanted(("bm25", "random", "bm25+random"), 2, 42, rules))
    seconds = time.perf_counter() - started
    return {
        "candidates": sum(table.num_rows for table in tables.values()),
        "seconds": seconds,
        "before_mb": before,
        "peak_mb": peak_mb(),
        "rows": len(selection.queries),
        "fates": selection.summary,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measured(arguments)))
        sys.exit()
    found = []
    for _ in range(arguments.rounds):
        command = [sys.executable, "-m", "tests.bench.selection", *sys.argv[1:], "--child"]
        found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
    print(json.dumps(found[-1]["fates"], indent=1))
    for key in ("candidates", "rows", "seconds", "before_mb", "peak_mb"):
        print(f"{key:12} {statistics.median(result[key] for result in found):,.1f}")
