"""A cross-encoder on the same rows: each query with its positive is a 1, with each of its negatives a 0."""

from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value, concatenate_datasets
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from cards.models import ModelReference
from training.arguments import training_arguments
from training.base import load_cross_encoder
from training.mixture import Training
from training.recipe import TrainRecipe
from training.trainer import fit, prepare, save

DEFAULT_MAX_LENGTH = 256
PAIRS = Features({"query": Value("string"), "passage": Value("string"), "label": Value("float32")})


def train(training: Training, base: ModelReference, config: TrainRecipe, folder: Path) -> dict[str, Any]:
    """Trains on the rows' pairs and saves the model in `folder`; takes the same recipe as a retriever.

    Returns:
        The run record's `training`, see `training.trainer.fit`.
    """
    pairs = concatenate_datasets(
        [labelled_pairs(rows) for rows in (training.rows.values() if len(training.sources) > 1 else [training.rows])]
    )
    arguments = training_arguments(CrossEncoderTrainingArguments, config, folder, len(pairs))
    model = load_cross_encoder(base.location, config.max_seq_length or DEFAULT_MAX_LENGTH, config.attention)
    prepare(model, config)
    trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=pairs, loss=BinaryCrossEntropyLoss(model))
    outcome = fit(trainer, config, folder)
    save(trainer, config, folder)
    return outcome


def labelled_pairs(rows: Dataset) -> Dataset:
    """`query`, `passage`, `label` rows, positives (1.0) and negatives (0.0) of a query one after the other."""
    passages = [column for column in rows.column_names if column != "query"]
    return Dataset.from_list(
        [
            {"query": row["query"], "passage": row[column], "label": float(column == "positive")}
            for row in rows
            for column in passages
        ],
        features=PAIRS,
    )
