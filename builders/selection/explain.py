"""One query's candidates as a table for the terminal: rank, all scores, outcome, and how the text begins."""

import shutil
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from builders.selection import Selection
from builders.selection.frame import Inputs
from builders.selection.mixes import is_mix
from foils.errors import UserError
from foils.words import shortened
from foils.words import table as aligned


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
