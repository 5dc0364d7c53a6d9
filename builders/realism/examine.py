"""The realism and hardness audit of a built data set, as a plain dict.

result, files = examine(folder, AuditConfig())
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta, Struct

from builders.audit.judges import CrossEncoderJudge, score
from builders.corpus import sample
from builders.dataset.folder import MANIFEST, cache_of
from builders.dataset.read import DataSet
from builders.hashing import keyed_hash
from builders.passages import Passages
from builders.realism import figure, gaps, hardness, queries
from builders.realism.separability import (
    Text,
    by_embeddings,
    by_words,
    encode,
    joined,
    telling_words,
    tokens_of,
)
from foils.errors import UserError
from foils.models import resolve_model

FIGURE = "figures/hardness"
VOCABULARY = 20_000
"""Passages, drawn at random, whose words count as the corpus's."""


class AuditConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the audit is made.

    Attributes:
        sampled: texts of a side that classifiers and counts get at most, drawn at random.
        seed: of all samples.
        model: an embedding model for a second classifier: a folder, a Hub id or `package:NAME`; without one, none.
        scorer: whose scores measure hardness; without one, the first of cross-encoder, dense and bm25 that scored
            the negatives of all kinds.
        score_with: in place of stored scores, a cross-encoder that scores the negatives of all kinds now.
        query_log: a file with real queries, that the generated ones are compared with.
    """

    sampled: Annotated[int, Meta(ge=100)] = 2000
    seed: int = 42
    model: str | None = None
    scorer: str | None = None
    score_with: str | None = None
    query_log: Path | None = None


class Built(NamedTuple):
    """What the audit reads of a data set.

    Attributes:
        dataset: the data set.
        corpus: its passages.
        own: `queries.TABLE`: queries with the id of their own passage.
    """

    dataset: DataSet
    corpus: Passages
    own: pa.Table


def examine(folder: Path, config: AuditConfig) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Audits a data set.

    Args:
        folder: of a finished build.
        config: samples, models, files.

    Returns:
        The result (manifest key `audit.realism`), and pictures by their path in the folder.

    Raises:
        UserError: the folder holds no data set, or a scorer, a model or a log is not there.
    """
    log = None if config.query_log is None else queries.read_log(config.query_log)
    built = _read(folder)
    difficulty, files = _hardness(built, config)
    result = {
        "settings": {"sampled": config.sampled, "seed": config.seed, "model": config.model},
        "generated": _generated(built, config),
        "queries": _queries(built, config, log),
        "hardness": difficulty,
    }
    return result, files


def _read(folder: Path) -> Built:
    dataset = DataSet(folder)
    tables: dict[str, Any] = {name: dataset.table(name) for name in ("corpus", "queries", "default")}
    missing = [name for name, table in tables.items() if table is None]
    if missing:
        raise UserError(f"data set {folder}: {MANIFEST} lists no configuration {missing[0]!r}; build it again")
    queries, qrels = tables["queries"], tables["default"]
    positives = qrels.group_by("query-id", use_threads=False).aggregate([("corpus-id", "first")])
    place = pc.index_in(queries["_id"], value_set=positives["query-id"])
    own = queries.append_column("corpus-id", positives["corpus-id_first"].take(place))
    return Built(dataset, Passages(tables["corpus"]), own.filter(pc.is_valid(own["corpus-id"])))


def _generated(built: Built, config: AuditConfig) -> dict[str, Any]:
    """Kind -> how its written negatives compare with the passages of the same queries."""
    generated = built.dataset.table("generated")
    if generated is None:
        return {}
    # `QUERY/KINDn`, as `negatives.llm` names them.
    kinds = pc.replace_substring_regex(generated["_id"], pattern=r"^.*/([^/]*?)\d+$", replacement=r"\1")
    place = pc.index_in(generated["query-id"], value_set=built.own["_id"])
    generated = generated.append_column("corpus-id", built.own["corpus-id"].take(place))
    vocabulary = sample(built.corpus.table, VOCABULARY, config.seed)
    return {
        kind: _compared(generated.filter(pc.equal(kinds, kind)), vocabulary, built, config)
        for kind in sorted(pc.unique(kinds).to_pylist())
    }


