"""Which passages stay. Each row is examined by itself, by shards where there are many; then repeats are found.

To find them takes two hashes of each row, which are all that is in memory of the whole corpus.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.corpus.sources import CorpusConfig
from builders.hashing import Hashed, hashed
from builders.passages import Positions
from builders.spool import Spool
from foils.provenance import row_bytes
from foils.tables import Rows
from foils.texts import normalised, passage_text

DOCUMENT = pa.field("document", pa.string())
REPEATED_ID = "repeated-id"
"""The reason why a passage with the id of an earlier one is dropped."""
DUPLICATE, SAME_TEXT = "duplicate", "same text as "
"""The reason why a repeated passage is dropped, and what its detail says before the id of the one that stays."""
ID_KEY, TEXT_KEY = "id-key", "text-key"
_WHY = ["place", "reason", "detail"]
EXAMINED = pa.schema(
    [
        *[*schema.CORPUS, DOCUMENT],
        *[(name, pa.uint64()) for name in (ID_KEY, TEXT_KEY)],
        *[(name, pa.string()) for name in _WHY],  # where the row stands; why it is unfit by itself, null if it is fit
    ]
)
Parts = Callable[[Sequence[str]], Iterable[pa.Table]]
"""Gives columns of all examined rows in their order, some rows at a time; may be called again."""
_NO_KEYS = np.empty(0, np.uint64)
_ROWS = 50_000  # whose texts are in memory at once


def examined(rows: Rows, config: CorpusConfig) -> pa.RecordBatch:
    """Returns what can be said of each row without the others, `EXAMINED`.

    A passage is its title and its text, as models read it. Two are the same when they are once `normalised`: the text
    key hashes that. Unfit rows keep their id alone.
    """
    unit = rows.where.rpartition(": ")[2]
    found, same = [], []
    for number, row_id, *texts in zip(rows.numbers, *rows.values, strict=True):
        title, text, document = [(each or "").strip() for each in (*texts, None)][:3]
        same.append("" if texts[1] is None else normalised(passage_text(title, text)))
        reason, detail = _unfit(len(text or title) if same[-1] else 0, config)
        kept = ("", "", None) if reason else (title, text, document or None)
        found.append((row_id, *kept, f"{unit} {number}", reason, detail))
    values = [*zip(*found, strict=True)]
    columns = zip([*values[:4], hashed(values[0]), hashed(same), *values[4:]], EXAMINED, strict=True)
    return pa.record_batch([pa.array(column, field.type) for column, field in columns], schema=EXAMINED)


def _unfit(chars: int, config: CorpusConfig) -> tuple[str | None, str]:
    """Why a passage of this many characters is dropped: reason and detail."""
    if chars == 0:
        return "empty", ""
    if chars < config.min_chars:
        return "too-short", f"{chars} < {config.min_chars} characters"
    if chars > config.max_chars:
        return "too-long", f"{chars} > {config.max_chars} characters"
    return None, ""


def clean(batches: Iterable[Rows], config: CorpusConfig) -> tuple[pa.Table, pa.Table, str]:
    """Drops empty, short, over-long and repeated passages, each with its reason; see `without_repeats`."""
    spool = Spool(EXAMINED)
    for rows in batches:
        spool.add(*examined(rows, config).columns)
    table = spool.table()
    return without_repeats(lambda names: [table.select(names)], config)


def without_repeats(parts: Parts, config: CorpusConfig) -> tuple[pa.Table, pa.Table, str]:
    """Drops unfit rows and repeats, each with its reason. The first of one text stays, and so does the first of one id.

    Returns:
        What is kept (`schema.CORPUS`, with `group_column` also `DOCUMENT`), what is dropped (`schema.DROPS`), and the
        SHA-256 of what is kept.
    """
    form = schema.CORPUS if config.group_column is None else schema.CORPUS.append(DOCUMENT)
    kept, dropped, digest = Spool(form), Spool(schema.DROPS), hashlib.sha256()
    repeated, originals = _repeats(parts)
    named = dict.fromkeys(originals[originals >= 0].tolist(), "")  # number of a row that others repeat -> its id
    firsts, start = np.unique(originals[originals >= 0]), 0
    for batch in (each for part in parts([*form.names, *_WHY]) for each in part.to_batches(max_chunksize=_ROWS)):
        stays = batch["reason"].is_null().to_numpy(zero_copy_only=False)
        places, stays = np.flatnonzero(stays), stays.copy()  # of fit rows, which are numbered
        end = start + len(places)
        here = firsts[slice(*np.searchsorted(firsts, [start, end]))]
        named.update(zip(here.tolist(), batch["_id"].take(pa.array(places[here - start])).to_pylist(), strict=True))
        among = slice(*np.searchsorted(repeated, [start, end]))
        again = places[repeated[among] - start]
        stays[again] = False
        repeats = dict(zip(again.tolist(), originals[among].tolist(), strict=True))
        for at in np.flatnonzero(~stays).tolist():
            row_id, place, reason, detail = (batch[name][at].as_py() for name in ("_id", *_WHY))
            if at in repeats:
                first = repeats[at]
                reason, detail = (REPEATED_ID, place) if first < 0 else (DUPLICATE, SAME_TEXT + named[first])
            dropped.row("corpus", row_id, reason, detail)
        rows = batch.select(form.names).filter(pa.array(stays))
        kept.add(*rows.columns)
        texts = (rows[name].to_pylist() for name in schema.CORPUS.names)
        digest.update(b"".join(map(row_bytes, zip(*texts, strict=True))))
        start = end
    return kept.table(), dropped.table(), digest.hexdigest()


def _repeats(parts: Parts) -> tuple[Positions, Positions]:
    """Finds the rows that repeat earlier ones.

    A repeated text does not count as seen under its own id, nor a repeated id with its own text. That two of a million
    ids or texts have one key has a chance of 3e-8.

    Returns:
        Their numbers among the fit rows, in order, and for each the row whose text it has, or -1 for a repeated id.
    """
    ids, texts = _keys(parts, ID_KEY), _keys(parts, TEXT_KEY)
    unclear = np.flatnonzero(_occur_twice(ids) | _occur_twice(texts))
    taken, first_with, found = set(), dict[int, int](), dict[int, int]()
    for row, row_id, text in zip(*(each.tolist() for each in (unclear, ids[unclear], texts[unclear])), strict=True):
        if row_id in taken:
            found[row] = -1
        elif (first := first_with.setdefault(text, row)) != row:
            found[row] = first
        else:
            taken.add(row_id)
    return np.fromiter(found.keys(), np.int64), np.fromiter(found.values(), np.int64)


def _keys(parts: Parts, name: str) -> Hashed:
    """Returns the keys of fit rows, `(n_fit,)`."""
    found = (part[name].filter(pc.is_null(part["reason"])).to_numpy() for part in parts([name, "reason"]))
    return np.concatenate([_NO_KEYS, *found])


def _occur_twice(keys: Hashed) -> npt.NDArray[np.bool_]:
    ordered = np.sort(keys)
    several = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(several):
        return np.zeros(len(keys), np.bool_)
    places = np.minimum(np.searchsorted(several, keys), len(several) - 1)
    return np.asarray(several[places] == keys)
