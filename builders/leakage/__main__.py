"""Checks a built data set's folder for queries and passages of evaluation sets.

    python -m builders.leakage outputs/quickstart/dataset --against SciFact --against collections/cranfield:test
        [--set policy=allow] [--set ngram_share=0.7] [--out leakage.parquet]

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

from builders import schema
from builders.dataset.folder import read_config, read_manifest
from builders.leakage.config import LeakageConfig
from builders.leakage.found import Found
from builders.leakage.guard import ROWS, Guard
from builders.leakage.report import summary
from builders.passages import Passages
from builders.selection import chosen_by_kind
from builders.selection.stored import stored_inputs
from cards.dataset import training_configs
from cards.templates import section
from foils.errors import UserError, run_entry
from foils.recipe import decode_config, overridden


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
    inputs = stored_inputs(folder, manifest)
    corpus = inputs.passages.table.slice(0, inputs.corpus_size)
    found = guard.check(inputs.queries, Passages(corpus))
    chosen = chosen_by_kind(read_config(folder, manifest, "fates"))
    for kind in training_configs(manifest):
        taken = chosen.get(kind, schema.FATES.empty_table())
        hits = guard.hits(f"negative-{kind}", _negatives(taken, inputs.passages), taken.num_rows)
        found = found.and_hits(f"negative-{kind}", hits, taken.num_rows)
    return found._replace(config=config)


def _negatives(taken: pa.Table, passages: Passages) -> Iterator[tuple[pa.Array, pa.Array]]:
    """The negatives of a kind's rows (`schema.FATES`): `QUERY/negative_1` and so on, with their texts."""
    for batch in taken.to_batches(max_chunksize=ROWS):
        ids = pc.binary_join_element_wise(batch["query-id"], batch["fate"], "/")
        yield ids, passages.texts(passages.positions(batch["corpus-id"]))


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
    print(section("dataset_leakage.md", leakage=summary(found)))
    if arguments.out is not None:
        pq.write_table(found.hits, arguments.out)
    found.forbid()


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