def _compared(generated: pa.Table, vocabulary: pa.Table, built: Built, config: AuditConfig) -> dict[str, Any]:
    """One kind's figures; texts of queries that were dropped later count as repeats only."""
    used = drawn(generated.filter(pc.is_valid(generated["corpus-id"])), config)
    own_ids = pc.unique(used["corpus-id"])
    at = built.corpus.positions(own_ids)
    texts, bodies, titled = used["text"].to_pylist(), built.corpus.bodies(at), built.corpus.texts(at)
    own = own_ids.to_pylist()
    ours = [Text(text, group) for text, group in zip(texts, used["corpus-id"].to_pylist(), strict=True)]
    result: dict[str, Any] = {
        "texts": generated.num_rows,
        "sampled": len(texts),
        "passages": len(own),
        "exact_duplicates": gaps.exact_duplicates(generated["text"]),
        "near_duplicates": gaps.near_duplicates(texts),
    }
    if not texts:
        return result
    has_titles = not bodies.equals(titled)
    variants = {"without_titles": bodies, **({"with_titles": titled} if has_titles else {})}
    sides = {
        name: joined(ours, [Text(text, group) for text, group in zip(column.to_pylist(), own, strict=True)])
        for name, column in variants.items()
    }
    result |= {"with_titles": None} | {name: {"words": by_words(both, config.seed)} for name, both in sides.items()}
    result["telling"] = telling_words(sides["without_titles"], ("generated", "corpus"))
    if config.model is not None:
        texts_once = list(dict.fromkeys(text for both in sides.values() for text in both.texts))
        place = {text: row for row, text in enumerate(texts_once)}
        vectors = encode(texts_once, config.model)
        for name, both in sides.items():
            own_vectors = vectors[[place[text] for text in both.texts]]
            result[name]["embeddings"] = by_embeddings(both, own_vectors, config.seed)
    plain = bodies.to_pylist()
    apart = vocabulary.filter(pc.invert(pc.is_in(vocabulary["_id"], value_set=own_ids)))
    known = {word for text in apart["text"].to_pylist() for word in tokens_of(text)}
    ratios = gaps.type_token_ratios(texts, plain)
    for name, side, ratio in (("generated", texts, ratios[0]), ("corpus", plain, ratios[1])):
        unknown = gaps.unknown_words(side, known) if known else None
        result[name] = {"words": gaps.lengths(side), "unknown_words": unknown, "type_token": ratio}
    return result | {"length_gap": gaps.length_gap(texts, plain)}


def _queries(built: Built, config: AuditConfig, log: list[str] | None) -> dict[str, Any]:
    own = drawn(built.own, config)
    texts = own["text"].to_pylist()
    passages = built.corpus.texts(built.corpus.positions(own["corpus-id"])).to_pylist()
    result = queries.describe(texts, passages, built.dataset.language)
    result["log"] = None
    if log is not None:
        log = sorted(log, key=lambda query: keyed_hash(config.seed, "log", query))[: config.sampled]
        ours = [Text(text, group) for text, group in zip(texts, own["corpus-id"].to_pylist(), strict=True)]
        result["log"] = queries.distance_to_log(ours, log, config.seed, config.model)
    return result


def _hardness(built: Built, config: AuditConfig) -> tuple[dict[str, Any], dict[str, bytes]]:
    configs = built.dataset.manifest["configs"]
    scorers = sorted(name.removeprefix("scores-") for name in configs if name.startswith("scores-"))
    negatives, qrels = hardness.negatives_of(built.dataset.table("fates")), built.dataset.table("default")

    def margins_of(scorer: str) -> dict[str, Any]:
        return hardness.margins(negatives, qrels, built.dataset.table(f"scores-{scorer}"))

    chosen = (
        hardness.choose_scorer(scorers, config.scorer, margins_of)
        if config.score_with is None
        else _scored_now(built, negatives, qrels, config.score_with)
    )
    if chosen is None:
        have = ", ".join(scorers) or "none"
        return {
            "why_not": f"no scorer has scored the negatives of all kinds (scores by: {have}); name a cross-encoder "
            "with --score-with"
        }, {}
    scorer, margins = chosen
    result: dict[str, Any] = {"scorer": scorer, "kinds": {kind: hardness.figures(margins[kind]) for kind in margins}}
    if not any(np.isfinite(values).any() for values in margins.values()):
        return result | {"figure": None}, {}
    pictures = figure.draw(margins, scorer)
    result |= {"figure": f"{FIGURE}.png", "alt": figure.describe(result["kinds"], scorer)}
    return result, {f"{FIGURE}.{form}": content for form, content in pictures.items()}


def _scored_now(
    built: Built, negatives: pa.Table, qrels: pa.Table, model: str
) -> tuple[str, Mapping[str, hardness.Floats]]:
    """A cross-encoder's name, and the margins by its scores of all negatives and all positives of their queries."""
    pair = ["query-id", "corpus-id"]
    asked = pc.is_in(qrels["query-id"], value_set=pc.unique(negatives["query-id"]))
    pairs = pa.concat_tables([negatives.select(pair), qrels.filter(asked).select(pair)])
    pairs = pairs.group_by(pair, use_threads=False).aggregate([])
    generated = built.dataset.table("generated")
    passages = built.corpus if generated is None else built.corpus.and_generated(generated)
    judge = CrossEncoderJudge(model)
    scores = score(pairs, built.own.select(["_id", "text"]), passages, judge, cache_of(built.dataset.folder))
    return resolve_model(model).name, hardness.margins(negatives, qrels, scores)


def drawn(table: pa.Table, config: AuditConfig) -> pa.Table:
    """At most `sampled` rows, those whose `_id` has the smallest keyed hash, in the table's order."""
    if table.num_rows <= config.sampled:
        return table
    ids = table["_id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda row: keyed_hash(config.seed, "realism", ids[row]))
    return table.take(pa.array(sorted(order[: config.sampled])))
