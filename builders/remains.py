"""Ends a build of which nothing remains, with the most frequent reasons."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from builders.negatives import Mined
from foils.errors import UserError


def check_queries(accepted: pa.Table, drops: Sequence[pa.Table], *, leaked: bool) -> None:
    """Refuses to go on without any query.

    Args:
        accepted: queries that are left.
        drops: `schema.DROPS` of writing, and of the round trip.
        leaked: whether the leakage guard has dropped queries too.
    """
    if accepted.num_rows:
        return
    if leaked:
        raise UserError(
            "no query was accepted: all of them stand in evaluation sets (leakage.against); build from another corpus, "
            "or set leakage.policy to allow"
        )
    written, round_trip = drops
    why = f" ({_reasons(written)})" if written.num_rows else ""
    raise UserError(
        f"no query was accepted: {written.num_rows} were not usable{why} and {round_trip.num_rows} did not find their "
        "passage; try another LLM or a larger queries.round_trip_k (--doctor tries the LLM)"
    )


def check_rows(selected: pa.Array, drops: pa.Table, mined: Mapping[str, Mined]) -> None:
    """Refuses a data set without any training row.

    Args:
        selected: ids of queries that have negatives of every kind.
        drops: `schema.DROPS` of selection.
        mined: kind -> what was found.
    """
    if len(selected):
        return
    details = Counter(row["detail"] for row in drops.to_pylist() if row["reason"] == "too-few-negatives")
    [(most, _)] = details.most_common(1)
    found = mined.get(most.partition(":")[0])
    why = f", answers dropped: {_reasons(found.drops)}" if found is not None and found.drops.num_rows else ""
    raise UserError(
        f"no query has enough negatives of every kind ({most} for most of them{why}); set "
        "negatives.per_query lower, loosen [selection], or leave that kind out of negatives.kinds"
    )


def _reasons(drops: pa.Table) -> str:
    return ", ".join(f"{reason}: {number}" for reason, number in Counter(drops["reason"].to_pylist()).most_common(4))
