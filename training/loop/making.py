"""Makes the trainer of a job, with its model, rows and arguments.

An embedding model is trained with in-batch negatives and the rows' hard negatives. A cross-encoder takes the same rows:
each query with its positive is a 1, with each of its negatives a 0.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset, DatasetDict, Features, Value, concatenate_datasets
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.losses.merged_forward import column_merging_disabled
from sentence_transformers.cross_encoder import CrossEncoderTrainer
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer.modules import Router
from transformers import TrainingArguments, set_seed

from foils.errors import UserError
from foils.models import ModelReference
from foils.records import Seen
from training.loop import dev
from training.loop.arguments import training_arguments
from training.loop.checkpoints import CHECKPOINTS
from training.losses import table as losses
from training.model import lora
from training.model.base import load_cross_encoder, load_retriever, prompts_of, read_at_most
from training.preflight.tokens import positions_of
from training.recipe import TrainRecipe
from training.rows.hold_out import hold_out
from training.rows.mixture import Training

DEFAULT_MAX_LENGTH = 256
PAIRS = Features({"query": Value("string"), "passage": Value("string"), "label": Value("float32")})


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


class Trainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer, without its padding of passages to those of other columns on a CPU.

    It puts a batch's positives and negatives into one forward pass, each text padded to the longest of all. That keeps
    a GPU busy; a CPU is busy anyway, and computes the padding.
    """

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the loss of one batch."""
        with column_merging_disabled() if self.args.use_cpu else nullcontext():
            return super().compute_loss(*args, **kwargs)


def make(job: Job) -> Ready:
    """Makes the trainer that the job's task wants.

    Raises:
        UserError: rows, base or arguments are not as they must be.
    """
    rows, held_out = hold_out(job.training.rows, job.config.dev, job.training.groups)
    set_seed(job.config.seed)  # before the model is made: a cross-encoder's head starts from random weights
    return (_cross_encoder if job.config.task == "cross-encoder" else _retriever)(job, rows, held_out)


def _retriever(job: Job, rows: Any, held_out: Dataset | None) -> Ready:
    config, training = job.config, job.training
    model = load_retriever(job.base.location, config.attention, config.pooling)
    model.prompts = prompts_of(model, config.query_prompt, config.passage_prompt)
    columns = dict.fromkeys(name for names in training.columns.values() for name in names if name != "label")
    roles = {name: "query" if name == "query" else "document" for name in columns}
    prompts = {name: model.prompts[role] for name, role in roles.items()}
    more = training.arguments | ({"prompts": prompts} if any(prompts.values()) else {})
    if any(isinstance(module, Router) for module in model) and "router_mapping" not in config.trainer:
        more["router_mapping"] = roles  # the base reads queries and passages by different modules
        more["ddp_static_graph"] = True  # or each forward pass would take the other's modules for unused
    arguments = training_arguments(config, job.folder / CHECKPOINTS, job.out, more)
    own_length = model.max_seq_length if config.max_seq_length is not None else None
    read_at_most(model, config.max_seq_length)
    _prepare(model, config)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=held_out,
        loss=losses.make(config, model, training.main()),
        evaluator=_evaluator(job, rows, held_out, arguments),
    )
    return Ready(job, trainer, prompts, max_seq_length=own_length)


def _cross_encoder(job: Job, rows: Any, held_out: Dataset | None) -> Ready:
    config = job.config
    arguments = training_arguments(config, job.folder / CHECKPOINTS, job.out)
    model = load_cross_encoder(job.base.location, config.max_seq_length or DEFAULT_MAX_LENGTH, config.attention)
    if config.max_seq_length is None:
        model.max_seq_length = min(model.max_seq_length, positions_of(model) or DEFAULT_MAX_LENGTH)
    _prepare(model, config)
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=labelled_pairs(rows),
        eval_dataset=None if held_out is None else labelled_pairs(held_out),
        loss=BinaryCrossEntropyLoss(model),
        evaluator=_evaluator(job, rows, held_out, arguments),
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


def _evaluator(job: Job, rows: Any, held_out: Dataset | None, arguments: TrainingArguments) -> dev.DevEvaluator | None:
    """Makes the evaluator for the held-out queries."""
    if held_out is None:
        return None
    lower = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None
    if arguments.world_size > 1:
        lower = None  # autocast would reach the first process only
    queries = dev.dev_set(held_out, rows, job.config.dev)
    return dev.DevEvaluator(queries, job.config.task, job.config.dev, arguments.per_device_eval_batch_size, lower)


def _prepare(model: Any, config: TrainRecipe) -> None:
    """Makes a loaded base ready to be trained as the recipe says: adapters, dropout.

    Raises:
        UserError: adapters cannot be put on it, or it has no weights that `[trainer]` names.
    """
    for pattern in config.trainer.get("learning_rate_mapping") or {}:
        if not any(re.search(pattern, name) for name, _ in model.named_parameters()):
            raise UserError(
                f"recipe: trainer.learning_rate_mapping: no weight of the base has {pattern!r} in its name; one is "
                f"{next(model.named_parameters())[0]!r}"
            )
    if config.dropout is not None:
        set_dropout(model, config.dropout)  # the adapters have one of their own
    if config.lora is not None:
        lora.wrap(model, config.lora)


def set_dropout(model: torch.nn.Module, probability: float) -> None:
    """Sets every dropout of a model: its layers, and the rates that attention is called with.

    The model's saved configuration keeps its base's values.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, probability)
