"""Selection: from stored candidates to training rows. Pure; every query that is lost is counted with its reason.

All kinds keep the same queries, so that a comparison of kinds compares nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from builders import schema
from builders.corpus import drops_table


class Selection(NamedTuple):
    """Training-ready rows.

    Attributes:
        queries: `queries.TABLE`, those that every kind has enough negatives for.
        rows: kind -> `schema.training(per_query)`, row i of each for query i.
        drops: `schema.DROPS`: queries without enough negatives of a kind, and candidates that were the positive.
    """

    queries: pa.Table
    rows: dict[str, pa.Table]
    drops: pa.Table


def select(
    queries: pa.Table,
    candidates: Mapping[str, pa.Table],
    texts: Mapping[str, str],
    bodies: Mapping[str, str],
    per_query: int,
) -> Selection:
    """Takes each query's best-ranked candidates that are not its positive, by id and by normalised text.

    Args:
        queries: `queries.TABLE`; `corpus-id` names the positive.
        candidates: kind -> `schema.CANDIDATES`, in any order.
        texts: id -> passage as the trainer reads it, of corpus passages and generated ones.
        bodies: id -> passage without its title; two passages are the same if their bodies are.
        per_query: negatives per row.
    """
    positives = dict(zip(queries["_id"].to_pylist(), queries["corpus-id"].to_pylist(), strict=True))
    chosen: dict[str, dict[str, list[str]]] = {}
    drops: list[tuple[str, str, str]] = []
    for kind, table in candidates.items():
        chosen[kind] = {}
        ranked = _by_query(table)
        for query_id, positive in positives.items():
            picked, positives_met = _pick(ranked.get(query_id, []), positive, bodies, per_query)
            chosen[kind][query_id] = picked
            drops += [(f"{query_id} {met}", "is-the-positive", kind) for met in positives_met]
            if len(picked) < per_query:
                drops.append((query_id, "too-few-negatives", f"{kind}: {len(picked)} of {per_query}"))
    keep = [all(len(chosen[kind][query_id]) == per_query for kind in candidates) for query_id in positives]
    kept = queries.filter(pa.array(keep, pa.bool_()))
    rows = {
        kind: _rows(kept, [chosen[kind][query_id] for query_id in kept["_id"].to_pylist()], texts, per_query)
        for kind in candidates
    }
    return Selection(kept, rows, drops_table("selection", drops))


def _pick(
    ranked: Sequence[str], positive: str, bodies: Mapping[str, str], per_query: int
) -> tuple[list[str], list[str]]:
    """The first `per_query` usable candidates, and those met on the way that were the positive."""
    taken = {schema.normalised(bodies[positive])}
    picked: list[str] = []
    positives_met: list[str] = []
    for candidate in ranked:
        if len(picked) == per_query:
            break
        body = schema.normalised(bodies[candidate])
        if candidate == positive or body == schema.normalised(bodies[positive]):
            positives_met.append(candidate)
        elif body not in taken:
            taken.add(body)
            picked.append(candidate)
    return picked, positives_met


def _by_query(candidates: pa.Table) -> dict[str, list[str]]:
    """Query id -> candidate ids by rank."""
    ranked: dict[str, list[tuple[int, str]]] = {}
    for row in candidates.to_pylist():
        ranked.setdefault(row["query-id"], []).append((row["rank"], row["corpus-id"]))
    return {query_id: [candidate for _, candidate in sorted(pairs)] for query_id, pairs in ranked.items()}


def _rows(queries: pa.Table, negatives: Sequence[Sequence[str]], texts: Mapping[str, str], per_query: int) -> pa.Table:
    columns = {
        "query": queries["text"].to_pylist(),
        "positive": [texts[positive] for positive in queries["corpus-id"].to_pylist()],
    }
    for number in range(per_query):
        columns[f"negative_{number + 1}"] = [texts[ids[number]] for ids in negatives]
    return pa.table(columns, schema.training(per_query))
