"""A cross-encoder on the same rows: each query with its positive is a 1, with each of its negatives a 0."""

from datasets import Dataset, DatasetDict, Features, Value, concatenate_datasets
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from training import preflight
from training.arguments import training_arguments
from training.base import load_cross_encoder
from training.trainer import Job, Made, evaluator, parted, prepare

DEFAULT_MAX_LENGTH = 256
PAIRS = Features({"query": Value("string"), "passage": Value("string"), "label": Value("float32")})


def make(job: Job) -> Made:
    """A trainer for the rows' pairs; takes the same recipe as a retriever.

    Raises:
        UserError: the base cannot be loaded as the recipe asks, the data has too few queries to hold some out, or
            `[trainer]` holds an argument that sentence-transformers does not know or refuses.
    """
    config = job.config
    parts = parted(job)
    pairs = labelled_pairs(parts.rows)
    arguments = training_arguments(CrossEncoderTrainingArguments, job, len(pairs))
    model = load_cross_encoder(job.base.location, config.max_seq_length or DEFAULT_MAX_LENGTH, config.attention)
    prepare(model, config)
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=pairs,
        eval_dataset=None if parts.held_out is None else labelled_pairs(parts.held_out),
        loss=BinaryCrossEntropyLoss(model),
        evaluator=evaluator(job, parts, arguments),
    )
    asked = preflight.Asked(
        pairs,
        model,
        arguments,
        {},
        preflight.Loss("binary-cross-entropy", in_batch_negatives=False),
        job.base.name,
        job.out,
        job.seen,
        originals=parts.rows,
        timed_checkpoints=arguments.save_strategy == "no" and config.checkpoint_minutes > 0,
    )
    return Made(trainer, asked)


def labelled_pairs(rows: Dataset | DatasetDict) -> Dataset:
    """`query`, `passage`, `label` rows, positives (1.0) and negatives (0.0) of a query one after the other."""
    if isinstance(rows, DatasetDict):
        return concatenate_datasets([labelled_pairs(each) for each in rows.values()])
    passages = [column for column in rows.column_names if column != "query"]
    return Dataset.from_list(
        [
            {"query": row["query"], "passage": row[column], "label": float(column == "positive")}
            for row in rows
            for column in passages
        ],
        features=PAIRS,
    )
