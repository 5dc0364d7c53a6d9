"""How fast are pairs scored, and do fast lanes rank alike? Pairs/s against sentence-transformers' own ways.

    python -m tests.bench.cross_encoder [--pairs 600] [--rounds 3]

In one run, in turns, so that all ways meet the same machine; medians over the rounds. `CrossEncoder.predict` and ours
in each lane get the same pairs; ours stores what it scores. Spearman is against predict in fp32.

`mine_hard_negatives(relative_margin=0.05)` takes no pairs. It gets the same queries and passages and searches them by
an embedding model, so its pairs are others: 50 a query and the positive. Its rate is that of its cross-encoder alone:
all pairs given to `predict`, over the time within those calls.

Below the table: the peak memory of ours in fp32 for a quarter of the pairs and for all, in processes of their own.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from scipy.stats import spearmanr
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from builders import schema
from builders.passages import Passages
from builders.scores.config import CrossEncoderConfig
from builders.scores.cross_encoder import Scorer
from builders.scores.pairs import locate
from foils.models import resolve_model
from tests.bench.memory import in_own_process, peak_mb
from tests.conftest import BASE, SHARED

POOL = 50
SCIFACT = SHARED / "collections" / "scifact"
MODEL = SHARED / "models" / "cross-encoder-mini"


def pairs_of(count):
    """Claims of SciFact with 50 passages each, as the scorer takes them."""
    rows = [[json.loads(line) for line in (SCIFACT / name).open()] for name in ("corpus.jsonl", "queries.jsonl")]
    passages, queries = rows[0][:1000], rows[1][: -(-count // POOL)]
    choice = np.random.default_rng(2)
    chosen = [(q["_id"], p) for q in queries for p in choice.choice(len(passages), POOL, replace=False)][:count]
    corpus = {name: [row[name] for row in passages] for name in ("_id", "title", "text")}
    pairs = pa.table({"query-id": [q for q, _ in chosen], "corpus-id": [corpus["_id"][p] for _, p in chosen]})
    asked = pa.table({name: [row[name] for row in queries] for name in ("_id", "text")})
    return locate(pairs, asked, Passages(pa.table(corpus, schema.CORPUS)))


def ours(model, lane, pairs):
    """A way to score. The model is loaded and converted before, and not timed, as for the others."""
    loaded = Scorer(CrossEncoderConfig(model=model), lane, Path(tempfile.mkdtemp()))
    loaded.scores(pairs.at(slice(0, 1)))

    def run():
        scorer = Scorer(CrossEncoderConfig(model=model), lane, Path(tempfile.mkdtemp()))
        scorer._lane = loaded._lane
        started = time.perf_counter()
        return scorer.scores(pairs), len(pairs), time.perf_counter() - started

    return run


def theirs(model, pairs):
    """sentence-transformers' two ways."""
    encoder = CrossEncoder(model, max_length=256)
    listed = pairs.texts()
    by_query = [
        [listed[i] for i in np.flatnonzero(pairs.query_positions == q)] for q in np.unique(pairs.query_positions)
    ]

    def predict():
        started = time.perf_counter()
        return encoder.predict(listed, show_progress_bar=False), len(listed), time.perf_counter() - started

    return {"predict": predict, "mine_hard_negatives": mining(encoder, by_query)}


def mining(encoder, by_query):
    """mine_hard_negatives with its own pool: the pairs given to its cross-encoder and the time within those calls."""
    retriever = SentenceTransformer(resolve_model(BASE).location)
    rows = Dataset.from_dict({"query": [r[0][0] for r in by_query], "answer": [r[0][1] for r in by_query]})
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
            mine_hard_negatives(
                rows, retriever, corpus=corpus, cross_encoder=encoder, relative_margin=0.05, range_max=POOL - 1,
                num_negatives=1, verbose=False,
            )  # fmt: skip
        finally:
            del encoder.predict
        return None, counted, spent

    return run


def main(options):
    """Runs all ways in turns and prints a table."""
    pairs = pairs_of(options.pairs)
    lanes = ["fp32", "bf16", *(["openvino"] if find_spec("openvino") else [])]
    ways = {**theirs(options.model, pairs), **{f"ours {lane}": ours(options.model, lane, pairs) for lane in lanes}}
    rates, scores = {name: [] for name in ways}, {}
    for turn in range(options.rounds):
        for name, way in ways.items():
            scores[name], count, seconds = way()
            rates[name].append(count / seconds)
            print(f"round {turn + 1} of {options.rounds}: {name}, {count / seconds:.1f} pairs/s", file=sys.stderr)
    base = statistics.median(rates["mine_hard_negatives"])
    print("| way | pairs/s | ratio to mine_hard_negatives | Spearman |\n|---|---:|---:|---:|")
    for name, found in rates.items():
        rate, near = statistics.median(found), scores[name]
        spearman = "" if near is None else f"{spearmanr(near, scores['predict'])[0]:.4f}"
        print(f"| {name} | {rate:.1f} | {rate / base:.2f} | {spearman} |")
    for size in (max(1, options.pairs // 4), options.pairs):
        memory = in_own_process("cross_encoder", "--one", size, "--model", options.model)
        print(f"peak memory, {size} pairs: {memory['mb']:.0f} MB", flush=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        ours(options.model, "fp32", pairs_of(options.one))()
        print(json.dumps({"mb": peak_mb()}))
    else:
        main(options)
