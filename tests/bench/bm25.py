"""BM25 mining beside bm25s, with the same scores: seconds of both on made corpora, in one run.

    python -m tests.bench.bm25 [--passages 50000,200000] [--queries 10000] [--k 50]

Measured per size: bm25s as its manual has it (tokenize, index, retrieve with the numba backend and 2 threads) against
ours (index, then mining with positives dropped and candidates stored as Parquet); the whole stages; ours again with
half of the queries; the peak memory of ours in a process of its own, which reads the corpus from Parquet and has
no index yet. All kernels run once on a small corpus first. The best `k` scores of all queries must be equal.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import Stemmer

from builders.context import Context
from builders.negatives import bm25
from builders.retrieval.bm25.index import K1, B
from foils.stems import stop_words_of
from tests.bench.made_corpus import made_passages, made_queries
from tests.bench.memory import in_own_process, peak_mb

THREADS = 2


def ours(corpus, asked, k, folder):
    """Seconds of index and mining, and the candidates."""
    started = time.perf_counter()
    material = Context(corpus, "en", 42, None, folder / "cache")
    _ = material.bm25
    indexed = time.perf_counter()
    mined = bm25.mine(asked, material, bm25.Bm25Config(depth=k)).candidates
    positives = asked["corpus-id"].take(pc.index_in(mined["query-id"], value_set=asked["_id"]))
    pq.write_table(mined.filter(pc.not_equal(mined["corpus-id"], positives)), folder / "c.parquet")
    return indexed - started, time.perf_counter() - indexed, mined


def theirs(corpus, asked, k):
    """Seconds of tokenising and indexing, of tokenising the queries, of retrieving; and the scores."""

    def split(some):
        stemmer = Stemmer.Stemmer("english")
        return bm25s.tokenize(some, stopwords=list(stop_words_of("en")), stemmer=stemmer, show_progress=False)

    texts = pc.binary_join_element_wise(corpus["title"], corpus["text"], " ").to_pylist()
    times = [time.perf_counter()]
    index = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numba")
    index.index(split(texts), show_progress=False)
    times.append(time.perf_counter())
    found = split(asked["text"].to_pylist())
    names = {number: word for word, number in found.vocab.items()}
    words = [[names[n] for n in part] for part in found.ids]
    times.append(time.perf_counter())
    index.retrieve(words[:100], k=k, show_progress=False, n_threads=THREADS)  # compiles
    rounds = []
    for _ in range(3):
        started = time.perf_counter()
        scores = index.retrieve(words, k=k, show_progress=False, n_threads=THREADS).scores
        rounds.append(time.perf_counter() - started)
    return times[1] - times[0], times[2] - times[1], statistics.median(rounds), scores


def same(candidates, asked, scores):
    """Whether the scores of all queries are those of bm25s, but for its hits without a shared word."""
    rows = pc.index_in(candidates["query-id"], value_set=asked["_id"]).to_numpy()
    found = np.zeros(scores.shape, np.float32)
    found[rows, candidates["rank"].to_numpy() - 1] = candidates["score"].to_numpy()
    return np.array_equal(found, scores)


def measure(folder, passages, count, k):
    """Prints both stages for one size."""
    path = folder / f"{passages}.parquet"
    corpus = pa.Table.from_batches(made_passages(passages))
    pq.write_table(corpus, path)
    asked = made_queries(corpus, count)
    index, mining, candidates = ours(corpus, asked, k, Path(tempfile.mkdtemp(dir=folder)))
    again = statistics.median([mining, *(ours(corpus, asked, k, folder)[1] for _ in range(2))])
    half = ours(corpus, asked.slice(0, count // 2), k, folder)[1]
    memory = in_own_process("bm25", "--peak", path, "--queries", count, "--k", k)
    indexed, asking, retrieve, scores = theirs(corpus, asked, k)
    whole = indexed + asking + retrieve
    print(f"{passages} passages, {count} queries, best {k}; same scores: {same(candidates, asked, scores)}")
    print(f"  words and index   bm25s {indexed:.1f} s, ours {index:.1f} s")
    print(
        f"  queries/s         bm25s retrieve {count / retrieve:.0f}, ours with words, positives and storing "
        f"{count / again:.0f}: {retrieve / again:.2f} times"
    )
    print(f"  whole stage       bm25s {whole:.1f} s, ours {index + mining:.1f} s: {whole / (index + mining):.1f} times")
    print(f"  half the queries  {half / again:.2f} of the time")
    print(f"  peak memory       ours {memory['peak']:.0f} MB, of which {memory['before']:.0f} MB before the stage")


def peak(path, count, k):
    """Prints this process's peak memory before and after the stage, in MB, as JSON."""
    corpus = pq.read_table(path)
    asked = made_queries(corpus, count)
    before = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        ours(corpus, asked, k, Path(folder))
    print(json.dumps({"before": before, "peak": peak_mb()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", default="50000,200000")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.peak, arguments.queries, arguments.k)
        return
    with tempfile.TemporaryDirectory() as folder:
        small = pa.Table.from_batches(made_passages(500))
        ours(small, made_queries(small, 50), 10, Path(folder))  # compiles
        for size in arguments.passages.split(","):
            measure(Path(folder), int(size), arguments.queries, arguments.k)


if __name__ == "__main__":
    main()
