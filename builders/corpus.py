"""The corpus: read from where it lies, cleaned with a reason for each drop, and sampled.

corpus = load(config)
seeds = sample(corpus.passages, config.sample, seed)

Passages stream: a batch of them is in memory, and of each one before its id and 32 bytes. What is kept, and what is
dropped, goes to temporary files, which are mapped back.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from builders import schema
from builders.first_seen import FirstSeen, hashed
from builders.passages import take
from builders.sources import CorpusConfig, Rows, Source, open_source
from builders.spool import Spool, spooled
from foils.errors import UserError
from foils.hub import licence_of
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
    """

    passages: pa.Table
    drops: pa.Table
    source: str
    revision: str
    sha256: str
    license: str | None = None


class Cleaned(NamedTuple):
    """What cleaning leaves: passages (`schema.CORPUS`), drops (`schema.DROPS`), and the passages' SHA-256."""

    passages: pa.Table
    drops: pa.Table
    sha256: str


def load(config: CorpusConfig) -> Corpus:
    """Reads and cleans the corpus that a recipe names.

    Raises:
        UserError: the source is missing or malformed, a column is missing, ids repeat, or fewer than two passages
            are left.
    """
    source = open_source(config)
    licence = config.license or _license(config, source.revision)
    passages, drops, sha256 = clean(_with_bar(source), config)
    if passages.num_rows < MIN_PASSAGES:
        raise UserError(
            f"corpus {config.source}: {passages.num_rows} passage left of {passages.num_rows + drops.num_rows}; "
            f"at least {MIN_PASSAGES} are needed, so that a query can have a negative; check min_chars and max_chars"
        )
    revision = source.revision or "sha256:" + sha256
    # A path means nothing to a reader of the card elsewhere; the content hash does.
    name = config.source if config.revision or config.source == "python-docs" else Path(config.source).resolve().name
    return Corpus(passages, drops, name, revision, sha256, licence)


def clean(batches: Iterable[Rows], config: CorpusConfig) -> Cleaned:
    """Drops empty, short, over-long and repeated passages, each with its reason.

    A passage is its title and its text, as models read it. Two are the same when they are once `normalised`; the first
    stays.

    Raises:
        UserError: an id occurs twice.
    """
    cleaning = _Cleaning(config)
    for rows in batches:
        cleaning.add(rows)
    return cleaning.done()


class _Cleaning:
    """What has to be remembered from one batch to the next."""

    def __init__(self, config: CorpusConfig) -> None:
        self._config = config
        self._kept, self._dropped = Spool(schema.CORPUS), Spool(schema.DROPS)
        self._ids, self._texts = FirstSeen(), FirstSeen()
        self._usable_ids: list[pa.Array] = [pa.array([], pa.string())]  # of passages that may have repeats
        self._rows = self._usable = 0
        self._digest = hashlib.sha256()

    def add(self, rows: Rows) -> None:
        """Cleans a batch."""
        self._check_ids(rows.ids)
        titles, texts = [title.strip() for title in rows.titles], [text.strip() for text in rows.texts]
        same = list(map(normalised, map(passage_text, titles, texts)))
        drops: dict[int, tuple[str, str]] = {}
        usable = []
        for at, text in enumerate(texts):
            reason = _unfit(len(text or titles[at]) if same[at] else 0, self._config)
            if reason is None:
                usable.append(at)
            else:
                drops[at] = reason
        drops |= self._repeats(usable, rows.ids, same)
        kept = [at for at in usable if at not in drops]
        columns = tuple([column[at] for at in kept] for column in (rows.ids, titles, texts))
        self._digest.update(b"".join(map(row_bytes, zip(*columns, strict=True))))
        self._kept.add(*columns)
        lost = sorted(drops)
        self._dropped.add(
            ["corpus"] * len(lost),
            [rows.ids[at] for at in lost],
            *([drops[at][part] for at in lost] for part in range(2)),
        )

    def done(self) -> Cleaned:
        """All that was kept and dropped."""
        return Cleaned(self._kept.table(), self._dropped.table(), self._digest.hexdigest())

    def _check_ids(self, ids: list[str]) -> None:
        firsts = self._ids.add(hashed(ids))
        again = np.flatnonzero(firsts != np.arange(self._rows, self._rows + len(ids)))
        self._rows += len(ids)
        if len(again):
            raise UserError(f"corpus {self._config.source}: id {ids[again[0]]!r} occurs twice; ids must be unique")

    def _repeats(self, usable: list[int], ids: list[str], same: list[str]) -> dict[int, tuple[str, str]]:
        """The usable rows that say what an earlier one, of this batch or one before, has said."""
        firsts = self._texts.add(hashed(same[at] for at in usable))
        self._usable_ids.append(pa.array([ids[at] for at in usable], pa.string()))
        again = np.flatnonzero(firsts != np.arange(self._usable, self._usable + len(usable)))
        self._usable += len(usable)
        if not len(again):
            return {}
        originals = take(pa.chunked_array(self._usable_ids), firsts[again]).to_pylist()
        return {usable[at]: (DUPLICATE, SAME_TEXT + original) for at, original in zip(again, originals, strict=True)}


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
    return spooled(rows.schema, _where(rows, chosen))


def _where(rows: pa.Table, chosen: npt.NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in rows.to_batches():
        yield batch.filter(pa.array(chosen[start : start + batch.num_rows]))
        start += batch.num_rows


def keyed_hash(seed: int, *parts: str) -> int:
    """A 64-bit number that a seed and a row's id determine: randomness that no order of rows can change."""
    digest = hashlib.blake2b(json.dumps([seed, *parts]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def keyed_hashes(seed: int, *parts: str, ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """`keyed_hash(seed, *parts, id)` of many ids, shape `(n,)`.

    >>> int(keyed_hashes(42, "sample", ids=["ü1"])[0]) == keyed_hash(42, "sample", "ü1")
    True
    """
    opening = json.dumps([seed, *parts])[:-1]
    return hashed(f"{opening}, {json.dumps(row_id)}]" for row_id in ids)


def drops_table(stage: str, drops: Iterable[tuple[str, str, str]]) -> pa.Table:
    """`(id, reason, detail)` rows as `schema.DROPS`."""
    return pa.Table.from_pylist(
        [{"stage": stage, "id": row_id, "reason": reason, "detail": detail} for row_id, reason, detail in drops],
        schema.DROPS,
    )


def _with_bar(source: Source) -> Iterator[Rows]:
    """The batches, with a bar for whoever waits."""
    bar = tqdm(
        desc="corpus",
        total=source.total,
        unit=source.unit if source.unit == "B" else f" {source.unit}",
        unit_scale=True,
        leave=False,
        disable=None,
        delay=BAR_AFTER_S,
    )
    with bar:
        for rows in source.batches:
            yield rows
            bar.update(rows.size)


def _license(config: CorpusConfig, revision: str | None) -> str | None:
    """What the source says of its licence: the Hub's card, or Python's own."""
    if config.source == "python-docs":
        return "psf-2.0"
    return licence_of(config.source, revision) if revision and config.revision else None
