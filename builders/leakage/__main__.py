"""Checks a built data set's folder for queries and passages of evaluation sets.

    python -m builders.leakage outputs/quickstart/dataset --against SciFact --against ../collections/cranfield:test
        [--set policy=allow] [--set minhash=0.8] [--out leakage.parquet]

Ends with 2 where the data set holds what its policy forbids: `refuse` and `drop` (the default) forbid leaked queries,
with `--set passages=drop` also leaked passages; `allow` forbids nothing. `--out` writes each finding with its ids.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builders import queries
from builders.folder import read_manifest
from builders.leakage.config import LeakageConfig
from builders.leakage.found import Found
from builders.leakage.guard import Guard
from builders.leakage.report import table
from builders.passages import Passages
from cards.dataset import training_configs
from cards.errors import UserError, run_entry
from cards.recipe import decode_config, overridden


def examine(folder: Path, config: LeakageConfig) -> Found:
    """Compares all texts of a built data set: queries, corpus, and each kind's negatives.

    Raises:
        UserError: the folder holds no data set, or an evaluation set cannot be loaded.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"data set {folder}: there is nothing in it; wanted a folder that builders.build wrote")
    if not config.against:
        raise UserError("leakage.against: no evaluation set is named; add --against NAME or --against FOLDER")
    guard = Guard(msgspec.structs.replace(config, policy="allow"))  # everything is counted before the verdict
    asked, corpus = _asked(folder), Passages(_read(folder, "corpus"))
    found = guard.check(asked, corpus)
    for kind in training_configs(manifest):
        rows = manifest["configs"][kind]["rows"] * (len(manifest["configs"][kind]["columns"]) - 2)
        hits = guard.hits(f"negative-{kind}", _negatives(folder, kind, asked, corpus), rows)
        found = found.and_hits(f"negative-{kind}", hits, rows)
    return found._replace(config=config)


def _asked(folder: Path) -> pa.Table:
    """`queries.TABLE` of a built data set."""
    asked, judged = _read(folder, "queries"), _read(folder, "default")
    positives = judged["corpus-id"].take(pc.index_in(asked["_id"], value_set=judged["query-id"].combine_chunks()))
    return pa.table({"_id": asked["_id"], "text": asked["text"], "corpus-id": positives}, queries.TABLE)


def _negatives(folder: Path, kind: str, asked: pa.Table, corpus: Passages) -> Iterator[tuple[pa.Array, pa.Array]]:
    """The negatives of a kind's rows; a training row has no ids, so theirs are `QUERY/negative_1` and so on."""
    positives = corpus.texts(corpus.positions(asked["corpus-id"]))  # two queries may have one text
    known = _joined(asked["text"].combine_chunks(), positives)
    for file in sorted((folder / kind).glob("*.parquet")):
        with pq.ParquetFile(file) as rows:
            for batch in rows.iter_batches():
                places = pc.index_in(_joined(batch["query"], batch["positive"]), value_set=known)
                ids = asked["_id"].take(places).combine_chunks()
                for column in batch.schema.names[2:]:
                    yield pc.binary_join_element_wise(ids, column, "/"), batch[column]


def _joined(queries: pa.Array, positives: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(queries, positives, "\n")


def _read(folder: Path, config: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted((folder / config).glob("*.parquet"))])


def _entry() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="the folder of a built data set")
    parser.add_argument("--against", action="append", default=[], metavar="SET", help="an evaluation set; repeatable")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a Parquet file for the findings")
    arguments = parser.parse_args()
    values: dict[str, Any] = overridden({}, arguments.overrides)
    values.setdefault("against", arguments.against)
    found = examine(arguments.dataset, decode_config(values, LeakageConfig, "--set"))
    print(table(found))
    seen = found.training_datasets
    print(f"not zero-shot: {', '.join(seen)}" if seen else "no overlap: zero-shot on all of these")
    if arguments.out is not None:
        pq.write_table(found.hits, arguments.out)
    found.forbid()


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
