"""Mining: every kind's candidates, and the scores that selection asks for.

mined = mine_all(queries, context, config)
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.context import Context, timed
from builders.negatives import Mined, bm25, config_of, cross_encoder, dense, llm, llm_with_positive, sampled
from builders.passages import Passages
from builders.recipe import BuildRecipe, NegativesConfig
from builders.scores import llm_judge
from builders.scores.cross_encoder import score_pairs

MINERS: Mapping[str, Callable[..., Mined]] = {
    "llm": llm.mine,
    "llm-with-positive": llm_with_positive.mine,
    "bm25": bm25.mine,
    "cross-encoder": cross_encoder.mine,
    "dense": dense.mine,
    "random": sampled.mine,
}
"""Kind -> `mine(queries, context, config)`; its config is the field of that name in the recipe's `[negatives]`."""
SCORERS: Mapping[str, Callable[..., pa.Table]] = {
    "cross-encoder": score_pairs,
    "dense": dense.score,
    "llm-judge": llm_judge.score,
}
"""Scorer -> `score(pairs, queries, passages, context, config)`, which gives `schema.SCORES` in the pairs' order.

`pairs` has `query-id` and `corpus-id`, `queries` at least their `_id` and `text`. `passages` has all that the pairs
name, with the generated ones.
"""


class Candidates(NamedTuple):
    """All that was mined.

    Attributes:
        mined: plain kind -> candidates, generated passages, drops.
        scores: scorer -> `schema.SCORES`.
        passages: the corpus, and behind it the generated passages of all kinds.
    """

    mined: dict[str, Mined]
    scores: dict[str, pa.Table]
    passages: Passages

    @property
    def generated(self) -> pa.Table:
        """The generated passages of all kinds, `schema.GENERATED`."""
        return pa.concat_tables([schema.GENERATED.empty_table(), *(found.generated for found in self.mined.values())])


def mined_kinds(negatives: NegativesConfig) -> list[str]:
    """Returns the kinds that are mined: neither variants nor mixes of others nor `none`."""
    return [kind for kind in negatives.kinds if kind in MINERS]


def mine_all(queries: pa.Table, context: Context, config: BuildRecipe) -> Candidates:
    """Mines every kind, then scores what selection has rules for and no scorer has scored yet.

    Args:
        queries: `queries.TABLE`.
        context: the corpus and the tools.
        config: the whole recipe, its models filled in.
    """
    mined: dict[str, Mined] = {}
    for kind in mined_kinds(config.negatives):
        with timed(f"{kind} negatives"):
            mined[kind] = MINERS[kind](queries, context, config_of(config.negatives, kind))
    scores = {kind: found.scores for kind, found in mined.items() if found.scores.num_rows}
    found = Candidates(mined, scores, context.corpus)
    found = found._replace(passages=context.corpus.and_generated(found.generated))
    for scorer in sorted(config.scorers & SCORERS.keys()):
        missing = _unscored(queries, found, scorer, config)
        if missing.num_rows:
            with timed(f"{missing.num_rows:,} scores by {scorer}"):
                settings = config_of(config.negatives, scorer)
                more = SCORERS[scorer](missing, queries, found.passages, context, settings)
            known = scores.get(scorer, schema.SCORES.empty_table())
            scores[scorer] = pa.concat_tables([known, more])
    return found._replace(scores=scores)


def _unscored(queries: pa.Table, found: Candidates, scorer: str, config: BuildRecipe) -> pa.Table:
    """Returns pairs that rules look at and the scorer has not seen: positives, and candidates within their ranks."""
    pairs = [queries.select(["_id", "corpus-id"]).rename_columns(["query-id", "corpus-id"])]
    for kind in config.negatives.kinds:
        rules, source = config.selection.rules_for(kind), config.negatives.variants.get(kind, kind)
        if scorer in rules.scorers and source in found.mined:
            ranked = found.mined[source].candidates
            within = ranked if rules.rank_max is None else ranked.filter(pc.less_equal(ranked["rank"], rules.rank_max))
            pairs.append(within.select(["query-id", "corpus-id"]))
    wanted = pa.concat_tables(pairs).group_by(["query-id", "corpus-id"], use_threads=False).aggregate([])
    known = found.scores.get(scorer, schema.SCORES.empty_table()).select(["query-id", "corpus-id"])
    return wanted.join(known, ["query-id", "corpus-id"], join_type="left anti").sort_by(
        [("query-id", "ascending"), ("corpus-id", "ascending")]
    )
