"""The corpus: read from where it lies, cleaned with a reason for each drop, and sampled.

corpus = load(config)
seeds = sample(corpus.passages, config.sample, seed)

Passages stream: a batch of them is in memory, and of each earlier one its id and some 200 bytes. What is kept, and what
is dropped, goes to temporary files, which are mapped back.
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from builders import schema
from builders.corpus.sources import CorpusConfig, open_source
from builders.hashing import keyed_hashes
from builders.language import SAMPLED, language_of
from builders.passages import Passages
from builders.spool import Spool
from foils.errors import UserError
from foils.provenance import row_bytes
from foils.tables import BATCH_ROWS, Rows
from foils.texts import normalised, passage_text

logger = logging.getLogger(__name__)

DOCUMENT = pa.field("document", pa.string())
MIN_PASSAGES = 2
REPEATED_ID, MOST_REPEATED = "repeated-id", 0.1
"""The reason why a passage with the id of an earlier one is dropped, and from what share on the column is refused."""
DUPLICATE, SAME_TEXT = "duplicate", "same text as "
"""The reason why a repeated passage is dropped, and what its detail says before the id of the one that stays."""
BAR_AFTER_S = 2


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


def load(config: CorpusConfig) -> Corpus:
    """Reads and cleans the corpus that a recipe names.

    Raises:
        UserError: the source is missing or malformed, a column is missing, most ids repeat, fewer than two passages
            are left, or the language's code is unknown.
    """
    source = open_source(config)
    bar = tqdm(
        source.batches, "corpus", unit=" passages", unit_scale=BATCH_ROWS, leave=False, disable=None, delay=BAR_AFTER_S
    )
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


def clean(batches: Iterable[Rows], config: CorpusConfig) -> tuple[pa.Table, pa.Table, str]:
    """Drops empty, short, over-long and repeated passages, each with its reason.

    A passage is its title and its text, as models read it. Two are the same when they are once `normalised`; the first
    stays. So does the first of one id.

    Returns:
        What is kept (`schema.CORPUS`, with `group_column` also `DOCUMENT`), what is dropped (`schema.DROPS`), and the
        SHA-256 of what is kept.
    """
    form = schema.CORPUS if config.group_column is None else schema.CORPUS.append(DOCUMENT)
    kept, dropped, digest = Spool(form), Spool(schema.DROPS), hashlib.sha256()
    ids_seen: set[str] = set()
    first_with: dict[int, str] = {}  # hash of a text -> id; that any two of a million collide has a chance of 3e-8
    for rows in batches:
        passages = []
        unit = rows.where.rpartition(": ")[2]
        for number, row_id, *texts in zip(rows.numbers, *rows.values, strict=True):
            title, text, *document = ((each or "").strip() for each in texts)
            same = "" if texts[1] is None else normalised(passage_text(title, text))
            drop = _unfit(len(text or title) if same else 0, config)
            if drop is None and row_id in ids_seen:
                drop = REPEATED_ID, f"{unit} {number}"
            elif drop is None and (first := first_with.setdefault(hash(same), row_id)) is not row_id:
                drop = DUPLICATE, SAME_TEXT + first
            if drop is None:
                ids_seen.add(row_id)
                passages.append((row_id, title, text, *(each or None for each in document)))
            else:
                dropped.row("corpus", row_id, *drop)
        digest.update(b"".join(row_bytes(each[:3]) for each in passages))
        if passages:
            kept.add(*map(list, zip(*passages, strict=True)))
    return kept.table(), dropped.table(), digest.hexdigest()


def _unfit(chars: int, config: CorpusConfig) -> tuple[str, str] | None:
    """Why a passage of this many characters is dropped: reason and detail."""
    if chars == 0:
        return "empty", ""
    if chars < config.min_chars:
        return "too-short", f"{chars} < {config.min_chars} characters"
    if chars > config.max_chars:
        return "too-long", f"{chars} > {config.max_chars} characters"
    return None


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
