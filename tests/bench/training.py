"""Training speed and memory: the plain script, our path with its settings, and our path as recipes set it.

    python -m tests.bench.training [--steps 8] [--rounds 3] [--batch 32] [--tokens 256] [--quality]

The rows are SciFact's training claims, each with a passage that answers it and one that does not; the base is
all-MiniLM-L6-v2. Each measurement is a process of its own, in turns: samples/s is the batch over the median
time of a step, after two steps of warming up; memory is the peak of the process.

| way | what it is |
|---|---|
| plain | the ten lines of sentence-transformers' manual, in fp32 |
| ours, same settings | `training/` in fp32 with the base's dropout: what our path costs |
| ours | `training/` as our recipes set it: bf16 where the processor has it, no dropout |

`--quality` trains one epoch of plain's settings and of ours with three seeds each instead, both through `training/`,
and prints nDCG@10 of the same 100 held-out claims among 1,000 passages (`[dev]`): whether speed is bought with quality.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from scipy.stats import ttest_rel
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback
from transformers.trainer import DEFAULT_CALLBACKS

from builders.dataset.folder import write_config
from foils.models import resolve_model
from foils.recipe import Recipe
from tests.bench.memory import in_own_process, peak_mb
from tests.conftest import BASE
from tests.fixtures.scifact_rows import scifact_rows
from training import train
from training.recipe import DevConfig, TrainRecipe

WARM = 2
WAYS = {
    "plain": {"precision": "fp32"},
    "ours, same settings": {"precision": "fp32"},
    "ours": {"precision": "auto", "dropout": 0.0},
}


def rows():
    """Claims of SciFact, each with a passage that answers it and one that does not."""
    return scifact_rows(900).select_columns(["query", "positive", "negative_1"])


def timed(steps):
    """Has every trainer note when its steps end; returns those times."""
    ends = []

    class Times(TrainerCallback):
        def on_step_end(self, _args, _state, control, **_):
            ends.append(perf_counter())
            control.should_training_stop = len(ends) >= steps

    DEFAULT_CALLBACKS.append(Times)
    return ends


def plain(options):
    """The manual's script."""
    model = SentenceTransformer(resolve_model(BASE).location)
    model.max_seq_length = options.tokens
    arguments = SentenceTransformerTrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=options.batch,
        learning_rate=2e-5,
        report_to="none",
        save_strategy="no",
    )
    loss = MultipleNegativesRankingLoss(model)
    SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows(), loss=loss).train()


def ours(options, out, **settings):
    """The same through a recipe; returns the folders of its models."""
    write_config(out / "data", "claims", rows().data.table)
    table = {"per_device_train_batch_size": options.batch, "learning_rate": 2e-5, "num_train_epochs": 1}
    config = TrainRecipe(str(out / "data"), "claims", BASE, max_seq_length=options.tokens, trainer=table, **settings)
    return train.main(Recipe(config, ""), out / "model")


def one(options):
    """One measurement, as JSON on the last line."""
    ends = timed(options.steps + WARM)
    if options.one == "plain":
        plain(options)
    else:
        ours(options, Path(tempfile.mkdtemp()), **WAYS[options.one])
    each = [after - before for before, after in zip(ends[WARM - 1 :], ends[WARM:], strict=False)]
    print(json.dumps({"rate": options.batch / statistics.median(each), "mb": peak_mb()}))


def quality(options):
    """Prints dev scores at the end of plain's settings and of ours, by seed, and what the difference may be."""
    ends, base, dev = {}, None, DevConfig(queries=100, every=0.5)
    for way in ("ours, same settings", "ours"):
        for model in ours(options, Path(tempfile.mkdtemp()), seeds=(1, 2, 3), dev=dev, **WAYS[way]):
            scores = json.loads((model / "run.json").read_text())["training"]["dev"]
            base = scores["base"]["value"]
            ends.setdefault(way, []).append(scores["last"]["value"])
    print("| settings | nDCG@10 of held-out claims, seeds 1, 2, 3 | mean |\n|---|---|---:|")
    print(f"| untouched base | | {base:.4f} |")
    for way, scores in ends.items():
        print(f"| {way} | {', '.join(f'{score:.4f}' for score in scores)} | {statistics.mean(scores):.4f} |")
    pair = ends["ours"], ends["ours, same settings"]
    low, high = ttest_rel(*pair).confidence_interval(0.95)
    difference = statistics.mean(pair[0]) - statistics.mean(pair[1])
    print(f"\nours less the plain settings: {difference:+.4f}, 95 % interval over seeds {low:+.4f} to {high:+.4f}")


def main(options):
    """Runs all ways in turns and prints a table."""
    found = {way: [] for way in WAYS}
    for turn in range(options.rounds):
        for way, results in found.items():
            own = (f"--{name}={getattr(options, name)}" for name in ("steps", "batch", "tokens"))
            results.append(in_own_process("training", "--one", way, *own))
            print(f"round {turn + 1} of {options.rounds}: {way}, {results[-1]}", file=sys.stderr, flush=True)
    print("| way | samples/s | ratio | peak memory |\n|---|---:|---:|---:|")
    base = statistics.median(each["rate"] for each in found["plain"])
    for way, results in found.items():
        rate = statistics.median(each["rate"] for each in results)
        print(f"| {way} | {rate:.2f} | {rate / base:.2f} | {max(each['mb'] for each in results) / 1024:.2f} GB |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options)
    elif options.quality:
        quality(options)
    else:
        main(options)
