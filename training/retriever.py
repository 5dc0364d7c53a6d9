"""An embedding model, trained with in-batch negatives and the data set's hard negatives."""

from pathlib import Path
from typing import Any

from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss

from cards.models import ModelReference
from training.mixture import Training
from training.recipe import TrainRecipe
from training.trainer import save, training_arguments

# van den Oord et al., arXiv 1807.03748; with hard negatives as in arXiv 2004.04906.
LOSSES = {"multiple-negatives-ranking": MultipleNegativesRankingLoss}


def train(training: Training, base: ModelReference, config: TrainRecipe, folder: Path) -> dict[str, Any]:
    """Trains on `query`, `positive`, `negative_1` ... and saves the model in `folder`.

    Returns:
        Steps, batch size and mean loss, for the run record.

    Raises:
        UserError: `[trainer]` holds an argument that sentence-transformers does not know or refuses.
    """
    columns = dict.fromkeys(column for columns in training.columns.values() for column in columns)
    prompts = {column: config.query_prompt if column == "query" else config.passage_prompt for column in columns}
    arguments = training_arguments(
        SentenceTransformerTrainingArguments,
        config,
        folder,
        training.size,
        **training.arguments,
        **({"prompts": prompts} if any(prompts.values()) else {}),
    )
    model = SentenceTransformer(base.location)
    own_length = model.max_seq_length
    if config.max_seq_length is not None:
        model.max_seq_length = config.max_seq_length
    if any(prompts.values()):
        model.prompts = {"query": config.query_prompt, "document": config.passage_prompt}
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=training.rows, loss=LOSSES[config.loss](model)
    )
    outcome = trainer.train()
    # A shorter length saves time in training; the saved model reads what its base reads, or they could not be compared.
    model.max_seq_length = own_length
    return save(trainer, outcome, folder)
