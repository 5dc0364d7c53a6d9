"""A teacher's scores joined to a million rows by their texts: seconds and peak memory.

    python -m tests.bench.teacher [--queries 1000000] [--passages 200000] [--scored 10]

A made data set with one positive and one negative a query and `--scored` scores for each is written once under --out;
the join runs in a process of its own. Every label is checked against the score that its pair was given.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.folder import write_config
from builders.passages import Passages
from builders.spool import spooled
from tests.bench.made_corpus import made_passages
from tests.bench.memory import peak_mb
from training.data import load_rows, resolve
from training.teacher import with_scores


def score_of(query, passage):
    """A teacher that tells its pair: exact in 32 bits."""
    return ((query * 31 + passage * 17) % 4001).astype(np.float64) / 100 - 20


def make(folder, options):
    """Writes the data set, training rows last."""
    passages = Passages(spooled(schema.CORPUS, made_passages(options.passages)))
    write_config(folder, "corpus", passages.table)
    numbers = np.arange(options.queries)
    ids, texts = (
        pc.binary_join_element_wise(pa.array([word]).take(pa.array(np.zeros(len(numbers), np.int8))),
                                    pa.array(numbers).cast(pa.string()), " ")
        for word in ("q", "what is asked here, and what is said of it, under the number")
    )  # fmt: skip
    write_config(folder, "queries", pa.table([ids, texts], schema=schema.QUERIES))
    places = (numbers[:, None] * 7919 + np.arange(options.scored) * 104729) % options.passages
    asked = np.repeat(numbers, options.scored)
    scores = [ids.take(pa.array(asked)), passages.ids_at(places.ravel()), pa.array(score_of(asked, places.ravel()))]
    write_config(folder, "scores-cross-encoder", pa.table(scores, schema=schema.SCORES))
    columns = [texts, *(passages.texts(places[:, place]) for place in (0, options.scored - 1))]
    write_config(folder, "bm25", pa.table(columns, schema=schema.training(1)))


def measured(folder, options):
    """The join alone; the rows have been converted before, as they would be for training without a teacher."""
    source = resolve(str(folder), None)
    rows = load_rows(source, "bm25")
    before, started = peak_mb(), time.perf_counter()
    labelled = with_scores(rows, source, "bm25", "cross-encoder")
    seconds = time.perf_counter() - started
    numbers = np.arange(options.queries)
    places = (numbers[:, None] * 7919 + np.array([0, options.scored - 1]) * 104729) % options.passages
    found = labelled.data.table["label"].combine_chunks().flatten().to_numpy().reshape(-1, 2)
    wrong = int((np.abs(found - score_of(numbers[:, None], places)) > 1e-5).sum())
    peak = peak_mb()
    return {
        "rows": len(labelled),
        "seconds": seconds,
        "before_mb": before,
        "peak_mb": peak,
        "wrong": wrong,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--scored", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench-teacher"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.out / f"{options.queries}-{options.passages}-{options.scored}"
    if options.child:
        print(json.dumps(measured(folder, options)))
        sys.exit()
    if not (folder / "bm25").exists():
        make(folder, options)
    command = [sys.executable, "-m", "tests.bench.teacher", *sys.argv[1:], "--child"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for key, value in json.loads(finished.stdout).items():
        print(f"{key:10} {value:,.1f}")
