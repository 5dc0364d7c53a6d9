"""An embedding model, trained with in-batch negatives and the data set's hard negatives."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import (
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss

from cards.models import ModelReference
from training.base import load_retriever, prompts_of, read_at_most
from training.recipe import TrainRecipe
from training.trainer import save, training_arguments

# van den Oord et al., arXiv 1807.03748; with hard negatives as in arXiv 2004.04906.
LOSSES = {"multiple-negatives-ranking": MultipleNegativesRankingLoss}


def train(rows: Dataset, base: ModelReference, config: TrainRecipe, folder: Path) -> dict[str, Any]:
    """Trains on `query`, `positive`, `negative_1` ... and saves the model in `folder`.

    Returns:
        Steps, batch size and mean loss, for the run record.

    Raises:
        UserError: `[trainer]` holds an argument that sentence-transformers does not know or refuses.
    """
    model = load_retriever(base.location, config.attention, config.pooling)
    model.prompts = prompts_of(model, config.query_prompt, config.passage_prompt)
    prompts = {column: model.prompts["query" if column == "query" else "document"] for column in rows.features}
    arguments = training_arguments(
        SentenceTransformerTrainingArguments,
        config,
        folder,
        len(rows),
        **({"prompts": prompts} if any(prompts.values()) else {}),
    )
    own_length = model.max_seq_length
    read_at_most(model, config.max_seq_length)
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=rows, loss=LOSSES[config.loss](model)
    )
    outcome = trainer.train()
    # A shorter length saves time in training; the saved model reads what its base reads, or they could not be compared.
    if config.max_seq_length is not None:
        model.max_seq_length = own_length
    return save(trainer, outcome, folder)
