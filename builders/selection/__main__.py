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
import shutil
import sys
from collections.abc import Mapping, Sequence
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
from builders.selection.frame import Inputs
from builders.selection.mixes import is_mix
from builders.selection.stored import stored_inputs, wanted_by
from builders.spool import spool_beside
from cards.dataset import kinds_in
from foils.errors import UserError, run_entry
from foils.recipe import decode_config, overridden, without_removed
from foils.words import shortened
from foils.words import table as aligned

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


def explain(inputs: Inputs, selection: Selection, variants: Mapping[str, str], query_id: str) -> str:
    """The query, its positives, and every candidate of every kind in the order of ranks.

    Args:
        inputs: what was selected from.
        selection: what came of it.
        variants: kind -> the kind whose candidates it takes.
        query_id: the query.

    Raises:
        UserError: the data set has no such query.
    """
    place = pc.index(inputs.queries["_id"], query_id).as_py()
    if place < 0:
        some = ", ".join(map(repr, inputs.queries["_id"].slice(0, 3).to_pylist()))
        raise UserError(
            f"query {query_id!r}: not among the {inputs.queries.num_rows} queries of this data set, such as {some}"
        )
    scores = {name: _of_query(table, query_id, "score") for name, table in sorted(inputs.scores.items())}

    def row(kind: str, rank: str, passage_id: str, fate: str) -> list[str]:
        found = (known.get(passage_id) for known in scores.values())
        cells = ["" if score is None else f"{score:.4f}" for score in found]
        text = inputs.passages.texts(inputs.passages.positions([passage_id]))[0].as_py()
        return [kind, rank, passage_id, *cells, fate, shortened(text)]

    rows = [["kind", "rank", "passage", *scores, "fate", "text"]]
    rows += [row("positive", "", found, "") for found in _of_query(selection.qrels, query_id, "score")]
    for kind in pc.unique(selection.fates["kind"]).to_pylist():
        if is_mix(kind):
            continue
        table = inputs.candidates[variants.get(kind, kind)]
        fates = _of_query(selection.fates.filter(pc.equal(selection.fates["kind"], kind)), query_id, "fate")
        ranks = _of_query(table, query_id, "rank")
        ordered = sorted(ranks, key=lambda passage: (ranks[passage], passage))
        rows += [row(kind, str(ranks[found]), found, fates[found]) for found in ordered]
    stays = query_id in set(selection.queries.to_pylist())
    lines = [f"{query_id}: {inputs.queries['text'][place].as_py()}", ""]
    width = max(shutil.get_terminal_size((200, 24)).columns, 80)
    lines += [line[:width] for line in aligned(rows, left=(0, 2, 3 + len(scores), 4 + len(scores)))]
    lines += ["", "This query is in the training rows." if stays else "This query is in no training row:"]
    if not stays:
        drops = selection.drops.filter(pc.equal(selection.drops["id"], query_id)).to_pylist()
        lines += [f"  {row['reason']}, {row['detail']}" for row in drops]
    return "\n".join(lines)


def _of_query(table: pa.Table, query_id: str, column: str) -> dict[str, Any]:
    """Returns one query's values by passage id."""
    mine = table.filter(pc.equal(table["query-id"], query_id))
    return dict(zip(mine["corpus-id"].to_pylist(), mine[column].to_pylist(), strict=True))


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
