"""The corpus: read from where it lies, cleaned with a reason for each drop, and sampled.

corpus = load(config)
seeds = sample(corpus.passages, config.sample, seed)

Passages stream: a batch of them is in memory, and of each earlier one its id and 32 bytes. What is kept, and what is
dropped, goes to temporary files, which are mapped back.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from builders import schema
from builders.corpus.sources import BATCH_ROWS, CorpusConfig, Rows, open_source
from builders.hashing import FirstSeen, hashed, keyed_hashes
from builders.language import SAMPLED, language_of
from builders.passages import Passages, take
from builders.spool import Spool, spooled
from foils.errors import UserError
from foils.provenance import row_bytes
from foils.texts import normalised, passage_text

MIN_PASSAGES = 2
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
    """

    passages: pa.Table
    drops: pa.Table
    source: str
    revision: str
    sha256: str
    license: str | None = None
    language: str = "en"


def load(config: CorpusConfig) -> Corpus:
    """Reads and cleans the corpus that a recipe names.

    Raises:
        UserError: the source is missing or malformed, a column is missing, ids repeat, or fewer than two passages
            are left, or there is no such language.
    """
    source = open_source(config)
    bar = tqdm(
        source.batches, "corpus", unit=" passages", unit_scale=BATCH_ROWS, leave=False, disable=None, delay=BAR_AFTER_S
    )
    passages, drops, sha256 = clean(bar, config)
    if passages.num_rows < MIN_PASSAGES:
        raise UserError(
            f"corpus {config.source}: {passages.num_rows} passage left of {passages.num_rows + drops.num_rows}; "
            f"at least {MIN_PASSAGES} are needed, so that a query can have a negative; check min_chars and max_chars"
        )
    # A path means nothing to a reader of the card elsewhere; the content hash does.
    name = config.source if source.revision else Path(config.source).resolve().name
    language = language_of(Passages(sample(passages, SAMPLED, 0)), config.language)
    return Corpus(passages, drops, name, source.revision or f"sha256:{sha256}", sha256, source.license, language)


def clean(batches: Iterable[Rows], config: CorpusConfig) -> tuple[pa.Table, pa.Table, str]:
    """Drops empty, short, over-long and repeated passages, each with its reason.

    A passage is its title and its text, as models read it. Two are the same when they are once `normalised`; the first
    stays.

    Returns:
        What is kept (`schema.CORPUS`), what is dropped (`schema.DROPS`), and the SHA-256 of what is kept.

    Raises:
        UserError: an id occurs twice.
    """
    kept, dropped, digest = Spool(schema.CORPUS), Spool(schema.DROPS), hashlib.sha256()
    ids_seen, texts_seen = FirstSeen(), FirstSeen()
    usable_ids = [pa.array([], pa.string())]  # of passages that may have repeats
    for rows in batches:
        again, _ = ids_seen.repeats(hashed(rows.ids))
        if len(again):
            raise UserError(f"corpus {config.source}: id {rows.ids[again[0]]!r} occurs twice; ids must be unique")
        titles, texts = [title.strip() for title in rows.titles], [text.strip() for text in rows.texts]
        same = list(map(normalised, map(passage_text, titles, texts)))
        chars = (len(text or title) if key else 0 for text, title, key in zip(texts, titles, same, strict=True))
        drops = {at: reason for at, number in enumerate(chars) if (reason := _unfit(number, config))}
        usable = [at for at in range(len(same)) if at not in drops]
        usable_ids.append(pa.array([rows.ids[at] for at in usable], pa.string()))
        again, firsts = texts_seen.repeats(hashed(same[at] for at in usable))
        originals = take(pa.chunked_array(usable_ids), firsts).to_pylist()
        drops |= {usable[at]: (DUPLICATE, SAME_TEXT + first) for at, first in zip(again, originals, strict=True)}
        columns = [[column[at] for at in usable if at not in drops] for column in (rows.ids, titles, texts)]
        digest.update(b"".join(map(row_bytes, zip(*columns, strict=True))))
        kept.add(*columns)
        lost = sorted(drops)
        reasons, details = ([drops[at][part] for at in lost] for part in range(2))
        dropped.add(["corpus"] * len(lost), [rows.ids[at] for at in lost], reasons, details)
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
    batches = rows.to_batches()
    masks = np.split(chosen, np.cumsum([batch.num_rows for batch in batches])[:-1])
    return spooled(rows.schema, (batch.filter(pa.array(mask)) for batch, mask in zip(batches, masks, strict=True)))


def drops_table(stage: str, drops: Iterable[tuple[str, str, str]]) -> pa.Table:
    """`(id, reason, detail)` rows as `schema.DROPS`."""
    return pa.Table.from_pylist(
        [{"stage": stage, "id": row_id, "reason": reason, "detail": detail} for row_id, reason, detail in drops],
        schema.DROPS,
    )
