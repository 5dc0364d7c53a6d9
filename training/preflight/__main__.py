"""Pre-flight by itself: the table and the problems of a recipe's training, without training.

    python -m training.preflight RECIPE [--set key=value ...] [--out DIR]

Ends with 0, or with 2 and the problems, as training would.
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset
from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainingArguments,
)

from cards.errors import run_entry
from cards.models import ModelReference, resolve_model
from cards.recipe import load_recipe, recipe_arguments
from training import preflight
from training.cross_encoder import DEFAULT_MAX_LENGTH, labelled_pairs
from training.data import load_rows, resolve
from training.recipe import TrainRecipe
from training.seen import Seen, seen_by
from training.trainer import training_arguments


def main(config: TrainRecipe, out: Path) -> None:
    """Prints the table of a recipe's training.

    Raises:
        UserError: training would be refused.
    """
    PartialState(cpu=not torch.accelerator.is_available())
    source, base = resolve(config.dataset, config.revision), resolve_model(config.base)
    preflight.check_base(base, config.task)
    rows, seen = load_rows(source, config.kind), seen_by(source, base)
    asked = (_retriever if config.task == "retriever" else _cross_encoder)(rows, base, config, out, seen)
    report = preflight.examine(asked)
    print(preflight.table(report))
    preflight.refuse(report, config.allow)


def _retriever(rows: Dataset, base: ModelReference, config: TrainRecipe, out: Path, seen: Seen) -> preflight.Asked:
    prompts = {column: config.query_prompt if column == "query" else config.passage_prompt for column in rows.features}
    arguments = training_arguments(SentenceTransformerTrainingArguments, config, out, len(rows))
    model = SentenceTransformer(base.location)
    if config.max_seq_length is not None:
        model.max_seq_length = config.max_seq_length
    loss = preflight.Loss(config.loss, in_batch_negatives=True)
    return preflight.Asked(rows, model, arguments, prompts, loss, base.name, out, seen)


def _cross_encoder(rows: Dataset, base: ModelReference, config: TrainRecipe, out: Path, seen: Seen) -> preflight.Asked:
    pairs = labelled_pairs(rows)
    arguments = training_arguments(CrossEncoderTrainingArguments, config, out, len(pairs))
    model = CrossEncoder(base.location, num_labels=1, max_length=config.max_seq_length or DEFAULT_MAX_LENGTH)
    loss = preflight.Loss("binary-cross-entropy", in_batch_negatives=False)
    return preflight.Asked(pairs, model, arguments, {}, loss, base.name, out, seen, originals=rows)


def _entry() -> None:
    parser = recipe_arguments(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("outputs"), help="where the model would go, for the disk's sake"
    )
    options = parser.parse_args()
    main(load_recipe(options.recipe, options.overrides, TrainRecipe).config, options.out)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
