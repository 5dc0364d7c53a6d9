"""Selects a data set's negatives again by other rules: from stored candidates and scores, nothing is mined again.

    python -m builders.selection DATASET [--set selection.sampling=random] [--set negatives.per_query=2] [--out DIR]
    python -m builders.selection DATASET --explain QUERY_ID [--set ...]

`--set` takes the keys of the building recipe's `[selection]`, and `negatives.kinds`, `negatives.per_query`,
`negatives.shares`, `negatives.variants` and `seed`. `--explain` shows one query's candidates with the scores of every
scorer and their outcomes, and writes nothing.
"""

import argparse
import copy
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from builders.dataset.folder import amend, read_complete, read_config
from builders.mining import mined_kinds
from builders.recipe import BuildRecipe, identity_hash
from builders.recipe_checks import check_kinds
from builders.selection import STAGE, Selection, select
from builders.selection.explain import explain
from builders.selection.stored import stored_inputs, wanted_by
from builders.spool import spool_beside
from cards.dataset import kinds_in
from foils.errors import UserError, run_entry
from foils.recipe import decode_config, overridden, without_removed

logger = logging.getLogger(__name__)

KEYS = ("selection", "negatives.kinds", "negatives.per_query", "negatives.shares", "negatives.variants", "seed")


def main(folder: Path, overrides: Sequence[str], out: Path | None = None, explained: str | None = None) -> None:
    """Selects again and writes the data set anew, or explains one query.

    Args:
        folder: a data set.
        overrides: `key=value`, as for a building recipe.
        out: where to write the changed data set; without it, in the place of the old one.
        explained: a query's id.

    Raises:
        UserError: the data set or the query does not exist, a key is not selection's, or the rules do not fit it.
    """
    manifest = read_complete(folder)
    config = _config(manifest, overrides)
    inputs = stored_inputs(folder, manifest)
    lacking = set(mined_kinds(config.negatives)) - inputs.candidates.keys()
    if lacking:
        raise UserError(
            f"data set {folder}: no candidates of {', '.join(sorted(lacking))}; it has those of "
            f"{', '.join(inputs.candidates)}; build the data set with that kind"
        )
    started = perf_counter()
    selection = select(inputs, wanted_by(config))
    total = sum(table.num_rows for table in inputs.candidates.values())
    kept = f"{len(selection.queries):,} of {inputs.queries.num_rows:,} queries"
    logger.info("%s with negatives, from %s candidates, in %.1f s", kept, f"{total:,}", perf_counter() - started)
    if explained is not None:
        print(explain(inputs, selection, config.negatives.variants, explained))
        return
    if not len(selection.queries):
        reasons = [row["detail"] for row in selection.drops.to_pylist()]
        raise UserError(
            f"data set {folder}: no query has enough negatives of every kind ({reasons[0]}, ...); nothing was written; "
            "loosen the rules, or see --explain for one of them"
        )
    _write(folder, manifest, config, overrides, selection, out)


def _config(manifest: dict[str, Any], overrides: Sequence[str]) -> BuildRecipe:
    values = without_removed(copy.deepcopy(manifest["settings"]), BuildRecipe)
    for override in overrides:
        key = override.partition("=")[0].strip()
        if not any(key == allowed or key.startswith(f"{allowed}.") for allowed in KEYS):
            raise UserError(
                f"--set {override}: stored candidates cannot be selected by another {key}; allowed: {', '.join(KEYS)} "
                "and what is below them. Anything else takes a build"
            )
    config = decode_config(overridden(values, overrides), BuildRecipe, "of the data set")
    check_kinds(config)
    return config


def _write(
    folder: Path,
    manifest: dict[str, Any],
    config: BuildRecipe,
    overrides: Sequence[str],
    selection: Selection,
    out: Path | None,
) -> None:
    identity = identity_hash(config)
    recipe = manifest["recipe"]
    drops = read_config(folder, manifest, "drops")
    others = [drops.filter(pc.not_equal(drops["stage"], STAGE))] if drops.num_rows else []
    record = {
        "recipe": {**recipe, "overrides": [*recipe["overrides"], *overrides], "identity": identity},
        "settings": msgspec.to_builtins(config),
        # By the mark, a build never takes it for its own.
        "inputs": {**manifest["inputs"], "recipe": identity, "selected_again": True},
        "funnel": {**manifest["funnel"], "queries with negatives of every kind": len(selection.queries)},
        "fates": selection.summary,
        "mixes": selection.mixes,
        "audit": None,  # it was of other rows
    }
    gone = {kind: pa.table({}) for kind in kinds_in(manifest)}
    leakage = manifest.get("leakage")
    if leakage:  # what it counted among the negatives was of other rows
        counts = [row for row in leakage["counts"] if not row["what"].startswith("negative-")]
        record["leakage"] = {**leakage, "counts": counts}
    figures = dict.fromkeys(path for path in manifest.get("files", {}) if path.startswith("figures/"))
    tables = {"fates": selection.fates, "drops": pa.concat_tables([*others, selection.drops])}
    amend(folder, record, {**gone, **selection.rows, "train-qrels": selection.qrels, **tables}, figures, out)
    logger.info("%s: selected again", out or folder)


def _entry() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="DATASET", help="a data set that builders.build wrote")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="a rule; may be repeated"
    )
    parser.add_argument("--out", type=Path, help="where to write the changed data set; default: in place")
    parser.add_argument("--explain", metavar="QUERY_ID", help="show one query's candidates and write nothing")
    arguments = parser.parse_args()
    spool_beside(arguments.out or arguments.folder)
    main(arguments.folder, arguments.overrides, arguments.out, arguments.explain)


if __name__ == "__main__":
    sys.exit(run_entry(_entry))
