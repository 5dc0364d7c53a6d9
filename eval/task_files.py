"""A retrieval task's files: BEIR folders, `.jsonl` files and data set folders of `builders.build`."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cards.errors import UserError

Qrels = dict[str, dict[str, int]]


def corpus_rows(path: Path) -> Iterator[dict[str, str]]:
    """Passages of a BEIR folder, a `.jsonl` file or a data set folder, as mteb wants them."""
    if (path / "manifest.json").exists():
        rows: Iterable[dict[str, Any]] = _parquet(path, "corpus")
    else:
        rows = _jsonl(path if path.suffix == ".jsonl" else path / "corpus.jsonl")
    for row in rows:
        yield {"id": str(row["_id"]), "title": str(row.get("title") or ""), "text": str(row["text"])}


def query_rows(folder: Path) -> Iterator[dict[str, str]]:
    """Queries of a BEIR folder or a data set folder."""
    rows = _parquet(folder, "queries") if (folder / "manifest.json").exists() else _jsonl(folder / "queries.jsonl")
    for row in rows:
        yield {"id": str(row["_id"]), "text": str(row["text"])}


def judged_queries(folder: Path, split: str) -> tuple[Qrels, int]:
    """Judgements by query, in the file's order, and the queries without a relevant passage."""
    return by_query(_judgements(folder, split))


def by_query(judgements: Iterable[tuple[str, str, int]]) -> tuple[Qrels, int]:
    """Judgements of queries that have a relevant passage, those of 0 too; and the number of other queries."""
    qrels: Qrels = {}
    for query_id, passage_id, score in judgements:
        qrels.setdefault(query_id, {})[passage_id] = max(score, 0)  # BEIR counts those above 0 as relevant
    answerable = {query: judged for query, judged in qrels.items() if has_answer(judged)}
    return answerable, len(qrels) - len(answerable)


def has_answer(judged: Mapping[str, int]) -> bool:
    """Whether any judged passage is relevant."""
    return any(score > 0 for score in judged.values())


def _judgements(folder: Path, split: str) -> Iterator[tuple[str, str, int]]:
    if (folder / "manifest.json").exists():
        for row in _parquet(folder, "default"):
            yield row["query-id"], row["corpus-id"], row["score"]
        return
    path = folder / "qrels" / f"{split}.tsv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
                try:
                    yield row["query-id"], row["corpus-id"], int(row["score"])
                except (KeyError, TypeError, ValueError):
                    raise UserError(
                        f"{path}: line {number}: wanted query-id, corpus-id and a whole score, separated by tabs, "
                        "under a header with these names"
                    ) from None
    except FileNotFoundError:
        found = ", ".join(sorted(file.stem for file in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path}: no such file; splits in {path.parent}: {found}") from None


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict) or "_id" not in row or "text" not in row:
                        raise UserError(f"{path}: line {number}: wanted an object with _id and text")
                    yield row
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; wanted BEIR's layout or a data set folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 near byte {error.start}; convert the file to UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON lines: {error}") from None


def _parquet(folder: Path, config: str) -> Iterator[dict[str, Any]]:
    for file in sorted((folder / config).glob("*.parquet")):
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches():
                yield from batch.to_pylist()
