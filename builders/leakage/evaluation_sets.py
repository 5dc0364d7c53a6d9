"""The queries and relevant passages of evaluation sets: BEIR folders, and MTEB's retrieval tasks by name."""

import csv
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from builders import schema
from cards.errors import UserError
from cards.hub import explained
from cards.provenance import sha256_texts

logger = logging.getLogger(__name__)

TEXTS = pa.schema([("_id", pa.string()), ("text", pa.string())])


class EvaluationSet(NamedTuple):
    """What a model may not have seen if it is to be called zero-shot.

    Attributes:
        name: of the MTEB task, or of the folder.
        revision: the task's Hub commit, or `sha256:...` of queries and passages.
        queries: `TEXTS`, those with a relevant passage.
        passages: `TEXTS`, as models read them; those that are relevant to one of the queries.
    """

    name: str
    revision: str
    queries: pa.Table
    passages: pa.Table


class _Line(msgspec.Struct):
    """A line of `corpus.jsonl` or `queries.jsonl`."""

    id: str | int = msgspec.field(name="_id")
    text: str
    title: str | None = None


def load_sets(references: Iterable[str]) -> list[EvaluationSet]:
    """Loads what `LeakageConfig.against` names.

    Raises:
        UserError: there is no such folder, split or task, its files are malformed, the task's data cannot be
            fetched, or two of them have one name.
    """
    loaded = [load_set(reference) for reference in references]
    names = [each.name for each in loaded]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"leakage.against: two sets are called {twice!r}; give one another name, such as OTHER=path/to/{twice}"
        )
    return loaded


def load_set(reference: str) -> EvaluationSet:
    """Loads one evaluation set.

    Raises:
        UserError: as `load_sets`.
    """
    name, equals, place = reference.partition("=")
    if not equals:
        name, place = "", reference
    if Path(place).is_dir():
        return _folder(Path(place), None, name)
    head, colon, split = place.rpartition(":")
    if colon and Path(head).is_dir():
        return _folder(Path(head), split, name)
    if "/" in place or place.startswith(".") or equals:
        raise UserError(
            f"leakage.against {reference!r}: no such folder; wanted a BEIR folder, FOLDER:SPLIT, NAME=FOLDER or the "
            "name of an MTEB retrieval task"
        )
    return _task(place)


def _folder(folder: Path, split: str | None, name: str) -> EvaluationSet:
    """A BEIR folder; without a split, all of its judgements."""
    splits = sorted(file.stem for file in (folder / "qrels").glob("*.tsv"))
    if not splits or (split is not None and split not in splits):
        wanted = "qrels/*.tsv" if split is None else f"qrels/{split}.tsv"
        raise UserError(
            f"leakage.against {folder}: no {wanted} in it; splits there: {', '.join(splits) or 'none'}; wanted BEIR's "
            "layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv"
        )
    pairs = [pair for each in splits if split in (None, each) for pair in _judged(folder / "qrels" / f"{each}.tsv")]
    asked, relevant = {query_id for query_id, _ in pairs}, {passage_id for _, passage_id in pairs}
    queries = _taken(folder / "queries.jsonl", asked)
    passages = _taken(folder / "corpus.jsonl", relevant)
    if not asked:
        raise UserError(f"leakage.against {folder}: no judgements above 0, so there is nothing to compare with")
    missing = sorted(asked - set(queries["_id"].to_pylist()))
    if missing:
        raise UserError(f"leakage.against {folder}: query {missing[0]!r} is judged but is not in queries.jsonl")
    if passages.num_rows < len(relevant):
        gone = len(relevant) - passages.num_rows
        logger.warning("%s: %d relevant passages are not in its corpus.jsonl; they cannot be compared", folder, gone)
    named = name or folder.resolve().name
    return EvaluationSet(named, _content(queries, passages), queries, passages)


