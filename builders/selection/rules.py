"""Why a candidate cannot be a negative: one rule after the other, over all candidates of a kind at once.

The first rule that a candidate breaks is its outcome.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from builders.selection.config import Rules
from builders.selection.frame import Flags, Floats, Frame, Numbers, Pool, Scored
from foils.errors import UserError

USABLE = ""
OUTCOMES = (
    USABLE,
    "is-a-positive",
    "same-text-as-a-positive",
    "is-the-query-itself",
    "in-an-evaluation-set",
    "repeated",
    "relabelled-as-positive",
    "unscored",
    "below-the-floor",
    "above-the-ceiling",
    "too-close-to-the-positive",
    "outside-the-ranks",
    "near-duplicate-of-a-positive",
    "served-too-often",
    "not-needed",
    "its-query-was-left-out",
)
CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}


class Judged(NamedTuple):
    """A kind's candidates with what the rules say of them.

    Attributes:
        pool: the candidates.
        outcome: `(n_candidates,)` places in `OUTCOMES`.
        scores: scorer -> `(n_candidates,)`; NaN where there is none.
        positive_scores: scorer -> `(n_candidates,)`, of the positive of the candidate's query.
    """

    pool: Pool
    outcome: np.ndarray[tuple[int], np.dtype[np.int8]]
    scores: Mapping[str, Floats]
    positive_scores: Mapping[str, Floats]


def relabelled(
    frame: Frame, pools: Mapping[str, Pool], scored: Mapping[str, Scored], rules: Mapping[str, Rules]
) -> Frame:
    """Returns the frame with the further positives that the rules of all kinds find: no kind may have them."""
    for kind, pool in pools.items():
        pairs = frame.pair(pool.query, pool.passage)
        for scorer, threshold in rules[kind].relabel.items():
            scores = _scores(kind, scorer, scored, pairs)
            may_be = frame.in_corpus[pool.passage] & ~_is_the_query(frame, pool)
            frame = frame.with_positives(pairs[(scores >= threshold) & may_be])
    return frame


def judge(frame: Frame, known: Frame, kind: str, pool: Pool, scored: Mapping[str, Scored], rules: Rules) -> Judged:
    """Applies all rules that look at one candidate and its query.

    Args:
        frame: with the positives that relabelling found.
        known: without them.
        kind: for the wording of errors.
        pool: the kind's candidates.
        scored: scorer -> its scores.
        rules: the kind's.

    Raises:
        UserError: a rule looks at a scorer that scored none of these candidates.
    """
    pairs = frame.pair(pool.query, pool.passage)
    positives = frame.pair(pool.query, frame.positive[pool.query])
    scores = {scorer: _scores(kind, scorer, scored, pairs) for scorer in sorted(rules.scorers)}
    positive_scores = {scorer: scored[scorer].of(positives) for scorer in scores}
    outcome = np.zeros(len(pairs), np.int8)

    def mark(flags: Flags, reason: str) -> None:
        outcome[flags & (outcome == 0)] = CODE[reason]

    mark(np.isin(pairs, known.positives), "is-a-positive")
    mark(np.isin(pairs, frame.positives), "relabelled-as-positive")
    mark(_says_what_a_positive_says(frame, pool), "same-text-as-a-positive")
    mark(_is_the_query(frame, pool), "is-the-query-itself")
    mark(frame.kept_out[pool.passage], "in-an-evaluation-set")
    mark(_repeated(frame, pool, outcome == 0), "repeated")
    outside = (pool.rank < rules.rank_min) | (pool.rank > (rules.rank_max or np.iinfo(np.int64).max))
    mark(outside, "outside-the-ranks")
    for scorer, threshold in rules.relabel.items():  # those generated passages that were judged relevant
        mark(scores[scorer] >= threshold, "relabelled-as-positive")
    for flags, reason in _by_scores(scores, positive_scores, rules):
        mark(flags, reason)
    return Judged(pool, outcome, scores, positive_scores)


def _by_scores(
    scores: Mapping[str, Floats], positive_scores: Mapping[str, Floats], rules: Rules
) -> Iterator[tuple[Flags, str]]:
    """Yields the rules that look at scores, in their order; a score that is missing breaks no comparison."""
    around = {rules.around_scorer} if rules.sampling == "around-positive" else set()
    for scorer, values in scores.items():
        yield np.isnan(values), "unscored"
        if scorer in rules.relative_margin.keys() | rules.absolute_margin.keys() | around:
            yield np.isnan(positive_scores[scorer]), "unscored"
    for scorer, limit in rules.floor.items():
        yield scores[scorer] < limit, "below-the-floor"
    for scorer, limit in rules.ceiling.items():
        yield scores[scorer] > limit, "above-the-ceiling"
    for scorer, margin in rules.relative_margin.items():
        bound = positive_scores[scorer] - margin * np.abs(positive_scores[scorer])
        yield scores[scorer] > bound, "too-close-to-the-positive"
    for scorer, margin in rules.absolute_margin.items():
        yield scores[scorer] > positive_scores[scorer] - margin, "too-close-to-the-positive"


def _scores(kind: str, scorer: str, scored: Mapping[str, Scored], pairs: Numbers) -> Floats:
    """Returns a scorer's scores of a kind's candidates, `(n_candidates,)`; NaN where one is missing.

    Raises:
        UserError: there are none.
    """
    if scorer not in scored:
        there = ", ".join(sorted(scored)) or "none"
        raise UserError(
            f"selection: a rule for {kind} looks at scores of {scorer!r}, and its candidates have none (scores in this "
            f"data set: {there}); name another, lift the rule for this kind (selection.kinds.{kind}), or build with it"
        )
    scores = scored[scorer].of(pairs)
    if len(scores) and np.isnan(scores).all():
        raise UserError(
            f"selection: a rule for {kind} looks at scores of {scorer!r}, which has scored none of its candidates, "
            f"such as an LLM that says neither yes nor no; take another, or lift the rule (selection.kinds.{kind})"
        )
    return scores


def _is_the_query(frame: Frame, pool: Pool) -> Flags:
    """Whether candidates have their query's id: where queries stand in the corpus, these are not judged."""
    return np.asarray(frame.query_keys[pool.query] == frame.passage_keys[pool.passage])


def _says_what_a_positive_says(frame: Frame, pool: Pool) -> Flags:
    """Whether candidates repeat a positive; where one of the two has no title, by the text alone.

    What an LLM writes has no title: it copies a positive's text. Where both have titles, these count.
    """
    query, passage = np.divmod(frame.positives, len(frame.positions))
    texts, bodies = (np.unique(frame.text_pair(query, column[passage])) for column in (frame.text, frame.body))
    read, bare = (frame.text_pair(pool.query, column[pool.passage]) for column in (frame.text, frame.body))
    return np.isin(read, texts) | np.isin(read, bodies) | np.isin(bare, texts)


def _repeated(frame: Frame, pool: Pool, left: Flags) -> Flags:
    """Whether an earlier candidate of the query has the same text; the pool is in the order of ranks."""
    places = np.flatnonzero(left)
    texts = frame.text_pair(pool.query, frame.text[pool.passage])
    _, first = np.unique(texts[places], return_index=True)
    repeated = left.copy()
    repeated[places[first]] = False
    return repeated
