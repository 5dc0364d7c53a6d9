"""The queries and relevant passages of evaluation sets: BEIR folders, and MTEB's retrieval tasks by name."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from foils.beir import jsonl, judgements, stated, text_of
from foils.errors import UserError
from foils.hub import explained
from foils.provenance import sha256_texts
from foils.texts import passage_text

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
    files = [folder / "qrels" / f"{each}.tsv" for each in splits if split in (None, each)]
    pairs = [(query_id, passage_id) for file in files for query_id, passage_id, score in judgements(file) if score > 0]
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


def _taken(file: Path, wanted: set[str]) -> pa.Table:
    """The rows of a JSON-lines file whose ids are wanted; the others are read past."""
    ids, texts = [], []
    if not file.exists():
        raise UserError(f"leakage.against {file.parent}: no {file.name} in it; wanted BEIR's layout")
    for number, row, _ in jsonl(file, "leakage.against"):
        where = f"leakage.against {file}: line {number}"
        row_id = stated(row, "_id", where)
        if row_id in wanted:
            ids.append(row_id)
            title = text_of(row.get("title"), f"{where}: 'title'")
            texts.append(passage_text(title, stated(row, "text", where)))
    return pa.table({"_id": ids, "text": texts}, TEXTS)


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
    name, revision = str(task.metadata.name), str(task.metadata.dataset["revision"])
    queries, passages = [], []
    for subset in task.dataset.values():
        for split in task.metadata.eval_splits:
            data = subset.get(split)
            if data is None:
                continue
            judged = {q: [p for p, score in found.items() if score > 0] for q, found in data["relevant_docs"].items()}
            asked = pa.array([query_id for query_id, found in judged.items() if found], pa.string())
            relevant = pa.array(sorted({p for found in judged.values() for p in found}), pa.string())
            queries += _rows(data["queries"], asked, name)
            passages += _rows(data["corpus"], relevant, name)
    return EvaluationSet(name, revision, _unique(queries), _unique(passages))


def _rows(rows: Any, ids: pa.Array, where: str) -> list[pa.Table]:
    """The rows of a `datasets.Dataset` with these ids, batch by batch."""
    found = []
    for batch in rows.with_format("arrow").iter(10_000):
        names = pa.array([text_of(each, f"{where}: an id") for each in batch["id"].to_pylist()], pa.string())
        taken = batch.set_column(batch.column_names.index("id"), "id", names).filter(pc.is_in(names, value_set=ids))
        texts = [
            passage_text(
                text_of(row.get("title"), f"{where}: the title of {row['id']!r}"),
                text_of(row["text"], f"{where}: the text of {row['id']!r}") or "",
            )
            for row in taken.to_pylist()
        ]
        if texts:
            found.append(pa.table({"_id": taken["id"], "text": texts}, TEXTS))
    return found


def _unique(tables: list[pa.Table]) -> pa.Table:
    """One row for each id and text: subsets of a task share most of their passages."""
    whole = pa.concat_tables([TEXTS.empty_table(), *tables])
    return whole.group_by(["_id", "text"], use_threads=False).aggregate([]).cast(TEXTS)


def _content(queries: pa.Table, passages: pa.Table) -> str:
    rows = [*zip(*queries.to_pydict().values(), strict=True), *zip(*passages.to_pydict().values(), strict=True)]
    return f"sha256:{sha256_texts(rows)}"
