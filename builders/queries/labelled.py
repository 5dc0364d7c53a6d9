"""Labelled queries: the user's own, with judgements, in place of the LLM's.

labelled = read(config, corpus, seed)

A row's positive is the passage with the highest score. All others that were judged relevant are known too, so that none
becomes a negative. A passage that was dropped as a repeat is known by the id of the one that stays.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.corpus import Corpus, drops_table, sample
from builders.corpus.cleaning import DUPLICATE, SAME_TEXT
from builders.passages import Passages
from builders.queries import STAGE, TABLE
from builders.queries.config import QueriesConfig
from foils.archives import unpacked
from foils.beir import judgements, part, qrels_files, records
from foils.errors import UserError
from foils.provenance import sha256_file
from foils.texts import normalised

Drop = tuple[str, str, str]
"""Id, reason and detail of what is left out."""
Pair = tuple[str, str]
"""Ids of a query and a passage."""


class Labelled(NamedTuple):
    """Queries and what is known of them.

    Attributes:
        queries: `queries.TABLE`, in the file's order; `corpus-id` is the passage with the highest score,
            ties broken by id.
        qrels: `schema.QRELS`: all positives of these queries, or the rows' own alone where the others are held out.
        drops: `schema.DROPS`: queries that have no positive, and judgements of the others that make no known positive.
        judged: how many queries the split judges; 0 where there are no judgements at all.
        with_positive: how many of them have a positive, before `queries.sample`.
        files: file -> SHA-256 (hex) of what was read.
    """

    queries: pa.Table
    qrels: pa.Table
    drops: pa.Table
    judged: int
    with_positive: int
    files: Mapping[str, str]

    @property
    def is_unjudged(self) -> bool:
        """Whether they came without judgements, so that the exam's LLM has yet to find their answers."""
        return not self.judged

    def about(self, config: QueriesConfig) -> dict[str, object]:
        """Where they come from, as manifests keep it."""
        # As with the corpus, a path means nothing to a reader of the card elsewhere; the hashes do.
        name = Path(config.source or "").resolve().name
        return {"source": name, "split": config.split, "files": dict(self.files)}

    def qrels_of(self, queries: pa.Table) -> pa.Table:
        """The positives of some of the queries."""
        return self.qrels.filter(pc.is_in(self.qrels["query-id"], value_set=queries["_id"]))


def read(config: QueriesConfig, corpus: Corpus, seed: int, stage: str = STAGE) -> Labelled:
    """Reads the queries and judgements that a recipe names in the table `stage`, and fits them to the corpus.

    Raises:
        UserError: the folder or a file of it is missing or malformed, a query's id occurs twice, or no judgement
            above 0 is of a query and a passage that are there.
    """
    folder = unpacked(Path(config.source or ""), stage)
    asked_in, judged_in = part(folder, "queries", stage), qrels_files(folder, config.split, stage)
    repeats = corpus.drops.filter(pc.equal(corpus.drops["reason"], DUPLICATE)).to_pylist()
    originals = {row["id"]: row["detail"].removeprefix(SAME_TEXT) for row in repeats}
    found = [
        (query, originals.get(passage, passage), score) for f in judged_in for query, passage, score in judgements(f)
    ]
    if not found:
        raise UserError(f"qrels {judged_in[0]}: holds no judgements; set {stage}.split to another, or fill the file")
    judged: dict[Pair, int] = {}  # each pair once with its highest score
    for query, passage, score in found:
        judged[query, passage] = max(score, judged.get((query, passage), score))
    ids = dict.fromkeys(query for query, _ in judged)
    texts = {row.id: (row.text or "").strip() for row in records(asked_in, stage) if row.id in ids}
    texts = {query: text if normalised(text) else "" for query, text in texts.items()}
    positives = _positives(judged, corpus)
    best = {query: min(own, key=lambda passage: (-own[passage], passage)) for query, own in positives.items()}
    rows = [(query, text, best[query]) for query, text in texts.items() if text and query in best]
    if not rows:
        query, passage, _ = found[0]
        raise UserError(
            f"{stage} {config.source}: no judgement above 0 in {judged_in[0].name} is of a query in {asked_in[0].name} "
            f"and a passage of corpus {corpus.source} (the first is of query {query!r} and passage {passage!r}); "
            "wanted queries and corpus of the same collection"
        )
    chosen = sample(_table(rows, TABLE), config.sample, seed)
    drawn = set(chosen["_id"].to_pylist())
    if config.hold_out_positives:
        positives = {query: {best[query]: positives[query][best[query]]} for query in drawn}
    qrels = _with_twins(judged, positives, texts, drawn)
    drops = _query_drops(ids, texts, best)
    drops += _judgement_drops([pair for pair in judged if pair[0] in drawn and pair not in qrels], judged, corpus)
    outdone = (row for row in found if row[2] < judged[row[:2]])
    drops += [(f"{query} {passage}", "judged-higher-too", f"score {score}") for query, passage, score in outdone]
    return Labelled(
        chosen,
        _table([(*pair, score) for pair, score in qrels.items()], schema.QRELS),
        drops_table(stage, drops),
        len(ids),
        len(rows),
        {file.relative_to(folder).as_posix(): sha256_file(file) for file in [*asked_in, *judged_in]},
    )


