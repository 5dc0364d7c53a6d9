"""What a build takes as its corpus grows: seconds a stage, peak memory and disk, at several sizes.

    python -m tests.bench.scale [--passages 10000,100000,1000000] [--queries 20000] [--workers 0,1] [--work DIR]

For each size a corpus is made (`tests/bench/made_corpus.py`: a BEIR folder with labelled queries), and then a process
of its own goes through a build's stages: it reads and cleans the corpus and the queries, mines BM25 negatives for them,
selects, and writes the data set's folder. No LLM is asked. With workers, the engine `local` cleans and searches by
shards; `--rows` says how many passages a shard of BM25 has.

Memory, in brackets, is the most that the process and its workers have held in a stage, sampled, without mapped files:
their pages go when others need the memory. The peak counts those of the process too. Disk is the folder written.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from builders.context import Context, no_llm
from builders.corpus import load
from builders.dataset.contents import configs_of, inputs_of, record_of
from builders.dataset.folder import write_folder
from builders.leakage.guard import Guard
from builders.llm.config import LlmConfig
from builders.mining import mine_all
from builders.negatives import bm25
from builders.queries import labelled
from builders.queries.config import QueriesConfig
from builders.recipe import BuildRecipe, CorpusConfig, NegativesConfig
from builders.retrieval.bm25 import shards
from builders.selection import select
from builders.selection.stored import inputs_from, wanted_by
from builders.spool import spool_beside
from foils.engine.config import EngineConfig
from foils.recipe import Recipe
from tests.bench.memory import Most, in_own_process, peak_mb

DEPTH, PER_QUERY = 50, 1


class Stages:
    """Times stages one after the other, and asks `most` for their memory."""

    def __init__(self, most):
        self.seconds = {}
        self.memory = {}
        self._most = most
        self._started = time.perf_counter()

    def done(self, name):
        """The stage since the last is over."""
        now = time.perf_counter()
        self.seconds[name], self._started = now - self._started, now
        self.memory[name], self._most.mb = self._most.mb / 1000, 0


def recipe_of(folder):
    """The build that is measured."""
    return BuildRecipe(
        "scale",
        CorpusConfig(str(folder)),
        queries=QueriesConfig(source=str(folder)),
        negatives=NegativesConfig(kinds=("bm25",), per_query=PER_QUERY, bm25=bm25.Bm25Config(depth=DEPTH)),
    )


def measured(folder, out, workers, most):
    """Goes through all stages in this process; what each took."""
    config, stages, cache = recipe_of(folder), Stages(most), out.with_name(f"{out.name}-cache")
    engine = EngineConfig(workers=workers) if workers else None
    spool_beside(out)
    corpus = load(config.corpus, engine, cache)
    stages.done("read and clean")
    given = labelled.read(config.queries, corpus, config.seed)
    stages.done("queries")
    material = Context(corpus.passages, corpus.language, config.seed, no_llm, cache, engine=engine)
    candidates = mine_all(given.queries, material, config)
    stages.done("BM25")
    selection = select(inputs_from(given.queries, candidates, given.qrels), wanted_by(config))
    stages.done("selection")
    write(out, config, corpus, given, candidates, selection)
    stages.done("writing")
    return {
        "passages": corpus.passages.num_rows + corpus.drops.num_rows,
        "bytes": (folder / "corpus.jsonl").stat().st_size,
        "queries": given.queries.num_rows,
        "candidates": candidates.mined["bm25"].candidates.num_rows,
        "rows": len(selection.queries),
        "seconds": stages.seconds,
        "memory": stages.memory,
        "peak": peak_mb() / 1000,
        "workers": workers,
        "cpu": sum(os.times()[:4]),
        "disk": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
    }


def write(out, config, corpus, given, candidates, selection):
    """The data set's folder, as the build writes it."""
    llm, guard = LlmConfig(), Guard(config.leakage)
    inputs = inputs_of(config, corpus, llm, given, None, guard)
    record = record_of(Recipe(config, "", ()), inputs, corpus.license)
    record |= {
        "funnel": {"queries judged": given.judged},
        "models": {},
        "usage": {},
        "prices": None,
        "fates": selection.summary,
    }
    drops = pa.concat_tables([corpus.drops, given.drops, selection.drops])
    write_folder(out, configs_of(corpus, given.queries, candidates, selection, drops, None), record)


def table(results):
    """The results in Markdown, a size a row."""
    stages = list(results[0]["seconds"])
    timed = [f"{name}, s (GB)" for name in stages]
    head = [
        "passages",
        "workers",
        "text, GB",
        "queries",
        "candidates",
        *timed,
        "all, s",
        "of cores, s",
        "peak, GB",
        "disk, GB",
    ]
    yield f"| {' | '.join(head)} |"
    yield "|" + "---:|" * len(head)
    for one in results:
        cells = [
            f"{one['passages']:,}",
            str(one["workers"] or "none"),
            f"{one['bytes'] / 1e9:.2f}",
            f"{one['queries']:,}",
            f"{one['candidates']:,}",
        ]
        cells += [f"{one['seconds'][name]:.1f} ({one['memory'][name]:.1f})" for name in stages]
        cells += [f"{sum(one['seconds'].values()):.1f}", f"{one['cpu']:.1f}", f"{one['peak']:.1f}"]
        cells.append(f"{one['disk'] / 1e9:.2f}")
        yield f"| {' | '.join(cells)} |"


def main(options):
    """Makes and measures each size, each in a process of its own. What one has written goes before the next."""
    results = []
    for passages in options.passages:
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            folder = Path(work) / "made"
            make = ["tests.bench.made_corpus", folder, "--passages", passages, "--queries", options.queries]
            subprocess.run([sys.executable, "-m", *map(str, make)], check=True)
            for workers in options.workers:
                with tempfile.TemporaryDirectory(dir=work) as built:
                    one = ["--one", folder, f"{built}/dataset", "--workers", workers, "--rows", options.rows]
                    results.append(in_own_process("scale", *one))
                print(list(table(results))[-1], file=sys.stderr)
    print("\n".join(table(results)))


def numbers(text):
    """Numbers of an option."""
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=numbers, default=[0], help="of the engine local; 0: without an engine")
    parser.add_argument("--rows", type=int, default=shards.ROWS, help="passages of a shard of BM25")
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--work", type=Path, help="where temporary folders are made; default: the system's")
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        shards.ROWS = options.rows
        with Most() as most:
            print(json.dumps(measured(*map(Path, options.one), *options.workers, most)))
    else:
        main(options)