def _judged(file: Path) -> Iterator[tuple[str, str]]:
    """Query and passage of the judgements above 0: BEIR counts only them as relevant."""
    with file.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
            try:
                if int(row["score"]) > 0:
                    yield row["query-id"], row["corpus-id"]
            except (KeyError, TypeError, ValueError):
                raise UserError(
                    f"{file}: line {number}: wanted query-id, corpus-id and a whole score, separated by tabs, under a "
                    "header with these names"
                ) from None


def _taken(file: Path, wanted: set[str]) -> pa.Table:
    """The rows of a JSON-lines file whose ids are wanted; the others are read past."""
    ids, texts = [], []
    for row in _lines(file):
        if str(row.id) in wanted:
            ids.append(str(row.id))
            texts.append(schema.passage_text(row.title or "", row.text))
    return pa.table({"_id": ids, "text": texts}, TEXTS)


def _lines(file: Path) -> Iterator[_Line]:
    decoder = msgspec.json.Decoder(_Line)
    if not file.exists():
        raise UserError(f"leakage.against {file.parent}: no {file.name} in it; wanted BEIR's layout")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise UserError(f"{file}: line {number}: wanted an object with _id and text ({error})") from None


def _task(name: str) -> EvaluationSet:
    import mteb
    from mteb.abstasks import AbsTaskRetrieval

    try:
        task = mteb.get_task(name)
    except (KeyError, ValueError):
        raise UserError(
            f"leakage.against {name!r}: neither a folder nor a task that mteb knows; wanted e.g. SciFact or a BEIR "
            "folder"
        ) from None
    if not isinstance(task, AbsTaskRetrieval):
        raise UserError(f"leakage.against {name!r}: not a retrieval task; it has no queries and relevant passages")
    where = f"leakage.against {name!r}: its data ({task.metadata.dataset['path']}) cannot be fetched; name a folder"
    with explained(f"{where} that holds it, such as {name}=path/to/{name.lower()}:test"):
        task.load_data()
    return of_task(task)


def of_task(task: Any) -> EvaluationSet:
    """The queries and relevant passages of a loaded MTEB task, of all its subsets and evaluation splits."""
    task.convert_v1_dataset_format_to_v2(num_proc=None)
    queries, passages = [], []
    for subset in task.dataset.values():
        for split in task.metadata.eval_splits:
            data = subset.get(split)
            if data is None:
                continue
            judged = {q: [p for p, score in found.items() if score > 0] for q, found in data["relevant_docs"].items()}
            asked = pa.array([query_id for query_id, found in judged.items() if found], pa.string())
            relevant = pa.array(sorted({p for found in judged.values() for p in found}), pa.string())
            queries += _rows(data["queries"], asked)
            passages += _rows(data["corpus"], relevant)
    name, revision = str(task.metadata.name), str(task.metadata.dataset["revision"])
    return EvaluationSet(name, revision, _unique(queries), _unique(passages))


def _rows(rows: Any, ids: pa.Array) -> list[pa.Table]:
    """The rows of a `datasets.Dataset` with these ids, batch by batch."""
    found = []
    for batch in rows.with_format("arrow").iter(10_000):
        taken = batch.filter(pc.is_in(batch["id"].cast(pa.string()), value_set=ids))
        titles = taken["title"].to_pylist() if "title" in taken.column_names else [""] * taken.num_rows
        texts = taken["text"].to_pylist()
        if taken.num_rows:
            whole = [schema.passage_text(title or "", text) for title, text in zip(titles, texts, strict=True)]
            found.append(pa.table({"_id": taken["id"].cast(pa.string()), "text": whole}, TEXTS))
    return found


def _unique(tables: list[pa.Table]) -> pa.Table:
    """One row for each id and text: subsets of a task share most of their passages."""
    whole = pa.concat_tables([TEXTS.empty_table(), *tables])
    return whole.group_by(["_id", "text"], use_threads=False).aggregate([]).cast(TEXTS)


def _content(queries: pa.Table, passages: pa.Table) -> str:
    rows = [*zip(*queries.to_pydict().values(), strict=True), *zip(*passages.to_pydict().values(), strict=True)]
    return f"sha256:{sha256_texts(rows)}"
