"""A BM25 index in a folder: made once for a corpus, then mapped from disk.

Scores by word lie in `data.npy`, `indices.npy` and `indptr.npy` (a sparse matrix by columns), the vocabulary in
`words.arrow`, and positions in the order of passage ids, which breaks ties, in `order.npy`.
"""

import hashlib
import json
import logging
import math
import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import bm25s
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock
from tqdm import tqdm

from builders.passages import Passages
from builders.retrieval.bm25.kernels import Longs, Postings, Weights, count, fill
from builders.retrieval.bm25.tokens import VERSION, Language, Vocabulary, Words, split, with_meaning
from foils.errors import UserError
from foils.folders import partial_folder, put_in_place

logger = logging.getLogger(__name__)

K1, B = 0.9, 0.4
"""Anserini's defaults, which BEIR's published BM25 figures rest on (arXiv 2104.08663)."""
VOCABULARY = "words.arrow"
_BATCH = 10_000
_LONG = 50_000  # passages that are worth a bar


class Stored(NamedTuple):
    """An index as it lies on disk.

    Attributes:
        postings: scores by word, mapped.
        order: positions of passages in the order of their ids, mapped.
        words: the vocabulary.
    """

    postings: Postings
    order: np.ndarray[tuple[int], np.dtype[np.int32]]
    words: pa.Array


class Figures(NamedTuple):
    """What a score depends on beside its passage: by word, how many passages hold it; passages and words in all."""

    words: pa.Array
    holding: Longs
    passages: int
    length: int


def threads() -> int:
    """Returns how many cores this process may use, at most 16: beyond that memory is the limit.

    An engine says it to its workers by `OMP_NUM_THREADS`, which other libraries read too.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(given) if given.isdecimal() and int(given) else there, there, 16)


def index_key(passages: Passages, language: str, figures: Figures | None = None) -> str:
    """Returns a name for all that an index depends on: ids, titles and texts in order, language, settings, figures."""
    # The stop words are those of bm25s.
    total = hashlib.sha256(json.dumps([VERSION, bm25s.__version__, language, K1, B, len(passages)]).encode())
    if figures is not None:
        total.update(json.dumps([figures.passages, figures.length]).encode() + figures.holding.tobytes())
        total.update("\n".join(figures.words.to_pylist()).encode())
    for name in ("_id", "title", "text"):
        lengths, content = hashlib.sha256(), hashlib.sha256()
        for chunk in passages.table[name].chunks:
            if not len(chunk):
                continue
            _, offsets, data = chunk.buffers()
            edges = np.frombuffer(offsets, np.int32, len(chunk) + 1, 4 * chunk.offset)
            lengths.update(np.diff(edges).tobytes())
            if data is not None:
                content.update(memoryview(data)[edges[0] : edges[-1]])
        total.update(lengths.digest() + content.digest())
    return total.hexdigest()[:32]


def stored_index(
    passages: Passages, language: str, folder: Path, figures: Figures | None = None, key: str | None = None
) -> Stored:
    """Returns the index over passages, made now unless `folder` has it.

    Several processes may ask at once: one makes it, the others wait.

    Args:
        passages: what is indexed.
        language: chooses stemmer and stop words.
        folder: holds one folder per index.
        figures: of the corpus that the passages are a shard of; without them their own.
        key: names the index in the place of `index_key`. Where `figures_of` has kept the passages' words under this
            name, these take the place of the texts.

    Raises:
        UserError: the folder cannot be written.
    """
    place = folder / (key or index_key(passages, language, figures))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not place.is_dir():
            with FileLock(place.with_suffix(".lock")):
                if not place.is_dir():
                    # Beside its place until it is whole: a killed process leaves nothing that is taken for an index.
                    partial = partial_folder(place)
                    _write(passages, language, partial, figures, kept_words(place))
                    put_in_place(partial, place)
        shutil.rmtree(kept_words(place), ignore_errors=True)
    except OSError as error:
        raise UserError(f"BM25 index {place}: {error.strerror}; make room or name another folder") from None
    data, indices, indptr, order = (
        np.asarray(np.load(place / name, mmap_mode="r"))
        for name in ("data.npy", "indices.npy", "indptr.npy", "order.npy")
    )
    return Stored(Postings(data, indices, indptr), order, _read_words(place))


def kept_words(place: Path) -> Path:
    """Returns where the words of passages lie until their index is made at `place`."""
    return place.with_name(f"{place.name}-words")


def figures_of(passages: Passages, language: str, place: Path) -> Figures:
    """Counts words: the figures of a shard, which may be added up. The words themselves are kept beside `place`.

    Raises:
        OSError: they cannot be written.
    """
    kept = kept_words(place)
    # Another worker may count the same shard: one that was believed dead.
    with FileLock(kept.with_suffix(".lock")), ThreadPoolExecutor(threads()) as pool:
        words, texts = _stemmed(passages, language, pool)
        partial = partial_folder(kept)
        _write_words(partial, words)
        for name in Words._fields:
            with (partial / name).open("wb") as file:
                for each in texts:
                    getattr(each, name).tofile(file)
                os.fsync(file.fileno())
        put_in_place(partial, kept)
        return Figures(words, np.sum(_counted(texts, len(words), pool), axis=0), *_totals(texts))


def _write(passages: Passages, language: str, folder: Path, figures: Figures | None, kept: Path) -> None:
    """Makes the index over passages in an empty folder."""
    with ThreadPoolExecutor(threads()) as pool:
        words, texts = _read_back(kept) if kept.is_dir() else _stemmed(passages, language, pool)
        postings = _postings(texts, words, pool, figures)
    del texts
    for name, values in postings._asdict().items():
        np.save(folder / f"{name}.npy", values)
    del postings
    np.save(folder / "order.npy", pc.sort_indices(passages.ids).to_numpy().astype(np.int32))
    _write_words(folder, words)
    logger.info("BM25 index: %d passages, %d words", len(passages), len(words))


def _write_words(folder: Path, words: pa.Array) -> None:
    with pa.OSFile(str(folder / VOCABULARY), "wb") as file:
        table = pa.table({"word": words})
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)


def _read_words(folder: Path) -> pa.Array:
    with pa.OSFile(str(folder / VOCABULARY)) as file:
        return pa.ipc.open_file(file).read_all()["word"].combine_chunks()


def _read_back(kept: Path) -> tuple[pa.Array, list[Words]]:
    """Returns what `figures_of` has kept, as `_stemmed` gave it."""
    lengths = np.fromfile(kept / "lengths", np.int32)
    if (kept / "ids").stat().st_size != np.dtype(np.int32).itemsize * int(lengths.sum(dtype=np.int64)):
        raise UserError(f"{kept}: cut short; delete it, and run the same command again")
    parts = [lengths[start : start + _BATCH] for start in range(0, len(lengths), _BATCH)]
    with (kept / "ids").open("rb") as file:
        return _read_words(kept), [Words(np.fromfile(file, np.int32, int(part.sum())), part) for part in parts]


def _stemmed(passages: Passages, language: str, pool: ThreadPoolExecutor) -> tuple[pa.Array, list[Words]]:
    """Returns the vocabulary of stems in the order of their bytes, and the passages' stems by batch."""
    vocabulary, texts = Vocabulary(Language(language)), list[Words]()
    batches = passages.batches(_BATCH)
    with tqdm(total=len(passages), desc="BM25 words", unit="passage", disable=len(passages) < _LONG) as bar:
        # The threads split the next batches while the words of this one are numbered.
        waiting = deque(pool.submit(split, batch) for batch in islice(batches, threads() + 1))
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(pool.submit(split, batch) for batch in islice(batches, 1))
            texts.append(with_meaning(found.words, vocabulary.numbers(found.distinct)))
            bar.update(len(found.words.lengths))
    stems = vocabulary.stems()
    # Numbers by the order of bytes: how the passages were cut into batches leaves no trace.
    order = pc.sort_indices(stems)
    places = np.empty(len(stems), np.int32)
    places[order.to_numpy()] = np.arange(len(stems), dtype=np.int32)
    for part, words in enumerate(texts):
        texts[part] = Words(places[words.ids], words.lengths)
    return stems.take(order), texts


