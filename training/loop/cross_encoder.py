"""A cross-encoder on the same rows: each query with its positive is a 1, with each of its negatives a 0."""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value, concatenate_datasets
from sentence_transformers.cross_encoder import CrossEncoderTrainer
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from training.job import Job, Ready
from training.loop.trainer import arguments_of, evaluator, parted, prepare
from training.model.base import load_cross_encoder
from training.preflight.tokens import positions_of

DEFAULT_MAX_LENGTH = 256
PAIRS = Features({"query": Value("string"), "passage": Value("string"), "label": Value("float32")})


def make(job: Job) -> Ready:
    """Makes a trainer for the rows' pairs; takes the same recipe as a retriever."""
    config = job.config
    rows, held_out = parted(job)
    arguments = arguments_of(job)
    model = load_cross_encoder(job.base.location, config.max_seq_length or DEFAULT_MAX_LENGTH, config.attention)
    if config.max_seq_length is None:
        model.max_seq_length = min(model.max_seq_length, positions_of(model) or DEFAULT_MAX_LENGTH)
    prepare(model, config)
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=labelled_pairs(rows),
        eval_dataset=None if held_out is None else labelled_pairs(held_out),
        loss=BinaryCrossEntropyLoss(model),
        evaluator=evaluator(job, rows, held_out, arguments),
    )
    return Ready(job, trainer, originals=rows)


def labelled_pairs(rows: Dataset | DatasetDict) -> Dataset:
    """`query`, `passage`, `label` rows, positives (1.0) and negatives (0.0) of a query one after the other.

    They are made batch by batch, and kept in a file where the rows are read from one.
    """
    if isinstance(rows, DatasetDict):
        return concatenate_datasets([labelled_pairs(each) for each in rows.values()])
    return rows.map(_pairs, batched=True, remove_columns=rows.column_names, features=PAIRS)


def _pairs(batch: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    passages = [column for column in batch if column != "query"]
    count = len(batch["query"])
    return {
        "query": [query for query in batch["query"] for _ in passages],
        "passage": [batch[column][row] for row in range(count) for column in passages],
        "label": [float(column == "positive") for _ in range(count) for column in passages],
    }
