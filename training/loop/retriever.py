"""An embedding model, trained with in-batch negatives and the data set's hard negatives."""

from contextlib import nullcontext
from typing import Any

from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.losses.merged_forward import column_merging_disabled
from sentence_transformers.sentence_transformer.modules import Router

from training.job import Job, Ready
from training.loop.trainer import arguments_of, evaluator, parted, prepare
from training.losses import table as losses
from training.model.base import load_retriever, prompts_of, read_at_most


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
    """Makes a trainer for `query`, `positive`, `negative_1` ..."""
    config, training = job.config, job.training
    rows, held_out = parted(job)
    model = load_retriever(job.base.location, config.attention, config.pooling)
    model.prompts = prompts_of(model, config.query_prompt, config.passage_prompt)
    columns = dict.fromkeys(name for names in training.columns.values() for name in names if name != "label")
    roles = {name: "query" if name == "query" else "document" for name in columns}
    prompts = {name: model.prompts[role] for name, role in roles.items()}
    more = training.arguments | ({"prompts": prompts} if any(prompts.values()) else {})
    if any(isinstance(module, Router) for module in model) and "router_mapping" not in config.trainer:
        more["router_mapping"] = roles  # the base reads queries and passages by different modules
        more["ddp_static_graph"] = True  # or each forward pass would take the other's modules for unused
    arguments = arguments_of(job, more)
    own_length = model.max_seq_length if config.max_seq_length is not None else None
    read_at_most(model, config.max_seq_length)
    prepare(model, config)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=held_out,
        loss=losses.make(config, model, training.main()),
        evaluator=evaluator(job, rows, held_out, arguments),
    )
    return Ready(job, trainer, prompts, max_seq_length=own_length)
