"""The corpus: read from where it lies, cleaned with a reason for each drop, and sampled.

corpus = load(config)
seeds = sample(corpus.passages, config.sample, seed)

Passages stream: a batch of them is in memory, and of each earlier one 16 bytes. What is kept, and what is dropped, goes
to temporary files, which are mapped back. While repeats are looked for, there is a second file with all rows.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from builders import schema
from builders.corpus.cleaning import DOCUMENT, REPEATED_ID, clean
from builders.corpus.shards import clean_by_shards, shards_of
from builders.corpus.sources import CorpusConfig, open_source
from builders.hashing import keyed_hashes
from builders.language import SAMPLED, language_of
from builders.passages import Passages
from foils.engine.config import EngineConfig
from foils.errors import UserError
from foils.tables import BATCH_ROWS

logger = logging.getLogger(__name__)

MIN_PASSAGES = 2
MOST_REPEATED = 0.1
"""From what share of repeated ids on the column is refused."""
BAR = {"leave": False, "disable": None, "delay": 2}


class Corpus(NamedTuple):
    """A cleaned corpus.

    Attributes:
        passages: `schema.CORPUS`, in the source's order; mapped from disk.
        drops: `schema.DROPS`; mapped from disk.
        source: what the recipe called it.
        revision: the Hub commit, the interpreter's version, or `sha256:...` of the passages that are kept.
        sha256: of ids, titles and texts in order (hex).
        license: what the source itself says, as the Hub spells it; None where it says nothing.
        language: an ISO 639 code: the recipe's, or what the passages are written in.
        documents: the document of each passage, null where it has none; None without `group_column`.
    """

    passages: pa.Table
    drops: pa.Table
    source: str
    revision: str
    sha256: str
    license: str | None = None
    language: str = "en"
    documents: pa.ChunkedArray | None = None


def load(config: CorpusConfig, engine: EngineConfig | None = None, cache: Path = Path("outputs/cache")) -> Corpus:
    """Reads and cleans the corpus that a recipe names.

    Args:
        config: the recipe's.
        engine: cleans what is more than one shard, if it runs here.
        cache: where it does so.

    Raises:
        UserError: the source is missing or malformed, a column is missing, most ids repeat, fewer than two passages
            are left, or the language's code is unknown.
    """
    source = open_source(config)
    shards = shards_of(source.files) if engine is not None and engine.runs_here else []
    if engine is not None and len(shards) > 1:
        passages, drops, sha256 = clean_by_shards(shards, config, engine, cache)
    else:
        bar = tqdm(source.batches, "corpus", unit=" passages", unit_scale=BATCH_ROWS, **BAR)
        passages, drops, sha256 = clean(bar, config)
    repeated = drops.filter(pc.equal(drops["reason"], REPEATED_ID))
    if repeated.num_rows > MOST_REPEATED * (passages.num_rows + drops.num_rows):
        raise UserError(
            f"corpus {config.source}: {repeated.num_rows} passages have the id of an earlier one, such as "
            f"{repeated['id'][0].as_py()!r} ({repeated['detail'][0].as_py()}); ids must be unique: name another column "
            f"than {config.id_column!r} with corpus.id_column"
        )
    if passages.num_rows < MIN_PASSAGES:
        raise UserError(
            f"corpus {config.source}: {passages.num_rows} passage left of {passages.num_rows + drops.num_rows}; "
            f"at least {MIN_PASSAGES} are needed, so that a query can have a negative; check min_chars and max_chars"
        )
    # A path means nothing to a reader of the card elsewhere; the content hash does.
    name = config.source if source.revision else Path(config.source).resolve().name
    passages, documents = passages.select(schema.CORPUS.names), _documents(passages, config)
    language = language_of(Passages(sample(passages, SAMPLED, 0)), config.language)
    revision = source.revision or f"sha256:{sha256}"
    return Corpus(passages, drops, name, revision, sha256, source.license, language, documents)


def _documents(passages: pa.Table, config: CorpusConfig) -> pa.ChunkedArray | None:
    if config.group_column is None:
        return None
    found = passages[DOCUMENT.name]
    if found.null_count:
        logger.warning(
            "corpus %s: %d of %d passages have nothing in %r; an exam takes each for a document of its own",
            *(config.source, found.null_count, len(found), config.group_column),
        )
    return found


def sample(rows: pa.Table, size: int, seed: int) -> pa.Table:
    """Chooses the passages that get a query: those with the smallest keyed hash, in the corpus's order.

    Whether a passage is chosen depends on its id and the seed alone, so a growing corpus keeps most of its sample.

    Args:
        rows: `schema.CORPUS`, or anything else with an `_id`.
        size: how many; 0 = all.
        seed: any integer.
    """
    if size == 0 or size >= rows.num_rows:
        return rows
    random_keys = np.concatenate([keyed_hashes(seed, "sample", ids=ids.to_pylist()) for ids in rows["_id"].chunks])
    chosen = np.zeros(rows.num_rows, np.bool_)
    chosen[np.argsort(random_keys, kind="stable")[:size]] = True
    return rows.filter(pa.array(chosen))


def drops_table(stage: str, drops: Iterable[tuple[str, str, str]]) -> pa.Table:
    """`(id, reason, detail)` rows as `schema.DROPS`."""
    return pa.Table.from_pylist(
        [{"stage": stage, "id": row_id, "reason": reason, "detail": detail} for row_id, reason, detail in drops],
        schema.DROPS,
    )
