"""Checks a built data set's folder for queries and passages of evaluation sets.

    python -m builders.leakage outputs/quickstart/dataset --against SciFact --against collections/cranfield:test
        [--set policy=allow] [--set ngram_share=0.7] [--out leakage.parquet]

Ends with 2 where the data set holds what its policy forbids: `refuse` and `drop` (the default) forbid leaked queries,
with `--set passages=drop` also leaked passages; `allow` forbids nothing. `--out` writes each finding with its ids.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from builders.dataset.folder import read_complete, read_config
from builders.leakage.config import LeakageConfig
from builders.leakage.found import Found
from builders.leakage.guard import Guard
from builders.passages import Passages
from builders.queries import TABLE
from builders.selection import chosen_by_kind
from builders.selection.stored import with_positives
from cards.templates import section
from foils.errors import UserError, run_entry
from foils.kinds import PAIRS
from foils.recipe import decode_config, overridden


def examine(folder: Path, config: LeakageConfig) -> Found:
    """Compares all texts of a built data set: queries, corpus, and each kind's negatives.

    What is found is found in the data set as it is, so nothing counts as left out, whatever the policy.

    Raises:
        UserError: the folder holds no data set, or an evaluation set cannot be loaded.
    """
    manifest = read_complete(folder)
    if not config.against:
        raise UserError("leakage.against: no evaluation set is named; add --against NAME or --against FOLDER")
    names = ("corpus", "train-queries", "train-qrels", "generated", "fates")
    corpus, queries, qrels, generated, fates = (read_config(folder, manifest, name) for name in names)
    guard = Guard(msgspec.structs.replace(config, policy="allow"))
    asked = [with_positives(queries, qrels)]
    for name in PAIRS:  # whose answers are corpus passages too
        texts = read_config(folder, manifest, name)
        ids = pa.array([f"{name}/{row}" for row in range(texts.num_rows)], pa.string())
        blank = pa.nulls(texts.num_rows, pa.string())
        asked += [pa.table([ids, texts["query"], blank], schema=TABLE)] if texts.num_rows else []
    found = guard.check(pa.concat_tables(asked), Passages(corpus))
    if generated.num_rows:
        found = guard.with_generated(found, generated)
    return found.with_negatives(chosen_by_kind(fates)) if fates.num_rows else found


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
    config = decode_config(values, LeakageConfig, "--set")
    found = examine(arguments.dataset, config)
    print(section("dataset_leakage.md", leakage=found.summary()))
    if arguments.out is not None:
        pq.write_table(found.hits, arguments.out)
    found._replace(config=config).forbid()


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
