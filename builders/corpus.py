"""The corpus: read from where it lies, cleaned with a reason for each drop, and sampled.

passages, drops = clean(read(config), config)
seeds = sample(passages, config.sample, seed)
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from builders import python_docs, schema
from cards.errors import UserError
from cards.hub import licence_of, load_parquet, pin
from cards.provenance import sha256_texts

if TYPE_CHECKING:
    from builders.recipe import CorpusConfig

Row = dict[str, str]
MIN_PASSAGES = 2


class Corpus(NamedTuple):
    """A cleaned corpus.

    Attributes:
        passages: `schema.CORPUS`, in the source's order.
        drops: `schema.DROPS`.
        source: what the recipe called it.
        revision: the Hub commit, the interpreter's version, or `sha256:...` of the passages as read.
        license: what the source itself says, as the Hub spells it; None where it says nothing.
    """

    passages: pa.Table
    drops: pa.Table
    source: str
    revision: str
    license: str | None = None


def load(config: "CorpusConfig") -> Corpus:
    """Reads and cleans the corpus that a recipe names.

    Raises:
        UserError: the source is missing or malformed, a column is missing, ids repeat, or fewer than two passages
            are left.
    """
    rows, revision = _read(config)
    licence = config.license or _license(config, revision)
    passages, drops = clean(rows, config)
    if passages.num_rows < MIN_PASSAGES:
        raise UserError(
            f"corpus {config.source}: {passages.num_rows} passage left of {passages.num_rows + drops.num_rows}; "
            f"at least {MIN_PASSAGES} are needed, so that a query can have a negative; check min_chars and max_chars"
        )
    revision = revision or "sha256:" + content_hash(passages)
    # The path tells nothing to whoever reads the card elsewhere: the content hash does.
    name = config.source if config.revision or config.source == "python-docs" else Path(config.source).resolve().name
    return Corpus(passages, drops, name, revision, licence)


def content_hash(passages: pa.Table) -> str:
    """SHA-256 (hex) of ids, titles and texts in order."""
    return sha256_texts(tuple(row.values()) for row in passages.to_pylist())


def clean(rows: Iterable[Row], config: "CorpusConfig") -> tuple[pa.Table, pa.Table]:
    """Drops empty, short, over-long and repeated passages, each with its reason.

    Two passages are the same when their texts are, after folding of case and white space; the first stays.

    Returns:
        The kept passages (`schema.CORPUS`) and the drops (`schema.DROPS`).

    Raises:
        UserError: an id occurs twice.
    """
    kept: list[Row] = []
    drops: list[tuple[str, str, str]] = []
    ids: set[str] = set()
    first_with_text: dict[bytes, str] = {}
    for row in rows:
        passage_id, text = row["_id"], row["text"].strip()
        if passage_id in ids:
            raise UserError(f"corpus {config.source}: id {passage_id!r} occurs twice; ids must be unique")
        ids.add(passage_id)
        digest = hashlib.sha256(schema.normalised(text).encode()).digest()
        if not text:
            drops.append((passage_id, "empty", ""))
        elif len(text) < config.min_chars:
            drops.append((passage_id, "too-short", f"{len(text)} < {config.min_chars} characters"))
        elif len(text) > config.max_chars:
            drops.append((passage_id, "too-long", f"{len(text)} > {config.max_chars} characters"))
        elif digest in first_with_text:
            drops.append((passage_id, "duplicate", f"same text as {first_with_text[digest]}"))
        else:
            first_with_text[digest] = passage_id
            kept.append({"_id": passage_id, "title": row["title"].strip(), "text": text})
    return pa.Table.from_pylist(kept, schema.CORPUS), drops_table("corpus", drops)


def sample(passages: pa.Table, size: int, seed: int) -> pa.Table:
    """Chooses the passages that get a query: those with the smallest keyed hash, in the corpus's order.

    A passage's fate depends on its id and the seed alone, so a growing corpus keeps most of its sample.

    Args:
        passages: `schema.CORPUS`.
        size: how many; 0 = all.
        seed: any integer.
    """
    if size == 0 or size >= passages.num_rows:
        return passages
    ids = passages["_id"].to_pylist()
    chosen = sorted(range(len(ids)), key=lambda position: keyed_hash(seed, "sample", ids[position]))[:size]
    return passages.take(sorted(chosen))


def keyed_hash(seed: int, *parts: str) -> int:
    """A 64-bit number that a seed and a row's id determine: randomness that no order of rows can change."""
    digest = hashlib.blake2b(json.dumps([seed, *parts]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def drops_table(stage: str, drops: Iterable[tuple[str, str, str]]) -> pa.Table:
    """`(id, reason, detail)` rows as `schema.DROPS`."""
    return pa.Table.from_pylist(
        [{"stage": stage, "id": row_id, "reason": reason, "detail": detail} for row_id, reason, detail in drops],
        schema.DROPS,
    )


def _read(config: "CorpusConfig") -> tuple[Iterator[Row], str | None]:
    """The rows of a source and its revision, where the source itself has one."""
    if config.source == "python-docs":
        return python_docs.passages(), python_docs.revision()
    path = Path(config.source)
    if path.is_dir():
        path = path / "corpus.jsonl"
        if not path.exists():
            raise UserError(f"corpus {config.source}: no corpus.jsonl in it; wanted a folder in BEIR's layout")
    if path.suffix == ".jsonl" and path.exists():
        return _rows(_jsonl(path), config), None
    if path.suffix == ".parquet" and path.exists():
        return _rows(_parquet(path), config), None
    if path.suffix in {".jsonl", ".parquet"} or config.source.count("/") != 1 or config.source.startswith((".", "/")):
        raise UserError(
            f"corpus {config.source}: no such file or folder; wanted a BEIR folder, a .jsonl or .parquet file, "
            "a Hub data set id (owner/name) with its revision, or python-docs"
        )
    return _hub(config)


def _rows(records: Iterable[dict[str, Any]], config: "CorpusConfig") -> Iterator[Row]:
    for number, record in enumerate(records, start=1):
        for column in (config.id_column, config.text_column):
            if record.get(column) is None:
                raise UserError(
                    f"corpus {config.source}: row {number} has no column {column!r} (it has "
                    f"{', '.join(map(repr, record))}); name yours with corpus.id_column and corpus.text_column"
                )
        yield {
            "_id": str(record[config.id_column]),
            "title": str(record.get(config.title_column) or ""),
            "text": str(record[config.text_column]),
        }


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(
                    f"corpus {path}: line {number} is not UTF-8 at byte {error.start}; convert the file to UTF-8"
                ) from None
            except json.JSONDecodeError as error:
                raise UserError(f"corpus {path}: line {number} is not JSON: {error}") from None
            if not isinstance(record, dict):
                raise UserError(
                    f"corpus {path}: line {number} is not a JSON object such as {{'_id': ..., 'text': ...}}"
                )
            yield record


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise UserError(f"corpus {path}: not a Parquet file: {error}") from None


def _hub(config: "CorpusConfig") -> tuple[Iterator[Row], str]:
    if config.revision is None:
        raise UserError(
            f"corpus {config.source}: a Hub data set needs corpus.revision (a commit or tag), so that the build can "
            "be repeated"
        )
    commit = pin(config.source, config.revision, "dataset")
    return _rows(load_parquet(config.source, config.config, config.split, commit), config), commit


def _license(config: "CorpusConfig", revision: str | None) -> str | None:
    """What the source says of its licence: the Hub's card, or Python's own."""
    if config.source == "python-docs":
        return "psf-2.0"
    return licence_of(config.source, revision) if revision and config.revision else None
