"""Labelled queries: the user's own, with judgements, in place of the LLM's.

labelled = read(config, corpus, seed)

A row's positive is the passage with the highest score. All others that were judged relevant are known too, so that none
becomes a negative. A passage that was dropped as a repeat is known by the id of the one that stays.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from builders.corpus import DUPLICATE, SAME_TEXT, Corpus, drops_table, sample
from builders.passages import Passages
from builders.queries import STAGE, TABLE
from builders.queries.config import QueriesConfig
from foils.beir import jsonl, judgements, stated, text_of
from foils.errors import UserError
from foils.provenance import sha256_file
from foils.texts import normalised

Judged = dict[tuple[str, str], int]
"""Query and passage -> score."""
Drop = tuple[str, str, str]
"""Id, reason and detail of what is left out."""


class Labelled(NamedTuple):
    """Queries and what is known of them.

    Attributes:
        queries: `queries.TABLE`, in the file's order; `corpus-id` is the passage with the highest score,
            ties broken by id.
        qrels: `schema.QRELS`: all positives of these queries, or the rows' own alone where the others are held out.
        drops: `schema.DROPS`: queries that have no positive, and judgements of the others that make no known positive.
        judged: how many queries the split judges.
        with_positive: how many of them have a positive, before `queries.sample`.
        files: file -> SHA-256 (hex) of what was read.
    """

    queries: pa.Table
    qrels: pa.Table
    drops: pa.Table
    judged: int
    with_positive: int
    files: Mapping[str, str]

    def about(self, config: QueriesConfig) -> dict[str, object]:
        """Where they come from, as manifests keep it."""
        # As with the corpus, a path means nothing to a reader of the card elsewhere; the hashes do.
        name = Path(config.source or "").resolve().name
        return {"source": name, "split": config.split, "files": dict(self.files)}

    def steps(self) -> dict[str, int]:
        """The funnel's first steps."""
        steps = {"queries judged": self.judged, "queries with a positive in the corpus": self.with_positive}
        drawn = self.queries.num_rows
        return steps if drawn == self.with_positive else {**steps, "queries drawn": drawn}

    def qrels_of(self, queries: pa.Table) -> pa.Table:
        """The positives of some of the queries."""
        return self.qrels.filter(pc.is_in(self.qrels["query-id"], value_set=queries["_id"]))


def read(config: QueriesConfig, corpus: Corpus, seed: int) -> Labelled:
    """Reads the queries and judgements that a recipe names, and fits them to the corpus.

    Raises:
        UserError: the folder or a file of it is missing or malformed, a query's id occurs twice, or no judgement
            above 0 is of a query and a passage that are there.
    """
    folder = Path(config.source or "")
    files = _files(folder, config.split)
    rows = _judgements(files[1], corpus.drops)
    judged = _once(rows)
    names = list(dict.fromkeys(query_id for query_id, _ in judged))
    texts = _texts(files[0], set(names))
    here = _among(judged, Passages(corpus.passages))
    positives = {pair: score for pair, score in judged.items() if score > 0 and pair[1] in here}
    best: dict[str, str] = {}
    for query_id, passage_id in sorted(positives, key=lambda pair: (-positives[pair], pair[1])):
        best.setdefault(query_id, passage_id)
    usable = [(query_id, text, best[query_id]) for query_id, text in texts.items() if text and query_id in best]
    if not usable:
        query_id, passage_id = next(iter(judged))
        raise UserError(
            f"queries {config.source}: no judgement above 0 in {files[1].name} is of a query in queries.jsonl and a "
            f"passage of corpus {corpus.source} (the first is of query {query_id!r} and passage {passage_id!r}); "
            "wanted queries and corpus of the same collection"
        )
    chosen = sample(_table(usable, TABLE), config.sample, seed)
    own = dict(zip(chosen["_id"].to_pylist(), chosen["corpus-id"].to_pylist(), strict=True))
    if config.hold_out_positives:
        positives = {pair: score for pair, score in positives.items() if own.get(pair[0]) == pair[1]}
    known = {pair: score for pair, score in _with_twins(positives, texts).items() if pair[0] in own}
    lost = {pair: score for pair, score in judged.items() if pair[0] in own and pair not in known}
    drops = [*_query_drops(names, texts, best), *_judgement_drops(lost, here, corpus.drops)]
    drops += [
        (f"{query_id} {passage_id}", "judged-higher-too", f"score {score}")
        for query_id, passage_id, score in rows
        if score < judged[query_id, passage_id]
    ]
    hashes = {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}
    qrels = _table([(*pair, score) for pair, score in known.items()], schema.QRELS)
    return Labelled(chosen, qrels, drops_table(STAGE, drops), len(names), len(usable), hashes)


