"""What figures are computed from, as it is stored beside a model: the best ranks of each query, and the judgements."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from foils.errors import UserError
from foils.metrics import DEPTH, Qrels, Rankings, top

RANKINGS = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string()), ("score", pa.float64())])
JUDGEMENTS = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string()), ("score", pa.int32())])


def write_rankings(file: Path | BytesIO, rankings: Rankings, depth: int = DEPTH) -> None:
    """Writes each query's best hits, the best first; without a depth as deep as the published metrics look."""
    rows = [(query, passage, score) for query, hits in rankings.items() for passage, score in top(hits, depth)]
    _write(file, rows, RANKINGS)


def read_rankings(file: Path) -> dict[str, dict[str, float]]:
    """Query id -> passage id -> score."""
    return _read(file)


def write_judgements(file: Path, qrels: Qrels) -> None:
    """Writes all judgements, those of 0 too."""
    rows = [(query, passage, grade) for query, judged in qrels.items() for passage, grade in judged.items()]
    _write(file, rows, JUDGEMENTS)


def read_judgements(file: Path) -> dict[str, dict[str, int]]:
    """Query id -> passage id -> relevance."""
    return {query: {passage: int(grade) for passage, grade in judged.items()} for query, judged in _read(file).items()}


def _write(file: Path | BytesIO, rows: Sequence[tuple[str, str, float]], schema: pa.Schema) -> None:
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    pq.write_table(pa.table(arrays, schema=schema), file, compression="zstd")


def _read(file: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    table = pq.read_table(file)
    if not set(RANKINGS.names) <= set(table.column_names):
        raise UserError(f"{file}: has columns {', '.join(table.column_names)}; wanted {', '.join(RANKINGS.names)}")
    for batch in table.to_batches(100_000):
        columns = (batch.column(name).to_pylist() for name in ("query-id", "corpus-id", "score"))
        for query, passage, score in zip(*columns, strict=True):
            found.setdefault(query, {})[passage] = score
    return found
