"""The gate: whether a classifier recognises what an LLM wrote, before anything is trained on it.

Whatever the classifier goes by, a retriever can learn in place of relevance (CausalNeg, arXiv 2606.01304).
"""

import logging
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta, Struct

from builders.corpus import drops_table, sample
from builders.negatives import Mined
from builders.passages import Passages
from builders.realism.gaps import lengths
from builders.realism.separability import Sides, by_words, joined, out_of_folds, telling_words
from foils.errors import UserError
from foils.texts import normalised
from foils.words import listed

logger = logging.getLogger(__name__)

SAMPLED = 2000
"""Written negatives that the figures are taken from."""
MOST_LIKE = 95
"""A negative is dropped if it looks more like the others than this share of the passages does, in percent."""
SHOWN = 5


class GateConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What follows where a classifier recognises written negatives among passages.

    Attributes:
        above: it does, if the 95 % interval of the area under its ROC curve is above this; 0.5 is chance, 1 no error.
        then: `warn`; `stop` the build; or `drop` the negatives that look more written than 95 % of the passages.
    """

    above: Annotated[float, Meta(ge=0.5, le=1)] = 0.9
    then: Literal["warn", "stop", "drop"] = "warn"


def gated(kind: str, found: Mined, queries: pa.Table, corpus: Passages, config: GateConfig) -> Mined:
    """Measures how well a kind's negatives are recognised beside passages, and says or does what follows.

    Args:
        kind: names it in messages and drops.
        found: written negatives.
        queries: `queries.TABLE`.
        corpus: the passages.
        config: the recipe's.

    Returns:
        The same with `separability` in its record, and without what is dropped.

    Raises:
        UserError: they are recognised, and the recipe stops there; or none is left.
    """
    sides = _sides(sample(found.generated, SAMPLED, 0), queries, corpus)
    area = by_words(sides, 0)
    if area is None:
        return found
    words = {side: [each["word"] for each in some[:SHOWN]] for side, some in telling_words(sides).items()}
    texts = {name: [sides.texts[n] for n in np.flatnonzero(mask)] for name, mask in sides.masks().items()}
    medians = {name: lengths(some)["median"] for name, some in texts.items()}
    found = found._replace(record={**found.record, "separability": {**area, "telling": words, "words": medians}})
    if area["low"] <= config.above:
        return found
    said = (
        f"{kind}: a classifier recognises its negatives (area {area['auc']:.3f}, at least {area['low']:.3f}): "
        f"{medians['generated']} words against {medians['corpus']}, and {_quoted(words['generated'])} against "
        f"{_quoted(words['corpus'])}; take another prompt, length, style or LLM, lower the kind's share in a mix "
        "(negatives.shares)"
    )
    if config.then == "stop":
        raise UserError(f'{said}, or set negatives.gate.then = "warn"')
    logger.warning("%s%s", said, "" if config.then == "drop" else ', or set negatives.gate.then = "drop"')
    return _without_telling(kind, found, _sides(found.generated, queries, corpus)) if config.then == "drop" else found


def _sides(written: pa.Table, queries: pa.Table, corpus: Passages) -> Sides:
    """Negatives and the passages of their queries; these without titles where the negatives have none."""
    asked = queries.filter(pc.is_in(queries["_id"], value_set=pc.unique(written["query-id"])))
    groups = asked["corpus-id"].take(pc.index_in(written["query-id"], value_set=asked["_id"]))
    ids = pc.unique(asked["corpus-id"])
    at, titled = corpus.positions(ids), written["broken"].null_count < written.num_rows
    passages = corpus.texts(at) if titled else corpus.bodies(at)
    ours = zip(written["text"].to_pylist(), groups.to_pylist(), strict=True)
    return joined(ours, zip(passages.to_pylist(), ids.to_pylist(), strict=True))


def _without_telling(kind: str, found: Mined, sides: Sides) -> Mined:
    """Leaves out the negatives that a classifier, trained on others, takes for written more surely than passages.

    Raises:
        UserError: none is left.
    """
    scores, _ = out_of_folds(sides, 0) or (np.zeros(len(sides.texts)), [])
    limit = np.percentile(scores[~sides.is_ours], MOST_LIKE)
    telling = {normalised(sides.texts[place]) for place in np.flatnonzero(sides.is_ours & (scores > limit))}
    rows = found.generated.to_pylist()
    out = [(row["_id"], "recognised-as-written", row["text"]) for row in rows if normalised(row["text"]) in telling]
    kept = pa.array([row["_id"] for row in rows if normalised(row["text"]) not in telling], pa.string())
    if not len(kept):
        raise UserError(
            f"{kind}: a classifier recognises all {len(rows)} negatives as written, so that negatives.gate.then "
            '"drop" leaves none; set it to "warn", or take another prompt, length, style or LLM'
        )
    logger.warning("%s: %d of %d negatives are dropped, as a classifier recognises them", kind, len(out), len(rows))
    found.record["separability"]["dropped"] = len(out)
    return found._replace(
        generated=found.generated.filter(pc.is_in(found.generated["_id"], value_set=kept)),
        candidates=found.candidates.filter(pc.is_in(found.candidates["corpus-id"], value_set=kept)),
        drops=pa.concat_tables([found.drops, drops_table(kind, out)]),
    )


def _quoted(words: list[str]) -> str:
    return listed([f"`{word}`" for word in words]) if words else "no word of their own"