def _parts(texts: list[Words]) -> list[range]:
    edges = [len(texts) * part // threads() for part in range(threads() + 1)]
    return [range(start, end) for start, end in pairwise(edges)]


def _totals(texts: list[Words]) -> tuple[int, int]:
    return sum(len(words.lengths) for words in texts), sum(len(words.ids) for words in texts)


def _counted(texts: list[Words], vocabulary: int, pool: ThreadPoolExecutor) -> list[Longs]:
    """Returns by part how many of its passages hold each word."""

    def counted(part: range) -> Longs:
        found = np.zeros(vocabulary, np.int64)
        for n in part:
            count(*texts[n], np.full(vocabulary, -1, np.int32), found)
        return found

    return list(pool.map(counted, _parts(texts)))


def _postings(texts: list[Words], words: pa.Array, pool: ThreadPoolExecutor, figures: Figures | None) -> Postings:
    """Counts and then writes scores by word; each thread does so for passages in a row."""
    vocabulary, starts = len(words), np.cumsum([0, *(len(each.lengths) for each in texts)])
    found = _counted(texts, vocabulary, pool)
    holding = np.sum(found, axis=0)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(holding)]).astype(np.int64)
    passages, length = _totals(texts) if figures is None else (figures.passages, figures.length)
    if figures is not None:
        holding = figures.holding[pc.index_in(words, value_set=figures.words).to_numpy()]
    weights = Weights(_idf(holding, passages), K1, B, length / max(passages, 1) or 1.0)
    postings = Postings(np.empty(indptr[-1], np.float32), np.empty(indptr[-1], np.int32), indptr)
    heads = indptr[:vocabulary] + np.concatenate([np.zeros((1, vocabulary), np.int64), np.cumsum(found, axis=0)[:-1]])

    def filled(part: range, head: Longs) -> None:
        for n in part:
            fill((texts[n].ids, texts[n].lengths), int(starts[n]), head, weights, postings)

    list(pool.map(filled, _parts(texts), heads))
    return postings


def _idf(holding: Longs, passages: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Returns Lucene's idf by word, from how many passages hold it; by Python's logarithm, as in bm25s."""
    counts, places = np.unique(holding, return_inverse=True)
    values = [math.log(1 + (passages - n + 0.5) / (n + 0.5)) for n in counts.tolist()]
    return np.array(values, np.float32)[places]