def _files(folder: Path, split: str) -> tuple[Path, Path]:
    queries, qrels = folder / "queries.jsonl", folder / "qrels" / f"{split}.tsv"
    if not folder.is_dir() or not queries.is_file():
        what = "no queries.jsonl in it" if folder.is_dir() else "no such folder"
        raise UserError(
            f"queries {folder}: {what}; wanted a folder in BEIR's layout, with queries.jsonl and qrels/{split}.tsv"
        )
    if not qrels.is_file():
        found = ", ".join(sorted(file.stem for file in qrels.parent.glob("*.tsv"))) or "none"
        raise UserError(f"queries {folder}: no qrels/{split}.tsv in it; set queries.split to one that it has: {found}")
    return queries, qrels


def _judgements(path: Path, drops: pa.Table) -> list[tuple[str, str, int]]:
    """Query, passage and score of each line; those of a repeated passage are of the one that stays."""
    repeats = drops.filter(pc.equal(drops["reason"], DUPLICATE))
    originals = dict(zip(repeats["id"].to_pylist(), repeats["detail"].to_pylist(), strict=True))
    rows = [
        (query_id, originals[passage_id][len(SAME_TEXT) :] if passage_id in originals else passage_id, score)
        for query_id, passage_id, score in judgements(path)
    ]
    if not rows:
        raise UserError(f"qrels {path}: holds no judgements; set queries.split to another, or fill the file")
    return rows


def _once(rows: Sequence[tuple[str, str, int]]) -> Judged:
    """Each pair once, with its highest score."""
    table = _table(rows, schema.QRELS).group_by(["query-id", "corpus-id"], use_threads=False)
    query_ids, passage_ids, scores = (column.to_pylist() for column in table.aggregate([("score", "max")]).columns)
    return dict(zip(zip(query_ids, passage_ids, strict=True), scores, strict=True))


def _texts(path: Path, judged: set[str]) -> dict[str, str]:
    """Id -> text of the queries of a file that were judged, in its order; empty where there is nothing to read."""
    ids: set[str] = set()
    columns: dict[str, None] = {}
    texts = {}
    for number, record, _ in jsonl(path, "queries"):
        where = f"queries {path}: line {number}"
        query_id = stated(record, "_id", where)
        if query_id in ids:
            raise UserError(f"queries {path}: id {query_id!r} occurs twice; ids must be unique")
        ids.add(query_id)
        columns |= dict.fromkeys(record)
        text = text_of(record.get("text"), f"{where}: 'text'") or ""
        if query_id in judged:
            texts[query_id] = text.strip() if normalised(text) else ""
    if columns and "text" not in columns:
        raise UserError(
            f"queries {path}: no line has a 'text' (there are {', '.join(map(repr, columns))}); wanted objects with "
            "_id and text"
        )
    return texts


def _among(judged: Judged, passages: Passages) -> set[str]:
    """The judged passages that the corpus has."""
    ids = pa.array(dict.fromkeys(passage_id for _, passage_id in judged), pa.string())
    return set(ids.filter(pa.array(np.asarray(passages.positions(ids)) >= 0)).to_pylist())


def _with_twins(positives: Judged, texts: Mapping[str, str]) -> Judged:
    """Positives, and for queries of one text those of all of them: what answers one answers the others."""
    same = defaultdict(list)
    for query_id, text in texts.items():
        same[normalised(text)].append(query_id)
    twins = {query_id: group for group in same.values() if len(group) > 1 for query_id in group}
    shared = [
        (twin, passage_id, score)
        for (query_id, passage_id), score in positives.items()
        for twin in twins.get(query_id, ())
    ]
    return _once([*((*pair, score) for pair, score in positives.items()), *shared]) if shared else positives


def _query_drops(judged: Iterable[str], texts: Mapping[str, str], best: Mapping[str, str]) -> Iterator[Drop]:
    """The judged queries that have no text or no positive, or are not in the file."""
    yield from ((query_id, "empty", "") for query_id, text in texts.items() if not text)
    for query_id, text in texts.items():
        if text and query_id not in best:
            yield query_id, "no-positive", f"no passage in the corpus is judged relevant to it: {text}"
    yield from ((name, "query-not-found", "judged, but not in queries.jsonl") for name in judged if name not in texts)


def _judgement_drops(lost: Judged, here: set[str], drops: pa.Table) -> Iterator[Drop]:
    """Why each judgement did not become a known positive."""
    passages = pa.array([passage_id for _, passage_id in lost], pa.string())
    were_dropped = pc.is_in(passages, value_set=drops["id"]).to_pylist()
    for ((query_id, passage_id), score), was_dropped in zip(lost.items(), were_dropped, strict=True):
        if passage_id in here:
            reason = "held-out" if score > 0 else "judged-not-relevant"
        else:
            reason = "judged-passage-was-dropped" if was_dropped else "judged-passage-not-in-corpus"
        yield f"{query_id} {passage_id}", reason, f"score {score}"


def _table(rows: Sequence[tuple[object, ...]], columns: pa.Schema) -> pa.Table:
    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), columns, strict=True)]
    return pa.table(arrays, columns)