def unjudged(config: QueriesConfig, seed: int, stage: str) -> Labelled:
    """Reads queries without judgements, each text once; `corpus-id` is null.

    Raises:
        UserError: the folder or a file of it is missing or malformed, or no query has a text.
    """
    folder = unpacked(Path(config.source or ""), stage)
    files, rows, drops, taken = part(folder, "queries", stage), [], list[Drop](), dict[str, str]()
    for row in records(files, stage):
        text = (row.text or "").strip()
        if same := normalised(text):
            first = taken.setdefault(same, row.id)
            if first == row.id:
                rows.append((row.id, text, None))
            else:
                drops.append((row.id, "duplicate", SAME_TEXT + first))
        else:
            drops.append((row.id, "empty", ""))
    if not rows:
        raise UserError(f"{stage} {config.source}: no query in {files[0].name} has a text; wanted _id and text")
    chosen, hashes = sample(_table(rows, TABLE), config.sample, seed), {each.name: sha256_file(each) for each in files}
    return Labelled(chosen, schema.QRELS.empty_table(), drops_table(stage, drops), 0, 0, hashes)


def _table(rows: Sequence[tuple[object, ...]], form: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, form, strict=True)], form)


def _positives(judged: Mapping[Pair, int], corpus: Corpus) -> dict[str, dict[str, int]]:
    """Query -> passages of the corpus that are judged relevant to it, with their scores."""
    relevant = [*dict.fromkeys(passage for (_, passage), score in judged.items() if score > 0)]
    there = dict(zip(relevant, Passages(corpus.passages).positions(relevant) >= 0, strict=True))
    found: dict[str, dict[str, int]] = {}
    for (query, passage), score in judged.items():
        if score > 0 and there[passage]:
            found.setdefault(query, {})[passage] = score
    return found


def _with_twins(
    judged: Mapping[Pair, int],
    positives: Mapping[str, Mapping[str, int]],
    texts: Mapping[str, str],
    drawn: Collection[str],
) -> dict[Pair, int]:
    """Positives of the drawn queries: what answers one of several queries of one text answers the others."""
    same = {query: normalised(text) for query, text in texts.items()}
    shared: dict[str, dict[str, int]] = {}
    for query, text in same.items():
        of_text = shared.setdefault(text, {})
        for passage, score in positives.get(query, {}).items():
            of_text[passage] = max(score, of_text.get(passage, score))
    own = (pair for pair in judged if pair[0] in drawn)
    twins = ((query, passage) for query in texts if query in drawn for passage in shared[same[query]])
    pairs = dict.fromkeys((*own, *twins))
    return {pair: shared[same[pair[0]]][pair[1]] for pair in pairs if pair[1] in shared[same[pair[0]]]}


def _query_drops(ids: Iterable[str], texts: Mapping[str, str], best: Mapping[str, str]) -> list[Drop]:
    why = "no passage in the corpus is judged relevant to it: "
    drops = [(query, "empty", "") for query, text in texts.items() if not text]
    drops += [(query, "no-positive", why + text) for query, text in texts.items() if text and query not in best]
    missing = (query for query in ids if query not in texts)
    return drops + [(query, "query-not-found", "judged, but not among the queries") for query in missing]


def _judgement_drops(lost: Sequence[Pair], judged: Mapping[Pair, int], corpus: Corpus) -> Iterator[Drop]:
    """Why each judgement did not become a known positive."""
    passages = pa.array([passage for _, passage in lost], pa.string())
    here, dropped = Passages(corpus.passages).positions(passages) >= 0, pc.is_in(passages, value_set=corpus.drops["id"])
    for pair, is_here, was_dropped in zip(lost, here.tolist(), dropped.to_pylist(), strict=True):
        if is_here:
            reason = "held-out" if judged[pair] > 0 else "judged-not-relevant"
        else:
            reason = "judged-passage-was-dropped" if was_dropped else "judged-passage-not-in-corpus"
        yield " ".join(pair), reason, f"score {judged[pair]}"
