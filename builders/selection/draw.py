"""The draw: every kind takes its negatives, and a query that one kind cannot serve leaves all of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builders.passages import Passages
from builders.selection.choice import Queue, queue_up, take_turns
from builders.selection.config import Rules, Wanted
from builders.selection.frame import Flags, Frame, Numbers
from builders.selection.mixes import blend, is_mix, parts_of, quotas, shares_of
from builders.selection.rules import CODE, USABLE, Judged
from builders.texts import jaccard

PAIRS = 20_000  # compared at once: their texts are in memory


class Drawn(NamedTuple):
    """What a kind takes.

    Attributes:
        queue: its usable candidates in order.
        part: `(n_queue,)` which part of a mix a candidate comes from; 0 for plain kinds.
        places: places in the queue that are taken.
        counts: `(n_queries,)` how many a query got, or could have had at its turn where it was left out.
    """

    queue: Queue
    part: npt.NDArray[np.int64]
    places: Numbers
    counts: Numbers


class Draw(NamedTuple):
    """What all kinds take.

    Attributes:
        kinds: kind -> what it takes.
        keep: `(n_queries,)` whether a query stays.
    """

    kinds: dict[str, Drawn]
    keep: Flags


def draw(
    frame: Frame, judged: Mapping[str, Judged], passages: Passages, wanted: Wanted, rules: Mapping[str, Rules]
) -> tuple[Draw, dict[str, Judged]]:
    """Draws until nothing that is taken is a near-duplicate of a positive of its query.

    Only what would be taken is compared, since that takes reading texts.

    Args:
        frame: what all kinds share.
        judged: the candidates of plain kinds and variants.
        passages: their texts.
        wanted: kinds, number, shares and seed.
        rules: of kinds and mixes.

    Returns:
        What is taken, and the candidates with the near-duplicates marked.
    """
    judged = {kind: found._replace(outcome=found.outcome.copy()) for kind, found in judged.items()}
    compared = {kind: np.zeros(len(found.outcome), np.bool_) for kind, found in judged.items()}
    while True:
        result = _draw_once(frame, judged, wanted, rules)
        found_out = 0
        for kind, drawn in result.kinds.items():
            for number, part in enumerate(parts_of(kind)):
                threshold = rules[part].near_duplicate
                ahead = np.flatnonzero(drawn.queue.place_in_query() <= wanted.per_query)  # one more spares rounds
                places = np.union1d(drawn.places, ahead) if threshold else ahead[:0]
                sources = drawn.queue.source[places[drawn.part[places] == number]]
                fresh = sources[~compared[part][sources]]
                compared[part][fresh] = True
                twins = fresh[_closest(frame, passages, judged[part], fresh) >= threshold]
                judged[part].outcome[twins] = CODE["near-duplicate-of-a-positive"]
                found_out += len(twins)
        if not found_out:
            return result, judged


def _draw_once(frame: Frame, judged: Mapping[str, Judged], wanted: Wanted, rules: Mapping[str, Rules]) -> Draw:
    queues: dict[str, tuple[Queue, npt.NDArray[np.int64]]] = {}
    for kind, found in judged.items():
        queue = queue_up(frame, kind, found, rules[kind], wanted.seed)
        queues[kind] = queue, np.zeros(len(queue.query), np.int64)
    for kind in filter(is_mix, wanted.kinds):
        numbers = quotas(frame, kind, shares_of(kind, wanted.shares), wanted.per_query, wanted.seed)
        parts = [queues[part][0] for part in parts_of(kind)]
        # With a cap on uses a part may stand in for another whose passages the cap has taken away.
        queues[kind] = blend(frame, parts, numbers, fill=rules[kind].max_uses is not None)
    queues = {kind: queues[kind] for kind in wanted.drawn_kinds}
    caps = [rules[kind].max_uses for kind in queues]
    if not queues:  # rows without negatives
        return Draw({}, np.ones(len(frame.query_keys), np.bool_))
    drawn = take_turns(frame, [queue for queue, _ in queues.values()], caps, wanted.per_query, wanted.seed)
    kinds = {kind: Drawn(*queues[kind], *found) for kind, found in zip(queues, drawn, strict=True)}
    return Draw(kinds, np.all([found.counts == wanted.per_query for found in kinds.values()], axis=0))


def outcomes(judged: Judged, drawn: Drawn, result: Draw, max_uses: int | None) -> npt.NDArray[np.int16]:
    """Returns the outcomes of a kind's candidates, `(n_candidates,)`: places in `OUTCOMES`, or -N for `negative_N`.

    Args:
        judged: its candidates.
        drawn: what the kind takes.
        result: which queries stay.
        max_uses: how often a passage may serve.
    """
    outcome, query = judged.outcome.astype(np.int16), judged.pool.query
    usable = outcome == CODE[USABLE]
    outcome[usable] = CODE["not-needed"]
    taken = drawn.queue.at(drawn.places)
    if max_uses is not None:
        uses = np.bincount(taken.passage, minlength=judged.pool.passage.max(initial=0) + 1)
        outcome[usable & (uses[judged.pool.passage] >= max_uses)] = CODE["served-too-often"]
    took = np.zeros(len(outcome), np.bool_)
    took[taken.source] = True
    outcome[usable & ~result.keep[query] & (took | (outcome == CODE["not-needed"]))] = CODE["its-query-was-left-out"]
    number = taken.place_in_query() + 1
    became = result.keep[taken.query]
    outcome[taken.source[became]] = -number[became]
    return outcome


def _closest(frame: Frame, passages: Passages, judged: Judged, sources: Numbers) -> npt.NDArray[np.float64]:
    """How near each candidate comes to the nearest positive of its query."""
    closest = np.zeros(len(sources))
    query, passage = judged.pool.query[sources], judged.pool.passage[sources]
    owners = frame.positives // len(frame.positions)
    first, last = np.searchsorted(owners, query), np.searchsorted(owners, query + 1)
    candidate = np.repeat(np.arange(len(sources)), last - first)
    offsets = np.arange(len(candidate)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
    positive = frame.positives[np.repeat(first, last - first) + offsets] % len(frame.positions)
    for start in range(0, len(candidate), PAIRS):
        rows = slice(start, start + PAIRS)
        pairs = (passage[candidate[rows]], positive[rows])
        texts, references = (passages.texts(frame.positions[codes]) for codes in pairs)
        similarities = jaccard(texts, references)
        untitled = np.flatnonzero(frame.text[pairs[0]] == frame.body[pairs[0]])  # the positive's title does not count
        plain = jaccard(texts.take(pa.array(untitled)), passages.bodies(frame.positions[pairs[1][untitled]]))
        similarities[untitled] = np.maximum(similarities[untitled], plain)
        np.maximum.at(closest, candidate[rows], similarities)
    return closest
