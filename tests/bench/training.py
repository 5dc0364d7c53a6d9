"""Training speed and memory: the plain script, our path with its settings, and our path as recipes set it.

    python -m tests.bench.training [--steps 8] [--rounds 3] [--batch 32] [--tokens 256] [--quality]

The rows are SciFact's training claims, each with a passage that answers it and another claim's as its negative; the
base is all-MiniLM-L6-v2. Each measurement is a process of its own, in turns: samples/s is the batch over the median
time of a step, after two steps of warming up; memory is the peak of the process.

| way | what it is |
|---|---|
| plain | the ten lines of sentence-transformers' manual, in fp32 |
| ours, same settings | `training/` in fp32 with the base's dropout: what our path costs |
| ours | `training/` as our recipes set it: bf16 where the processor has it, no dropout |
| ours, by length | the same with `length_buckets` |

`--quality` trains one epoch of plain's settings and of ours with three seeds each instead, both through `training/`,
and tells nDCG@10 of the same 100 held-out claims among 1,000 passages (`[dev]`): whether speed is bought with quality.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from tests.bench.memory import peak_mb
from tests.conftest import BASE, SHARED

WARM = 2
WAYS = {
    "plain": {"precision": "fp32"},
    "ours, same settings": {"precision": "fp32"},
    "ours": {"precision": "auto", "dropout": 0.0},
    "ours, by length": {"precision": "auto", "dropout": 0.0, "length_buckets": True},
}


def rows():
    """SciFact's training claims as triplets."""
    folder = SHARED / "collections" / "scifact"
    passages = {row["_id"]: f"{row['title']} {row['text']}" for row in _lines(folder / "corpus.jsonl")}
    claims = {row["_id"]: row["text"] for row in _lines(folder / "queries.jsonl")}
    judged = [line.split("\t") for line in (folder / "qrels" / "train.tsv").read_text().splitlines()[1:]]
    answers = {claim: passage for claim, passage, score in judged if int(score) > 0}
    query, positive = [claims[claim] for claim in answers], [passages[passage] for passage in answers.values()]
    others = [
        next(other for other in positive[row + 7 :] + positive if other != text) for row, text in enumerate(positive)
    ]
    return {"query": query, "positive": positive, "negative_1": others}


def _lines(file):
    return [json.loads(line) for line in file.open(encoding="utf-8")]


def timed(steps):
    """Has every trainer note when its steps end; returns those times."""
    from transformers import TrainerCallback
    from transformers.trainer import DEFAULT_CALLBACKS

    ends = []

    class Times(TrainerCallback):
        def on_step_end(self, _args, _state, control, **_):
            ends.append(perf_counter())
            control.should_training_stop = len(ends) >= steps

    DEFAULT_CALLBACKS.append(Times)
    return ends


def plain(options):
    """The manual's script."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from foils.models import resolve_model

    model = SentenceTransformer(resolve_model(BASE).location)
    model.max_seq_length = options.tokens
    arguments = Arguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=options.batch,
        learning_rate=2e-5,
        report_to="none",
        save_strategy="no",
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict(rows()), loss=MultipleNegativesRankingLoss(model)
    )
    trainer.train()


def ours(options, settings):
    """The same through a recipe."""
    import pyarrow as pa

    from builders.dataset.folder import write_config
    from foils.recipe import Recipe
    from training import train
    from training.recipe import TrainRecipe

    folder = Path(tempfile.mkdtemp())
    write_config(folder / "data", "claims", pa.table(rows()))
    table = {"per_device_train_batch_size": options.batch, "learning_rate": 2e-5}
    config = TrainRecipe(str(folder / "data"), "claims", BASE, max_seq_length=options.tokens, trainer=table, **settings)
    train.main(Recipe(config, ""), folder / "model")


def one(options):
    """One measurement, as JSON on the last line."""
    ends = timed(options.steps + WARM)
    if options.one == "plain":
        plain(options)
    else:
        ours(options, WAYS[options.one])
    each = [after - before for before, after in zip(ends[WARM - 1 :], ends[WARM:], strict=False)]
    peak = peak_mb()
    print(json.dumps({"rate": options.batch / statistics.median(each), "mb": peak}))


def quality(options):
    """Prints dev scores at the end of plain's settings and of ours, by seed, and what the difference may be."""
    import pyarrow as pa
    from scipy.stats import ttest_rel

    from builders.dataset.folder import write_config
    from foils.recipe import Recipe
    from training import train
    from training.recipe import DevConfig, TrainRecipe

    folder = Path(tempfile.mkdtemp())
    write_config(folder / "data", "claims", pa.table(rows()))
    table = {"per_device_train_batch_size": options.batch, "learning_rate": 2e-5, "num_train_epochs": 1}
    ends, base = {}, None
    for way in ("ours, same settings", "ours"):
        config = TrainRecipe(
            *(str(folder / "data"), "claims", BASE),
            seeds=(1, 2, 3),
            max_seq_length=options.tokens,
            dev=DevConfig(queries=100, every=0.5),
            trainer=table,
            **WAYS[way],
        )
        for model in train.main(Recipe(config, ""), folder / way.replace(" ", "-")):
            dev = json.loads((model / "run.json").read_text())["training"]["dev"]
            base = dev["base"]["value"]
            ends.setdefault(way, []).append(dev["last"]["value"])
    print("| settings | nDCG@10 of held-out claims, seeds 1, 2, 3 | mean |\n|---|---|---:|")
    print(f"| untouched base | | {base:.4f} |")
    for way, scores in ends.items():
        print(f"| {way} | {', '.join(f'{score:.4f}' for score in scores)} | {statistics.mean(scores):.4f} |")
    pair = ends["ours"], ends["ours, same settings"]
    low, high = ttest_rel(*pair).confidence_interval(0.95)
    difference = statistics.mean(pair[0]) - statistics.mean(pair[1])
    print(f"\nours less the plain settings: {difference:+.4f}, 95 % interval over seeds {low:+.4f} to {high:+.4f}")


def measured(options, way):
    """Runs one measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.training", "--one", way]
    command += [f"--{name}={getattr(options, name)}" for name in ("steps", "batch", "tokens")]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(finished.stdout.strip().splitlines()[-1])


def main(options):
    """Runs all ways in turns and prints a table."""
    found = {way: [] for way in WAYS}
    for turn in range(options.rounds):
        for way, results in found.items():
            results.append(measured(options, way))
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
