"""How much faster than bm25s is BM25 mining here, with the same scores? On made corpora, both in one run.

    python -m tests.bench.bm25 [--passages 50000,200000] [--queries 10000] [--k 50]

Measured per size: bm25s as its manual has it (tokenize, index, retrieve with the numba backend and 2 threads) against
ours (index, then mining with positives dropped and candidates stored as Parquet); the whole stages; ours again with
twice as many queries; the peak memory of ours in a process of its own, which reads the corpus from Parquet and has
no index yet. All kernels run once on a small corpus first. The best `k` scores of all queries must be equal.

The corpus: 150 to 330 words a passage, drawn from a Zipf law (exponent 1.07) over a vocabulary that grows with it;
a query is 6 to 12 words of its positive, rare ones preferred.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import Stemmer

from builders import queries, schema
from builders.context import Context
from builders.negatives import bm25, sampled
from builders.retrieval.bm25.index import K1, B
from builders.retrieval.bm25.languages import STOP_WORDS

THREADS = 2
_BLOCK = 10_000


def vocabulary(size):
    """Made words of two to five syllables, the more frequent the shorter, and the stop words in front."""
    lots = np.random.default_rng(1)
    syllables = np.array([a + b for a in "bcdfghklmnprstvz" for b in "aeiou"] + ["ing", "ers", "äh", "ßö"])
    made = {"the", "and", "for", "with", "that"}
    words = sorted(made)
    while len(words) < size:
        length = 2 + min(int(np.log10(len(words))), 3)
        word = "".join(syllables[lots.integers(0, len(syllables), length)])
        if word not in made:
            made.add(word)
            words.append(word)
    return np.array(words)


def write_corpus(path, passages):
    """Writes a corpus as Parquet, block by block."""
    words = vocabulary(20_000 + passages // 2)
    weights = np.cumsum(1 / np.arange(1, len(words) + 1) ** 1.07)
    lots = np.random.default_rng(2)
    with pq.ParquetWriter(path, schema.CORPUS) as writer:
        for start in range(0, passages, _BLOCK):
            rows = min(_BLOCK, passages - start)
            lengths = lots.integers(150, 330, rows)
            drawn = np.searchsorted(weights, lots.random(lengths.sum()) * weights[-1])
            texts = [" ".join(part) for part in np.split(words[drawn], np.cumsum(lengths)[:-1])]
            ids = [f"p{(start + row) * 7919 % 10_000_019:08}" for row in range(rows)]
            writer.write_table(pa.table({"_id": ids, "title": [""] * rows, "text": texts}, schema.CORPUS))


def made_queries(corpus, count):
    """Queries whose words come from their positives."""
    lots = np.random.default_rng(3)
    at = lots.integers(0, corpus.num_rows, count)
    texts = []
    for text in corpus["text"].take(pa.array(at)).to_pylist():
        words = text.split()
        chosen = lots.permutation(len(words))[: lots.integers(9, 18)]
        texts.append(" ".join(sorted((words[n] for n in chosen), key=len)[-lots.integers(6, 13) :]))
    ids = [f"q{n}" for n in range(count)]
    return pa.table({"_id": ids, "text": texts, "corpus-id": corpus["_id"].take(pa.array(at))}, queries.TABLE)


def ours(corpus, asked, k, folder):
    """Seconds of index and mining, and the candidates."""
    started = time.perf_counter()
    material = Context(corpus, "en", 42, None, folder / "cache")
    _ = material.bm25
    indexed = time.perf_counter()
    mined = bm25.mine(asked, material, bm25.Bm25Config(depth=k))
    positives = asked["corpus-id"].take(pc.index_in(mined.candidates["query-id"], value_set=asked["_id"]))
    pq.write_table(
        mined.candidates.filter(pc.not_equal(mined.candidates["corpus-id"], positives)), folder / "c.parquet"
    )
    return indexed - started, time.perf_counter() - indexed, mined.candidates


def theirs(texts, asked, k):
    """Seconds of tokenising, indexing, tokenising queries and retrieving, and the scores."""

    def split(some):
        stemmer = Stemmer.Stemmer("english")
        return bm25s.tokenize(some, stopwords=list(STOP_WORDS["en"]), stemmer=stemmer, show_progress=False)

    times = [time.perf_counter()]
    tokens = split(texts)
    times.append(time.perf_counter())
    index = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numba")
    index.index(tokens, show_progress=False)
    times.append(time.perf_counter())
    found = split(asked["text"].to_pylist())
    names = {number: word for word, number in found.vocab.items()}
    words = [[names[n] for n in part] for part in found.ids]
    times.append(time.perf_counter())
    index.retrieve(words[:100], k=k, show_progress=False, n_threads=THREADS)  # compiles
    times.append(time.perf_counter())
    rounds = []
    for _ in range(3):
        started = time.perf_counter()
        scores = index.retrieve(words, k=k, show_progress=False, n_threads=THREADS).scores
        rounds.append(time.perf_counter() - started)
    return times[1] - times[0], times[2] - times[1], times[3] - times[2], statistics.median(rounds), scores


def same(candidates, asked, scores):
    """Whether the scores of all queries are those of bm25s, but for its hits without a shared word."""
    rows = pc.index_in(candidates["query-id"], value_set=asked["_id"]).to_numpy()
    found = np.zeros(scores.shape, np.float32)
    found[rows, candidates["rank"].to_numpy() - 1] = candidates["score"].to_numpy()
    return np.array_equal(found, scores)


def measure(folder, passages, count, k):
    """Prints both stages for one size."""
    path = folder / f"{passages}.parquet"
    write_corpus(path, passages)
    corpus = pq.read_table(path)
    asked = made_queries(corpus, count)
    place = Path(tempfile.mkdtemp(dir=folder))
    index, mining, candidates = ours(corpus, asked, k, place)
    again = statistics.median([mining, *(ours(corpus, asked, k, place)[1] for _ in range(2))])
    twice = ours(corpus, made_queries(corpus, 2 * count), k, place)[1]
    started = time.perf_counter()
    sampled.mine(asked, Context(corpus, "en", 42, None), sampled.RandomConfig())
    lots = time.perf_counter() - started
    child = [sys.executable, "-m", "tests.bench.bm25", "--peak", str(path), "--queries", str(count), "--k", str(k)]
    peak = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    split, indexed, asking, retrieve, scores = theirs(corpus["text"].to_pylist(), asked, k)
    whole = split + indexed + asking + retrieve
    print(f"{passages} passages, {count} queries, best {k}; same scores: {same(candidates, asked, scores)}")
    print(f"  words and index   bm25s {split:.1f} + {indexed:.1f} s, ours {index:.1f} s")
    print(
        f"  queries/s         bm25s retrieve {count / retrieve:.0f}, ours with words, positives and storing "
        f"{count / again:.0f}: {retrieve / again:.2f} times"
    )
    print(f"  whole stage       bm25s {whole:.1f} s, ours {index + mining:.1f} s: {whole / (index + mining):.1f} times")
    print(f"  twice the queries {twice / again:.2f} times as long; random negatives {lots:.1f} s")
    print(
        f"  peak memory       ours {peak['peak']:.0f} MB, of which {peak['before']:.0f} MB before the stage", flush=True
    )


def high_water():
    """Peak memory of this process in MB; `getrusage` would hand on its parent's."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def peak(path, count, k):
    """Prints this process's peak memory before and after the stage, in MB, as JSON."""
    corpus = pq.read_table(path)
    asked = made_queries(corpus, count)
    before = high_water()
    with tempfile.TemporaryDirectory() as folder:
        ours(corpus, asked, k, Path(folder))
    print(json.dumps({"before": before, "peak": high_water()}))


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
        write_corpus(Path(folder) / "small.parquet", 500)
        small = pq.read_table(Path(folder) / "small.parquet")
        started = time.perf_counter()
        ours(small, made_queries(small, 50), 10, Path(folder))
        sampled.mine(made_queries(small, 50), Context(small, "en", 42, None), sampled.RandomConfig())
        print(f"first use on 500 passages: {time.perf_counter() - started:.1f} s, compilation where there was none yet")
        for size in arguments.passages.split(","):
            measure(Path(folder), int(size), arguments.queries, arguments.k)


if __name__ == "__main__":
    main()
