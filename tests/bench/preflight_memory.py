"""Pre-flight's estimate of memory against the peak of a real training: all-MiniLM-L6-v2 on triplets, two steps.

    python -m tests.bench.preflight_memory                       # all settings, a process each; a table
    python -m tests.bench.preflight_memory BATCH TOKENS [bf16] [no-dropout] [merged] [cached]     # one; JSON

Peak is the resident memory above that before the estimate, sampled every 5 ms; CPU only. `merged`: passages go through
the model as one, as sentence-transformers does; `cached`: CachedMultipleNegativesRankingLoss by 16 texts.
"""

import json
import sys
import tempfile
from contextlib import nullcontext

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.losses import column_merging_disabled
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)

from foils.models import resolve_model
from tests.bench.memory import Most, in_own_process
from tests.conftest import BASE
from training.loop.making import set_dropout
from training.preflight.room import memory_of

QUERY_TOKENS, MINI_BATCH = 24, 16
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
    settings = {"use_cpu": True, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    held = Most("VmRSS", every_s=0.005)
    before = held.mb
    with held, tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder, max_steps=2, per_device_train_batch_size=rows, bf16="bf16" in options, **settings
        )
        how = {"in_batch": True, "mini_batch": mini_batch, "merged": "merged" in options}
        estimate = memory_of(model, arguments, lengths, **how)
        loss = MultipleNegativesRankingLoss(model)
        if mini_batch:
            loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=mini_batch)
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=triplets(2 * rows), loss=loss)
        with nullcontext() if "merged" in options else column_merging_disabled():
            trainer.train()
    return {"estimate": estimate.need / 2**20, "peak": held.mb - before}


def main(words):
    """One setting, or all."""
    if words:
        print(json.dumps(measured(int(words[0]), int(words[1]), words[2:])))
        return
    print("| batch | tokens | | estimate, MB | peak, MB | ratio |\n|---:|---:|---|---:|---:|---:|")
    for setting in SETTINGS:
        one = in_own_process("preflight_memory", *setting)
        cells = [*setting[:2], ", ".join(setting[2:]) or "fp32, dropout"]
        cells += [f"{one['estimate']:,.0f}", f"{one['peak']:,.0f}", f"{one['estimate'] / one['peak']:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
