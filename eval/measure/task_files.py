"""A retrieval task's files: BEIR folders, `.jsonl` files and data set folders of `builders.build`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from foils.beir import by_query, jsonl, judgement, judgements, stated, text_of
from foils.errors import UserError

Qrels = dict[str, dict[str, int]]


def corpus_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Passages of a BEIR folder, a `.jsonl` file or a data set folder, each with where it stands."""
    if (path / "manifest.json").exists():
        return _parquet(path, "corpus")
    return _numbered(path if path.suffix == ".jsonl" else path / "corpus.jsonl")


def query_rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Queries of a BEIR folder or a data set folder, each with where it stands."""
    is_built = (folder / "manifest.json").exists()
    return _parquet(folder, "queries") if is_built else _numbered(folder / "queries.jsonl")


def passages(records: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[dict[str, str]]:
    """Passages as mteb wants them.

    Args:
        records: each with where it stands, for errors.

    Raises:
        UserError: an id or a text is missing or not text, or an id occurs twice.
    """
    seen: set[str] = set()
    for where, record in records:
        title = text_of(record.get("title"), f"{where}: 'title'") or ""
        yield _identified(record, where, seen) | {"title": title, "text": stated(record, "text", where)}


def queries(records: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[dict[str, str]]:
    """Queries as mteb wants them; arguments and errors as of `passages`."""
    seen: set[str] = set()
    for where, record in records:
        yield _identified(record, where, seen) | {"text": stated(record, "text", where)}


def _identified(record: Mapping[str, Any], where: str, seen: set[str]) -> dict[str, str]:
    row_id = stated(record, "_id", where)
    if row_id in seen:
        raise UserError(f"{where}: id {row_id!r} occurs twice; ids must be unique")
    seen.add(row_id)
    return {"id": row_id}


def judged_queries(folder: Path, split: str) -> Qrels:
    """Judgements by query, in the file's order."""
    return by_query(_judgements(folder, split))


def has_answer(judged: Mapping[str, int]) -> bool:
    """Whether any judged passage is relevant."""
    return any(score > 0 for score in judged.values())


def _judgements(folder: Path, split: str) -> Iterator[tuple[str, str, int]]:
    if (folder / "manifest.json").exists():
        yield from (judgement(row, where) for where, row in _parquet(folder, "default"))
        return
    path = folder / "qrels" / f"{split}.tsv"
    if not path.exists():
        found = ", ".join(sorted(file.stem for file in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path}: no such file; splits in {path.parent}: {found}")
    yield from judgements(path)


def _numbered(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a `.jsonl` file with their places."""
    for line in jsonl(path, "task"):
        yield f"task {path}: line {line.number}", line.record


def _parquet(folder: Path, config: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((folder / config).glob("*.parquet")):
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches():
                yield from ((f"task {file}", row) for row in batch.to_pylist())
