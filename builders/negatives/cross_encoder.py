"""`cross-encoder`: the passages that a cross-encoder ranks highest among BM25's best."""

from typing import Annotated

import pyarrow as pa
from msgspec import Meta, Struct

from builders import schema
from builders.negatives.material import Material, Mined, ranked
from cards.errors import UserError
from cards.models import resolve_model


class CrossEncoderConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the pool is made and scored.

    Attributes:
        model: any sentence-transformers CrossEncoder: a folder or a Hub id.
        train_with: in its place, a training recipe: the build trains one on its own queries, their passages and
            BM25's negatives before it mines (see `builders/domain_ranker.py`).
        pool: BM25 hits that are scored. At most 100: on deeper pools cross-encoders start to favour passages that
            are plainly irrelevant (arXiv 2411.11767).
        depth: candidates kept per query, counted from the best.
        batch_size: pairs scored at once.
        max_length: tokens of a pair that are read.
    """

    model: str | None = None
    train_with: str | None = None
    pool: Annotated[int, Meta(ge=1, le=100)] = 100
    depth: Annotated[int, Meta(ge=1)] = 50
    batch_size: Annotated[int, Meta(ge=1)] = 32
    max_length: Annotated[int, Meta(ge=16)] = 256


def mine(queries: pa.Table, material: Material, config: CrossEncoderConfig) -> Mined:
    """Scores each query's (`queries.TABLE`) pool with the cross-encoder and ranks it by that score.

    Scores are the model's own output (for one label usually within 0 and 1), rounded to 6 digits, so that noise in
    the last bits of a sum cannot reorder passages; equal ones are in the order of ids.

    Raises:
        UserError: the model cannot be loaded or gives more than one score.
    """
    from sentence_transformers import CrossEncoder

    reference = resolve_model(config.model or "")
    model = CrossEncoder(reference.location, max_length=config.max_length)
    if model.num_labels != 1:
        raise UserError(
            f"negatives.cross-encoder.model {config.model}: gives {model.num_labels} scores per pair; wanted a model "
            "with one relevance score, such as cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    texts = queries["text"].to_pylist()
    pools = [[passage_id for passage_id, _ in hits] for hits in material.bm25.search(texts, config.pool)]
    # All queries' pairs in one call: predict() sorts them by length, so that a batch holds little padding.
    pairs = [(text, material.texts[passage_id]) for text, pool in zip(texts, pools, strict=True) for passage_id in pool]
    scores = iter(model.predict(pairs, batch_size=config.batch_size, show_progress_bar=True)) if pairs else iter(())
    rows = []
    for query_id, pool in zip(queries["_id"].to_pylist(), pools, strict=True):
        hits = [(passage_id, round(float(next(scores)), 6)) for passage_id in pool]
        hits.sort(key=lambda hit: (-hit[1], hit[0]))
        rows += ranked(query_id, hits[: config.depth])
    return Mined(pa.Table.from_pylist(rows, schema.CANDIDATES))
