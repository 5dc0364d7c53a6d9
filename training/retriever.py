"""An embedding model, trained with in-batch negatives and the data set's hard negatives."""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.losses.merged_forward import column_merging_disabled
from sentence_transformers.sentence_transformer.modules import Router

from training import losses, preflight
from training.arguments import training_arguments
from training.base import load_retriever, prompts_of, read_at_most
from training.losses import LOSSES
from training.trainer import Job, Made, evaluator, parted, prepare


class Trainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer, without its padding of passages to those of other columns on a CPU.

    It puts a batch's positives and negatives into one forward pass, each text padded to the longest of all. That keeps
    a GPU busy; a CPU is busy anyway, and computes the padding.
    """

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss of one batch."""
        with column_merging_disabled() if self.args.use_cpu else nullcontext():
            return super().compute_loss(*args, **kwargs)


def routes(model: Any, columns: Iterable[str]) -> dict[str, Any]:
    """The trainer's argument for a base that reads queries and passages by different modules."""
    if not isinstance(model[0], Router):
        return {}
    return {"router_mapping": {name: "query" if name == "query" else "document" for name in columns if name != "label"}}


def make(job: Job) -> Made:
    """A trainer for `query`, `positive`, `negative_1` ...

    Raises:
        UserError: the base cannot be loaded as the recipe asks, the data has too few queries to hold some out, or
            `[trainer]` holds an argument that sentence-transformers does not know or refuses.
    """
    config, training, base, about = job.config, job.training, job.base, LOSSES[job.config.loss]
    parts = parted(job)
    model = load_retriever(base.location, config.attention, config.pooling)
    model.prompts = prompts_of(model, config.query_prompt, config.passage_prompt)
    columns = dict.fromkeys(column for columns in training.columns.values() for column in columns)
    prompts = {
        column: model.prompts["query" if column == "query" else "document"] for column in columns if column != "label"
    }
    given = training.arguments | ({"prompts": prompts} if any(prompts.values()) else {})
    if "router_mapping" not in config.trainer:
        given |= routes(model, columns)
    arguments = training_arguments(SentenceTransformerTrainingArguments, job, parts.size, **given)
    own_length = model.max_seq_length if config.max_seq_length is not None else None
    read_at_most(model, config.max_seq_length)
    prepare(model, config)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=parts.rows,
        eval_dataset=parts.held_out,
        loss=losses.make(config, model, job.training.some()),
        evaluator=evaluator(job, parts, arguments),
    )
    asked = preflight.Asked(
        parts.rows,
        model,
        arguments,
        prompts,
        preflight.Loss(config.loss, about.in_batch, losses.mini_batch_of(config)),
        base.name,
        job.out,
        job.seen,
        timed_checkpoints=arguments.save_strategy == "no" and config.checkpoint_minutes > 0,
    )
    return Made(trainer, asked, own_length)
