"""An embedding model, trained with in-batch negatives and the data set's hard negatives."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.losses.merged_forward import column_merging_disabled
from sentence_transformers.losses import MultipleNegativesRankingLoss

from cards.models import ModelReference
from training.arguments import training_arguments
from training.base import load_retriever, prompts_of, read_at_most
from training.mixture import Training
from training.recipe import TrainRecipe
from training.trainer import fit, prepare, save

# van den Oord et al., arXiv 1807.03748; with hard negatives as in arXiv 2004.04906.
LOSSES = {"multiple-negatives-ranking": MultipleNegativesRankingLoss}


class Trainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer, without its padding of queries to the length of passages on a CPU.

    It puts all columns of a batch into one forward pass, each text padded to the longest of all. That keeps a GPU busy;
    a CPU is busy anyway, and computes the padding.
    """

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss of one batch."""
        with column_merging_disabled() if self.args.use_cpu else nullcontext():
            return super().compute_loss(*args, **kwargs)


def train(training: Training, base: ModelReference, config: TrainRecipe, folder: Path) -> dict[str, Any]:
    """Trains on `query`, `positive`, `negative_1` ... and saves the model in `folder`.

    Returns:
        The run record's `training`, see `training.trainer.fit`.

    Raises:
        UserError: the base cannot be loaded as the recipe asks, or `[trainer]` holds an argument that
            sentence-transformers does not know or refuses.
    """
    model = load_retriever(base.location, config.attention, config.pooling)
    model.prompts = prompts_of(model, config.query_prompt, config.passage_prompt)
    columns = dict.fromkeys(column for columns in training.columns.values() for column in columns)
    prompts = {column: model.prompts["query" if column == "query" else "document"] for column in columns}
    arguments = training_arguments(
        SentenceTransformerTrainingArguments,
        config,
        folder,
        training.size,
        **training.arguments,
        **({"prompts": prompts} if any(prompts.values()) else {}),
    )
    own_length = model.max_seq_length
    read_at_most(model, config.max_seq_length)
    prepare(model, config)
    trainer = Trainer(model=model, args=arguments, train_dataset=training.rows, loss=LOSSES[config.loss](model))
    outcome = fit(trainer, config, folder)
    # A shorter length saves time in training; the saved model reads what its base reads, or they could not be compared.
    if config.max_seq_length is not None:
        model.max_seq_length = own_length
    save(trainer, config, folder)
    return outcome
