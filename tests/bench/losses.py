"""Every loss on the same rows: its own loss on held-out queries, and their nDCG@10, against the untouched base.

    python -m builders.build tests/bench/losses.toml
    python -m tests.bench.losses [--steps 200] [--seeds 1,2,3] [--losses triplet,gist] [--dataset DIR]

The held-out queries, drawn once for all, are searched among the passages relevant to them and others drawn at random.
bf16 autocast, no dropout. Each finished run is kept under --out and is not made again; the table is printed from
all that lie there, so losses and seeds can be added later.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from sentence_transformers.util import batch_to_device
from transformers import set_seed

from foils.models import resolve_model
from foils.recipe import decode_config
from tests.conftest import BASE
from training.losses import table as losses
from training.losses.table import LOSSES
from training.recipe import TrainRecipe
from training.rows import teacher
from training.rows.ingredients import load_rows
from training.rows.source import resolve

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
KIND, DEV_SEED, BATCH, TOKENS, HELD, OTHERS = "bm25", 20, 16, 64, 160, 1500


class Data(NamedTuple):
    """Rows to train on and rows held out, both labelled; and a small test collection of the held-out queries."""

    train: Dataset
    dev: Dataset
    queries: dict[str, str]
    passages: dict[str, str]
    relevant: dict[str, set[str]]


def read_data(source):
    """Splits a data set's rows at random and looks up all passages that are relevant to the held-out queries."""
    rows = teacher.with_scores(load_rows(source, KIND), source, KIND, "cross-encoder").shuffle(seed=DEV_SEED)
    held = rows.select(range(HELD))
    known = set(held["query"])
    train = rows.filter(lambda row: row["query"] not in known)

    def table(config):
        return pq.read_table(Path(source.location) / config).to_pylist()

    texts = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in table("corpus")}
    queries = {row["_id"]: row["text"] for row in table("train-queries") if row["text"] in known}
    relevant = {query: set() for query in queries}
    for row in table("train-qrels"):
        if row["score"] > 0 and row["query-id"] in queries:
            relevant[row["query-id"]].add(row["corpus-id"])
    needed = set().union(*relevant.values())
    rest = sorted(texts.keys() - needed)
    drawn = np.random.default_rng(DEV_SEED).permutation(len(rest))[:OTHERS]
    passages = {passage: texts[passage] for passage in [*sorted(needed), *(rest[place] for place in drawn)]}
    return Data(train, held, queries, passages, relevant)


def student():
    """The base without dropout."""
    model = SentenceTransformer(resolve_model(BASE).location, config_kwargs=NO_DROPOUT)
    model.max_seq_length = TOKENS
    return model


def columns_for(config, rows):
    """Only what the loss takes: a label for distillation alone, and no more negatives than it allows."""
    about = LOSSES[config.loss]
    negatives = [name for name in rows.column_names if name.startswith("negative")][: about.most_negatives]
    return rows.select_columns(["query", "positive", *negatives, *(["label"] if about.needs == "scores" else [])])


def dev_loss(loss, model, rows):
    """Mean over batches in the rows' own order; the last, if smaller, is left out."""
    found = []
    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16):
        for batch in rows.iter(BATCH, drop_last_batch=True):
            labels = torch.tensor(batch.pop("label", [0.0]), device=model.device)
            features = [batch_to_device(model.preprocess(texts), model.device) for texts in batch.values()]
            found.append(loss(features, labels).item())
    return mean(found)


def ndcg_at_10(model, data, sizes):
    """Of the held-out queries, at full size (`ndcg`) and cut to others."""
    found = {}
    for size in (None, *sizes):
        searched = InformationRetrievalEvaluator(
            data.queries, data.passages, data.relevant, ndcg_at_k=[10], truncate_dim=size, batch_size=64,
            write_csv=False, score_functions={"cosine": model.similarity},
        )  # fmt: skip
        with torch.autocast(model.device.type, torch.bfloat16):
            found[str(size or "ndcg")] = searched(model)["cosine_ndcg@10"]
    return found


def run(line, seed, data, options):
    """One training, by the library's trainer as a user would call it, with its figures."""
    loss_name, loss_options = LINES[line]
    given = {"dataset": "d", "kind": "k", "base": BASE, "loss": loss_name, "loss_options": loss_options}
    config = decode_config(given, TrainRecipe, "bench")
    set_seed(seed)
    model = student()
    loss, dev = losses.make(config, model, data.train), columns_for(config, data.dev)
    before = dev_loss(loss, model, dev)
    with TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder, max_steps=options.steps, per_device_train_batch_size=BATCH, learning_rate=2e-5,
            warmup_steps=0.1, bf16=True, seed=seed, batch_sampler=BatchSamplers.NO_DUPLICATES, save_strategy="no",
            report_to="none", disable_tqdm=True, logging_strategy="no", use_cpu=not torch.accelerator.is_available(),
        )  # fmt: skip
        rows = columns_for(config, data.train)
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss)
        started = time.perf_counter()
        trainer.train()
    speed = options.steps * BATCH / (time.perf_counter() - started)
    scores = ndcg_at_10(model, data, config.loss_options.matryoshka)
    return {"before": before, "after": dev_loss(loss, model, dev), "rows_per_s": speed, **scores}


def kept(file, make):
    """A result that lies in a file, or is made and put there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(make()))
        partial.replace(file)
    return json.loads(file.read_text())


def spread(values):
    """Mean, and the standard deviation over seeds where there are several."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def print_table(folder, base):
    """All that was measured so far with these settings."""
    print("| loss | seeds | dev loss before | after | dev nDCG@10 | rows/s |\n|---|---:|---:|---:|---:|---:|")
    print(f"| untouched base | | | | {base['ndcg']:.4f} | |")
    for line in LINES:
        found = [json.loads(file.read_text()) for file in sorted(folder.glob(f"{line.replace(' ', '-')}-seed*.json"))]
        if found:
            by = {key: [result[key] for result in found] for key in found[0]}
            cells = [spread(by[key]) for key in ("before", "after", "ndcg")]
            print(f"| {line} | {len(found)} | {' | '.join(cells)} | {mean(by['rows_per_s']):.1f} |")
            for size in map(str, LINES[line][1].get("matryoshka", ())):
                print(f"| - cut to {size}: {spread(by[size])}; so cut, the base: {base[size]:.4f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="outputs/bench-losses/dataset")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--losses", default=",".join(LINES), help="lines of the table; default: all")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench-losses/runs"))
    options = parser.parse_args()
    source = resolve(options.dataset, None)
    data = read_data(source)
    folder = options.out / f"{options.steps}-{source.revision[-12:]}"
    print(f"{len(data.train)} rows, {len(data.dev)} queries held out, {len(data.passages)} passages", file=sys.stderr)
    base = kept(folder / "base.json", lambda: ndcg_at_10(student(), data, SIZES))
    for seed in map(int, options.seeds.split(",")):
        for line in options.losses.split(","):
            file = folder / f"{line.replace(' ', '-')}-seed{seed}.json"
            result = kept(file, lambda line=line, seed=seed: run(line, seed, data, options))
            print(f"{line}, seed {seed}: {result}", file=sys.stderr, flush=True)
    print_table(folder, base)
