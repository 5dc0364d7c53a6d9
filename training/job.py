"""One training: what is asked for, and the trainer that is made of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, DatasetDict

from foils.models import ModelReference
from foils.records import Seen
from training.recipe import TrainRecipe
from training.rows.mixture import Training


class Job(NamedTuple):
    """One model to train.

    Attributes:
        config: the recipe, of one seed.
        training: the rows.
        base: the model to start from.
        seen: evaluation sets that data and base have seen; None where it was not looked up.
        folder: what the run writes to until it is done.
        out: the finished model's folder.
    """

    config: TrainRecipe
    training: Training
    base: ModelReference
    seen: Seen | None
    folder: Path
    out: Path


class Ready(NamedTuple):
    """A job whose trainer is about to start.

    Attributes:
        job: what is asked for.
        trainer: with its model, rows and arguments.
        prompts: column -> what the trainer puts before its texts.
        originals: for a cross-encoder, the rows (query, positive, negatives) that its pairs were made of.
        max_seq_length: of the saved model, where training reads less of a text than its base does.
    """

    job: Job
    trainer: Any
    prompts: Mapping[str, str] = {}
    originals: Dataset | DatasetDict | None = None
    max_seq_length: int | None = None
